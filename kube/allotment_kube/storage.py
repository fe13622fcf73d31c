"""Volumes, as far as they restrict where a pod may run."""

import msgspec

from .models import LabelSelector, Model, Resourced
from .pods import NodeSelector


class ObjectReference(Model, frozen=True):
    """A link to another object."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class StorageRequest(Model, frozen=True):
    """How much a claim wants, resource name to quantity."""

    requests: dict[str, str] = msgspec.field(default_factory=dict)


class ClaimSpec(Model, frozen=True):
    """What a claim asks for; a non-empty `volume_name` says it is (being) bound."""

    volume_name: str = ""
    storage_class_name: str | None = None
    access_modes: tuple[str, ...] = ()
    resources: StorageRequest = StorageRequest()
    volume_mode: str = ""
    volume_attributes_class_name: str | None = None
    selector: LabelSelector | None = None


class ClaimStatus(Model, frozen=True):
    """Pending, Bound or Lost."""

    phase: str = ""


class PersistentVolumeClaim(Resourced, frozen=True):
    """core/v1 PersistentVolumeClaim."""

    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()


class VolumeNodeAffinity(Model, frozen=True):
    """The nodes a volume can be reached from."""

    required: NodeSelector | None = None


class CsiSource(Model, frozen=True):
    """The driver that serves a volume, and the volume's name to it."""

    driver: str
    volume_handle: str = ""


class VolumeSpec(Model, frozen=True):
    """A volume's size, place and owner."""

    capacity: dict[str, str] = msgspec.field(default_factory=dict)
    access_modes: tuple[str, ...] = ()
    storage_class_name: str = ""
    claim_ref: ObjectReference | None = None
    node_affinity: VolumeNodeAffinity | None = None
    csi: CsiSource | None = None
    volume_mode: str = ""
    volume_attributes_class_name: str | None = None


class PersistentVolume(Resourced, frozen=True):
    """core/v1 PersistentVolume."""

    spec: VolumeSpec = VolumeSpec()
    status: ClaimStatus = ClaimStatus()


class TopologyRequirement(Model, frozen=True):
    """One label and the values a provisioner accepts."""

    key: str
    values: tuple[str, ...] = ()


class TopologyTerm(Model, frozen=True):
    """Where a provisioner may create volumes."""

    match_label_expressions: tuple[TopologyRequirement, ...] = ()


class StorageClass(Resourced, frozen=True):
    """storage.k8s.io/v1 StorageClass."""

    provisioner: str = ""
    volume_binding_mode: str = "Immediate"
    allow_volume_expansion: bool = False
    allowed_topologies: tuple[TopologyTerm, ...] = ()


class DriverAllocatable(Model, frozen=True):
    """How many volumes of a driver a node can hold; None is unlimited."""

    count: int | None = None


class CsiDriver(Model, frozen=True):
    """A CSI driver on a node."""

    name: str
    topology_keys: tuple[str, ...] | None = ()
    allocatable: DriverAllocatable | None = None


class CsiNodeSpec(Model, frozen=True):
    """The drivers on a node."""

    drivers: tuple[CsiDriver, ...] | None = ()


class CSINode(Resourced, frozen=True):
    """storage.k8s.io/v1 CSINode."""

    spec: CsiNodeSpec = CsiNodeSpec()
