"""Hysteresis: how far below its entitlement a side may fall by R2, so that nobody swings to and fro.

By its own smallest unit, a pod or a gang that would go as a whole with the rooms that are held for it, as things stand
before the plan.
"""

import numpy as np

from allotment_scheduler.core.objects.nodes import IntVector
from allotment_scheduler.core.objects.resources import Column
from allotment_scheduler.core.objects.tenants import Tenant
from allotment_scheduler.core.state.cluster import ClusterState

_NOTHING = np.iinfo(np.int64).max


class SmallestUnits:
    """What the smallest unit of every leaf holds, counted when it is first asked."""

    def __init__(self, state: ClusterState) -> None:
        self.state = state
        self._by_leaf: dict[Column, IntVector] = {}

    def of(self, tenant: Tenant, column: Column) -> int:
        """What the smallest unit below a tenant holds of a resource; 0 if none holds any."""
        if column not in self._by_leaf:
            self._by_leaf[column] = self._count(column)
        found = min((int(self._by_leaf[column][leaf.rank]) for leaf in tenant.leaves()), default=_NOTHING)
        return 0 if found == _NOTHING else found

    def _count(self, column: Column) -> IntVector:
        """By rank of the leaf."""
        running, size = self.state.running.flush(), self.state.running.size
        single = running.used[:size] & (running.leaf[:size] >= 0) & ~running.deleting[:size]
        smallest = np.full(len(self.state.forest.by_name) + 1, _NOTHING, dtype=np.int64)
        for gang in self.state.gangs.values():
            if gang.goes_whole and gang.running + len(gang.phantoms) > 1:
                places = gang.places()
                single[[pod.slot for pod in places]] = False
                held = sum(dict(pod.klass.amounts).get(column, 0) for pod in places)
                if held and (leaf := places[0].leaf) is not None:
                    smallest[leaf.rank] = min(int(smallest[leaf.rank]), held)
        rows = np.flatnonzero(single)
        held_by_row = self.state.interning.amounts_of(running.klass[rows])(column)
        np.minimum.at(smallest, running.leaf[rows[held_by_row > 0]], held_by_row[held_by_row > 0])
        return smallest
