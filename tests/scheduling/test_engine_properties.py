"""Properties of the whole engine on random small clusters: trees, weights, limits, guarantees, gangs, priorities."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.invariants import check
from builders.promises import Promises
from builders.scheduling import World
from builders.worlds import worlds

MOST_ROUNDS = 200
SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@SETTINGS
@given(worlds(rich=True), st.sampled_from(["drf", "hdrf"]))
def test_a_simulation_keeps_every_promise_and_ends(world: World, policy: str) -> None:
    state = world.state(policy)
    engine = Engine(state)
    first = Promises.before(state)

    for _ in range(MOST_ROUNDS):
        promises = Promises.before(state)
        done = engine.cycle(world.clock)
        check(state)
        promises.hold(done, state)
        if not done:
            break
    else:
        pytest.fail("it does not end")
    assert not engine.cycle(world.clock), "it stays so"
    for key, gang in state.gangs.items():
        cut = 0 < gang.running < gang.min_member
        assert not cut or gang.running == first.gangs[key], f"{key} runs {gang.running} of {gang.min_member}"


@settings(SETTINGS, max_examples=25)
@given(worlds(rich=True), st.sampled_from(["drf", "hdrf"]))
def test_with_time_and_no_change_of_demand_evictions_reach_zero(world: World, policy: str) -> None:
    engine = Engine(world.state(policy), Settings(least_runtime=0.0, backoff=1.0))

    evictions = [len(engine.cycle(world.clock + 3600.0 * hour).evictions) for hour in range(30)]

    assert not any(evictions[-10:]), evictions


@SETTINGS
@given(worlds(rich=True), st.randoms(use_true_random=False))
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
