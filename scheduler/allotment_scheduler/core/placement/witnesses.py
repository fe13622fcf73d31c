"""Witnesses: for every row of placement one node where one of its pods fits now, or the knowledge that there is none.

As long as a row's witness stands the row is feasible; only when it falls is another searched. So a start costs a look
at the rows that stand on one node, mostly none, however many classes of pods wait. Rows without a witness are *barren*:
they are looked at together, and only when room was given back somewhere. Rows look for their witnesses from different
nodes on, so that few fall at once.

Rows that lose their last node, or gain a first one, are noted in `changed`: who is served next is always decided among
what really fits. Neighbours are none of its business: it judges room and what is allowed.
"""

from typing import TYPE_CHECKING, Final

import numpy as np

from allotment_scheduler.core.objects.nodes import BoolVector, Nodes
from allotment_scheduler.core.placement.score_matrix import UNASKED

if TYPE_CHECKING:
    from allotment_scheduler.core.placement.placer import Row

_STRIDE: Final = 7919
"""A prime: successive rows begin their search that far apart."""


class Witnesses:
    """The witnesses of all rows over one layout of the nodes. A row's position in `rows` is its `index`."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self.rows: list[Row] = []
        self.at: list[int] = []
        """The witness of each row, -1 for none."""
        self.changed: set[Row] = set()
        self._standing: dict[int, set[int]] = {}
        """By node: the rows it is witness for."""
        self._barren: set[int] = set()
        self._most: dict[int, int] = {}
        """The largest request of any row, by column: a node with as much room takes a pod of every row."""
        self._requests = np.full((8, nodes.free.shape[0]), UNASKED, dtype=np.int64)
        self._cursor = len(nodes.touched)
        self._released = nodes.released

    def add(self, row: "Row") -> None:
        """Search a first witness for a new row."""
        self.catch_up()
        position = len(self.rows)
        if position == len(self._requests):
            self._requests = np.vstack([self._requests, np.full_like(self._requests, UNASKED)])
        for column, amount in row.klass.room:
            self._requests[position, column] = amount
            self._most[column] = max(self._most.get(column, 0), amount)
        self.rows.append(row)
        self.at.append(-1)
        self._barren.add(position)
        self._stand(position, self._search(position))

    def refit(self, row: "Row") -> None:
        """A row is allowed on other nodes than before: who waits for it is asked anew in any case."""
        self.catch_up()
        self._stand(row.index, self._search(row.index))
        self.changed.add(row)

    def catch_up(self) -> None:
        """Take in every change of room since the last time."""
        touched = self.nodes.touched
        end = len(touched)
        if self._cursor == end:
            return
        if end - self._cursor == 1:
            self._fall(touched[self._cursor])
            since = touched[self._cursor :] if self._released != self.nodes.released else []
        else:
            since = list(dict.fromkeys(touched[self._cursor :]))
            for index in since:
                self._fall(index)
        self._cursor = end
        if self._released != self.nodes.released:
            self._released = self.nodes.released
            for index in since if self._barren else ():
                self._gain(index)

    def _fall(self, index: int) -> None:
        """Search anew for the rows that no longer fit on a node."""
        standing = self._standing.get(index)
        if not standing:
            return
        room = self.nodes.free[:, index].tolist()
        if all(room[column] >= amount for column, amount in self._most.items()):
            return
        for position in sorted(standing):
            if any(room[column] < amount for column, amount in self.rows[position].klass.room):
                self._stand(position, self._search(position))
                if self.at[position] < 0:
                    self.changed.add(self.rows[position])

    def _gain(self, index: int) -> None:
        """Barren rows that fit on a node with new room."""
        positions = np.array(sorted(self._barren), dtype=np.intp)
        fits = (self._requests[positions] <= self.nodes.free[:, index]).all(axis=1)
        for position in positions[fits].tolist():
            row = self.rows[position]
            if row.allowed[index]:
                self._stand(position, index)
                self.changed.add(row)

    def _stand(self, position: int, index: int) -> None:
        """Remember a node where one pod of a row fits, -1 for none."""
        before = self.at[position]
        if before >= 0:
            self._standing[before].discard(position)
        else:
            self._barren.discard(position)
        self.at[position] = index
        if index >= 0:
            self._standing.setdefault(index, set()).add(position)
        else:
            self._barren.add(position)

    def _search(self, position: int) -> int:
        row, free = self.rows[position], self.nodes.free
        fits: BoolVector = row.allowed
        for column, amount in row.klass.room:
            fits = fits & (free[column] >= amount)
        count = len(fits)
        if not count:
            return -1
        begin = position * _STRIDE % count
        index = begin + int(fits[begin:].argmax())
        if not fits[index]:
            index = int(fits.argmax())
        return index if fits[index] else -1
