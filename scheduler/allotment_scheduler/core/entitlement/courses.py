"""Courses: how tenants' use and keys rise with what is poured in, as rows of arrays.

While a filling is *regular*, keys only rise, so a tenant's state when its parent serves at a key does not depend on how
it came there: it is a function of that key. A `Course` holds these functions for all tenants of one depth of the tree,
as pieces, tenant by tenant, in the order of pouring. Each piece is straight: use grows by `gain` while the key of what
is served *below* the tenant goes from `t0` to `t1` (for a leaf: while its current portion goes from `t0` to `t1` pods),
and the tenant's own key, by which its *parent* orders it, goes from `x0` to `x1`. A piece with x0 = x1 is poured
without delay once that key is served.

`pour` makes the pieces of leaves from their portions, `confluence` those of inner tenants from their children's, and
`crest` (crests.py) finds the keys. A key (class, weighted share) is one float, class · span + share; the classes are
those of serving: within the guarantee, the same with weight 0, beyond it, the same with weight 0.

Nothing here decides: all floats are estimates, and landing.py proves where the filling stands.
"""

from dataclasses import dataclass, fields
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from allotment_scheduler.core.entitlement.chart import Bools, Chart, Floats, Ints
from allotment_scheduler.core.entitlement.portions import begins

MANY: Final = 4000
"""Tenants up to which one float can hold a tenant's number and a key."""
HAIR: Final = 1e-11
"""Relative width below which floats tell nothing."""


@dataclass(slots=True)
class Course:
    """Pieces of all tenants of one depth, tenant by tenant, in the order of pouring. See above."""

    owner: Ints
    t0: Floats
    t1: Floats
    use: Floats
    """[cell x piece] at the start."""
    gain: Floats
    """[cell x piece]"""
    asks: Bools
    """[cell x piece]: where what is served below asks for something."""
    touches: Bools
    """[column x piece]: D, what the best leaves use or request."""
    portion: Ints
    """What a leaf pours, -1 for inner tenants."""
    x0: Floats
    x1: Floats
    beyond: Ints
    """1 beyond the guarantee."""
    dominant: Ints
    bound: Ints
    """The table of guarantees (0, 1, …) or limits (-2, -3, …) that is reached at the end of the piece, or -1."""
    column: Ints
    """The column of that bound."""

    def __len__(self) -> int:
        return len(self.owner)

    def take(self, pieces: Ints) -> Self:
        """Some of the pieces."""
        return type(self)(*(getattr(self, each.name).take(pieces, axis=-1) for each in fields(self)))

    def joined(self, other: Self) -> Self:
        """The pieces of both, each tenant's together."""
        both = type(self)(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)], -1) for f in fields(self)))
        return both.take(stable_order(both.owner))

    def split(self, at: Floats) -> Self:
        """Cut every piece with 0 < at < 1 there; a bound stays with the end."""
        cut = (at > HAIR) & (at < 1 - HAIR)
        if not cut.any():
            return self
        made = self.take(np.repeat(np.arange(len(self)), 1 + cut))
        later = np.flatnonzero(cut) + np.cumsum(cut)[cut]
        part = at[cut]
        middle = made.t0[later] + part * (made.t1[later] - made.t0[later])
        made.t0[later] = made.t1[later - 1] = middle
        gained = part * made.gain[:, later]
        made.use[:, later] += gained
        made.gain[:, later] -= gained
        made.gain[:, later - 1] = gained
        made.bound[later - 1] = -1
        return made

    def same_owner_before(self) -> Bools:
        """Whether the piece before belongs to the same tenant."""
        return ~begins(self.owner)


def course(
    owner: Ints,
    t: tuple[Floats, Floats],
    poured: tuple[Floats, Floats],
    asking: tuple[Bools, Bools],
    portion: Ints,
) -> Course:
    """Pieces without keys yet. `poured`: use and gain; `asking`: where it asks, and what is touched."""
    count = len(owner)
    zeros, none = np.zeros(count), np.full(count, -1, dtype=np.int64)
    nought = np.zeros(count, dtype=np.int64)
    return Course(owner, *t, *poured, *asking, portion, zeros, zeros.copy(), nought, none, none.copy(), none.copy())


def stable_order(keys: Ints) -> Ints:
    """The order by small numbers, equals as they come: several times as fast as a stable sort."""
    order: Ints = (keys * len(keys) + np.arange(len(keys))).argsort()
    return order


def running_sum(gain: npt.NDArray[Any], owner: Ints) -> npt.NDArray[Any]:
    """Sums of what came before in the pieces of the same owner. `gain` is [cell x piece]."""
    total: npt.NDArray[Any] = gain.cumsum(axis=1)
    total -= gain
    first = begins(owner)
    total -= total.take(first.nonzero()[0], axis=1).take(first.cumsum() - 1, axis=1)
    return total


