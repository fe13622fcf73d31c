"""Claims before pods: a pod that asks for devices is bound when they have been given to its ResourceClaims.

The core has chosen the devices; here they are written to the claim with the pod that it is for: first the finalizer
that lets the controller manager take them back one day, then `status.allocation` and `status.reservedFor` together,
both only if nobody has changed the claim since. Once the watch shows it, the pod is bound.

A claim that holds devices for this pod alone is given others if the pod now goes elsewhere: the API server lets no
allocation be changed, so the first is taken away before the other is given. Devices of pods that are gone are waited
for: the controller manager takes them back soon. Those of pods that wait, and are to start nowhere, are taken back by
us after a while: nobody else would, and until then they count as taken. If too few are left on the node since somebody
else gave them out, the start comes to nothing, and says so. A write that fails is tried again later.

What one start costs here does not grow with the number of claims, nor of pods.
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import IntEnum
from math import inf
from typing import Any, Final, Protocol

from allotment_kube import pods as kube
from allotment_kube.devices import ClaimConsumer, ResourceClaim
from allotment_kube.errors import (
    ApiError,
    ConflictError,
    DeniedError,
    LeadershipLostError,
    NotFoundError,
    RejectedError,
)
from allotment_kube.models import Object
from allotment_kube.patches import MergePatch, Patch
from allotment_kube.resources import RESOURCE_CLAIMS, Resource
from allotment_scheduler.core.objects.devices import ClaimKey, DeviceId, Grant
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.shell.backoffs import Backoffs
from allotment_scheduler.shell.errands import Errands
from allotment_scheduler.shell.ledger import Start
from allotment_scheduler.translation.allocations import Chosen, allocation, devices_for
from allotment_scheduler.translation.devices import (
    MOST_CONSUMERS,
    DeviceError,
    Devices,
    claims_of_devices,
)

_logger = logging.getLogger(__name__)
Key = tuple[str, str]
FINALIZER: Final = "resource.kubernetes.io/delete-protection"
_AGAIN: Final = 0.5
"""Seconds after which a claim that could not be written is written again; doubled with every further failure."""
_LONGEST: Final = 30.0
_NOTHING: Final[Object] = {"allocation": None, "reservedFor": None}


class ClaimClient(Protocol):
    """What is needed of a client."""

    async def patch(
        self, resource: Resource[Any], name: str, patch: Patch, *, namespace: str = "", subresource: str = ""
    ) -> Any:  # noqa: ANN401 - the patched object
        """Change part of an object."""


@dataclass(slots=True)
class Order:
    """What is to be written to one claim. `given` are devices that it does not hold yet."""

    key: Key
    claim: ResourceClaim
    status: Object
    given: list[DeviceId]


class Need(IntEnum):
    """How much a pod needs a claim that is reserved for it."""

    GONE = 0
    """It is there no more: the controller manager takes the devices back."""
    WAITS = 1
    """It is ours, and is to start nowhere."""
    LEAVES = 2
    """It is on its way out."""
    STAYS = 3


@dataclass(slots=True)
class Claims:
    """Gives devices to claims, each claim one write at a time.

    Args:
        devices: slices, classes and claims, as the watches show them.
        pods: every pod with claims, as the watch shows it.
        clock: seconds since the epoch.
        woken: called when a write has succeeded.
        chosen: the devices that the core has decided on, for a pod by its uid.
        decided: a pod as the core knows it.
        patience: for how many seconds a waiting pod keeps devices.
        told: called with a claim as it was written; the watch may have shown something newer.
    """

    devices: Devices
    pods: dict[Key, kube.Pod]
    clock: Callable[[], float]
    woken: Callable[[], None]
    chosen: Callable[[str], Chosen]
    decided: Callable[[Key], Pod | None]
    patience: Callable[[], float]
    told: Callable[[Key, ResourceClaim], None]
    _under_way: set[Key] = field(default_factory=set)
    _being_given: set[DeviceId] = field(default_factory=set)
    _refused: dict[str, str] = field(default_factory=dict)
    """What the API server had against the last write of a claim, by its uid, until somebody has been told."""
    _delayed: Backoffs[tuple[Key, str]] = field(default_factory=lambda: Backoffs(longest=_LONGEST))
    """Claims that could not be written, where that says something of one version alone with that, otherwise with ""."""
    _unneeded: dict[Key, str] = field(default_factory=dict)
    """Claims whose devices nobody needed when we last looked, by their version."""
    _looked: float = -inf

    def look(self, client: ClaimClient, errands: Errands) -> None:
        """Once a turn: let claims be written again whose time is over, and take back what nobody needs."""
        now = self.clock()
        self._delayed.over(now)
        self._delayed.forget_where(self._is_past)
        if self._refused:
            there = {claim.metadata.uid for claim in self.devices.claims.values()}
            self._refused = {uid: said for uid, said in self._refused.items() if uid in there}
        if 0 <= now - self._looked < self.patience():
            return
        self._looked, before = now, self._unneeded
        self._unneeded = {key: claim.metadata.resource_version for key, claim in self._only_waited_for()}
        for key, version in self._unneeded.items():
            claim = self.devices.claims[key]
            if before.get(key) == version and key not in self._under_way and not self._is_delayed(key, claim):
                _logger.info("claim %s/%s gives its devices back: its pod waits", *key)
                order = Order(key, claim, _NOTHING, [])
                self.begin(order)
                errands.send(self.carry_out(client, order), "devices", key)

    def _only_waited_for(self) -> list[tuple[Key, ResourceClaim]]:
        """Claims with devices that are reserved for pods of ours which are to start nowhere, and for nobody else."""
        held = ((key, each) for key, each in self.devices.claims.items() if each.status.allocation is not None)
        return [(key, each) for key, each in held if each.status.reserved_for and self._need(key) is Need.WAITS]

    def _is_past(self, noted: tuple[Key, str], uid: str) -> bool:
        """Whether a claim is gone, or is not at the version any more that could not be written."""
        claim = self.devices.claims.get(noted[0])
        return claim is None or claim.metadata.uid != uid or noted[1] not in ("", claim.metadata.resource_version)

    def _is_delayed(self, key: Key, claim: ResourceClaim) -> bool:
        metadata = claim.metadata
        return any(self._delayed.holds((key, version), metadata.uid) for version in ("", metadata.resource_version))

    def awaits_leavers(self, start: Start) -> bool:
        """Whether a pod can be given devices only when others have left its node."""
        entries = claims_of_devices(self.pods[start.key]) if start.key in self.pods else {}
        unmet = {key: entries[key] for key in self.missing(start) if self._is_unmet(key, start)}
        if not unmet:
            return False
        held = self._held(unmet, start.node)
        staying = [device for device, need in held.items() if need is not Need.LEAVES]
        if len(staying) == len(held):
            return False
        try:
            if devices_for(self.devices, unmet, start.node, held, self.chosen(start.uid)) is not None:
                return False
            return devices_for(self.devices, unmet, start.node, staying, {}) is not None
        except DeviceError:
            return False  # who orders them says so

    def _is_unmet(self, key: Key, start: Start) -> bool:
        claim = self.devices.claims.get(key)
        if claim is None or key in self._under_way:
            return False
        return claim.status.allocation is None or not self._on(claim, start.node)

    def missing(self, start: Start) -> list[Key]:
        """The claims of a pod that are not reserved for it, with devices of its node, yet."""
        pod = self.pods.get(start.key)
        return [] if pod is None else [key for key in claims_of_devices(pod) if not self._is_ready(key, start)]

    def orders(self, start: Start) -> list[Order]:
        """What to write for a start now.

        Left out are claims that are being written or will be tried again later, or whose devices are awaited.

        Raises:
            DeviceError: the claims cannot be met on the node; the message says why.
        """
        out: list[Order] = []
        unmet: dict[ClaimKey, str] = {}
        entries = claims_of_devices(self.pods[start.key])
        for key in self.missing(start):
            claim = self.devices.claims.get(key)
            if claim is None:
                raise DeviceError(f"ResourceClaim {key[1]} does not exist any more")
            if key in self._under_way:
                continue
            if claim.metadata.uid in self._refused:
                raise DeviceError(self._refused.pop(claim.metadata.uid))
            if self._is_delayed(key, claim):
                continue
            consumers = [each for each in claim.status.reserved_for if each.uid != start.uid]
            if len(consumers) >= MOST_CONSUMERS:
                raise DeviceError(f"ResourceClaim {key[1]} is reserved for {MOST_CONSUMERS} pods already")
            if claim.status.allocation is not None and self._on(claim, start.node):
                mine = ClaimConsumer("pods", start.key[1], start.uid)
                reserved = [_consumer(each) for each in [*consumers, mine]]
                out.append(Order(key, claim, {"reservedFor": reserved}, []))
            elif claim.status.allocation is not None and consumers:
                raise DeviceError(f"the devices of ResourceClaim {key[1]} cannot be used from node {start.node}")
            else:
                unmet[key] = entries[key]
        return out + (self._give(unmet, start) if unmet else [])

    def _give(self, unmet: dict[ClaimKey, str], start: Start) -> list[Order]:
        """Orders that give claims of one pod devices; none while devices that would do are about to be free."""
        held = self._held(unmet, start.node)
        found = devices_for(self.devices, unmet, start.node, held, self.chosen(start.uid))
        if found is None:
            needed = [device for device, need in held.items() if need is Need.STAYS]
            if len(needed) < len(held) and devices_for(self.devices, unmet, start.node, needed, {}) is not None:
                return []
            names = ", ".join(name for _, name in unmet)
            raise DeviceError(f"node {start.node} has too few devices left for ResourceClaim {names}")
        return [self._order(key, grants, start) for key, grants in found.items()]

    def _held(self, but_for: Collection[ClaimKey], node: str) -> dict[DeviceId, Need]:
        """Devices that other claims hold and that count on a node, with how much they are needed there."""
        out: dict[DeviceId, Need] = {}
        here = self.devices.inventories().get(node)
        for device in here.ids if here is not None else ():
            holders = [key for key in self.devices.holders(device) if key not in but_for]
            if device in self._being_given:
                out[device] = Need.STAYS
            elif holders:
                out[device] = max(self._need(key) for key in holders)
        return out

    def _need(self, key: ClaimKey) -> Need:
        """How much those that a claim is reserved for need it."""
        consumers = self.devices.claims[key].status.reserved_for
        return max((self._need_of((key[0], each.name), each.uid) for each in consumers), default=Need.GONE)

    def _need_of(self, key: Key, uid: str) -> Need:
        pod, decided = self.pods.get(key), self.decided(key)
        if pod is None or pod.metadata.uid != uid:
            return Need.GONE
        if decided is None or decided.spec.uid != uid:
            return Need.STAYS
        if decided.spec.deleting:
            return Need.LEAVES
        return Need.WAITS if decided.spec.ours and decided.node is None else Need.STAYS

    def _order(self, key: ClaimKey, grants: tuple[Grant, ...], start: Start) -> Order:
        claim = self.devices.claims[key]
        given = allocation(self.devices.classes, claim, grants, start.node)
        status = {"allocation": given, "reservedFor": [_consumer(ClaimConsumer("pods", start.key[1], start.uid))]}
        return Order(key, claim, status, [grant.device for grant in grants if not grant.monitors])

    def begin(self, order: Order) -> None:
        """An order is about to be carried out: its devices are taken."""
        self._under_way.add(order.key)
        self._being_given.update(order.given)

    async def carry_out(self, client: ClaimClient, order: Order) -> None:
        """Write one order; after a failure it is asked for again, but not at once."""
        metadata, (namespace, name) = order.claim.metadata, order.key
        try:
            changed = await self._write(client, order)
            self._delayed.forget((order.key, ""))
            self.told(order.key, changed)
            self.woken()
        except (ConflictError, NotFoundError) as error:
            _logger.info("claim %s/%s has changed meanwhile: %s", namespace, name, error)
            self._delay((order.key, metadata.resource_version), metadata.uid, error)
        except LeadershipLostError:
            raise
        except ApiError as error:
            if isinstance(error, RejectedError | DeniedError) and order.status is not _NOTHING:
                # The same again would be refused again.
                self._refused[metadata.uid] = f"ResourceClaim {name} cannot be given its devices: {error.message:.300s}"
                self.woken()
                return
            _logger.warning("claim %s/%s cannot be written: %s", namespace, name, error)
            self._delay((order.key, ""), metadata.uid, error)
        finally:
            self._under_way.discard(order.key)
            self._being_given.difference_update(order.given)

    async def _write(self, client: ClaimClient, order: Order) -> ResourceClaim:
        """Write one order, step by step, each of them only if nobody has changed the claim since the one before."""
        claim = order.claim

        async def patch(body: Object, subresource: str = "") -> ResourceClaim:
            precise = MergePatch(body, resource_version=claim.metadata.resource_version, uid=claim.metadata.uid)
            namespace, name = order.key
            found: ResourceClaim = await client.patch(
                RESOURCE_CLAIMS, name, precise, namespace=namespace, subresource=subresource
            )
            return found

        if claim.status.allocation is not None and order.status.get("allocation") is not None:
            claim = await patch({"status": _NOTHING}, "status")
        if order.status is not _NOTHING and FINALIZER not in claim.metadata.finalizers:
            claim = await patch({"metadata": {"finalizers": [*claim.metadata.finalizers, FINALIZER]}})
        return await patch({"status": order.status}, "status")

    def _delay(self, noted: tuple[Key, str], uid: str, error: ApiError) -> None:
        self._delayed.refused(noted, uid, str(error), now=self.clock(), first=_AGAIN)

    def _is_ready(self, key: Key, start: Start) -> bool:
        claim = self.devices.claims.get(key)
        if claim is None or claim.status.allocation is None or key in self._under_way:
            return False
        return any(each.uid == start.uid for each in claim.status.reserved_for) and self._on(claim, start.node)

    def _on(self, claim: ResourceClaim, node: str) -> bool:
        """Whether a claim's devices can be used from a node, as far as the node's name tells."""
        found = claim.status.allocation
        if found is None or found.node_selector is None:
            return found is not None
        named = [
            value
            for term in found.node_selector.node_selector_terms
            for field_ in term.match_fields if field_.key == "metadata.name"
            for value in field_.values
        ]  # fmt: skip
        return not named or node in named


def _consumer(consumer: ClaimConsumer) -> Object:
    return {"resource": consumer.resource, "name": consumer.name, "uid": consumer.uid}
