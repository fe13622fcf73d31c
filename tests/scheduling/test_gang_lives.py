"""How gangs live on: announced members that come or do not, members that finish, losses that are made good or not."""

from dataclasses import replace
from typing import Any

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.decisions import Round
from allotment_scheduler.core.explanation.explain import Explainer
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import PodSpec, SchedulingSpec
from allotment_scheduler.core.objects.units import ExpectedMember
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.invariants import check
from builders.scheduling import World


def timed(world: World, **settings: Any) -> Engine:
    return Engine(world.state(), Settings(**settings))


def started(done: Round) -> dict[str, str]:
    return {start.pod[1]: start.node for start in done.starts}


def apply(engine: Engine, world: World, count: int = 1) -> None:
    engine.state.apply_all(world.events[-count:])


def executors(count: int) -> tuple[ExpectedMember, ...]:
    """Members of one core each that a driver will create."""
    return (ExpectedMember("executor", count, PodSpec("t", "spark/executor", SchedulingSpec((("cpu", 1000),)))),)


def driver(**given: Any) -> World:
    """A driver of one core that announces two executors, on three nodes of one core."""
    world = World().nodes(3, cpu=1).tenant("t").gang("t", "spark", 3, expected=executors(2), **given)
    return world.pod("t", "driver", group="spark", cpu=1)


def test_announced_members_take_the_rooms_that_are_held_for_them() -> None:
    world = driver()
    engine = timed(world)
    first = engine.cycle(10)
    rooms = {start.node for start in first.starts if start.phantom}
    world.pod("t", "stranger", cpu=1).pods("t", 2, "e", group="spark", cpu=1)
    apply(engine, world, 3)

    done = engine.cycle(20)

    assert set(started(done)) == {"e0", "e1"}
    assert set(started(done).values()) == rooms
    assert not engine.state.gangs["t", "spark"].phantoms
    check(engine.state)


def test_a_room_is_held_until_the_timeout_and_no_longer() -> None:
    world = driver(expected_timeout=100.0)
    engine = timed(world)
    engine.cycle(10)
    world.pods("t", 2, "other", cpu=1)
    apply(engine, world, 2)

    assert started(engine.cycle(109)) == {}
    assert set(started(engine.cycle(110))) == {"other0", "other1"}
    assert engine.state.pods["t", "driver"].node is not None, "what runs keeps running"
    check(engine.state)


def test_members_that_come_too_late_are_admitted_together() -> None:
    world = driver(expected_timeout=100.0)
    engine = timed(world)
    engine.cycle(10)
    world.pod("t", "other", cpu=1)
    apply(engine, world)
    engine.cycle(110)
    world.pods("t", 2, "e", group="spark", cpu=1)
    apply(engine, world, 2)

    assert started(engine.cycle(120)) == {}, "there is room for one only"
    engine.state.apply(ev.PodGone(("t", "other")))
    assert set(started(engine.cycle(130))) == {"e0", "e1"}


def test_a_lost_node_takes_the_rooms_on_it_along() -> None:
    world = driver()
    engine = timed(world)
    room = next(start.node for start in engine.cycle(10).starts if start.phantom)

    engine.state.apply(ev.NodeGone(room))
    engine.cycle(20)

    assert len(engine.state.gangs["t", "spark"].phantoms) == 1
    check(engine.state)


def test_announced_members_count_in_what_their_tenant_may_claim() -> None:
    world = World().node("n", cpu=4).tenant("t").tenant("u").pods("u", 4, "r", on="n", cpu=1)
    world.gang("t", "spark", 2, expected=executors(1)).pod("t", "driver", group="spark", cpu=1)

    done = world.run()

    assert done.rules == ["R2", "R2"]
    assert done.running("t") == {"driver"}


def cut(**given: Any) -> tuple[World, Engine]:
    """A gang of three that ran whole and lost one member together with its room."""
    world = World().nodes(3, cpu=1).tenant("t").gang("t", "g", 3)
    world.pods("t", 3, "m", group="g", cpu=1, more={"owner": "o", **given})
    engine = timed(world, gang_recovery=600)
    engine.cycle(1000)
    lost = engine.state.pods["t", "m2"].node or ""
    engine.state.apply(ev.PodGone(("t", "m2")))
    engine.state.apply(ev.NodeGone(lost))
    engine.cycle(1010)
    return world, engine


