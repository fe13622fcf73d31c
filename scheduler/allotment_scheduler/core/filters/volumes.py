"""Filters that depend on volumes: claims and where their volumes are, attachment limits, volumes for one pod only.

Semantics as kube-scheduler's plugins `VolumeBinding`, `VolumeZone`, `NodeVolumeLimits` and `VolumeRestrictions`:

- every claim must exist, be neither lost nor on its way out, and an ephemeral one must be the pod's own;
- a bound claim pins its pods to the nodes that its volume's affinity allows and, where a node says which zone it is in,
  to the volume's zones;
- an unbound claim waits, unless its class binds at the first consumer: then it takes, node by node, the smallest free
  volume that suits, each volume once, or is provisioned where the class's topologies say;
- a node attaches so many different volumes of a CSI driver; a volume that several pods share counts once;
- a claim of access mode ReadWriteOncePod has one pod.

The first three depend on nodes and storage alone and are evaluated once per class and layout (`binding_filters`), and
again when a claim of the class, or a volume that it goes by, has changed. The last two change with every start and
eviction: `VolumeUse` counts, a `VolumeDemand` asks it.

Left out: limits on storage capacity (`CSIStorageCapacity`), volumes still attached for pods that are gone
(`VolumeAttachment`), and how many in-tree volumes a node attaches, also where a CSI driver serves them by migration.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from allotment_scheduler.core.filters.nodes import term_mask
from allotment_scheduler.core.objects.attachments import Attachments, Claim, StorageClass, Volume
from allotment_scheduler.core.objects.nodes import BoolVector, IntVector, Nodes
from allotment_scheduler.core.objects.pods import PodClass
from allotment_scheduler.core.objects.selectors import NodeSelectorTerm

Disk = tuple[str, str]
"""A volume as its driver knows it: (driver, handle)."""

Counted = TypeVar("Counted")

ONE_POD: Final = "ReadWriteOncePod"
_UNLIMITED: Final = 2**31
_PRESENT_LABEL: Final = {
    "topology.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region": "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
}
"""Labels that place a volume, and what each is called on nodes of today."""


def binding_filters(klass: PodClass, storage: Attachments, nodes: Nodes) -> Iterator[tuple[str, BoolVector]]:
    """Each filter's name, in words that follow "n nodes", with the nodes that pass it."""
    owners = dict(klass.spec.ephemeral)
    waiting: list[tuple[Claim, StorageClass]] = []
    for name in klass.spec.claims:
        claim = storage.claims.get((klass.namespace, name))
        if claim is None:
            yield f"wait for claim {name}, which does not exist", _nowhere(nodes)
            continue
        trouble = _trouble(claim, owners.get(name)) or asks_in_vain(claim, storage.volumes)
        if trouble is not None:
            yield trouble, _nowhere(nodes)
        elif claim.volume is not None:
            yield f"cannot reach the volume of claim {name}", _reaching_bound(storage.volumes.get(claim.volume), nodes)
        else:
            found = storage.classes.get(claim.storage_class or "")
            if found is None or not found.waits or claim.awaits is not None:
                yield f"wait for claim {name}, which is not bound", _nowhere(nodes)
            else:
                waiting.append((claim, found))
    if waiting:
        yield from _placing(waiting, storage, nodes)


def _nowhere(nodes: Nodes) -> BoolVector:
    return np.zeros(len(nodes.ordered), dtype=np.bool_)


def _trouble(claim: Claim, owner: str | None) -> str | None:
    if claim.deleting:
        return f"cannot use claim {claim.name}, which is being deleted"
    if claim.lost:
        return f"cannot use claim {claim.name}, whose volume is lost"
    if owner is not None and claim.owner != owner:
        return f"cannot use claim {claim.name}, which belongs to another pod"
    return None


