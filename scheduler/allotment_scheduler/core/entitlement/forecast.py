"""Forecasts: on which portion every leaf is likely to stand when the first resource is full.

A first guess, so that a leap (leap.py) need not look at all courses twice. Everybody's use is taken as a line in the
level of what its parent serves, along the portion where it stands; the lines are summed up from the leaves to the
root, what is full first gives the root's level, from there come everybody's, and with them other portions: Newton's
method, until nobody moves. It costs a few passes over the leaves, not over their portions.

It knows neither guarantees nor limits, and does not notice where keys fall. It decides nothing: who is not found where
it was expected is looked for again.
"""

from typing import TYPE_CHECKING, Final

import numpy as np

from allotment_scheduler.core.entitlement.chart import Bools, Floats, Ints
from allotment_scheduler.core.entitlement.portions import begins

if TYPE_CHECKING:
    from allotment_scheduler.core.entitlement.leap import Leap

PASSES: Final = 12
"""After so many it is left at that."""
CLOSE: Final = 1e-6
"""The part of a portion within which a leaf may as well stand on the next one."""


class Forecast:
    """The search for one stretch of a filling, in floats."""

    def __init__(self, leap: "Leap") -> None:
        chart = self.chart = leap.chart
        self.leap = leap
        leaf = chart.leaf[leap.open]
        self.first: Ints = np.flatnonzero(begins(leaf))
        """[leaf with open portions]: the first of them; so are all arrays whose shape is not told."""
        lengths = np.diff(self.first, append=len(leaf))
        self.last: Ints = self.first + lengths - 1
        self.owners: Ints = leaf[self.first]
        self.above: Ints = chart.parent[self.owners]
        self.low = leap.heights
        """[open portion]: its leaf's weighted share before it."""
        self.full: Floats = self._shares(self._held(self.last) + self._gained(self.last), self.owners)
        """The weighted share after all open portions."""
        self.apart = 2 * float(self.full.max(initial=0.0)) + 1.0
        self.ladder: Floats = self.low + self.apart * np.repeat(np.arange(len(lengths)), lengths)
        """`low`, each leaf's apart from the one before."""
        self.levels: Floats = np.full(len(chart.tenants), float(self.full.mean()))
        """[basin]: the level of what it serves."""
        self.by_depth = [np.flatnonzero(chart.depth == depth) for depth in range(int(chart.depth.max()), 0, -1)]

    def spots(self) -> Ints:
        """The open portion of every leaf that has any, and the next one where it stands close to that."""
        start = self._held(self.first)
        self._move(self._line(start, self._held(self.last) + self._gained(self.last) - start))
        spots = self._find()
        for _ in range(PASSES):
            self._move(self._lines(spots))
            moved = self._find()
            if np.array_equal(moved, spots):
                break
            spots = moved
        low, high, levels = self.low[spots], self._high(spots), self.levels[self.above]
        near = CLOSE * (high - low)
        before, after = spots[np.abs(levels - low) <= near] - 1, spots[np.abs(levels - high) <= near] + 1
        return np.concatenate([spots, np.maximum(before, 0), np.minimum(after, len(self.low) - 1)])

    def _find(self) -> Ints:
        """Where leaves stand at these levels."""
        at = np.minimum(self.levels[self.above], self.apart / 2) + self.apart * np.arange(len(self.first))
        spots: Ints = np.clip(np.searchsorted(self.ladder, at, side="right") - 1, self.first, self.last)
        return spots

    def _lines(self, spots: Ints) -> tuple[Floats, Floats]:
        """Leaves as lines along these portions; who has poured all, or waits, stands still."""
        start, levels = self._held(spots), self.levels[self.above]
        gain = self._gained(spots)
        fixed, pace = self._line(start, gain)
        for still, held in ((levels >= self._high(spots), start + gain), (levels < self.low[spots], start)):
            fixed[:, still], pace[:, still] = held[:, still], 0.0
        return fixed, pace

    def _line(self, start: Floats, gain: Floats) -> tuple[Floats, Floats]:
        """[cell x leaf]: what leaves hold, fixed + pace · level, where the dominant one of their shares is that."""
        to_share, weight = self.chart.to_share, self.chart.weight[self.owners]
        base, rise = to_share @ start / weight, to_share @ gain / weight
        with np.errstate(divide="ignore", invalid="ignore"):
            ways = np.where(rise > 0, (self.levels[self.above] - base) / rise, np.inf)
            dominant, which = ways.argmin(axis=0), np.arange(len(weight))
            pace: Floats = np.where(rise.any(axis=0), gain / rise[dominant, which], 0.0)
        return start - pace * base[dominant, which], pace

    def _held(self, spots: Ints) -> Floats:
        """[cell x leaf]: what leaves hold before these portions."""
        held: Floats = self.leap.before.take(spots, axis=1).astype(np.float64)
        return held + self.leap.use.take(self.owners, axis=1)

    def _gained(self, spots: Ints) -> Floats:
        """[cell x leaf]: what these portions bring."""
        gained: Floats = self.leap.about.take(spots, axis=1) * self.leap.left[spots]
        return gained

    def _high(self, spots: Ints) -> Floats:
        """The weighted share after these portions."""
        return np.where(spots == self.last, self.full, self.low[np.minimum(spots + 1, len(self.low) - 1)])

    def _shares(self, held: Floats, basins: Ints) -> Floats:
        shares: Floats = (self.chart.to_share @ held).max(axis=0, initial=0.0) / self.chart.weight[basins]
        return shares

    def _move(self, leaves: tuple[Floats, Floats]) -> None:
        """Bring everybody's level to where the first cell is full, if leaves follow these lines."""
        chart, count = self.chart, len(self.chart.tenants)
        fixed, pace = self.leap.use * chart.is_leaf, np.zeros((len(chart.cells), count))
        fixed[:, self.owners], pace[:, self.owners] = leaves
        start, speed = np.zeros(count), np.zeros(count)
        for here in self.by_depth:
            self._tie(here[~chart.is_leaf[here]], (fixed, pace), (start, speed))
            for amounts in (fixed, pace):
                for cell in range(len(amounts)):
                    amounts[cell] += np.bincount(chart.parent[here], weights=amounts[cell, here], minlength=count)
        rises = pace[:, 0] > 0
        if not rises.any():
            return
        self.levels[0] = ((chart.capacity - fixed[:, 0])[rises] / pace[:, 0][rises]).min()
        for here in reversed(self.by_depth):
            tied = here[speed[here] > 0]
            self.levels[tied] = start[tied] + speed[tied] * self.levels[chart.parent[tied]]
            still = here[(speed[here] == 0) & ~chart.is_leaf[here]]
            if len(still):  # all below it stands still: only if its parent falls below it, it moves
                share = self._shares(fixed[:, still], still)
                self.levels[still] *= np.minimum(self.levels[chart.parent[still]] / np.maximum(share, 1e-300), 1.0)

    def _tie(self, here: Ints, lines: tuple[Floats, Floats], ties: tuple[Floats, Floats]) -> None:
        """Turn inner tenants' lines in their own levels into lines in their parents'."""
        chart, (fixed, pace), (start, speed) = self.chart, lines, ties
        base, rise = chart.to_share @ fixed[:, here], chart.to_share @ pace[:, here]
        dominant = (base + rise * self.levels[here]).argmax(axis=0)
        which = np.arange(len(here))
        base, rise = base[dominant, which], rise[dominant, which]
        rising: Bools = rise > 0
        moving, slope = here[rising], rise[rising]
        start[moving], speed[moving] = -base[rising] / slope, chart.weight[moving] / slope
        fixed[:, moving] += pace[:, moving] * start[moving]
        pace[:, moving] *= speed[moving]
