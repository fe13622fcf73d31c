"""Devices by dynamic resource allocation (resource.k8s.io/v1).

Selectors are CEL expressions over device attributes; they are kept as text. Configuration is for drivers: it is handed
on as it came.
"""

from collections.abc import Iterator

import msgspec

from .models import Model, Object, Resourced
from .nodes import Taint
from .pods import NodeSelector, Toleration


class CelSelector(Model, frozen=True):
    """A CEL expression that a device must satisfy."""

    expression: str = ""


class DeviceSelector(Model, frozen=True):
    """One selector; only CEL exists."""

    cel: CelSelector | None = None


class DeviceClassSpec(Model, frozen=True):
    """Which devices belong to a class."""

    selectors: tuple[DeviceSelector, ...] = ()
    config: tuple[Object, ...] = ()
    extended_resource_name: str | None = None


class DeviceClass(Resourced, frozen=True):
    """resource.k8s.io/v1 DeviceClass."""

    spec: DeviceClassSpec = DeviceClassSpec()


class ExactRequest(Model, frozen=True):
    """A number of devices of one class, or all of them."""

    device_class_name: str = ""
    selectors: tuple[DeviceSelector, ...] = ()
    allocation_mode: str = "ExactCount"
    count: int = 1
    admin_access: bool | None = None
    tolerations: tuple[Toleration, ...] = ()
    capacity: Object | None = None


class SubRequest(ExactRequest, frozen=True):
    """One of several ways of meeting a request. It never has administrative access."""

    name: str = ""


class DeviceRequest(Model, frozen=True):
    """A named request, or a list of alternatives, best first."""

    name: str
    exactly: ExactRequest | None = None
    first_available: tuple[SubRequest, ...] = ()


class DeviceConstraint(Model, frozen=True):
    """What the devices of some requests (of all, if none is named) must have in common, or must not."""

    requests: tuple[str, ...] = ()
    match_attribute: str | None = None
    distinct_attribute: str | None = None


class DeviceClaim(Model, frozen=True):
    """All device requests of a claim."""

    requests: tuple[DeviceRequest, ...] = ()
    constraints: tuple[DeviceConstraint, ...] = ()
    config: tuple[Object, ...] = ()


class ResourceClaimSpec(Model, frozen=True):
    """What a claim asks for."""

    devices: DeviceClaim = DeviceClaim()


def requests_by_name(spec: ResourceClaimSpec) -> Iterator[tuple[str, ExactRequest]]:
    """Requests and alternatives, by the name that allocations have for them."""
    for request in spec.devices.requests:
        if request.exactly is not None:
            yield request.name, request.exactly
        for sub in request.first_available:
            yield f"{request.name}/{sub.name}", sub


class AllocatedDevice(Model, frozen=True):
    """A device given to a request."""

    request: str
    driver: str
    pool: str
    device: str
    admin_access: bool | None = None


class DeviceAllocation(Model, frozen=True):
    """All devices given to a claim."""

    results: tuple[AllocatedDevice, ...] = ()


class Allocation(Model, frozen=True):
    """A claim's devices and the nodes they can be used from."""

    devices: DeviceAllocation = DeviceAllocation()
    node_selector: NodeSelector | None = None


class ClaimConsumer(Model, frozen=True):
    """A pod that the claim is reserved for."""

    resource: str
    name: str
    uid: str


class ResourceClaimStatus(Model, frozen=True):
    """What a claim was given, and for whom it is reserved."""

    allocation: Allocation | None = None
    reserved_for: tuple[ClaimConsumer, ...] = ()


class ResourceClaim(Resourced, frozen=True):
    """resource.k8s.io/v1 ResourceClaim."""

    spec: ResourceClaimSpec = ResourceClaimSpec()
    status: ResourceClaimStatus = ResourceClaimStatus()


class ResourceClaimTemplateSpec(Model, frozen=True):
    """What the claims made of a template look like."""

    spec: ResourceClaimSpec = ResourceClaimSpec()


class ResourceClaimTemplate(Resourced, frozen=True):
    """resource.k8s.io/v1 ResourceClaimTemplate."""

    spec: ResourceClaimTemplateSpec = ResourceClaimTemplateSpec()


class CounterUse(Model, frozen=True):
    """What a part of a device takes of a counter set that it shares with other parts; counters are untyped."""

    counter_set: str
    counters: dict[str, Object] = msgspec.field(default_factory=dict)


class CounterSet(Model, frozen=True):
    """Counters that parts of devices share."""

    name: str
    counters: dict[str, Object] = msgspec.field(default_factory=dict)


class Device(Model, frozen=True):
    """A device of a slice with its attributes, untyped."""

    name: str
    attributes: dict[str, Object] = msgspec.field(default_factory=dict)
    capacity: dict[str, Object] = msgspec.field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    consumes_counters: tuple[CounterUse, ...] = ()
    binding_conditions: tuple[str, ...] = ()
    allow_multiple_allocations: bool | None = None


class DevicePool(Model, frozen=True):
    """The pool a slice is part of; only slices of the highest generation count."""

    name: str
    generation: int = 0
    resource_slice_count: int = 1


class ResourceSliceSpec(Model, frozen=True):
    """Devices of one driver on one node, a set of nodes, or all."""

    driver: str = ""
    pool: DevicePool | None = None
    node_name: str | None = None
    all_nodes: bool | None = None
    node_selector: NodeSelector | None = None
    per_device_node_selection: bool | None = None
    shared_counters: tuple[CounterSet, ...] = ()
    devices: tuple[Device, ...] = ()


class ResourceSlice(Resourced, frozen=True):
    """resource.k8s.io/v1 ResourceSlice."""

    spec: ResourceSliceSpec = ResourceSliceSpec()
