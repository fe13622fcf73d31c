"""Bounds: on which nodes evictions could make room at all, and what they cost there at least.

By arrays over all running pods, so that single victims are looked at only where it may be worth it: nodes come in the
order of their bounds, and once a plan is found, those that could be no better are left out. A bound is never more than
the cheapest plan on its node costs; it may be less, since rules and budgets are not looked at.
"""

import numpy as np

from allotment_scheduler.core.objects.nodes import BoolVector, IntVector
from allotment_scheduler.core.objects.pods import LOWEST
from allotment_scheduler.core.objects.tenants import Tenant
from allotment_scheduler.core.objects.units import Gang
from allotment_scheduler.core.placement.placer import Row
from allotment_scheduler.core.state.cluster import ClusterState

Bound = tuple[int, int, int, int]
"""A node with what room on it costs at least: (last-choice pods, pods, how far up the lowest priority is, index)."""
A_NODE = 16
"""Victims that could be looked at in the time that a node takes, beside its own."""
_NOTHING = np.iinfo(np.int64).max


class NodeBounds:
    """Bounds for one claimant, whose own gang (`own`) makes no room for it."""

    def __init__(self, state: ClusterState, usable: BoolVector, own: Gang | None) -> None:
        self.state = state
        self.usable = usable
        self.own = own

    def of(self, row: Row, candidates: BoolVector, blocked: Tenant | None = None) -> list[Bound]:
        """Nodes where evictions could make room for one pod of a row, the cheapest by bound first.

        Args:
            row: whose room it is.
            candidates: rows of running pods that may be victims.
            blocked: a tenant whose limit is in the way: somebody below it must go, too.
        """
        running, size, free = self.state.running.flush(), self.state.running.size, self.state.nodes.free
        rows = np.flatnonzero(candidates & (running.node[:size] >= 0))
        where = running.node[rows].astype(np.intp)  # numpy's `at` takes ten times as long by narrower indexes
        count = free.shape[1]
        most = np.bincount(where if blocked is None else where[self.below(blocked, rows)], minlength=count)
        bound: IntVector = np.zeros(count, dtype=np.int64)
        possible = row.allowed & self.usable & (most > 0)
        held_of = self.state.interning.amounts_of(running.klass[rows])
        gangs = self._gang_nodes()
        last = running.last_choice[rows]
        some_last = bool(last.any())
        least_last: IntVector = np.zeros(count, dtype=np.int64)
        for column, asked in row.klass.room:
            held = held_of(column)
            lacking = np.maximum(asked - free[column], 0)
            largest = np.zeros(count, dtype=np.int64)
            np.maximum.at(largest, where, held)
            summed = np.zeros(count, dtype=np.int64)
            np.add.at(summed, where, held)
            possible &= (lacking <= summed) | (gangs & (lacking > 0) & (largest > 0))
            bound = np.maximum(bound, -(-lacking // np.maximum(largest, 1)))
            if some_last:
                np.add.at(summed, where[last], -held[last])
                least_last |= lacking > summed
        bound = np.where(gangs, 1, np.maximum(bound, 1))
        rank = self._lowest_ranks(rows, count)
        indexes = np.flatnonzero(possible)
        indexes = indexes[np.lexsort((rank[indexes], bound[indexes], least_last[indexes]))]
        columns = (least_last[indexes], bound[indexes], rank[indexes], indexes)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def below(self, tenant: Tenant, rows: IntVector) -> BoolVector:
        """Which of some running pods, by row, are below a tenant."""
        below = np.zeros(len(self.state.forest.by_name) + 1, dtype=np.bool_)
        below[[leaf.rank for leaf in tenant.leaves()]] = True
        found: BoolVector = below[self.state.running.leaf[rows]]
        return found

    def _lowest_ranks(self, rows: IntVector, count: int) -> IntVector:
        """By node: how many priorities lie below its lowest candidate, within the candidate's own leaf."""
        running = self.state.running
        priority = running.priority[rows]
        ranks: IntVector = np.zeros(count, dtype=np.int64)
        if not len(rows) or (priority == priority[0]).all():
            return ranks
        codes, which = np.unique((running.leaf[rows].astype(np.int64) << 33) + priority - LOWEST, return_inverse=True)
        leaf = codes >> 33
        rank = (np.arange(len(codes)) - np.searchsorted(leaf, leaf))[which]
        ranks[:] = _NOTHING
        np.minimum.at(ranks, running.node[rows], rank)
        return ranks

    def _gang_nodes(self) -> BoolVector:
        """Nodes where a gang stands, or rooms are held for it, that goes at once: their bound is one step."""
        mask = np.zeros(len(self.usable), dtype=np.bool_)
        for gang in self.state.gangs.values():
            if gang.goes_whole and gang.running + len(gang.phantoms) > 1 and gang is not self.own:
                for pod in gang.places():
                    node = self.state.nodes.by_name.get(pod.node or "")
                    if node is not None:  # it may be gone, and the pod not yet
                        mask[node.index] = True
        return mask
