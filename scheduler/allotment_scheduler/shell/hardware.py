"""Hardware: what ResourceSlices offer, which pods ask for it by ResourceClaims, and what the claims hold.

What a pod counts for depends on its claims, their classes and, where it asks for all devices of a kind, on what nodes
offer: when one of these changes, the pods concerned are read again.
"""

from collections.abc import Callable
from typing import TypeVar

from allotment_kube import pods as kube
from allotment_kube.devices import DeviceClass, ResourceClaim, ResourceSlice
from allotment_scheduler.core import events as ev
from allotment_scheduler.core.pods import PodKey
from allotment_scheduler.shell.teller import Key, Teller
from allotment_scheduler.translation.devices import Devices, claims_of_devices, holding

K = TypeVar("K")
V = TypeVar("V")


class Hardware:
    """Devices, and who claims them.

    Args:
        teller: tells the core.
        read: takes a pod in again.
    """

    def __init__(self, teller: Teller, read: Callable[[PodKey, kube.Pod], None]) -> None:
        self.devices = Devices()
        """What ResourceSlices offer and ResourceClaims ask for."""
        self.claimants: dict[PodKey, kube.Pod] = {}
        """Every pod with ResourceClaims, as the watch shows it."""
        self._teller = teller
        self._read = read
        self._offers_stale = False

    def resource_slice(self, key: Key, found: ResourceSlice | None) -> None:
        """Devices of a node exist, or exist no longer."""
        _keep(self.devices.slices, key[1], found)
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
            self._reread(lambda _: True)
        self._teller.changed()

    def resource_claim(self, key: Key, found: ResourceClaim | None) -> None:
        """A claim for devices exists, or exists no longer."""
        _keep(self.devices.claims, key, found)
        held = None if found is None else holding(key, found)
        known = self._teller.state.attachments.holdings.get(key)
        if held is not None and held != known:
            self._teller.apply(ev.StorageSeen(held))
        elif held is None and known is not None:
            self._teller.apply(ev.StorageGone(known))
        self._reread(lambda pod: key in claims_of_devices(pod))
        self._teller.changed()

    def offer(self) -> None:
        """Tell the core what nodes offer by their slices; cheap where nothing has changed."""
        if not self._offers_stale:
            return
        self._offers_stale = False
        offered, known = self.devices.offered(), self._teller.state.attachments.slices
        for name in [name for name in known if name not in offered]:
            self._teller.apply(ev.StorageGone(known[name]))
        for name, each in offered.items():
            if known.get(name) != each:
                self._teller.apply(ev.StorageSeen(each))
        self._reread(self.devices.wants_all)

    def _reread(self, concerned: Callable[[kube.Pod], bool]) -> None:
        for key, pod in [*self.claimants.items()]:
            if concerned(pod):
                self._read(key, pod)


def _keep(table: dict[K, V], key: K, found: V | None) -> None:
    """Know an object by its key, or know it no longer."""
    if found is None:
        table.pop(key, None)
    else:
        table[key] = found
