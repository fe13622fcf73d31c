"""Devices: what ResourceSlices offer and ResourceClaims ask for, as counts per DeviceClass.

Of `resource.k8s.io/v1` this much is taken: whole devices of slices that belong to one node, chosen by the selectors of
their class, asked for as an exact number. They are counted as resources named as in ResourceQuota,
`<class>.deviceclass.resource.k8s.io/devices`, so that shares, limits, guarantees and placement see nothing special.
A device that two classes select counts in both. Everything else that a claim may say is refused, by name.

A claim of several pods is paid for by the first that it is reserved for. A claim that has its devices pins its pods to
the nodes from which those can be used.

`Allocator` picks the devices themselves: those that the fewest classes select first, then by name.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from allotment_api.quantities import QuantityError
from allotment_kube import devices as kube
from allotment_kube import pods as kube_pods
from allotment_kube.models import Object
from allotment_scheduler.core.attachments import Slice, device_resource
from allotment_scheduler.core.selectors import NodeSelectorTerm
from allotment_scheduler.translation.device_selectors import DeviceFacts, Predicate, SelectorError, parse, selects
from allotment_scheduler.translation.scalars import amount
from allotment_scheduler.translation.selectors import node_terms

Key = tuple[str, str]
DeviceId = tuple[str, str, str]
"""(driver, pool, device)."""
_REFUSING: Final = ("NoSchedule", "NoExecute")


class DeviceError(ValueError):
    """A claim or class asks for something that is not supported; the message says what, and what to change."""


@dataclass(frozen=True, slots=True)
class DeviceNeeds:
    """What a pod's claims mean: devices that count as its own, nodes it is pinned to, and what is wrong."""

    requests: Mapping[str, int] = field(default_factory=dict)
    pinned: tuple[tuple[NodeSelectorTerm, ...], ...] = ()
    problem: str = ""


@dataclass(slots=True)
class Devices:
    """Slices, classes and claims, by name."""

    slices: dict[str, kube.ResourceSlice] = field(default_factory=dict)
    classes: dict[str, kube.DeviceClass] = field(default_factory=dict)
    claims: dict[Key, kube.ResourceClaim] = field(default_factory=dict)
    templates: dict[Key, kube.ResourceClaimSpec] = field(default_factory=dict)
    """Only offline: a cluster makes claims of them, which is what pods then have."""

    def offered(self) -> dict[str, Slice]:
        """What every node offers, by its name."""
        members = {name: self._predicates(name) for name in self.classes}
        counts: dict[str, dict[str, int]] = {}
        for node, device in self.inventory():
            table = counts.setdefault(node, {})
            for name, predicates in members.items():
                if predicates is not None and all(selects(predicate, device.facts) for predicate in predicates):
                    table[name] = table.get(name, 0) + 1
        return {node: Slice(node, node, tuple(sorted(table.items()))) for node, table in sorted(counts.items())}

    def inventory(self) -> Iterator[tuple[str, "Known"]]:
        """Devices that may be given out, with their node: of the newest generation of their pool, whole, untainted."""
        newest: dict[tuple[str, str], int] = {}
        for found in self.slices.values():
            if found.spec.pool is not None:
                pool = (found.spec.driver, found.spec.pool.name)
                newest[pool] = max(newest.get(pool, 0), found.spec.pool.generation)
        for found in self.slices.values():
            spec = found.spec
            if spec.pool is None or not spec.node_name or spec.pool.generation != newest[spec.driver, spec.pool.name]:
                continue
            for device in spec.devices:
                if _is_whole(device):
                    yield spec.node_name, Known((spec.driver, spec.pool.name, device.name), _facts(spec, device))

    def needs(self, pod: kube_pods.Pod) -> DeviceNeeds:
        """What a pod's claims mean."""
        requests: dict[str, int] = {}
        pinned: list[tuple[NodeSelectorTerm, ...]] = []
        namespace = pod.metadata.namespace or "default"
        try:
            for entry in pod.spec.resource_claims:
                name = claim_name(pod, entry)
                claim = self.claims.get((namespace, name))
                spec = claim.spec if claim is not None else self._template(namespace, entry)
                if claim is None or _pays(claim, pod.metadata.uid):
                    for device_class, count in self.counts(name or entry.name, spec).items():
                        resource = device_resource(device_class)
                        requests[resource] = requests.get(resource, 0) + count
                terms = _pinned(claim, pod.metadata.uid)
                if terms is not None:
                    pinned.append(terms)
        except DeviceError as error:
            return DeviceNeeds(problem=str(error))
        return DeviceNeeds(requests, tuple(pinned))

    def counts(self, claim: str, spec: kube.ResourceClaimSpec) -> dict[str, int]:
        """How many devices of each class a claim asks for.

        Raises:
            DeviceError: it asks for more than that.
        """
        out: dict[str, int] = {}
        if spec.devices.constraints:
            raise DeviceError(f"ResourceClaim {claim}: constraints are not supported: remove spec.devices.constraints")
        for request in spec.devices.requests:
            exactly = request.exactly
            where = f"ResourceClaim {claim}, request {request.name}"
            if exactly is None:
                raise DeviceError(f"{where}: firstAvailable is not supported: ask for one class under exactly")
            if exactly.selectors:
                raise DeviceError(f"{where}: selectors are not supported: put them into a DeviceClass")
            if exactly.allocation_mode not in ("", "ExactCount") or exactly.admin_access or exactly.capacity:
                raise DeviceError(
                    f"{where}: only allocationMode ExactCount is supported, without adminAccess or capacity"
                )
            if exactly.device_class_name not in self.classes:
                raise DeviceError(f"{where}: DeviceClass {exactly.device_class_name!r} does not exist: create it")
            self._predicates(exactly.device_class_name, complain=True)
            out[exactly.device_class_name] = out.get(exactly.device_class_name, 0) + max(exactly.count, 1)
        return out

    def members(self, name: str, devices: Iterable["Known"]) -> list["Known"]:
        """Those devices that a class selects."""
        predicates = self._predicates(name)
        return [it for it in devices if predicates is not None and all(selects(each, it.facts) for each in predicates)]

    def _template(self, namespace: str, entry: kube_pods.PodResourceClaim) -> kube.ResourceClaimSpec:
        template = self.templates.get((namespace, entry.resource_claim_template_name))
        if template is not None:
            return template
        if entry.resource_claim_name:
            raise DeviceError(f"ResourceClaim {entry.resource_claim_name} does not exist: create it")
        raise DeviceError(f"the ResourceClaim for {entry.name} has not been made yet, of template "
                          f"{entry.resource_claim_template_name}")  # fmt: skip

    def _predicates(self, name: str, *, complain: bool = False) -> list[Predicate] | None:
        found: list[Predicate] = []
        for selector in self.classes[name].spec.selectors:
            try:
                found.append(parse(selector.cel.expression if selector.cel is not None else "false"))
            except SelectorError as error:
                if complain:
                    raise DeviceError(f"DeviceClass {name}: its selector: {error}") from error
                return None
        return found