def pour(chart: Chart, pods: tuple[Floats, Floats], portion: Ints, starts: Ints, use: Floats) -> Course:
    """The courses of leaves. `pods`: what one of each portion asks for [cell x portion], and how many are left.

    `starts`: where pieces begin; portions between are taken together, and their piece bears the name of the last.
    `use` [cell x basin] is what basins hold at the start.
    """
    asked, left = pods
    gain = asked * left
    asks = asked > 0
    if len(starts) < len(portion):
        gain, left = np.add.reduceat(gain, starts, axis=1), np.add.reduceat(left, starts)
        asks = np.logical_or.reduceat(asks, starts, axis=1)
        portion = portion[np.append(starts[1:], len(portion)) - 1]
    owner = chart.leaf.take(portion)
    at = running_sum(gain, owner) + use.take(owner, axis=1)
    touches = ((chart.by_column @ asks) > 0) | ((chart.to_share @ at) > 0)
    return course(owner, (np.zeros(len(owner)), left), (at, gain), (asks, touches), portion)


@dataclass(slots=True)
class Crested:
    """Courses with keys."""

    rows: Course
    ends: Floats
    """Per basin: the key up to which its course is known, ∞ where to its end."""
    span: float
    """Distance of the classes in keys."""


def confluence(chart: Chart, children: Crested, use: Floats) -> tuple[Course, Floats]:
    """The courses of tenants from those of their children, and up to which key below them they are right."""
    rows, parents = children.rows, chart.parent
    known = np.full(len(chart.tenants), np.inf)
    ended = np.flatnonzero((children.ends < np.inf) & (parents >= 0))
    np.minimum.at(known, parents[ended], children.ends[ended])
    at_once = rows.x1 - rows.x0 <= HAIR * children.span
    smooth, sudden = np.flatnonzero(~at_once), np.flatnonzero(at_once)
    row = np.concatenate([smooth, sudden, smooth])
    turn = np.concatenate([np.ones(len(smooth)), np.zeros(len(sudden)), -np.ones(len(smooth))])
    key = np.concatenate([rows.x0.take(smooth), rows.x0.take(sudden), rows.x1.take(smooth)])
    owner = parents.take(rows.owner.take(row))
    order = np.argsort(2 * children.span * 4 * owner + key) if len(chart.tenants) < MANY else np.lexsort((key, owner))
    sorted_key = key.take(order)
    moved = begins(owner.take(order))
    moved[1:] |= sorted_key[1:] - sorted_key[:-1] > HAIR * children.span
    spot = np.empty(len(order), dtype=np.int64)
    spot[order] = np.cumsum(moved)
    order = stable_order(spot)
    row, turn, owner = row.take(order), turn.take(order), owner.take(order)
    key = sorted_key[moved].take(spot.take(order) - 1) if len(order) else key
    return _merge(rows, (row, turn, owner, key), use), known


def _counted(flags: Bools, row: Ints, turn: Floats) -> Bools:
    """[flag x event]: whether any of the pieces that run has a flag."""
    if flags.all():
        return np.broadcast_to(turn.cumsum() > 0.5, (len(flags), len(row)))
    running: Bools = (turn * flags.take(row, axis=1)).cumsum(axis=1) > 0.5
    return running


def _merge(rows: Course, events: tuple[Ints, Floats, Ints, Floats], use: Floats) -> Course:
    """Pieces between events. `events`: the piece that begins (1), is poured (0) or ends (-1), its tenant, the key."""
    row, turn, owner, key = events
    width = rows.x1 - rows.x0
    pace = rows.gain / np.where(width > 0, width, 1.0)
    slope = (turn * pace.take(row, axis=1)).cumsum(axis=1)
    asking, touching = (_counted(flags, row, turn) for flags in (rows.asks, rows.touches))
    active = turn.cumsum()
    length = np.zeros(len(key))
    np.subtract(key[1:], key[:-1], out=length[:-1])
    length[:-1][begins(owner)[1:]] = 0.0
    # What is poured at once comes before what goes on from the same event.
    turns = np.sort(np.append(2 * np.flatnonzero((length > 0) & (active > 0.5)) + 1, 2 * np.flatnonzero(turn == 0)))
    index, poured = turns >> 1, turns & 1 == 0
    asks, touches = asking.take(index, axis=1), touching.take(index, axis=1)
    lasts = np.where(poured, 0.0, length.take(index))
    gain = np.maximum(slope.take(index, axis=1), 0.0) * np.where(asks, lasts, 0.0)
    if poured.any():
        sudden = row.take(index[poured])
        gain[:, poured] = rows.gain.take(sudden, axis=1)
        asks[:, poured] |= rows.asks.take(sudden, axis=1)
        touches[:, poured] |= rows.touches.take(sudden, axis=1)
    t0, mine = key.take(index), owner.take(index)
    at = running_sum(gain, mine) + use.take(mine, axis=1)
    none = np.full(len(index), -1, dtype=np.int64)
    return course(mine, (t0, t0 + lasts), (at, gain), (asks, touches), none)
