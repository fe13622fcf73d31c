"""What only shows where time passes: brakes, holds, reservations, backfill."""

from math import inf

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.decisions import Round
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.invariants import check
from builders.scheduling import World


def timed(world: World, **settings: float) -> Engine:
    return Engine(world.state(), Settings(**settings))  # type: ignore[arg-type]  # fields by name


def started(done: Round) -> list[str]:
    return [start.pod[1] for start in done.starts]


def test_a_young_pod_is_no_victim_of_fairness() -> None:
    world = World().node("n", cpu=2).tenant("a").tenant("b").pods("a", 2, "a", on="n", cpu=1).pod("b", "claims", cpu=1)
    engine = timed(world, least_runtime=300)

    assert not engine.cycle(100).evictions
    assert [evict.pod[1] for evict in engine.cycle(400).evictions] == ["a1"]


def test_a_guarantee_does_not_wait() -> None:
    world = World().node("n", cpu=2).tenant("a").tenant("b", guaranteed={"cpu": 1})
    world.pods("a", 2, "a", on="n", cpu=1).pod("b", "claims", cpu=1)

    assert [evict.rule for evict in timed(world).cycle(10).evictions] == ["R1"]


def test_a_tenant_loses_no_more_than_its_budget_in_an_hour() -> None:
    world = World().node("n", cpu=8).tenant("a").tenant("b").pods("a", 8, "a", on="n", cpu=1).pods("b", 4, "b", cpu=1)
    engine = timed(world, evictions_per_hour=1)

    assert len(engine.cycle(1000).evictions) == 1
    assert not engine.cycle(2000).evictions
    assert len(engine.cycle(5000).evictions) == 1


