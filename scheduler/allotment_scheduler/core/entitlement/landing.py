"""Landing: where every tenant stands at a key of the root's, solved exactly, and proven.

Floats only say on which piece of its course every tenant stands (standing.py). There its use is affine in the level λ
of what it serves below: fixed + λ · pace. For a leaf that level is the pods of its portion; an inner tenant's use is
the sum of its children's. Who rises keeps its dominant share at its weight times its parent's level, which ties its own
level to that; who has reached a bound, or has poured all, stands still. So the lines are worked out from the leaves to
the root in rational numbers (`_solve`), depth by depth, everybody at once; what is full gives the root's level, and
from there everybody's. If that does not prove true (proof.py), nothing has happened.
"""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from allotment_scheduler.core.entitlement.chart import Ints
from allotment_scheduler.core.entitlement.portions import begins
from allotment_scheduler.core.entitlement.proof import Proof
from allotment_scheduler.core.entitlement.ratios import Ratios
from allotment_scheduler.core.entitlement.standing import BOUND, EMPTY, RISES, WAITS, Goal, Standing

if TYPE_CHECKING:
    from allotment_scheduler.core.entitlement.filling import Cell
    from allotment_scheduler.core.entitlement.leap import Leap

ZERO: Final = Fraction(0)


class Landing:
    """One try to land."""

    def __init__(self, leap: "Leap", goal: Goal) -> None:
        self.leap = leap
        self.chart = leap.chart
        self.goal = goal
        self.at = Standing(leap, goal)
        count = len(self.chart.tenants)
        self.fixed, self.pace = Ratios.zeros(len(self.chart.cells), count), Ratios.zeros(len(self.chart.cells), count)
        """[cell x basin]: use at the parent's level λ is fixed + λ · pace; of the root, at its own level."""
        self.start, self.speed = Ratios.zeros(count), Ratios.zeros(count)
        """By basin: the level below at the parent's level λ is start + λ · speed."""
        self.below: list[Fraction | None] = [None] * count
        """An inner tenant's level below, exactly; None if nothing below it rises."""
        self._use: dict[int, dict[int, Fraction]] = {}

    def found(self) -> bool:
        """Find out where everybody stands; False if that cannot be told here."""
        if not self.at.found:
            return False
        try:
            self._solve()
        except ZeroDivisionError:  # someone moves with nothing: a piece too short to tell
            return False
        return Proof(self).holds()

    # --- exactly where -------------------------------------------------------------------------------------------

    def _solve(self) -> None:
        """Everybody's line, from the leaves to the root; then the root's level, and everybody's below."""
        chart = self.chart
        self._set_leaves()
        for depth in range(int(chart.depth.max()), 0, -1):
            here = np.flatnonzero(chart.depth == depth)
            self._tie(here)
            fixed, pace = self.fixed.take(here), self.pace.take(here)
            fixed, pace = fixed + pace * self.start.take(here), pace * self.speed.take(here)
            self.fixed.put(here, fixed)
            self.pace.put(here, pace)
            starts = np.flatnonzero(begins(chart.parent[here]))
            parents = chart.parent[here[starts]]
            self.fixed.put(parents, fixed.sums(starts).reduced())
            self.pace.put(parents, pace.sums(starts).reduced())
        self._set_levels()

    def _set_leaves(self) -> None:
        """Leaves as lines in the pods of their portions: what they hold before it, and what a pod of it asks for."""
        leap, leaves = self.leap, self.pouring
        self.fixed.put(leaves, Ratios.whole(leap.before[:, self.spots]))
        self.pace.put(leaves, Ratios.whole(leap.asked[:, self.spots]))
        for number in np.flatnonzero(leap.use.any(axis=0) & self.chart.is_leaf).tolist():
            self._add_earlier(number)

    @cached_property
    def pouring(self) -> Ints:
        """The leaves that stand on a portion."""
        pouring: Ints = np.flatnonzero(self.chart.is_leaf & (self.at.portion >= 0))
        return pouring

    @cached_property
    def spots(self) -> Ints:
        """Where these portions are among the open ones."""
        spots: Ints = np.searchsorted(self.leap.open, self.at.portion[self.pouring])
        return spots

    def _add_earlier(self, number: int) -> None:
        """Add what a leaf held before this stretch, part of a portion perhaps."""
        leap, basin, cells = self.leap, self.leap.filling.basins[number], self.chart.cells
        held = [basin.cells.get(cell, ZERO) for cell in cells]
        begun = leap.spot(int(self.chart.first[number]) + basin.position) if basin.poured else -1
        if 0 <= begun < leap.spot(int(self.at.portion[number])):
            held = [x - ask * basin.poured for x, ask in zip(held, leap.asked[:, begun].tolist(), strict=True)]
        self.fixed.put(number, self.fixed.take(number) + Ratios.of(held))

    def _tie(self, here: Ints) -> None:
        """Tie the levels below some tenants of one depth to their parents'."""
        stand, chart = self.at.stand[here], self.chart
        rising = here[stand == RISES]
        share, rise = self._dominant_share(self.fixed, rising), self._dominant_share(self.pace, rising)
        # In lowest terms these are small: all that is computed from them, up to the root and down again, stays small.
        self.start.put(rising, (-share / rise).reduced())
        self.speed.put(rising, (chart.exact_weight.take(rising) / rise).reduced())
        bound = here[stand == BOUND].tolist()
        poured = here[chart.is_leaf[here] & (stand > BOUND)].tolist()
        self.start.put(np.array(bound + poured, dtype=np.int64), Ratios.of(
            [self._until_bound(number) for number in bound] + [self.left(number) for number in poured]
        ))  # fmt: skip

    def _dominant_share(self, amounts: Ratios, numbers: Ints) -> Ratios:
        """What amounts make as a share of what is dominant for tenants."""
        points = Ratios.whole(self.chart.points[self.at.dominant[numbers]].T)
        total = (amounts.take(numbers) * points).total()
        return Ratios(total.top, total.bottom * self.chart.denominator)

    def left(self, number: int) -> int | Fraction:
        """How many pods of its portion a leaf has to pour on this stretch."""
        portion = int(self.at.portion[number])
        pods = int(self.leap.counts[self.leap.spot(portion)])
        return pods - self.leap.begun[portion] if portion in self.leap.begun else pods

    def _until_bound(self, number: int) -> Fraction:
        """How far to go until the bound at the end of the piece is reached."""
        chart, row = self.chart, int(self.at.row[number])
        rows = self.leap.courses[int(chart.depth[number])].rows
        column = int(rows.column[row])
        pool, caps = chart.caps(number, int(rows.bound[row]))
        cells = [cell for cell in chart.of_column[column] if pool in (None, chart.cells[cell][0])]
        used, pace = (sum(each.take(number).fractions()[c] for c in cells) for each in (self.fixed, self.pace))
        return Fraction(caps.get(chart.columns[column], 0) - used) / pace

    def _set_levels(self) -> None:
        """The root's level, and those of all inner tenants whose own key is tied to it."""
        parents, cell = self.chart.parent.tolist(), self.goal.cell
        if cell is not None:
            capacity = self.leap.filling.capacity[self.chart.cells[cell]]
            fixed, pace = (each.take(0).fractions()[cell] for each in (self.fixed, self.pace))
            self.below[0] = (capacity - fixed) / pace
        else:
            self.below[0] = self.goal.level
        for number in np.flatnonzero(~self.chart.is_leaf).tolist()[1:]:
            level = self.below[parents[number]]
            if self.at.stand[number] == BOUND or (self.at.stand[number] == RISES and level is not None):
                self.below[number] = self._on_line(self.start, self.speed, number, level)

    # --- what comes of it ----------------------------------------------------------------------------------------

    def pods(self, number: int) -> Fraction:
        """How many pods of its portion a leaf has poured on this stretch."""
        return self._on_line(self.start, self.speed, number, self.below[int(self.chart.parent[number])])

    def use(self, number: int) -> dict[int, Fraction]:
        """The exact use of a tenant where the filling has landed, by cell."""
        found = self._use.get(number)
        if found is None:
            tops, bottoms = self.amounts
            amounts = enumerate(zip(tops[number], bottoms[number], strict=True))
            found = self._use[number] = {cell: Fraction(top, bottom) for cell, (top, bottom) in amounts if top}
        return found

    @cached_property
    def amounts(self) -> tuple[list[list[int]], list[list[int]]]:
        """Everybody's use, by basin and cell: numerators and denominators."""
        levels = Ratios.of(level or 0 for level in self.below)
        above = np.maximum(self.chart.parent, 0)
        amounts = self.fixed + self.pace * levels.take(above)
        return amounts.top.T.tolist(), amounts.bottom.T.tolist()

    @staticmethod
    def _on_line(fixed: Ratios, pace: Ratios, at: int | tuple[int, int], level: Fraction | None) -> Fraction:
        """One number at a level."""
        top, bottom, steep = fixed.top[at], fixed.bottom[at], pace.top[at]
        if not steep or level is None:
            return Fraction(top, bottom)
        under = pace.bottom[at] * level.denominator
        return Fraction(top * under + steep * level.numerator * bottom, bottom * under)

    def is_final(self) -> bool:
        """Whether nothing can be poured after it: what is left meets what is full everywhere."""
        leap, chart = self.leap, self.chart
        root, room = {chart.cells[cell]: amount for cell, amount in self.use(0).items()}, leap.filling.capacity
        shut = leap.filling.full | {cell for cell, amount in root.items() if amount >= room[cell]}
        usable = chart.cell_index.keys() - shut
        flows = np.array(
            [any(all((pool, c) in usable for c, _ in kind.asks) for pool in kind.pools) for kind in chart.kinds],
            dtype=np.bool_,
        )
        ahead = np.where(self.at.stand == EMPTY, self.at.portion + 1, self.at.portion)[chart.leaf[leap.open]]
        return not (flows[chart.kind[leap.open]] & (leap.open >= ahead)).any()

    def settle(self) -> None:
        """Bring the filling there."""
        chart = self.chart
        for number, basin in enumerate(self.leap.filling.basins):
            basin.flow, basin.anchor = None, basin.clock
            if number and self.at.stand[number] == WAITS and not basin.children:
                continue
            basin.cells = {chart.cells[cell]: amount for cell, amount in self.use(number).items()}
            basin.used, basin.share = {}, {}
            for cell, amount in self.use(number).items():
                column = chart.cells[cell][1]
                basin.used[column] = basin.used.get(column, ZERO) + amount
                basin.share[column] = basin.share.get(column, ZERO) + amount * chart.share_of[cell]
            if chart.is_leaf[number] and number:
                portion = int(self.at.portion[number])
                basin.position = portion - int(chart.first[number])
                basin.poured = self.pods(number) + self.leap.begun.get(portion, 0)
                if basin.poured >= basin.current.count:
                    basin.position += 1
                    basin.poured = ZERO


class Landed(Mapping[str, dict["Cell", Fraction]]):
    """Everybody's use at a final landing, worked out when it is asked for."""

    def __init__(self, landing: Landing) -> None:
        self._landing = landing
        self._found: dict[str, dict[Cell, Fraction]] = {}
        self._number = {tenant.name: number for number, tenant in enumerate(landing.chart.tenants)}

    def __getitem__(self, name: str) -> dict["Cell", Fraction]:
        found = self._found.get(name)
        if found is None:
            number, (tops, bottoms) = self._number[name], self._landing.amounts
            found = self._found[name] = {}
            for cell, top, bottom in zip(self._landing.chart.cells, tops[number], bottoms[number], strict=True):
                if top:
                    found[cell] = Fraction(top, bottom)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._number)

    def __len__(self) -> int:
        return len(self._number)
