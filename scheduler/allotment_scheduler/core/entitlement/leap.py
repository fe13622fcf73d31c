"""Leaps: where a filling stands at the end of a regular stretch, found without following the events in between.

The courses of all tenants (courses.py) are worked out from the leaves to the root. Where the root's meets the first
full resource, or just before it ceases to be known, the leap lands (landing.py): exactly, and proven.

It must never bring a filling to a state which following its events would not have passed through.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from allotment_scheduler.core.entitlement.chart import Bools, Chart, Floats, Ints
from allotment_scheduler.core.entitlement.courses import HAIR, Course, Crested, confluence, pour, running_sum
from allotment_scheduler.core.entitlement.crests import crest
from allotment_scheduler.core.entitlement.forecast import Forecast
from allotment_scheduler.core.entitlement.landing import Landing
from allotment_scheduler.core.entitlement.portions import begins
from allotment_scheduler.core.entitlement.standing import Goal

if TYPE_CHECKING:
    from allotment_scheduler.core.entitlement.filling import Basin, Filling

ZERO: Final = Fraction(0)
GROUPS: Final = 5
"""Rows that a leaf's portions are taken together in at first."""
NEAR: Final = 2
"""So many portions around the one where a leaf may stand are told apart."""
STEPS_BACK: Final = (1e-8, 1e-5, 1e-3, 0.03)
"""How far before the end of a stretch landing is tried, as parts of it, where it cannot land at the end."""


