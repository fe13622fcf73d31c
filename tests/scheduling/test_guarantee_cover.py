"""Which pools guarantees cover for what may not be preempted: at every level, by the pool's or by the cluster's."""

import pytest

from allotment_scheduler.core.placement.eligibility import NOBODY, covered_pools
from builders.scheduling import World

POOLS = ("blue", "red")
CPU = 0


def covered(world: World, cpu: int, leaf: str = "a", ahead: dict[tuple[str, str, int], int] | None = None) -> object:
    state = world.state()
    tenant = state.forest.by_name[leaf]
    asks = ((state.resources.column("cpu"), cpu * 1000),)
    who, column, pools = covered_pools(tenant, asks, POOLS, ahead or NOBODY)  # type: ignore[arg-type]  # plain columns
    return (who.name if who is not None else None, column, pools)


def world() -> World:
    return World().node("n", cpu=20)


@pytest.mark.parametrize(("cpu", "found"), [(4, (None, None, POOLS)), (5, ("a", CPU, ()))])
def test_a_guarantee_covers_up_to_its_amount_and_no_more(cpu: int, found: object) -> None:
    assert covered(world().tenant("a", guaranteed={"cpu": 4}), cpu) == found


@pytest.mark.parametrize(("cpu", "found"), [(3, (None, None, POOLS)), (4, ("a", CPU, ()))])
def test_what_is_used_already_counts(cpu: int, found: object) -> None:
    used = world().tenant("a", guaranteed={"cpu": 4}).pod("a", "p", on="n", cpu=1, more={"preemptible": False})
    assert covered(used.pod("a", "q", on="n", cpu=9), cpu) == found


@pytest.mark.parametrize(("cpu", "found"), [(3, (None, None, POOLS)), (4, ("a", CPU, ()))])
def test_what_others_are_given_first_counts(cpu: int, found: object) -> None:
    assert covered(world().tenant("a", guaranteed={"cpu": 4}), cpu, ahead={("a", "", CPU): 1000}) == found


def test_without_any_guarantee_nothing_is_covered() -> None:
    assert covered(world().tenant("a"), 1) == ("a", None, ())


@pytest.mark.parametrize(("cpu", "found"), [(2, (None, None, ("blue",))), (3, ("a", None, ()))])
def test_a_guarantee_for_a_pool_covers_there_only(cpu: int, found: object) -> None:
    assert covered(world().tenant("a", guaranteed_in={"blue": {"cpu": 2}}), cpu) == found


def test_pools_stay_open_that_every_level_covers() -> None:
    tree = world().inner("dep", guaranteed_in={"blue": {"cpu": 4}, "red": {"cpu": 4}})
    assert covered(tree.tenant("a", "dep", guaranteed_in={"red": {"cpu": 4}}), 4) == (None, None, ("red",))


def test_each_level_that_has_a_guarantee_must_cover() -> None:
    tree = world().inner("dep", guaranteed={"cpu": 2}).tenant("a", "dep", guaranteed={"cpu": 4})
    assert covered(tree, 3) == ("dep", CPU, ())


def test_a_level_without_one_does_not_matter_where_another_has_one() -> None:
    assert covered(world().inner("dep", guaranteed={"cpu": 4}).tenant("a", "dep"), 4) == (None, None, POOLS)


def test_a_resource_that_is_left_out_is_not_guaranteed() -> None:
    assert covered(world().tenant("a", guaranteed={"memory": 4}), 1) == ("a", CPU, ())
