"""Builders for scheduling tests: a small cluster in a few words.

`World` collects nodes, tenants, pods and gangs as core events and runs the engine over them. Amounts are small numbers:
`cpu=2` is two cores, `gpu=1` one device, `memory=3` three bytes, because only ratios matter.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.nodes import NodeSpec, PoolSpec
from allotment_scheduler.core.objects.pods import PodKey, PodSpec, SchedulingSpec
from allotment_scheduler.core.objects.tenants import Bounds, TenantSpec
from allotment_scheduler.core.objects.units import GroupSpec
from allotment_scheduler.core.simulate import Outcome, run_to_fixpoint
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.core.state.invariants import check

NAMES = {"gpu": "nvidia.com/gpu"}


def amounts(**given: int) -> dict[str, int]:
    """Amounts in units: cores to milli-CPU, the rest as it is."""
    return {NAMES.get(name, name): value * 1000 if name == "cpu" else value for name, value in given.items()}


@dataclass
class World:
    """A cluster under construction."""

    events: list[ev.Event] = field(default_factory=list)
    clock: float = 0.0

    def node(self, name: str, *, labels: dict[str, str] | None = None, pods: int = 1000, **given: int) -> "World":
        """A node of this size."""
        spec = NodeSpec(name, {**amounts(**given), "pods": pods}, labels or {})
        self.events.append(ev.NodeSeen(spec))
        return self

    def nodes(self, count: int, *, labels: dict[str, str] | None = None, **given: int) -> "World":
        """Nodes n00, n01, … of one size."""
        for number in range(count):
            self.node(f"n{number:02}", labels=labels, **given)
        return self

    def pool(self, spec: PoolSpec) -> "World":
        """A node pool."""
        self.events.append(ev.PoolSeen(spec))
        return self

    def tenant(
        self,
        name: str,
        parent: str = "",
        *,
        weight: str | int = 1,
        guaranteed: dict[str, int] | None = None,
        limits: dict[str, int] | None = None,
        suspended: bool = False,
        guaranteed_in: dict[str, dict[str, int]] | None = None,
        limits_in: dict[str, dict[str, int]] | None = None,
        **more: Any,
    ) -> "World":
        """A tenant with a namespace of its own name."""
        spec = TenantSpec(
            name,
            parent,
            Fraction(weight),
            Bounds(amounts(**(guaranteed or {})), {pool: amounts(**it) for pool, it in (guaranteed_in or {}).items()}),
            Bounds(amounts(**(limits or {})), {pool: amounts(**it) for pool, it in (limits_in or {}).items()}),
            suspended,
            (name,),
            **more,
        )
        self.events.append(ev.TenantSeen(spec))
        return self

    def inner(self, name: str, parent: str = "", **given: Any) -> "World":
        """A tenant without pods of its own."""
        self.tenant(name, parent, **given)
        made = self.events[-1]
        assert isinstance(made, ev.TenantSeen)
        self.events[-1] = ev.TenantSeen(replace(made.spec, namespaces=()))
        return self

    def pod(
        self,
        tenant: str,
        name: str,
        *,
        on: str | None = None,
        group: str | None = None,
        priority: int = 0,
        labels: dict[str, str] | None = None,
        spec: SchedulingSpec | None = None,
        more: dict[str, Any] | None = None,
        **given: int,
    ) -> "World":
        """A pod, running if `on` names a node; each is a second younger than the one before."""
        self.clock += 1
        scheduling = replace(spec or SchedulingSpec(()), requests=tuple(sorted(amounts(**given).items())))
        pod = PodSpec(
            tenant,
            name,
            scheduling,
            labels=tuple(sorted((labels or {}).items())),
            priority=priority,
            created=self.clock,
            started=self.clock if on else None,
            node=on,
            group=group,
            **(more or {}),
        )
        self.events.append(ev.PodSeen(pod))
        return self

    def pods(self, tenant: str, count: int, prefix: str = "p", **given: Any) -> "World":
        """Equal pods, p0, p1, …"""
        for number in range(count):
            self.pod(tenant, f"{prefix}{number}", **given)
        return self

    def gang(self, tenant: str, name: str, minimum: int, **given: Any) -> "World":
        """A described gang."""
        self.events.append(ev.GroupSeen(GroupSpec(tenant, name, minimum, **given)))
        return self

    def state(self, policy: str = "drf") -> ClusterState:
        """The cluster as a state, under a share policy."""
        state = ClusterState(share_policy=policy)
        state.apply_all(self.events)
        state.settle()
        return state

    def run(self, policy: str = "drf") -> "Result":
        """Simulate to the fixpoint and check every invariant."""
        state = self.state(policy)
        engine = Engine(state)
        outcome = run_to_fixpoint(engine, self.clock)
        check(state)
        return Result(engine, outcome)


@dataclass
class Result:
    """How a simulation ended."""

    engine: Engine
    outcome: Outcome

    @property
    def state(self) -> ClusterState:
        """The final state."""
        return self.engine.state

    def running(self, tenant: str) -> set[str]:
        """Names of the tenant's pods that run."""
        return {pod.spec.name for pod in self.state.pods.values() if pod.node and pod.spec.namespace == tenant}

    def waiting(self, tenant: str) -> set[str]:
        """Names of the tenant's pods that wait."""
        return {pod.spec.name for pod in self.state.pods.values() if not pod.node and pod.spec.namespace == tenant}

    def node_of(self, tenant: str, name: str) -> str | None:
        """Where a pod runs."""
        return self.state.pods[tenant, name].node

    @property
    def evicted(self) -> list[str]:
        """Names of evicted pods in order."""
        return [evict.pod[1] for done in self.outcome.rounds for evict in done.evictions]

    @property
    def rules(self) -> list[str]:
        """The rules by which pods were evicted, in order."""
        return [evict.rule for done in self.outcome.rounds for evict in done.evictions]

    @property
    def started(self) -> list[str]:
        """Names of started pods in order."""
        return [start.pod[1] for done in self.outcome.rounds for start in done.starts]


def start_as_decided(state: ClusterState, nodes: dict[PodKey, str]) -> None:
    """Let waiting pods stand on nodes, as if a cycle had just decided so."""
    state.settle()
    for key, node in nodes.items():
        pod = state.pods[key]
        state.occupy(pod, node)
        pod.started, pod.unit = state.now, None
    state.lineup.requeue_all()


def names(prefix: str, numbers: Iterable[int]) -> set[str]:
    """p0, p2, …"""
    return {f"{prefix}{number}" for number in numbers}
