"""The score matrix: for the rows that are asked for, the score of every node, kept up to date column by column.

A start or an eviction changes the free room of one node, hence one column, recomputed for all rows at once. Nodes of
one kind with the same room look alike to every row: their column is remembered by both, and mostly found again, as
nodes fill up with the same few sizes of pods.

Only rows in use are kept: a row enters when it is first asked for and leaves when it was not for a few thousand
changes, which is about when computing its columns has cost as much as computing it whole. So a start costs by the
classes that are served, not by those that wait.

Exactness: whether a pod fits is decided in int64; floats only rank nodes that do. A row computed whole and a row
computed column by column are equal to the last bit (`ScoreBasis.room`, `ScoreBasis.rooms`), so when a row enters never
alters a decision.
"""

from typing import TYPE_CHECKING, Final

import numpy as np

from allotment_scheduler.core.objects.nodes import IntMatrix, Nodes
from allotment_scheduler.core.placement.scores import Floats, ScoreBasis

if TYPE_CHECKING:
    from allotment_scheduler.core.placement.placer import Row

NEVER: Final = -np.inf
UNASKED: Final = np.int64(-(2**62))
"""Stands for "not requested" in a matrix of requests: less than any free room, negative room included."""
_IDLE_CHANGES: Final = 4096
"""After so many columns, rows that nobody asked for in the meantime leave."""
_KNOWN_FLOATS: Final = 2**20
"""So many numbers are remembered by room."""
_FULL_COLUMNS: Final = 16
"""Computing a row whole costs about as much as so many columns."""