def test_a_gang_cut_from_outside_goes_as_a_whole_if_it_is_not_brought_back_up() -> None:
    _, engine = cut()

    assert not engine.cycle(1600).evictions
    done = engine.cycle(1611)

    assert [(evict.pod[1], evict.rule) for evict in done.evictions] == [("m1", "Gang"), ("m0", "Gang")]
    assert not engine.cycle(1620).starts, "it waits for its third member"


def test_what_is_left_of_a_cut_gang_may_go_for_a_claimant_just_when_its_time_is_over() -> None:
    world, engine = cut()
    world.gang("t", "h", 2).pods("t", 2, "urgent", group="h", cpu=1, priority=5)
    apply(engine, world, 3)

    done = engine.cycle(1611)

    assert {(evict.pod[1], evict.rule) for evict in done.evictions} == {("m0", "P"), ("m1", "P")}
    assert set(started(done)) == {"urgent0", "urgent1"}
    check(engine.state)
    check(engine.state)


def described(engine: Engine, name: str, **changed: Any) -> None:
    """The gang's description changes."""
    spec = engine.state.gangs["t", name].spec
    assert spec is not None
    engine.state.apply(ev.GroupSeen(replace(spec, **changed)))


def suspend(engine: Engine, *, suspended: bool) -> None:
    engine.state.apply(ev.TenantSeen(replace(engine.state.tenant_specs["t"], suspended=suspended)))


@pytest.mark.parametrize("by", ["pause", "suspension"])
def test_the_time_in_which_a_cut_gang_may_not_come_back_does_not_count(by: str) -> None:
    _, engine = cut()

    def hold_back(held: bool) -> None:
        if by == "pause":
            described(engine, "g", paused=held)
        else:
            suspend(engine, suspended=held)

    hold_back(True)
    assert not engine.cycle(1020).evictions
    assert not engine.cycle(9000).evictions
    hold_back(False)
    assert not engine.cycle(9010).evictions
    assert not engine.cycle(9600).evictions
    assert len(engine.cycle(9611).evictions) == 2


def test_a_gang_whose_minimum_rises_has_lost_nobody() -> None:
    world = World().nodes(3, cpu=1).tenant("t").gang("t", "g", 2)
    world.pods("t", 3, "m", group="g", cpu=1, more={"owner": "o"})
    engine = timed(world, gang_recovery=600)
    engine.cycle(1000)
    engine.cycle(1001)
    described(engine, "g", min_member=3)
    engine.cycle(1002)
    described(engine, "g", min_member=8)

    assert not engine.cycle(1010).evictions
    assert not engine.cycle(9000).evictions
    described(engine, "g", min_member=3)
    engine.cycle(9010)
    engine.state.apply(ev.PodGone(("t", "m2")))
    engine.cycle(9020)
    assert len(engine.cycle(9621).evictions) == 2, "now it has"


def test_rooms_are_given_back_when_nobody_is_left_to_make_who_is_to_come() -> None:
    world = driver(expected_timeout=3000.0)
    engine = timed(world)
    engine.cycle(10)
    engine.state.apply(ev.PodGone(("t", "driver")))
    world.pods("t", 3, "other", cpu=1)
    apply(engine, world, 3)

    assert set(started(engine.cycle(20))) == {"other0", "other1", "other2"}
    check(engine.state)


def test_a_gang_that_is_brought_back_up_stays() -> None:
    world, engine = cut()
    world.node("n9", cpu=1).pod("t", "m3", group="g", cpu=1)
    apply(engine, world, 2)

    assert set(started(engine.cycle(1100))) == {"m3"}
    assert not engine.cycle(9000).evictions
    assert engine.state.gangs["t", "g"].cut_since is None


