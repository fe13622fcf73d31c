"""Courses: how tenants' use and keys rise with what is poured in, as rows of arrays.

While a filling is *regular*, keys only rise, so a tenant's state when its parent serves at a key does not depend on how
it came there: it is a function of that key. A `Course` holds these functions for all tenants of one depth of the tree,
as rows, tenant by tenant, in the order of pouring. Each row is a straight piece: use grows by `gain` while the key of
what is served *below* the tenant goes from `t0` to `t1` (for a leaf: while its current portion goes from `t0` to `t1`
pods), and the tenant's own key, by which its *parent* orders it, goes from `x0` to `x1`. A row with x0 = x1 is poured
without delay once that key is served.

`pour` makes the rows of leaves from their portions, `confluence` those of inner tenants from their children's, and
`crest` cuts rows where another resource becomes dominant, a guarantee is reached or a limit, and finds the keys. A key
(class, weighted share) is one float, class · span + share; the classes are those of serving: within the guarantee,
the same with weight 0, beyond it, the same with weight 0.

What is not regular ends a tenant's course (`ends` says where): a key that falls back, because a guarantee counts again
or nobody asks any more for the dominant resource; a limit below which other demand would go on. Nothing here decides:
all floats are estimates, and exact.py proves where the filling stands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import numpy.typing as npt

from allotment_scheduler.core.resources import Column
from allotment_scheduler.core.shares import Measure

if TYPE_CHECKING:
    from allotment_scheduler.core.entitlement import Basin, Cell, Portion

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MANY: Final = 4000
"""Tenants up to which one float can hold a tenant's number and a key."""
HAIR: Final = 1e-11
"""Relative width below which floats tell nothing."""


class Chart:
    """What of a filling does not change while it goes on, as arrays. Basins are numbered as they are listed."""

    def __init__(self, basins: "Sequence[Basin]", measure: Measure) -> None:
        self.basins = basins
        number = {id(basin): index for index, basin in enumerate(basins)}
        self.parent: Ints = np.array([number[id(b.up[1])] if len(b.up) > 1 else -1 for b in basins], dtype=np.int64)
        self.depth: Ints = np.array([len(b.up) - 1 for b in basins], dtype=np.int64)
        self.is_leaf: Bools = np.array([not b.children for b in basins], dtype=np.bool_)
        self.weight: Floats = np.array([float(b.tenant.spec.weight or 1) for b in basins])
        self.weightless: Ints = np.array([b.tenant.weightless for b in basins], dtype=np.int64)
        self._cells(measure)
        self._bounds()
        self._portions()

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
        self.in_column: Floats = np.zeros((len(self.cells), len(self.columns)))
        for index, (_, column) in enumerate(self.cells):
            self.in_column[index, self.columns.index(column)] = 1
        self.of_column = [[i for i, (_, c) in enumerate(self.cells) if c == column] for column in self.columns]
        self.points = [
            [(i, int(self.share_of[i] * measure.denominator)) for i in cells if self.share_of[i]]
            for cells in self.of_column
        ]  # fmt: skip
        """By column: its cells, and what one unit there makes of the share's common denominator."""
        self.to_share: Floats = self.in_column * np.array([float(share) for share in self.share_of])[:, None]

    def _bounds(self) -> None:
        """Limits and guarantees as [basin x column]; those of a pool as (cells, [basin x column])."""
        count, width = len(self.basins), len(self.columns)
        pools = sorted({pool for pool, _ in self.cells})
        everywhere = np.ones(len(self.cells), dtype=np.bool_)
        inside = {pool: np.array([at == pool for at, _ in self.cells], dtype=np.bool_) for pool in pools}

        def table(caps: Sequence[Mapping[Column, int] | None], absent: float) -> Floats:
            found: Floats = np.full((count, width), np.inf)
            for index, cap in enumerate(caps):
                if cap is not None:
                    found[index] = [cap.get(column, absent) for column in self.columns]
            return found

        tenants = [basin.tenant for basin in self.basins]
        self.limits: list[tuple[Bools, Floats]] = []
        self.guarantees: list[tuple[Bools, Floats, Bools]] = []
        self.limited: list[str | None] = []
        self.guaranteed: list[str | None] = []
        """The pools of these tables, None for all together."""
        if any(tenant.limits for tenant in tenants):
            self.limits.append((everywhere, table([tenant.limits for tenant in tenants], np.inf)))
            self.limited.append(None)
        if any(tenant.guaranteed is not None for tenant in tenants):
            has = np.array([tenant.guaranteed is not None for tenant in tenants], dtype=np.bool_)
            self.guarantees.append((everywhere, table([tenant.guaranteed for tenant in tenants], 0), has))
            self.guaranteed.append(None)
        for pool in pools:
            if any(pool in tenant.limits_in for tenant in tenants):
                caps = table([tenant.limits_in.get(pool, {}) for tenant in tenants], np.inf)
                self.limits.append((inside[pool], caps))
                self.limited.append(pool)
            if any(pool in tenant.guaranteed_in for tenant in tenants):
                has = np.array([pool in tenant.guaranteed_in for tenant in tenants], dtype=np.bool_)
                caps = table([tenant.guaranteed_in.get(pool) for tenant in tenants], 0)
                self.guarantees.append((inside[pool], caps, has))
                self.guaranteed.append(pool)

    def caps(self, number: int, bound: int) -> tuple[str | None, Mapping[Column, int]]:
        """A basin's guarantee (0, 1, …) or limit (-2, -3, …), and the pool it holds in."""
        tenant = self.basins[number].tenant
        if bound >= 0:
            pool = self.guaranteed[bound]
            return pool, (tenant.guaranteed if pool is None else tenant.guaranteed_in.get(pool)) or {}
        pool = self.limited[-2 - bound]
        return pool, tenant.limits if pool is None else tenant.limits_in.get(pool, {})

    def _portions(self) -> None:
        """All portions in one row, leaf by leaf; equal ones share a kind."""
        listed = [basin.portions for basin in self.basins]
        lengths = np.array([len(portions) for portions in listed], dtype=np.int64)
        self.first: Ints = np.concatenate([[0], np.cumsum(lengths)])
        self.leaf: Ints = np.repeat(np.arange(len(listed)), lengths)
        identity = np.fromiter(map(id, chain.from_iterable(listed)), dtype=np.int64, count=int(self.first[-1]))
        _, where, self.kind = np.unique(identity, return_index=True, return_inverse=True)
        self.kinds: list[Portion] = [
            listed[leaf][at - self.first[leaf]]
            for at, leaf in zip(where.tolist(), self.leaf[where].tolist(), strict=True)
        ]  # fmt: skip
        self.count: Floats = np.array([float(portion.count) for portion in self.kinds])[self.kind]


