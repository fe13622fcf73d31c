"""Pins: demand that only some nodes of its pools would take, and how far these nodes reach.

A class of pods is pinned, for a leaf, if its filters or its size leave out nodes of a pool where it may run: by a
zone, a host name, a volume, devices, or by asking for more than most nodes have. What a leaf asks for of such classes,
in the order in which it is poured, counts up to what their nodes have in all. Leaves are looked at one by one: if
several are pinned to the same nodes, each counts up to all of these. A zone with a pool of its own is divided exactly.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from allotment_scheduler.core.entitlement.portions import distinct
from allotment_scheduler.core.objects.nodes import BoolVector, IntVector
from allotment_scheduler.core.objects.resources import PODS, Amounts
from allotment_scheduler.core.placement.placer import Placer
from allotment_scheduler.core.state.cluster import ClusterState

Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class Pins:
    """Who is pinned where, for one layout of the nodes."""

    state: ClusterState
    placer: Placer
    _layout: int = -1
    _refitted: int = 0
    _takes: dict[int, BoolVector | None] = field(default_factory=dict)
    """By class: the nodes that would take one of its pods if they were empty; None where that is all of them."""
    _reach: dict[bytes, IntVector] = field(default_factory=dict)
    """What some nodes have together, by resource."""

    def within_reach(self, order: Ints, leaf: Ints, klass: Ints) -> Ints:
        """Which pods count, of those given in order, leaf by leaf; each one's leaf and class stand at its place."""
        pinned = [number for number in distinct(klass)[0].tolist() if self._where(number) is not None]
        if not pinned:
            return order
        leaf, klass, kept = leaf[order], klass[order], np.ones(len(order), dtype=np.bool_)
        left: dict[tuple[int, bytes], IntVector] = {}
        spots: dict[tuple[int, int], bytes] = {}
        tenants, classes = self.state.forest.tenants, self.state.classes
        for row in np.flatnonzero(np.isin(klass, pinned)).tolist():
            owner, number = int(leaf[row]), int(klass[row])
            spot = spots.get((owner, number))
            if spot is None:
                pools = self.state.lineup.pools_of(tenants[owner])
                spot = spots[owner, number] = self._spot(number, pools)
            if spot:
                reach = left.setdefault((owner, spot), self._reach[spot].copy())
                kept[row] = _take(reach, classes[number].asks)
        return order[kept]

    def takers(self, number: int) -> BoolVector:
        """The nodes that would take a pod of a class if they were empty, whatever the tenant."""
        takes = self._where(number)
        return self.state.nodes.usable_mask() if takes is None else takes

    def _where(self, number: int) -> BoolVector | None:
        """The nodes that would take a pod of a class, whatever the tenant; None for all."""
        self._follow()
        if number not in self._takes:
            klass, nodes = self.state.classes[number], self.state.nodes
            usable = nodes.usable_mask()
            takes = self.placer.static_mask(klass, tuple(nodes.pool_names)) & usable
            for column, amount in klass.room:
                if column != PODS:
                    takes &= nodes.allocatable[column] >= amount
            self._takes[number] = None if np.array_equal(takes, usable) else takes
        return self._takes[number]

    def _follow(self) -> None:
        """Forget what the nodes' layout, or a change of classes' volumes, has made untrue."""
        state = self.state
        if self._layout != state.nodes.layout_version:
            self._layout, self._refitted = state.nodes.layout_version, 0
            self._takes.clear()
            self._reach.clear()
        if self._refitted != len(state.refitted):
            for klass_id in state.refitted[self._refitted :]:
                self._takes.pop(klass_id, None)
            self._refitted = len(state.refitted)

    def _spot(self, number: int, pools: tuple[str, ...]) -> bytes:
        """The nodes that a class is pinned to in some pools, as a key of `_reach`; empty where it is not."""
        takes = self._where(number)
        if takes is None:
            return b""
        nodes = self.state.nodes
        takes = takes & self.placer.in_pools(pools)
        usable = nodes.usable_mask()
        if np.array_equal(usable & np.isin(nodes.pool_index, nodes.pool_index[takes]), takes):
            return b""
        spot = takes.tobytes()
        if spot not in self._reach:
            self._reach[spot] = nodes.allocatable[:, takes].sum(axis=1)
        return spot


def _take(left: IntVector, asks: Amounts) -> bool:
    """Take a request off what is left; False, and nothing taken, once something of it is used up."""
    if any(left[column] <= 0 for column, _ in asks):
        return False
    for column, amount in asks:
        left[column] -= amount
    return True
