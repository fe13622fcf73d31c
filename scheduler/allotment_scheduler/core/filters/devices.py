"""Filters that depend on devices: which nodes can meet all claims of a pod with what nobody holds.

Devices are taken by *holdings*, which are allocations as the API server has them, and by *assumptions*, which are what
this scheduler has decided and not written yet: whoever starts is given devices at once, so that the next finds fewer.
A holding counts until the API server takes it back, except while every pod that it is reserved for has left its node:
then whoever may have the pod's room may have its devices, in a trial as in earnest. A pod that waits, because its start
was tried only or came to nothing, has left nothing: the devices of its claims are nobody else's.

Claims that pods share are met once, by the first that starts; the others follow it to its node.

Pods without claims never come here. A `DeviceDemand` remembers its verdict on every node and asks again only about
nodes whose devices have changed since.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np

from allotment_scheduler.core.filters.allocation import Effort, Grants, allocate, selected_by
from allotment_scheduler.core.objects.attachments import Attachments
from allotment_scheduler.core.objects.devices import (
    ClaimKey,
    Device,
    DeviceClaim,
    DeviceId,
    Grant,
    Holding,
    NodeDevices,
    Wish,
)
from allotment_scheduler.core.objects.nodes import BoolVector, Nodes
from allotment_scheduler.core.objects.pods import Pod, PodClass

_LONG_LOG: Final = 50_000
_LONG_MEMORY: Final = 10_000
_NOTHING: Final = NodeDevices()


@dataclass(slots=True)
class Assumption:
    """What a pod was given when it was decided to start it on a node."""

    node: str
    claims: int
    """How many of its claims were still to be met."""
    grants: dict[str, tuple[Grant, ...]] = field(default_factory=dict)
    """Of claims that are the pod's alone, by the pod's name for the claim."""
    keyed: dict[str, ClaimKey] = field(default_factory=dict)
    """Its other claims, by the pod's name for them: their devices are in `DeviceUse.shared`."""


@dataclass(slots=True)
class Shared:
    """What a claim was given that several pods may use, and the pods that do."""

    node: str
    grants: tuple[Grant, ...]
    users: set[str] = field(default_factory=set)


