"""Pods as the scheduler sees them: what they ask for, whose they are, and where they run.

A pod's scheduling-relevant specification is interned into a `PodClass`: thousands of pods of one Job share one class,
and every filter and score is computed once per class. What differs from pod to pod (name, priority, age, labels) stays
on the pod. Labels are interned apart, as a `LabelSet`: they decide which selectors of *other* pods see this one.

`PodSpec` is the value that comes from outside; `Pod` is the core's own record of it and is changed only by the state.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NewType
from weakref import WeakSet

import msgspec

from allotment_scheduler.core.objects.devices import DeviceClaim
from allotment_scheduler.core.objects.resources import Amounts
from allotment_scheduler.core.objects.selectors import LabelSelector, NodeSelectorTerm, Toleration

if TYPE_CHECKING:
    from allotment_scheduler.core.objects.tenants import Tenant
    from allotment_scheduler.core.objects.units import Gang

ClassId = NewType("ClassId", int)
PodKey = tuple[str, str]
"""(namespace, name)."""
LOWEST, HIGHEST = -(2**31), 2**31 - 1
"""Bounds of priorities: Kubernetes keeps them in 32 bits."""


@dataclass(frozen=True, slots=True)
class PodAffinityTerm:
    """Pods this one wants near or far. `namespaces` and `namespace_selector` add up; neither: the pod's own."""

    topology_key: str
    selector: LabelSelector | None
    namespaces: frozenset[str] = frozenset()
    namespace_selector: LabelSelector | None = None
    match_label_keys: tuple[str, ...] = ()
    mismatch_label_keys: tuple[str, ...] = ()
    weight: int = 0