@dataclass(slots=True)
class Course:
    """Rows of all tenants of one depth, tenant by tenant, in the order of pouring. See above."""

    owner: Ints
    t0: Floats
    t1: Floats
    use: Floats
    """[row x cell] at the start."""
    gain: Floats
    """[row x cell]"""
    asks: Bools
    """[row x cell]: where what is served below asks for something."""
    touches: Bools
    """[row x column]: D, what the best leaves use or request."""
    portion: Ints
    """What a leaf pours, -1 for inner tenants."""
    x0: Floats
    x1: Floats
    beyond: Ints
    """1 beyond the guarantee."""
    dominant: Ints
    bound: Ints
    """The table of guarantees (0, 1, …) or limits (-2, -3, …) that is reached at the end of the row, -1 for none."""
    column: Ints
    """The column of that bound."""

    def __len__(self) -> int:
        return len(self.owner)

    def take(self, rows: Ints | Bools) -> Self:
        """Some of the rows."""
        return type(self)(*(getattr(self, each.name)[rows] for each in fields(self)))

    def joined(self, other: Self) -> Self:
        """The rows of both, each tenant's together."""
        both = type(self)(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))
        return both.take(np.argsort(both.owner, kind="stable"))

    def split(self, at: Floats) -> Self:
        """Cut every row with 0 < at < 1 there; a bound stays with the end."""
        cut = (at > HAIR) & (at < 1 - HAIR)
        if not cut.any():
            return self
        made = self.take(np.repeat(np.arange(len(self)), 1 + cut))
        later = np.flatnonzero(cut) + np.cumsum(cut)[cut]
        part = at[cut]
        middle = made.t0[later] + part * (made.t1[later] - made.t0[later])
        made.t0[later] = made.t1[later - 1] = middle
        gained = part[:, None] * made.gain[later]
        made.use[later] += gained
        made.gain[later] -= gained
        made.gain[later - 1] = gained
        made.bound[later - 1] = -1
        return made

    def same_owner_before(self) -> Bools:
        """Whether the row before belongs to the same tenant."""
        same = np.zeros(len(self), dtype=np.bool_)
        same[1:] = self.owner[1:] == self.owner[:-1]
        return same


