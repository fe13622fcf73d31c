"""Members that were announced: which of the rooms held for them they may take, and who takes these rooms back."""

from typing import Any

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.eviction.hysteresis import SmallestUnits
from allotment_scheduler.core.eviction.victims import victim_of
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import PodSpec, SchedulingSpec
from allotment_scheduler.core.objects.units import ExpectedMember
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.invariants import check
from builders.scheduling import World, amounts

CORE = SchedulingSpec(tuple(sorted(amounts(cpu=1).items())))
TIMED = Settings(least_runtime=0.0, age=1e9)


def announced(count: int, name: str = "x", *, tenant: str = "t", cpu: int = 1) -> ExpectedMember:
    """Members of a gang g that its driver will create."""
    needs = SchedulingSpec(tuple(sorted(amounts(cpu=cpu).items())))
    return ExpectedMember(name, count, PodSpec(tenant, f"g/{name}", needs, group="g"))


def rooms(engine: Engine, tenant: str = "t") -> list[str]:
    """What is held for the members of g, by node."""
    check(engine.state)
    return sorted(room.node or "" for room in engine.state.gangs[tenant, "g"].phantoms)


def told(engine: Engine, world: World) -> None:
    """What the world has come to hold since the last time."""
    engine.state.apply_all(world.events)
    world.events.clear()


def holding(world: World, count: int, settings: Settings = TIMED, *, cpu: int = 1, **driver: Any) -> Engine:
    """A driver of one core that runs, and rooms for executors; another tenant comes afterwards."""
    world.gang("t", "g", count + 1, expected=(announced(count, cpu=cpu),))
    engine = Engine(world.pod("t", "driver", group="g", cpu=1, **driver).state(), settings)
    world.events.clear()
    assert len(engine.cycle(1000.0).starts) == count + 1
    return engine


@pytest.mark.parametrize(("guaranteed", "start"), [(None, []), (1, ["x0"]), (2, ["x0", "x1"])])
def test_members_that_may_not_be_preempted_take_rooms_within_the_guarantee_only(
    guaranteed: int | None, start: list[str]
) -> None:
    world = World().node("n", cpu=3).tenant("t", guaranteed=None if guaranteed is None else {"cpu": guaranteed})
    world.gang("t", "g", 3, expected=(announced(2),))
    engine = Engine(world.pod("t", "d", group="g", cpu=1).state(), Settings())
    state = engine.state
    engine.cycle(1000.0)

    state.apply_all(
        ev.PodSeen(PodSpec("t", f"x{i}", CORE, created=1001.0, group="g", preemptible=False)) for i in range(2)
    )
    done = engine.cycle(1001.0)

    assert [it.pod[1] for it in done.starts] == start
    assert state.forest.by_name["t"].fixed[state.resources.column("cpu")] == 1000 * len(start)
    check(state)


# --- rooms follow what is announced --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "left"),
    [
        ((announced(2),), 2), ((announced(1),), 1), ((), 0), ((announced(3),), 2), ((announced(2, cpu=2),), 0),
        ((announced(2, "y"),), 0), ((announced(1), announced(1, "y", cpu=2)), 1),
    ],
    ids=["as before", "fewer", "nobody", "more", "larger", "others", "others among them"],
)  # fmt: skip
def test_rooms_are_held_for_those_alone_who_are_announced_now(expected: tuple[ExpectedMember, ...], left: int) -> None:
    world = World().node("n", cpu=3).tenant("t")
    engine = holding(world, 2)

    told(engine, world.gang("t", "g", 1 + sum(it.count for it in expected), expected=expected, max_runtime=5.0))

    assert len(rooms(engine)) == left


@pytest.mark.parametrize("count", [1, 2])
def test_who_has_come_and_runs_needs_no_room_any_more(count: int) -> None:
    world = World().node("n", cpu=4).tenant("t")
    engine = holding(world, 2)
    told(engine, world.pod("t", "x0", group="g", cpu=1))
    assert [it.pod[1] for it in engine.cycle(1001.0).starts] == ["x0"]

    told(engine, world.gang("t", "g", 1 + count, expected=(announced(count),), max_runtime=5.0))

    assert len(rooms(engine)) == count - 1


def test_who_has_come_and_waits_still_needs_its_room() -> None:
    world = World().node("n", cpu=3).tenant("t")
    engine = holding(world, 2)
    world.pod("t", "x0", group="g", cpu=1)
    told(engine, world.gang("t", "g", 3, expected=(announced(1), announced(1, "y")), max_runtime=5.0))

    assert len(rooms(engine)) == 1


def test_who_has_come_counts_for_one_of_several_that_request_the_same() -> None:
    world = World().node("n", cpu=3).tenant("t").gang("t", "g", 3, expected=(announced(1), announced(1, "y")))
    engine = Engine(world.pods("t", 2, "m", group="g", cpu=1).state(), TIMED)

    starts = {it.pod[1] for it in engine.cycle(1000.0).starts}

    assert starts == {"m0", "m1", "y-expected-0"}
    assert rooms(engine) == ["n"]


