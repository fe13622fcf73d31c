"""What pods attach to besides compute: volumes and devices, and the nodes that can offer them.

Volumes follow kube-scheduler's `VolumeBinding`, `VolumeZone` and `NodeVolumeLimits`: a bound claim pins its pods to the
nodes its volume's affinity allows; an unbound claim whose class waits for the first consumer can be provisioned where
the class's allowed topologies say, or bound to a matching free volume; an unbound claim of any other class makes its
pods wait; a claim that does not exist does too.

Devices follow `resource.k8s.io/v1` with structured parameters as far as counts go: every node offers, per device class,
the devices of its slices; a request takes a number of them. Device classes as such are counted as resources of nodes
under the name ``device:<class>`` (see `device_resource`), so shares, limits and placement treat them like any other.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from allotment_scheduler.core.filters.nodes import term_mask
from allotment_scheduler.core.nodes import BoolVector, Nodes
from allotment_scheduler.core.pods import PodClass
from allotment_scheduler.core.selectors import NodeSelectorTerm

_ZONE_LABELS: Final = (
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
)


@dataclass(frozen=True, slots=True)
class Claim:
    """A PersistentVolumeClaim. `volume` is the name of the volume it is bound to."""

    namespace: str
    name: str
    storage_class: str | None = None
    volume: str | None = None
    request: int = 0
    access_modes: tuple[str, ...] = ()
    selected_node: str | None = None


@dataclass(frozen=True, slots=True)
class Volume:
    """A PersistentVolume: where it can be reached, and by what it is claimed."""

    name: str
    storage_class: str | None = None
    capacity: int = 0
    access_modes: tuple[str, ...] = ()
    claimed_by: tuple[str, str] | None = None
    nodes: tuple[NodeSelectorTerm, ...] | None = None
    zones: tuple[tuple[str, str], ...] = ()
    driver: str | None = None


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
    """A ResourceSlice of one node: how many devices of each class it offers."""

    name: str
    node: str
    devices: tuple[tuple[str, int], ...]


def device_resource(device_class: str) -> str:
    """The resource name under which devices of a class are counted."""
    return f"device:{device_class}"


@dataclass(slots=True)
class Attachments:
    """Everything pods attach to, by name."""

    nodes: Nodes
    claims: dict[tuple[str, str], Claim] = field(default_factory=dict)
    volumes: dict[str, Volume] = field(default_factory=dict)
    classes: dict[str, StorageClass] = field(default_factory=dict)
    slices: dict[str, Slice] = field(default_factory=dict)

    def put(self, item: Claim | Volume | StorageClass | Slice) -> None:
        """Know an object."""
        match item:
            case Claim():
                self.claims[item.namespace, item.name] = item
            case Volume():
                self.volumes[item.name] = item
            case StorageClass():
                self.classes[item.name] = item
            case Slice():
                self.slices[item.name] = item

    def drop(self, item: Claim | Volume | StorageClass | Slice) -> None:
        """Forget an object."""
        match item:
            case Claim():
                self.claims.pop((item.namespace, item.name), None)
            case Volume():
                self.volumes.pop(item.name, None)
            case StorageClass():
                self.classes.pop(item.name, None)
            case Slice():
                self.slices.pop(item.name, None)

    def devices_of(self, node: str) -> Mapping[str, int]:
        """Devices a node offers, as resources."""
        total: dict[str, int] = {}
        for item in self.slices.values():
            if item.node == node:
                for device_class, count in item.devices:
                    name = device_resource(device_class)
                    total[name] = total.get(name, 0) + count
        return total

    def filters(self, klass: PodClass) -> Iterator[tuple[str, BoolVector]]:
        """Each filter's name, in words that follow "n nodes", with the nodes that pass it."""
        count = len(self.nodes.ordered)
        for name in klass.spec.claims:
            claim = self.claims.get((klass.namespace, name))
            if claim is None:
                yield f"wait for claim {name}, which does not exist", np.zeros(count, dtype=np.bool_)
            elif claim.volume is not None:
                yield f"cannot reach the volume of claim {name}", self._reaching(self.volumes.get(claim.volume))
            else:
                yield f"cannot bind claim {name}", self._binding(claim)

    def _reaching(self, volume: Volume | None) -> BoolVector:
        """Nodes from which a bound volume can be reached; none while the volume itself is unknown."""
        if volume is None:
            return np.zeros(len(self.nodes.ordered), dtype=np.bool_)
        mask = np.ones(len(self.nodes.ordered), dtype=np.bool_)
        if volume.nodes is not None:
            mask = self._any_term(volume.nodes)
        for label, value in volume.zones:
            if label in _ZONE_LABELS:
                zones = value.split("__")
                mask &= np.array([node.spec.labels.get(label) in zones for node in self.nodes.ordered], dtype=np.bool_)
        return mask

    def _binding(self, claim: Claim) -> BoolVector:
        count = len(self.nodes.ordered)
        storage = self.classes.get(claim.storage_class or "")
        if storage is None or not storage.waits:
            return np.zeros(count, dtype=np.bool_)
        mask = np.zeros(count, dtype=np.bool_)
        for volume in self.volumes.values():
            if volume.claimed_by is None and self._suits(volume, claim):
                mask |= self._reaching(volume)
        if storage.provisions:
            mask |= self._any_term(storage.topologies) if storage.topologies else np.ones(count, dtype=np.bool_)
        if claim.selected_node is not None:
            mask &= np.array([node.spec.name == claim.selected_node for node in self.nodes.ordered], dtype=np.bool_)
        return mask

    def _suits(self, volume: Volume, claim: Claim) -> bool:
        return (
            volume.storage_class == claim.storage_class
            and volume.capacity >= claim.request
            and set(claim.access_modes) <= set(volume.access_modes)
        )

    def _any_term(self, terms: tuple[NodeSelectorTerm, ...]) -> BoolVector:
        mask = np.zeros(len(self.nodes.ordered), dtype=np.bool_)
        for term in terms:
            mask |= term_mask(term, self.nodes)
        return mask
