"""Charts: what of a filling does not change while it goes on, as arrays.

Basins are numbered as they are listed, parents before their children; cells (a resource of a pool) and columns (a
resource) have a number each. A table has one row per cell or column, and one column per basin, portion or piece of a
course: these are many, cells are few, and numpy works along rows.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from allotment_scheduler.core.entitlement.portions import Portions
from allotment_scheduler.core.entitlement.ratios import Ratios
from allotment_scheduler.core.fairness.shares import Measure
from allotment_scheduler.core.objects.resources import Column
from allotment_scheduler.core.objects.tenants import Tenant

if TYPE_CHECKING:
    from allotment_scheduler.core.entitlement.filling import Cell

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Chart:
    """The tree, what there is, limits and guarantees, and all demand, in numbers."""

    def __init__(self, root: Tenant, demand: Portions, measure: Measure) -> None:
        self._tree(root)
        self._cells(measure)
        self._bounds()
        self._portions(demand)

    def _tree(self, root: Tenant) -> None:
        self.tenants: list[Tenant] = []
        """By number of their basin."""
        parents: list[int] = []
        depths: list[int] = []
        ahead = [(root, -1, 0)]
        while ahead:
            tenant, parent, depth = ahead.pop()
            ahead += [(child, len(parents), depth + 1) for child in reversed(tenant.children)]
            self.tenants.append(tenant)
            parents.append(parent)
            depths.append(depth)
        self.parent: Ints = np.array(parents, dtype=np.int64)
        self.depth: Ints = np.array(depths, dtype=np.int64)
        self.is_leaf: Bools = np.array([not tenant.children for tenant in self.tenants], dtype=np.bool_)
        weights = [(tenant.spec.weight or 1).as_integer_ratio() for tenant in self.tenants]
        self.exact_weight = Ratios.of_pairs(weights)
        self.weight: Floats = np.array([top / bottom for top, bottom in weights])
        self.weightless: Ints = np.array([tenant.weightless for tenant in self.tenants], dtype=np.int64)

    def _cells(self, measure: Measure) -> None:
        self.cells: list[Cell] = [
            (pool, column) for pool, table in measure.capacity.items() for column, amount in table.items() if amount > 0
        ]  # fmt: skip
        self.cell_index = {cell: index for index, cell in enumerate(self.cells)}
        self.capacity: Floats = np.array([float(measure.capacity[pool][c]) for pool, c in self.cells])
        self.columns = sorted({column for _, column in self.cells})
        self.share_of = [
            Fraction((measure.cost[pool][c] if measure.cost else 1) * measure.scale[c], measure.denominator)
            if c in measure.totals else Fraction(0)
            for pool, c in self.cells
        ]  # fmt: skip
        """Exact share that one unit in a cell makes."""
        self.denominator = measure.denominator
        self.by_column: Floats = np.zeros((len(self.columns), len(self.cells)))
        """[column x cell]: adds up what is in cells."""
        for index, (_, column) in enumerate(self.cells):
            self.by_column[self.columns.index(column), index] = 1
        self.of_column = [[i for i, (_, c) in enumerate(self.cells) if c == column] for column in self.columns]
        self.points: npt.NDArray[np.object_] = np.zeros(self.by_column.shape, dtype=np.object_)
        """[column x cell]: what one unit makes of the common denominator of shares, exactly."""
        for row, cells in enumerate(self.of_column):
            for cell in cells:
                self.points[row, cell] = int(self.share_of[cell] * measure.denominator)
        self.to_share: Floats = self.by_column * np.array([float(share) for share in self.share_of])
        """[column x cell]: adds up what is in cells to shares."""

    def _bounds(self) -> None:
        """Limits and guarantees as [column x basin]; those of a pool with the cells they count in."""
        pools = sorted({pool for pool, _ in self.cells})
        everywhere = np.ones(len(self.cells), dtype=np.bool_)
        inside = {pool: np.array([at == pool for at, _ in self.cells], dtype=np.bool_) for pool in pools}
        tenants = self.tenants
        self.limits: list[tuple[Bools, Floats]] = []
        self.guarantees: list[tuple[Bools, Floats, Bools]] = []
        self.limited: list[str | None] = []
        self.guaranteed: list[str | None] = []
        """The pools of these tables, None for all together."""
        if any(tenant.limits for tenant in tenants):
            self.limits.append((everywhere, self._table([tenant.limits for tenant in tenants], np.inf)))
            self.limited.append(None)
        if any(tenant.guaranteed is not None for tenant in tenants):
            has = np.array([tenant.guaranteed is not None for tenant in tenants], dtype=np.bool_)
            self.guarantees.append((everywhere, self._table([tenant.guaranteed for tenant in tenants], 0), has))
            self.guaranteed.append(None)
        for pool in pools:
            if any(pool in tenant.limits_in for tenant in tenants):
                caps = self._table([tenant.limits_in.get(pool, {}) for tenant in tenants], np.inf)
                self.limits.append((inside[pool], caps))
                self.limited.append(pool)
            if any(pool in tenant.guaranteed_in for tenant in tenants):
                has = np.array([pool in tenant.guaranteed_in for tenant in tenants], dtype=np.bool_)
                caps = self._table([tenant.guaranteed_in.get(pool) for tenant in tenants], 0)
                self.guarantees.append((inside[pool], caps, has))
                self.guaranteed.append(pool)

    def _table(self, caps: Sequence[Mapping[Column, int] | None], absent: float) -> Floats:
        found: Floats = np.full((len(self.columns), len(caps)), np.inf)
        for index, cap in enumerate(caps):
            if cap is not None:
                found[:, index] = [cap.get(column, absent) for column in self.columns]
        return found

    def caps(self, number: int, bound: int) -> tuple[str | None, Mapping[Column, int]]:
        """A basin's guarantee (0, 1, …) or limit (-2, -3, …), and the pool it holds in."""
        tenant = self.tenants[number]
        if bound >= 0:
            pool = self.guaranteed[bound]
            return pool, (tenant.guaranteed if pool is None else tenant.guaranteed_in.get(pool)) or {}
        pool = self.limited[-2 - bound]
        return pool, tenant.limits if pool is None else tenant.limits_in.get(pool, {})

    def _portions(self, demand: Portions) -> None:
        """All portions in one row, leaf by leaf, by number of their kind."""
        self.kind, self.first = demand.in_order([tenant.name for tenant in self.tenants])
        self.leaf: Ints = np.repeat(np.arange(len(self.tenants)), np.diff(self.first))
        self.kinds = demand.kinds
        self.count: Floats = np.array([float(portion.count) for portion in self.kinds])[self.kind]
