"""The engine through a life of its own: whatever happens around it, in whatever order, its promises hold.

A state machine draws what a cluster does (pods come, end and leave, nodes fail and return, tenants and gangs change,
time passes) and lets the engine decide in between, with every brake on. After each cycle all invariants are checked; in
the end nothing changes any more, and the engine has to come to rest.
"""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.decisions import Evict, Round, Start
from allotment_scheduler.core.eviction.rules import GANG
from allotment_scheduler.core.explanation.explain import Explainer
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.tenants import Bounds
from allotment_scheduler.core.placement.seat_invariants import check_holds
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.invariants import above_limits, check, overcommitted
from builders.scheduling import World, amounts

LEAVES = ("a", "b", "c")
GANGS = ("g", "h")
NODES = ("n0", "n1", "n2")
WEIGHTS = st.sampled_from(["0", "0.5", "1", "2"])
BOUNDS: st.SearchStrategy[dict[str, int]] = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"cpu": st.integers(0, 6)}, optional={"gpu": st.integers(0, 2)}),
)


class Cluster(RuleBasedStateMachine):
    """A small cluster, as the live scheduler would see it."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.now = 1000.0
        self.count = 0

    @initialize(timed=st.booleans())
    def begin(self, timed: bool) -> None:
        """Three nodes, a department with two tenants, and one beside it."""
        for name, cpu in zip(NODES, (4, 6, 3), strict=True):
            self.world.node(name, cpu=cpu, gpu=cpu // 3)
        self.world.inner("dep").tenant("a", "dep").tenant("b", "dep").tenant("c")
        for leaf in LEAVES:
            self.world.gang(leaf, "g", 2).gang(leaf, "h", 3)
        self.engine = Engine(self.world.state(), Settings(least_runtime=60.0) if timed else None)

    def tell(self) -> None:
        """Let the engine know what was built last."""
        self.engine.state.apply(self.world.events[-1])

    # --- what happens around it ----------------------------------------------------------------------------------

    @rule(
        leaf=st.sampled_from(LEAVES), count=st.integers(1, 3), group=st.sampled_from([None, None, *GANGS]),
        asks=st.tuples(st.integers(0, 3), st.sampled_from([0, 0, 1])),
        nature=st.fixed_dictionaries({
            "preemptible": st.sampled_from([True] * 4 + [False]), "max_runtime": st.sampled_from([None, 50.0, 4000.0]),
            "owner_kind": st.sampled_from(["", "StatefulSet", "Job"]), "priority": st.integers(0, 2),
        }),
    )  # fmt: skip
    def pods_come(
        self, leaf: str, count: int, group: str | None, asks: tuple[int, int], nature: dict[str, Any]
    ) -> None:
        self.world.clock = self.now
        more, kind = dict(nature), nature["owner_kind"]
        priority, cpu, gpu = more.pop("priority"), *asks
        more |= {"owner": kind and f"{kind}-{leaf}", "recreated": bool(kind)}
        for _ in range(count):
            self.count += 1
            self.world.pod(leaf, f"p{self.count}", group=group, priority=priority, cpu=cpu, gpu=gpu, more=more)
            self.tell()

    @precondition(lambda self: self.engine.state.pods)
    @rule(number=st.integers(0, 99), succeeded=st.booleans())
    def a_pod_ends(self, number: int, succeeded: bool) -> None:
        pods = sorted(self.engine.state.pods)
        self.engine.state.apply(ev.PodGone(pods[number % len(pods)], succeeded=succeeded))

    @rule(name=st.sampled_from(NODES), ready=st.booleans(), unschedulable=st.booleans())
    def a_node_changes(self, name: str, ready: bool, unschedulable: bool) -> None:
        spec = next(it.spec for it in self.world.events if isinstance(it, ev.NodeSeen) and it.spec.name == name)
        self.engine.state.apply(ev.NodeSeen(replace(spec, ready=ready, unschedulable=unschedulable)))

    @rule(
        name=st.sampled_from(["dep", *LEAVES]), weight=WEIGHTS, limits=BOUNDS, guaranteed=BOUNDS,
        suspended=st.sampled_from([False] * 5 + [True]),
    )  # fmt: skip
    def a_tenant_changes(
        self, name: str, weight: str, limits: dict[str, int], guaranteed: dict[str, int], suspended: bool
    ) -> None:
        before = self.engine.state.tenant_specs[name]
        bounds = Bounds(amounts(**guaranteed)), Bounds(amounts(**limits))
        made = replace(before, weight=Fraction(weight), guaranteed=bounds[0], limits=bounds[1], suspended=suspended)
        self.engine.state.apply(ev.TenantSeen(made))

    @rule(
        leaf=st.sampled_from(LEAVES), name=st.sampled_from(GANGS), minimum=st.integers(1, 4),
        priority=st.sampled_from([None, 0, 1, 3]),
    )  # fmt: skip
    def a_gang_changes(self, leaf: str, name: str, minimum: int, priority: int | None) -> None:
        self.world.gang(leaf, name, minimum, priority=priority)
        self.tell()

    @rule(
        leaf=st.sampled_from(LEAVES), name=st.sampled_from(GANGS), minimum=st.integers(1, 2), beyond=st.integers(1, 3),
        priority=st.sampled_from([None, 0, 2]),
    )  # fmt: skip
    def an_elastic_gang_grows(self, leaf: str, name: str, minimum: int, beyond: int, priority: int | None) -> None:
        """More pods than the gang needs come at once."""
        self.a_gang_changes(leaf, name, minimum, priority)
        plain = {"preemptible": True, "max_runtime": None, "owner_kind": "Job", "priority": 0}
        self.pods_come(leaf, minimum + beyond, name, (1, 0), plain)

    # --- what it decides -----------------------------------------------------------------------------------------

    @rule(passes=st.sampled_from([1.0, 1.0, 61.0, 400.0, 4000.0]), most=st.sampled_from([None, None, 1]))
    def it_decides(self, passes: float, most: int | None) -> None:
        self.now += passes
        self.cycle(most)

    def cycle(self, most: int | None = None) -> Round:
        """One cycle, with everything that has to hold of it."""
        state = self.engine.state
        state.settle()
        crowded, above = set(overcommitted(state)), set(above_limits(state))
        before = {key: gang.running for key, gang in state.gangs.items()}
        done = self.engine.cycle(self.now, most_starts=most)
        check(state)
        check_holds(self.engine.holds)
        assert not done.troubles
        assert set(overcommitted(state)) <= crowded
        assert set(above_limits(state)) <= above
        started = {decision.pod for decision in done.decisions if isinstance(decision, Start)}
        for decision in done.decisions:
            assert not isinstance(decision, Evict) or decision.rule == GANG or decision.claimant in started
        for key, gang in state.gangs.items():
            cut = 0 < gang.running < gang.min_member
            assert not cut or gang.running >= before[key], f"{key} was {before[key]}, is {gang.running}"
        return done

    @invariant()
    def everything_can_be_explained(self) -> None:
        if hasattr(self, "engine"):
            state = self.engine.state
            state.settle()
            explainer = Explainer(self.engine)
            assert all(explainer.why(pod).message for pod in state.waiting())

    def teardown(self) -> None:
        """When nothing changes any more, evictions and starts come to an end."""
        if not hasattr(self, "engine"):
            return
        for _ in range(40):
            self.now += 7200
            if not self.cycle() and not self.cycle():
                return
        raise AssertionError("the engine does not come to rest")


CHECKS = [HealthCheck.too_slow, HealthCheck.filter_too_much]


def lives(count: int, steps: int) -> None:
    given = settings(max_examples=count, stateful_step_count=steps, deadline=None, suppress_health_check=CHECKS)
    run_state_machine_as_test(Cluster, settings=given)


def test_short_lives() -> None:
    lives(8, 30)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_long_lives() -> None:
    lives(400, 60)
