"""Who is served next: the tenant tree as heaps that are kept up to date along one path per decision.

Every leaf proposes its first eligible unit; every inner tenant the proposal of its best child; the root's best is
served.
Children are ordered by the serving key (shares.py): within the guarantee first, then the smallest weighted dominant
share, then the fewest pods, then the name. At a leaf the share is over all resources. At an inner tenant it is over the
resources that its own best leaf uses or its candidate requests: so complementary children do not starve each other,
while a plain sum still counts everything that was used.

A start changes the keys of one path only, so a decision costs O(depth · log(children)). Heaps hold stale entries, which
are recognised by identity and dropped when they surface.
"""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from allotment_scheduler.core.fairness.shares import ServingKey, Where
from allotment_scheduler.core.objects.resources import Column
from allotment_scheduler.core.objects.tenants import Tenant
from allotment_scheduler.core.objects.units import Unit
from allotment_scheduler.core.state.cluster import ClusterState

Stall = tuple[ServingKey, int, Tenant, Unit]
"""One tenant's place in its parent's order. The number only keeps comparisons from going beyond it."""


@dataclass(slots=True)
class Serving:
    """The serving order over all leaves.

    `propose` returns a leaf's first eligible unit, None if it has none; `where` says where that unit would stand, and
    is asked only where a guarantee for a pool depends on it.
    """

    state: ClusterState
    propose: Callable[[Tenant], Unit | None]
    where: Callable[[Unit], Where]
    stalls: dict[Tenant, Stall] = field(default_factory=dict)
    heaps: dict[Tenant, list[Stall]] = field(default_factory=dict)
    columns: dict[Tenant, tuple[Column, ...]] = field(default_factory=dict)
    """D of the tenants above a leaf, while that leaf's candidate is theirs."""
    places: dict[Tenant, Where] = field(default_factory=dict)
    """Where the candidate of a leaf would stand, if that matters."""
    count: int = 0

    def refresh_all(self, leaves: Iterable[Tenant]) -> None:
        """Ask every one of these leaves anew, and order the tree from the bottom."""
        pending: dict[Tenant, None] = {}
        for leaf in leaves:
            self._set(leaf, self.propose(leaf))
            if leaf.parent is not None:
                pending[leaf.parent] = None
        while pending:
            deepest = max(tenant.depth for tenant in pending)
            above: dict[Tenant, None] = {}
            for tenant in pending:
                if tenant.depth < deepest:
                    above[tenant] = None
                elif tenant.parent is not None:
                    self._set(tenant, self._best_unit(tenant))
                    above[tenant.parent] = None
            pending = above

    def refresh(self, leaf: Tenant) -> None:
        """A leaf's use or candidate has changed: put its path in order."""
        self._set(leaf, self.propose(leaf))
        tenant = leaf.parent
        while tenant is not None and tenant.parent is not None:
            self._set(tenant, self._best_unit(tenant))
            tenant = tenant.parent

    def next(self) -> Unit | None:
        """The unit to serve next."""
        return self._best_unit(self.state.forest.root)

    def _best_unit(self, tenant: Tenant) -> Unit | None:
        heap = self.heaps.get(tenant)
        stalls = self.stalls
        while heap:
            stall = heap[0]
            if stalls.get(stall[2]) is stall:
                return stall[3]
            heapq.heappop(heap)
        return None

    def _set(self, tenant: Tenant, unit: Unit | None) -> None:
        if unit is None:
            self.stalls.pop(tenant, None)
            return
        measure = self.state.measure
        leaf, shape = unit.leaf, unit.shape
        if tenant is leaf:
            columns = measure.columns
            if leaf.depth > 1:
                asked = shape.asked
                everything = len(asked) == len(columns) and asked.issuperset(columns)
                self.columns[leaf] = columns if everything else measure.used_or_asked(leaf, asked)
            if leaf.pool_guaranteed:
                self.places[leaf] = self.where(unit)
        else:
            columns = self.columns[leaf]
        self.count += 1
        where = self.places[leaf] if tenant.guaranteed_in else ()
        key = measure.key(tenant, columns, shape.asks, where)
        if tenant is not leaf and self.state.share_policy == "hdrf":
            key = (key[0], key[1], measure.rescaled_points(tenant) * tenant.multiplier, key[3], key[4])
        stall = (key, self.count, tenant, unit)
        self.stalls[tenant] = stall
        parent = tenant.parent
        if parent is not None:
            heap = self.heaps.get(parent)
            if not heap:
                self.heaps[parent] = [stall]
            elif heap[0][2] is tenant:
                heapq.heapreplace(heap, stall)
            else:
                heapq.heappush(heap, stall)


def serving_key(
    state: ClusterState, tenant: Tenant, columns: Iterable[Column], unit: Unit | None, where: Callable[[Unit], Where]
) -> ServingKey:
    """The key that a tenant is served by, under the share policy in force; `unit` is its candidate, if it has one."""
    measure = state.measure
    asks = unit.shape.asks if unit is not None else None
    key = measure.key(tenant, columns, asks, where(unit) if unit is not None and tenant.guaranteed_in else ())
    if tenant.is_leaf or state.share_policy != "hdrf":
        return key
    return (key[0], key[1], measure.rescaled_points(tenant) * tenant.multiplier, key[3], key[4])


@dataclass(slots=True)
class Turns:
    """Which of two siblings is served first, their guarantees aside: remembered until anybody starts or goes."""

    state: ClusterState
    _keys: dict[Tenant, ServingKey] = field(default_factory=dict)
    _moves: int = -1

    def is_before(self, one: Tenant, other: Tenant) -> bool:
        """Whether the first is served before the second."""
        return self._key(one) < self._key(other)

    def _key(self, tenant: Tenant) -> ServingKey:
        if self._moves != self.state.running.moves:
            self._keys, self._moves = {}, self.state.running.moves
        found = self._keys.get(tenant)
        if found is None:
            found = serving_key(self.state, tenant, self.state.measure.columns, None, lambda _: ())
            self._keys[tenant] = found
        return found


def listing(
    state: ClusterState, propose: Callable[[Tenant], Unit | None], where: Callable[[Unit], Where]
) -> list[Tenant]:
    """Leaves in the order in which they would be served next, suspended ones last: the tree walked depth first.

    A leaf without an eligible candidate is ordered as if its candidate asked for every resource.
    """
    measure = state.measure
    order: list[Tenant] = []

    def visit(tenant: Tenant) -> tuple[ServingKey, Unit | None, list[Tenant]]:
        if tenant.is_leaf:
            unit = None if tenant.suspended else propose(tenant)
            return serving_key(state, tenant, measure.columns, unit, where), unit, [tenant]
        children = sorted((visit(child) for child in tenant.children), key=lambda child: child[0])
        unit = next((unit for _, unit, _ in children if unit is not None), None)
        leaves = [leaf for _, _, below in children for leaf in below]
        columns = measure.columns if unit is None else measure.used_or_asked(unit.leaf, unit.shape.asked)
        return serving_key(state, tenant, columns, unit, where), unit, leaves

    for child in sorted((visit(child) for child in state.forest.root.children), key=lambda child: child[0]):
        order.extend(child[2])
    return [leaf for leaf in order if not leaf.suspended] + [leaf for leaf in order if leaf.suspended]
