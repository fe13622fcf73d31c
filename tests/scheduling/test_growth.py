"""What is kept follows what waits, not what has ever waited."""

from dataclasses import replace
from fractions import Fraction

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.core.state.invariants import check
from builders.scheduling import World, start_as_decided


def test_shapes_and_rows_of_what_is_gone_are_forgotten() -> None:
    world = World().nodes(2, cpu=4).tenant("t")
    engine = Engine(world.state())
    for wave in range(4):
        for number in range(300):
            world.pod("t", f"p{wave}-{number}", memory=1 + wave * 300 + number)
        engine.state.apply_all(world.events[-300:])
        engine.cycle(float(wave))
        for number in range(300):
            engine.state.apply(ev.PodGone(("t", f"p{wave}-{number}")))
    engine.cycle(10.0)

    assert len(engine.placer.rows) <= 900
    assert sum(len(queue.lanes) for queue in engine.state.queues.values()) <= 900
    check(engine.state)


def test_many_shapes_at_once_are_decided_as_from_scratch() -> None:
    world = World().nodes(8, cpu=40, memory=10**6).tenant("a").tenant("b")
    engine = Engine(world.state())
    for wave in range(3):
        for number in range(300):
            world.pod("ab"[number % 2], f"p{wave}-{number}", cpu=1, memory=1 + wave * 300 + number)
        engine.state.apply_all(world.events[-300:])
        engine.cycle(1.0, most_decisions=40)
    engine.cycle(1.0)

    fresh = ClusterState()
    fresh.apply_all(event for event in world.events if not isinstance(event, ev.PodSeen))
    fresh.apply_all(ev.PodSeen(pod.spec) for pod in engine.state.pods.values())
    start_as_decided(fresh, {key: pod.node for key, pod in engine.state.pods.items() if pod.node is not None})
    check(fresh)
    again = Engine(fresh)
    for round_ in range(3):
        freed = next(key for key, pod in engine.state.pods.items() if pod.node is not None and key[1].startswith("p0"))
        for each in (engine, again):
            each.state.apply(ev.PodGone(freed))
        assert engine.cycle(2.0 + round_).starts == again.cycle(2.0 + round_).starts
    check(engine.state)


def test_a_spent_unit_claims_again_once_demand_has_changed() -> None:
    world = World().node("n", cpu=4).tenant("a").tenant("b").pods("a", 4, "a", on="n", cpu=1).pods("b", 2, "b", cpu=1)
    engine = Engine(world.state())
    assert [evict.rule for evict in engine.cycle(1.0).evictions] == ["R2", "R2"]
    evicted = [pod for pod in engine.state.pods.values() if pod.node is None]
    assert len(evicted) == 2
    assert all(map(engine.state.is_spent, evicted))
    assert not engine.cycle(2.0), "our own starts and evictions change no demand"
    assert all(map(engine.state.is_spent, evicted))

    heavier = replace(engine.state.tenant_specs["a"], weight=Fraction(3))
    engine.state.apply(ev.TenantSeen(heavier))

    assert not any(map(engine.state.is_spent, evicted))
    done = engine.cycle(3.0)
    assert [(evict.pod[0], evict.rule) for evict in done.evictions] == [("b", "R2")]
    assert [start.pod[0] for start in done.starts] == ["a"]