@pytest.mark.parametrize(
    ("brakes", "goes"),
    [
        ({}, 3),
        ({"evictions_per_hour": 3}, 3),
        ({"evictions_per_hour": 2}, 0),
        ({"evictions_per_cycle": 2}, 0),
        ({"evictions_per_hour": 0}, 0),
        ({"evictions_per_cycle": 0}, 0),
    ],
    ids=["no bound", "enough", "too few in an hour", "too few in a cycle", "none in an hour", "none in a cycle"],
)
@pytest.mark.parametrize("members", [1, 3], ids=["pod", "gang"])
def test_a_plan_takes_no_more_than_the_brakes_allow_or_nobody(
    brakes: dict[str, float], goes: int, members: int
) -> None:
    world = World().node("n", cpu=8).tenant("a").tenant("b").pods("a", 8, "a", on="n", cpu=1).gang("b", "g", members)
    engine = timed(world.pods("b", members, "b", group="g", cpu=3 // members), **brakes)

    assert len(engine.cycle(1000).evictions) == goes
    assert len(engine.cycle(1001).evictions) == 0


@pytest.mark.parametrize(
    ("brakes", "goes"), [({"evictions_per_hour": 0}, 2), ({"evictions_per_cycle": 0}, 0)], ids=["of shares", "all"]
)
def test_evictions_can_be_stopped_those_for_shares_or_all(brakes: dict[str, float], goes: int) -> None:
    world = World().node("n", cpu=4).tenant("a").tenant("b", guaranteed={"cpu": 2})
    engine = timed(world.pods("a", 4, "a", on="n", cpu=1).pods("b", 2, "b", cpu=1), **brakes)

    assert [each.rule for each in engine.cycle(1000).evictions] == goes * ["R1"]


@pytest.mark.parametrize(("most", "goes"), [(2, {"a7", "a6"}), (1, {"a7", "b5"})])
def test_where_one_tenants_budget_of_the_hour_is_spent_another_gives(most: int, goes: set[str]) -> None:
    world = World().node("n", cpu=14).tenant("a").tenant("b").tenant("c")
    world.pods("a", 8, "a", on="n", cpu=1).pods("b", 6, "b", on="n", cpu=1).pod("c", "claims", cpu=2)
    world.pods("c", 3, "patient", cpu=1, more={"never_preempts": True})

    evictions = timed(world, evictions_per_hour=most).cycle(1000).evictions

    assert {evict.pod[1] for evict in evictions} == goes


def test_backoff_doubles_with_every_eviction() -> None:
    world = World().node("n", cpu=1).tenant("a").pod("a", "p", on="n", cpu=1)
    engine = timed(world, backoff=60)
    pod = engine.state.pods["a", "p"]
    lengths = []
    for now in (1000.0, 2000.0, 3000.0):
        engine.brakes.evicted(pod, "R2", now)
        lengths.append(engine.brakes.backoffs["a/p"].until - now)

    assert lengths == [60, 120, 240]


def test_the_room_of_a_stateful_pod_is_held_for_its_successor() -> None:
    owner = {"owner": "sts-uid", "owner_kind": "StatefulSet"}
    world = World().node("n", cpu=2).tenant("a").tenant("b")
    world.pod("a", "db-0", on="n", cpu=2, more=owner).pod("b", "hungry", cpu=1)
    engine = timed(world, successor_hold=600)
    engine.cycle(10)

    engine.state.apply(ev.PodGone(("a", "db-0")))
    assert started(engine.cycle(20)) == [], "the seat is kept"
    world.pod("a", "db-0", cpu=2, more=owner)
    engine.state.apply(world.events[-1])

    assert started(engine.cycle(30)) == ["db-0"]
    check(engine.state)


def test_a_held_room_is_given_up_in_the_end() -> None:
    owner = {"owner": "sts-uid", "owner_kind": "StatefulSet"}
    world = World().node("n", cpu=2).tenant("a").tenant("b")
    world.pod("a", "db-0", on="n", cpu=2, more=owner).pod("b", "hungry", cpu=1)
    engine = timed(world, successor_hold=600)
    engine.cycle(10)
    engine.state.apply(ev.PodGone(("a", "db-0")))
    engine.cycle(20)

    assert started(engine.cycle(700)) == ["hungry"]


def crowded() -> World:
    """A node full of pods that end in turn, a large pod that waits, and small ones that come later."""
    world = World().node("n", cpu=4).tenant("a")
    for number in range(4):
        world.pod("a", f"r{number}", on="n", cpu=1, more={"max_runtime": 1000.0 * (number + 1)})
    return world.pod("a", "large", cpu=3)


def test_the_oldest_misfit_gets_nodes_and_a_time() -> None:
    engine = timed(crowded(), age=300)
    engine.cycle(1000)
    engine.cycle(1299)
    assert not engine.reservations.by_unit, "it has not been a misfit for long enough, however old it is"

    engine.cycle(1300)

    kept = engine.reservations.by_unit["a", "large"]
    assert (kept.nodes, kept.pools) == (("n",), ("default",))
    assert kept.eta == pytest.approx(3003), "when the third of the running pods must have ended"


@pytest.mark.parametrize(
    ("tenant", "group", "pod", "want"),
    [
        (1000.0, None, None, 1003.0),
        (9000.0, 1000.0, None, 1003.0),
        (9000.0, 8000.0, 1000.0, 1003.0),
        (None, 1000.0, None, 1003.0),
        (None, None, None, inf),
    ],
)
def test_the_nearest_declared_runtime_counts(
    tenant: float | None, group: float | None, pod: float | None, want: float
) -> None:
    """The pod's own, else its group's, else that of the nearest tenant that has one."""
    world = World().node("n", cpu=4).inner("above", default_runtime=7000.0 if tenant is not None else None)
    world.tenant("a", "above", default_runtime=tenant).gang("a", "g", 1, max_runtime=group)
    world.pods("a", 4, "r", on="n", cpu=1, group="g" if group is not None else None, more={"max_runtime": pod})
    engine = timed(world.pod("a", "large", cpu=3), age=300)
    engine.cycle(500)
    engine.cycle(800)

    assert engine.reservations.by_unit["a", "large"].eta == want


def test_a_tenant_without_a_default_takes_that_of_the_one_above() -> None:
    world = World().node("n", cpu=4).inner("above", default_runtime=1000.0).tenant("a", "above")
    engine = timed(world.pods("a", 4, "r", on="n", cpu=1).pod("a", "large", cpu=3), age=300)
    engine.cycle(500)
    engine.cycle(800)

    assert engine.reservations.by_unit["a", "large"].eta == 1003


@pytest.mark.parametrize("gang", [False, True], ids=["pod", "gang"])
def test_nothing_is_reserved_for_what_would_not_fit_the_empty_cluster(gang: bool) -> None:
    """The nodes go on to others, however old the unit is that can never run."""
    world = World().nodes(3, cpu=4).tenant("a").pods("a", 2, "r0", on="n00", cpu=2).pods("a", 2, "r1", on="n01", cpu=2)
    if gang:
        world.gang("a", "g", 4).pods("a", 4, "g", group="g", cpu=3)
    else:
        world.pod("a", "giant", cpu=5)
    engine = timed(world, age=300, drain=0)
    for now in (1000, 1300, 1310):
        engine.cycle(now)
        assert not engine.reservations.by_unit

    world.events.clear()
    engine.state.apply_all(world.pod("a", "small", cpu=4).events)
    assert started(engine.cycle(1320)) == ["small"]


def test_only_what_ends_in_time_may_start_on_reserved_nodes() -> None:
    world = crowded()
    engine = timed(world, age=300)
    engine.cycle(100)
    engine.cycle(400)
    engine.state.apply(ev.PodGone(("a", "r0")))
    for name, runtime in (("long", 9000.0), ("short", 500.0)):
        world.pod("a", name, cpu=1, more={"max_runtime": runtime})
        engine.state.apply(world.events[-1])

    assert started(engine.cycle(500)) == ["short"]
    check(engine.state)


def test_the_reserved_unit_starts_when_its_room_is_there() -> None:
    engine = timed(crowded(), age=300)
    engine.cycle(100)
    engine.cycle(400)
    for number in range(3):
        engine.state.apply(ev.PodGone(("a", f"r{number}")))

    assert started(engine.cycle(500)) == ["large"]
    assert not engine.reservations.by_unit


def test_without_declared_runtimes_the_nodes_drain_after_a_while() -> None:
    world = World().node("n", cpu=2).tenant("a").pods("a", 2, "r", on="n", cpu=1).pod("a", "large", cpu=2)
    engine = timed(world, age=300, drain=1000)
    engine.cycle(100)
    engine.cycle(400)
    assert engine.reservations.by_unit["a", "large"].eta == inf
    engine.state.apply(ev.PodGone(("a", "r0")))
    world.pod("a", "small", cpu=1)
    engine.state.apply(world.events[-1])

    assert started(engine.cycle(1500)) == [], "no new starts while the node drains"
    engine.state.apply(ev.PodGone(("a", "r1")))
    assert started(engine.cycle(1600)) == ["large"]


def test_a_giant_gang_beyond_its_entitlement_reserves_nothing() -> None:
    world = World().node("n", cpu=4).tenant("a").tenant("b")
    world.pods("b", 4, "b", on="n", cpu=1).gang("a", "g", 4).pods("a", 4, "g", group="g", cpu=1)
    engine = timed(world, age=300, least_runtime=1e9)
    engine.cycle(4000)
    engine.cycle(5000)

    assert not engine.reservations.by_unit
