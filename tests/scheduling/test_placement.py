"""What placement keeps from one start to the next equals what it would find by looking at everything anew."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.nodes import PoolSpec
from allotment_scheduler.core.objects.pods import PodAffinityTerm, SchedulingSpec, SpreadConstraint
from allotment_scheduler.core.objects.selectors import LabelSelector, NodeSelectorTerm, Requirement
from allotment_scheduler.core.placement import score_matrix
from allotment_scheduler.core.placement.placer import Placer
from allotment_scheduler.core.state.cluster import ClusterState
from builders.scheduling import World

PEERS = LabelSelector((Requirement("app", "In", ("a",)),))
FAST = NodeSelectorTerm((Requirement("disk", "In", ("fast",)),))
KINDS = (
    SchedulingSpec(()),
    SchedulingSpec((), required_nodes=(FAST,)),
    SchedulingSpec((), preferred_nodes=((10, FAST),)),
    SchedulingSpec((), spread=(SpreadConstraint("zone", 1, hard=True, selector=PEERS),)),
    SchedulingSpec((), spread=(SpreadConstraint("zone", 1, hard=False, selector=PEERS),)),
    SchedulingSpec((), anti_affinity=(PodAffinityTerm("host", PEERS),)),
)
LATER = (
    SchedulingSpec((), anti_affinity=(PodAffinityTerm("zone", PEERS),)),
    SchedulingSpec((), preferred_anti_affinity=(PodAffinityTerm("host", PEERS, weight=5),)),
    SchedulingSpec((), host_ports=(("0.0.0.0", "TCP", 80),)),
    SchedulingSpec((), host_ports=(("10.0.0.1", "TCP", 80),)),
)
"""Kinds whose terms nobody knows of while the first pods start."""


@st.composite
def crowded_worlds(draw: st.DrawFn) -> World:
    """Clusters of a few uneven nodes, some overcommitted, and pods of many shapes and kinds."""
    world = World()
    for name in draw(st.sampled_from([[], ["p0", "p1"]])):
        selector = LabelSelector((Requirement("pool", "In", (name,)),))
        world.pool(PoolSpec(name, selector, placement=draw(st.sampled_from([None, "Pack", "Spread"]))))
    count = draw(st.integers(1, 8))
    for number in range(count):
        labels = {"zone": f"z{number % 3}", "host": f"n{number}", "disk": draw(st.sampled_from(["fast", "slow"]))}
        labels["pool"] = f"p{number % 2}"
        size = {"cpu": draw(st.integers(1, 9)), "memory": draw(st.integers(1, 9)), "gpu": draw(st.integers(0, 2))}
        world.node(f"n{number}", labels=labels, pods=draw(st.sampled_from([2, 100])), **size)
    for name in ("t0", "t1"):
        world.tenant(name)
    for number in range(draw(st.integers(1, 30))):
        world.pod(
            draw(st.sampled_from(["t0", "t1"])),
            f"p{number}",
            on=draw(st.sampled_from([None, None, None, f"n{number % count}"])),
            labels={"app": draw(st.sampled_from(["a", "b"]))},
            spec=draw(st.sampled_from(KINDS)),
            cpu=draw(st.integers(0, 4)),
            memory=draw(st.integers(0, 4)),
            gpu=draw(st.sampled_from([0, 0, 0, 1])),
        )
    return world


def assert_as_from_scratch(placer: Placer, state: ClusterState) -> None:
    """Every row that waiting pods may ask for knows the same best node and scores as one that was made just now."""
    afresh, wanted = Placer(state), state.lineup.row_keys()
    for key, row in [(key, row) for key, row in placer.rows.items() if key in wanted]:
        other = afresh.row(key)
        assert placer.feasible(row) == afresh.feasible(other), key
        assert placer.best(row) == afresh.best(other), key
        assert placer.slots(row) == int(afresh.slots_by_node(other).sum()), key
        assert np.array_equal(placer.matrix.scores(row), afresh.matrix.scores(other)), key
        assert (placer.best(row) >= 0) == placer.feasible(row) or row.minds, key


@pytest.mark.parametrize("idle", [1, 4096], ids=["rows leave at once", "rows stay"])
def test_what_is_kept_equals_what_is_found_anew(idle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_matrix, "_IDLE_CHANGES", idle)
    monkeypatch.setattr(score_matrix, "_KNOWN_FLOATS", 64)

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(crowded_worlds(), st.randoms(use_true_random=False))
    def judged(world: World, random) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - hypothesis' own random
        state = world.state()
        engine = Engine(state)
        for now in range(4):
            engine.cycle(world.clock + now, most_decisions=random.choice([1, 3, None]), claims=False)
            assert_as_from_scratch(engine.placer, state)
            for key in random.sample(sorted(state.pods), k=len(state.pods) // 3):
                state.apply(ev.PodGone(key))
            newcomer = World(clock=world.clock + now).pod(
                "t0", f"new{now}", cpu=1, labels={"app": "a"}, spec=random.choice((*KINDS, *LATER)),
                on=random.choice([None, *state.nodes.by_name]),
            )  # fmt: skip
            state.apply_all(newcomer.events)
            state.settle()
            assert_as_from_scratch(engine.placer, state)
            for pod in list(state.pods.values())[:2]:
                with state.trial() as trial:
                    if pod.node is not None:
                        trial.evict(pod)
                        assert_as_from_scratch(engine.placer, state)
            assert_as_from_scratch(engine.placer, state)

    judged()


def test_rows_that_lose_or_gain_their_only_node_are_reported() -> None:
    world = World().node("n0", cpu=4).tenant("t").pod("t", "small", cpu=1).pod("t", "large", cpu=3)
    state = world.state()
    placer = Engine(state).placer
    small, large = (placer.row(state.lineup.row_key(state.pods["t", name])) for name in ("small", "large"))
    placer.take_changes()

    state.occupy(state.pods["t", "small"], "n0")
    state.occupy(state.pods["t", "large"], "n0")
    assert placer.take_changes() == {small, large}

    state.vacate(state.pods["t", "small"])
    assert placer.take_changes() == {small}
    assert not placer.feasible(large)
