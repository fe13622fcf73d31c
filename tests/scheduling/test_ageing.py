"""Ageing and reservations: since when a unit is a misfit, in which pools reservations count, whose room is whose."""

from dataclasses import replace
from typing import Any

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.nodes import PoolSpec
from allotment_scheduler.core.objects.pods import PodAffinityTerm, SchedulingSpec
from allotment_scheduler.core.objects.selectors import LabelSelector, Requirement
from allotment_scheduler.core.objects.tenants import Bounds
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.invariants import check
from builders.scheduling import World


def only(pool: str) -> SchedulingSpec:
    return SchedulingSpec((), node_selector=(("pool", pool),))


def timed(world: World, **settings: float) -> Engine:
    return Engine(world.state(), Settings(age=300, **settings))  # type: ignore[arg-type]  # fields by name


def two_pools() -> World:
    """Two full pools of one node each, and a large pod that waits for either."""
    world = World().tenant("t")
    for pool in ("x", "y"):
        world.pool(PoolSpec(pool, LabelSelector((Requirement("pool", "In", (pool,)),))))
        world.node(f"n{pool}", cpu=4, labels={"pool": pool})
        world.pods("t", 4, f"r{pool}", on=f"n{pool}", cpu=1, more={"max_runtime": 5000.0})
    return world.pod("t", "for-y", cpu=4, spec=only("y")).pod("t", "for-x", cpu=4, spec=only("x"))


def test_reservations_count_in_the_pools_of_their_nodes() -> None:
    """Both units may use both pools as far as their tenant is concerned; each fits one of them."""
    engine = timed(two_pools())
    engine.cycle(1000)
    engine.cycle(1300)

    kept = engine.reservations.by_unit
    assert {key[1]: (made.pools, made.nodes) for key, made in kept.items()} == {
        "for-x": (("x",), ("nx",)),
        "for-y": (("y",), ("ny",)),
    }


@pytest.mark.parametrize(("each", "want"), [(1, {"for-y"}), (2, {"for-y", "more-y"}), (0, set())])
def test_a_pool_has_no_more_reservations_than_it_may(each: int, want: set[str]) -> None:
    world = two_pools().pod("t", "more-y", cpu=3, spec=only("y"))
    engine = timed(world, reservations_per_pool=each)
    engine.cycle(1000)
    for now in (1300, 1310):
        engine.cycle(now)

    assert {key[1] for key in engine.reservations.by_unit} - {"for-x"} == want


@pytest.mark.parametrize(("runtime", "kept"), [(None, False), (5000.0, True)])
def test_a_replica_too_many_keeps_others_off_only_until_a_known_time(runtime: float | None, kept: bool) -> None:
    """It has room and a neighbour in its way: where nobody knows when that one ends, the node is not closed for it."""
    apart = SchedulingSpec(
        (), anti_affinity=(PodAffinityTerm("host", LabelSelector((Requirement("app", "In", ("s",)),))),)
    )
    labels: dict[str, Any] = {"labels": {"app": "s"}, "spec": apart}
    world = World().tenant("t").node("n", cpu=8, labels={"host": "n"})
    world.pod("t", "first", on="n", cpu=1, more={"max_runtime": runtime}, **labels).pod("t", "second", cpu=1, **labels)
    engine = timed(world)
    for now in (1000, 1300, 3101):
        engine.cycle(now)
    engine.state.apply_all(World().pod("t", "small", cpu=1).events)

    assert bool(engine.reservations.by_unit) is kept
    assert [start.pod[1] for start in engine.cycle(3102).starts] == ([] if kept else ["small"])


def test_a_gang_over_two_pools_counts_in_both() -> None:
    world = two_pools().gang("t", "g", 2).pods("t", 2, "g", group="g", cpu=3)
    engine = timed(world)
    engine.cycle(1000)
    engine.state.apply(ev.PodGone(("t", "for-x")))
    engine.state.apply(ev.PodGone(("t", "for-y")))
    world.pod("t", "late", cpu=4)
    engine.state.apply(world.events[-1])
    engine.cycle(1100)
    engine.cycle(1400)

    assert {key[1]: set(made.pools) for key, made in engine.reservations.by_unit.items()} == {"g0": {"x", "y"}}