class ScoreMatrix:
    """Scores [row x node] over one layout of the nodes. A row's position is its `place`, -1 while it is not in it."""

    def __init__(self, nodes: Nodes, basis: ScoreBasis) -> None:
        self.nodes = nodes
        self.basis = basis
        self._names = nodes.resources.names
        self.cursor = len(nodes.touched)
        """How much of the nodes' log of changes is in the scores."""
        self._rows: list[Row] = []
        self._columns = 0
        count = len(nodes.ordered)
        self._score: Floats = np.full((8, count), NEVER)
        self._static: Floats = np.zeros((8, count), order="F")  # read column by column
        self._shapes: Floats = np.zeros((len(basis.columns), 8))
        self._steps: Floats = np.zeros(8)
        self._requests: IntMatrix = np.full((nodes.free.shape[0], 8), UNASKED, dtype=np.int64)
        self._most: dict[int, int] = {}
        """The largest request of any row in the matrix, by column."""
        self._known: dict[tuple[int, bytes], Floats] = {}
        """Columns, by the node's kind and its room."""
        self._statics: set[bytes] = set()
        self._kinds: list[int] = []
        """By node: alike are those that pack or spread alike, and have the same static scores in every row."""
        self._tell_apart(basis.direction)
        self._cut()

    def scores(self, row: "Row") -> Floats:
        """The scores of one row over all nodes, up to date; not to be changed, nor kept."""
        if self.cursor != len(self.nodes.touched):
            self._catch_up()
        if row.place < 0:
            self._enter(row)
        row.asked = True
        score: Floats = self._score[row.place]
        return score

    def refit(self, row: "Row") -> None:
        """The static scores of a row are others."""
        if row.place >= 0:
            self._static[row.place] = row.static
            self._tell_apart(row.static)
            self._known.clear()
            self._fill(row)

    def _catch_up(self) -> None:
        touched = self.nodes.touched
        begin, self.cursor = self.cursor, len(touched)
        if self._rows and self.cursor - begin == 1:
            self._column(touched[begin])
        elif self._rows:
            since = dict.fromkeys(touched[begin:])
            if len(since) > _FULL_COLUMNS * len(self._rows):
                for row in self._rows:
                    self._fill(row)
            else:
                for index in since:
                    self._column(index)
        if self._columns >= _IDLE_CHANGES:
            self._drop_idle()

    def _column(self, index: int) -> None:
        """One node's room changed: its scores for every row."""
        self._columns += 1
        key = (self._kinds[index], self.nodes.free[: len(self._names), index].tobytes())
        column = self._known.get(key)
        if column is None:
            column = self._worth(index) + self._live_static[:, index]
            if (len(self._known) + 1) * len(column) > _KNOWN_FLOATS:
                self._known.clear()
            self._known[key] = column
        self._live_score[:, index] = column

    def _worth(self, index: int) -> Floats:
        """What one node's room is worth to every row, wherever the row may stand."""
        count = len(self._rows)
        room = self.nodes.free[:, index].tolist()
        worth = self.basis.rooms(self._shapes[:, :count], self._steps[:count], room, self.basis.directions[index])
        for column, most in self._most.items():
            if room[column] < most:
                worth[self._requests[column, :count] > room[column]] = NEVER
        return worth

    def _enter(self, row: "Row") -> None:
        if len(self._rows) == len(self._score):
            self._grow()
        place = row.place = len(self._rows)
        self._rows.append(row)
        self._requests[:, place] = UNASKED
        for column, amount in row.klass.room:
            self._requests[column, place] = amount
            self._most[column] = max(self._most.get(column, 0), amount)
        self._shapes[:, place] = self.basis.request_shape(row.klass.amounts)
        self._steps[place] = self.basis.steps(row.klass.asks)
        self._static[place] = row.static
        self._tell_apart(row.static)
        self._fill(row)
        self._cut()

    def _tell_apart(self, static: Floats) -> None:
        """Nodes of one kind have the same of these scores, too, from now on."""
        scores = static.tobytes()
        if scores not in self._statics:
            self._statics.add(scores)
            _, rank = np.unique(static, return_inverse=True)
            before = np.array(self._kinds, dtype=np.int64) if self._kinds else np.zeros(len(static), dtype=np.int64)
            _, kind = np.unique(before * (len(static) + 1) + rank.reshape(-1), return_inverse=True)
            self._kinds = kind.reshape(-1).tolist()
            self._known.clear()

    def _fill(self, row: "Row") -> None:
        free, place = self.nodes.free, row.place
        worth = self.basis.room(self._shapes[:, place], float(self._steps[place]), free)
        for column, amount in row.klass.room:
            worth[free[column] < amount] = NEVER
        np.add(worth, row.static, self._score[place])

    def _cut(self) -> None:
        """The number of rows has changed: what is computed from and in, cut to the rows there are."""
        count = len(self._rows)
        self._live_score, self._live_static = self._score[:count], self._static[:count]
        self._known.clear()

    def _drop_idle(self) -> None:
        self._columns = 0
        used = [row for row in self._rows if row.asked]
        if len(used) < len(self._rows):
            places = [row.place for row in used]
            for row in self._rows:
                row.place = -1
            count = len(used)
            for matrix in (self._score, self._static, self._steps):
                matrix[:count] = matrix[places]
            self._shapes[:, :count] = self._shapes[:, places]
            self._requests[:, :count] = self._requests[:, places]
            self._most.clear()
            for place, row in enumerate(used):
                row.place = place
                for column, amount in row.klass.room:
                    self._most[column] = max(self._most.get(column, 0), amount)
            self._rows = used
            self._statics.clear()
            self._kinds.clear()
            for static in (self.basis.direction, *(row.static for row in used)):
                self._tell_apart(static)
            self._cut()
        for row in used:
            row.asked = False

    def _grow(self) -> None:
        count = len(self._score)
        self._score = np.vstack([self._score, np.full_like(self._score, NEVER)])
        self._static = np.asfortranarray(np.vstack([self._static, np.zeros_like(self._static)]))
        self._shapes = np.hstack([self._shapes, np.zeros((len(self._shapes), count))])
        self._steps = np.concatenate([self._steps, np.zeros(count)])
        self._requests = np.hstack([self._requests, np.zeros_like(self._requests)])
