"""A clock that is set back makes nothing last longer than it was to."""

from dataclasses import replace
from math import inf

import pytest
from msgspec import structs

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.eviction.brakes import Backoff, Window
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.settings import Settings
from builders.scheduling import World

FAR, NOW = 1_000_000.0, 1_000.0
"""The time by a clock that is fast, and by the one that is right."""


def timed(world: World, **settings: float) -> Engine:
    return Engine(world.state(), Settings(**settings))  # type: ignore[arg-type]  # fields by name


def started(engine: Engine, now: float) -> list[str]:
    return [start.pod[1] for start in engine.cycle(now).starts]


def test_quarantine_lasts_as_long_as_it_was_to() -> None:
    engine = timed(World().node("n", cpu=1).tenant("t").pod("t", "p", cpu=1))
    engine.state.now = FAR
    engine.state.apply(ev.PodSetAside(("t", "p"), FAR + 60, "a fault"))

    assert started(engine, NOW) == []
    aside = engine.state.pods["t", "p"].set_aside
    assert aside is not None
    assert (aside.since, aside.until) == (NOW, NOW + 60)
    assert started(engine, NOW + 59) == []
    assert started(engine, NOW + 60) == ["p"]


def test_quarantine_without_end_stays_without_end() -> None:
    engine = timed(World().node("n", cpu=1).tenant("t").pod("t", "p", cpu=1))
    engine.state.now = FAR
    engine.state.apply(ev.PodSetAside(("t", "p"), inf, "a fault"))

    assert started(engine, NOW) == []
    assert started(engine, FAR + 10) == []


@pytest.mark.parametrize(("evictions", "lasts"), [(1, 60), (3, 240), (50, 3600), (0, 60)])
def test_a_backoff_lasts_no_longer_than_its_number_of_evictions_allows(evictions: int, lasts: float) -> None:
    engine = timed(World().node("n", cpu=1).tenant("t"))
    engine.brakes.backoffs["t/p"] = Backoff(evictions, FAR)

    engine.cycle(NOW)

    assert engine.brakes.backoffs["t/p"].until == NOW + lasts


def test_a_backoff_that_is_shorter_is_left_as_it_is() -> None:
    engine = timed(World().node("n", cpu=1).tenant("t"))
    engine.brakes.backoffs["t/p"] = Backoff(3, NOW + 10)

    engine.cycle(NOW)

    assert engine.brakes.backoffs["t/p"].until == NOW + 10


def test_an_eviction_budget_is_spent_for_an_hour_at_most() -> None:
    world = World().node("n", cpu=2).tenant("a").tenant("b").pods("a", 2, "a", on="n", cpu=1).pod("b", "b", cpu=1)
    engine = timed(world, evictions_per_hour=1)
    engine.brakes.windows["a"] = Window(FAR, 1)

    assert not engine.cycle(NOW).evictions
    assert not engine.cycle(NOW + 3599).evictions
    assert engine.cycle(NOW + 3600).evictions


def test_a_pod_that_began_in_the_future_is_young_for_the_minimum_runtime_only() -> None:
    world = World().node("n", cpu=2).tenant("a").tenant("b").pods("a", 2, "a", on="n", cpu=1).pod("b", "b", cpu=1)
    world.events = [
        replace(it, spec=structs.replace(it.spec, started=FAR)) if isinstance(it, ev.PodSeen) and it.spec.node else it
        for it in world.events
    ]
    engine = timed(world, least_runtime=300)

    assert not engine.cycle(NOW).evictions
    assert not engine.cycle(NOW + 299).evictions
    assert len(engine.cycle(NOW + 300).evictions) == 1


def test_a_seat_is_held_no_longer_than_seats_are() -> None:
    owner = {"owner": "sts-uid", "owner_kind": "StatefulSet"}
    world = World().node("n", cpu=2).tenant("a").pod("a", "db-0", on="n", cpu=2, more=owner).pod("a", "p", cpu=1)
    engine = timed(world, successor_hold=600)
    engine.cycle(FAR)
    engine.state.apply(ev.PodGone(("a", "db-0")))
    engine.cycle(FAR + 1)

    assert started(engine, NOW) == []
    assert started(engine, NOW + 600) == ["p"]


def test_room_for_announced_members_is_held_no_longer_than_their_timeout() -> None:
    world = World().node("n", cpu=1).tenant("t").gang("t", "g", 1)
    engine = timed(world.pod("t", "p", cpu=1, group="g"))
    gang = engine.state.gangs["t", "g"]
    gang.held_since = gang.cut_since = FAR

    engine.cycle(NOW)

    assert gang.held_since == NOW
    assert gang.cut_since is None


def test_ageing_and_draining_go_on() -> None:
    world = World().node("n", cpu=2).tenant("a").pods("a", 2, "r", on="n", cpu=1).pod("a", "large", cpu=2)
    engine = timed(world, age=300, drain=1000)
    engine.cycle(FAR)
    engine.cycle(NOW)
    engine.cycle(NOW + 300)
    kept = engine.reservations.by_unit["a", "large"]
    assert kept.since == NOW + 300
    kept.since = FAR
    engine.cycle(NOW + 310)

    assert engine.reservations.by_unit["a", "large"].since == NOW + 310
    assert not engine.reservations.by_unit["a", "large"].binding(NOW + 1309, engine.settings)
    assert engine.reservations.by_unit["a", "large"].binding(NOW + 1310, engine.settings)
