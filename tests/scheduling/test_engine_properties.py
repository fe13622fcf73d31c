"""Properties of the whole engine on random small clusters: trees, weights, limits, guarantees, gangs, priorities."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.decisions import Evict, Start
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.units import Gang
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.simulate import run_to_fixpoint
from allotment_scheduler.core.state.invariants import above_limits, check, overcommitted
from builders.scheduling import World
from builders.worlds import worlds

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def gang_sizes(gangs: dict[tuple[str, str], Gang]) -> dict[tuple[str, str], int]:
    return {key: gang.running for key, gang in gangs.items()}


@SETTINGS
@given(worlds())
def test_a_simulation_ends_within_every_bound(world: World) -> None:
    state = world.state()
    crowded, above = set(overcommitted(state)), set(above_limits(state))
    before = gang_sizes(state.gangs)
    engine = Engine(state)

    outcome = run_to_fixpoint(engine, world.clock)

    check(state)
    assert set(overcommitted(state)) <= crowded
    assert set(above_limits(state)) <= above
    for key, gang in state.gangs.items():
        cut = 0 < gang.running < gang.min_member
        assert not cut or gang.running == before[key], f"{key} runs {gang.running} of {gang.min_member}"
    for done in outcome.rounds:
        started = {start.pod for start in done.starts}
        assert {evict.claimant for evict in done.evictions} <= started, "evicted in vain"
    assert not engine.cycle(world.clock), "the fixpoint is stable"


@settings(SETTINGS, max_examples=25)
@given(worlds())
def test_with_time_and_no_change_of_demand_evictions_reach_zero(world: World) -> None:
    engine = Engine(world.state(), Settings(least_runtime=0.0, backoff=1.0))

    evictions = [len(engine.cycle(world.clock + 3600.0 * hour).evictions) for hour in range(30)]

    assert not any(evictions[-10:]), evictions


@SETTINGS
@given(worlds())
def test_guaranteed_use_is_never_taken(world: World) -> None:
    """Replay the decisions one by one: before an eviction across tenants the victim's side exceeds its guarantee."""
    final = run_to_fixpoint(Engine(world.state()), world.clock)
    state = world.state()
    whole: Gang | None = None  # a gang that goes as one step, pod by pod
    for done in final.rounds:
        for decision in done.decisions:
            match decision:
                case Evict(pod=key, claimant=by, rule=rule):
                    victim, claimant, gang = state.pods[key].leaf, state.pods[by].leaf, state.pods[key].gang
                    assert victim is not None
                    assert claimant is not None
                    if rule == "P":
                        assert victim is claimant
                        assert state.pods[key].priority < state.pods[by].priority
                    elif gang is None or gang is not whole:
                        theirs = next(t for t in victim.path if t.parent in (*claimant.path, state.forest.root))
                        assert any(
                            theirs.used[c] > (theirs.guaranteed or {}).get(c, 0) for c, _ in state.pods[by].klass.asks
                        )
                    whole = gang if gang is not None and gang.running <= gang.min_member else None
                    state.apply(ev.PodEvicted(key))
                case Start(pod=key, node=node):
                    state.apply(ev.PodStarted(key, node))
        state.apply(ev.RoundEnded())


@SETTINGS
@given(worlds(), st.randoms(use_true_random=False))
def test_incremental_state_equals_state_from_scratch(world: World, random) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - hypothesis' own random
    state = world.state()
    engine = Engine(state)
    for event in list(world.events):
        if isinstance(event, ev.PodSeen) and random.random() < 0.3:
            state.apply(ev.PodGone(event.spec.key))
            check(state)
            state.apply(event)
        if random.random() < 0.1:
            engine.cycle(world.clock)
    check(state)


@SETTINGS
@given(worlds())
def test_decisions_do_not_depend_on_names_of_nodes_order_of_events_or_units(world: World) -> None:
    first = world.run()
    scaled = World(list(world.events), world.clock)
    structure = [e for e in scaled.events if not isinstance(e, ev.PodSeen)]
    pods = [e for e in scaled.events if isinstance(e, ev.PodSeen)]
    scaled.events = [*pods, *reversed(structure)]
    second = scaled.run()
    assert [d for done in first.outcome.rounds for d in done.decisions] == [
        d for done in second.outcome.rounds for d in done.decisions
    ]
