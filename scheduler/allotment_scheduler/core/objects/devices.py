"""Devices and what claims ask of them, as values: `resource.k8s.io/v1` with structured parameters.

A device has a driver, attributes and capacities (`DeviceFacts`); what a selector says of those is not decided here but
by a `DeviceFilter`, which is any hashable value with an opinion. A `DeviceClaim` lists requests; each request lists its
alternatives, best first, of which one is to be met. Everything is a value, so that the claims of a thousand pods of one
Job are one class of pods.

`key` names claims that are more than their content: those that several pods may share, and those that hold devices
already. A claim that was made for one pod alone, of a template, has none.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from allotment_scheduler.core.objects.selectors import NodeSelectorTerm, Taint, Toleration

DeviceId = tuple[str, str, str]
"""(driver, pool, device)."""
ClaimKey = tuple[str, str]
"""(namespace, name)."""
Attribute = tuple[str, str]
"""(domain, name)."""
MOST_RESULTS: Final = 32
"""Devices that one claim may hold: the API's limit."""
REFUSING: Final = ("NoSchedule", "NoExecute")
"""Effects of a device's taint that keep it from being given out."""


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """A device as selectors see it: attributes and capacities by (domain, name)."""

    driver: str
    attributes: Mapping[Attribute, Any] = field(default_factory=dict)
    capacity: Mapping[Attribute, Any] = field(default_factory=dict)


class DeviceFilter(Protocol):
    """Says which devices will do. Equal filters are equal values."""

    def selects(self, facts: DeviceFacts) -> bool:
        """Whether a device will do."""

    def __hash__(self) -> int:
        """A filter is part of a class of pods."""


Consumption = tuple[tuple[str, str, int], ...]
"""(counter set, counter, amount), of the pool that a part of a device belongs to."""


@dataclass(frozen=True, slots=True)
class Device:
    """One device of a node. `consumes` something, if it is a part of a device."""

    id: DeviceId
    facts: DeviceFacts
    taints: tuple[Taint, ...] = ()
    consumes: Consumption = ()


@dataclass(frozen=True, slots=True)
class NodeDevices:
    """What one node has, in the order in which devices are given out.

    Attributes:
        devices: of every pool that is known in full.
        counters: by (driver, pool, counter set, counter): what parts of its devices may consume together.
        updating: some pool is not known in full, so that nobody can tell what "all devices" are.
        others: parts of the same pools that are not to be had here, yet consume the same counters when they are taken.
    """

    devices: tuple[Device, ...] = ()
    counters: Mapping[tuple[str, str, str, str], int] = field(default_factory=dict)
    updating: bool = False
    others: tuple[tuple[DeviceId, Consumption], ...] = ()

    @property
    def ids(self) -> Iterator[DeviceId]:
        """All devices that matter here when somebody takes them."""
        yield from (device.id for device in self.devices)
        yield from (part for part, _ in self.others)


@dataclass(frozen=True, slots=True)
class Wish:
    """One way of meeting a request. `count` None: every device that the filter selects, at least one.

    `monitors`: with administrative access, which takes a device from nobody, and may use one that is in use.
    """

    name: str
    filter: DeviceFilter
    count: int | None = 1
    tolerations: tuple[Toleration, ...] = ()
    monitors: bool = False

    def may_have(self, device: Device) -> bool:
        """Whether every refusing taint of a device is tolerated."""
        return all(
            any(each.tolerates(taint) or _tolerates_nameless(each, taint) for each in self.tolerations)
            for taint in device.taints
            if taint.effect in REFUSING
        )


def _tolerates_nameless(toleration: Toleration, taint: Taint) -> bool:
    """Devices, unlike nodes, take a toleration by value without a key."""
    named = toleration.key or toleration.operator not in ("", "Equal")
    return not named and toleration.value == taint.value and toleration.effect in ("", taint.effect)


@dataclass(frozen=True, slots=True)
class Alike:
    """Devices of some requests (of all, if none is named) have one value of an attribute, or `apart`: all different."""

    attribute: Attribute
    requests: frozenset[str] = frozenset()
    apart: bool = False

    def concerns(self, wish: str) -> bool:
        """Whether it is about the devices of a wish, by its name or by that of its request."""
        return not self.requests or wish in self.requests or wish.partition("/")[0] in self.requests


@dataclass(frozen=True, slots=True)
class DeviceClaim:
    """What one claim of a pod asks for. `entry` is what the pod calls it. Without requests, it has what it needs."""

    entry: str = ""
    requests: tuple[tuple[Wish, ...], ...] = ()
    constraints: tuple[Alike, ...] = ()
    key: ClaimKey | None = None
    nodes: tuple[NodeSelectorTerm, ...] | None = None
    """From where the devices that it has can be used; None: from everywhere."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A device for a wish."""

    wish: str
    device: DeviceId
    monitors: bool = False


@dataclass(frozen=True, slots=True)
class Holding:
    """Devices that a claim has been given, as the API server has it, and the uids of the pods it is reserved for."""

    key: ClaimKey
    devices: tuple[DeviceId, ...]
    consumers: tuple[str, ...] = ()