def asks_in_vain(claim: Claim, volumes: Mapping[str, Volume]) -> str | None:
    """What keeps a claim from ever being bound to the volume that it asks for by name, which cannot be changed."""
    volume = volumes.get(claim.awaits or "")
    if volume is None:
        return None
    if volume.claimed_by is not None and not _is_for(volume, claim):
        why = "is another claim's"
    elif not _suits(volume, claim):
        why = "has another class or mode, or too small a size"
    else:
        return None
    return f"cannot use claim {claim.name}, which asks for volume {volume.name}, and that {why}: create the claim anew"


def _reaching_bound(volume: Volume | None, nodes: Nodes) -> BoolVector:
    """Nodes from which a bound volume can be reached; none while the volume itself is unknown."""
    if volume is None:
        return _nowhere(nodes)
    mask = _reaching(volume, nodes)
    zones = [(key, value.split("__")) for key, value in volume.labels if key in _PRESENT_LABEL]
    if zones:
        mask &= np.array([_in_zones(node.spec.labels, zones) for node in nodes.ordered], dtype=np.bool_)
    return mask


def _in_zones(labels: Mapping[str, str], zones: list[tuple[str, list[str]]]) -> bool:
    """Whether a node is where a volume is; a node that does not say where it is, is everywhere."""
    if not any(key in labels for key in _PRESENT_LABEL):
        return True
    return all(labels.get(key, labels.get(_PRESENT_LABEL[key])) in values for key, values in zones)


def _reaching(volume: Volume, nodes: Nodes) -> BoolVector:
    if volume.nodes is None:
        return np.ones(len(nodes.ordered), dtype=np.bool_)
    return _any_term(volume.nodes, nodes)


def _any_term(terms: tuple[NodeSelectorTerm, ...], nodes: Nodes) -> BoolVector:
    mask = _nowhere(nodes)
    for term in terms:
        mask |= term_mask(term, nodes)
    return mask


def _placing(
    waiting: list[tuple[Claim, StorageClass]], storage: Attachments, nodes: Nodes
) -> Iterator[tuple[str, BoolVector]]:
    """Claims that are bound when their pod starts: small ones first, so that none takes more than it needs."""
    taken: dict[str, BoolVector] = {}
    for claim, storage_class in sorted(waiting, key=lambda pair: pair[0].request):
        if claim.selected_node is not None:
            chosen = np.array([node.spec.name == claim.selected_node for node in nodes.ordered], dtype=np.bool_)
            yield f"cannot bind claim {claim.name}", chosen & _provisioning(claim, storage_class, nodes)
            continue
        matched = _nowhere(nodes)
        for volume in _candidates(claim, storage, taken):
            takes = _reaching(volume, nodes) & ~matched
            if volume.name in taken:
                takes &= ~taken[volume.name]
            taken[volume.name] = taken.get(volume.name, _nowhere(nodes)) | takes
            matched |= takes
        yield f"cannot bind claim {claim.name}", matched | _provisioning(claim, storage_class, nodes)


def existing_volumes(
    claims: list[Claim], storage: Attachments, nodes: Nodes, index: int, *, promised: frozenset[str] = frozenset()
) -> dict[str, str | None]:
    """What the unbound claims of one pod take on a node: a volume that exists, or None where one is to be made.

    Args:
        claims: unbound, of one namespace, not told a node yet.
        storage: all there is.
        nodes: of the cluster.
        index: the node's.
        promised: names of volumes that other claims are about to take.

    Returns:
        By claim; a claim that can be neither bound nor provisioned there is missing.
    """
    found: dict[str, str | None] = {}
    taken = {name: np.ones(len(nodes.ordered), dtype=np.bool_) for name in promised}
    for claim in sorted(claims, key=lambda claim: claim.request):
        storage_class = storage.classes.get(claim.storage_class or "")
        for volume in _candidates(claim, storage, taken):
            if volume.name not in taken and _reaching(volume, nodes)[index]:
                found[claim.name] = volume.name
                taken[volume.name] = np.ones(len(nodes.ordered), dtype=np.bool_)
                break
        else:
            if storage_class is not None and _provisioning(claim, storage_class, nodes)[index]:
                found[claim.name] = None
    return found


