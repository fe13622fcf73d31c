"""Inventories: which devices every node has, from all ResourceSlices of a cluster.

Semantics as kube-scheduler's `GatherPools` (1.36), for slices that belong to one node: of a pool only the newest
generation counts; a pool of which slices are still missing, or in which two devices have one name, or whose devices
consume counters that do not exist, gives nothing.

Parts of devices share the counters of their pool with its parts on other nodes, whoever has those. Left out are slices
for several nodes, and of devices those that several claims may use at once
(`allowMultipleAllocations`) and those with binding conditions.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from allotment_api.quantities import QuantityError
from allotment_api.quantities import parse as exact_quantity
from allotment_kube import devices as kube
from allotment_scheduler.core.objects.devices import (
    Consumption,
    Device,
    DeviceFacts,
    DeviceFilter,
    DeviceId,
    NodeDevices,
)
from allotment_scheduler.translation.selector_values import Quantity
from allotment_scheduler.translation.selectors import taints
from allotment_scheduler.translation.versions import Version, VersionError

Pool = tuple[str, str]
"""(driver, pool)."""
Counter = tuple[str, str, str, str]
"""(driver, pool, counter set, counter)."""
_NANO = 10**9


class Inventories:
    """Slices by pool."""

    def __init__(self, slices: Iterable[kube.ResourceSlice]) -> None:
        self.pools: dict[Pool, list[kube.ResourceSlice]] = {}
        for each in sorted(slices, key=lambda found: found.metadata.name):
            if each.spec.pool is not None:
                self.pools.setdefault((each.spec.driver, each.spec.pool.name), []).append(each)

    def by_node(self, popular: Sequence[DeviceFilter]) -> dict[str, NodeDevices]:
        """The devices of every node; those that the fewest of some filters select come first."""
        found: dict[str, list[Device]] = {}
        counters: dict[str, dict[Counter, int]] = {}
        updating: set[str] = set()
        others: dict[str, list[tuple[DeviceId, Consumption]]] = {}
        for pool, slices in sorted(self.pools.items()):
            for node in sorted({it.spec.node_name for it in slices if it.spec.node_name}):
                here = _of_node(slices, node)
                if here is None:
                    continue
                found.setdefault(node, [])
                used = _counters(pool, here) if here else None
                if used is None or not _is_sound(here, used):
                    updating.add(node)
                    continue
                found[node] += _devices(pool, [it for it in here if it.spec.node_name == node])
                counters.setdefault(node, {}).update(used)
                if used:
                    others.setdefault(node, []).extend(_others(pool, slices, here, node))
        for devices in found.values():
            devices.sort(key=lambda device: sum(each.selects(device.facts) for each in popular))
        return {
            node: NodeDevices(tuple(devices), counters.get(node, {}), node in updating, tuple(others.get(node, ())))
            for node, devices in found.items()
        }


def _of_node(slices: list[kube.ResourceSlice], node: str) -> list[kube.ResourceSlice] | None:
    """The slices of a pool that matter for a node: [] while some are missing, None where the pool is out of date."""
    mine = [it for it in slices if it.spec.node_name == node or it.spec.shared_counters]
    newest = max(_generation(it) for it in mine)
    mine = [it for it in mine if _generation(it) == newest]
    if not any(it.spec.node_name == node for it in mine):
        return None
    expected = mine[0].spec.pool.resource_slice_count if mine[0].spec.pool is not None else 0
    if len(mine) == expected:
        return mine
    if any(_generation(it) > newest for it in slices):
        return None
    return mine if sum(_generation(it) == newest for it in slices) == expected else []


def _generation(found: kube.ResourceSlice) -> int:
    return found.spec.pool.generation if found.spec.pool is not None else 0


def _counters(pool: Pool, slices: list[kube.ResourceSlice]) -> dict[Counter, int] | None:
    """What parts of devices may consume together; None where a set is described twice."""
    sets = [each for found in slices for each in found.spec.shared_counters]
    if len({each.name for each in sets}) < len(sets):
        return None
    return {(*pool, each.name, name): _nanos(value) for each in sets for name, value in each.counters.items()}


def _is_sound(slices: list[kube.ResourceSlice], counters: dict[Counter, int]) -> bool:
    """Whether names are unique, and every counter that is consumed exists."""
    devices = [device for found in slices for device in found.spec.devices]
    known = {(counter_set, name) for _, _, counter_set, name in counters}
    used = {(it.counter_set, name) for device in devices for it in device.consumes_counters for name in it.counters}
    return len({device.name for device in devices}) == len(devices) and used <= known


def _devices(pool: Pool, slices: list[kube.ResourceSlice]) -> Iterator[Device]:
    for found in slices:
        for device in found.spec.devices:
            if _is_offered(device):
                yield Device((*pool, device.name), facts(pool[0], device), taints(device.taints), _consumption(device))


def _is_offered(device: kube.Device) -> bool:
    return not device.binding_conditions and not device.allow_multiple_allocations


def _consumption(device: kube.Device) -> Consumption:
    return tuple(
        (it.counter_set, name, _nanos(value))
        for it in device.consumes_counters for name, value in sorted(it.counters.items())
    )  # fmt: skip


def _others(
    pool: Pool, slices: list[kube.ResourceSlice], here: list[kube.ResourceSlice], node: str
) -> Iterator[tuple[DeviceId, Consumption]]:
    """Parts of a pool that a node does not offer: of other nodes, of several, or to be had by nobody."""
    newest = _generation(here[0])
    for found in slices:
        if _generation(found) == newest:
            for device in found.spec.devices:
                if device.consumes_counters and not (found.spec.node_name == node and _is_offered(device)):
                    yield (*pool, device.name), _consumption(device)


def facts(driver: str, device: kube.Device) -> DeviceFacts:
    """A device as selectors see it; what cannot be read is left out."""
    attributes = {_qualified(driver, name): _attribute(value) for name, value in device.attributes.items()}
    capacity = {}
    for name, value in device.capacity.items():
        try:
            capacity[_qualified(driver, name)] = Quantity(exact_quantity(str(value.get("value", "0"))))
        except QuantityError:
            continue
    return DeviceFacts(driver, {name: value for name, value in attributes.items() if value is not None}, capacity)


def _attribute(value: dict[str, Any]) -> str | int | bool | Version | None:
    """An attribute's value; None for kinds of values that are not known."""
    for kind, of_kind in (("int", int), ("bool", bool), ("string", str)):
        if isinstance(value.get(kind), of_kind):
            found: str | int | bool = value[kind]
            return found
    version = value.get("version")
    try:
        return Version.parse(version) if isinstance(version, str) else None
    except VersionError:
        return None


def _qualified(driver: str, name: str) -> tuple[str, str]:
    domain, slash, plain = name.rpartition("/")
    return (domain, plain) if slash else (driver, name)


def _nanos(value: dict[str, Any]) -> int:
    try:
        return int(exact_quantity(str(value.get("value", "0"))) * _NANO)
    except QuantityError:
        return 0
