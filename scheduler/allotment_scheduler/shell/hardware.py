"""Hardware: what ResourceSlices offer, which pods ask for it by ResourceClaims, and what the claims hold.

What a pod counts for depends on its claims, their classes and, where it asks for all devices of a kind, on what nodes
offer: when one of these changes, the pods concerned are read again. A pod or a slice that cannot be read for a fault of
ours is set aside by itself.

A claim that we have written is known as the API server answered, at once. What the watch tells of it from before then
is late, and would free its devices for a moment: it is passed over.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from allotment_kube import pods as kube
from allotment_kube.devices import DeviceClass, ResourceClaim, ResourceSlice
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.attachments import Slice
from allotment_scheduler.core.objects.pods import PodKey
from allotment_scheduler.shell.teller import Key, Teller
from allotment_scheduler.translation.devices import Devices, claims_of_devices, holding

_logger = logging.getLogger(__name__)
K = TypeVar("K")
V = TypeVar("V")


class Hardware:
    """Devices, and who claims them.

    Args:
        teller: tells the core.
        read: takes a pod in again, or sets it aside.
    """

    def __init__(self, teller: Teller, read: Callable[[PodKey, kube.Pod], None]) -> None:
        self.devices = Devices()
        """What ResourceSlices offer and ResourceClaims ask for."""
        self.claimants: dict[PodKey, kube.Pod] = {}
        """Every pod with ResourceClaims, as the watch shows it."""
        self._teller = teller
        self._read = read
        self._offers_stale = False
        self._users: dict[Key, set[PodKey]] = {}
        """Pods with claims, by claim."""
        self._failed_over: dict[str, ev.StorageSeen | ev.StorageGone] = {}
        """What the core failed over, by node."""
        self._written: dict[Key, ResourceClaim] = {}
        """Claims as we wrote them, until the watch shows as much."""

    def pod(self, key: PodKey, pod: kube.Pod) -> None:
        """A pod exists and looks like this."""
        if key in self.claimants:
            self.pod_gone(key)
        if pod.spec.resource_claims:
            self.claimants[key] = pod
            for claim in claims_of_devices(pod):
                self._users.setdefault(claim, set()).add(key)

    def pod_gone(self, key: PodKey) -> None:
        """A pod has finished or is gone."""
        pod = self.claimants.pop(key, None)
        for claim in claims_of_devices(pod) if pod is not None else ():
            self._users[claim].discard(key)
            if not self._users[claim]:
                del self._users[claim]

    def resource_slice(self, key: Key, found: ResourceSlice | None) -> None:
        """Devices of a node exist, or exist no longer."""
        _keep(self.devices.slices, key[1], found)
        self._teller.forget("ResourceSlice", key)
        self.devices.reread()
        self._offers_stale = True
        self._teller.changed()

    def device_class(self, key: Key, found: DeviceClass | None) -> None:
        """A class of devices exists, or exists no longer."""
        before = self.devices.classes.get(key[1])
        _keep(self.devices.classes, key[1], found)
        self.devices.reread()
        self._offers_stale = True
        if before is None or found is None or before.spec != found.spec:
            self._reread(self.claimants)
        self._teller.changed()

    def resource_claim(self, key: Key, found: ResourceClaim | None) -> None:
        """A claim for devices exists, or exists no longer."""
        written = self._written.get(key)
        if written is not None:
            if found is not None and _supersedes(written, found):
                return  # from before we wrote it
            del self._written[key]
        self._take_claim(key, found)

    def resource_claim_written(self, key: Key, claim: ResourceClaim) -> None:
        """A claim looks like this since we wrote it; the watch has yet to show it, or something newer."""
        known = self.devices.claims.get(key)
        if known is not None and _supersedes(claim, known):
            self._written[key] = claim
            self._take_claim(key, claim)

    def _take_claim(self, key: Key, found: ResourceClaim | None) -> None:
        self.devices.claim(key, found)
        held = None if found is None else holding(key, found)
        known = self._teller.state.attachments.holdings.get(key)
        if held is not None and held != known:
            self._teller.apply(ev.StorageSeen(held))
        elif held is None and known is not None:
            self._teller.apply(ev.StorageGone(known))
        self._reread(self._users.get(key, ()))
        self._teller.changed()

    def offer(self) -> None:
        """Tell the core what nodes offer by their slices; cheap where nothing has changed."""
        if not self._offers_stale:
            return
        offered, known = self._offered(), self._teller.state.attachments.slices
        for name in [name for name in known if name not in offered]:
            self._tell(name, ev.StorageGone(known[name]))
        for name, each in offered.items():
            if known.get(name) != each:
                self._tell(name, ev.StorageSeen(each))
        self._reread(key for key, pod in self.claimants.items() if self.devices.wants_all(pod))
        self._offers_stale = False  # only now: where the core fails over one, the others are still to be told

    def _tell(self, name: str, event: ev.StorageSeen | ev.StorageGone) -> None:
        """Tell the core, but not again what it has failed over: no cycle would ever be whole again."""
        if self._failed_over.get(name) == event:
            return
        try:
            self._teller.apply(event)
        except Exception:
            self._failed_over[name] = event
            raise
        self._failed_over.pop(name, None)

    def _offered(self) -> Mapping[str, Slice]:
        """What nodes offer, without slices that cannot be read; what was known, where that is no slice's fault."""
        try:
            return self.devices.offered()
        except Exception:
            _logger.exception("what ResourceSlices offer cannot be read")
        for name, error in [(name, error) for name in self.devices.slices if (error := self._fault_of(name))]:
            del self.devices.slices[name]
            self._teller.failed("ResourceSlice", ("", name), error)
        self.devices.reread()
        try:
            return self.devices.offered()
        except Exception:
            _logger.exception("nodes keep the devices that they were known to offer")
            self._teller.fault()
            return dict(self._teller.state.attachments.slices)

    def _fault_of(self, name: str) -> Exception | None:
        """What goes wrong over one slice by itself."""
        alone = replace(self.devices, slices={name: self.devices.slices[name]}, claims={}, _inventories=None)
        try:
            alone.offered()
        except Exception as error:  # noqa: BLE001 - it is told by whoever asks
            return error
        return None

    def _reread(self, concerned: Iterable[PodKey]) -> None:
        for key in sorted(concerned):
            self._read(key, self.claimants[key])


def _keep(table: dict[K, V], key: K, found: V | None) -> None:
    """Know an object by its key, or know it no longer."""
    if found is None:
        table.pop(key, None)
    else:
        table[key] = found


def _supersedes(one: ResourceClaim, other: ResourceClaim) -> bool:
    """Whether one is a later version of the other's object.

    Versions are numbers that grow (KEP-5504); of others only equality is known, and what comes later is believed.
    """
    if one.metadata.uid != other.metadata.uid:
        return False
    first, second = one.metadata.resource_version, other.metadata.resource_version
    if first.isdecimal() and second.isdecimal():
        return int(first) > int(second)
    return False
