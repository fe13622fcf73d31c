"""Claimants: units that fit nowhere now, in serving order, each tried once until something changes.

Equal units of one leaf have equal prospects: when the first unit of a lane finds no plan, the lane is passed over,
except for what sets single units apart (evicted before, in backoff, forbidden to preempt, or of a gang that makes no
room for its own). For whom room is held, by a seat or a reservation, nobody else's failure says anything: these units
stand beside their lanes. Whoever has no right to anyone's room is passed over at once: no lower priority in its own
leaf, and neither guarantee nor entitlement left at any level.

Searching for plans in a full cluster may take longer than a cycle may. So claimants are tried in passes: within one,
whoever found no plan is not tried again; a pass that was cut short goes on in the next cycle; and a new one begins when
the last has been through.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter

import numpy as np

from allotment_scheduler.core.entitlement.filling import Entitlement
from allotment_scheduler.core.eviction.brakes import Brakes
from allotment_scheduler.core.eviction.fruitless import Looked
from allotment_scheduler.core.objects.pods import PodKey
from allotment_scheduler.core.objects.resources import Column
from allotment_scheduler.core.objects.tenants import Tenant
from allotment_scheduler.core.objects.units import Lane, Unit
from allotment_scheduler.core.state.cluster import ClusterState

_NO_VICTIM = np.iinfo(np.int64).max


@dataclass(slots=True)
class Pass:
    """Who found no plan since the pass began: lanes of equal units, and units that stand for themselves alone."""

    tried: set[object] = field(default_factory=set)
    """Leaf and shape of a lane, and the first pod of a unit: what outlasts a new layout of the queues."""
    looked: dict[PodKey, Looked] = field(default_factory=dict)
    """Nodes on which a unit, by its first pod, found no plan: its search may take several cycles."""
    version: int = -1
    """The demand at its beginning."""
    evicted: bool = False
    """Somebody was evicted in its course."""


class Claimants:
    """Proposes each leaf's first unit that has not been tried in this pass and has any right to claim."""

    def __init__(
        self, state: ClusterState, entitlement: Callable[[], Entitlement], tried: Pass, brakes: Brakes,
        favoured: Iterable[Unit] = (),
    ) -> None:  # fmt: skip
        self.state = state
        self.brakes = brakes
        self.entitlement = entitlement
        self._tried = tried.tried
        self._sources: dict[Lane, Iterator[Unit]] = {}
        """Where the search for units that stand for themselves has come to."""
        self._heads: dict[Tenant, dict[Lane | None, Unit]] = {}
        """By lane; None stands for those beside all lanes."""
        self._favoured: dict[Tenant, dict[Unit, None]] = {}
        """Units for whom room is held, in serving order."""
        for unit in sorted(favoured, key=attrgetter("order")):
            self._favoured.setdefault(unit.leaf, {})[unit] = None
        self._headroom: dict[Tenant, list[dict[Column, int]]] = {}
        self._lowest = self._lowest_priorities()

    def _lowest_priorities(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Per leaf, by rank: the lowest priority of a pod that may be evicted."""
        running, size = self.state.running.flush(), self.state.running.size
        lowest = np.full(len(self.state.forest.by_name) + 1, _NO_VICTIM, dtype=np.int64)
        rows = running.used[:size] & running.evictable[:size]
        np.minimum.at(lowest, running.leaf[:size][rows], running.priority[:size][rows])
        return lowest

    def propose(self, leaf: Tenant) -> Unit | None:
        """The first unit of a leaf, in serving order, that has a right and has not been tried."""
        heads = self._heads.get(leaf)
        if heads is None:
            heads = self._heads[leaf] = {}
            queue = self.state.queues.get(leaf.name)
            for lane in (None, *(queue.lanes.values() if queue else ())):
                head = self._head(leaf, lane)
                if head is not None:
                    heads[lane] = head
        while heads:
            lane, unit = min(heads.items(), key=lambda item: item[1].order)
            if self._has_right(unit):
                return unit
            self._advance(lane, unit, heads)
        return None

    def passed_over(self, unit: Unit) -> None:
        """A unit found no plan: on to the next of its leaf."""
        heads = self._heads[unit.leaf]
        self._advance(next(lane for lane, head in heads.items() if head is unit), unit, heads)

    def _advance(self, lane: Lane | None, unit: Unit, heads: dict[Lane | None, Unit]) -> None:
        del heads[lane]
        if lane is not None and not self._special(unit):
            self._tried.add(_identity(lane))
            return
        self._tried.add(unit.first.key)
        following = self._head(unit.leaf, lane)
        if following is not None:
            heads[lane] = following

    def _head(self, leaf: Tenant, lane: Lane | None) -> Unit | None:
        """The first unit of a lane, or beside all lanes of a leaf, that has not been tried."""
        favoured = self._favoured.get(leaf, {})
        if lane is None:
            return next((unit for unit in favoured if unit.first.key not in self._tried), None)
        if _identity(lane) in self._tried:
            return None
        source = self._sources.get(lane)
        if source is None:
            head = lane.head()
            if head is None or (head.first.key not in self._tried and head not in favoured):
                return head
            source = self._sources[lane] = iter(lane.in_order())
        return next((it for it in source if it.first.key not in self._tried and it not in favoured), None)

    def _has_right(self, unit: Unit) -> bool:
        """A necessary condition: someone of lower priority in its leaf, or something left at some level."""
        if any(pod.spec.never_preempts for pod in unit.pods):
            return False
        if self._lowest[unit.leaf.rank] < unit.priority:
            return True
        if any(map(self.state.is_spent, unit.pods)) or not self.brakes.may_claim(unit, self.state.now):
            return False
        if len(self.state.measure.capacity) > 1:
            return True  # rights are compared on the pools where the claimant may run: the planner does
        asks = unit.shape.asks
        return any(all(room.get(column, 0) >= amount for column, amount in asks) for room in self._rooms(unit.leaf))

    def _rooms(self, leaf: Tenant) -> list[dict[Column, int]]:
        """What is left of entitlement and guarantees at every level of a leaf's path."""
        found = self._headroom.get(leaf)
        if found is None:
            entitlement = self.entitlement()
            columns = self.state.measure.columns
            found = [
                {column: entitlement.whole(tenant, column) - tenant.used[column] for column in columns}
                for tenant in leaf.path if not tenant.weightless
            ]  # fmt: skip
            for tenant in leaf.path:
                tables = [tenant.guaranteed] if tenant.guaranteed is not None else []
                found += [{column: cap - tenant.used[column] for column, cap in caps.items()} for caps in tables]
                found += [
                    {column: cap - tenant.used_at(pool)[column] for column, cap in caps.items()}
                    for pool, caps in tenant.guaranteed_in.items()
                ]
            self._headroom[leaf] = found
        return found

    def _special(self, unit: Unit) -> bool:
        """Whether more than its shape decides about its prospects."""
        if any(self.state.is_spent(pod) or pod.spec.never_preempts for pod in unit.pods):
            return True
        return _may_want_its_own(unit) or not self.brakes.may_claim(unit, self.state.now)


def _may_want_its_own(unit: Unit) -> bool:
    """Whether some of its own gang runs that others of its shape might evict, and it may not."""
    members = () if unit.gang is None else unit.gang.members.values()
    return any(pod.node is not None and pod.priority < unit.priority for pod in members)


def _identity(lane: Lane) -> object:
    shape = lane.shape
    return (lane.leaf.name, shape.parts, shape.together, shape.fixed, shape.fixed_asks)