def course(
    owner: Ints,
    t: tuple[Floats, Floats],
    poured: tuple[Floats, Floats],
    asking: tuple[Bools, Bools],
    portion: Ints,
) -> Course:
    """Rows without keys yet. `poured`: use and gain; `asking`: where it asks, and what is touched."""
    count = len(owner)
    zeros, none = np.zeros(count), np.full(count, -1, dtype=np.int64)
    nought = np.zeros(count, dtype=np.int64)
    return Course(owner, *t, *poured, *asking, portion, zeros, zeros.copy(), nought, none, none.copy(), none.copy())


def running_sum(gain: npt.NDArray[Any], owner: Ints) -> npt.NDArray[Any]:
    """Sums of what came before in the rows of the same owner."""
    total: npt.NDArray[Any] = np.cumsum(gain, axis=0) - gain
    start = np.flatnonzero(np.diff(owner, prepend=-1))
    total -= np.repeat(total[start], np.diff(start, append=len(gain)), axis=0)
    return total


def pour(chart: Chart, pods: tuple[Floats, Floats], portion: Ints, starts: Ints, use: Floats) -> Course:
    """The courses of leaves. `pods`: what one of each portion asks for [row x cell], and how many are left.

    `starts`: where rows begin; portions between are taken together, and their row bears the name of the last.
    `use` [basin x cell] is what basins hold at the start.
    """
    asked, left = pods
    gain = asked * left[:, None]
    asks = asked > 0
    if len(starts) < len(portion):
        gain, left = np.add.reduceat(gain, starts), np.add.reduceat(left, starts)
        asks = np.logical_or.reduceat(asks, starts)
        portion = portion[np.append(starts[1:], len(portion)) - 1]
    owner = chart.leaf[portion]
    at = running_sum(gain, owner) + use[owner]
    touches = ((asks @ chart.in_column) > 0) | ((at @ chart.to_share) > 0)
    return course(owner, (np.zeros(len(owner)), left), (at, gain), (asks, touches), portion)


@dataclass(slots=True)
class Crested:
    """Courses with keys."""

    rows: Course
    ends: Floats
    """Per basin: the key up to which its course is known, ∞ where to its end."""
    span: float
    """Distance of the classes in keys."""


