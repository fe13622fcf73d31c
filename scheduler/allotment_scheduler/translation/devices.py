"""Devices: what ResourceSlices offer and ResourceClaims ask for and hold (`resource.k8s.io/v1`).

Taken are devices of slices that belong to one node, whole or in parts that share counters (KEP-4815), asked for by an
exact count or all at once, by class and by selectors of the request, with alternatives (`firstAvailable`), constraints
on attributes, tolerations and administrative access. What else a claim may say is refused by name; what else a device
may be is not offered.

In shares, limits and guarantees devices count per DeviceClass, as resources named as in ResourceQuota,
`<class>.deviceclass.resource.k8s.io/devices`. Until a claim has its devices it counts for the most that it may get:
of alternatives the most of each class, for all devices as many as some node has. From then on it counts for what it
holds. A claim of several pods is paid for by each of them until it has its devices, then by the first that it is
reserved for. Administrative access counts nothing.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from allotment_kube import devices as kube
from allotment_kube import pods as kube_pods
from allotment_scheduler.core.filters.allocation import selected_by
from allotment_scheduler.core.objects.attachments import Slice, device_resource
from allotment_scheduler.core.objects.devices import Alike, ClaimKey, DeviceClaim, DeviceId, Holding, NodeDevices, Wish
from allotment_scheduler.translation.device_selectors import SelectorError, Selectors, selectors
from allotment_scheduler.translation.inventories import Inventories
from allotment_scheduler.translation.selectors import node_terms, toleration

MOST_CONSUMERS: Final = 256
"""Pods that one claim may be reserved for: the API's limit."""


class DeviceError(ValueError):
    """A claim or class asks for something that is not supported; the message says what, and what to change."""


@dataclass(frozen=True, slots=True)
class DeviceNeeds:
    """What a pod's claims mean: devices that count as its own, what is to be found, and what is wrong."""

    requests: Mapping[str, int] = field(default_factory=dict)
    claims: tuple[DeviceClaim, ...] = ()
    problem: str = ""


