"""Guarantees for single pools: what may not be preempted stays where they cover it, and others keep what is theirs."""

from dataclasses import replace
from typing import Any

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.explanation.explain import Explainer
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.nodes import PoolSpec
from allotment_scheduler.core.objects.selectors import LabelSelector, Requirement
from allotment_scheduler.core.objects.tenants import Bounds
from builders.scheduling import World

FIXED = {"preemptible": False}


def pooled(fast: int = 4, slow: int = 8, **given: Any) -> World:
    """A fast and a slow pool of one node each, and two tenants; the slow node comes first by name and is cheaper."""
    world = World().pool(PoolSpec("fast", LabelSelector((Requirement("pool", "In", ("fast",)),))))
    world.pool(PoolSpec("a-slow", LabelSelector((Requirement("pool", "In", ("slow",)),))))
    world.node("f", labels={"pool": "fast"}, cpu=fast).node("a", labels={"pool": "slow"}, cpu=slow)
    return world.tenant("t", **given).tenant("u")


def test_what_may_not_be_preempted_stays_in_the_pool_whose_guarantee_covers_it() -> None:
    done = pooled(guaranteed_in={"fast": {"cpu": 2}}).pods("t", 3, cpu=1, more=FIXED).run()

    assert {done.node_of("t", name) for name in done.running("t")} == {"f"}
    assert len(done.running("t")) == 2
    why = Explainer(done.engine).why(done.state.pods["t", "p2"])
    assert why.code == "BeyondGuarantee"
    assert "in pool fast 2 cpu are guaranteed, 2 are in use by such pods, and this asks for 1" in why.message


def test_leaves_below_one_limit_for_a_pool_share_it_within_a_cycle() -> None:
    world = pooled().inner("d").tenant("x", "d").tenant("y", "d")
    made = next(it for it in world.events if isinstance(it, ev.TenantSeen) and it.spec.name == "d")
    spec = replace(made.spec, limits=Bounds({}, {"a-slow": {"cpu": 2000}, "fast": {"cpu": 1000}}))
    world.events[world.events.index(made)] = ev.TenantSeen(spec)

    done = world.pods("x", 3, "x", cpu=1).pods("y", 3, "y", cpu=1).run()

    where = [done.node_of(name[0], name) for name in done.running("x") | done.running("y")]
    assert sorted(filter(None, where)) == ["a", "a", "f"]


def test_use_of_that_kind_elsewhere_does_not_count_against_a_pools_guarantee() -> None:
    world = pooled(guaranteed_in={"fast": {"cpu": 2}}).pods("t", 5, "r", on="a", cpu=1, more=FIXED)

    assert len(world.pods("t", 3, cpu=1, more=FIXED).run().running("t")) == 5 + 2


@pytest.mark.parametrize(
    ("total", "inside", "starts", "where"),
    [
        ({"cpu": 3}, {}, 3, {"a"}),
        ({"cpu": 3}, {"fast": {"cpu": 1}}, 4, {"a", "f"}),
        ({}, {"fast": {"cpu": 1}, "a-slow": {"cpu": 2}}, 3, {"a", "f"}),
        ({"memory": 9}, {"fast": {"cpu": 1}}, 1, {"f"}),
    ],
)
def test_the_cluster_guarantee_and_the_pools_guarantees_cover_resource_by_resource(
    total: dict[str, int], inside: dict[str, dict[str, int]], starts: int, where: set[str]
) -> None:
    world = pooled(guaranteed=total, guaranteed_in=inside).node("f", labels={"pool": "fast"}, cpu=4, memory=99)
    world.node("a", labels={"pool": "slow"}, cpu=8, memory=99)
    memory: Any = {"memory": 1} if "memory" in total else {}

    done = world.pods("t", 5, cpu=1, **memory, more=FIXED).run()

    assert len(done.running("t")) == starts
    assert {done.node_of("t", name) for name in done.running("t")} == where


def test_a_pool_must_be_covered_at_every_level_that_has_a_guarantee() -> None:
    world = pooled().inner("dep", guaranteed_in={"fast": {"cpu": 1}})
    world.tenant("v", "dep", guaranteed_in={"fast": {"cpu": 2}, "a-slow": {"cpu": 2}})

    done = world.pods("v", 4, cpu=1, more=FIXED).run()

    assert {name: done.node_of("v", name) for name in done.running("v")} == {"p0": "f"}


def test_demand_that_may_not_be_preempted_is_entitled_only_to_what_its_pools_guarantee() -> None:
    done = pooled(guaranteed_in={"fast": {"cpu": 2}}).pods("t", 5, cpu=1, more=FIXED).run()

    entitled = done.engine.demand.entitlement()
    assert entitled.whole(done.state.forest.by_name["t"], done.state.resources.column("cpu")) == 2000


def test_evictions_make_room_only_where_the_guarantee_covers_the_claimant() -> None:
    world = pooled(guaranteed_in={"fast": {"cpu": 2}}).pods("u", 4, "f", on="f", cpu=1).pods("u", 8, "a", on="a", cpu=1)

    done = world.pods("t", 2, cpu=1, more=FIXED).run()

    assert done.rules == ["R1", "R1"]
    assert {done.node_of("t", name) for name in ("p0", "p1")} == {"f"}