def crest(chart: Chart, rows: Course, known: Floats, insatiable: Bools) -> Crested:
    """Find the keys along courses; cut rows where they change direction; end courses where they would fall.

    `known` [basin]: the key below a tenant up to which its rows are right. `insatiable` [basin x column]: all open
    demand below asks for it, so that a limit there ends it all.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        rows = rows.split((known[rows.owner] - rows.t0) / (rows.t1 - rows.t0))
        rows = _meet_limits(chart, rows)
        rows = _meet_guarantees(chart, rows)
        rows, low, high = _shares(chart, rows)
    top = float(high.max(initial=0.0))
    span = float(2.0 ** np.ceil(np.log2(4 * top))) if top > 0 else 1.0
    base = (2 * rows.beyond + chart.weightless[rows.owner]) * span
    rows.x0, rows.x1 = base + low, base + high
    return _regular(chart, rows, known, insatiable, span)


def _parts(chart: Chart, rows: Course, cells: Bools, caps: Floats) -> Floats:
    """[row x column]: the part of a row after which its owner has reached a cap; 0 if it has, ∞ if it never will."""
    used, gained = (rows.use * cells) @ chart.in_column, (rows.gain * cells) @ chart.in_column
    cap = caps[rows.owner]
    left = cap - used
    left[left <= HAIR * cap] = 0.0
    parts: Floats = np.where(gained > 0, left / gained, np.where(left > 0, np.inf, 0.0))
    return parts


def _meet_limits(chart: Chart, rows: Course) -> Course:
    """Cut rows where a limit is met."""
    for number, (cells, caps) in enumerate(chart.limits):
        asked = ((rows.asks & cells) @ chart.in_column) > 0
        parts = np.where(asked, _parts(chart, rows, cells, caps), np.inf)
        first, column = parts.min(axis=1), parts.argmin(axis=1)
        rows = _bounded(rows, first, -2 - number, column)
    return rows


def _bounded(rows: Course, part: Floats, bound: int | Ints, column: Ints) -> Course:
    """Cut rows at a part, and note at the end of what comes before it which bound is reached there."""
    reached = (part > HAIR) & (part < 1 + HAIR)
    rows.bound[reached], rows.column[reached] = (bound if isinstance(bound, int) else bound[reached]), column[reached]
    cut = reached & (part < 1 - HAIR)
    notes = rows.bound[cut], rows.column[cut]
    rows = rows.split(np.where(cut, part, np.inf))
    earlier = np.flatnonzero(cut) + np.cumsum(cut)[cut] - 1
    rows.bound[earlier], rows.column[earlier] = notes
    return rows


def _meet_guarantees(chart: Chart, rows: Course) -> Course:
    """Cut rows where the last of a tenant's guarantees is reached, and tell what lies beyond it."""
    for again in (False, True):
        most, number = np.full(len(rows), -1.0), np.full(len(rows), -1, dtype=np.int64)
        column = np.zeros(len(rows), dtype=np.int64)
        asked = (rows.asks @ chart.in_column) > 0
        for index, (cells, caps, has) in enumerate(chart.guarantees):
            parts = np.where(asked, _parts(chart, rows, cells, caps), np.inf)
            poured = ((rows.gain > 0) & cells).any(axis=1)
            part = np.where(has[rows.owner] & poured, parts.min(axis=1), -1.0)
            better = part > most
            most, number = np.where(better, part, most), np.where(better, index, number)
            column = np.where(better, parts.argmin(axis=1), column)
        if again:
            rows.beyond = (most <= HAIR).astype(np.int64)
        elif chart.guarantees:
            rows = _bounded(rows, most, number, column)
    return rows


def _shares(chart: Chart, rows: Course) -> tuple[Course, Floats, Floats]:
    """Cut rows where another resource becomes dominant; the weighted shares at both ends of each."""
    while True:
        domain = rows.touches | chart.is_leaf[rows.owner][:, None]
        start = np.where(domain, rows.use @ chart.to_share, 0.0)
        rise = np.where(domain, rows.gain @ chart.to_share, 0.0)
        end = start + rise
        top = start.max(axis=1, initial=0.0)
        rows.dominant = np.where(start >= (top * (1 - HAIR))[:, None], rise, -1.0).argmax(axis=1)
        last = end.argmax(axis=1)
        every = np.arange(len(rows))
        mine, other = rows.dominant, last
        ahead = start[every, mine] - start[every, other]
        faster = rise[every, other] - rise[every, mine]
        overtaken = end[every, other] > end[every, mine] * (1 + HAIR)
        part = np.where(overtaken, ahead / faster, np.inf)
        if not ((part > HAIR) & (part < 1 - HAIR)).any():
            weight = chart.weight[rows.owner]
            return rows, top / weight, end.max(axis=1, initial=0.0) / weight
        rows = rows.split(part)


def _regular(chart: Chart, rows: Course, known: Floats, insatiable: Bools, span: float) -> Crested:
    """End every course at its first row that does not follow from the level alone, or that never comes."""
    hair, count = HAIR * span, len(chart.basins)
    before = rows.same_owner_before()
    previous = np.where(before, np.roll(rows.x1, 1), -np.inf)
    falls = rows.x0 < previous - hair
    leaps = before & (rows.x0 > previous + hair)
    by_guarantee = (np.roll(rows.bound, 1) >= 0) | chart.is_leaf[rows.owner]
    leaps &= ~(by_guarantee & (rows.beyond > np.roll(rows.beyond, 1)))
    unknown = rows.t0 >= known[rows.owner] - hair
    over, dry = np.zeros(len(rows), dtype=np.bool_), np.zeros(len(rows), dtype=np.bool_)
    for cells, caps in chart.limits:
        asked = ((rows.asks & cells) @ chart.in_column) > 0
        with np.errstate(divide="ignore", invalid="ignore"):
            met = asked & (_parts(chart, rows, cells, caps) <= HAIR)
        over |= met.any(axis=1)
        dry |= (met & insatiable[rows.owner]).any(axis=1) & bool(cells.all())
    bad = np.flatnonzero(falls | leaps | unknown | over)
    first = np.full(count, len(rows), dtype=np.int64)
    np.minimum.at(first, rows.owner[bad], bad)
    ends = np.where(known < np.inf, -np.inf, np.inf)
    has = np.unique(rows.owner)
    ends[has] = np.inf
    stopped = first < len(rows)
    where = first[stopped]
    reason = ~(dry & before)[where] | unknown[where]
    ends[stopped] = np.where(reason, np.maximum(rows.x0, previous)[where], np.inf)
    return Crested(rows.take(np.arange(len(rows)) < first[rows.owner]), ends, span)


