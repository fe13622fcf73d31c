"""Members of a gang that are being deleted: they hold their room, and their gang counts on them no longer."""

import pytest
from msgspec.structs import replace

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.decisions import Round
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import PodSpec, SchedulingSpec
from allotment_scheduler.core.objects.units import ExpectedMember
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.invariants import check
from builders.scheduling import World, amounts

CORE = SchedulingSpec(tuple(sorted(amounts(cpu=1).items())))


def engine_of(world: World) -> Engine:
    return Engine(world.state(), Settings(least_runtime=0.0, gang_recovery=600.0))


def started(done: Round) -> set[str]:
    return {start.pod[1] for start in done.starts}


def tell(engine: Engine, world: World) -> None:
    """What the world has gained since it was last told."""
    engine.state.apply_all(world.events)
    world.events.clear()


def leave(engine: Engine, *names: str) -> None:
    """Somebody deletes these pods, which take their time."""
    for name in names:
        spec = engine.state.pods["t", name].spec
        node = engine.state.pods["t", name].node
        engine.state.apply(ev.PodSeen(replace(spec, node=node, deleting=True)))


def gang(minimum: int, count: int, *, nodes: int) -> World:
    """A gang that runs, each member on a node of its own."""
    world = World().nodes(nodes, cpu=1).tenant("t").gang("t", "g", minimum)
    for number in range(count):
        world.pod("t", f"m{number}", on=f"n{number:02}", group="g", cpu=1, more={"owner": "o"})
    return world


def test_the_next_members_of_a_gang_that_leaves_as_a_whole_start_together() -> None:
    world = gang(4, 4, nodes=7)
    engine = engine_of(world)
    engine.cycle(1000)
    world.events.clear()
    leave(engine, "m0", "m1", "m2", "m3")
    tell(engine, world.pods("t", 4, "next", group="g", cpu=1))

    assert started(engine.cycle(1010)) == set(), "there is room for three"
    engine.state.apply(ev.PodGone(("t", "m0")))
    assert len(started(engine.cycle(1020))) == 4
    check(engine.state)


def test_evicted_members_that_leave_one_by_one_are_not_replaced_one_by_one() -> None:
    world = gang(3, 3, nodes=4)
    engine = engine_of(world)
    engine.cycle(1000)
    world.events.clear()
    places = {pod.key: pod.node or "" for pod in engine.state.pods.values()}
    engine.state.apply_all(ev.PodEvicted(key) for key in places)
    engine.state.apply(ev.RoundEnded())
    engine.state.apply_all(ev.PodLeaving(key, node) for key, node in places.items())
    for number in range(2):
        engine.state.apply(ev.PodGone(("t", f"m{number}")))
        tell(engine, world.pod("t", f"next{number}", group="g", cpu=1, more={"owner": "o"}))
        assert started(engine.cycle(1010)) == set()
    engine.state.apply(ev.PodGone(("t", "m2")))
    tell(engine, world.pod("t", "next2", group="g", cpu=1, more={"owner": "o"}))

    assert started(engine.cycle(1020)) == {"next0", "next1", "next2"}
    check(engine.state)


def test_one_member_that_leaves_is_replaced_by_one() -> None:
    world = gang(3, 3, nodes=4)
    engine = engine_of(world)
    engine.cycle(1000)
    world.events.clear()
    leave(engine, "m1")
    tell(engine, world.pod("t", "next", group="g", cpu=1))

    assert started(engine.cycle(1010)) == {"next"}


@pytest.mark.parametrize("rule", ["P", "R1"])
def test_a_gang_is_not_cut_while_others_of_it_leave(rule: str) -> None:
    """Scaled from six to four: what leaves anyhow is nobody that the gang could spare, and not room enough."""
    world = World().node("n", cpu=6).tenant("t").tenant("u", guaranteed={"cpu": 3})
    world.gang("t", "g", 6).pods("t", 6, "m", on="n", group="g", cpu=1, more={"owner": "o"})
    engine = engine_of(world)
    engine.cycle(1000)
    world.events.clear()
    tell(engine, world.gang("t", "g", 4))
    leave(engine, "m4", "m5")

    tell(engine, world.pod("t", "claimant", cpu=3, priority=9) if rule == "P" else world.pod("u", "claimant", cpu=3))
    done = engine.cycle(1010)

    assert {(evict.pod[1], evict.rule) for evict in done.evictions} == {(f"m{number}", rule) for number in range(4)}
    check(engine.state)


def test_who_stood_first_on_a_node_and_leaves_hides_no_gang_from_claimants() -> None:
    world = World().node("n", cpu=3).tenant("t").gang("t", "g", 2)
    world.pods("t", 3, "m", on="n", group="g", cpu=1, more={"owner": "o"})
    engine = engine_of(world)
    engine.cycle(1000)
    world.events.clear()
    leave(engine, "m0")
    tell(engine, world.pod("t", "claimant", cpu=2, priority=9))

    assert [evict.pod[1] for evict in engine.cycle(1010).evictions] == ["m2", "m1"]


