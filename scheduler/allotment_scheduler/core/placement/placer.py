"""Placement: the best node for a pod.

A `Row` stands for pods that may stand on the same nodes: one class, seen by the same counters, in the same pools. What
room is worth to it, node by node, is kept in the `ScoreMatrix`, -∞ where its pod cannot start now; the best node is an
argmax. Whether it can start anywhere is known by its witness (`Witnesses`), without any score. Rows whose neighbours
matter (affinity, spread, ports) are masked once more when they are asked for, from counters that are up to date anyway.

Both follow the nodes' log of changes, each when it is asked: a start only writes into the log.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from allotment_scheduler.core.filters.nodes import node_filters
from allotment_scheduler.core.filters.topology import Neighbourhood, neighbourhood
from allotment_scheduler.core.filters.volumes import binding_filters
from allotment_scheduler.core.objects.nodes import BoolVector, IntVector
from allotment_scheduler.core.objects.pods import ClassId, LabelSet, PodClass
from allotment_scheduler.core.objects.resources import PODS
from allotment_scheduler.core.objects.units import RowKey
from allotment_scheduler.core.placement.score_matrix import NEVER, ScoreMatrix
from allotment_scheduler.core.placement.scores import HOME, TIER, Floats, ScoreBasis, tiers
from allotment_scheduler.core.placement.witnesses import Witnesses

if TYPE_CHECKING:
    from allotment_scheduler.core.state.cluster import ClusterState


NO_STAMP: Final = (-1, -1, -1)
_RECOUNT: Final = 64
"""Slots are counted anew on single nodes up to so many changes, beyond it on all of them at once."""


@dataclass(slots=True, eq=False)
class Row:
    """Pods that may stand on the same nodes."""

    key: RowKey
    index: int
    """Its position among all rows."""
    klass: PodClass
    labels: LabelSet
    allowed: BoolVector = field(init=False)
    """Nodes that pass every filter that room and neighbours do not change."""
    static: Floats = field(init=False)
    """The part of its scores that room does not change: in tiers, or with wishes about neighbours a tier a point."""
    neighbours: Neighbourhood = field(init=False)
    minds: bool = False
    """Neighbours decide where its pods may or should stand."""
    blocks: bool = False
    """Neighbours decide where its pods may stand."""
    seen_version: int = -1
    mask: BoolVector | None = None
    bonus: Floats | None = None
    stamp: tuple[int, int, int] = NO_STAMP
    """Layout, changes of room and of neighbours at which `choice` was the best node."""
    choice: int = -1
    place: int = -1
    """Its position in the score matrix, -1 while it is not in it."""
    asked: bool = False
    """Somebody asked for its scores lately."""
    by_node: IntVector | None = None
    """How many of its pods fit on each node, as of `counted_at` in the nodes' log of changes, and in all."""
    total: int = 0
    counted_at: int = 0