@dataclass(slots=True)
class DeviceUse:
    """Who has which devices."""

    storage: Attachments
    nodes: Nodes
    version: int = 0
    """Moves with every change of what is taken."""
    epoch: int = 0
    """Moves when `log` starts anew: every verdict is void."""
    log: list[int] = field(default_factory=list)
    """Indexes of nodes whose devices were taken or given back, in order; readers keep a cursor into it."""
    _taken: dict[DeviceId, int] = field(default_factory=dict)
    _home: dict[DeviceId, int] = field(default_factory=dict)
    _beside: dict[DeviceId, list[int]] = field(default_factory=dict)
    """Nodes on which a part of a device is not to be had, and counts all the same."""
    _assumed: dict[str, Assumption] = field(default_factory=dict)
    """By pod uid."""
    _left: dict[str, Assumption] = field(default_factory=dict)
    """What pods had that left their node: they have it again if they come back, as when a trial is rolled back."""
    _shared: dict[ClaimKey, Shared] = field(default_factory=dict)
    _held_by: dict[str, set[ClaimKey]] = field(default_factory=dict)
    """Holdings by the uid of a pod that they are reserved for."""
    _away: set[str] = field(default_factory=set)
    """Pods with holdings that have left their node."""
    _selected: dict[tuple[int, Wish], tuple[Device, ...]] = field(default_factory=dict)
    _possible: WeakKeyDictionary[PodClass, BoolVector] = field(default_factory=WeakKeyDictionary)

    # --- what the API server says -------------------------------------------------------------------------------

    def hold(self, holding: Holding) -> None:
        """A claim has been given devices, or others, or is reserved for other pods."""
        self.release(holding.key)
        self.storage.holdings[holding.key] = holding
        for uid in holding.consumers:
            self._held_by.setdefault(uid, set()).add(holding.key)
        if not self._is_free(holding):
            self._count(holding.devices, 1)
        self._confirm_shared(holding.key)
        for uid in holding.consumers:
            self._confirm(uid)
        self.version += 1

    def release(self, key: ClaimKey) -> None:
        """A claim has no devices any more."""
        holding = self.storage.holdings.pop(key, None)
        if holding is None:
            return
        if not self._is_free(holding):
            self._count(holding.devices, -1)
        for uid in holding.consumers:
            keys = self._held_by[uid]
            keys.discard(key)
            if not keys:
                del self._held_by[uid]
                self._away.discard(uid)
        self.version += 1

    def _is_free(self, holding: Holding) -> bool:
        return bool(holding.consumers) and all(uid in self._away for uid in holding.consumers)

    def _confirm_shared(self, key: ClaimKey) -> None:
        """A holding takes the place of what was assumed for a claim that pods share."""
        shared = self._shared.pop(key, None)
        if shared is None:
            return
        self._count(_exclusive(shared.grants), -1)
        for uid in shared.users:
            assumed = self._assumed[uid]
            assumed.keyed = {entry: other for entry, other in assumed.keyed.items() if other != key}

    def _confirm(self, uid: str) -> None:
        """A holding takes the place of what was assumed for a claim of one pod, which only its devices tell."""
        assumed = self._assumed.get(uid)
        if assumed is None:
            return
        here = self._holdings_on(uid, assumed.node)
        devices = {device for holding in here for device in holding.devices}
        for entry, grants in [*assumed.grants.items()]:
            if len(here) >= assumed.claims or any(grant.device in devices for grant in grants):
                self._count(_exclusive(grants), -1)
                del assumed.grants[entry]

    def _holdings_on(self, uid: str, node: str) -> list[Holding]:
        """What a pod's claims hold on a node, or may hold there."""
        held = (self.storage.holdings[key] for key in self._held_by.get(uid, ()))
        return [holding for holding in held if self._is_on(holding, node)]

    def _is_on(self, holding: Holding, node: str) -> bool:
        """Whether none of a holding's devices is known to be elsewhere."""
        index = self.nodes.by_name[node].index if node in self.nodes.by_name else -1
        return all(self._home.get(device, index) == index for device in holding.devices)

    # --- starts and departures ----------------------------------------------------------------------------------

    def count(self, pod: Pod, sign: int) -> None:
        """A pod with claims started (1) on its node, or left (-1) it."""
        uid = _uid(pod)
        if sign < 0:
            self._leave(uid)
            return
        self._returns(uid)
        self._assume(pod, uid)

    def waits(self, pod: Pod) -> None:
        """A pod has no node, and stands nowhere on its way out: what its claims hold is taken."""
        if self._away:
            self._returns(_uid(pod))

    def _returns(self, uid: str) -> None:
        if uid in self._away:
            freed = [key for key in self._held_by[uid] if self._is_free(self.storage.holdings[key])]
            self._away.discard(uid)
            for key in freed:
                self._count(self.storage.holdings[key].devices, 1)

    def _leave(self, uid: str) -> None:
        assumed = self._assumed.pop(uid, None)
        if assumed is not None:
            if len(self._left) > _LONG_MEMORY:
                self._left.clear()
            self._left[uid] = assumed
            self._drop(uid, assumed)
        held = self._held_by.get(uid, ())
        before = [key for key in held if not self._is_free(self.storage.holdings[key])]
        if held:
            self._away.add(uid)
        for key in before:
            if self._is_free(self.storage.holdings[key]):
                self._count(self.storage.holdings[key].devices, -1)

    def _drop(self, uid: str, assumed: Assumption) -> None:
        for grants in assumed.grants.values():
            self._count(_exclusive(grants), -1)
        for key in assumed.keyed.values():
            shared = self._shared.get(key)
            if shared is not None:
                shared.users.discard(uid)
                if not shared.users:
                    del self._shared[key]
                    self._count(_exclusive(shared.grants), -1)

    def _assume(self, pod: Pod, uid: str) -> None:
        """Give a pod devices on its node, the same as before if it had some there that are free."""
        node = self.nodes.by_name.get(pod.node or "")
        claims = [claim for claim in pod.klass.spec.devices if claim.requests]
        if node is None or node.index < 0 or not claims:
            return
        name = node.spec.name
        if len(self._holdings_on(uid, name)) >= len(claims):
            return
        before = self._left.pop(uid, None)
        if before is not None and before.node == name and not before.keyed and self._has_free(before):
            self._enter(uid, before)
            return
        fresh = [claim for claim in claims if claim.key is None or claim.key not in self._shared]
        found = self.grants(claims, node.index)
        assumed = Assumption(name, len(claims))
        for claim, grants in zip(fresh, found or ((),) * len(fresh), strict=True):
            if claim.key is None:
                assumed.grants[claim.entry] = grants
            else:
                self._shared[claim.key] = Shared(name, grants)
                self._count(_exclusive(grants), 1)
        assumed.keyed = {claim.entry: claim.key for claim in claims if claim.key is not None}
        self._enter(uid, assumed)

    def _has_free(self, assumed: Assumption) -> bool:
        """Whether nobody has taken what somebody had."""
        return not any(device in self._taken for grants in assumed.grants.values() for device in _exclusive(grants))

    def _enter(self, uid: str, assumed: Assumption) -> None:
        self._assumed[uid] = assumed
        for grants in assumed.grants.values():
            self._count(_exclusive(grants), 1)
        for key in assumed.keyed.values():
            if key in self._shared:
                self._shared[key].users.add(uid)

    def chosen(self, uid: str) -> dict[str, tuple[Grant, ...]]:
        """The devices that were chosen for a pod's claims when its start was decided, by its name for the claim."""
        assumed = self._assumed.get(uid)
        if assumed is None:
            return {}
        keyed = {entry: self._shared[key].grants for entry, key in assumed.keyed.items() if key in self._shared}
        return assumed.grants | keyed

    def _count(self, devices: Iterable[DeviceId], sign: int) -> None:
        for device in devices:
            left = self._taken.get(device, 0) + sign
            if left:
                self._taken[device] = left
            else:
                self._taken.pop(device, None)
            if device in self._home:
                self.log.append(self._home[device])
            self.log.extend(self._beside.get(device, ()))
        self.version += 1
        if len(self.log) > _LONG_LOG:
            self.log.clear()
            self.epoch += 1

    def reset(self, running: Iterable[Pod]) -> None:
        """Nodes or devices have changed: count everything anew; who runs keeps what was assumed for it."""
        self._locate()
        for known in (self._taken, self._selected, self._possible, self._left, self.log):
            known.clear()
        self.epoch += 1
        for holding in self.storage.holdings.values():
            if not self._is_free(holding):
                self._count(holding.devices, 1)
        for shared in self._shared.values():
            shared.users.clear()
        before, self._assumed = self._assumed, {}
        fresh: list[Pod] = []
        for pod in running:
            assumed = before.get(_uid(pod))
            if assumed is not None and assumed.node == pod.node:
                self._enter(_uid(pod), assumed)
            else:
                fresh.append(pod)
        self._shared = {key: shared for key, shared in self._shared.items() if shared.users}
        for shared in self._shared.values():
            self._count(_exclusive(shared.grants), 1)
        for pod in fresh:
            self.count(pod, 1)

    def _locate(self) -> None:
        """Where devices are, and where else they count."""
        self._home, self._beside = {}, {}
        for node in self.nodes.ordered:
            here = self._devices(node.index)
            self._home.update((device.id, node.index) for device in here.devices)
            for part, _ in here.others:
                self._beside.setdefault(part, []).append(node.index)

    def drifted(self) -> DeviceId | None:
        """A device whose count differs from what holdings and assumptions say, None if there is none."""
        total: dict[DeviceId, int] = {}
        lists = [list(holding.devices) for holding in self.storage.holdings.values() if not self._is_free(holding)]
        lists += [list(_exclusive(grants)) for it in self._assumed.values() for grants in it.grants.values()]
        lists += [list(_exclusive(shared.grants)) for shared in self._shared.values()]
        for devices in lists:
            for device in devices:
                total[device] = total.get(device, 0) + 1
        both = total.keys() | self._taken.keys()
        return next((it for it in sorted(both) if total.get(it, 0) != self._taken.get(it, 0)), None)

    # --- answers ------------------------------------------------------------------------------------------------

    def _devices(self, index: int) -> NodeDevices:
        return self.storage.inventories.get(self.nodes.ordered[index].spec.name, _NOTHING)

    def _blocked(self, claims: Iterable[DeviceClaim]) -> set[DeviceId]:
        """What is taken, but not by these claims themselves: they may be given other devices instead."""
        own: dict[DeviceId, int] = {}
        for claim in claims:
            holding = self.storage.holdings.get(claim.key) if claim.key is not None else None
            if holding is not None and not self._is_free(holding):
                for device in holding.devices:
                    own[device] = own.get(device, 0) + 1
        if not own:
            return set(self._taken)
        return {device for device, count in self._taken.items() if count > own.get(device, 0)}

    def grants(self, claims: Iterable[DeviceClaim], index: int, effort: Effort | None = None) -> Grants | None:
        """Devices of a node for those claims that nobody was given devices for; None if they cannot all be met."""
        wanted = []
        name = self.nodes.ordered[index].spec.name
        for claim in claims:
            shared = self._shared.get(claim.key) if claim.key is not None else None
            if shared is None:
                wanted.append(claim)
            elif shared.node != name:
                return None
        if not wanted:
            return ()
        here = self._devices(index)
        blocked = {device for device in here.ids if device in self._taken}
        if blocked and any(claim.key in self.storage.holdings for claim in wanted if claim.key is not None):
            blocked &= self._blocked(wanted)
        return allocate(here, wanted, blocked, selected=self._matches(wanted, index), effort=effort)

    def meets(self, claims: tuple[DeviceClaim, ...], index: int, effort: Effort) -> bool:
        """Whether a node that could meet claims if all its devices were free can meet them now."""
        if not any(device in self._taken for device in self._devices(index).ids) and not any(self.met(claims)):
            return True
        return self.grants(claims, index, effort) is not None

    def _matches(self, claims: Iterable[DeviceClaim], index: int) -> dict[Wish, tuple[Device, ...]]:
        found: dict[Wish, tuple[Device, ...]] = {}
        for claim in claims:
            for wishes in claim.requests:
                for wish in wishes:
                    known = self._selected.get((index, wish))
                    if known is None:
                        known = self._selected[index, wish] = selected_by(self._devices(index), wish)
                    found[wish] = known
        return found

    def met(self, claims: Iterable[DeviceClaim]) -> tuple[str, ...]:
        """Where those of some claims that pods share are met by assumptions."""
        keys = (claim.key for claim in claims if claim.key is not None)
        return tuple(self._shared[key].node if key in self._shared else "" for key in keys)

    def possible(self, klass: PodClass) -> BoolVector:
        """Nodes that could meet a class's claims if all their devices were free."""
        found = self._possible.get(klass)
        if found is None:
            claims = [claim for claim in klass.spec.devices if claim.requests]
            effort = Effort()
            verdicts = [not claims or self._could(claims, index, effort) for index in range(len(self.nodes.ordered))]
            found = np.array(verdicts, dtype=np.bool_)
            self._possible[klass] = found
        return found

    def _could(self, claims: list[DeviceClaim], index: int, effort: Effort) -> bool:
        matches = self._matches(claims, index)
        return allocate(self._devices(index), claims, selected=matches, effort=effort) is not None

    def demand(self, klass: PodClass) -> "DeviceDemand | None":
        """What a class demands of the devices that are free; None where it has what it needs."""
        claims = tuple(claim for claim in klass.spec.devices if claim.requests)
        return DeviceDemand(self, claims, self.possible(klass)) if claims else None