def test_a_guarantee_for_one_pool_takes_no_more_than_itself_from_another() -> None:
    """What starts elsewhere uses up the guarantee of a pool that the claimant could use as well."""
    world = pooled(slow=8, guaranteed_in={"fast": {"cpu": 2}}).tenant("w", guaranteed={"cpu": 4})
    world.pods("w", 4, "w", on="f", cpu=1, more=FIXED).pods("u", 8, "u", on="a", cpu=1, priority=9)

    done = world.tenant("t", weight=0, guaranteed_in={"fast": {"cpu": 2}}).pods("t", 8, cpu=1).run()

    assert done.rules == ["R1", "R1"]
    assert len(done.running("t")) == 2


def test_what_stands_within_the_guarantee_of_its_pool_is_no_victim() -> None:
    """Y is above its guarantees by what it uses elsewhere: that goes, and nothing of the pool it is guaranteed."""
    world = pooled(fast=4, slow=4).tenant("y", guaranteed_in={"fast": {"cpu": 4}})
    world.pods("y", 4, "slow", on="a", cpu=1).pods("y", 4, "fast", on="f", cpu=1)

    done = world.pods("t", 4, cpu=1).run()

    assert done.evicted
    assert {name for name in done.evicted if name.startswith("fast")} == set()
    assert {f"fast{n}" for n in range(4)} <= done.running("y")


def test_a_gang_finds_room_by_evictions_where_a_limit_leaves_pools_open() -> None:
    """The pool at its limit is the cheaper one to clear: the plan looks past it."""
    world = pooled(fast=4, slow=4)
    made = next(it for it in world.events if isinstance(it, ev.TenantSeen) and it.spec.name == "t")
    spec = replace(made.spec, limits=Bounds({}, {"a-slow": {"cpu": 0}}))
    world.events[world.events.index(made)] = ev.TenantSeen(spec)
    world.pod("u", "big", on="a", cpu=4).pods("u", 4, "f", on="f", cpu=1)

    done = world.gang("t", "g", 2).pods("t", 2, group="g", cpu=1).run()

    assert done.running("t") == {"p0", "p1"}
    assert {done.node_of("t", name) for name in ("p0", "p1")} == {"f"}


def in_turn(world: World, count: int, most: int = 12) -> list[str]:
    """Which tenant each of the first starts is for."""
    engine = Engine(world.state())
    return [start.pod[0] for start in engine.cycle(world.clock, most_decisions=most, claims=False).starts][:count]


def test_who_starts_elsewhere_is_not_within_the_guarantee_of_a_pool() -> None:
    """Both may run in either pool, and are placed in the cheaper one first: there t is guaranteed nothing."""
    world = pooled(fast=4, slow=8, guaranteed_in={"fast": {"cpu": 4}})

    turns = in_turn(world.pods("t", 8, cpu=1).pods("u", 8, cpu=1), 12)

    assert turns[:8] == ["t", "u"] * 4, "in the slow pool they share"
    assert turns[8:] == ["t"] * 4, "in the fast one t is within its guarantee"


def test_who_is_placed_where_its_guarantee_stands_goes_first() -> None:
    world = pooled(fast=4, slow=8, guaranteed_in={"a-slow": {"cpu": 4}})

    assert in_turn(world.pods("t", 8, cpu=1).pods("u", 8, cpu=1), 6) == ["t"] * 4 + ["u"] * 2


def test_the_guarantee_of_a_pool_counts_from_the_start_that_filled_the_others() -> None:
    """Another's start fills the slow pool: from then on t's next pod would stand in the fast one."""
    world = pooled(fast=4, slow=4, guaranteed_in={"fast": {"cpu": 2}}, weight=1).pods("t", 2, "r", on="a", cpu=1)

    assert in_turn(world.pods("t", 4, cpu=1).pods("u", 8, cpu=1), 5) == ["u", "u", "t", "t", "u"]


@pytest.mark.parametrize(
    ("guaranteed", "first"),
    [({"a-slow": 2, "fast": 2}, "t"), ({"a-slow": 2, "fast": 1}, "u"), ({"a-slow": 3}, "u"), ({"fast": 4}, "u")],
)
def test_a_gang_is_within_guarantees_for_pools_if_each_covers_what_stands_in_it(
    guaranteed: dict[str, int], first: str
) -> None:
    """Of its three pods two would stand in the slow pool and one in the fast one, where one runs already."""
    caps = {pool: {"cpu": cpu} for pool, cpu in guaranteed.items()}
    world = pooled(fast=4, slow=2, guaranteed_in=caps, weight="0.1").pod("t", "r", on="f", cpu=1)

    world.gang("t", "g", 3).pods("t", 3, group="g", cpu=1).pod("u", "one", cpu=1)

    assert in_turn(world, 1) == [first]


def test_a_tenant_above_is_within_its_guarantee_where_its_candidate_would_stand() -> None:
    world = pooled(fast=4, slow=4).inner("dep", guaranteed_in={"fast": {"cpu": 4}}).tenant("v", "dep")

    turns = in_turn(world.pods("u", 8, cpu=1).pods("v", 8, cpu=1), 8)

    assert turns == ["v", "u"] * 2 + ["v"] * 4


def test_where_nodes_of_one_pool_differ_in_gpus_the_place_is_asked_for_each_time() -> None:
    """Nodes with GPUs come last, whatever their pool: so the place moves from slow to fast and back to slow."""
    world = pooled(fast=2, slow=2, guaranteed_in={"fast": {"cpu": 2}})
    world.node("b", labels={"pool": "slow"}, cpu=4, gpu=1)

    turns = in_turn(world.pods("t", 8, cpu=1).pods("u", 8, cpu=1), 8)

    assert turns == ["t", "u", "t", "t", "u", "u", "t", "u"]