@pytest.mark.parametrize("given", [{"recreated": False}, {"fragile": True}, {"preemptible": False}], ids=str)
def test_what_nobody_recreates_or_may_not_go_is_left_alone(given: dict[str, bool]) -> None:
    world = World().nodes(3, cpu=1).tenant("t", guaranteed={"cpu": 3}).gang("t", "g", 3)
    world.pods("t", 3, "m", group="g", cpu=1, more={"owner": "o", **given})
    engine = timed(world)
    engine.cycle(1000)
    engine.cycle(1001)
    engine.state.apply(ev.PodGone(("t", "m2")))

    assert engine.cycle(1010).evictions == engine.cycle(9000).evictions == []


def test_members_that_are_done_are_not_missing() -> None:
    world = World().nodes(3, cpu=1).tenant("t").gang("t", "g", 3).pods("t", 3, "m", group="g", cpu=1)
    engine = timed(world)
    engine.cycle(1000)
    engine.cycle(1001)
    engine.state.apply(ev.PodGone(("t", "m2"), succeeded=True, group="g"))
    engine.state.apply(ev.PodGone(("t", "m1")))
    world.pod("t", "again", group="g", cpu=1)
    apply(engine, world)

    assert set(started(engine.cycle(1010))) == {"again"}, "one of three is done, so two are whole"
    assert not engine.cycle(9000).evictions


def test_a_gang_that_begins_anew_needs_all_its_members_again() -> None:
    world = World().nodes(3, cpu=1).tenant("t").gang("t", "g", 2).pods("t", 2, "m", group="g", cpu=1)
    engine = timed(world)
    engine.cycle(1000)
    for number in range(2):
        engine.state.apply(ev.PodGone(("t", f"m{number}"), succeeded=True, group="g"))
    engine.cycle(1010)
    world.pod("t", "m2", group="g", cpu=1)
    apply(engine, world)

    assert started(engine.cycle(1020)) == {}


def test_a_paused_group_waits_and_what_runs_of_it_keeps_running() -> None:
    world = World().nodes(3, cpu=1).tenant("t").gang("t", "g", 1, paused=True)
    world.pod("t", "runs", on="n00", group="g", cpu=1).pod("t", "p", group="g", cpu=1)
    engine = timed(world)

    assert started(engine.cycle(10)) == {}
    assert engine.state.pods["t", "runs"].node == "n00"
    why = Explainer(engine).why(engine.state.pods["t", "p"])
    assert (why.code, why.message, why.change) == ("GangIncomplete", "its PodGroup g is paused", "resume PodGroup g")
    paused = engine.state.gangs["t", "g"].spec
    assert paused is not None
    engine.state.apply(ev.GroupSeen(replace(paused, paused=False)))
    assert set(started(engine.cycle(20))) == {"p"}


def test_a_room_is_not_held_for_the_successor_of_what_is_done() -> None:
    owner = {"owner": "job-uid", "owner_kind": "Job"}
    world = World().node("n", cpu=2).tenant("t").gang("t", "job/j", 1, counts_down=True)
    world.pods("t", 2, "j", on="n", group="job/j", cpu=1, more=owner).pod("t", "next", cpu=1)
    engine = timed(world)
    engine.cycle(10)

    engine.state.apply(ev.PodGone(("t", "j0"), succeeded=True))
    assert set(started(engine.cycle(20))) == {"next"}
    engine.state.apply(ev.PodGone(("t", "j1")))
    world.pod("t", "later", cpu=1)
    apply(engine, world)
    assert started(engine.cycle(30)) == {}, "a failed pod is tried again"
    engine.state.apply(ev.GroupGone(("t", "job/j")))
    assert set(started(engine.cycle(40))) == {"later"}, "with its Job the hold goes"


def test_what_is_left_of_a_cut_gang_goes_for_a_claimant_in_the_cycle_in_which_it_would_be_let_go() -> None:
    world = World().node("n", cpu=2).tenant("t").gang("t", "g", 2).pods("t", 2, "g", on="n", group="g", cpu=1)
    engine = timed(world, least_runtime=0.0, gang_recovery=10.0)
    engine.cycle(1000)
    engine.state.apply(ev.PodGone(("t", "g0")))
    engine.cycle(1001)
    apply(engine, world.pod("t", "urgent", cpu=2, priority=9))

    done = engine.cycle(1020)

    assert [(evict.pod[1], evict.rule) for evict in done.evictions] == [("g1", "P")]
    assert started(done) == {"urgent": "n"}