class Placer:
    """All rows over the state's nodes, and where their pods fit best."""

    def __init__(self, state: "ClusterState") -> None:
        self.state = state
        self.rows: dict[RowKey, Row] = {}
        self.layout = -1
        self._refitted = 0
        self._start_over(ScoreBasis.of(state.nodes, state.measure))

    def _start_over(self, basis: ScoreBasis) -> None:
        self.rows = {}
        self.basis = basis
        self.matrix = ScoreMatrix(self.state.nodes, basis)
        self.witnesses = Witnesses(self.state.nodes)

    def row(self, key: RowKey) -> Row:
        """The row of a key, in the present layout."""
        state = self.state
        if self.layout != state.nodes.layout_version or (state.refitted and self._refitted < len(state.refitted)):
            self.sync()
        row = self.rows.get(key)
        return row if row is not None else self._add(key)

    def best(self, row: Row, only: BoolVector | None = None) -> int:
        """Index of the best node where one more pod of the row fits now, -1 if there is none."""
        score = self.matrix.scores(row)
        if not len(score):
            return -1
        stamp = None
        if row.minds:
            stamp = (self.layout, self.matrix.cursor, row.neighbours.version)
            if only is None and row.stamp == stamp:
                return row.choice
            score = self._among_neighbours(row, score, stamp[2])
        if only is not None:
            score = np.where(only, score, NEVER)
        index = int(score.argmax())
        index = index if score[index] > NEVER else -1
        if stamp is not None and only is None:
            row.stamp, row.choice = stamp, index
        return index

    def feasible(self, row: Row) -> bool:
        """Whether one pod of the row fits somewhere now."""
        if row.blocks:
            return self.best(row) >= 0
        self.witnesses.catch_up()
        return self.witnesses.at[row.index] >= 0

    def slots(self, row: Row) -> int:
        """How many pods of a row fit at once, for rows without neighbours in mind."""
        self.sync()
        nodes = self.state.nodes
        since = nodes.touched[row.counted_at :]
        row.counted_at = len(nodes.touched)
        if row.by_node is None or len(since) > _RECOUNT:
            row.by_node = self.slots_by_node(row)
            row.total = int(row.by_node.sum())
            return row.total
        for index in dict.fromkeys(since):
            if row.allowed[index]:
                now = max(0, min(int(nodes.free[c, index]) // amount for c, amount in row.klass.room))
                row.total += now - int(row.by_node[index])
                row.by_node[index] = now
        return row.total

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
        self.witnesses.catch_up()
        changed = self.witnesses.changed
        if changed:
            self.witnesses.changed = set()
        return changed

    def sync(self) -> None:
        """Lay out the rows anew if the nodes were, or those whose volumes have changed."""
        nodes, refitted = self.state.nodes, self.state.refitted
        if self.layout == nodes.layout_version:
            if refitted and self._refitted < len(refitted):
                since, self._refitted = self._refitted, len(refitted)
                self._refit(set(refitted[since:]))
            return
        self.layout, self._refitted = nodes.layout_version, len(refitted)
        # Queues may have been formed anew since: rows that nobody waits in stand for no labels any more.
        keys = [key for key in self.rows if self.state.lineup.is_represented(key[0], key[1])]
        self._start_over(ScoreBasis.of(nodes, self.state.measure))
        for key in keys:
            self._add(key)
        self.witnesses.changed.update(self.rows.values())

    def _refit(self, classes: set[ClassId]) -> None:
        """Find anew where the pods of some classes may stand."""
        for row in self.rows.values():
            if row.klass.id in classes:
                self._fit(row)
                self.matrix.refit(row)
                self.witnesses.refit(row)

    def forget(self, keep: Iterable[RowKey]) -> None:
        """Drop every row but those to keep: called when there are many more rows than shapes that wait."""
        self.sync()
        wanted = [key for key in keep if key in self.rows]
        changed = self.witnesses.changed
        self._start_over(self.basis)
        for key in wanted:
            self._add(key)
        self.witnesses.changed |= changed

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

    def _add(self, key: RowKey) -> Row:
        row = Row(key, len(self.rows), *self.state.lineup.represented(key[0], key[1]))
        self._fit(row)
        self.rows[key] = row
        self.witnesses.add(row)
        return row

    def _fit(self, row: Row) -> None:
        """Find where pods of a row may stand, and what it is worth, whatever was known of it before."""
        state, basis, klass = self.state, self.basis, row.klass
        _, seen, pools = row.key
        allowed, home = self.static_mask(klass, pools), state.lineup.home(seen)
        inside = home.nodes(state.nodes) if home is not None else None
        if home is not None and inside is not None and home.required:
            allowed = allowed & inside
        points = basis.static(klass, allowed, state.nodes, state.measure)
        if inside is not None:
            points += HOME * inside
        around = neighbourhood(klass, row.labels, state.counters, state.nodes, open_to=self._open_to(klass))
        wishes = bool(around.preferences or around.soft_spread)
        row.static = np.where(allowed, points * TIER if wishes else tiers(points), NEVER)
        row.allowed, row.neighbours, row.blocks = allowed, around, bool(around)
        row.minds = row.blocks or wishes
        row.seen_version, row.mask, row.bonus, row.stamp = -1, None, None, NO_STAMP
        row.by_node = None

    def _open_to(self, klass: PodClass) -> BoolVector | None:
        """Nodes of all pools that the tenant of a class's namespace may use; None where no pod of it asks."""
        leaf = self.state.forest.leaf_of_namespace.get(klass.namespace)
        if leaf is None or not klass.spec.spread:
            return None
        return self.in_pools(self.state.lineup.pools_of(leaf))

    def fits(self, row: Row) -> BoolVector:
        """Nodes with room for one pod of the row, whatever the filters say."""
        free = self.state.nodes.free
        fits = np.ones(free.shape[1], dtype=np.bool_)
        for column, amount in row.klass.room:
            fits &= free[column] >= amount
        return fits

    def _among_neighbours(self, row: Row, score: Floats, version: int) -> Floats:
        """The scores of a row that minds its neighbours; `version` is theirs."""
        if row.seen_version != version:
            row.seen_version = version
            row.mask = row.neighbours.mask()
            bonus = row.neighbours.score(row.allowed if row.mask is None else row.allowed & row.mask)
            row.bonus = None if bonus is None else bonus.astype(np.float64) * TIER
        if row.bonus is not None:
            score = score + row.bonus
        return score if row.mask is None else np.where(row.mask, score, NEVER)


def never_fits(row: Row, allocatable: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> bool:
    """Whether no allowed node could take the pod even when empty."""
    mask = row.allowed.copy()
    for column, amount in row.klass.room:
        if column != PODS:
            mask &= allocatable[column] >= amount
    return not mask.any()
