"""Nodes on which a search has found no plan: neither they nor those like them are looked at once more.

On a large cluster a right that is too small for the claimant ends the search on every node in the same way, and most
nodes are alike. What decides on one node is its free room, its pool and the kinds of pods that may go; where their
neighbours, gangs or disruption budgets decide, too, a node is like no other.
"""

from collections import Counter
from collections.abc import Iterable

from allotment_scheduler.core.eviction.budgets import Budgets
from allotment_scheduler.core.objects.nodes import Node
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.objects.units import RowKey
from allotment_scheduler.core.placement.placer import Row
from allotment_scheduler.core.state.cluster import ClusterState

Looked = set[tuple[RowKey, str]]
"""Nodes, by name, on which there was no plan for a row: what a search remembers from cycle to cycle."""


class Fruitless:
    """What one search knows to be fruitless, for the state and the steps it began with."""

    def __init__(self, state: ClusterState, budgets: Budgets, looked: Looked | None) -> None:
        self.state = state
        self.budgets = budgets
        self.looked = looked
        self._likes: set[object] = set()

    def looked_at(self, row: Row, node: Node) -> bool:
        """Whether there was no plan for a row on this very node."""
        return self.looked is not None and (row.key, node.spec.name) in self.looked

    def knows(self, row: Row, node: Node, pods: Iterable[Pod]) -> bool:
        """Whether there was none on a node like this one, where `pods` may go."""
        known = bool(self._likes) and self._like(row, node, pods) in self._likes
        if known and self.looked is not None:
            self.looked.add((row.key, node.spec.name))
        return known

    def add(self, row: Row, node: Node, pods: Iterable[Pod]) -> None:
        """There is none."""
        if self.looked is not None:
            self.looked.add((row.key, node.spec.name))
        like = self._like(row, node, pods)
        if like is not None:
            self._likes.add(like)

    def _like(self, row: Row, node: Node, pods: Iterable[Pod]) -> object:
        """What nodes have in common that have plans only all or none; None if it has that with no other."""
        pods = list(pods)
        if row.blocks or any(pod.gang is not None or self.budgets.covering(pod) for pod in pods):
            return None
        free = tuple(int(self.state.nodes.free[column, node.index]) for column, _ in row.klass.room)
        kinds = Counter((pod.leaf, pod.priority, pod.spec.last_choice, pod.klass.asks) for pod in pods)
        return (row.key, node.pool, free, frozenset(kinds.items()))
