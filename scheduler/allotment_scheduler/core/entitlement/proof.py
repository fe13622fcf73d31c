"""Proof: whether tenants stand, exactly, where floats said.

Where the estimate is well inside its piece, and the exact level is what was estimated, that needs no exact look. At
the edges, where whole numbers meet, it does: every pod count has to lie within its portion, use within its limits, and
every key where its piece says.

It must never let anything pass that following the filling event by event would not come to.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import numpy as np

from allotment_scheduler.core.entitlement.chart import Bools
from allotment_scheduler.core.entitlement.courses import HAIR, Course
from allotment_scheduler.core.entitlement.standing import CLEAR, RISES, WAITS
from allotment_scheduler.core.objects.resources import Column

if TYPE_CHECKING:
    from allotment_scheduler.core.entitlement.landing import Landing

ZERO: Final = Fraction(0)


class Proof:
    """What has to hold of a landing."""

    def __init__(self, landing: "Landing") -> None:
        self.landing = landing
        self.leap = landing.leap
        self.chart = landing.chart
        self.at = landing.at
        self.below = landing.below
        self.use = landing.use

    def holds(self) -> bool:
        """Whether everybody is where its piece says, and no more is poured than there is room."""
        chart, near = self.chart, self._near()
        level_known = np.array([level is not None for level in self.below], dtype=np.bool_)
        if ((self.at.stand == RISES) & ~level_known[chart.parent])[1:].any():
            return False
        for number in np.flatnonzero(~(self.at.clear & near[chart.parent])).tolist():
            if number and not self._stands(number):
                return False
        room = self.leap.filling.capacity
        return all(amount <= room[chart.cells[cell]] for cell, amount in self.use(0).items())

    def _near(self) -> Bools:
        """Inner tenants whose exact level below is where it was estimated."""
        near = np.ones(len(self.below), dtype=np.bool_)
        for number in np.flatnonzero(~self.chart.is_leaf).tolist():
            level, course = self.below[number], self.leap.courses.get(int(self.chart.depth[number]) + 1)
            if level is not None and course is not None:
                estimate = float(self.at.serves[number])
                klass = np.floor(estimate / course.span + HAIR)
                near[number] = abs(klass * course.span + float(level) - estimate) < CLEAR / 10 * HAIR * course.span
        return near

    def _stands(self, number: int) -> bool:
        """Whether a tenant's exact state is on its piece: its portion, limits, guarantees and key."""
        chart, landing, tenant = self.chart, self.landing, self.chart.tenants[number]
        level, use = self.below[chart.parent[number]], self.use(number)
        waits = self.at.stand[number] == WAITS
        if chart.is_leaf[number] and not waits and not 0 <= landing.pods(number) <= landing.left(number):
            return False
        for pool, caps in () if waits else ((None, tenant.limits), *tenant.limits_in.items()):
            for column, cap in caps.items():
                if column in chart.columns and self._used(use, chart.columns.index(column), pool) > cap:
                    return False
        return level is None or self._key_stands(number, level)

    def _key_stands(self, number: int, level: Fraction) -> bool:
        """Whether a tenant's exact key is where its parent's level says."""
        chart, course = self.chart, self.leap.courses[int(self.chart.depth[number])]
        rows, use, tenant = course.rows, self.use(number), self.chart.tenants[number]
        low, high = np.searchsorted(rows.owner, [number, number + 1]).tolist()
        if low == high:
            return True
        waits = self.at.stand[number] == WAITS
        row = low if waits else int(self.at.row[number])
        if not self._class_holds(number, rows, row):
            return False
        served = int(np.floor(self.at.serves[chart.parent[number]] / course.span + HAIR)), level
        columns = range(len(chart.columns)) if chart.is_leaf[number] else np.flatnonzero(rows.touches[:, row]).tolist()
        share = max((self._share(use, column) for column in columns), default=ZERO) / (tenant.spec.weight or 1)
        key = 2 * int(rows.beyond[row]) + tenant.weightless, share
        if waits or self.at.stand[number] == RISES:
            return key == served or (waits and key > served)
        after = 2 * int(rows.beyond[row + 1]) + tenant.weightless if row + 1 < high else 4
        return key <= served <= (after, share)

    def _class_holds(self, number: int, rows: Course, row: int) -> bool:
        """Whether use is on the side of the guarantee that the row tells."""
        chart, tenant, use = self.chart, self.chart.tenants[number], self.use(number)
        if not tenant.has_guarantee:
            return True
        asked = np.flatnonzero((chart.by_column @ rows.asks[:, row]) > 0).tolist()
        pools = {chart.cells[cell][0] for cell in np.flatnonzero(rows.gain[:, row] > 0).tolist()}

        def slack(pool: str | None, caps: Mapping[Column, int] | None) -> Fraction:
            if caps is None:
                return Fraction(-1)
            return min((caps.get(chart.columns[c], 0) - self._used(use, c, pool) for c in asked), default=ZERO)

        inside = min((slack(pool, tenant.guaranteed_in.get(pool)) for pool in pools), default=Fraction(-1))
        best = max(slack(None, tenant.guaranteed), inside)
        return best <= 0 if rows.beyond[row] else best >= 0

    def _used(self, use: Mapping[int, Fraction], column: int, pool: str | None) -> Fraction:
        """What of a column, in a pool or in all."""
        cells = self.chart.cells
        return sum((use.get(c, ZERO) for c in self.chart.of_column[column] if pool in (None, cells[c][0])), ZERO)

    def _share(self, use: Mapping[int, Fraction], column: int) -> Fraction:
        """What use makes as a share of one column's total."""
        points = self.chart.points[column]
        return sum((amount * points[cell] for cell, amount in use.items()), ZERO) / self.chart.denominator
