"""Crests: the keys along tenants' courses, by which their parents order them.

A course is cut where another resource becomes dominant, where a guarantee is reached, and where a limit is met; on
each piece the key then goes straight. What is not regular ends a tenant's course (`ends` says where): a key that falls
back, because a guarantee counts again or nobody asks any more for the dominant resource; a limit below which other
demand would go on.

Like all of courses.py this estimates, and decides nothing.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from allotment_scheduler.core.entitlement.chart import Bools, Chart, Floats, Ints
from allotment_scheduler.core.entitlement.courses import HAIR, Course, Crested


def crest(chart: Chart, rows: Course, known: Floats, insatiable: Bools) -> Crested:
    """Find the keys along courses; cut pieces where they change direction; end courses where they would fall.

    `known` [basin]: the key below a tenant up to which its pieces are right. `insatiable` [column x basin]: all open
    demand below asks for it, so that a limit there ends it all.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        if (known < np.inf).any():
            rows = rows.split((known.take(rows.owner) - rows.t0) / (rows.t1 - rows.t0))
        rows = _meet_limits(chart, rows)
        rows = _meet_guarantees(chart, rows)
        rows, low, high = _shares(chart, rows)
    top = float(high.max(initial=0.0))
    span = float(2.0 ** np.ceil(np.log2(4 * top))) if top > 0 else 1.0
    base = (2 * rows.beyond + chart.weightless.take(rows.owner)) * span
    rows.x0, rows.x1 = base + low, base + high
    return _regular(chart, rows, known, insatiable, span)


def _parts(chart: Chart, rows: Course, cells: Bools, caps: Floats, asked: Bools) -> Floats:
    """[column x piece]: the part of a piece after which its owner has reached a cap on what is asked for.

    0 if it has, ∞ if it never will. `cells` are those that the cap counts in, `asked` [cell x piece].
    """
    counted = chart.by_column * cells
    used, gained = counted @ rows.use, counted @ rows.gain
    cap = caps.take(rows.owner, axis=1)
    left = cap - used
    left[(left <= HAIR * cap) & (cap < np.inf)] = 0.0
    parts = np.where(gained > 0, left / gained, np.where(left > 0, np.inf, 0.0))
    capped: Floats = np.where((chart.by_column @ asked) > 0, parts, np.inf)
    return capped


def _meet_limits(chart: Chart, rows: Course) -> Course:
    """Cut pieces where a limit is met."""
    for number, (cells, caps) in enumerate(chart.limits):
        parts = _parts(chart, rows, cells, caps, rows.asks & cells[:, None])
        rows = _bounded(rows, parts.min(axis=0), -2 - number, parts.argmin(axis=0))
    return rows


def _bounded(rows: Course, part: Floats, bound: int | Ints, column: Ints) -> Course:
    """Cut pieces at a part, and note at the end of what comes before it which bound is reached there."""
    reached = (part > HAIR) & (part < 1 + HAIR)
    rows.bound[reached], rows.column[reached] = (bound if isinstance(bound, int) else bound[reached]), column[reached]
    cut = reached & (part < 1 - HAIR)
    notes = rows.bound[cut], rows.column[cut]
    rows = rows.split(np.where(cut, part, np.inf))
    earlier = np.flatnonzero(cut) + np.cumsum(cut)[cut] - 1
    rows.bound[earlier], rows.column[earlier] = notes
    return rows


def _meet_guarantees(chart: Chart, rows: Course) -> Course:
    """Cut pieces where the last of a tenant's guarantees is reached, and tell what lies beyond it."""
    if chart.guarantees:
        rows = _bounded(rows, *_last_guarantee(chart, rows))
    rows.beyond = (_last_guarantee(chart, rows)[0] <= HAIR).astype(np.int64)
    return rows


def _last_guarantee(chart: Chart, rows: Course) -> tuple[Floats, Ints, Ints]:
    """The part of each piece after which no guarantee is left (-1: there was none), its table, and its column.

    Guarantees for pools hold as long as each pool that is poured into has one that does.
    """
    most, number = np.full(len(rows), -1.0), np.full(len(rows), -1, dtype=np.int64)
    column, pours = np.zeros(len(rows), dtype=np.int64), rows.gain > 0
    bare = pours.any(axis=0)
    inside, at, of = np.full(len(rows), np.inf), number.copy(), column.copy()
    outside = pours.copy()
    for index, (cells, caps, has) in enumerate(chart.guarantees):
        parts = _parts(chart, rows, cells, caps, rows.asks)
        poured = pours[cells].any(axis=0)
        part, first = np.where(has.take(rows.owner) & poured, parts.min(axis=0), -1.0), parts.argmin(axis=0)
        if chart.guaranteed[index] is None:
            most, number = part, np.where(part > -1, index, number)
            column = np.where(part > -1, first, column)
            continue
        outside[cells] = False
        earlier = poured & (part < inside)
        inside, at = np.where(earlier, part, inside), np.where(earlier, index, at)
        of = np.where(earlier, first, of)
    inside = np.where(bare & ~outside.any(axis=0), inside, -1.0)
    better = inside > most
    return np.where(better, inside, most), np.where(better, at, number), np.where(better, of, column)


