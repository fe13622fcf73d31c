"""What pods attach to besides compute: volumes and devices, and the nodes that can offer them.

What volumes mean for placement is decided in `filters.volumes`.

Devices are counted: every node offers a number of devices per device class, as resources named as in ResourceQuota
(`device_resource`), so shares and limits treat them like any other. Whether a node can meet a claim, and with which of
its devices, is decided in `filters.devices`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from allotment_scheduler.core.objects.devices import ClaimKey, Holding, NodeDevices
from allotment_scheduler.core.objects.selectors import LabelSelector, NodeSelectorTerm


@dataclass(frozen=True, slots=True)
class Claim:
    """A PersistentVolumeClaim.

    Attributes:
        volume: the name of the volume it is bound to.
        awaits: the name of a volume that it asks for, or is being bound to.
        request: bytes.
        selected_node: where the provisioner was told to make its volume.
        owner: uid of its controller: of the pod, for an ephemeral volume's claim.
        mode: Filesystem or Block.
        attributes: the name of its VolumeAttributesClass, empty for none.
        not_made_on: nodes for which no volume could be made lately.
    """

    namespace: str
    name: str
    storage_class: str | None = None
    volume: str | None = None
    awaits: str | None = None
    request: int = 0
    access_modes: tuple[str, ...] = ()
    selected_node: str | None = None
    uid: str = ""
    owner: str = ""
    mode: str = "Filesystem"
    selector: LabelSelector | None = None
    lost: bool = False
    deleting: bool = False
    attributes: str = ""
    not_made_on: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Volume:
    """A PersistentVolume: where it can be reached, and by what it is claimed."""

    name: str
    storage_class: str | None = None
    capacity: int = 0
    access_modes: tuple[str, ...] = ()
    claimed_by: tuple[str, str] | None = None
    claimed_by_uid: str = ""
    nodes: tuple[NodeSelectorTerm, ...] | None = None
    labels: tuple[tuple[str, str], ...] = ()
    driver: str | None = None
    handle: str = ""
    mode: str = "Filesystem"
    available: bool = True
    """Whether a claim may take it: not released, failed, or still to be looked at."""
    deleting: bool = False
    attributes: str = ""
    """The name of its VolumeAttributesClass, empty for none."""


@dataclass(frozen=True, slots=True)
class StorageClass:
    """A StorageClass: whether binding waits for the first pod, and where it can provision."""

    name: str
    waits: bool = False
    provisions: bool = True
    topologies: tuple[NodeSelectorTerm, ...] = ()
    driver: str | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """What the ResourceSlices of one node say: how many devices of each class it offers, and which they are."""

    name: str
    node: str
    devices: tuple[tuple[str, int], ...]
    inventory: NodeDevices = field(default_factory=NodeDevices)


DEVICES: Final = ".deviceclass.resource.k8s.io/devices"
"""What follows the name of a device class in the name of its resource: as ResourceQuota names it."""


def device_resource(device_class: str) -> str:
    """The resource name under which devices of a class are counted."""
    return f"{device_class}{DEVICES}"


@dataclass(frozen=True, slots=True)
class Supply:
    """Volumes by who may have them, so that a claim need not look at all.

    Attributes:
        free: claimed by nobody, asked for by nobody, to be had at once: by storage class, the smallest first.
        reserved: by the namespace and name of the claim that they are set aside for.
        awaited: by the name of a volume: the claims that ask for it and are not bound to it yet.
    """

    free: Mapping[str | None, Sequence[Volume]]
    reserved: Mapping[tuple[str, str], Sequence[Volume]]
    awaited: Mapping[str, Sequence[tuple[str, str]]]


@dataclass(slots=True)
class Attachments:
    """Everything pods attach to, by name."""

    claims: dict[tuple[str, str], Claim] = field(default_factory=dict)
    volumes: dict[str, Volume] = field(default_factory=dict)
    classes: dict[str, StorageClass] = field(default_factory=dict)
    slices: dict[str, Slice] = field(default_factory=dict)
    inventories: dict[str, NodeDevices] = field(default_factory=dict)
    """Devices by node."""
    holdings: dict[ClaimKey, Holding] = field(default_factory=dict)
    """Devices by the claim that was given them; kept by `filters.devices.DeviceUse`, which counts them."""

    _supply: Supply | None = None

    @property
    def supply(self) -> Supply:
        """Volumes by who may have them; found out anew when a claim or a volume has changed."""
        if self._supply is None:
            awaited: dict[str, list[tuple[str, str]]] = {}
            for key, claim in self.claims.items():
                if claim.awaits is not None:
                    awaited.setdefault(claim.awaits, []).append(key)
            free: dict[str | None, list[Volume]] = {}
            reserved: dict[tuple[str, str], list[Volume]] = {}
            for volume in sorted(self.volumes.values(), key=lambda volume: (volume.capacity, volume.name)):
                if volume.claimed_by is not None:
                    reserved.setdefault(volume.claimed_by, []).append(volume)
                elif volume.available and not volume.deleting and volume.name not in awaited:
                    free.setdefault(volume.storage_class, []).append(volume)
            self._supply = Supply(free, reserved, awaited)
        return self._supply

    def put(self, item: Claim | Volume | StorageClass | Slice) -> None:
        """Know an object."""
        self._supply = None
        match item:
            case Claim():
                self.claims[item.namespace, item.name] = item
            case Volume():
                self.volumes[item.name] = item
            case StorageClass():
                self.classes[item.name] = item
            case Slice():
                self.slices[item.name] = item
                self.inventories[item.node] = item.inventory

    def drop(self, item: Claim | Volume | StorageClass | Slice) -> None:
        """Forget an object."""
        self._supply = None
        match item:
            case Claim():
                self.claims.pop((item.namespace, item.name), None)
            case Volume():
                self.volumes.pop(item.name, None)
            case StorageClass():
                self.classes.pop(item.name, None)
            case Slice():
                self.slices.pop(item.name, None)
                self.inventories.pop(item.node, None)

    def devices_by_node(self) -> Mapping[str, Mapping[str, int]]:
        """Devices that nodes offer, as resources."""
        total: dict[str, dict[str, int]] = {}
        for item in self.slices.values():
            table = total.setdefault(item.node, {})
            for device_class, count in item.devices:
                name = device_resource(device_class)
                table[name] = table.get(name, 0) + count
        return total
