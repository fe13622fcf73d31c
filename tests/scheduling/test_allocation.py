"""The search for devices: the same answer as trying everything, and the rules one by one."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allotment_scheduler.core.filters.allocation import LEAST_STEPS, MOST_STEPS, Effort, Grants, allocate
from allotment_scheduler.core.objects.devices import (
    Alike,
    Device,
    DeviceClaim,
    DeviceFacts,
    DeviceId,
    Grant,
    NodeDevices,
    Wish,
)
from allotment_scheduler.core.objects.selectors import Taint, Toleration

DRIVER = "gpu.example.com"
NUMA = (DRIVER, "numa")
MODEL = (DRIVER, "model")


@dataclass(frozen=True)
class Has:
    """Selects devices of some models."""

    models: tuple[str, ...] = ("a", "b")

    def selects(self, facts: DeviceFacts) -> bool:
        return facts.attributes.get(MODEL) in self.models


def device(number: int, model: str = "a", numa: int | None = 0, **more: object) -> Device:
    attributes: dict[tuple[str, str], object] = {MODEL: model}
    if numa is not None:
        attributes[NUMA] = numa
    return Device((DRIVER, "pool", f"d{number}"), DeviceFacts(DRIVER, attributes), **more)  # type: ignore[arg-type]


def claim(*wishes: Wish, rules: tuple[Alike, ...] = ()) -> DeviceClaim:
    return DeviceClaim("c", tuple((wish,) for wish in wishes), rules)


def names(found: Grants | None) -> list[list[str]] | None:
    return None if found is None else [[grant.device[2] for grant in grants] for grants in found]


# --- against trying everything ---------------------------------------------------------------------------------------

wishes = st.builds(
    Wish,
    name=st.just("r"),
    filter=st.sampled_from([Has(), Has(("a",)), Has(("b",))]),
    count=st.sampled_from([1, 1, 2, 3, None]),
    tolerations=st.sampled_from([(), (Toleration(operator="Exists"),)]),
    monitors=st.booleans(),
)
rules = st.lists(
    st.builds(
        Alike,
        attribute=st.sampled_from([NUMA, MODEL]),
        requests=st.sampled_from([frozenset(), frozenset({"r0"}), frozenset({"r1/s0", "r0"})]),
        apart=st.booleans(),
    ),
    max_size=1,
)


@st.composite
def claims(draw: st.DrawFn) -> DeviceClaim:
    requests = []
    for number in range(draw(st.integers(1, 2))):
        ways = draw(st.lists(wishes, min_size=1, max_size=2))
        named = [f"r{number}"] if len(ways) == 1 else [f"r{number}/s{each}" for each in range(len(ways))]
        requests.append(
            tuple(
                Wish(name, way.filter, way.count, way.tolerations, way.monitors and len(ways) == 1)
                for name, way in zip(named, ways, strict=True)
            )
        )
    return DeviceClaim("c", tuple(requests), tuple(draw(rules)))


@st.composite
def nodes(draw: st.DrawFn) -> tuple[NodeDevices, frozenset[DeviceId]]:
    found = []
    for number in range(draw(st.integers(0, 5))):
        taints = (Taint("t", "NoSchedule"),) if draw(st.integers(0, 4)) == 0 else ()
        consumes = (("set", "memory", draw(st.sampled_from([40, 80]))),) if draw(st.integers(0, 3)) == 0 else ()
        model, numa = draw(st.sampled_from("ab")), draw(st.sampled_from([0, 1, None]))
        found.append(device(number, model, numa, taints=taints, consumes=consumes))
    taken = frozenset(each.id for each in found if draw(st.integers(0, 4)) == 0)
    counters = {(DRIVER, "pool", "set", "memory"): 120}
    return NodeDevices(tuple(found), counters, draw(st.integers(0, 9)) == 0), taken


def is_met(node: NodeDevices, wanted: list[DeviceClaim], taken: frozenset[DeviceId], found: Grants) -> bool:
    """Whether grants obey every rule, each said as it stands in the documentation of the API."""
    facts = {each.id: each for each in node.devices}
    dedicated = [grant.device for grants in found for grant in grants if not grant.monitors]
    if taken & set(dedicated) or max(Counter(dedicated).values(), default=0) > 1:
        return False
    for one, grants in zip(wanted, found, strict=True):
        if len({grant.device for grant in grants}) < len(grants) or len(grants) > 32:
            return False
        for rule in one.constraints:
            about = [facts[grant.device].facts.attributes.get(rule.attribute) for grant in grants
                     if not rule.requests or {grant.wish, grant.wish.partition("/")[0]} & rule.requests]  # fmt: skip
            if None in about or len(set(about)) > (len(about) if rule.apart else 1):
                return False
            if rule.apart and len(set(about)) < len(about):
                return False
    used = [*(grant.device for grants in found for grant in grants), *taken]
    consumers = [grant.device for grants in found for grant in grants if facts[grant.device].consumes]
    eaten = sum(amount for each in used for _, _, amount in facts[each].consumes)
    return not consumers or eaten <= 120


def every_choice(node: NodeDevices, wanted: list[DeviceClaim]) -> Iterator[Grants]:
    """Every way of naming devices for every request, right or wrong."""
    for ways in product(*(request for one in wanted for request in one.requests)):
        options = []
        for way in ways:
            fitting = [each for each in node.devices if way.filter.selects(each.facts)]
            count = len(fitting) if way.count is None else way.count
            usable = [each for each in fitting if not each.taints or way.tolerations]
            if way.count is None and (not fitting or node.updating):
                count = len(node.devices) + 1
            options.append([tuple(Grant(way.name, each.id, way.monitors) for each in chosen)
                            for chosen in combinations(usable, count)])  # fmt: skip
        for chosen in product(*options):
            flat = iter(chosen)
            yield tuple(tuple(grant for _ in one.requests for grant in next(flat)) for one in wanted)


@settings(max_examples=150, deadline=None)
@given(nodes(), st.lists(claims(), min_size=1, max_size=2))
def test_the_search_finds_devices_exactly_if_there_are_some(
    ground: tuple[NodeDevices, frozenset[DeviceId]], wanted: list[DeviceClaim]
) -> None:
    node, taken = ground

    found = allocate(node, wanted, taken)

    if found is None:
        # One that monitors before one that has the device alone is refused, as kube-scheduler does.
        assert not any(
            is_met(node, wanted, taken, choice) and not _shared(choice) for choice in every_choice(node, wanted)
        )
    else:
        assert is_met(node, wanted, taken, found)


def _shared(choice: Grants) -> bool:
    """Whether a device is given to two claims."""
    return max(Counter(grant.device for grants in choice for grant in grants).values(), default=0) > 1


# --- one by one ------------------------------------------------------------------------------------------------------

TWO_SIDES = NodeDevices(tuple(device(number, numa=number % 2) for number in range(4)))


def test_devices_have_one_value_of_an_attribute() -> None:
    rule = (Alike(NUMA),)

    assert names(allocate(TWO_SIDES, [claim(Wish("r", Has(), 2), rules=rule)])) == [["d0", "d2"]]
    assert names(allocate(TWO_SIDES, [claim(Wish("r", Has(), 2), rules=rule)], {(DRIVER, "pool", "d0")})) == [
        ["d1", "d3"]
    ]
    assert allocate(TWO_SIDES, [claim(Wish("r", Has(), 3), rules=rule)]) is None


def test_a_value_of_another_type_is_another_value() -> None:
    mixed = NodeDevices((device(0, numa=1), device(1, numa=True)))

    assert allocate(mixed, [claim(Wish("r", Has(), 2), rules=(Alike(NUMA),))]) is None


def test_alternatives_are_tried_in_their_order() -> None:
    node = NodeDevices((device(0, "b"), device(1, "b")))
    ways = (Wish("r/best", Has(("a",)), 1), Wish("r/many", Has(), 2))

    found = allocate(node, [DeviceClaim("c", (ways,))])

    assert found is not None
    assert [(grant.wish, grant.device[2]) for grant in found[0]] == [("r/many", "d0"), ("r/many", "d1")]


@pytest.mark.parametrize(("taken", "want"), [((), [["d0", "d1", "d2", "d3"]]), (((DRIVER, "pool", "d3"),), None)])
def test_all_devices_are_all_or_none(taken: tuple[DeviceId, ...], want: list[list[str]] | None) -> None:
    assert names(allocate(TWO_SIDES, [claim(Wish("r", Has(), None))], taken)) == want


def test_nobody_has_all_devices_of_a_pool_that_is_being_updated() -> None:
    partly = NodeDevices(TWO_SIDES.devices, updating=True)

    assert allocate(partly, [claim(Wish("r", Has(), None))]) is None
    assert allocate(partly, [claim(Wish("r", Has(), 1))]) is not None


def test_a_claim_has_32_devices_at_most() -> None:
    many = NodeDevices(tuple(map(device, range(40))))

    assert allocate(many, [claim(Wish("r", Has(), 32))]) is not None
    assert allocate(many, [claim(Wish("r", Has(), 33))]) is None
    assert allocate(many, [claim(Wish("r", Has(), None))]) is None


PAIRS = NodeDevices(tuple(device(number, numa=number // 2) for number in range(40)))
SAME_SIDE = (Alike(NUMA, frozenset({"r"})),)


def test_what_fails_alone_is_soon_found_out() -> None:
    effort = Effort()
    wanted = [claim(Wish("q", Has(), 4), Wish("r", Has(), 3), rules=SAME_SIDE)]  # there are no three alike

    assert allocate(PAIRS, wanted, effort=effort) is None
    assert Effort().left - effort.left < 2_000


def test_searches_without_end_are_ended_and_the_more_of_them_the_sooner() -> None:
    wanted = [claim(Wish("q", Has(), 20, (), False), Wish("r", Has(), 2), rules=SAME_SIDE)]
    odd = NodeDevices(tuple(device(number, numa=number // 2) for number in range(21)))
    effort = Effort(left=15_000)

    assert allocate(odd, wanted, effort=effort) is None
    first = 15_000 - effort.left
    assert allocate(odd, wanted, effort=effort) is None
    assert allocate(odd, wanted, effort=effort) is None
    last = effort.left
    assert allocate(odd, wanted, effort=effort) is None

    assert first < 2 * MOST_STEPS
    assert last - effort.left < 4 * LEAST_STEPS
