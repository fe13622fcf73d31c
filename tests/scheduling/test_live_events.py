"""What only happens live: starts that come to nothing, evicted pods that take their time to go."""

import pytest
from msgspec.structs import replace

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import SchedulingSpec, SpreadConstraint
from allotment_scheduler.core.objects.selectors import LabelSelector, Requirement
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.core.state.invariants import check
from builders.scheduling import World


def engine_of(world: World) -> Engine:
    state = ClusterState()
    state.apply_all(world.events)
    return Engine(state)


def crowded() -> Engine:
    """One node of one core, held by a pod of low priority, wanted by one of high priority."""
    world = World().node("n", cpu=1).tenant("t")
    world.pod("t", "low", on="n", cpu=1).pod("t", "high", priority=5, cpu=1)
    return engine_of(world)


def test_a_forgotten_start_waits_again_in_its_old_place() -> None:
    engine = engine_of(World().node("n", cpu=1).tenant("t").pod("t", "a", cpu=1).pod("t", "b", cpu=1))
    state = engine.state
    assert [start.pod for start in engine.cycle(1.0).starts] == [("t", "a")]
    version = state.demand_version
    state.apply(ev.StartForgotten(("t", "a")))
    check(state)
    assert state.demand_version == version
    assert [start.pod for start in engine.cycle(2.0).starts] == [("t", "a")]


def test_a_gang_whose_start_came_to_nothing_waits_as_a_gang() -> None:
    world = World().nodes(2, cpu=1).tenant("t").gang("t", "g", 2)
    world.pod("t", "a", group="g", cpu=1).pod("t", "b", group="g", cpu=1)
    engine = engine_of(world)
    assert len(engine.cycle(1.0).starts) == 2
    for name in "ab":
        engine.state.apply(ev.StartForgotten(("t", name)))
    check(engine.state)
    assert len(engine.cycle(2.0).starts) == 2


@pytest.mark.parametrize("event", [ev.StartForgotten(("t", "low")), ev.StartForgotten(("t", "nobody"))])
def test_only_starts_of_ours_can_be_forgotten(event: ev.Event) -> None:
    state = crowded().state
    state.settle()
    state.apply(event)
    check(state)
    assert state.pods["t", "low"].node == "n"


def test_an_evicted_pod_holds_its_room_until_it_is_gone() -> None:
    engine = crowded()
    state = engine.state
    done = engine.cycle(10.0)
    [eviction] = done.evictions
    assert (eviction.pod, eviction.node) == (("t", "low"), "n")
    version = state.demand_version
    state.apply(ev.PodLeaving(eviction.pod, eviction.node))
    check(state)
    assert state.nodes.free[state.resources.column("cpu"), 0] == -1000
    assert not engine.cycle(11.0)
    state.apply(ev.PodGone(eviction.pod))
    check(state)
    assert state.nodes.free[state.resources.column("cpu"), 0] == 0
    assert state.demand_version == version


def test_what_the_watch_tells_of_a_leaving_pod_changes_no_demand() -> None:
    engine = crowded()
    state = engine.state
    before = state.pods["t", "low"].spec
    [eviction] = engine.cycle(10.0).evictions
    state.apply(ev.PodLeaving(eviction.pod, eviction.node))
    version = state.demand_version
    state.apply(ev.PodSeen(replace(before, deleting=True)))
    check(state)
    assert state.demand_version == version
    state.apply(ev.PodGone(eviction.pod))
    assert state.demand_version == version


def test_events_of_our_own_are_taken_while_nodes_change() -> None:
    engine = crowded()
    state = engine.state
    [eviction] = engine.cycle(10.0).evictions
    state.apply(ev.NodeGone("n"))
    state.apply(ev.PodLeaving(eviction.pod, eviction.node))
    state.apply(ev.StartForgotten(("t", "high")))
    check(state)
    assert state.pods["t", "high"].node is None


