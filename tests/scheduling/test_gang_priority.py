"""The priority of a gang: one for all its members, wherever priorities are compared."""

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import HIGHEST
from allotment_scheduler.core.objects.units import GroupSpec
from builders.scheduling import World


def priorities(world: World, *more: ev.Event) -> list[int]:
    """Of the running pods, as the table of victims has them."""
    state = world.state()
    state.apply_all(more)
    state.settle()
    running = state.running.flush()
    return [int(running.priority[pod.slot]) for pod in state.running.pods if pod is not None]


@pytest.mark.parametrize("members", [1, 2])
def test_a_gang_claims_by_its_priority_and_keeps_what_it_has_by_it(members: int) -> None:
    """Otherwise it would evict the others as what it is, and be evicted by them as what its pods are, for ever."""
    world = World().node("n", cpu=2).tenant("a").gang("a", "g", members, priority=100)
    world.pods("a", 2, "q", on="n", priority=50, cpu=1).pods("a", members, "g", group="g", cpu=2 // members)

    done = world.run()

    assert done.running("a") == {f"g{number}" for number in range(members)}
    assert sorted(done.evicted) == ["q0", "q1"]


def test_a_running_gang_is_safe_from_pods_between_its_priority_and_that_of_its_pods() -> None:
    world = World().node("n", cpu=2).tenant("a").gang("a", "g", 2, priority=100)
    world.pods("a", 2, "g", on="n", group="g", cpu=1).pod("a", "between", priority=50, cpu=1)

    assert world.run().evicted == []


def test_pods_of_a_low_gang_do_not_claim_by_their_own_priority() -> None:
    world = World().node("n", cpu=1).tenant("a").gang("a", "g", 1, priority=0)
    world.pod("a", "q", on="n", priority=50, cpu=1).pod("a", "g0", group="g", priority=100, cpu=1)

    assert world.run().evicted == []


@pytest.mark.parametrize(
    ("bound", "asked", "counts"), [(1000, 70, 70), (40, 70, 40), (1000, None, 5), (HIGHEST, 10**30, HIGHEST)]
)
def test_a_gangs_priority_counts_within_the_tenants_bound(bound: int, asked: int | None, counts: int) -> None:
    world = World().node("n", cpu=1).tenant("a", highest_priority=bound).gang("a", "g", 1, priority=asked)

    assert priorities(world.pod("a", "p", on="n", group="g", priority=5, cpu=1)) == [counts]


def test_running_pods_follow_their_gangs_priority() -> None:
    world = World().node("n", cpu=1).tenant("a").pod("a", "p", on="n", group="g", priority=5, cpu=1)
    seen = ev.GroupSeen(GroupSpec("a", "g", 1, priority=70))

    assert priorities(world) == [5]
    assert priorities(world, seen) == [70]
    assert priorities(world, seen, ev.GroupGone(("a", "g"))) == [5]


def test_running_pods_follow_their_tenants_bound() -> None:
    world = World().node("n", cpu=1).tenant("a").gang("a", "g", 1, priority=70)
    world.pod("a", "p", on="n", group="g", cpu=1)

    assert priorities(world, World().tenant("a", highest_priority=9).events[0]) == [9]


@pytest.mark.parametrize(("gangs", "first"), [(9, "small"), (1, "large")])
def test_entitlement_is_filled_in_the_order_of_gangs_priorities(gangs: int, first: str) -> None:
    world = World().node("n", cpu=2).tenant("a").gang("a", "g", 1, priority=gangs)
    world.pod("a", "large", cpu=2, priority=5).pod("a", "small", group="g", cpu=1)
    engine = Engine(world.state())

    portions = engine.demand.portions()["a"]

    assert portions[0].asks == engine.state.pods["a", first].klass.asks