@dataclass(slots=True)
class Devices:
    """Slices, classes and claims, by name."""

    slices: dict[str, kube.ResourceSlice] = field(default_factory=dict)
    classes: dict[str, kube.DeviceClass] = field(default_factory=dict)
    claims: dict[ClaimKey, kube.ResourceClaim] = field(default_factory=dict)
    templates: dict[ClaimKey, kube.ResourceClaimSpec] = field(default_factory=dict)
    """Only offline: a cluster makes claims of them, which is what pods then have."""
    _inventories: dict[str, NodeDevices] | None = None
    _holders: dict[DeviceId, tuple[ClaimKey, ...]] | None = None

    def inventories(self) -> dict[str, NodeDevices]:
        """The devices of every node, those first that the fewest classes select; remembered until `reread`."""
        if self._inventories is None:
            members = [found for name in self.classes if (found := self._members(name)) is not None]
            self._inventories = Inventories(self.slices.values()).by_node(members)
        return self._inventories

    def claim(self, key: ClaimKey, found: kube.ResourceClaim | None) -> None:
        """A claim exists and looks like this, or exists no longer."""
        before = self.claims.pop(key, None)
        if found is not None:
            self.claims[key] = found
        if self._holders is None:
            return
        for device in set(given_out([before] if before is not None else [])):
            left = tuple(each for each in self._holders[device] if each != key)
            if left:
                self._holders[device] = left
            else:
                del self._holders[device]
        for device in set(given_out([found] if found is not None else [])):
            self._holders[device] = (*self._holders.get(device, ()), key)

    def holders(self, device: DeviceId) -> Collection[ClaimKey]:
        """Claims that hold a device: one, unless they were given it by several who did not know of each other."""
        if self._holders is None:
            self._holders = {}
            for key, claim in self.claims.items():
                for each in set(given_out([claim])):
                    self._holders[each] = (*self._holders.get(each, ()), key)
        return self._holders.get(device, ())

    def reread(self) -> None:
        """Slices or classes have changed."""
        self._inventories = None

    def offered(self) -> dict[str, Slice]:
        """What every node offers, by its name."""
        members = {name: self._members(name) for name in sorted(self.classes)}
        offered = {}
        for node, here in sorted(self.inventories().items()):
            counts = (
                (name, sum(found.selects(device.facts) for device in here.devices))
                for name, found in members.items() if found is not None
            )  # fmt: skip
            offered[node] = Slice(node, node, tuple(pair for pair in counts if pair[1]), here)
        return offered

    def holdings(self) -> Iterator[Holding]:
        """What claims have been given."""
        for key, claim in self.claims.items():
            found = holding(key, claim)
            if found is not None:
                yield found

    # --- what pods need -----------------------------------------------------------------------------------------

    def needs(self, pod: kube_pods.Pod) -> DeviceNeeds:
        """What a pod's claims mean."""
        requests: dict[str, int] = {}
        claims: list[DeviceClaim] = []
        try:
            for entry in pod.spec.resource_claims:
                name = claim_name(pod, entry)
                if name is None:
                    continue
                one = self._needs(pod, entry, name)
                for resource, count in one.requests.items():
                    requests[resource] = requests.get(resource, 0) + count
                claims += one.claims
        except DeviceError as error:
            return DeviceNeeds(problem=str(error))
        return DeviceNeeds(requests, tuple(claims))

    def _needs(self, pod: kube_pods.Pod, entry: kube_pods.PodResourceClaim, name: str) -> DeviceNeeds:
        """What one claim of a pod means."""
        key, uid = (pod.metadata.namespace or "default", name), pod.metadata.uid
        claim = self.claims.get(key)
        if claim is None:
            spec = self._template(key[0], entry)
            return DeviceNeeds(self.charge(entry.name, spec), (self.demand(entry.name, spec, entry.name),))
        _check(claim, pod, entry)
        bound = bool(pod.spec.node_name)
        if claim.status.allocation is None:
            # A pod that is bound although its claim has nothing holds nothing: its kubelet does not start it.
            shared = key if entry.resource_claim_name else None
            wanted = () if bound else (self.demand(name, claim.spec, entry.name, shared),)
            return DeviceNeeds(self.charge(name, claim.spec), wanted)
        consumers = [each.uid for each in claim.status.reserved_for]
        if set(consumers) - {uid}:
            if uid not in consumers and len(consumers) >= MOST_CONSUMERS:
                raise DeviceError(f"ResourceClaim {name} is reserved for {MOST_CONSUMERS} pods: wait, or use another")
            return DeviceNeeds(self._held(claim) if consumers[0] == uid else {}, (_satisfied(claim),))
        # Nobody else has it: where this pod does not come to its devices, the claim is given others.
        shared = key if entry.resource_claim_name or not bound else None
        try:
            return DeviceNeeds(self._held(claim), (self.demand(name, claim.spec, entry.name, shared),))
        except DeviceError:
            return DeviceNeeds(self._held(claim), (_satisfied(claim),))

    def charge(self, claim: str, spec: kube.ResourceClaimSpec) -> dict[str, int]:
        """The most devices of each class that a claim may get, as resources.

        Raises:
            DeviceError: it asks for what is not supported.
        """
        out: dict[str, int] = {}
        for request in spec.devices.requests:
            most: dict[str, int] = {}
            for wish, exact in self._wishes(claim, request):
                if not wish.monitors:
                    resource = device_resource(exact.device_class_name)
                    most[resource] = max(most.get(resource, 0), self._count(wish))
            for resource, count in most.items():
                out[resource] = out.get(resource, 0) + count
        return out

    def wants_all(self, pod: kube_pods.Pod) -> bool:
        """Whether what a pod counts for depends on what nodes offer."""
        specs = (
            self.claims[key].spec for key in claims_of_devices(pod) if key in self.claims
        )  # fmt: skip
        requests = (request for spec in specs for request in spec.devices.requests)
        return any(
            exact.allocation_mode == "All"
            for request in requests
            for exact in (request.exactly, *request.first_available)
            if exact is not None
        )

    def _count(self, wish: Wish) -> int:
        if wish.count is not None:
            return wish.count
        return max((len(selected_by(here, wish)) for here in self.inventories().values()), default=0) or 1

    def _held(self, claim: kube.ResourceClaim) -> dict[str, int]:
        """The devices of each class that a claim holds, as resources."""
        classes = {name: exact.device_class_name for name, exact in kube.requests_by_name(claim.spec)}
        out: dict[str, int] = {}
        allocated = claim.status.allocation
        for result in allocated.devices.results if allocated is not None else ():
            if not result.admin_access and result.request in classes:
                resource = device_resource(classes[result.request])
                out[resource] = out.get(resource, 0) + 1
        return out

    def demand(self, claim: str, spec: kube.ResourceClaimSpec, entry: str, key: ClaimKey | None = None) -> DeviceClaim:
        """What a claim asks for.

        Raises:
            DeviceError: it asks for what is not supported.
        """
        requests = tuple(
            tuple(wish for wish, _ in self._wishes(claim, request)) for request in spec.devices.requests
        )  # fmt: skip
        return DeviceClaim(entry, requests, tuple(_alike(each) for each in spec.devices.constraints), key)

    def _wishes(self, claim: str, request: kube.DeviceRequest) -> Iterator[tuple[Wish, kube.ExactRequest]]:
        """The ways of meeting a request, best first."""
        if request.exactly is not None:
            yield self._wish(claim, request.name, request.exactly), request.exactly
        elif not request.first_available:
            raise DeviceError(f"ResourceClaim {claim}, request {request.name}: give either exactly or firstAvailable")
        for sub in request.first_available:
            yield self._wish(claim, f"{request.name}/{sub.name}", sub), sub

    def _wish(self, claim: str, name: str, asked: kube.ExactRequest) -> Wish:
        where = f"ResourceClaim {claim}, request {name}"
        if asked.capacity is not None:
            raise DeviceError(f"{where}: capacity is not supported: ask for devices by a selector on device.capacity")
        if asked.allocation_mode not in ("", "ExactCount", "All"):
            raise DeviceError(f"{where}: allocationMode {asked.allocation_mode}: write ExactCount or All")
        if asked.device_class_name not in self.classes:
            raise DeviceError(f"{where}: DeviceClass {asked.device_class_name!r} does not exist: create it")
        try:
            found = selectors(_expressions(asked.selectors))
        except SelectorError as error:
            raise DeviceError(f"{where}: its selector: {error}") from error
        of_class = self._members(asked.device_class_name, complain=True)
        both = Selectors((of_class.expressions if of_class is not None else ()) + found.expressions)
        count = None if asked.allocation_mode == "All" else max(asked.count, 1)
        return Wish(name, both, count, tuple(map(toleration, asked.tolerations)), bool(asked.admin_access))

    def _members(self, name: str, *, complain: bool = False) -> Selectors | None:
        """What a class selects by; None for a class whose selectors are not understood."""
        try:
            return selectors(_expressions(self.classes[name].spec.selectors))
        except SelectorError as error:
            if complain:
                raise DeviceError(f"DeviceClass {name}: its selector: {error}") from error
            return None

    def _template(self, namespace: str, entry: kube_pods.PodResourceClaim) -> kube.ResourceClaimSpec:
        template = self.templates.get((namespace, entry.resource_claim_template_name))
        if template is not None:
            return template
        if entry.resource_claim_name:
            raise DeviceError(f"ResourceClaim {entry.resource_claim_name} does not exist: create it")
        raise DeviceError(f"the ResourceClaim for {entry.name} has not been made yet, of template "
                          f"{entry.resource_claim_template_name}")  # fmt: skip


