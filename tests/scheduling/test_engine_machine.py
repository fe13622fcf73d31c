"""The engine through a life of its own: whatever happens around it, in whatever order, its promises hold.

A state machine draws what a cluster does (pods come, end and leave, nodes fail and return, tenants and gangs change,
time passes) and lets the engine decide in between, with every brake on. After each cycle all invariants are checked; in
the end nothing changes any more, and the engine has to come to rest.
"""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import msgspec
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
from allotment_scheduler.core.decisions import Round
from allotment_scheduler.core.explanation.explain import Explainer
from allotment_scheduler.core.filters.volumes import ONE_POD
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.attachments import Claim, StorageClass, Volume
from allotment_scheduler.core.objects.nodes import PoolSpec
from allotment_scheduler.core.objects.pods import PodAffinityTerm, PodSpec, SchedulingSpec
from allotment_scheduler.core.objects.selectors import LabelSelector, NodeSelectorTerm, Requirement
from allotment_scheduler.core.objects.tenants import Bounds
from allotment_scheduler.core.objects.units import ExpectedMember
from allotment_scheduler.core.placement.seat_invariants import check_holds
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.invariants import check
from builders.promises import Promises, entitlement_is_as_from_scratch, rows_are_as_from_scratch
from builders.scheduling import World, amounts

POOLS = ("p", "q")
LEAVES = ("a", "b", "c")
GANGS = ("g", "h")
NODES = ("n0", "n1", "n2")
CLAIMS = ("data", "log")
VOLUMES = ("v0", "v1", "v2")
Amounts = tuple[dict[str, int], dict[str, dict[str, int]]]
WEIGHTS = st.sampled_from(["0", "0.5", "1", "2"])
BOUNDS: st.SearchStrategy[dict[str, int]] = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"cpu": st.integers(0, 6)}, optional={"gpu": st.integers(0, 2)}),
)
IN_POOLS: st.SearchStrategy[dict[str, dict[str, int]]] = st.one_of(
    st.just({}), st.dictionaries(st.sampled_from(POOLS), st.fixed_dictionaries({"cpu": st.integers(0, 4)}))
)
LONELY = SchedulingSpec(
    (), anti_affinity=(PodAffinityTerm("name", LabelSelector((Requirement("app", "In", ("x",)),))),)
)


