"""What pods attach to besides compute: volumes and devices, and the nodes that can offer them.

What volumes mean for placement is decided in `filters.volumes`. Claims and volumes come and go with pods: whoever tells
of one learns for which claims that may make a difference.

Devices are counted: every node offers a number of devices per device class, as resources named as in ResourceQuota
(`device_resource`), so shares and limits treat them like any other. Whether a node can meet a claim, and with which of
its devices, is decided in `filters.devices`.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from allotment_scheduler.core.objects.devices import ClaimKey, Holding, NodeDevices
from allotment_scheduler.core.objects.selectors import LabelSelector, NodeSelectorTerm

ClaimName = tuple[str, str]
"""(namespace, name) of a PersistentVolumeClaim."""


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

    @property
    def key(self) -> ClaimName:
        """(namespace, name)."""
        return (self.namespace, self.name)


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


Names = TypeVar("Names")


@dataclass(slots=True)
class Supply:
    """Volumes by who may have them, and claims by the volumes that they go by: kept up with every claim and volume.

    Attributes:
        free: claimed by nobody, asked for by nobody, to be had at once: by storage class, the smallest first.
        reserved: by the claim that they are set aside for, the smallest first.
        awaited: by the name of a volume: the claims that ask for it and are not bound to it yet.
        bound: by the name of a volume: the claims that are bound to it.
        unbound: by storage class: the claims that are bound to none.
    """

    free: dict[str | None, list[Volume]] = field(default_factory=dict)
    reserved: dict[ClaimName, list[Volume]] = field(default_factory=dict)
    awaited: dict[str, dict[ClaimName, None]] = field(default_factory=dict)
    bound: dict[str, dict[ClaimName, None]] = field(default_factory=dict)
    unbound: dict[str | None, dict[ClaimName, None]] = field(default_factory=dict)

    def is_free(self, volume: Volume) -> bool:
        """Whether any claim may take a volume."""
        if volume.claimed_by is not None or not volume.available or volume.deleting:
            return False
        return volume.name not in self.awaited

    def enter(self, volume: Volume) -> None:
        """A volume is there."""
        if volume.claimed_by is not None:
            insort(self.reserved.setdefault(volume.claimed_by, []), volume, key=_by_size)
        elif self.is_free(volume):
            insort(self.free.setdefault(volume.storage_class, []), volume, key=_by_size)

    def leave(self, volume: Volume) -> None:
        """A volume that was there is to be there no longer, or to be another."""
        if volume.claimed_by is not None:
            _take_out(self.reserved, volume.claimed_by, volume)
        elif self.is_free(volume):
            _take_out(self.free, volume.storage_class, volume)

    def ask(self, claim: Claim) -> None:
        """A claim is there."""
        for index, name in self._indexes(claim):
            index.setdefault(name, {})[claim.key] = None

    def ask_no_more(self, claim: Claim) -> None:
        """A claim that was there is to be there no longer, or to be another."""
        for index, name in self._indexes(claim):
            index[name].pop(claim.key)
            if not index[name]:
                del index[name]

    def _indexes(self, claim: Claim) -> Iterator[tuple[dict[Any, dict[ClaimName, None]], str | None]]:
        if claim.volume is None:
            yield self.unbound, claim.storage_class
        else:
            yield self.bound, claim.volume
        if claim.awaits is not None:
            yield self.awaited, claim.awaits


def _by_size(volume: Volume) -> tuple[int, str]:
    return volume.capacity, volume.name


def _take_out(lists: dict[Names, list[Volume]], name: Names, volume: Volume) -> None:
    line = lists[name]
    del line[bisect_left(line, _by_size(volume), key=_by_size)]
    if not line:
        del lists[name]


@dataclass(slots=True)
class Attachments:
    """Everything pods attach to, by name."""

    claims: dict[ClaimName, Claim] = field(default_factory=dict)
    volumes: dict[str, Volume] = field(default_factory=dict)
    classes: dict[str, StorageClass] = field(default_factory=dict)
    slices: dict[str, Slice] = field(default_factory=dict)
    inventories: dict[str, NodeDevices] = field(default_factory=dict)
    """Devices by node."""
    holdings: dict[ClaimKey, Holding] = field(default_factory=dict)
    """Devices by the claim that was given them; kept by `filters.devices.DeviceUse`, which counts them."""
    supply: Supply = field(default_factory=Supply)

    def put(self, item: Claim | Volume | StorageClass | Slice) -> Iterable[ClaimName]:
        """Know an object. Of a claim or a volume: the claims for which that may make a difference."""
        match item:
            case Claim():
                return self._set_claim(item.key, item)
            case Volume():
                return self._set_volume(item.name, item)
            case StorageClass():
                self.classes[item.name] = item
            case Slice():
                self.slices[item.name] = item
                self.inventories[item.node] = item.inventory
        return ()

    def drop(self, item: Claim | Volume | StorageClass | Slice) -> Iterable[ClaimName]:
        """Forget an object. Of a claim or a volume: the claims for which that may make a difference."""
        match item:
            case Claim():
                return self._set_claim(item.key, None)
            case Volume():
                return self._set_volume(item.name, None)
            case StorageClass():
                self.classes.pop(item.name, None)
            case Slice():
                self.slices.pop(item.name, None)
                self.inventories.pop(item.node, None)
        return ()

    def _set_claim(self, key: ClaimName, seen: Claim | None) -> set[ClaimName]:
        known, supply, concerned = self.claims.pop(key, None), self.supply, {key}
        names = {each.awaits for each in (known, seen) if each is not None and each.awaits in self.volumes}
        asked_for = [self.volumes[name] for name in names]
        were_free = [supply.is_free(volume) for volume in asked_for]
        for volume in asked_for:
            supply.leave(volume)
        if known is not None:
            supply.ask_no_more(known)
        if seen is not None:
            supply.ask(seen)
            self.claims[key] = seen
        for volume, was_free in zip(asked_for, were_free, strict=True):
            supply.enter(volume)
            if supply.is_free(volume) != was_free:
                concerned.update(supply.unbound.get(volume.storage_class, ()))
        return concerned

    def _set_volume(self, name: str, seen: Volume | None) -> set[ClaimName]:
        known, supply = self.volumes.pop(name, None), self.supply
        concerned = {*supply.bound.get(name, ()), *supply.awaited.get(name, ())}
        for volume in (known, seen):
            if volume is not None and volume.claimed_by is not None:
                concerned.add(volume.claimed_by)
            elif volume is not None and supply.is_free(volume):
                concerned.update(supply.unbound.get(volume.storage_class, ()))
        if known is not None:
            supply.leave(known)
        if seen is not None:
            supply.enter(seen)
            self.volumes[name] = seen
        return concerned

    def devices_by_node(self) -> Mapping[str, Mapping[str, int]]:
        """Devices that nodes offer, as resources."""
        total: dict[str, dict[str, int]] = {}
        for item in self.slices.values():
            table = total.setdefault(item.node, {})
            for device_class, count in item.devices:
                name = device_resource(device_class)
                table[name] = table.get(name, 0) + count
        return total
