"""What can happen to the state: the only values `ClusterState.apply` accepts.

Events from outside say what the API server holds now; each is the whole object, so applying one twice changes nothing.
Events of our own (`PodStarted`, `PodEvicted`, `PodLeaving`, `StartForgotten`, `PodSetAside`, `RoundEnded`) record
decisions and what became of them; they do not change demand. Nor does `TimePassed`, but where it gives room back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from allotment_scheduler.core.objects.attachments import Claim, Slice, StorageClass, Volume
from allotment_scheduler.core.objects.devices import Holding
from allotment_scheduler.core.objects.nodes import NodeSpec, PoolSpec
from allotment_scheduler.core.objects.pods import LabelSet, PodKey, PodSpec
from allotment_scheduler.core.objects.selectors import LabelSelector
from allotment_scheduler.core.objects.tenants import TenantSpec
from allotment_scheduler.core.objects.units import GroupSpec


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """A node exists and looks like this."""

    spec: NodeSpec


@dataclass(frozen=True, slots=True)
class NodeGone:
    """A node exists no longer."""

    name: str


@dataclass(frozen=True, slots=True)
class PoolSeen:
    """A node pool exists and looks like this."""

    spec: PoolSpec


@dataclass(frozen=True, slots=True)
class PoolGone:
    """A node pool exists no longer."""

    name: str


@dataclass(frozen=True, slots=True)
class TenantSeen:
    """A tenant exists and looks like this."""

    spec: TenantSpec


@dataclass(frozen=True, slots=True)
class TenantGone:
    """A tenant exists no longer."""

    name: str


@dataclass(frozen=True, slots=True)
class NamespaceSeen:
    """A namespace exists with these labels; `tenant` is its tenant label."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class NamespaceGone:
    """A namespace exists no longer."""

    name: str


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A pod exists, has not finished, and looks like this."""

    spec: PodSpec


@dataclass(frozen=True, slots=True)
class PodGone:
    """A pod has finished or exists no longer. `succeeded`: it is done, and `group` is then its PodGroup, if any."""

    key: PodKey
    succeeded: bool = False
    group: str | None = None


@dataclass(frozen=True, slots=True)
class GroupSeen:
    """A gang is described: by a PodGroup or by a Job with the gang label."""

    spec: GroupSpec


@dataclass(frozen=True, slots=True)
class GroupGone:
    """A gang's description exists no longer."""

    key: tuple[str, str]


@dataclass(frozen=True, slots=True)
class BudgetSpec:
    """A PodDisruptionBudget. `allowed` is the controller's figure; without it the rest decides."""

    namespace: str
    name: str
    selector: LabelSelector
    allowed: int | None = None
    min_available: int | str | None = None
    max_unavailable: int | str | None = None

    def covers(self, labels: LabelSet) -> bool:
        """Whether it is about pods with these labels."""
        return self.namespace == labels.namespace and self.selector.matches(labels.labels)


@dataclass(frozen=True, slots=True)
class BudgetSeen:
    """A disruption budget exists and looks like this."""

    spec: BudgetSpec


@dataclass(frozen=True, slots=True)
class BudgetGone:
    """A disruption budget exists no longer."""

    key: tuple[str, str]


@dataclass(frozen=True, slots=True)
class StorageSeen:
    """Something pods attach to exists: a volume claim, a volume, a storage class, a device claim or slice."""

    item: Claim | Volume | StorageClass | Slice | Holding


@dataclass(frozen=True, slots=True)
class StorageGone:
    """Something pods attach to exists no longer; the value is what was seen last."""

    item: Claim | Volume | StorageClass | Slice | Holding


@dataclass(frozen=True, slots=True)
class PodStarted:
    """We start a pod on a node (or hold the room for an expected member)."""

    key: PodKey
    node: str


@dataclass(frozen=True, slots=True)
class PodEvicted:
    """We evict a pod; it waits again, behind its peers, from the next round on."""

    key: PodKey


@dataclass(frozen=True, slots=True)
class PodLeaving:
    """A pod that we evicted still stands on its node: it holds its room until it is gone, and waits nowhere."""

    key: PodKey
    node: str


@dataclass(frozen=True, slots=True)
class PodStays:
    """A pod was to be evicted, and has not been: it counts in no disruption budget, and nobody takes its place."""

    key: PodKey


@dataclass(frozen=True, slots=True)
class StartForgotten:
    """A start of ours came to nothing: the pod leaves the room held for it and waits again in its old place."""

    key: PodKey


@dataclass(frozen=True, slots=True)
class PodSetAside:
    """Deciding about a pod failed: it goes into quarantine for a while, so that it stops nobody else."""

    key: PodKey
    until: float
    message: str


@dataclass(frozen=True, slots=True)
class TimePassed:
    """It is `now`: what was to last until then is over."""

    now: float


@dataclass(frozen=True, slots=True)
class RoundEnded:
    """A cycle is over: what it evicted may wait again."""


Event = (
    NodeSeen
    | NodeGone
    | PoolSeen
    | PoolGone
    | TenantSeen
    | TenantGone
    | NamespaceSeen
    | NamespaceGone
    | PodSeen
    | PodGone
    | GroupSeen
    | GroupGone
    | BudgetSeen
    | BudgetGone
    | StorageSeen
    | StorageGone
    | PodStarted
    | PodEvicted
    | PodLeaving
    | PodStays
    | StartForgotten
    | PodSetAside
    | TimePassed
    | RoundEnded
)