class Cluster(RuleBasedStateMachine):
    """A small cluster, as the live scheduler would see it."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.now = 1000.0
        self.count = 0
        self.leaving: list[tuple[str, str]] = []

    @initialize(timed=st.booleans(), pooled=st.booleans(), live=st.booleans(), budget=st.sampled_from([None, 0, 1, 2]))
    def begin(self, timed: bool, pooled: bool, live: bool, budget: int | None) -> None:
        """Three nodes, maybe in two pools, a department with two tenants, and one beside it."""
        self.live = live
        for name, cpu in zip(NODES, (4, 6, 3), strict=True):
            pool = POOLS[name == "n2"]
            self.world.node(name, cpu=cpu, gpu=cpu // 3, labels={"name": name, **({"pool": pool} if pooled else {})})
            last = self.world.events[-1]
            assert isinstance(last, ev.NodeSeen)
            self.world.events[-1] = ev.NodeSeen(replace(last.spec, volume_limits={"csi": 2}))
        for pool, cost in zip(POOLS, ("1", "0.5"), strict=True):
            selector = LabelSelector((Requirement("pool", "In", (pool,)),))
            self.world.pool(PoolSpec(pool, selector, cost={"cpu": Fraction(cost)}))
        if budget is not None:
            spec = ev.BudgetSpec("a", "pdb", LabelSelector((Requirement("app", "In", ("x",)),)), max_unavailable=budget)
            self.world.events.append(ev.BudgetSeen(spec))
        self.world.events.append(ev.StorageSeen(StorageClass("fast", waits=True, driver="csi")))
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
            "never_preempts": st.sampled_from([False] * 5 + [True]), "app": st.sampled_from(["", "", "x", "lonely"]),
            "claims": st.sampled_from([(), (), (), ("data",), ("log",), ("data", "log")]),
        }),
    )  # fmt: skip
    def pods_come(
        self, leaf: str, count: int, group: str | None, asks: tuple[int, int], nature: dict[str, Any]
    ) -> None:
        self.world.clock = self.now
        more, kind = dict(nature), nature["owner_kind"]
        priority, cpu, gpu, app = more.pop("priority"), *asks, more.pop("app")
        claims = more.pop("claims")
        more |= {"owner": kind and f"{kind}-{leaf}", "recreated": bool(kind)}
        for _ in range(count):
            self.count += 1
            name, labels = f"p{self.count}", {"app": "x"} if app else {}
            spec = replace(LONELY if app == "lonely" else SchedulingSpec(()), claims=claims)
            made = {"group": group, "priority": priority, "labels": labels, "spec": spec, "more": {**more, "uid": name}}
            self.world.pod(leaf, name, cpu=cpu, gpu=gpu, **made)
            self.tell()

    @precondition(lambda self: self.engine.state.pods)
    @rule(number=st.integers(0, 99), succeeded=st.booleans())
    def a_pod_ends(self, number: int, succeeded: bool) -> None:
        pods = sorted(self.engine.state.pods)
        self.engine.state.apply(ev.PodGone(pods[number % len(pods)], succeeded=succeeded))

    @precondition(lambda self: self.engine.state.pods)
    @rule(number=st.integers(0, 99), grace=st.sampled_from([1.0, 30.0, 30.0, 300.0, 9000.0]))
    def a_pod_is_deleted(self, number: int, grace: float) -> None:
        """Somebody else deletes it; it may outstay its grace period, and end whenever it likes."""
        pod = sorted(self.engine.state.pods.items())[number % len(self.engine.state.pods)][1]
        if pod.node is not None and not pod.spec.deleting:
            seen = msgspec.structs.replace(pod.spec, node=pod.node, deleting=True, ends=self.now + grace)
            self.engine.state.apply(ev.PodSeen(seen))
            self.leaving.append(pod.key)

    @precondition(lambda self: self.leaving)
    @rule(number=st.integers(0, 99), every=st.booleans())
    def who_leaves_has_gone(self, number: int, every: bool) -> None:
        gone = self.leaving if every else [self.leaving[number % len(self.leaving)]]
        self.leaving = [key for key in self.leaving if key not in gone]
        for key in gone:
            self.engine.state.apply(ev.PodGone(key))

    @rule(name=st.sampled_from(NODES), ready=st.booleans(), unschedulable=st.booleans())
    def a_node_changes(self, name: str, ready: bool, unschedulable: bool) -> None:
        spec = next(it.spec for it in self.world.events if isinstance(it, ev.NodeSeen) and it.spec.name == name)
        self.engine.state.apply(ev.NodeSeen(replace(spec, ready=ready, unschedulable=unschedulable)))

    @rule(
        name=st.sampled_from(["dep", *LEAVES]), weight=WEIGHTS, limits=st.tuples(BOUNDS, IN_POOLS),
        guaranteed=st.tuples(BOUNDS, IN_POOLS), suspended=st.sampled_from([False] * 5 + [True]),
    )  # fmt: skip
    def a_tenant_changes(self, name: str, weight: str, limits: Amounts, guaranteed: Amounts, suspended: bool) -> None:
        before = self.engine.state.tenant_specs[name]
        bounds = [
            Bounds(amounts(**total), {pool: amounts(**each) for pool, each in pools.items()})
            for total, pools in (guaranteed, limits)
        ]
        made = replace(before, weight=Fraction(weight), guaranteed=bounds[0], limits=bounds[1], suspended=suspended)
        self.engine.state.apply(ev.TenantSeen(made))

    @rule(
        leaf=st.sampled_from(LEAVES), name=st.sampled_from(GANGS), minimum=st.integers(1, 4),
        priority=st.sampled_from([None, 0, 1, 3]), expected=st.sampled_from([0, 0, 1, 2]),
    )  # fmt: skip
    def a_gang_changes(self, leaf: str, name: str, minimum: int, priority: int | None, expected: int = 0) -> None:
        template = PodSpec(leaf, "member", SchedulingSpec((("cpu", 1000),)), labels=(), group=name)
        coming = (ExpectedMember("executor", expected, template),) if 0 < expected < minimum else ()
        self.world.gang(leaf, name, minimum, priority=priority, expected=coming)
        self.tell()

    @rule(
        leaf=st.sampled_from(LEAVES), name=st.sampled_from(GANGS), minimum=st.integers(1, 2), beyond=st.integers(1, 3),
        priority=st.sampled_from([None, 0, 2]),
    )  # fmt: skip
    def an_elastic_gang_grows(self, leaf: str, name: str, minimum: int, beyond: int, priority: int | None) -> None:
        """More pods than the gang needs come at once."""
        self.a_gang_changes(leaf, name, minimum, priority)
        plain = {"preemptible": True, "max_runtime": None, "owner_kind": "Job", "priority": 0, "app": "", "claims": ()}
        self.pods_come(leaf, minimum + beyond, name, (1, 0), plain)

    @rule(
        leaf=st.sampled_from(LEAVES), name=st.sampled_from(CLAIMS), gone=st.sampled_from([False] * 3 + [True]),
        claim=st.builds(
            Claim, st.just(""), st.just(""), storage_class=st.sampled_from(["fast", "fast", None]),
            volume=st.sampled_from([None, None, *VOLUMES]), awaits=st.sampled_from([None, None, None, *VOLUMES]),
            request=st.integers(0, 2), access_modes=st.sampled_from([(), (), (ONE_POD,)]), uid=st.sampled_from("12"),
            selected_node=st.sampled_from([None, None, None, "n1"]), lost=st.sampled_from([False] * 9 + [True]),
            not_made_on=st.sampled_from([frozenset[str](), frozenset({"n0"})]),
        ),
    )  # fmt: skip
    def a_claim_changes(self, leaf: str, name: str, gone: bool, claim: Claim) -> None:
        made = replace(claim, namespace=leaf, name=name, awaits=None if claim.volume else claim.awaits)
        self.engine.state.apply(ev.StorageGone(made) if gone else ev.StorageSeen(made))

    @rule(
        gone=st.sampled_from([False] * 3 + [True]),
        volume=st.builds(
            Volume, st.sampled_from(VOLUMES), storage_class=st.sampled_from(["fast", "fast", None]),
            capacity=st.integers(0, 3), claimed_by_uid=st.sampled_from(["", "", "1"]),
            claimed_by=st.one_of(st.none(), st.tuples(st.sampled_from(LEAVES), st.sampled_from(CLAIMS))),
            nodes=st.sampled_from([None, (NodeSelectorTerm((Requirement("name", "In", ("n0", "n2")),)),)]),
            driver=st.sampled_from([None, "csi"]), handle=st.sampled_from("xy"), available=st.booleans(),
        ),
    )  # fmt: skip
    def a_volume_changes(self, gone: bool, volume: Volume) -> None:
        self.engine.state.apply(ev.StorageGone(volume) if gone else ev.StorageSeen(volume))

    @rule(waits=st.booleans(), provisions=st.booleans())
    def a_storage_class_changes(self, waits: bool, provisions: bool) -> None:
        self.engine.state.apply(ev.StorageSeen(StorageClass("fast", waits, provisions, driver="csi")))

    # --- what it decides -----------------------------------------------------------------------------------------

    @rule(passes=st.sampled_from([1.0, 1.0, 61.0, 400.0, 4000.0]), most=st.sampled_from([None, None, 1]))
    def it_decides(self, passes: float, most: int | None) -> None:
        self.now += passes
        self.cycle(most)

    def cycle(self, most: int | None = None) -> Round:
        """One cycle, with everything that has to hold of it."""
        state = self.engine.state
        promises = Promises.before(state)
        done = self.engine.cycle(self.now, most_decisions=most)
        check(state)
        check_holds(self.engine.holds)
        promises.hold(done, state)
        rows_are_as_from_scratch(self.engine)
        entitlement_is_as_from_scratch(self.engine)
        if self.live:
            self.follow(done)
        return done

    def follow(self, done: Round) -> None:
        """Evicted pods begin to leave; those that somebody owns come back as new ones, which is no change of demand."""
        state = self.engine.state
        for evict in done.evictions:
            gone, version = state.pods[evict.pod].spec, state.demand_version
            state.apply(ev.PodLeaving(evict.pod, evict.node))
            self.leaving.append(evict.pod)
            if gone.owner:
                self.count += 1
                name = f"p{self.count}"
                state.apply(ev.PodSeen(msgspec.structs.replace(gone, name=name, uid=name, node=None, started=None)))
                assert state.demand_version == version
                assert state.is_spent(state.pods[gone.namespace, name])

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
            if self.leaving:
                self.who_leaves_has_gone(0, True)
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
