"""Allocation: which devices of one node meet all claims of a pod, by an exhaustive search.

Semantics as kube-scheduler's allocator (`k8s.io/dynamic-resource-allocation/structured`, 1.36): claims in the pod's
order, requests in the claim's, alternatives in the request's, devices in the node's; the first complete solution is
taken. A request for all devices wants each that its filter selects, also those in use, and so fails while one is.

Pure: what is free is an argument. The order of a node's devices decides which are given out, never whether it is
possible. Devices that differ in nothing that is asked for are tried once. A search that is not done when its `Effort`
is spent counts as failed, for nobody's claims may hold up everybody: kube-scheduler gives up after ten seconds.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from allotment_scheduler.core.objects.devices import (
    MOST_RESULTS,
    Alike,
    Device,
    DeviceClaim,
    DeviceId,
    Grant,
    NodeDevices,
    Wish,
)

MOST_STEPS: Final = 10_000
"""Looks at a device that one search may take."""
LEAST_STEPS: Final = 1_000
"""The same, when many searches for the same claims were long."""
Grants = tuple[tuple[Grant, ...], ...]
"""Of each claim, in the order of requests."""


@dataclass(slots=True)
class Effort:
    """How many looks at devices the searches for one pod's claims may take together, over all nodes."""

    left: int = 200_000

    @property
    def allowance(self) -> int:
        """How many of them the next search may take."""
        return min(max(self.left, LEAST_STEPS), MOST_STEPS)


def allocate(
    node: NodeDevices,
    claims: Sequence[DeviceClaim],
    taken: Collection[DeviceId] = (),
    *,
    selected: Mapping[Wish, Sequence[Device]] | None = None,
    effort: Effort | None = None,
) -> Grants | None:
    """Devices for every claim, None if they cannot all be met.

    Args:
        node: what there is.
        claims: of one pod, each with at least one request.
        taken: devices that others hold.
        selected: devices by wish, where that is known already.
        effort: what this search and others may take.
    """
    effort = effort or Effort()
    wanted = list(claims)
    if sum(len(claim.requests) for claim in claims) > 1:  # what fails alone fails together, and is soon found out
        parts = [[replace(claim, requests=(request,))] for claim in claims for request in claim.requests]
        if any(_searched(node, part, taken, selected or {}, effort) is None for part in parts):
            return None
    return _searched(node, wanted, taken, selected or {}, effort)


def _searched(
    node: NodeDevices,
    claims: list[DeviceClaim],
    taken: Collection[DeviceId],
    selected: Mapping[Wish, Sequence[Device]],
    effort: Effort,
) -> Grants | None:
    search = _Search(node, claims, taken, selected)
    search.most = effort.allowance
    found = search.solve(0, 0)
    effort.left -= search.steps
    return tuple(map(tuple, search.grants)) if found else None


def selected_by(node: NodeDevices, wish: Wish) -> tuple[Device, ...]:
    """The devices of a node that a wish's filter selects."""
    return tuple(device for device in node.devices if wish.filter.selects(device.facts))