def _provisioning(claim: Claim, storage_class: StorageClass, nodes: Nodes) -> BoolVector:
    """Nodes for which a class can make a new volume for a claim, as far as is known."""
    if not storage_class.provisions:
        return _nowhere(nodes)
    mask = np.ones(len(nodes.ordered), dtype=np.bool_)
    if storage_class.topologies:
        mask = _any_term(storage_class.topologies, nodes)
    for name in claim.not_made_on:
        node = nodes.by_name.get(name)
        if node is not None and node.index >= 0:
            mask[node.index] = False
    return mask


def _candidates(claim: Claim, storage: Attachments, taken: dict[str, BoolVector]) -> list[Volume]:
    """Volumes that a claim would take, best first: the one set aside for it, else free ones, the smallest first."""
    reserved = storage.supply.reserved.get((claim.namespace, claim.name), ())
    own = [volume for volume in reserved if _suits(volume, claim) and not volume.deleting and _is_for(volume, claim)]
    own = [volume for volume in own if volume.name not in taken]
    if own:
        return own[:1]
    return [
        volume
        for volume in storage.supply.free.get(claim.storage_class, ())
        if _suits(volume, claim)
        and set(claim.access_modes) <= set(volume.access_modes)
        and (claim.selector is None or claim.selector.matches(dict(volume.labels)))
    ]


def _suits(volume: Volume, claim: Claim) -> bool:
    """Whether the volume controller would bind the two, as far as size and kind go."""
    return (
        volume.storage_class == claim.storage_class
        and volume.capacity >= claim.request
        and volume.mode == claim.mode
        and volume.attributes == claim.attributes
    )


def _is_for(volume: Volume, claim: Claim) -> bool:
    if volume.claimed_by != (claim.namespace, claim.name):
        return False
    return not volume.claimed_by_uid or volume.claimed_by_uid == claim.uid


