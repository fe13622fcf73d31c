"""A naive filling, event by event over the whole tree: the oracle for the quick one.

Entitlement: what every tenant would use if all demand were poured in as a fluid, fairly, from an empty cluster.

e(q, pool, r) is exact: the filling is followed event by event in rational numbers. Between events every leaf pours
its current pod along its request; tied children of an inner tenant rise together; an inner tenant's key is the
largest over its tied best leaves. Keys are those of serving with infinitesimal candidates: within the guarantee first
(use strictly below it on every requested resource), then weight 0 last, then the weighted dominant share.

An event is whatever changes a rate: a pod is poured in, a resource of a pool or a limit is full, a guarantee is
reached, another resource becomes dominant, a sibling is caught up with. A pod that meets something full keeps what it
has; if it may run in another pool it goes on there (the cheapest first), else the next pod follows.

Demand is what runs and what is pending and could start on this cluster, in order of priority, then creation:
evictions and starts do not move it, so e is computed once per version of demand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from allotment_scheduler.core.entitlement.filling import Cell, Entitlement
from allotment_scheduler.core.entitlement.portions import Portion
from allotment_scheduler.core.fairness.shares import Measure
from allotment_scheduler.core.objects.resources import Amounts, Column
from allotment_scheduler.core.objects.tenants import Tenant

ZERO = Fraction(0)


@dataclass(slots=True, eq=False)
class Basin:
    """A tenant while it is being filled."""

    tenant: Tenant
    parent: "Basin | None"
    children: list["Basin"] = field(default_factory=list)
    portions: Sequence[Portion] = ()
    position: int = 0
    poured: Fraction = ZERO
    """How much of the current portion is in, in pods."""
    pool: str = ""
    cells: dict[Cell, Fraction] = field(default_factory=dict)
    share: dict[Column, Fraction] = field(default_factory=dict)
    """u/T per resource, weighted by cost."""
    used: dict[Column, Fraction] = field(default_factory=dict)

    @property
    def current(self) -> Portion:
        """The portion a leaf is pouring."""
        return self.portions[self.position]


Key = tuple[bool, bool, Fraction]


@dataclass(slots=True)
class Flow:
    """How a basin rises at this moment, per unit of its own time."""

    basin: Basin
    key: Key
    slope: Fraction
    """Of the weighted share."""
    cells: dict[Cell, Fraction]
    share: dict[Column, Fraction]
    asked: frozenset[Column]
    touched: frozenset[Column]
    """D: what the best leaves use or request."""
    inflows: "list[tuple[Fraction, Flow]]"
    """Children that rise, with their speed relative to this basin's time."""
    rivals: list[Key]
    """Keys of the children that do not rise yet."""


def fill(root: Tenant, demand: Mapping[str, Sequence[Portion]], measure: Measure) -> Entitlement:
    """Fill the cluster. `demand` gives every leaf's portions in order, by the leaf's name."""
    filling = Filling(root, demand, measure)
    filling.run()
    return Entitlement({basin.tenant.name: basin.cells for basin in filling.basins})


