"""Entitlement of demand that only some nodes take: it counts no further than these reach."""

from fractions import Fraction

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects.nodes import PoolSpec
from allotment_scheduler.core.objects.pods import SchedulingSpec
from allotment_scheduler.core.objects.selectors import LabelSelector, Requirement
from builders.scheduling import World


def only(zone: str) -> SchedulingSpec:
    return SchedulingSpec((), node_selector=(("zone", zone),))


def zones(**cpu: int) -> World:
    """One node in each zone, of one pool."""
    world = World().tenant("x").tenant("y").tenant("z")
    for zone, size in cpu.items():
        world.node(f"n{zone}", cpu=size, labels={"zone": zone})
    return world


def entitled(world: World) -> dict[str, Fraction]:
    """CPUs to which every tenant is entitled."""
    state = world.state()
    e, column = Engine(state).demand.entitlement(), state.resources.column("cpu")
    return {name: e.of(it, column) / 1000 for name, it in state.forest.by_name.items()}


def test_who_may_use_one_small_node_leaves_the_rest_to_the_others() -> None:
    world = zones(a=1, b=11).pods("x", 9, cpu=1, spec=only("a")).pods("y", 12, cpu=1).pods("z", 12, cpu=1)

    assert entitled(world) == {"x": 1, "y": Fraction(11, 2), "z": Fraction(11, 2)}


def test_a_claim_is_not_lessened_by_demand_that_could_never_run() -> None:
    world = zones(a=1, b=11).pod("x", "r", on="na", cpu=1, spec=only("a")).pods("x", 9, cpu=1, spec=only("a"))
    world.pods("y", 11, "y", on="nb", cpu=1).pods("z", 11, "z", cpu=1)

    done = world.run()

    assert len(done.running("z")) == 5


def test_starts_and_evictions_do_not_move_what_counts() -> None:
    waiting = zones(a=2, b=10).pods("x", 5, cpu=1, spec=only("a")).pods("y", 12, cpu=1)
    running = (
        zones(a=2, b=10).pods("x", 3, "p", cpu=1, spec=only("a")).pods("x", 2, "q", on="na", cpu=1, spec=only("a"))
    )

    assert entitled(waiting) == entitled(running.pods("y", 10, on="nb", cpu=1)) == {"x": 2, "y": 10, "z": 0}


def test_pods_larger_than_most_nodes_count_as_far_as_the_large_ones_reach() -> None:
    world = zones(a=2, b=2, c=2, d=6).pods("x", 4, cpu=4).pods("y", 12, cpu=1)

    assert entitled(world) == {"x": 6, "y": 6, "z": 0}
    assert entitled(world.pods("z", 9, "z", cpu=4)) == {"x": 4, "y": 4, "z": 4}


@pytest.mark.parametrize("own", [True, False])
def test_a_zone_with_a_pool_of_its_own_is_no_pin(own: bool) -> None:
    """Then entitlement divides the pool itself among all who may use it, and y goes on where it alone may."""
    world = zones(a=4, b=8).pods("x", 9, cpu=1, spec=only("a")).pods("z", 9, "z", cpu=1, spec=only("a"))
    if own:
        world.pool(PoolSpec("a", LabelSelector((Requirement("zone", "In", ("a",)),))))

    found = entitled(world.pods("y", 12, cpu=1))

    third = Fraction(4, 3)
    assert found == ({"x": third, "y": third + 8, "z": third} if own else {"x": 4, "y": 4, "z": 4})
