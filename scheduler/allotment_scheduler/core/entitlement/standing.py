"""Standing: on which piece of its course every tenant stands, read from floats.

`Standing` goes down the tree from a key of the root's and finds, for every tenant, the piece of its course that holds
the key which its parent serves at. A leaf may be found on a piece that is several portions: then these have to be told
apart (`coarse`) before anybody can land.

All of it is an estimate; landing.py solves and proves.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import numpy as np

from allotment_scheduler.core.entitlement.chart import Bools, Floats, Ints
from allotment_scheduler.core.entitlement.courses import HAIR, Course

if TYPE_CHECKING:
    from allotment_scheduler.core.entitlement.leap import Leap

CLEAR: Final = 1e3
"""So many hairs from the ends of a piece an estimate needs no proof."""

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


class Standing:
    """Everybody's piece at a goal, by number of the basin."""

    def __init__(self, leap: "Leap", goal: Goal) -> None:
        self.leap = leap
        self.chart = leap.chart
        count = len(leap.chart.tenants)
        self.stand: Ints = np.full(count, WAITS, dtype=np.int64)
        self.row: Ints = np.full(count, -1, dtype=np.int64)
        """The piece."""
        self.portion: Ints = np.full(count, -1, dtype=np.int64)
        self.dominant: Ints = np.zeros(count, dtype=np.int64)
        self.serves: Floats = np.full(count, -np.inf)
        """The key at which a tenant serves below (for a leaf: pods of its portion)."""
        self.clear: Bools = np.zeros(count, dtype=np.bool_)
        """Whether it is so well inside its piece that this needs no proof."""
        self.coarse: list[Ints] = []
        """Where leaves are likely to stand whose pieces are several portions."""
        self.stand[0], self.serves[0] = RISES, goal.key
        self.found = self._descend()

    def _descend(self) -> bool:
        """Put everybody on a piece; False where that cannot be told here."""
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
            if not self._place(rows, (first + begun - 1)[some], owners[some], (above[some], after[some]), course.span):
                return False
        return not self.coarse

    def _place(self, rows: Course, row: Ints, owners: Ints, there: tuple[Floats, Ints], span: float) -> bool:
        """Put tenants on rows of their courses. `there`: the keys their parents serve at, and where their rows end."""
        (above, after), hair = there, HAIR * span
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
        if vague.any():
            last, ways = spot[vague], self.serves[owners[vague]] / self.leap.group_left[spot[vague]]
            self.coarse.append(self.leap.likely(last, ways, np.where(rises, above, np.nan)[vague] % span))
        return True