def test_age_begins_when_a_unit_first_fits_nowhere() -> None:
    """What a limit kept back for long, or what has only just become a misfit, is not old."""
    world = World().node("n", cpu=4).tenant("t", limits={"cpu": 4}).pods("t", 4, "r", on="n", cpu=1)
    engine = timed(world.pod("t", "large", cpu=4))
    engine.cycle(1000)
    engine.cycle(5000)
    assert not engine.reservations.by_unit, "its limit is in the way, not room"

    engine.state.apply(ev.TenantSeen(replace(engine.state.tenant_specs["t"], limits=Bounds())))
    engine.cycle(5100)
    engine.cycle(5399)
    assert not engine.reservations.by_unit
    engine.cycle(5400)

    assert set(engine.reservations.by_unit) == {("t", "large")}


def test_whoever_is_behind_a_peer_that_started_ages_from_then() -> None:
    world = World().node("n", cpu=2).tenant("t").pod("t", "r", on="n", cpu=2).pods("t", 2, "p", cpu=2)
    engine = timed(world)
    engine.cycle(1000)
    engine.state.apply(ev.PodGone(("t", "r")))

    assert [start.pod[1] for start in engine.cycle(1290).starts] == ["p0"]
    engine.cycle(1500)
    assert not engine.reservations.by_unit
    engine.cycle(1590)
    assert set(engine.reservations.by_unit) == {("t", "p1")}


def test_whoever_has_been_a_misfit_for_longest_comes_first_however_young_it_is() -> None:
    world = World().node("n", cpu=4).tenant("a", limits={"cpu": 1}).tenant("b").tenant("c", weight=0)
    world.pod("c", "r", on="n", cpu=4, more={"preemptible": False}).pod("a", "older", cpu=2)
    engine = timed(world.pod("b", "younger", cpu=2))
    engine.cycle(1000)
    engine.state.apply(ev.TenantSeen(replace(engine.state.tenant_specs["a"], limits=Bounds())))
    engine.cycle(1100)
    engine.cycle(1500)

    assert list(engine.reservations.by_unit) == [("b", "younger")]


def test_a_newcomer_of_higher_priority_does_not_make_the_oldest_young() -> None:
    world = World().node("n", cpu=2).tenant("t").pod("t", "r", on="n", cpu=2, priority=9).pod("t", "old", cpu=2)
    engine = timed(world)
    engine.cycle(1000)
    world.pod("t", "new", cpu=2, priority=5)
    engine.state.apply(world.events[-1])
    engine.cycle(1200)
    engine.cycle(1300)

    assert set(engine.reservations.by_unit) == {("t", "old")}


def test_a_reservation_takes_no_seat_that_is_held_for_a_successor() -> None:
    owner = {"owner": "sts-uid", "owner_kind": "StatefulSet", "preemptible": False}
    world = World().node("n", cpu=2).tenant("a", guaranteed={"cpu": 2}).tenant("b")
    world.pod("a", "db-0", on="n", cpu=2, more=owner).pod("b", "hungry", cpu=2)
    engine = timed(world, successor_hold=600)
    engine.cycle(1000)
    engine.state.apply(ev.PodGone(("a", "db-0")))
    for now in (1300, 1301, 1310):
        assert not engine.cycle(now).starts

    world.pod("a", "db-0", cpu=2, more=owner)
    engine.state.apply(world.events[-1])

    assert [start.pod[1] for start in engine.cycle(1320).starts] == ["db-0"]
    check(engine.state)


def test_backfill_takes_no_seat_that_is_held_for_a_successor() -> None:
    owner = {"owner": "sts-uid", "owner_kind": "StatefulSet"}
    world = World().node("n", cpu=4).tenant("t").pod("t", "r", on="n", cpu=3, more={"max_runtime": 9000.0})
    world.pod("t", "db-0", on="n", cpu=1, more=owner).pod("t", "large", cpu=4)
    engine = timed(world, successor_hold=600)
    engine.cycle(1000)
    engine.cycle(1300)
    assert engine.reservations.by_unit
    world.pod("t", "short", cpu=1, more={"max_runtime": 10.0})
    engine.state.apply_all([ev.PodGone(("t", "db-0")), world.events[-1]])

    assert not engine.cycle(1310).starts
    assert not engine.cycle(1320).starts