@dataclass(slots=True)
class VolumeUse:
    """Which volumes are attached where, and which claims are in use, by the pods that run."""

    storage: Attachments
    nodes: Nodes
    attached: dict[str, IntVector] = field(default_factory=dict)
    """By driver: how many different volumes each node has attached."""
    holders: dict[Disk, dict[int, int]] = field(default_factory=dict)
    """By volume and node: how many pods use it there."""
    users: dict[tuple[str, str], int] = field(default_factory=dict)
    """By claim: how many pods use it, ephemeral claims aside."""
    version: int = 0
    _disks: WeakKeyDictionary[PodClass, tuple[Disk, ...]] = field(default_factory=WeakKeyDictionary)
    _limits: dict[str, IntVector] = field(default_factory=dict)

    def reset(self) -> None:
        """Forget all counts: storage or nodes have changed, and whoever runs is counted anew."""
        for known in (self.attached, self.holders, self.users, self._disks, self._limits):
            known.clear()
        self.version += 1

    def count(self, klass: PodClass, node: int, sign: int) -> None:
        """A pod with claims started (1) or left (-1) a node."""
        self.version += 1
        for claim in klass.spec.claims:
            _add(self.users, (klass.namespace, claim), sign)
        self._attach(self.disks(klass), node, sign)

    def refit(self, klass: PodClass, nodes: Callable[[], list[int]]) -> None:
        """What the claims of a class stand for may have changed: its pods, on `nodes`, attach other volumes then."""
        before = self._disks.pop(klass, None)
        if before is None or before == self.disks(klass):
            return
        self.version += 1
        for node in nodes():
            self._attach(before, node, -1)
            self._attach(self.disks(klass), node, 1)

    def _attach(self, disks: tuple[Disk, ...], node: int, sign: int) -> None:
        for disk in disks:
            here = self.holders.setdefault(disk, {})
            before = here.get(node, 0)
            if _add(here, node, sign) == 0 or before == 0:
                self._attached(disk[0])[node] += sign
            if not here:
                del self.holders[disk]

    def disks(self, klass: PodClass) -> tuple[Disk, ...]:
        """The different CSI volumes that a class's pods attach, those still to be made included."""
        found = self._disks.get(klass)
        if found is None:
            disks = (self._disk(klass.namespace, name) for name in klass.spec.claims)
            found = self._disks[klass] = tuple(dict.fromkeys(disk for disk in disks if disk is not None))
        return found

    def _disk(self, namespace: str, name: str) -> Disk | None:
        claim = self.storage.claims.get((namespace, name))
        if claim is None:
            return None
        volume = self.storage.volumes.get(claim.volume or claim.awaits or "")
        if volume is not None:
            return (volume.driver, volume.handle) if volume.driver and volume.handle else None
        made_by = self.storage.classes.get(claim.storage_class or "")
        return (made_by.driver, f"\0{namespace}/{name}") if made_by is not None and made_by.driver else None

    def _attached(self, driver: str) -> IntVector:
        found = self.attached.get(driver)
        if found is None:
            found = self.attached[driver] = np.zeros(len(self.nodes.ordered), dtype=np.int64)
        return found

    def limits(self, driver: str) -> IntVector | None:
        """How many volumes of a driver each node can attach; None where no node says."""
        found = self._limits.get(driver)
        if found is None:
            counts = [node.spec.volume_limits.get(driver, _UNLIMITED) for node in self.nodes.ordered]
            found = self._limits[driver] = np.array(counts, dtype=np.int64)
        return found if len(found) and int(found.min()) < _UNLIMITED else None

    def demand(self, klass: PodClass) -> "VolumeDemand | None":
        """What a class demands of the volumes in use; None where nothing limits it."""
        ephemeral = dict(klass.spec.ephemeral)
        alone = []
        for name in klass.spec.claims:
            claim = self.storage.claims.get((klass.namespace, name))
            if claim is not None and ONE_POD in claim.access_modes and name not in ephemeral:
                alone.append((klass.namespace, name))
        by_driver: dict[str, list[Disk]] = {}
        for disk in self.disks(klass):
            if self.limits(disk[0]) is not None:
                by_driver.setdefault(disk[0], []).append(disk)
        return VolumeDemand(self, tuple(alone), by_driver) if alone or by_driver else None


def _add(counts: dict[Counted, int], key: Counted, sign: int) -> int:
    """Count one more or less; nothing is kept of what is 0."""
    count = counts.get(key, 0) + sign
    if count:
        counts[key] = count
    else:
        counts.pop(key, None)
    return count


@dataclass(slots=True, eq=False)
class VolumeDemand:
    """What pods of a class demand of the volumes in use: claims they must have alone, and room to attach theirs."""

    use: VolumeUse
    alone: tuple[tuple[str, str], ...]
    by_driver: dict[str, list[Disk]]

    @property
    def version(self) -> int:
        """Moves whenever an answer may have changed."""
        return self.use.version

    def filters(self) -> Iterator[tuple[str, BoolVector]]:
        """Each filter's name, in words that follow "n nodes", with the nodes that pass it."""
        count = len(self.use.nodes.ordered)
        for namespace, name in self.alone:
            if self.use.users.get((namespace, name), 0) > 0:
                yield f"wait for claim {name}, which is for one pod and in use", np.zeros(count, dtype=np.bool_)
        for driver, disks in self.by_driver.items():
            yield f"cannot attach more volumes of {driver}", self._attachable(driver, disks)

    def _attachable(self, driver: str, disks: list[Disk]) -> BoolVector:
        limits = self.use.limits(driver)
        assert limits is not None, "only limited drivers are asked for"  # noqa: S101 - for the type checker
        fresh = np.full(len(limits), len(disks), dtype=np.int64)
        for disk in disks:
            for node, pods in self.use.holders.get(disk, {}).items():
                if pods > 0:
                    fresh[node] -= 1
        attached = self.use.attached.get(driver)
        held = fresh if attached is None else attached + fresh
        passing: BoolVector = (fresh == 0) | (held <= limits)
        return passing
