"""Entitlement: what every tenant would use if all demand were poured in as a fluid, fairly, from an empty cluster.

e(q, pool, r) is exact: the filling is followed event by event in rational numbers. Between events every leaf pours
its current pod along its request; tied children of an inner tenant rise together; an inner tenant's key is the
largest over its tied best leaves. Keys are those of serving with infinitesimal candidates: within the guarantee first
(use strictly below it on every requested resource), then weight 0 last, then the weighted dominant share.

An event is whatever changes a rate: a pod is poured in, a resource of a pool or a limit is full, a guarantee is
reached, another resource becomes dominant, a sibling is caught up with. A pod that meets something full keeps what it
has; if it may run in another pool it goes on there (the cheapest first), else the next pod follows.

How it stays cheap: over regular stretches the filling leaps (leap.py). In between it follows the events, one by one
(`_follow`): every tenant has its own clock, on which everything below it moves at constant rates until its
next event (`due`). An event brings up to date only the path from the root to where it happens; siblings keep their
anchors and are read through their clocks. Only when something is full is the whole tree brought up to date.

Demand is what runs and what is pending and could start on this cluster, in order of priority, then creation:
evictions and starts do not move it, so e is computed once per version of demand.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from allotment_scheduler.core.entitlement.chart import Chart
from allotment_scheduler.core.entitlement.landing import Landed
from allotment_scheduler.core.entitlement.leap import Leap
from allotment_scheduler.core.entitlement.portions import Portion, Portions
from allotment_scheduler.core.fairness.shares import Measure
from allotment_scheduler.core.objects.resources import Amounts, Column
from allotment_scheduler.core.objects.tenants import Tenant

ZERO = Fraction(0)
ONE = Fraction(1)
Cell = tuple[str, Column]
"""A resource of a pool."""


@dataclass(slots=True)
class Entitlement:
    """What every tenant is entitled to, by name: e(q, r) in total and per pool."""

    cells: Mapping[str, Mapping[Cell, Fraction]]
    _whole: dict[tuple[str, Column, Sequence[str] | None], int] = field(default_factory=dict)

    def whole(self, tenant: Tenant, column: Column, pools: tuple[str, ...] | None = None) -> int:
        """Entitlement in whole units, rounded down: a whole use exceeds e exactly if it exceeds this."""
        key = (tenant.name, column, pools)
        found = self._whole.get(key)
        if found is None:
            found = self._whole[key] = int(self.of(tenant, column, pools))
        return found

    def of(self, tenant: Tenant, column: Column, pools: Sequence[str] | None = None) -> Fraction:
        """What a tenant is entitled to of a resource, in all pools or in some."""
        cells = self.cells.get(tenant.name, {})
        return sum((x for (pool, c), x in cells.items() if c == column and (pools is None or pool in pools)), ZERO)

    def totals(self, tenant: Tenant) -> dict[Column, Fraction]:
        """What a tenant is entitled to of every resource, over all pools."""
        total: dict[Column, Fraction] = {}
        for (_, column), amount in self.cells.get(tenant.name, {}).items():
            total[column] = total.get(column, ZERO) + amount
        return total


Key = tuple[bool, bool, Fraction]


@dataclass(slots=True)
class Flow:
    """How a basin rises from a point of its own clock on, until something happens."""

    start: Fraction
    key: Key
    """The key at the start; the weighted share in it rises by `slope`."""
    slope: Fraction
    cells: dict[Cell, Fraction]
    share: dict[Column, Fraction]
    asked: frozenset[Column]
    touched: frozenset[Column]
    """D: what the best leaves use or request."""
    inflows: "list[tuple[Fraction, Basin]]"
    """Children that rise, with their speed relative to this basin's clock."""
    due: Fraction = ZERO
    """When, on the basin's own clock, something happens in it or below it."""


@dataclass(slots=True, eq=False)
class Basin:
    """A tenant while it is being filled. Amounts are those at `anchor` on its own clock."""

    tenant: Tenant
    children: list["Basin"] = field(default_factory=list)
    up: tuple["Basin", ...] = ()
    """Itself and its ancestors."""
    portions: Sequence[Portion] = ()
    position: int = 0
    poured: Fraction = ZERO
    """How much of the current portion is in, in pods."""
    pool: str = ""
    cells: dict[Cell, Fraction] = field(default_factory=dict)
    used: dict[Column, Fraction] = field(default_factory=dict)
    share: dict[Column, Fraction] = field(default_factory=dict)
    """u/T per resource, weighted by cost."""
    clock: Fraction = ZERO
    anchor: Fraction = ZERO
    flow: Flow | None = None

    @property
    def current(self) -> Portion:
        """The portion a leaf is pouring."""
        return self.portions[self.position]

    def key(self) -> Key:
        """The key by its own clock."""
        flow = self.flow
        assert flow is not None, "only what rises has a key"  # noqa: S101 - for the type checker
        if not flow.slope or self.clock == flow.start:
            return flow.key
        return (flow.key[0], flow.key[1], flow.key[2] + flow.slope * (self.clock - flow.start))