@dataclass(slots=True, eq=False)
class DeviceDemand:
    """What pods of a class demand of the devices that are free: a verdict on every node, kept up to date."""

    use: DeviceUse
    claims: tuple[DeviceClaim, ...]
    possible: BoolVector
    """Nodes worth asking about."""
    _fits: BoolVector | None = None
    _seen: tuple[int, tuple[str, ...]] = (-1, ())
    """The epoch, and where shared claims were met, when every node was last asked about."""
    _cursor: int = 0

    @property
    def version(self) -> int:
        """Moves whenever an answer may have changed."""
        return self.use.version

    def fits(self) -> BoolVector:
        """Nodes with enough devices left."""
        use = self.use
        met = use.met(self.claims)
        if self._fits is None or self._seen != (use.epoch, met):
            self._seen = (use.epoch, met)
            self._fits = np.zeros(len(self.possible), dtype=np.bool_)
            asked: Iterable[int] = np.flatnonzero(self.possible).tolist()
        else:
            asked = set(use.log[self._cursor :]) if self._cursor < len(use.log) else ()
        self._cursor = len(use.log)
        effort = Effort()
        for index in asked:
            self._fits[index] = self.possible[index] and use.meets(self.claims, index, effort)
        return self._fits


def _uid(pod: Pod) -> str:
    return pod.spec.uid or "/".join(pod.key)


def _exclusive(grants: Iterable[Grant]) -> Iterator[DeviceId]:
    """The devices that nobody else may have."""
    return (grant.device for grant in grants if not grant.monitors)
