"""The axioms of fair division (NSDI'11, section 3; Parkes, Dickerson and Shah, EC'12) for demands that end.

Tenants side by side; each wants a number of divisible tasks of one shape, which may leave out any of three resources.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from allotment_scheduler.core.cycle import Engine
from builders.scheduling import World

THERE = 20
RESOURCES = ("cpu", "memory", "nvidia.com/gpu")
SETTINGS = settings(max_examples=10, deadline=None)


@dataclass(frozen=True)
class Wish:
    """Tasks that a tenant wants: what each asks for of every resource, and how many."""

    shape: tuple[int, int, int]
    count: int
    weight: str = "1"

    def tasks(self, bundle: list[Fraction]) -> Fraction:
        """How many of them some of the resources carry."""
        return min(
            Fraction(self.count), *(has / asks for has, asks in zip(bundle, self.shape, strict=True) if asks)
        )  # fmt: skip


shapes = st.tuples(*(st.integers(0, 4) for _ in RESOURCES)).filter(any)
wishes = st.builds(Wish, shapes, st.integers(1, 25), st.sampled_from(["1", "1", "2", "0.5", "1/3"]))
crowds = st.lists(wishes, min_size=2, max_size=4)


def bundles(crowd: list[Wish]) -> list[list[Fraction]]:
    """What each is entitled to of every resource."""
    world = World().node("n", cpu=THERE, memory=THERE, gpu=THERE)
    for number, wish in enumerate(crowd):
        cpu, memory, gpu = wish.shape
        world.tenant(f"t{number}", weight=wish.weight)
        world.pods(f"t{number}", wish.count, cpu=cpu, memory=memory, gpu=gpu)
    state = world.state()
    e, columns = Engine(state).demand.entitlement(), [state.resources.column(name) for name in RESOURCES]
    tenants = [state.forest.by_name[f"t{number}"] for number in range(len(crowd))]
    milli = (1000, 1, 1)
    return [[e.of(it, column) / unit for column, unit in zip(columns, milli, strict=True)] for it in tenants]


@SETTINGS
@given(crowds)
def test_everyone_is_as_well_off_as_with_its_weighted_part_of_everything(crowd: list[Wish]) -> None:
    got, all_weights = bundles(crowd), sum(Fraction(wish.weight) for wish in crowd)

    for wish, bundle in zip(crowd, got, strict=True):
        part = Fraction(wish.weight) / all_weights * THERE
        assert wish.tasks(bundle) >= wish.tasks([part] * 3)


@SETTINGS
@given(crowds)
def test_nobody_would_rather_have_what_another_has_by_weight(crowd: list[Wish]) -> None:
    got = bundles(crowd)

    for wish, bundle in zip(crowd, got, strict=True):
        for other, others in zip(crowd, got, strict=True):
            scaled = [has * Fraction(wish.weight) / Fraction(other.weight) for has in others]
            assert wish.tasks(bundle) >= wish.tasks(scaled)


@SETTINGS
@given(crowds)
def test_whoever_lacks_something_lacks_what_is_used_up_and_nobody_has_what_it_cannot_use(crowd: list[Wish]) -> None:
    got = bundles(crowd)

    used_up = [sum(each) == THERE for each in zip(*got, strict=True)]
    for wish, bundle in zip(crowd, got, strict=True):
        assert bundle == [wish.tasks(bundle) * asks for asks in wish.shape]
        if wish.tasks(bundle) < wish.count:
            assert any(gone and asks for gone, asks in zip(used_up, wish.shape, strict=True))


@settings(SETTINGS, max_examples=20)
@given(crowds, st.data(), shapes, st.integers(1, 25))
def test_no_lie_about_shape_or_number_gains_anybody_anything(
    crowd: list[Wish], data: st.DataObject, shape: tuple[int, int, int], count: int
) -> None:
    liar = data.draw(st.integers(0, len(crowd) - 1))
    true = crowd[liar]

    honest = bundles(crowd)[liar]
    lied = bundles([*crowd[:liar], replace(true, shape=shape, count=count), *crowd[liar + 1 :]])[liar]

    assert true.tasks(lied) <= true.tasks(honest)