class Leap:
    """One attempt to move a filling on, from where it stands."""

    def __init__(self, filling: "Filling", chart: Chart) -> None:
        self.filling = filling
        self.chart = chart
        self.use: Floats = np.zeros((len(chart.cells), len(chart.tenants)))
        for number, basin in enumerate(filling.basins if filling.begun else ()):
            for cell, amount in basin.cells.items():
                self.use[chart.cell_index[cell], number] = float(amount)
        self.begun: dict[int, Fraction] = {}
        """How much of a portion was poured before, where any was."""
        self._find_open()
        self.courses: dict[int, Crested] = {}

    @cached_property
    def before(self) -> npt.NDArray[Any]:
        """[cell x open portion]: what its leaf pours on this stretch before it, exactly."""
        return running_sum(self.asked * self.counts, self.chart.leaf[self.open])

    @cached_property
    def heights(self) -> Floats:
        """[open portion]: the weighted share that its leaf has before it, about."""
        leaf, held = self.chart.leaf.take(self.open), self.before.astype(np.float64)
        if self.filling.begun:
            held += self.use.take(leaf, axis=1)
        heights: Floats = np.maximum.reduce(self.chart.to_share @ held, axis=0, initial=0.0)
        heights /= self.chart.weight.take(leaf)
        return heights

    @cached_property
    def about(self) -> Floats:
        """What a pod of an open portion asks for, as floats."""
        return self.asked.astype(np.float64)

    @cached_property
    def counts(self) -> npt.NDArray[Any]:
        """Pods of every open portion, those included that were poured before."""
        kinds = np.array([kind.count for kind in self.chart.kinds], dtype=self.asked.dtype)
        counts: npt.NDArray[Any] = kinds[self.chart.kind[self.open]]
        return counts

    @property
    def over(self) -> bool:
        """Whether nothing can be poured any more."""
        return not len(self.open)

    def land(self) -> Landing | None:
        """Where the filling stands as far as its course is known; None if that is where it stands already."""
        self._group()
        closer = False
        while True:
            root, known = self._courses()
            landing = None
            for goal in self._goals(root, known) if len(root) else ():
                landing = Landing(self, goal)
                if landing.found():
                    return landing
                if landing.at.coarse:
                    break
            if landing is None or not landing.at.coarse:
                return None
            self._look_closer(landing.at.coarse, only=not closer)
            closer = True

    # --- how closely to look -------------------------------------------------------------------------------------

    def _group(self) -> None:
        """Take neighbouring portions together, where all demand asks for the same columns.

        Then every key rises all the way: only where a leaf stands in the end its portions have to be told apart. Where
        that is can be forecast, unless guarantees or limits bend courses.
        """
        total = len(self.open)
        self.begins: Bools = np.ones(total, dtype=np.bool_)
        if (self.columns == self.columns[:, :1]).all():
            leaf = self.chart.leaf[self.open]
            if not self.chart.limits and not self.chart.guarantees:
                self.begins = begins(leaf)
                self._tell_apart(Forecast(self).spots(), 0)
                return
            first = np.flatnonzero(begins(leaf))
            lengths = np.diff(first, append=total)
            place = np.arange(total) - np.repeat(first, lengths)
            self.begins = place % np.repeat(np.maximum(-(-lengths // GROUPS), 2), lengths) == 0

    def likely(self, last: Ints, way: Floats, share: Floats) -> Ints:
        """Where in groups, given by their last portion, leaves are likely to stand; all in open portions.

        That is where they have the weighted share; where it is not a share that stops them (nan), a part of the way.
        """
        starts, leaf = np.flatnonzero(self.begins), self.chart.leaf[self.open]
        first = starts[np.searchsorted(starts, last, side="right") - 1]
        apart = 2 * float(self.heights.max())
        by_share = np.searchsorted(self.heights + apart * leaf, share + apart * leaf[last], side="right") - 1
        by_way = first + (way * (last + 1 - first)).astype(np.int64)
        return np.clip(np.where(np.isnan(share), by_way, by_share), first, last)

    def _look_closer(self, coarse: Sequence[Ints], *, only: bool) -> None:
        """Tell portions apart around those where leaves are likely to stand.

        `only` there: these leaves' other portions are taken together as far as possible.
        """
        middle, leaf = np.concatenate(coarse), self.chart.leaf[self.open]
        if only:
            there = np.zeros(len(self.chart.tenants), dtype=np.bool_)
            there[leaf[middle]] = True
            self.begins &= ~there[leaf] | begins(leaf)
        self._tell_apart(middle, NEAR)

    def _tell_apart(self, middle: Ints, near: int) -> None:
        """Make rows of their own of portions, and of so many on either side."""
        leaf = self.chart.leaf[self.open]
        for step in range(-near, near + 2):
            begin = np.clip(middle + step, 0, len(leaf) - 1)
            self.begins[begin[leaf[begin] == leaf[middle]]] = True

    def is_single(self, spots: Ints) -> Bools:
        """Whether rows that end with these open portions hold no other."""
        single: Bools = self.begins[spots]
        return single

    # --- what is open --------------------------------------------------------------------------------------------

    def _find_open(self) -> None:
        """The portions that can be poured on, what a pod of each asks by cell, and how many pods are left."""
        chart = self.chart
        blocked: dict[frozenset[tuple[str | None, int]], int] = {frozenset(): 0}
        which = np.zeros(len(chart.tenants), dtype=np.int64)
        ahead = chart.first[:-1].copy()
        for number, basin in enumerate(self.filling.basins if self.filling.begun or chart.limits else ()):
            if basin.portions:
                which[number] = blocked.setdefault(self._blocked(basin), len(blocked))
                ahead[number] += basin.position
                if basin.poured:
                    self.begun[int(ahead[number])] = basin.poured
        table: npt.NDArray[Any] = np.array(
            [[self._asked(kind, met) for kind in range(len(chart.kinds))] for met in blocked], dtype=self._integers()
        ).reshape(len(blocked), len(chart.kinds), len(chart.cells))  # fmt: skip
        asking: Bools = np.any(table > 0, axis=2)
        of = which[chart.leaf]
        ready = asking[of, chart.kind]
        self.open: Ints = np.flatnonzero(ready & (np.arange(len(chart.leaf)) >= ahead[chart.leaf]))
        """The portions that can be poured on."""
        flat = table.reshape(table.shape[0] * table.shape[1], len(chart.cells))  # there may be no cells at all
        row = (of * len(chart.kinds) + chart.kind)[self.open]
        self.asked = flat.T.take(row, axis=1)
        """[cell x open portion]: what a pod asks for, exactly."""
        self.columns: Bools = ((chart.by_column @ (flat.T > 0)) > 0).take(row, axis=1)
        """[column x open portion]: which columns it asks for."""
        self.left: Floats = chart.count[self.open]
        for portion, part in self.begun.items():
            spot = self.spot(portion)
            if spot >= 0:
                self.left[spot] -= float(part)

    def spot(self, portion: int) -> int:
        """Where a portion stands among the open ones, -1 if it is not open."""
        found = int(np.searchsorted(self.open, portion))
        return found if found < len(self.open) and self.open[found] == portion else -1

    def _integers(self) -> type:
        """Numpy's integers, or Python's where the sums would be too large for them."""
        chart = self.chart
        most = max((max((amount for _, amount in kind.asks), default=0) for kind in chart.kinds), default=0)
        return np.int64 if most * float(chart.count.sum()) < 2.0**62 else np.object_

    def _blocked(self, basin: "Basin") -> frozenset[tuple[str | None, int]]:
        """Where limits on a leaf's path are met: (pool, or None for all, column)."""
        if not self.chart.limits:
            return frozenset()
        met: set[tuple[str | None, int]] = set()
        for up in basin.up:
            tenant = up.tenant
            met.update((None, column) for column, cap in tenant.limits.items() if up.used.get(column, ZERO) >= cap)
            for pool, inside in tenant.limits_in.items():
                met.update((pool, c) for c, cap in inside.items() if up.cells.get((pool, c), ZERO) >= cap)
        return frozenset(met)

    def _asked(self, kind: int, met: frozenset[tuple[str | None, int]]) -> list[int]:
        """What one pod asks for, by cell, in the first pool that takes it; nothing if none does."""
        chart, portion = self.chart, self.chart.kinds[kind]
        asked = [0] * len(chart.cells)
        for pool in portion.pools:
            if not any(
                (pool, column) in self.filling.full or (pool, column) not in chart.cell_index
                or (None, column) in met or (pool, column) in met for column, _ in portion.asks
            ):  # fmt: skip
                for column, amount in portion.asks:
                    asked[chart.cell_index[pool, column]] = amount
                break
        return asked

    # --- courses -------------------------------------------------------------------------------------------------

    def _courses(self) -> tuple[Course, float]:
        """The courses of all tenants, by depth; the root's, and the key up to which it is known."""
        chart = self.chart
        starts = np.flatnonzero(self.begins)
        leaves = pour(chart, (self.about, self.left), self.open, starts, self.use)
        self.group_left: Floats = np.zeros(len(self.open))
        self.group_left[np.append(starts[1:], len(self.open)) - 1] = leaves.t1
        depth_of = chart.depth[leaves.owner]
        insatiable = self._insatiable()
        below: Course | None = None
        known = np.full(len(chart.tenants), np.inf)
        for depth in range(int(chart.depth.max()), 0, -1):
            here = depth_of == depth
            rows = leaves if here.all() else leaves.take(np.flatnonzero(here))
            if below is not None:
                rows = rows.joined(below)
            self.courses[depth] = crest(chart, rows, known, insatiable)
            below, known = confluence(chart, self.courses[depth], self.use)
        return (leaves, np.inf) if below is None else (below, float(known[0]))

    def _insatiable(self) -> Bools:
        """[column x basin]: whether all open demand below asks for it."""
        chart, asks = self.chart, self.columns
        every: Bools = np.ones((len(chart.columns), len(chart.tenants)), dtype=np.bool_)
        if not asks.all():
            np.logical_and.at(every.T, chart.leaf[self.open], asks.T)
            for number in range(len(chart.tenants) - 1, 0, -1):
                every[:, chart.parent[number]] &= every[:, number]
        return every

    def _goals(self, root: Course, known: float) -> list[Goal]:
        """Where landing is to be tried, the furthest first."""
        chart = self.chart
        first, end = float(root.t0[0]), min(float(root.t1[-1]), known)
        goals: list[Goal] = []
        full = np.flatnonzero((root.use + root.gain > chart.capacity[:, None] * (1 - HAIR)).any(axis=0))
        if len(full):
            row = int(full[0])
            with np.errstate(divide="ignore", invalid="ignore"):
                use, gain = root.use[:, row], root.gain[:, row]
                parts = np.where(gain > 0, (chart.capacity - use) / gain, np.inf)
            cell = int(parts.argmin())
            at = float(root.t0[row] + parts[cell] * (root.t1[row] - root.t0[row]))
            end = min(end, at)
            if at < known:
                goals.append(Goal(at, cell))
        elif known == np.inf:
            goals.append(Goal(np.inf))
        span = self.courses[1].span if self.courses else 1.0
        for back in STEPS_BACK:
            at = end - back * (end - first)
            if np.isfinite(at) and at > first:
                goals.append(Goal(at, level=_short(at % span)))
        return goals


def _short(level: float) -> Fraction:
    """A number just below, with few digits."""
    mantissa, exponent = np.frexp(level)
    return Fraction(int(mantissa * 2**34), 2**34) * Fraction(2) ** int(exponent)