def fill(root: Tenant, demand: Portions, measure: Measure) -> Entitlement:
    """Fill the cluster. `demand` gives every leaf's portions in order, by the leaf's name."""
    filling = Filling(root, demand, measure)
    filling.run()
    if filling.landed is not None:
        return Entitlement(filling.landed)
    return Entitlement({basin.tenant.name: basin.cells for basin in filling.basins})


class Filling:
    """One filling, from empty to the point where nothing can rise any more."""

    def __init__(self, root: Tenant, demand: Portions, measure: Measure) -> None:
        self.tenant = root
        self.measure = measure
        self.columns = frozenset(measure.columns)
        self.begun = False
        """Whether anything has been poured in: until then no basin needs to be looked at."""
        self.full: set[Cell] = set()
        self.limit_met = False
        self.landed: Landed | None = None
        """Where everybody stands in the end, if a leap has led there."""
        self.capacity = {
            (pool, column): amount for pool, table in measure.capacity.items() for column, amount in table.items()
        }
        self._rates: dict[tuple[Amounts, str, Fraction], tuple[dict[Cell, Fraction], dict[Column, Fraction]]] = {}
        self.demand = demand

    @cached_property
    def basins(self) -> list[Basin]:
        """All basins, parents before their children; a filling that leaps to its end at once needs none."""
        basins: list[Basin] = []

        def add(tenant: Tenant, up: tuple[Basin, ...]) -> Basin:
            basin = Basin(tenant, portions=self.demand[tenant.name] if tenant.name in self.demand.span else ())
            basin.up = (basin, *up)
            basins.append(basin)
            basin.children = [add(child, basin.up) for child in tenant.children]
            return basin

        add(self.tenant, ())
        return basins

    @property
    def root(self) -> Basin:
        """The basin that holds all others."""
        return self.basins[0]

    def run(self) -> None:
        """Leap over regular stretches, follow the events in between, until nothing rises."""
        chart, patience = Chart(self.tenant, self.demand, self.measure), 1
        while True:
            self._note_full(self.capacity)
            leap = Leap(self, chart)
            if leap.over:
                return
            landing = leap.land()
            if landing is not None:
                if landing.is_final():
                    self.landed = Landed(landing)
                    return
                self.begun = True
                landing.settle()
                if self._note_full(self.capacity):
                    patience = 1
                    continue
            self._follow(patience)
            patience *= 2

    def _follow(self, events: int) -> None:
        """Event by event, so many of them."""
        self.begun = True
        self._rebuild(self.root)
        for _ in range(events):
            flow = self.root.flow
            if flow is None:
                return
            self.root.clock = flow.due
            self._step(self.root)
            if self._note_full(flow.cells) or self.limit_met:
                self.limit_met = False
                self._catch_up(self.root)
                self._rebuild(self.root)
        self._catch_up(self.root)

    def _note_full(self, cells: Iterable[Cell]) -> bool:
        """Note which of these are full now; whether any was not before."""
        held = self.root.cells if self.begun else {}
        full = {cell for cell in cells if held.get(cell, ZERO) >= self.capacity.get(cell, 0)} - self.full
        self.full |= full
        return bool(full)

    # --- moving along the clocks ---------------------------------------------------------------------------------

    def _rise(self, basin: Basin) -> None:
        """Bring a basin's own amounts, and its children's clocks, to its clock."""
        flow = basin.flow
        time = basin.clock - basin.anchor
        if flow is None or not time:
            return
        for cell, rate in flow.cells.items():
            gained = rate * time
            basin.cells[cell] = basin.cells.get(cell, ZERO) + gained
            basin.used[cell[1]] = basin.used.get(cell[1], ZERO) + gained
        for column, rate in flow.share.items():
            basin.share[column] = basin.share.get(column, ZERO) + rate * time
        if not basin.children:
            column, amount = basin.current.asks[0]
            basin.poured += flow.cells[basin.pool, column] * time / amount
        for speed, child in flow.inflows:
            child.clock += time if speed == 1 else speed * time
        basin.anchor = basin.clock

    def _step(self, basin: Basin) -> None:
        """Something is due in this basin or below it: let it happen, and find out how things go on."""
        self._rise(basin)
        flow = basin.flow
        for _, child in flow.inflows if flow is not None else ():
            if child.flow is not None and child.flow.due <= child.clock:
                self._step(child)
        if not basin.children and basin.position < len(basin.portions) and basin.poured >= basin.current.count:
            basin.position += 1
            basin.poured = ZERO
            self._advance(basin)
        self._form(basin)

    def _catch_up(self, basin: Basin) -> None:
        """Bring everything to its clock."""
        self._rise(basin)
        for child in basin.children:
            self._catch_up(child)

    def _rebuild(self, basin: Basin) -> None:
        """Form every flow anew, after something became full."""
        for child in basin.children:
            self._rebuild(child)
        if not basin.children:
            self._advance(basin)
        self._form(basin)

    # --- who rises, and how fast ---------------------------------------------------------------------------------

    def _form(self, basin: Basin) -> None:
        """Form a basin's flow from its children's, or from a leaf's current pod."""
        basin.flow = self._inner_flow(basin) if basin.children else self._leaf_flow(basin)
        if basin.flow is not None:
            self._set_due(basin, basin.flow)

    def _inner_flow(self, basin: Basin) -> Flow | None:
        rising = [(child.key(), child) for child in basin.children if child.flow is not None]
        if not rising:
            return None
        least = min(key for key, _ in rising)
        tied = [child for key, child in rising if key == least]
        flat = [child for child in tied if child.flow is not None and not child.flow.slope]
        cells: dict[Cell, Fraction] = {}
        share: dict[Column, Fraction] = {}
        inflows: list[tuple[Fraction, Basin]] = []
        for child in flat or tied:
            flow = child.flow
            assert flow is not None, "only what rises is tied"  # noqa: S101 - for the type checker
            speed = ONE if flat else 1 / flow.slope
            inflows.append((speed, child))
            for cell, rate in flow.cells.items():
                cells[cell] = cells[cell] + speed * rate if cell in cells else speed * rate
            for column, rate in flow.share.items():
                share[column] = share[column] + speed * rate if column in share else speed * rate
        asked = frozenset().union(*(child.flow.asked for child in tied if child.flow))
        touched = frozenset().union(*(child.flow.touched for child in tied if child.flow))
        key, slope = self._key(basin, asked, touched, share, {pool for pool, _ in cells})
        return Flow(basin.clock, key, slope, cells, share, asked, touched, inflows)

    def _leaf_flow(self, basin: Basin) -> Flow | None:
        if basin.position >= len(basin.portions):
            return None
        asks = basin.current.asks
        cells, share = self._leaf_rates(asks, basin.pool, basin.tenant.spec.weight or ONE)
        asked = frozenset(column for column, _ in asks)
        touched = asked | {column for column, amount in basin.share.items() if amount}
        key, slope = self._key(basin, asked, self.columns, share, {basin.pool})
        return Flow(basin.clock, key, slope, cells, share, asked, touched, [])

    def _leaf_rates(
        self, asks: Amounts, pool: str, weight: Fraction
    ) -> tuple[dict[Cell, Fraction], dict[Column, Fraction]]:
        """Rates at which the largest weighted share of the request rises by 1 per unit of time."""
        found = self._rates.get((asks, pool, weight))
        if found is None:
            measure = self.measure
            cost = measure.cost.get(pool)
            share = {
                column: Fraction(
                    # What costs nothing wherever there is any is no share, and has no cost.
                    amount * (cost.get(column, 0) if cost else 1) * measure.scale[column], measure.denominator
                )
                for column, amount in asks
            }  # fmt: skip
            pace = weight / (max(share.values()) or ONE)
            cells = {(pool, column): amount * pace for column, amount in asks}
            found = cells, {column: rate * pace for column, rate in share.items()}
            self._rates[asks, pool, weight] = found
        return found

    def _key(
        self,
        basin: Basin,
        asked: frozenset[Column],
        columns: frozenset[Column],
        rising: Mapping[Column, Fraction],
        pools: set[str],
    ) -> tuple[Key, Fraction]:
        tenant = basin.tenant
        top, slope = ZERO, ZERO
        for column in columns:
            level, rate = basin.share.get(column, ZERO), rising.get(column, ZERO)
            if level > top:
                top, slope = level, rate
            elif level == top and rate > slope:
                slope = rate
        weight = tenant.spec.weight or ONE
        if weight != 1:
            top, slope = top / weight, slope / weight
        return (not tenant.has_guarantee or not self._guaranteed(basin, asked, pools), tenant.weightless, top), slope

    def _guaranteed(self, basin: Basin, asked: frozenset[Column], pools: set[str]) -> bool:
        """G(q): below the guarantee for the whole cluster, or below those of all pools that it is pouring into."""
        tenant = basin.tenant
        caps = tenant.guaranteed
        if caps is not None and all(basin.used.get(column, ZERO) < caps.get(column, 0) for column in asked):
            return True
        return all(
            pool in tenant.guaranteed_in
            and all(
                basin.cells.get((pool, column), ZERO) < tenant.guaranteed_in[pool].get(column, 0) for column in asked
            )
            for pool in pools
        )

    # --- until when ----------------------------------------------------------------------------------------------

    def _set_due(self, basin: Basin, flow: Flow) -> None:
        """When the next thing happens: below, to a bound, to the dominant resource, or to the order of siblings."""
        times = [
            (child.flow.due - child.clock) / speed for speed, child in flow.inflows if child.flow is not None
        ]  # fmt: skip
        times += self._bound_times(basin, flow)
        if basin is self.root:
            times += [
                (self.capacity.get(cell, 0) - basin.cells.get(cell, ZERO)) / rate
                for cell, rate in flow.cells.items() if rate and cell not in self.full
            ]  # fmt: skip
        if basin.children:
            times += self._catching_times(basin, flow)
        else:
            column, amount = basin.current.asks[0]
            times.append((basin.current.count - basin.poured) * amount / flow.cells[basin.pool, column])
        columns = flow.touched if basin.children else self.columns
        weight = basin.tenant.spec.weight or ONE
        top, slope = flow.key[2] * weight, flow.slope * weight
        for column, rate in flow.share.items():
            if rate > slope and column in columns:
                behind = top - basin.share.get(column, ZERO)
                if behind > 0:
                    times.append(behind / (rate - slope))
        flow.due = basin.clock + min(times)

    def _bound_times(self, basin: Basin, flow: Flow) -> list[Fraction]:
        tenant = basin.tenant
        if not (tenant.limits or tenant.has_guarantee or tenant.limits_in):
            return []
        totals: dict[Column, Fraction] = {}
        for (_, column), rate in flow.cells.items():
            totals[column] = totals.get(column, ZERO) + rate
        bounds: list[tuple[Fraction, int, Fraction]] = []
        limits: list[tuple[Fraction, int, Fraction]] = []
        for column, rate in totals.items():
            used = basin.used.get(column, ZERO)
            limits += [(used, tenant.limits[column], rate)] if column in tenant.limits else []
            bounds += [(used, cap, rate) for at, cap in (tenant.guaranteed or {}).items() if at == column]
        for (pool, column), rate in flow.cells.items():
            used = basin.cells.get((pool, column), ZERO)
            limits += [(used, cap, rate) for at, cap in tenant.limits_in.get(pool, {}).items() if at == column]
            bounds += [(used, cap, rate) for at, cap in tenant.guaranteed_in.get(pool, {}).items() if at == column]
        self.limit_met = self.limit_met or any(rate and used >= cap for used, cap, rate in limits)
        bounds += limits
        return [(cap - used) / rate for used, cap, rate in bounds if rate and used < cap]

    def _catching_times(self, basin: Basin, flow: Flow) -> list[Fraction]:
        """When the children that rise reach the next one's key; what is flat reaches nobody."""
        first = flow.inflows[0][1]
        if first.flow is None or not first.flow.slope:
            return []
        level = first.key()
        keys = (child.key() for child in basin.children if child.flow is not None)
        return [key[2] - level[2] for key in keys if key[:2] == level[:2] and key[2] > level[2]]

    # --- what a leaf pours ---------------------------------------------------------------------------------------

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
        for up in basin.up:
            limits, inside = up.tenant.limits, up.tenant.limits_in.get(pool)
            if limits or inside:
                for column, _ in asks:
                    if column in limits and up.used.get(column, ZERO) >= limits[column]:
                        return False
                    if inside and column in inside and up.cells.get((pool, column), ZERO) >= inside[column]:
                        return False
        return True