class _Search:
    """One try. What has been granted so far is in `grants`; every step back takes away what its step had added."""

    def __init__(
        self,
        node: NodeDevices,
        claims: Sequence[DeviceClaim],
        taken: Collection[DeviceId],
        selected: Mapping[Wish, Sequence[Device]],
    ) -> None:
        self.node = node
        self.claims = claims
        self.taken = taken
        self.selected = dict(selected)
        self.grants: list[list[Grant]] = [[] for _ in claims]
        self.facts: list[list[Device]] = [[] for _ in claims]
        """The devices of `grants`."""
        self.given: dict[DeviceId, int] = {}
        """How many claims of this pod have a device: more than one only with administrative access."""
        self.kinds: dict[DeviceId, object] = {}
        self.steps = 0
        self.most = MOST_STEPS

    def solve(self, claim: int, request: int) -> bool:
        """Meet everything from a request on."""
        if claim == len(self.claims):
            return True
        requests = self.claims[claim].requests
        if request == len(requests):
            return self.solve(claim + 1, 0)
        return any(self._meet(claim, request, wish) for wish in requests[request])

    def _meet(self, claim: int, request: int, wish: Wish) -> bool:
        found = self._selected(wish)
        usable = [device for device in found if self._is_free(claim, wish, device)]
        count = len(found) if wish.count is None else wish.count
        if count > len(usable) or len(self.grants[claim]) + count > MOST_RESULTS:
            return False
        if wish.count is None and (not found or self.node.updating):
            return False
        return self._choose(claim, request, wish, usable, count)

    def _selected(self, wish: Wish) -> Sequence[Device]:
        found = self.selected.get(wish)
        if found is None:
            found = self.selected[wish] = selected_by(self.node, wish)
        return found

    def _choose(self, claim: int, request: int, wish: Wish, usable: Sequence[Device], missing: int) -> bool:
        """Choose the missing devices among usable ones; then go on to the next request."""
        if not missing:
            return self.solve(claim, request + 1)
        failed: set[object] = set()
        for position in range(len(usable) - missing + 1):
            device = usable[position]
            if failed and self._kind(device) in failed:
                continue
            if self.steps > self.most:
                return False
            self._give(claim, wish, device)
            rest = usable[position + 1 :]
            if self.claims[claim].constraints or device.consumes:
                rest = [other for other in rest if self._is_free(claim, wish, other)]
            if len(rest) >= missing - 1 and self._choose(claim, request, wish, rest, missing - 1):
                return True
            self._take_back(claim, device)
            failed.add(self._kind(device))
        return False

    def _kind(self, device: Device) -> object:
        """Devices of one kind may stand for each other: where one does not help, none does."""
        if device.consumes:
            return device.id
        found = self.kinds.get(device.id)
        if found is None:
            wishes = [wish for claim in self.claims for request in claim.requests for wish in request]
            rules = [rule.attribute for claim in self.claims for rule in claim.constraints]
            values = [device.facts.attributes.get(attribute) for attribute in rules]
            found = self.kinds[device.id] = (
                tuple(any(each is device for each in self._selected(wish)) for wish in wishes),
                tuple((type(value), value) for value in values),
                device.taints,
                device.id in self.taken,
            )
        return found, self.given.get(device.id, 0)

    def _is_free(self, claim: int, wish: Wish, device: Device) -> bool:
        self.steps += 1
        if wish.monitors:
            if any(grant.device == device.id for grant in self.grants[claim]):
                return False
        elif device.id in self.taken or self.given.get(device.id):
            return False
        if device.taints and not wish.may_have(device):
            return False
        if device.consumes and not self._counters_allow(device):
            return False
        return all(self._holds(rule, claim, wish, device) for rule in self.claims[claim].constraints)

    def _holds(self, rule: Alike, claim: int, wish: Wish, device: Device) -> bool:
        """Whether a constraint still holds with a device added."""
        if not rule.concerns(wish.name):
            return True
        value = device.facts.attributes.get(rule.attribute)
        if value is None:
            return False
        others = (
            other.facts.attributes[rule.attribute]
            for grant, other in zip(self.grants[claim], self.facts[claim], strict=True)
            if rule.concerns(grant.wish)
        )
        if rule.apart:
            return all(not _same(value, other) for other in others)
        return all(_same(value, other) for other in others)

    def _counters_allow(self, device: Device) -> bool:
        """Whether a part of a device may be had beside the parts that are in use, itself included if it is."""
        driver, pool, _ = device.id
        left = {key: amount for key, amount in self.node.counters.items() if key[:2] == (driver, pool)}
        here = ((other.id, other.consumes) for other in self.node.devices)
        for part, consumes in (*here, *self.node.others):
            times = (part in self.taken) + self.given.get(part, 0) + (part == device.id)
            if times and part[:2] == (driver, pool):
                for counter_set, counter, amount in consumes:
                    key = (driver, pool, counter_set, counter)
                    if key not in left:
                        return False
                    left[key] -= times * amount
        return all(amount >= 0 for amount in left.values())

    def _give(self, claim: int, wish: Wish, device: Device) -> None:
        self.grants[claim].append(Grant(wish.name, device.id, wish.monitors))
        self.facts[claim].append(device)
        self.given[device.id] = self.given.get(device.id, 0) + 1

    def _take_back(self, claim: int, device: Device) -> None:
        self.grants[claim].pop()
        self.facts[claim].pop()
        self.given[device.id] -= 1


def _same(left: object, right: object) -> bool:
    """Whether two attributes have one value: a value of another type is another value."""
    return type(left) is type(right) and left == right