@dataclass(frozen=True, slots=True)
class Known:
    """A device that may be given out."""

    id: DeviceId
    facts: DeviceFacts


def claim_name(pod: kube_pods.Pod, entry: kube_pods.PodResourceClaim) -> str:
    """The claim that an entry of a pod means: named, or made of a template; "" while that is to be made."""
    if entry.resource_claim_name:
        return entry.resource_claim_name
    made = (each for each in pod.status.resource_claim_statuses if each.name == entry.name)
    return next((each.resource_claim_name for each in made), "")


def claims_of_devices(pod: kube_pods.Pod) -> set[Key]:
    """The claims for devices that a pod has, as far as they are made."""
    namespace = pod.metadata.namespace or "default"
    return {(namespace, name) for entry in pod.spec.resource_claims if (name := claim_name(pod, entry))}


def allocation(devices: Devices, claim: kube.ResourceClaim, node: str, taken: Iterable[DeviceId]) -> Object | None:
    """The devices of a node for a claim, as its `status.allocation`; None if too few are left.

    Raises:
        DeviceError: the claim asks for something that is not supported.
    """
    devices.counts(claim.metadata.name, claim.spec)
    held = set(taken)
    here = [known for where, known in devices.inventory() if where == node]
    popular = {known.id: sum(bool(devices.members(name, [known])) for name in devices.classes) for known in here}
    results: list[Object] = []
    for request in claim.spec.devices.requests:
        if request.exactly is None:
            continue
        fitting = [it for it in devices.members(request.exactly.device_class_name, here) if it.id not in held]
        fitting.sort(key=lambda known: (popular[known.id], known.id))
        if len(fitting) < max(request.exactly.count, 1):
            return None
        for known in fitting[: max(request.exactly.count, 1)]:
            held.add(known.id)
            driver, pool, device = known.id
            results.append({"request": request.name, "driver": driver, "pool": pool, "device": device})
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    return {"devices": {"results": results}, "nodeSelector": {"nodeSelectorTerms": [term]}}


def given_out(claims: Iterable[kube.ResourceClaim]) -> Iterator[DeviceId]:
    """Devices that claims hold."""
    for claim in claims:
        if claim.status.allocation is not None:
            for result in claim.status.allocation.devices.results:
                yield (result.driver, result.pool, result.device)


def _pinned(claim: kube.ResourceClaim | None, uid: str) -> tuple[NodeSelectorTerm, ...] | None:
    """Nodes from which a claim's devices can be used. For its only pod it is given others, if that goes elsewhere."""
    if claim is None or claim.status.allocation is None or [it.uid for it in claim.status.reserved_for] == [uid]:
        return None
    return node_terms(claim.status.allocation.node_selector)


def _pays(claim: kube.ResourceClaim, uid: str) -> bool:
    consumers = claim.status.reserved_for
    return not consumers or consumers[0].uid == uid


def _is_whole(device: kube.Device) -> bool:
    """Whether a device is given to one claim, at once, and to anyone."""
    if device.consumes_counters or device.binding_conditions or device.allow_multiple_allocations:
        return False
    return not any(taint.get("effect") in _REFUSING for taint in device.taints)


def _facts(spec: kube.ResourceSliceSpec, device: kube.Device) -> DeviceFacts:
    attributes = {}
    for name, value in device.attributes.items():
        attributes[_qualified(spec.driver, name)] = next(iter(value.values()), None)
    capacity = {}
    for name, value in device.capacity.items():
        try:
            capacity[_qualified(spec.driver, name)] = amount("memory", str(value.get("value", "0")))
        except QuantityError:
            continue
    return DeviceFacts(spec.driver, attributes, capacity)


def _qualified(driver: str, name: str) -> tuple[str, str]:
    domain, slash, plain = name.rpartition("/")
    return (domain, plain) if slash else (driver, name)