@dataclass(frozen=True, slots=True)
class SpreadConstraint:
    """A topology spread constraint (KEP-895, 3022, 3094, 3243)."""

    topology_key: str
    max_skew: int
    hard: bool
    selector: LabelSelector | None
    min_domains: int = 1
    honor_affinity: bool = True
    honor_taints: bool = False
    match_label_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SchedulingSpec:
    """Everything of a pod's spec that decides where it can run: equal specs are one equivalence class."""

    requests: tuple[tuple[str, int], ...]
    node_selector: tuple[tuple[str, str], ...] = ()
    required_nodes: tuple[NodeSelectorTerm, ...] | None = None
    preferred_nodes: tuple[tuple[int, NodeSelectorTerm], ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    host_ports: tuple[tuple[str, str, int], ...] = ()
    affinity: tuple[PodAffinityTerm, ...] = ()
    anti_affinity: tuple[PodAffinityTerm, ...] = ()
    preferred_affinity: tuple[PodAffinityTerm, ...] = ()
    preferred_anti_affinity: tuple[PodAffinityTerm, ...] = ()
    spread: tuple[SpreadConstraint, ...] = ()
    claims: tuple[str, ...] = ()
    """Names of PersistentVolumeClaims in the pod's namespace, in order of its volumes."""
    ephemeral: tuple[tuple[str, str], ...] = ()
    """Those among them that must be the pod's own, with the uid of their owner: its own."""
    devices: tuple[DeviceClaim, ...] = ()
    """What its ResourceClaims ask for."""
    node_name: str | None = None
    """A node the pod insists on (a DaemonSet's affinity aside)."""
    features: tuple[str, ...] = ()
    """What the node's kubelet must be able to do."""

    @property
    def terms(self) -> tuple[PodAffinityTerm, ...]:
        """Every term about other pods."""
        return (*self.affinity, *self.anti_affinity, *self.preferred_affinity, *self.preferred_anti_affinity)

    @property
    def minds_other_pods(self) -> bool:
        """Whether its feasible nodes depend on the pods that run there."""
        return bool(
            self.affinity
            or self.anti_affinity
            or self.spread
            or self.host_ports
            or self.preferred_affinity
            or self.preferred_anti_affinity
        )


class Phase(Enum):
    """Where a pod stands."""

    PENDING = "Pending"
    GATED = "Gated"
    RUNNING = "Running"


class PodSpec(msgspec.Struct, frozen=True, gc=False):
    """A pod from outside. Times are seconds since the epoch; `owner` identifies who recreates it, "" nobody."""

    namespace: str
    name: str
    scheduling: SchedulingSpec
    uid: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    priority: int = 0
    created: float = 0.0
    started: float | None = None
    node: str | None = None
    nominated: str | None = None
    deleting: bool = False
    ends: float | None = None
    """While it is being deleted: when its grace period is over; None where nobody has said so yet."""
    gated: bool = False
    group: str | None = None
    owner: str = ""
    owner_kind: str = ""
    recreated: bool = True
    fragile: bool = False
    """Its Job would die of an eviction."""
    preemptible: bool = True
    never_preempts: bool = False
    max_runtime: float | None = None
    checkpointed: float | None = None
    ours: bool = True
    """Whether it names our scheduler; others' pods count but are never started or evicted."""
    spared: bool = False
    """It runs and is no victim for now: its eviction was refused."""
    invalid: str = ""
    """What is wrong with its request, in words: until that is mended it waits, and nobody waits for it."""

    @property
    def key(self) -> PodKey:
        """(namespace, name)."""
        return (self.namespace, self.name)

    @property
    def last_choice(self) -> bool:
        """Whether more is lost with it than its work: nobody recreates it, or its Job would die of the eviction."""
        return self.fragile or not self.recreated


@dataclass(slots=True, eq=False, weakref_slot=True)
class PodClass:
    """An equivalence class of pods: one scheduling spec within one namespace where the namespace matters."""

    id: ClassId
    spec: SchedulingSpec
    namespace: str
    amounts: Amounts
    """The request with one pod counted."""
    asks: Amounts
    """The request without the pod count: what counts in shares and guarantees."""
    room: Amounts
    """What must be free on a node: the request without devices of claims, of which `filters.devices` decides."""
    minds: bool
    """Its feasible nodes depend on the pods that run there."""
    holds: bool = False
    """Its pods, once they run, have a say in where others may or should stand."""
    holds_by_labels: bool = False
    """What they hold depends on their labels."""
    named: tuple["WeakSet[PodClass]", ...] = ()
    """For each claim that they name, every class that names it."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class LabelSet:
    """The labels of pods in one namespace, interned; `seen_by` are the counters whose selector matches them."""

    id: int
    namespace: str
    labels: Mapping[str, str]
    version: int = -1
    seen_by: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SetAside:
    """A pod in quarantine: until when, why, and since when: an earlier time tells that the clock was set back."""

    until: float
    message: str
    since: float


@dataclass(slots=True, eq=False)
class Pod:
    """The core's record of a pod. Only `ClusterState` changes it."""

    spec: PodSpec
    klass: PodClass
    labels: LabelSet
    leaf: "Tenant | None"
    arrival: tuple[int, float, int]
    """Order of arrival: (evictions suffered, creation, order of first sight)."""
    node: str | None = None
    slot: int = -1
    """Row in the table of running pods, or in that of pending ones while it waits and is ready; else -1."""
    started: float = 0.0
    gang: "Gang | None" = None
    phantom: bool = False
    """An expected member of a gang that does not exist yet: its room is held."""
    evicted_in: int = -1
    """The cycle that evicted it; it neither starts nor claims in that cycle."""
    spent_at: int = -1
    """The version of demand at which it was evicted: until that moves, no claims by R1 or R2."""
    invalid: str = ""
    """Why its request cannot be met as it is written."""
    set_aside: SetAside | None = None
    """Deciding about it failed: it waits in quarantine."""
    times_set_aside: int = 0
    leaving: bool = False
    """We evicted it and it has not gone yet: that it goes alters no demand."""
    unit: object = field(default=None)

    @property
    def key(self) -> PodKey:
        """(namespace, name)."""
        return (self.spec.namespace, self.spec.name)

    @property
    def stays(self) -> bool:
        """Whether its gang counts on it where it runs: it exists, and is not being deleted."""
        return not (self.phantom or self.spec.deleting)

    @property
    def ready(self) -> bool:
        """Whether nothing of its own keeps it from starting, and it is ours to start."""
        spec = self.spec
        return spec.ours and not (spec.gated or spec.deleting or self.phantom or self.invalid)

    @property
    def pends(self) -> bool:
        """Whether it is in the table of pending pods."""
        return self.node is None and self.slot >= 0

    @property
    def priority(self) -> int:
        """What counts wherever priorities are compared: its gang's within the tenant's bound, else its own."""
        gang = self.gang
        if gang is None or gang.spec is None or gang.spec.priority is None:
            return self.spec.priority
        return min(max(gang.spec.priority, LOWEST), HIGHEST if self.leaf is None else self.leaf.highest_priority)

    def __repr__(self) -> str:
        return f"<Pod {self.spec.namespace}/{self.spec.name} on {self.node}>"
