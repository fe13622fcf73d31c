"""Room that is held for somebody, and what becomes of it when he claims, comes, or is stopped."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.nodes import NodeSpec
from allotment_scheduler.core.objects.pods import PodSpec, SchedulingSpec
from allotment_scheduler.core.objects.units import ExpectedMember, GroupSpec
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.invariants import check
from builders.scheduling import World, amounts

STATEFUL: dict[str, Any] = {"owner": "db", "owner_kind": "StatefulSet"}


def test_a_claimant_counts_with_the_room_that_is_reserved_for_it() -> None:
    world = World().node("n", cpu=4).tenant("a").tenant("b")
    world.pods("a", 3, on="n", cpu=1, more={"max_runtime": 9000.0}).pod("b", "large", cpu=2)
    engine = Engine(world.state(), Settings(least_runtime=1000, age=300))
    engine.cycle(100)
    engine.cycle(400)
    assert engine.reservations.by_unit, "the room is kept for it"

    done = engine.cycle(1100)

    assert len(done.evictions) == 1, "one core is free already"
    assert [start.pod for start in done.starts] == [("b", "large")]
    check(engine.state)


def test_a_successor_that_asks_for_more_claims_with_its_own_seat() -> None:
    world = World().node("n", cpu=8).tenant("a")
    world.pod("a", "db-0", on="n", cpu=4, priority=5, more=STATEFUL).pods("a", 4, on="n", cpu=1)
    engine = Engine(world.state(), Settings(least_runtime=0))
    engine.cycle(100)
    gone = engine.state.pods["a", "db-0"].spec
    engine.state.apply(ev.PodGone(("a", "db-0")))
    engine.cycle(101)
    larger = replace(gone.scheduling, requests=tuple(amounts(cpu=5).items()))
    engine.state.apply(ev.PodSeen(msgspec.structs.replace(gone, node=None, started=None, scheduling=larger)))

    done = engine.cycle(102)

    assert len(done.evictions) == 1
    assert [start.pod for start in done.starts] == [("a", "db-0")]
    check(engine.state)


def test_nobody_starts_and_has_to_go_again_in_the_same_cycle() -> None:
    world = World().node("n", cpu=4).tenant("a").pods("a", 3, prefix="r", on="n", cpu=1)
    engine = Engine(world.pod("a", "small", cpu=1).pod("a", "large", cpu=4, priority=10).state(), Settings())

    done = engine.cycle(1000)

    assert [start.pod[1] for start in done.starts] == ["large"]
    assert {evict.pod[1] for evict in done.evictions} == {"r0", "r1", "r2"}
    check(engine.state)


def test_who_was_taken_back_starts_where_there_is_room() -> None:
    world = World().node("n", cpu=4).node("m", cpu=1).tenant("a").tenant("b").pods("a", 3, prefix="r", on="n", cpu=1)
    world.pod("b", "guest", on="m", cpu=1, priority=20)
    world.pod("a", "small", cpu=1).pod("a", "large", cpu=2, priority=10)
    engine = Engine(world.state(), Settings())

    done = engine.cycle(1000)

    assert {start.pod[1] for start in done.starts} == {"large"}
    assert len(done.evictions) == 1, "the room that was free went to the claimant"
    check(engine.state)


def test_what_makes_room_at_the_cost_of_those_within_their_guarantee_is_no_plan() -> None:
    """The small pod of the guaranteed tenant may not start only to be the one above the guarantee."""
    world = World().node("n", cpu=5).tenant("g", guaranteed={"cpu": 3}).tenant("x", guaranteed={"cpu": 5})
    engine = Engine(world.pod("g", "held", on="n", cpu=1).pod("g", "more", cpu=4).pod("x", "all", cpu=5).state())

    evicted = {evict.pod[1] for evict in engine.cycle(1000).evictions}

    assert "held" not in evicted
    check(engine.state)


def test_a_plan_made_anew_takes_nobody_either_who_has_just_started() -> None:
    world = World().tenant("a")
    for number, held in enumerate((2, 2, 4)):
        world.node(f"n{number}", cpu=4).pod("a", f"o{number}", on=f"n{number}", cpu=held)
    world.pod("a", "c1", cpu=4, priority=10).pod("a", "c2", cpu=4, priority=10)
    world.pod("a", "s1", cpu=2).pod("a", "s2", cpu=2)
    engine = Engine(world.state(), Settings())

    done = engine.cycle(1000)

    assert {evict.pod for evict in done.evictions}.isdisjoint(start.pod for start in done.starts)
    check(engine.state)


def test_a_claimant_that_fits_where_a_new_start_was_taken_back_has_nobody_go() -> None:
    world = World().node("n", cpu=4).node("m", cpu=4).tenant("a")
    world.pod("a", "db-0", on="n", cpu=1, more=STATEFUL).pod("a", "old", on="m", cpu=1)
    engine = Engine(world.state(), Settings())
    engine.cycle(100)
    gone = engine.state.pods["a", "db-0"].spec
    engine.state.apply(ev.PodGone(("a", "db-0")))
    engine.state.apply(ev.PodSeen(msgspec.structs.replace(gone, node=None, started=None, uid="new")))
    engine.state.apply_all(World(clock=200.0).pod("a", "large", cpu=4, priority=10).events)

    done = engine.cycle(1000)

    assert not done.evictions
    assert {start.pod[1]: start.node for start in done.starts} == {"large": "n", "db-0": "m"}
    check(engine.state)


CORE = SchedulingSpec(tuple(sorted(amounts(cpu=1).items())))


def with_rooms() -> Engine:
    """A gang whose driver runs, with rooms held for two announced members on nodes of their own."""
    world = World().node("n0", cpu=1).node("n1", cpu=1).node("n2", cpu=1).tenant("t")
    world.gang("t", "g", 3, expected=(ExpectedMember("x", 2, PodSpec("t", "g/x", CORE, group="g")),))
    engine = Engine(world.pod("t", "driver", group="g", cpu=1).state(), Settings())
    engine.cycle(1000.0)
    assert len(engine.state.gangs["t", "g"].phantoms) == 2
    return engine


def come(engine: Engine, count: int) -> None:
    engine.state.apply_all(ev.PodSeen(PodSpec("t", f"x{i}", CORE, created=1001.0, group="g")) for i in range(count))


@pytest.mark.parametrize("which", [0, 1])
def test_an_announced_member_takes_another_room_of_its_like_where_one_cannot_be_had(which: int) -> None:
    engine = with_rooms()
    closed = engine.state.gangs["t", "g"].phantoms[which].node
    assert closed is not None
    spec: NodeSpec = engine.state.nodes.by_name[closed].spec
    engine.state.apply(ev.NodeSeen(replace(spec, unschedulable=True)))
    come(engine, 1)

    started = engine.cycle(1001.0).starts

    assert [start.pod[1] for start in started] == ["x0"]
    assert started[0].node != closed


def test_announced_members_of_a_paused_gang_wait() -> None:
    engine = with_rooms()
    group = engine.state.gangs["t", "g"].spec
    assert isinstance(group, GroupSpec)
    engine.state.apply(ev.GroupSeen(replace(group, paused=True)))
    come(engine, 2)

    assert engine.cycle(1001.0).starts == []