def _shares(chart: Chart, rows: Course) -> tuple[Course, Floats, Floats]:
    """Cut pieces where another resource becomes dominant; the weighted shares at both ends of each."""
    while True:
        domain = rows.touches | chart.is_leaf.take(rows.owner)
        start = np.where(domain, chart.to_share @ rows.use, 0.0)
        rise = np.where(domain, chart.to_share @ rows.gain, 0.0)
        end = start + rise
        top, height = start.max(axis=0, initial=0.0), end.max(axis=0, initial=0.0)
        rows.dominant = _leader(np.where(start >= top * (1 - HAIR), rise, -1.0))
        ahead = np.zeros(len(rows))
        for column in range(len(start)):
            np.copyto(ahead, end[column], where=rows.dominant == column)
        overtaken = np.flatnonzero(height > ahead * (1 + HAIR))
        mine, other = rows.dominant[overtaken], _leader(end.take(overtaken, axis=1))
        part = np.full(len(rows), np.inf)
        part[overtaken] = (start[mine, overtaken] - start[other, overtaken]) / (
            rise[other, overtaken] - rise[mine, overtaken]
        )
        if not ((part > HAIR) & (part < 1 - HAIR)).any():
            weight = chart.weight.take(rows.owner)
            return rows, top / weight, height / weight
        rows = rows.split(part)


def _leader(values: Floats) -> Ints:
    """The row of the largest value in every column, the first of equals; numpy's argmax is slow where rows are few."""
    leader = np.zeros(values.shape[1], dtype=np.int64)
    top = values[0].copy()
    for row in range(1, len(values)):
        leader[values[row] > top] = row
        np.maximum(top, values[row], out=top)
    return leader


def _regular(chart: Chart, rows: Course, known: Floats, insatiable: Bools, span: float) -> Crested:
    """End every course at its first piece that does not follow from the level alone, or that never comes."""
    hair, count = HAIR * span, len(chart.tenants)
    before = rows.same_owner_before()
    previous = np.where(before, _shifted(rows.x1), -np.inf)
    falls = rows.x0 < previous - hair
    leaps = before & (rows.x0 > previous + hair)
    by_guarantee = (_shifted(rows.bound) >= 0) | chart.is_leaf.take(rows.owner)
    leaps &= ~(by_guarantee & (rows.beyond > _shifted(rows.beyond)))
    unknown = rows.t0 >= known.take(rows.owner) - hair
    over, limit, column = _limits_met(chart, rows, insatiable)
    bad = np.flatnonzero(falls | leaps | unknown | over)
    first = np.full(count, len(rows), dtype=np.int64)
    np.minimum.at(first, rows.owner[bad], bad)
    ends = np.where(known < np.inf, -np.inf, np.inf)
    last = np.flatnonzero(np.append(~before[1:], True)[: len(rows)])  # what is below may end where pieces do
    ends[rows.owner[last]] = np.where(known[rows.owner[last]] < np.inf, rows.x1[last], np.inf)
    stopped = first < len(rows)
    where = first[stopped]
    dry = where[((limit < -1) & before & ~unknown)[where]]
    ends[stopped] = np.where(before | unknown, previous, rows.x0)[where]
    ends[rows.owner[dry]] = np.inf
    ends[known == -np.inf] = -np.inf
    rows.bound[dry - 1], rows.column[dry - 1] = limit[dry], column[dry]
    if len(bad):
        rows = rows.take(np.flatnonzero(np.arange(len(rows)) < first[rows.owner]))
    return Crested(rows, ends, span)


def _shifted(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Everybody's neighbour's before; the first's is any."""
    shifted = values.copy()
    shifted[1:] = values[:-1]
    return shifted


def _limits_met(chart: Chart, rows: Course, insatiable: Bools) -> tuple[Bools, Ints, Ints]:
    """Pieces where a limit is met from the start on; and which one ends all demand there (-2, …), with its column."""
    over, limit = np.zeros(len(rows), dtype=np.bool_), np.full(len(rows), -1, dtype=np.int64)
    column = rows.column.copy()
    for number, (cells, caps) in enumerate(chart.limits):
        with np.errstate(divide="ignore", invalid="ignore"):
            met = _parts(chart, rows, cells, caps, rows.asks & cells[:, None]) <= HAIR
        over |= met.any(axis=0)
        if cells.all():
            final = met & insatiable.take(rows.owner, axis=1)
            dry = np.flatnonzero(final.any(axis=0))
            limit[dry], column[dry] = -2 - number, final[:, dry].argmax(axis=0)
    return over, limit, column