def confluence(chart: Chart, children: Crested, use: Floats) -> tuple[Course, Floats]:
    """The courses of tenants from those of their children, and up to which key below them they are right."""
    rows, parents = children.rows, chart.parent
    known = np.full(len(chart.basins), np.inf)
    ended = np.flatnonzero((children.ends < np.inf) & (parents >= 0))
    np.minimum.at(known, parents[ended], children.ends[ended])
    at_once = rows.x1 - rows.x0 <= HAIR * children.span
    smooth, sudden = np.flatnonzero(~at_once), np.flatnonzero(at_once)
    row = np.concatenate([smooth, sudden, smooth])
    turn = np.concatenate([np.ones(len(smooth)), np.zeros(len(sudden)), -np.ones(len(smooth))])
    key = np.concatenate([rows.x0[smooth], rows.x0[sudden], rows.x1[smooth]])
    owner = parents[rows.owner[row]]
    order = np.argsort(2 * children.span * 4 * owner + key) if len(chart.basins) < MANY else np.lexsort((key, owner))
    moved = (np.diff(key[order], prepend=-np.inf) > HAIR * children.span) | (np.diff(owner[order], prepend=-1) != 0)
    spot = np.empty(len(order), dtype=np.int64)
    spot[order] = np.cumsum(moved)
    level = key[order][moved]
    order = np.argsort(spot, kind="stable")
    row, turn, owner = row[order], turn[order], owner[order]
    key = level[spot[order] - 1] if len(order) else key
    return _merge(rows, (row, turn, owner, key), use), known


def _counted(flags: Bools, row: Ints, turn: Floats) -> Floats:
    """How many of the rows that run have each flag."""
    if flags.all():
        return np.broadcast_to(np.cumsum(turn)[:, None], (len(row), flags.shape[1]))
    counts: Floats = np.cumsum(turn[:, None] * flags[row], axis=0)
    return counts


def _merge(rows: Course, events: tuple[Ints, Floats, Ints, Floats], use: Floats) -> Course:
    """Rows between events. `events`: the row that begins (1), is poured (0) or ends (-1), its tenant, and the key."""
    row, turn, owner, key = events
    width = rows.x1 - rows.x0
    pace = rows.gain / np.where(width > 0, width, 1.0)[:, None]
    slope = np.cumsum(turn[:, None] * pace[row], axis=0)
    asking, touching = (_counted(flags, row, turn) for flags in (rows.asks, rows.touches))
    active = np.cumsum(turn)
    length = np.diff(key, append=0.0)
    length[np.diff(owner, append=-1) != 0] = 0.0
    between = np.flatnonzero((length > 0) & (active > 0.5))
    at_once = np.flatnonzero(turn == 0)
    index = np.concatenate([between, at_once])
    order = np.argsort(np.concatenate([2 * between + 1, 2 * at_once]), kind="stable")
    asks = asking[index] > 0.5
    touches = touching[index] > 0.5
    gain = np.maximum(slope[index], 0.0) * np.where(asks, length[index, None], 0.0)
    poured = np.arange(len(index)) >= len(between)
    gain[poured] = rows.gain[row[at_once]]
    asks[poured] |= rows.asks[row[at_once]]
    touches[poured] |= rows.touches[row[at_once]]
    t0, t1 = key[index], key[index] + np.where(poured, 0.0, length[index])
    index, gain = index[order], gain[order]
    mine = owner[index]
    at = running_sum(gain, mine) + use[mine]
    none = np.full(len(index), -1, dtype=np.int64)
    return course(mine, (t0[order], t1[order]), (at, gain), (asks[order], touches[order]), none)