def test_nodes_may_change_after_everyone_of_a_kind_has_started() -> None:
    world = World().node("n", cpu=2).tenant("t").pod("t", "a", cpu=1)
    engine = engine_of(world)
    assert len(engine.cycle(1.0).starts) == 1
    later = World(clock=5.0).node("m", cpu=2).tenant("u").pod("u", "b", memory=0, cpu=2)
    engine.state.apply_all(later.events)
    assert [start.node for start in engine.cycle(2.0).starts] == ["m"]
    check(engine.state)


def spread_over(key: str, value: str) -> SchedulingSpec:
    """One that is spread among pods with this label."""
    selector = LabelSelector((Requirement(key, "In", (value,)),))
    return SchedulingSpec((), spread=(SpreadConstraint("zone", 1, hard=True, selector=selector),))


@pytest.mark.parametrize(
    ("minding", "want_untouched"),
    [
        pytest.param(SchedulingSpec(()), True, id="nobody minds other pods"),
        pytest.param(spread_over("app", "a"), True, id="somebody minds another label"),
        pytest.param(spread_over("zone", "z1"), False, id="somebody minds the zone's label"),
    ],
)
def test_a_binding_comes_back_with_its_nodes_zone_and_changes_nothing_unless_somebody_minds(
    minding: SchedulingSpec, want_untouched: bool
) -> None:
    world = World().node("n", cpu=8, labels={"zone": "z1"}).tenant("t")
    world.pod("t", "a", cpu=1, labels={"app": "a"}).pod("t", "minding", cpu=100, spec=minding)
    engine = engine_of(world)
    state = engine.state
    assert [start.pod for start in engine.cycle(1.0).starts] == [("t", "a")]
    known, version = state.pods["t", "a"], state.demand_version
    bound = replace(known.spec, node="n", labels=(("app", "a"), ("zone", "z1")))
    state.apply(ev.PodSeen(bound))
    check(state)
    seen = state.pods["t", "a"]
    assert seen.spec == bound
    assert seen.labels.labels == {"app": "a", "zone": "z1"}
    assert state.running.flush().labels[seen.slot] == seen.labels.id
    assert (seen is known, state.demand_version == version) == (want_untouched, want_untouched)
    assert not engine.cycle(2.0).starts


def test_a_pod_that_is_spared_is_no_victim_and_neither_is_its_gang() -> None:
    world = World().node("n", cpu=2).tenant("t").gang("t", "g", 2)
    for name in ("one", "two"):
        world.pod("t", name, on="n", cpu=1, group="g")
    engine = Engine(world.pod("t", "high", cpu=1, priority=9).state())
    spec = engine.state.pods["t", "one"].spec
    engine.state.apply(ev.PodSeen(replace(spec, spared=True)))
    assert not engine.cycle(10.0)

    engine.state.apply(ev.PodSeen(replace(spec, spared=False)))
    assert {evict.pod[1] for evict in engine.cycle(11.0).evictions} == {"one", "two"}
    check(engine.state)


def test_a_pod_that_comes_long_after_its_owners_eviction_is_no_replacement() -> None:
    state = crowded().state
    turns = state.population.turns
    for owner in ("soon", "late"):
        turns.owners_evicted[owner] = (1, 1000.0)
    known = state.pods["t", "high"].spec
    state.now, version = 2000.0, state.demand_version
    state.apply(ev.PodSeen(replace(known, name="soon", uid="soon", owner="soon")))
    assert state.demand_version == version
    assert state.is_spent(state.pods["t", "soon"])
    state.now = 9000.0
    state.apply(ev.PodSeen(replace(known, name="late", uid="late", owner="late")))
    assert state.demand_version > version
    assert not state.is_spent(state.pods["t", "late"])

    assert state.pods["t", "soon"].arrival[0] > 0
    assert state.pods["t", "late"].arrival[0] == 0
    assert turns.owners_evicted == {}


def test_owners_that_never_replace_what_was_evicted_are_forgotten() -> None:
    state = crowded().state
    turns = state.population.turns
    turns.owners_evicted = {f"owner-{number}": (1, float(number)) for number in range(5000)}
    state.now = 4000.0 + 3600.0
    state.apply(ev.RoundEnded())

    assert set(turns.owners_evicted) == {f"owner-{number}" for number in range(4000, 5000)}