class Filling:
    """One filling, from empty to the point where nothing can rise any more."""

    def __init__(self, root: Tenant, demand: Mapping[str, Sequence[Portion]], measure: Measure) -> None:
        self.measure = measure
        self.basins: list[Basin] = []
        self.full: set[Cell] = set()
        self.capacity = {
            (pool, column): Fraction(amount)
            for pool, table in measure.capacity.items()
            for column, amount in table.items()
        }
        self.root = self._basin(root, None, demand)
        for basin in self.basins:
            if not basin.children:
                self._advance(basin)

    def _basin(self, tenant: Tenant, parent: Basin | None, demand: Mapping[str, Sequence[Portion]]) -> Basin:
        basin = Basin(tenant, parent, portions=demand.get(tenant.name, ()))
        self.basins.append(basin)
        basin.children = [self._basin(child, basin, demand) for child in tenant.children]
        return basin

    def run(self) -> None:
        """Event by event, until nothing rises."""
        while True:
            flow = self._flow(self.root)
            if flow is None:
                return
            step = self._time_to_event(flow)
            self._rise(flow, step)
            self._settle(flow)

    # --- who rises, and how fast ---------------------------------------------------------------------------------

    def _flow(self, basin: Basin) -> Flow | None:
        if not basin.children:
            return self._leaf_flow(basin)
        flows = [flow for flow in map(self._flow, basin.children) if flow is not None]
        if not flows:
            return None
        least = min(flow.key for flow in flows)
        tied = [flow for flow in flows if flow.key == least]
        flat = [flow for flow in tied if not flow.slope]
        inflows = [(Fraction(1), flow) for flow in flat] if flat else [(1 / flow.slope, flow) for flow in tied]
        cells: dict[Cell, Fraction] = {}
        share: dict[Column, Fraction] = {}
        for speed, flow in inflows:
            for cell, rate in flow.cells.items():
                cells[cell] = cells.get(cell, ZERO) + speed * rate
            for column, rate in flow.share.items():
                share[column] = share.get(column, ZERO) + speed * rate
        asked = frozenset().union(*(flow.asked for flow in tied))
        touched = frozenset().union(*(flow.touched for flow in tied))
        rivals = [flow.key for flow in flows if flow.key != least]
        key, slope = self._key(basin, asked, touched, share, {pool for pool, _ in cells})
        return Flow(basin, key, slope, cells, share, asked, touched, inflows, rivals)

    def _leaf_flow(self, basin: Basin) -> Flow | None:
        if basin.position >= len(basin.portions):
            return None
        measure, asks, pool = self.measure, basin.current.asks, basin.pool
        cost = measure.cost.get(pool)
        share = {
            column: Fraction(amount * (cost.get(column, 0) if cost else 1) * measure.scale[column], measure.denominator)
            for column, amount in asks
        }  # fmt: skip
        fastest = max(share.values()) or Fraction(1)
        pace = (basin.tenant.spec.weight or 1) / fastest
        cells = {(pool, column): amount * pace for column, amount in asks}
        share = {column: rate * pace for column, rate in share.items()}
        asked = frozenset(column for column, _ in asks)
        touched = asked | {column for column, amount in basin.share.items() if amount}
        key, slope = self._key(basin, asked, frozenset(measure.columns), share, {basin.pool})
        return Flow(basin, key, slope, cells, share, asked, touched, [], [])

    def _key(
        self,
        basin: Basin,
        asked: frozenset[Column],
        columns: frozenset[Column],
        rising: Mapping[Column, Fraction],
        pools: set[str],
    ) -> tuple[Key, Fraction]:
        tenant = basin.tenant
        weight = tenant.spec.weight or 1
        top = max((basin.share.get(column, ZERO) for column in columns), default=ZERO)
        slope = max((rising.get(c, ZERO) for c in columns if basin.share.get(c, ZERO) == top), default=ZERO)
        return (not self._guaranteed(basin, asked, pools), tenant.weightless, top / weight), slope / weight

    def _guaranteed(self, basin: Basin, asked: frozenset[Column], pools: set[str]) -> bool:
        tenant = basin.tenant
        caps = tenant.guaranteed
        if caps is not None and all(basin.used.get(column, ZERO) < caps.get(column, 0) for column in asked):
            return True
        return all(
            all(
                basin.cells.get((pool, column), ZERO) < tenant.guaranteed_in.get(pool, {}).get(column, 0)
                for column in asked
            )
            for pool in pools
        )

    # --- until when ----------------------------------------------------------------------------------------------

    def _time_to_event(self, flow: Flow) -> Fraction:
        times: list[Fraction] = []
        for cell, rate in flow.cells.items():
            if rate:
                left = self.capacity.get(cell, ZERO) - self.root.cells.get(cell, ZERO)
                times.append(left / rate)
        self._collect_times(flow, Fraction(1), times)
        return max(min(times), ZERO)

    def _collect_times(self, flow: Flow, speed: Fraction, times: list[Fraction]) -> None:
        basin, tenant = flow.basin, flow.basin.tenant
        weight = tenant.spec.weight or 1
        totals: dict[Column, Fraction] = {}
        for (_, column), rate in flow.cells.items():
            totals[column] = totals.get(column, ZERO) + rate
        bounds = [(basin.used.get(c, ZERO), caps[c], rate) for caps in (tenant.limits, tenant.guaranteed or {})
                  for c, rate in totals.items() if c in caps]  # fmt: skip
        for table in (tenant.limits_in, tenant.guaranteed_in):
            for (pool, column), rate in flow.cells.items():
                if column in table.get(pool, {}):
                    bounds.append((basin.cells.get((pool, column), ZERO), table[pool][column], rate))
        times += [(cap - used) / (rate * speed) for used, cap, rate in bounds if rate and used < cap]
        if basin.children:
            if flow.rivals and not any(not inflow.slope for _, inflow in flow.inflows):
                level = flow.inflows[0][1].key
                ahead = [key[2] - level[2] for key in flow.rivals if key[:2] == level[:2]]
                times += [gap / speed for gap in ahead]
            for relative, inflow in flow.inflows:
                self._collect_times(inflow, speed * relative, times)
            columns = flow.touched
        else:
            portion = basin.current
            column, amount = portion.asks[0]
            pods_per_time = flow.cells[basin.pool, column] / amount
            times.append((portion.count - basin.poured) / (pods_per_time * speed))
            columns = frozenset(self.measure.columns)
        top = flow.key[2] * weight
        for column, rate in flow.share.items():
            behind = top - basin.share.get(column, ZERO)
            if column in columns and behind > 0 and rate > flow.slope * weight:
                times.append(behind / ((rate - flow.slope * weight) * speed))

    def _rise(self, flow: Flow, time: Fraction) -> None:
        basin = flow.basin
        for cell, rate in flow.cells.items():
            gained = rate * time
            basin.cells[cell] = basin.cells.get(cell, ZERO) + gained
            basin.used[cell[1]] = basin.used.get(cell[1], ZERO) + gained
        for column, rate in flow.share.items():
            basin.share[column] = basin.share.get(column, ZERO) + rate * time
        if not basin.children:
            column, amount = basin.current.asks[0]
            basin.poured += flow.cells[basin.pool, column] * time / amount
        for speed, inflow in flow.inflows:
            self._rise(inflow, time * speed)

    # --- what has happened ---------------------------------------------------------------------------------------

    def _settle(self, flow: Flow) -> None:
        """Advance the leaves whose pod is in, and those that met something full."""
        for cell in flow.cells:
            if self.root.cells.get(cell, ZERO) >= self.capacity.get(cell, ZERO):
                self.full.add(cell)
        for basin in self.basins:
            if not basin.children and basin.position < len(basin.portions):
                if basin.poured >= basin.current.count:
                    basin.position += 1
                    basin.poured = ZERO
                    basin.pool = ""
                    self._advance(basin)
                elif not self._open(basin, basin.current.asks, basin.pool):
                    self._advance(basin)

    def _advance(self, basin: Basin) -> None:
        """Find the pool where a leaf pours on, or the next portion that finds one."""
        while basin.position < len(basin.portions):
            portion = basin.current
            if portion.asks:
                for pool in portion.pools:
                    if self._open(basin, portion.asks, pool):
                        basin.pool = pool
                        return
            basin.position += 1
            basin.poured = ZERO

    def _open(self, basin: Basin, asks: Amounts, pool: str) -> bool:
        if any((pool, column) in self.full or not self.capacity.get((pool, column)) for column, _ in asks):
            return False
        up: Basin | None = basin
        while up is not None:
            limits, inside = up.tenant.limits, up.tenant.limits_in.get(pool)
            for column, _ in asks:
                if column in limits and up.used.get(column, ZERO) >= limits[column]:
                    return False
                if inside and column in inside and up.cells.get((pool, column), ZERO) >= inside[column]:
                    return False
            up = up.parent
        return True
