"""Landing: where every tenant stands at a key of the root's, read from courses, solved exactly, and proven.

Floats only say on which row of its course every tenant stands (`_descend`). There its use is affine in the level λ
that its parent serves at: fixed + λ · pace. A leaf that rises pours so many pods that its dominant share comes to its
weight times λ; an inner tenant's use is the sum of its children's in its own level below, which its own key ties to λ;
what has reached a bound stands still. So the lines are worked out from the leaves to the root in rational numbers
(`_solve`), what is full gives the root's level, and from there everybody's (`_prove`): every pod count has to lie
within its portion and every key where its row says. Where the estimate is well inside its row that needs no exact
look; at the edges, where integers meet, it does. If anything does not hold, nothing has happened.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING, Final

import numpy as np

from allotment_scheduler.core.courses import HAIR, Bools, Course, Floats, Ints
from allotment_scheduler.core.resources import Column

if TYPE_CHECKING:
    from allotment_scheduler.core.entitlement import Cell
    from allotment_scheduler.core.leap import Leap

ZERO: Final = Fraction(0)
CLEAR: Final = 1e3
"""So many hairs from the ends of a row an estimate needs no proof."""
Line = dict[int, Fraction]
"""Amounts by cell."""


WAITS, RISES, BOUND, BETWEEN, EMPTY = range(5)
"""How a tenant stands to the key that its parent serves at.

It waits: its own key is higher, nothing of it has been poured on this stretch. It rises: its own key is that key. It
has reached a bound, and waits beyond its guarantee, or for ever at its limit. It is a leaf between two portions, the
later of which is beyond its guarantee. It is empty: all its open demand is poured in.
"""


@dataclass(frozen=True, slots=True)
class Goal:
    """Where to land: when a cell is full, or at a level of the root's. `key` (∞: when all is poured) is an estimate."""

    key: float
    cell: int | None = None
    level: Fraction | None = None


