"""Claims before pods: a pod that asks for devices is bound when they have been given to its ResourceClaims.

The core has chosen the devices; here they are written to the claim with the pod that it is for: first the finalizer
that lets the controller manager take them back one day, then `status.allocation` and `status.reservedFor` together,
both only if nobody has changed the claim since. Once the watch shows it, the pod is bound.

A claim that holds devices for this pod alone is given others if the pod now goes elsewhere: the API server lets no
allocation be changed, so the first is taken away before the other is given. Where a start comes to nothing and its pod
waits, its devices are given back: nobody else may have them, and its node need not be the next one. Devices of pods
that are gone are waited for: the controller manager takes them back soon. If too few are left on the node because
somebody else gave them out, the start comes to nothing, and says so. A write that fails is tried again later
(`setbacks`).

What one start costs here does not grow with the number of claims, nor of pods.
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
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
from allotment_scheduler.shell.ledger import Start
from allotment_scheduler.shell.setbacks import Setbacks
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
    pod: Key | None = None
    """Whom it is for; None where devices are given back."""


@dataclass(slots=True)
class Claims:
    """Gives devices to claims, each claim one write at a time.

    Args:
        devices: slices, classes and claims, as the watches show them.
        pods: every pod with claims, as the watch shows it.
        clock: seconds since the epoch.
        woken: called when a write has succeeded.
        chosen: the devices that the core has decided on, for a pod by its uid.
        told: called with a claim as it was written; the watch may have shown something newer.
        waits: whether a pod of ours, by its key and uid, waits with nothing decided about it.
    """

    devices: Devices
    pods: dict[Key, kube.Pod]
    clock: Callable[[], float]
    woken: Callable[[], None] = lambda: None
    chosen: Callable[[str], Chosen] = lambda _: {}
    told: Callable[[Key, ResourceClaim], None] = lambda _, __: None
    waits: Callable[[Key, str], bool] = lambda _, __: False
    _served: set[Key] | None = None
    """Pods that devices were given to and that are not bound, as far as is known; None: nobody has looked yet."""
    _under_way: set[Key] = field(default_factory=set)
    _being_given: set[DeviceId] = field(default_factory=set)
    _refused: dict[str, str] = field(default_factory=dict)
    """What the API server had against the last write of a claim, by its uid, until somebody has been told."""
    _setbacks: Setbacks = field(init=False)

    def __post_init__(self) -> None:
        self._setbacks = Setbacks(self.clock)

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
            if claim.metadata.uid in self._refused and key not in self._under_way:
                raise DeviceError(self._refused.pop(claim.metadata.uid))
            if self._is_busy(key):
                continue
            consumers = [each for each in claim.status.reserved_for if each.uid != start.uid]
            if len(consumers) >= MOST_CONSUMERS:
                raise DeviceError(f"ResourceClaim {key[1]} is reserved for {MOST_CONSUMERS} pods already")
            if claim.status.allocation is not None and self._on(claim, start.node):
                mine = ClaimConsumer("pods", start.key[1], start.uid)
                reserved = [_consumer(each) for each in [*consumers, mine]]
                out.append(Order(key, claim, {"reservedFor": reserved}, [], start.key))
            elif claim.status.allocation is not None and consumers:
                raise DeviceError(f"the devices of ResourceClaim {key[1]} cannot be used from node {start.node}")
            else:
                unmet[key] = entries[key]
        return out + (self._give(unmet, start) if unmet else [])

    def _give(self, unmet: dict[ClaimKey, str], start: Start) -> list[Order]:
        """Orders that give claims of one pod devices; none while devices that would do are about to be taken back."""
        taken, leaving = self._taken(unmet, start.node)
        found = devices_for(self.devices, unmet, start.node, taken, self.chosen(start.uid))
        if found is None:
            if leaving and devices_for(self.devices, unmet, start.node, taken - leaving, {}) is not None:
                return []
            names = ", ".join(name for _, name in unmet)
            raise DeviceError(f"node {start.node} has too few devices left for ResourceClaim {names}")
        return [self._order(key, grants, start) for key, grants in found.items()]

    def _taken(self, but_for: Collection[ClaimKey], node: str) -> tuple[set[DeviceId], set[DeviceId]]:
        """Devices that other claims hold and that count on a node; and those among them whose pods do not stay there."""
        taken: set[DeviceId] = set()
        leaving: set[DeviceId] = set()
        here = self.devices.inventories().get(node)
        for device in here.ids if here is not None else ():
            holders = [key for key in self.devices.holders(device) if key not in but_for]
            if holders or device in self._being_given:
                taken.add(device)
            if holders and not any(self._is_used(key) for key in holders):
                leaving.add(device)
        return taken, leaving

    def _is_used(self, key: ClaimKey) -> bool:
        """Whether any pod that a claim is reserved for is there, stays, and does not wait."""
        for each in self.devices.claims[key].status.reserved_for:
            pod = self.pods.get((key[0], each.name))
            if pod is None or pod.metadata.uid != each.uid or pod.metadata.deletion_timestamp is not None:
                continue
            if not self.waits((key[0], each.name), each.uid):
                return True
        return False

    def _order(self, key: ClaimKey, grants: tuple[Grant, ...], start: Start) -> Order:
        claim = self.devices.claims[key]
        given = allocation(self.devices.classes, claim, grants, start.node)
        status = {"allocation": given, "reservedFor": [_consumer(ClaimConsumer("pods", start.key[1], start.uid))]}
        return Order(key, claim, status, [grant.device for grant in grants if not grant.monitors], start.key)

    def surplus(self) -> list[Order]:
        """Once a turn: what to write so that devices are given back that were given to pods which wait again."""
        if self._served is None:  # whoever led before us may have left some
            self._served = {*self.pods}
        out: dict[Key, Order] = {}
        for pod_key in sorted(self._served):
            pod = self.pods.get(pod_key)
            if pod is None or pod.spec.node_name:
                self._served.discard(pod_key)
            elif self.waits(pod_key, pod.metadata.uid):
                busy = [key for key in claims_of_devices(pod) if self._is_busy(key)]
                held = [key for key in claims_of_devices(pod) if self._is_reserved(key, pod.metadata.uid)]
                out |= {key: self._giving_back(key) for key in held if key not in busy}
                if not busy and not held:
                    self._served.discard(pod_key)
        return [*out.values()]

    def _is_busy(self, key: Key) -> bool:
        """Whether a claim is being written, or will be tried again later."""
        claim = self.devices.claims.get(key)
        if claim is None or key in self._under_way:
            return claim is not None
        return self._setbacks.holds(key, claim.metadata.uid, claim.metadata.resource_version)

    def _is_reserved(self, key: Key, uid: str) -> bool:
        claim = self.devices.claims.get(key)
        return claim is not None and any(each.uid == uid for each in claim.status.reserved_for)

    def _giving_back(self, key: Key) -> Order:
        """What takes a claim away from every pod that waits, and its devices with the last pod."""
        claim = self.devices.claims[key]
        kept = [each for each in claim.status.reserved_for if not self.waits((key[0], each.name), each.uid)]
        return Order(key, claim, {"reservedFor": [_consumer(each) for each in kept]} if kept else _NOTHING, [])

    def begin(self, order: Order) -> None:
        """An order is about to be carried out: its devices are taken."""
        self._under_way.add(order.key)
        self._being_given.update(order.given)
        if order.pod is not None and self._served is not None:
            self._served.add(order.pod)

    async def carry_out(self, client: ClaimClient, order: Order) -> None:
        """Write one order; after a failure it is asked for again, but not at once."""
        metadata, (namespace, name) = order.claim.metadata, order.key
        try:
            changed = await self._write(client, order)
            self._setbacks.over(order.key)
            self.told(order.key, changed)
            self.woken()
        except (ConflictError, NotFoundError) as error:
            _logger.info("claim %s/%s has changed meanwhile: %s", namespace, name, error)
            self._setbacks.happened(order.key, metadata.uid, version=metadata.resource_version)
        except LeadershipLostError:
            raise
        except ApiError as error:
            if order.pod is not None and isinstance(error, RejectedError | DeniedError):
                # The same again would be refused again.
                self._refused[metadata.uid] = f"ResourceClaim {name} cannot be given its devices: {error.message:.300s}"
                self.woken()
            else:
                _logger.warning("the devices of claim %s/%s cannot be written: %s", namespace, name, error)
                self._setbacks.happened(order.key, metadata.uid)
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
        if order.pod is not None and FINALIZER not in claim.metadata.finalizers:
            claim = await patch({"metadata": {"finalizers": [*claim.metadata.finalizers, FINALIZER]}})
        return await patch({"status": order.status}, "status")

    def _is_ready(self, key: Key, start: Start) -> bool:
        claim = self.devices.claims.get(key)
        if claim is None or claim.status.allocation is None or key in self._under_way:
            return False
        return self._is_reserved(key, start.uid) and self._on(claim, start.node)

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