# --- a gang that goes takes its rooms along ------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [TIMED, Settings.timeless()], ids=["timed", "timeless"])
def test_a_guarantee_takes_back_room_that_is_held_for_announced_members(settings: Settings) -> None:
    """The driver goes, though it stands elsewhere; the claimant starts where the rooms were."""
    world = World().node("n0", cpu=1).node("n1", cpu=4).tenant("t").tenant("u", guaranteed={"cpu": 4})
    engine = holding(world, 2, settings, cpu=2)
    assert rooms(engine) == ["n1", "n1"]

    told(engine, world.pod("u", "claims", cpu=4))
    done = engine.cycle(1001.0)

    assert [(it.pod[1], it.rule) for it in done.evictions] == [("driver", "R1")]
    assert ("claims", "n1") in [(it.pod[1], it.node) for it in done.starts]
    assert not any(room.startswith("n1") for room in rooms(engine))


def test_claimants_of_several_pods_take_rooms_on_several_nodes() -> None:
    world = World().nodes(4, cpu=1).tenant("t").tenant("u", guaranteed={"cpu": 3}).gang("u", "wide", 3)
    engine = holding(world, 3)

    told(engine, world.pods("u", 3, "w", group="wide", cpu=1))
    done = engine.cycle(1001.0)

    assert [it.pod[1] for it in done.evictions] == ["driver"]
    assert {it.pod[1] for it in done.starts if it.pod[0] == "u"} == {"w0", "w1", "w2"}
    assert rooms(engine) == []


def test_rooms_are_taken_back_under_a_limit() -> None:
    world = World().node("n", cpu=9).inner("all", limits={"cpu": 4})
    world.tenant("t", "all").tenant("u", "all", guaranteed={"cpu": 3})
    engine = holding(world, 3)

    told(engine, world.pod("u", "claims", cpu=3))
    done = engine.cycle(1001.0)

    assert [it.pod[1] for it in done.evictions] == ["driver"]
    assert [it.pod[1] for it in done.starts if it.pod[0] == "u"] == ["claims"]


def test_a_gang_with_its_rooms_is_one_victim_of_as_many_pods_as_run() -> None:
    """One driver on one node costs fewer pods than two on the other."""
    world = World().node("n0", cpu=4).node("n1", cpu=4).tenant("t").tenant("u", guaranteed={"cpu": 4})
    world.pod("t", "z0", on="n1", cpu=2).pod("t", "z1", on="n1", cpu=2)
    engine = holding(world, 3)
    assert rooms(engine) == ["n0", "n0", "n0"]

    told(engine, world.pod("u", "claims", cpu=4))

    assert [it.pod[1] for it in engine.cycle(1001.0).evictions] == ["driver"]


def test_a_gang_that_is_not_needed_keeps_its_rooms() -> None:
    world = World().nodes(4, cpu=1).tenant("t").tenant("u", guaranteed={"cpu": 1}).pod("t", "last", on="n03", cpu=1)
    engine = holding(world, 2, more={"recreated": False})

    told(engine, world.pod("u", "claims", cpu=1))

    assert [it.pod[1] for it in engine.cycle(1001.0).evictions] == ["last"]
    assert len(rooms(engine)) == 2


@pytest.mark.parametrize(
    ("size", "driver"),
    [(5, {}), (3, {"preemptible": False}), (3, {"spared": True})],
    ids=["not enough", "may not be preempted", "refused"],
)
def test_who_finds_no_plan_takes_no_rooms(size: int, driver: dict[str, bool]) -> None:
    world = World().node("n", cpu=4).tenant("t", guaranteed={"cpu": 1}).tenant("u", guaranteed={"cpu": 5})
    engine = holding(world, 3, more=driver)

    told(engine, world.pod("u", "claims", cpu=size))

    assert not engine.cycle(1001.0)
    assert rooms(engine) == ["n", "n", "n"]


def test_a_gang_that_is_let_go_takes_its_rooms_along() -> None:
    world = World().nodes(4, cpu=1).tenant("t").gang("t", "g", 4, expected=(announced(1),))
    engine = Engine(world.pods("t", 3, "m", group="g", cpu=1).state(), TIMED)
    engine.cycle(1000.0)
    assert len(rooms(engine)) == 1
    engine.state.gangs["t", "g"].whole = True
    engine.state.apply(ev.PodGone(("t", "m2")))
    engine.cycle(1001.0)

    assert {it.rule for it in engine.cycle(1601.5).evictions} == {"Gang"}
    assert rooms(engine) == []


def test_rooms_of_a_gang_whose_pods_go_one_by_one_are_no_victims() -> None:
    world = World().node("n", cpu=3)
    engine = holding(world.tenant("t"), 2)
    told(engine, world.gang("t", "g", 1, expected=(announced(2),)).pod("t", "more", on="n", group="g", cpu=1))
    gang = engine.state.gangs["t", "g"]

    assert gang.running == 2
    assert [victim_of(room, engine.state) for room in gang.phantoms] == [None]


def test_the_least_that_a_tenant_may_fall_short_by_is_a_gang_with_its_rooms() -> None:
    engine = holding(World().node("n", cpu=6).tenant("t"), 2, cpu=2)
    tenant, cpu = engine.state.forest.by_name["t"], engine.state.resources.column("cpu")

    assert SmallestUnits(engine.state).of(tenant, cpu) == 5000
