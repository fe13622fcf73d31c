"""Placement: the best node for a pod, from a matrix of scores [row x node] that is updated one column at a time.

A `Row` stands for pods that may stand on the same nodes: one class, seen by the same counters, in the same pools. Its
scores are -∞ where the pod cannot start now. A start or an eviction changes the free room of one node, hence one column
of the matrix, recomputed for all rows at once; the best node of a row is an argmax. Rows whose neighbours matter
(affinity, spread, ports) are masked once more when they are asked for, from counters that are up to date anyway.

Every row remembers a *witness*: a node where one pod fits. As long as the witness stands the row is feasible; only
when it falls is another searched. Rows that lose their last node, or gain a first one, are reported (`take_changes`),
so that who is served next is always decided among what really fits.

Exactness: whether a pod fits is decided in int64; floats only rank nodes that do.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from allotment_scheduler.core.filters.nodes import node_filters
from allotment_scheduler.core.filters.topology import Neighbourhood, neighbourhood
from allotment_scheduler.core.filters.volumes import binding_filters
from allotment_scheduler.core.nodes import BoolVector, IntVector
from allotment_scheduler.core.pods import LabelSet, PodClass
from allotment_scheduler.core.resources import PODS
from allotment_scheduler.core.scores import Floats, ScoreBasis, tiers
from allotment_scheduler.core.units import RowKey

if TYPE_CHECKING:
    from allotment_scheduler.core.state import ClusterState

NEVER: Final = -np.inf
_UNASKED: Final = np.int64(-(2**62))
"""Stands for "not requested" in the request matrix: less than any free room, negative room included."""


@dataclass(slots=True, eq=False)
class Row:
    """Pods that may stand on the same nodes."""

    key: RowKey
    index: int
    klass: PodClass
    labels: LabelSet
    allowed: BoolVector
    """Nodes that pass every filter that room and neighbours do not change."""
    points: Floats
    """Static score as points, for rows with preferences about neighbours."""
    neighbours: Neighbourhood
    minds: bool = False
    """Neighbours decide where its pods may or should stand."""
    blocks: bool = False
    """Neighbours decide where its pods may stand."""
    seen_version: int = -1
    mask: BoolVector | None = None
    bonus: IntVector | None = None
    stamp: tuple[int, int, int] = (-1, -1, -1)
    """Layout, changes of room and of neighbours at which `witness` was the best node."""
    witness: int = -1


class Placer:
    """The score matrix over the state's nodes."""

    def __init__(self, state: "ClusterState") -> None:
        self.state = state
        self.rows: dict[RowKey, Row] = {}
        self.by_index: list[Row] = []
        self.layout = -1
        self.cursor = 0
        self.basis: ScoreBasis | None = None
        self.changed: set[Row] = set()
        self._allocate(0)

    def _allocate(self, capacity: int) -> None:
        count, width = len(self.state.nodes.ordered), self.state.resources.width
        shared = len(self.basis.columns) if self.basis else 0
        self.score: Floats = np.full((capacity, count), NEVER)
        self.static: Floats = np.zeros((capacity, count), order="F")  # read column by column
        self.requests = np.full((capacity, width), _UNASKED, dtype=np.int64)
        self.shapes: Floats = np.zeros((capacity, shared))
        self.steps: Floats = np.zeros(capacity)
        self.most: dict[int, int] = {}
        """The largest request of any row, by column: a node with as much room takes a pod of every row."""
        self.witness: list[int] = []
        self._witnessing: dict[int, set[int]] = {}
        self._barren: set[int] = set()
        self._allocate_buffers(capacity)

    def _allocate_buffers(self, capacity: int) -> None:
        self._flags = np.zeros((capacity, self.requests.shape[1]), dtype=np.bool_)
        self._bad = np.zeros(capacity, dtype=np.bool_)
        self._parts: Floats = np.zeros((capacity, self.shapes.shape[1]))
        self._column_buffer: Floats = np.zeros(capacity)
        self._live = self.shapes[:0], self.steps[:0], self._parts[:0], self._column_buffer[:0]
        """What a column is computed from and in, cut to the rows there are."""

    def row(self, key: RowKey) -> Row:
        """The row of a key, up to date."""
        if self.cursor != len(self.state.nodes.touched) or self.layout != self.state.nodes.layout_version:
            self.sync()
        row = self.rows.get(key)
        return row if row is not None else self._add(key)

    def best(self, row: Row, only: BoolVector | None = None) -> int:
        """Index of the best node where one more pod of the row fits now, -1 if there is none."""
        if self.cursor != len(self.state.nodes.touched):
            self.sync()
        score = self.score[row.index]
        stamp = row.stamp
        if not len(score):
            return -1
        if row.minds:
            stamp = (self.layout, self.cursor, row.neighbours.version)
            if only is None and row.stamp == stamp:
                return row.witness
            self._look_around(row)
            if row.bonus is not None:
                score = score + row.bonus
            if row.mask is not None:
                score = np.where(row.mask, score, NEVER)
        if only is not None:
            score = np.where(only, score, NEVER)
        index = int(score.argmax())
        index = index if score[index] > NEVER else -1
        if row.minds and only is None:
            row.stamp, row.witness = stamp, index
        return index

    def feasible(self, row: Row) -> bool:
        """Whether one pod of the row fits somewhere now."""
        if self.cursor != len(self.state.nodes.touched):
            self.sync()
        if row.blocks:
            return self.best(row) >= 0
        return self.witness[row.index] >= 0

    def slots(self, row: Row) -> int:
        """How many pods of a row fit at once, for rows without neighbours in mind."""
        self.sync()
        return int(self.slots_by_node(row).sum())

    def slots_by_node(self, row: Row, free: np.ndarray[tuple[int, int], np.dtype[np.int64]] | None = None) -> IntVector:
        """How many pods of a row fit on each node."""
        room = self.state.nodes.free if free is None else free
        count: IntVector = np.where(row.allowed, np.int64(2**31), 0)
        for column, amount in row.klass.room:
            count = np.minimum(count, room[column] // amount)
        return np.maximum(count, 0)

    def take_changes(self) -> set[Row]:
        """Rows that lost their last node or gained a first one since the last call."""
        self.sync()
        changed = self.changed
        if changed:
            self.changed = set()
        return changed

    def sync(self) -> None:
        """Bring the matrix up to date with the nodes."""
        nodes = self.state.nodes
        if self.layout != nodes.layout_version:
            self._rebuild()
        touched = nodes.touched
        end = len(touched)
        if self.cursor == end:
            return
        if end - self.cursor == 1:
            self._column(touched[self.cursor])
        else:
            for index in dict.fromkeys(touched[self.cursor : end]):
                self._column(index)
        self.cursor = end

    def forget(self, keep: Iterable[RowKey]) -> None:
        """Drop every row but those to keep: called when there are many more rows than shapes that wait."""
        wanted = [self.rows[key] for key in keep if key in self.rows]
        self.rows, self.by_index = {}, []
        self._allocate(max(8, len(wanted)))
        for row in wanted:
            self._add(row.key)

    def static_mask(self, klass: PodClass, pools: tuple[str, ...]) -> BoolVector:
        """Nodes that pass every filter that neither room nor neighbours change."""
        nodes = self.state.nodes
        allowed = self.in_pools(pools)
        for _, passing in node_filters(klass.spec, nodes):
            allowed = allowed & passing
        for _, passing in binding_filters(klass, self.state.attachments, nodes):
            allowed = allowed & passing
        if klass.spec.devices:
            allowed = allowed & self.state.counters.devices.possible(klass)
        return allowed

    def in_pools(self, pools: tuple[str, ...]) -> BoolVector:
        """Nodes of some pools."""
        nodes = self.state.nodes
        good = np.array([name in pools for name in nodes.pool_names], dtype=np.bool_)
        inside: BoolVector = good[nodes.pool_index] if len(nodes.ordered) else np.zeros(0, dtype=np.bool_)
        return inside

    def _rebuild(self) -> None:
        nodes = self.state.nodes
        self.layout = nodes.layout_version
        self.cursor = len(nodes.touched)
        self.basis = ScoreBasis.of(nodes, self.state.measure)
        # Queues may have been formed anew since: rows that nobody waits in stand for no labels any more.
        keys = [key for key in self.rows if self.state.lineup.is_represented(key[0], key[1])]
        self.rows, self.by_index = {}, []
        self._allocate(max(8, len(keys)))
        for key in keys:
            self._add(key)
        self.changed.update(self.rows.values())

    def _add(self, key: RowKey) -> Row:
        state, basis = self.state, self.basis
        assert basis is not None, "sync() lays out first"  # noqa: S101 - for the type checker
        klass_id, seen, pools = key
        klass, labels = state.classes[klass_id], state.lineup.labels_seen_by(klass_id, seen)
        allowed = self.static_mask(klass, pools)
        points = basis.static(klass, allowed, state.nodes, state.measure)
        around = neighbourhood(klass, labels, state.counters, state.nodes)
        row = Row(key, len(self.by_index), klass, labels, allowed, points, around)
        row.blocks = bool(around)
        row.minds = row.blocks or bool(around.preferences or around.soft_spread)
        if row.index == len(self.score):
            self._grow()
        self.rows[key] = row
        self.by_index.append(row)
        for column, amount in klass.room:
            self.requests[row.index, column] = amount
            self.most[column] = max(self.most.get(column, 0), amount)
        self.shapes[row.index] = basis.request_shape(klass.amounts)
        self.steps[row.index] = basis.steps(klass.asks)
        ranked = points if around.preferences or around.soft_spread else tiers(points)
        self.static[row.index] = np.where(allowed, ranked, NEVER)
        self._fill(row)
        return row

    def _fill(self, row: Row) -> None:
        basis, free = self.basis, self.state.nodes.free
        assert basis is not None, "sync() lays out first"  # noqa: S101 - for the type checker
        room = basis.room(self.shapes[row.index], self.steps[row.index], free[basis.columns])
        fits = self.fits(row)
        self.score[row.index] = np.where(fits, self.static[row.index] + room, NEVER)
        self.witness.append(-1)
        self._barren.add(row.index)
        self._search_witness(row.index)
        self.changed.discard(row)

    def fits(self, row: Row) -> BoolVector:
        """Nodes with room for one pod of the row, whatever the filters say."""
        free = self.state.nodes.free
        fits = np.ones(free.shape[1], dtype=np.bool_)
        for column, amount in row.klass.room:
            fits &= free[column] >= amount
        return fits

    def _column(self, index: int) -> None:
        """One node's room changed: its scores for every row. The arithmetic is that of `ScoreBasis.room`."""
        count = len(self.by_index)
        basis = self.basis
        if not count or basis is None:
            return
        free = self.state.nodes.free[:, index]
        room = free.tolist()
        left, shape = basis.profile(room)
        if len(self._live[0]) != count:
            self._live = self.shapes[:count], self.steps[:count], self._parts[:count], self._column_buffer[:count]
        shapes, steps, parts, score = self._live
        np.abs(np.subtract(shapes, shape, out=parts), out=parts)
        np.add.reduce(parts, axis=1, out=score)
        np.floor(np.multiply(score, steps, out=score), out=score)
        np.subtract(basis.directions[index] * left, score, out=score)
        np.add(score, self.static[:count, index], out=score)
        if not self._takes_all(room):
            bad = self._bad[:count]
            np.logical_and.reduce(np.less_equal(self.requests[:count], free, out=self._flags[:count]), axis=1, out=bad)
            np.logical_not(bad, out=bad)
            score[bad] = NEVER
        self.score[:count, index] = score
        for position in self._witnessing.get(index, ()) and list(self._witnessing[index]):
            if score[position] == NEVER:
                self._search_witness(position)
        if self._barren:
            for position in [position for position in self._barren if score[position] > NEVER]:
                self._set_witness(position, index)
                self.changed.add(self.by_index[position])

    def _takes_all(self, room: list[int]) -> bool:
        """Whether a node with this room takes one pod of every row, as far as room goes."""
        for column, amount in self.most.items():  # noqa: SIM110 - a generator would cost twice the time, once per start
            if room[column] < amount:
                return False
        return True

    def _set_witness(self, position: int, index: int) -> None:
        """Remember a node where one pod of a row fits, -1 for none."""
        before = self.witness[position]
        if before >= 0:
            self._witnessing[before].discard(position)
        else:
            self._barren.discard(position)
        self.witness[position] = index
        if index >= 0:
            self._witnessing.setdefault(index, set()).add(position)
        else:
            self._barren.add(position)

    def _search_witness(self, position: int) -> None:
        scores = self.score[position]
        best = int(scores.argmax()) if len(scores) else -1
        if best >= 0 and scores[best] > NEVER:
            self._set_witness(position, best)
        else:
            self._set_witness(position, -1)
            self.changed.add(self.by_index[position])

    def _look_around(self, row: Row) -> None:
        version = row.neighbours.version
        if row.seen_version == version:
            return
        row.seen_version = version
        row.mask = row.neighbours.mask()
        row.bonus = row.neighbours.score(row.allowed if row.mask is None else row.allowed & row.mask)

    def _grow(self) -> None:
        more = max(8, len(self.score))
        count = self.score.shape[1]
        self.score = np.vstack([self.score, np.full((more, count), NEVER)])
        self.static = np.asfortranarray(np.vstack([self.static, np.zeros((more, count))]))
        self.requests = np.vstack([self.requests, np.full((more, self.requests.shape[1]), _UNASKED, dtype=np.int64)])
        self.shapes = np.vstack([self.shapes, np.zeros((more, self.shapes.shape[1]))])
        self.steps = np.concatenate([self.steps, np.zeros(more)])
        self._allocate_buffers(len(self.score))


def never_fits(row: Row, allocatable: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> bool:
    """Whether no allowed node could take the pod even when empty."""
    mask = row.allowed.copy()
    for column, amount in row.klass.room:
        if column != PODS:
            mask &= allocatable[column] >= amount
    return not mask.any()