def _satisfied(claim: kube.ResourceClaim) -> DeviceClaim:
    """A claim that has its devices, and can be used where those can."""
    allocated = claim.status.allocation
    return DeviceClaim(nodes=node_terms(allocated.node_selector) if allocated is not None else None)


def _check(claim: kube.ResourceClaim, pod: kube_pods.Pod, entry: kube_pods.PodResourceClaim) -> None:
    """Whether a pod may use a claim at all."""
    name, owner = claim.metadata.name, claim.metadata.controller
    if claim.metadata.deletion_timestamp is not None and not pod.spec.node_name:
        raise DeviceError(f"ResourceClaim {name} is being deleted: create it anew")
    if not entry.resource_claim_name and (owner is None or owner.uid != pod.metadata.uid):
        raise DeviceError(f"ResourceClaim {name} was not made for this pod: delete it, and it is made anew")


def _expressions(listed: Iterable[kube.DeviceSelector]) -> tuple[str, ...]:
    return tuple(each.cel.expression if each.cel is not None else "" for each in listed)


def _alike(constraint: kube.DeviceConstraint) -> Alike:
    name = constraint.match_attribute or constraint.distinct_attribute or ""
    if not name:
        raise DeviceError("spec.devices.constraints: only matchAttribute and distinctAttribute are supported")
    domain, _, plain = name.partition("/")
    return Alike((domain, plain), frozenset(constraint.requests), constraint.match_attribute is None)


def claim_name(pod: kube_pods.Pod, entry: kube_pods.PodResourceClaim) -> str | None:
    """The claim that an entry of a pod means: named, or made of a template; "" while that is to be made.

    None where the cluster has said that the pod needs none.
    """
    if entry.resource_claim_name:
        return entry.resource_claim_name
    made = next((each for each in pod.status.resource_claim_statuses if each.name == entry.name), None)
    return "" if made is None else made.resource_claim_name or None


def claims_of_devices(pod: kube_pods.Pod) -> dict[ClaimKey, str]:
    """The claims for devices that a pod has, as far as they are made, in order, with what the pod calls them."""
    namespace = pod.metadata.namespace or "default"
    named = ((claim_name(pod, entry), entry.name) for entry in pod.spec.resource_claims)
    return {(namespace, name): entry for name, entry in named if name}


def holding(key: ClaimKey, claim: kube.ResourceClaim) -> Holding | None:
    """What a claim has been given; None while it has nothing."""
    allocated = claim.status.allocation
    if allocated is None:
        return None
    devices = ((it.driver, it.pool, it.device) for it in allocated.devices.results if not it.admin_access)
    return Holding(key, tuple(devices), tuple(each.uid for each in claim.status.reserved_for))


def given_out(claims: Iterable[kube.ResourceClaim]) -> Iterator[DeviceId]:
    """Devices that claims hold."""
    for claim in claims:
        found = holding(("", ""), claim)
        if found is not None:
            yield from found.devices
