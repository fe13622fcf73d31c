"""Who of two is served next: each test tells one part of the serving key from its opposite."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders.scheduling import World

HUGE = 10**17


def test_of_equal_shares_the_one_with_fewer_pods_is_served_first() -> None:
    """Of the names `many` comes first, so the name cannot have decided."""
    world = World().node("n", cpu=5).tenant("many").tenant("one")
    world.pods("many", 2, "many", on="n", cpu=1).pod("one", "large", on="n", cpu=2)
    world.pod("many", "next-of-many", cpu=1).pod("one", "next-of-one", cpu=1)

    assert world.run().started == ["next-of-one"]


def test_a_child_does_not_starve_beside_a_sibling_that_uses_other_resources() -> None:
    """By plain sums `both` would stand at 8/10 for its processors, and `rival` would get most of the devices."""
    world = World().node("n", cpu=10, gpu=8).inner("both").tenant("processors", "both").tenant("devices", "both")
    world.tenant("rival").pods("processors", 8, "c", on="n", cpu=1)
    world.pods("devices", 8, "d", gpu=1).pods("rival", 8, "r", gpu=1)

    done = world.run()

    assert (len(done.running("devices")), len(done.running("rival"))) == (4, 4)
    assert done.evicted == []


@pytest.mark.parametrize(
    ("used", "weights"),
    [
        ((HUGE + 1, HUGE), ("1", "1")),
        ((HUGE + 1, 3 * HUGE + 2), ("1/3", "1")),
        ((3 * HUGE + 3, 7 * HUGE + 6), ("3", "7")),
    ],
    ids=["plain", "a third", "weights 3 and 7"],
)
def test_shares_are_compared_exactly(used: tuple[int, int], weights: tuple[str, str]) -> None:
    """As floats these shares are equal, and a would be served, for its name."""
    world = World().node("n", memory=2**60, pods=10)
    for name, amount, weight in zip("ab", used, weights, strict=True):
        world.tenant(name, weight=weight).pod(name, "r", on="n", memory=amount).pod(name, name, memory=1)

    a, b = (amount / 2**60 / float(Fraction(weight)) for amount, weight in zip(used, weights, strict=True))
    assert a <= b
    assert world.run().started == ["b", "a"]


def test_among_those_of_weight_0_the_smaller_share_is_served_first() -> None:
    """Of the names `a` comes first, and it runs fewer pods."""
    world = World().node("n", cpu=9).tenant("a", weight=0).tenant("b", weight=0).tenant("c")
    world.pod("a", "r", on="n", cpu=3).pods("b", 2, "r", on="n", cpu=1).pods("c", 1, "r", on="n", cpu=2)
    world.pod("a", "next-of-a", cpu=1).pod("b", "next-of-b", cpu=1)

    assert world.run().started == ["next-of-b", "next-of-a"]


def test_the_number_of_pods_is_no_share() -> None:
    """a runs 3 of 6 pods with 3 of 1,000 CPUs, b one pod with 500."""
    world = World().node("n", cpu=1000, pods=6).tenant("a").tenant("b")
    world.pods("a", 3, "r", on="n", cpu=1).pod("b", "r", on="n", cpu=500)
    world.pod("b", "next-of-b", cpu=1).pod("a", "next-of-a", cpu=1)

    assert world.run().started == ["next-of-a", "next-of-b"]


TOTALS = (24, 24, 12)
"""More than four leaves can ask for: room is in nobody's way."""
Use = tuple[int, int, int]


class Leaf(NamedTuple):
    """A leaf in a group: its weight, what one pod of it uses (if one runs), and what each of its waiting pods asks."""

    group: int
    weight: str
    used: Use | None
    asks: Use


class Standing(NamedTuple):
    """What the key of a tenant is made of; the smallest is served."""

    weightless: bool
    share: Fraction
    pods: int
    name: str


uses = st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 1)).filter(any)
leaves = st.builds(
    Leaf, st.integers(0, 2), st.sampled_from(["1", "1", "2", "1/3", "0"]), st.one_of(st.none(), uses), uses
)


def standing(name: str, weight: str, running: Iterable[Use], columns: Iterable[int]) -> Standing:
    """Section 2 of the semantics, word by word: plain sums, over some resources, divided by the weight."""
    pods = list(running)
    share = max((Fraction(sum(pod[c] for pod in pods), TOTALS[c]) for c in columns), default=Fraction(0))
    return Standing(weight == "0", share / (Fraction(weight) or 1), len(pods), name)


def order_by_hand(groups: Sequence[str], below: list[Leaf], each: int) -> list[str]:
    """Leaves in the order in which their pods start, `each` for every leaf."""
    running = {number: [leaf.used] if leaf.used else [] for number, leaf in enumerate(below)}
    left, order = dict.fromkeys(running, each), list[str]()
    while any(left.values()):
        tops: list[tuple[Standing, int]] = []
        for group, weight in enumerate(groups):
            mine = [number for number, leaf in enumerate(below) if leaf.group == group]
            keys = [(standing(f"l{it}", below[it].weight, running[it], range(3)), it) for it in mine if left[it]]
            if keys:
                best = min(keys)[1]
                columns = [c for c in range(3) if below[best].asks[c] or any(pod[c] for pod in running[best])]
                inside = [pod for it in mine for pod in running[it]]
                tops.append((standing(f"g{group}", weight, inside, columns), best))
        served = min(tops)[1]
        running[served].append(below[served].asks)
        left[served] -= 1
        order.append(f"l{served}")
    return order


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.sampled_from(["1", "2", "0.3", "0"]), min_size=3, max_size=3), st.lists(leaves, min_size=1, max_size=4)
)
def test_the_tree_is_served_as_the_key_says_word_by_word(groups: Sequence[str], below: list[Leaf]) -> None:
    """What a group uses counts in full behind whichever child: nothing is hidden by who of it asks next."""
    world = World().node("n", cpu=TOTALS[0], memory=TOTALS[1], gpu=TOTALS[2])
    for number, weight in enumerate(groups):
        world.inner(f"g{number}", weight=weight)
    for number, leaf in enumerate(below):
        world.tenant(f"l{number}", f"g{leaf.group}", weight=leaf.weight)
        for name, use in (("r", leaf.used), ("first", leaf.asks), ("second", leaf.asks)):
            if use is not None:
                cpu, memory, gpu = use
                world.pod(f"l{number}", name, on="n" if name == "r" else None, cpu=cpu, memory=memory, gpu=gpu)

    done = world.run()

    started = [start.pod[0] for round_ in done.outcome.rounds for start in round_.starts]
    want = order_by_hand(groups, below, 2)
    assert started == want