def test_what_is_reserved_for_two_is_backfilled_only_until_the_earlier_comes() -> None:
    world = World().node("n", cpu=4).tenant("t")
    world.pod("t", "first", on="n", cpu=3, more={"max_runtime": 2000.0})
    world.pod("t", "second", on="n", cpu=1, more={"max_runtime": 9000.0})
    engine = timed(world.pod("t", "three", cpu=3).pod("t", "four", cpu=4), reservations_per_pool=2)
    engine.cycle(1000)
    engine.cycle(1300)
    assert sorted(made.eta for made in engine.reservations.by_unit.values()) == [2001, 9002]
    engine.state.apply(ev.PodGone(("t", "second")))
    for name, runtime in (("long", 3000.0), ("short", 100.0)):
        world.pod("t", name, cpu=1, more={"max_runtime": runtime})
        engine.state.apply(world.events[-1])

    assert [start.pod[1] for start in engine.cycle(1400).starts] == ["short"]


def test_a_reservation_ends_when_its_tenant_is_above_its_entitlement() -> None:
    world = World().node("n", cpu=4).node("m", cpu=4, labels={"side": "m"}).tenant("a").tenant("b")
    world.pods("b", 4, "b", on="n", cpu=1, more={"preemptible": False}).pod("b", "m", on="m", cpu=4)
    engine = timed(world.pod("a", "large", cpu=4), least_runtime=1e9)
    engine.cycle(1000)
    engine.cycle(1300)
    assert engine.reservations.by_unit

    engine.state.apply(ev.TenantSeen(replace(engine.state.tenant_specs["a"], limits=Bounds({"cpu": 2000}))))
    engine.cycle(1310)

    assert not engine.reservations.by_unit


def test_backfill_serves_tenants_by_their_shares() -> None:
    world = World().node("n", cpu=5).tenant("a").tenant("b", weight=2).tenant("z")
    world.pod("z", "long", on="n", cpu=1, more={"max_runtime": 5000.0}).pod("z", "large", cpu=5)
    engine = timed(world)
    engine.cycle(1000)
    engine.cycle(1300)
    assert engine.reservations.by_unit

    world.events.clear()
    world.pods("a", 4, "a", cpu=1, more={"max_runtime": 10.0}).pods("b", 4, "b", cpu=1, more={"max_runtime": 10.0})
    engine.state.apply_all(world.events)

    assert [start.pod[1] for start in engine.cycle(1310).starts] == ["a0", "b0", "b1", "a1"]


def test_a_gang_and_then_its_further_pods_backfill() -> None:
    world = World().node("n", cpu=5).tenant("a").tenant("z").gang("a", "g", 2)
    world.pod("z", "long", on="n", cpu=1, more={"max_runtime": 5000.0}).pod("z", "large", cpu=5)
    engine = timed(world)
    engine.cycle(1000)
    engine.cycle(1300)

    world.events.clear()
    engine.state.apply_all(world.pods("a", 3, "g", group="g", cpu=1, more={"max_runtime": 10.0}).events)

    assert [start.pod[1] for start in engine.cycle(1310).starts] == ["g0", "g1", "g2"]


def test_what_one_tenants_limit_keeps_from_backfilling_another_tenant_may_start() -> None:
    """Equal pods of two tenants have one shape: only one of them is beyond a limit."""
    world = World().node("n", cpu=4).tenant("a", limits={"cpu": 0}).tenant("b").tenant("z")
    world.pod("z", "long", on="n", cpu=2, more={"max_runtime": 5000.0}).pod("z", "large", cpu=4)
    engine = timed(world)
    engine.cycle(1000)
    engine.cycle(1300)
    assert engine.reservations.by_unit

    world.events.clear()
    for tenant in ("a", "b"):
        world.pod(tenant, "short", cpu=1, more={"max_runtime": 10.0})
    engine.state.apply_all(world.events)

    assert [start.pod for start in engine.cycle(1310).starts] == [("b", "short")]