class Lines:
    """Sums of lines, kept over few denominators until they are asked for."""

    __slots__ = ("fixed", "over", "pace")

    def __init__(self) -> None:
        self.fixed: Line = {}
        self.pace: Line = {}
        self.over: dict[tuple[int, int], tuple[dict[int, int | Fraction], dict[int, int | Fraction]]] = {}
        """Numerators by denominators of the fixed part and of the pace."""

    def add(self, other: "Lines") -> None:
        """Add what has been worked out."""
        _add(self.fixed, other.fixed)
        _add(self.pace, other.pace)

    def work_out(self) -> None:
        """Add up what was kept over denominators."""
        rises, units = lcm(*(rise for rise, _ in self.over)), lcm(*(unit for _, unit in self.over))
        fixed: dict[int, int | Fraction] = {}
        pace: dict[int, int | Fraction] = {}
        for (rise, unit), (held, asked) in self.over.items():
            for cell, amount in held.items():
                fixed[cell] = fixed.get(cell, 0) + amount * (rises // rise)
            for cell, amount in asked.items():
                pace[cell] = pace.get(cell, 0) + amount * (units // unit)
        _add(self.fixed, {cell: _ratio(amount, rises) for cell, amount in fixed.items() if amount})
        _add(self.pace, {cell: _ratio(amount, units) for cell, amount in pace.items() if amount})
        self.over.clear()

    def move(self, start: Fraction, speed: Fraction) -> None:
        """Put start + speed · λ in the place of λ."""
        _add(self.fixed, {cell: amount * start for cell, amount in self.pace.items()})
        self.pace = {cell: amount * speed for cell, amount in self.pace.items()} if speed else {}


class Landing:
    """One try to land."""

    def __init__(self, leap: "Leap", goal: Goal) -> None:
        self.leap = leap
        self.chart = leap.chart
        self.basins = leap.chart.basins
        self.goal = goal
        count = len(self.basins)
        self.stand: Ints = np.full(count, WAITS, dtype=np.int64)
        self.row: Ints = np.full(count, -1, dtype=np.int64)
        self.portion: Ints = np.full(count, -1, dtype=np.int64)
        self.dominant: Ints = np.zeros(count, dtype=np.int64)
        self.serves: Floats = np.full(count, -np.inf)
        """The key at which a tenant serves below (for a leaf: pods of its portion), an estimate."""
        self.clear: Bools = np.zeros(count, dtype=np.bool_)
        self.inner: list[int] = np.flatnonzero(~leap.chart.is_leaf).tolist()
        self.lines = {number: Lines() for number in self.inner}
        self.moves: list[tuple[Fraction, Fraction]] = [(ZERO, ZERO)] * count
        """An inner tenant's level below is start + speed · λ; for a leaf that stands still: pods of its portion."""
        self.rising: dict[int, tuple[int | Fraction, int]] = {}
        """For a leaf that rises: points of share it holds before its portion, and points that one pod makes."""
        self.below: list[Fraction | None] = [None] * count
        """An inner tenant's level below, exactly."""
        self.coarse: list[tuple[int, float]] = []
        """Where leaves stand in rows of several portions: the last portion, and how far through the row."""
        self._use: dict[int, Line] = {}

    def found(self) -> bool:
        """Find out where everybody stands; False if that cannot be told here."""
        self.stand[0], self.serves[0] = RISES, self.goal.key
        if not self._descend():
            return False
        try:
            self._solve()
        except ZeroDivisionError:  # someone moves with nothing: a row too short to tell
            return False
        return self._prove()

    # --- which row -----------------------------------------------------------------------------------------------

    def _descend(self) -> bool:
        """Put everybody on a row; False where one is just being poured without delay."""
        chart, key = self.chart, self.serves
        for depth, course in sorted(self.leap.courses.items()):
            rows, hair = course.rows, HAIR * course.span
            owners = np.flatnonzero(chart.depth == depth)
            above = key[chart.parent[owners]]
            begun = np.bincount(rows.owner[rows.x0 <= key[chart.parent[rows.owner]]], minlength=len(key))[owners]
            first, after = np.searchsorted(rows.owner, owners), np.searchsorted(rows.owner, owners, side="right")
            some = begun > 0
            waits = ~some & (first < after)
            self.clear[owners[~some]] = True
            self.clear[owners[waits]] = rows.x0[first[waits]] > above[waits] + CLEAR * hair
            if not self._place(rows, (first + begun - 1)[some], owners[some], (above[some], after[some]), hair):
                return False
        return not self.coarse

    def _place(self, rows: Course, row: Ints, owners: Ints, there: tuple[Floats, Ints], hair: float) -> bool:
        """Put tenants on rows of their courses. `there`: the keys their parents serve at, and where their rows end."""
        above, after = there
        t0, t1, x0, x1 = rows.t0[row], rows.t1[row], rows.x0[row], rows.x1[row]
        rises = above <= x1 + hair
        if (rises & ((x1 - x0 <= hair) | (t1 <= t0))).any():
            return False
        portion, last = rows.portion[row], row + 1 == after
        spot = np.minimum(np.searchsorted(self.leap.open, portion), len(self.leap.open) - 1)
        whole = (portion >= 0) & (t1 == self.leap.group_left[spot])
        empty = last & ((rows.bound[row] >= -1) | whole)
        vague = (portion >= 0) & ~self.leap.is_single(spot) & (rises | ~(whole | empty))
        self.stand[owners] = np.select([rises, empty, whole], [RISES, EMPTY, BETWEEN], BOUND)
        width = np.where(rises, x1 - x0, 1.0)
        way = np.clip((np.where(rises, above, x0) - x0) / width, 0.0, 1.0)
        self.serves[owners] = np.where(rises, t0 + way * (t1 - t0), np.where(empty & (portion < 0), np.inf, t1))
        self.row[owners], self.portion[owners], self.dominant[owners] = row, portion, rows.dominant[row]
        following = np.where(last, np.inf, rows.x0[np.minimum(row + 1, len(rows) - 1)])
        far = CLEAR * hair
        inside = np.where(
            rises, (above > x0 + far) & (above < x1 - far), (above > x1 + far) & (above < following - far)
        )
        self.clear[owners] = inside
        for index in np.flatnonzero(vague).tolist():
            end = float(self.leap.group_left[spot[index]])
            self.coarse.append((int(portion[index]), float(self.serves[owners[index]]) / end))
        return True

    # --- exactly where -------------------------------------------------------------------------------------------

    def _solve(self) -> None:
        """Everybody's line, from the leaves to the root; then the root's level."""
        self._add_rising_leaves()
        parents, stands = self.chart.parent.tolist(), self.stand.tolist()
        for number in range(len(self.basins) - 1, 0, -1):
            into = self.lines[parents[number]]
            if number in self.lines:
                self._work_out(number, self.lines[number])
                into.add(self.lines[number])
            elif stands[number] != RISES:
                _add(into.fixed, self._still(number))
        root, cell = self.lines[0], self.goal.cell
        root.work_out()
        if cell is not None:
            capacity = self.leap.filling.capacity[self.chart.cells[cell]]
            self.below[0] = (capacity - root.fixed.get(cell, ZERO)) / root.pace.get(cell, ZERO)
        else:
            self.below[0] = self.goal.level

    def _held(self, number: int, spot: int) -> list[int | Fraction]:
        """What a leaf holds, by cell, before it pours of an open portion."""
        held: list[int | Fraction] = self.leap.before[spot].tolist()
        basin = self.basins[number]
        if basin.cells:
            for at, amount in basin.cells.items():
                held[self.chart.cell_index[at]] += amount
            first = int(self.chart.first[number]) + basin.position
            begun = self.leap.spot(first) if basin.poured else -1
            if 0 <= begun < spot:
                for cell, asked in enumerate(self.leap.asked[begun].tolist()):
                    held[cell] -= asked * basin.poured
        return held

    def _add_rising_leaves(self) -> None:
        """Leaves that rise: pods = (weight · λ - share held) / share asked, all in units of the common denominator."""
        chart = self.chart
        rising = np.flatnonzero((self.stand == RISES) & chart.is_leaf)
        spots = np.searchsorted(self.leap.open, self.portion[rising])
        asked = self.leap.asked[spots].tolist()
        for number, spot, asks, column in zip(
            rising.tolist(), spots.tolist(), asked, self.dominant[rising].tolist(), strict=True
        ):
            held = self._held(number, spot)
            points = chart.points[column]
            have, rise = sum(held[c] * p for c, p in points), sum(asks[c] * p for c, p in points)
            weight = self.basins[number].tenant.spec.weight or 1
            unit = rise * weight.denominator
            self.rising[number] = have, rise
            over = self.lines[chart.parent[number]].over
            fixed, pace = over.setdefault((rise, unit), ({}, {}))
            factor = chart.denominator * weight.numerator
            for cell, ask in enumerate(asks):
                if ask or held[cell]:
                    fixed[cell] = fixed.get(cell, 0) + held[cell] * rise - ask * have
                if ask:
                    pace[cell] = pace.get(cell, 0) + ask * factor

    def _still(self, number: int) -> Line:
        """The use of a leaf that does not rise."""
        found = self._use.get(number)
        if found is None:
            basin = self.basins[number]
            if self.stand[number] == WAITS:
                found = {self.chart.cell_index[cell]: amount for cell, amount in basin.cells.items()}
            else:
                spot = self.leap.spot(int(self.portion[number]))
                held, asks = self._held(number, spot), self.leap.asked[spot].tolist()
                pods = self._left(spot)
                if self.stand[number] == BOUND:
                    at: Line = {cell: Fraction(amount) for cell, amount in enumerate(held)}
                    pods = self._until_bound(number, at, {cell: Fraction(ask) for cell, ask in enumerate(asks)})
                self.moves[number] = pods, ZERO
                found = {cell: held[cell] + ask * pods for cell, ask in enumerate(asks) if ask or held[cell]}
            self._use[number] = found
        return found

    def _left(self, spot: int) -> Fraction:
        """How many pods of an open portion are left."""
        return Fraction(int(self.leap.counts[spot])) - self.leap.begun.get(int(self.leap.open[spot]), ZERO)

    def _work_out(self, number: int, lines: Lines) -> None:
        """An inner tenant: the level below that brings it to its parent's level, or to its bound."""
        lines.work_out()
        if self.stand[number] == BOUND:
            start = self._until_bound(number, lines.fixed, lines.pace), ZERO
        elif self.stand[number] == RISES:
            column = int(self.dominant[number])
            held, rise = self._share(lines.fixed, column), self._share(lines.pace, column)
            start = -held / rise, (self.basins[number].tenant.spec.weight or 1) / rise
        else:
            return
        self.moves[number] = start
        lines.move(*start)

    def _until_bound(self, number: int, at: Line, pace: Line) -> Fraction:
        """How far to go until the bound at the end of the row is reached."""
        chart, row = self.chart, int(self.row[number])
        rows = self._rows(number)
        bound, column = int(rows.bound[row]), int(rows.column[row])
        pool, caps = chart.caps(number, bound)
        return (caps.get(chart.columns[column], 0) - self._used(at, column, pool)) / self._used(pace, column, pool)

    def _rows(self, number: int) -> Course:
        return self.leap.courses[int(self.chart.depth[number])].rows

    def _used(self, line: Line, column: int, pool: str | None) -> Fraction:
        """What of a column, in a pool or in all."""
        cells = self.chart.cells
        return sum((line.get(c, ZERO) for c in self.chart.of_column[column] if pool in (None, cells[c][0])), ZERO)

    def _share(self, line: Line, column: int) -> Fraction:
        """What use makes as a share of one column's total."""
        points = sum((line[cell] * point for cell, point in self.chart.points[column] if cell in line), ZERO)
        return points / self.chart.denominator

    # --- proof ---------------------------------------------------------------------------------------------------

    def _prove(self) -> bool:
        """Everybody's exact level, from the root down; False if anybody is not where its row says."""
        chart = self.chart
        for number in self.inner[1:]:
            level = self.below[chart.parent[number]]
            if self.stand[number] == RISES:
                if level is None:
                    return False
                start, speed = self.moves[number]
                self.below[number] = start + level * speed
            elif self.stand[number] == BOUND:
                self.below[number] = self.moves[number][0]
        near = self._near()
        for number in np.flatnonzero(~(self.clear & near[chart.parent])).tolist():
            if number and not self._stands(number):
                return False
        room = self.leap.filling.capacity
        return all(amount <= room[chart.cells[cell]] for cell, amount in self.use(0).items())

    def _near(self) -> Bools:
        """Inner tenants whose exact level below is where it was estimated."""
        near = np.ones(len(self.basins), dtype=np.bool_)
        for number in self.inner:
            level, course = self.below[number], self.leap.courses.get(int(self.chart.depth[number]) + 1)
            if level is not None and course is not None:
                estimate = float(self.serves[number])
                klass = np.floor(estimate / course.span + HAIR)
                near[number] = abs(klass * course.span + float(level) - estimate) < CLEAR / 10 * HAIR * course.span
        return near

    def _stands(self, number: int) -> bool:
        """Whether a tenant's exact state is on its row: its portion, limits, guarantees and key."""
        chart, tenant = self.chart, self.basins[number].tenant
        level, use = self.below[chart.parent[number]], self.use(number)
        waits = self.stand[number] == WAITS
        if chart.is_leaf[number] and not waits:
            left = self._left(self.leap.spot(int(self.portion[number])))
            if not 0 <= self.pods(number) <= left:
                return False
        for pool, caps in () if waits else ((None, tenant.limits), *tenant.limits_in.items()):
            for column, cap in caps.items():
                if column in chart.columns and self._used(use, chart.columns.index(column), pool) > cap:
                    return False
        return level is None or self._key_stands(number, level)

    def _key_stands(self, number: int, level: Fraction) -> bool:
        """Whether a tenant's exact key is where its parent's level says."""
        chart, course = self.chart, self.leap.courses[int(self.chart.depth[number])]
        rows, use, tenant = course.rows, self.use(number), self.basins[number].tenant
        low, high = np.searchsorted(rows.owner, [number, number + 1]).tolist()
        if low == high:
            return True
        waits = self.stand[number] == WAITS
        row = low if waits else int(self.row[number])
        if not self._class_holds(number, rows, row):
            return False
        served = int(np.floor(self.serves[chart.parent[number]] / course.span + HAIR)), level
        columns = range(len(chart.columns)) if chart.is_leaf[number] else np.flatnonzero(rows.touches[row]).tolist()
        share = max((self._share(use, column) for column in columns), default=ZERO) / (tenant.spec.weight or 1)
        key = 2 * int(rows.beyond[row]) + tenant.weightless, share
        if waits or self.stand[number] == RISES:
            return key == served or (waits and key > served)
        after = 2 * int(rows.beyond[row + 1]) + tenant.weightless if row + 1 < high else 4
        return key <= served <= (after, share)

    def _class_holds(self, number: int, rows: Course, row: int) -> bool:
        """Whether use is on the side of the guarantee that the row tells."""
        chart, tenant, use = self.chart, self.basins[number].tenant, self.use(number)
        if not tenant.has_guarantee:
            return True
        asked = np.flatnonzero((rows.asks[row] @ chart.in_column) > 0).tolist()
        pools = {chart.cells[cell][0] for cell in np.flatnonzero(rows.gain[row] > 0).tolist()}
        tables: list[tuple[str | None, Mapping[Column, int]]] = [
            (pool, caps) for pool, caps in tenant.guaranteed_in.items() if pool in pools
        ]
        if tenant.guaranteed is not None:
            tables.append((None, tenant.guaranteed))
        slack = [
            min((caps.get(chart.columns[c], 0) - self._used(use, c, pool) for c in asked), default=ZERO)
            for pool, caps in tables
        ]  # fmt: skip
        best = max(slack, default=Fraction(-1))
        return best <= 0 if rows.beyond[row] else best >= 0

    # --- what comes of it ----------------------------------------------------------------------------------------

    def pods(self, number: int) -> Fraction:
        """How many pods of its portion a leaf has poured on this stretch."""
        level = self.below[self.chart.parent[number]]
        if number not in self.rising or level is None:
            return self.moves[number][0]
        have, rise = self.rising[number]
        weight = self.basins[number].tenant.spec.weight or 1
        pods: Fraction = (weight * self.chart.denominator * level - have) / rise
        return pods

    def use(self, number: int) -> Line:
        """The exact use of a tenant where the filling has landed."""
        found = self._use.get(number)
        if found is None:
            lines = self.lines.get(number)
            if lines is None and self.stand[number] != RISES:
                return self._still(number)
            if lines is None:
                spot = self.leap.spot(int(self.portion[number]))
                held, asks, pods = self._held(number, spot), self.leap.asked[spot].tolist(), self.pods(number)
                found = {cell: held[cell] + ask * pods for cell, ask in enumerate(asks) if ask or held[cell]}
            else:
                level = self.below[self.chart.parent[number]] if number else self.below[0]
                found = dict(lines.fixed)
                if level is not None:
                    _add(found, {cell: amount * level for cell, amount in lines.pace.items()})
            self._use[number] = found
        return found

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
        ahead = np.where(self.stand == EMPTY, self.portion + 1, self.portion)[chart.leaf[leap.open]]
        return not (flows[chart.kind[leap.open]] & (leap.open >= ahead)).any()

    def settle(self) -> None:
        """Bring the filling there."""
        chart = self.chart
        for number, basin in enumerate(self.basins):
            basin.flow, basin.anchor = None, basin.clock
            if number and self.stand[number] == WAITS and not basin.children:
                continue
            basin.cells = {chart.cells[cell]: amount for cell, amount in self.use(number).items()}
            basin.used, basin.share = {}, {}
            for cell, amount in self.use(number).items():
                column = chart.cells[cell][1]
                basin.used[column] = basin.used.get(column, ZERO) + amount
                basin.share[column] = basin.share.get(column, ZERO) + amount * chart.share_of[cell]
            if chart.is_leaf[number] and number:
                portion = int(self.portion[number])
                basin.position = portion - int(chart.first[number])
                basin.poured = self.pods(number) + self.leap.begun.get(portion, ZERO)
                if basin.poured >= basin.current.count:
                    basin.position += 1
                    basin.poured = ZERO


class Landed(Mapping[str, dict["Cell", Fraction]]):
    """Everybody's use at a final landing, worked out when it is asked for."""

    def __init__(self, landing: Landing) -> None:
        self._landing = landing
        self._number = {basin.tenant.name: number for number, basin in enumerate(landing.basins)}

    def __getitem__(self, name: str) -> dict["Cell", Fraction]:
        cells = self._landing.chart.cells
        return {cells[cell]: amount for cell, amount in self._landing.use(self._number[name]).items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._number)

    def __len__(self) -> int:
        return len(self._number)


def _ratio(amount: int | Fraction, denominator: int) -> Fraction:
    return Fraction(amount, denominator) if isinstance(amount, int) else amount / denominator


def _add(line: Line, other: Line) -> None:
    for cell, amount in other.items():
        line[cell] = line[cell] + amount if cell in line else amount