def test_a_gang_is_short_of_who_leaves_from_the_beginning() -> None:
    """On a node that nobody hears of any more a pod leaves for ever."""
    world = gang(3, 3, nodes=3)
    engine = engine_of(world)
    engine.cycle(1000)
    engine.cycle(1001)
    leave(engine, "m0")
    engine.cycle(1010)

    assert not engine.cycle(1600).evictions
    assert [evict.pod[1] for evict in engine.cycle(1611).evictions] == ["m2", "m1"]


def test_pods_that_turn_out_to_be_of_another_gang_are_counted_there_only() -> None:
    """A Job that is made anew under its name: its old pods are nobody's."""
    world = gang(2, 2, nodes=3)
    engine = engine_of(world)
    engine.cycle(1000)
    world.events.clear()
    tell(engine, world.pods("t", 2, "next", group="g", cpu=1))
    for name in ("m0", "m1"):
        pod = engine.state.pods["t", name]
        engine.state.apply(ev.PodSeen(replace(pod.spec, node=pod.node, group=None)))

    assert started(engine.cycle(1010)) == set(), "one of the two would fit"
    engine.state.apply(ev.PodGone(("t", "m0")))
    assert started(engine.cycle(1020)) == {"next0", "next1"}
    check(engine.state)


@pytest.mark.parametrize(
    "change",
    [{"deleting": True}, {"checkpointed": 1005.0}, {"spared": True}, {"max_runtime": 60.0}],
    ids=lambda change: next(iter(change)),
)
def test_a_member_that_has_its_room_and_changes_takes_nobody_elses(change: dict[str, object]) -> None:
    template = ExpectedMember("x", 2, PodSpec("t", "g/x", CORE, group="g"))
    world = World().node("n", cpu=3).tenant("t").gang("t", "g", 3, expected=(template,))
    engine = engine_of(world.pod("t", "driver", group="g", cpu=1))
    engine.cycle(1000)
    world.events.clear()
    tell(engine, world.pod("t", "x0", group="g", cpu=1))
    assert started(engine.cycle(1001)) == {"x0"}

    pod = engine.state.pods["t", "x0"]
    engine.state.apply(ev.PodSeen(replace(pod.spec, node="n", **change)))

    assert len(engine.state.gangs["t", "g"].phantoms) == 1
    check(engine.state)


def test_a_member_that_another_has_bound_takes_its_room_whenever_that_is_told() -> None:
    """Also while the layout is out of date."""
    template = ExpectedMember("x", 1, PodSpec("t", "g/x", CORE, group="g"))
    world = World().node("n", cpu=3).tenant("t").gang("t", "g", 2, expected=(template,))
    engine = engine_of(world.pod("t", "driver", group="g", cpu=1))
    engine.cycle(1000)
    world.events.clear()
    tell(engine, world.node("n2", cpu=1).pod("t", "x0", on="n", group="g", cpu=1))
    assert engine.state.stale

    assert not engine.state.gangs["t", "g"].phantoms
    check(engine.state)


def test_what_stays_of_a_gang_that_was_evicted_in_part_is_let_go() -> None:
    world = World().nodes(3, cpu=1).tenant("t").gang("t", "g", 3).gang("t", "c", 3)
    for number in range(3):
        world.pod("t", f"m{number}", on=f"n{number:02}", group="g", cpu=1)
    engine = engine_of(world.pods("t", 3, "c", group="c", cpu=1, priority=5))
    done = engine.cycle(1000)
    assert len(done.evictions) == 3
    for evict in done.evictions:
        engine.state.apply(ev.PodLeaving(evict.pod, evict.node))
    engine.cycle(1001)
    for number in range(3):  # the claimant is deleted before the second eviction is asked for
        engine.state.apply(ev.PodGone(("t", f"c{number}")))
    for name in ("m1", "m2"):
        engine.state.apply(ev.PodStays(("t", name)))
        engine.state.apply(ev.PodSeen(replace(engine.state.pods["t", name].spec, deleting=False)))
    engine.state.apply(ev.PodGone(("t", "m0")))
    assert not engine.cycle(1002)
    assert not engine.cycle(1500)
    assert {evict.pod[1] for evict in engine.cycle(1602).evictions} == {"m1", "m2"}
    check(engine.state)


def test_room_for_members_that_were_announced_goes_with_the_last_whom_we_evict() -> None:
    template = ExpectedMember("x", 1, PodSpec("t", "g/x", CORE, group="g"))
    world = World().node("n", cpu=3).tenant("t").gang("t", "g", 3, expected=(template,))
    engine = engine_of(world.pods("t", 2, "m", group="g", cpu=1))
    engine.cycle(1000)
    held = []
    for number in range(2):
        held.append(len(engine.state.gangs["t", "g"].phantoms))
        spec = engine.state.pods["t", f"m{number}"].spec
        engine.state.apply(ev.PodSeen(replace(spec, node="n", started=1000.0)))
        engine.state.apply(ev.PodEvicted(("t", f"m{number}")))
        engine.state.apply(ev.PodLeaving(("t", f"m{number}"), "n"))
    assert held == [1, 1]
    assert not engine.state.gangs["t", "g"].phantoms
    engine.state.apply(ev.RoundEnded())
    engine.cycle(1001)
    check(engine.state)
