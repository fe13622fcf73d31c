"""Room for a gang node by node: for one pod after the other, each where it costs the fewest pods that is found in time.

Nodes wait in a heap by what room on them costs at least (`NodeBounds`). The first one is cleared in the trial: if that
costs more than the next one's bound, it is undone and goes back with its true cost. A node that has room now stays on
top, for the next pod. Once a cycle's effort is spent, the first node that can be cleared is taken, whatever it costs: a
search that was broken off would begin anew in every cycle. One count of budgets goes through the whole plan, so that no
node spends what another has.
"""

import heapq
from typing import TYPE_CHECKING

from allotment_scheduler.core.eviction.bounds import A_NODE, Bound
from allotment_scheduler.core.eviction.fruitless import Fruitless
from allotment_scheduler.core.eviction.victims import Offers, Step, pods_of
from allotment_scheduler.core.fairness.limits import open_pools
from allotment_scheduler.core.objects.nodes import BoolVector, Node
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.objects.tenants import Tenant
from allotment_scheduler.core.placement.placer import Row
from allotment_scheduler.core.state.trial import Trial

if TYPE_CHECKING:
    from allotment_scheduler.core.eviction.plans import Attempt


class NodeByNode:
    """One such search, within a trial. `steps` are the victims so far.

    Where a limit is in the way (`blocked`), only nodes are cleared on which somebody stands below it.
    """

    def __init__(self, attempt: "Attempt", trial: Trial, blocked: Tenant | None) -> None:
        self.attempt = attempt
        self.state = attempt.state
        self.claim = attempt.claim
        self.trial = trial
        self.blocked = blocked
        self.budgets = attempt.budgets()
        self.steps: list[Step] = []
        self.heap: list[Bound] = []
        self.offers: dict[int, Offers] = {}
        """What is left on nodes that were cleared, by index."""
        self.found = False
        """Whether a node could be cleared for the first pod, if only for more than others may cost."""

    def run(self, pools: tuple[str, ...]) -> bool:
        """Whether there is room for every pod; they are started in the trial."""
        try:
            return all(self._seat_all(row) for row, _ in self.attempt.rows_in(pools))
        finally:
            self.claim.seated.clear()

    def _seat_all(self, row: Row) -> bool:
        """Start those pods of the gang that a row stands for."""
        leaf, placer, now = self.attempt.unit.leaf, self.attempt.planner.placer, row
        self._open(row)
        for pod in self.attempt.unit.pods:
            if self.state.lineup.row_key(pod)[:2] != row.key[:2]:
                continue
            there = open_pools(leaf, pod.klass.amounts, row.key[2])
            if there != now.key[2]:  # a pool has come to its limit: look past it
                now = placer.row((*row.key[:2], there))
                self._open(now)
            index = placer.best(now)
            index = self._make_room(now) if index < 0 else index
            if index < 0:
                return False
            self._start(pod, index)
        return True

    def _open(self, row: Row) -> None:
        self.heap = self.attempt.bounds.of(row, self.attempt.mask(), self.blocked)
        self.offers = {}

    def _start(self, pod: Pod, index: int) -> None:
        self.trial.start(pod, index)
        for column, amount in pod.klass.asks:
            self.claim.seated[column] = self.claim.seated.get(column, 0) + amount

    def _make_room(self, row: Row) -> int:
        """Evict on the node where room for one more pod costs the fewest; its index, -1 if there is none.

        When the search has become dear, the next node that can be cleared is taken.
        """
        heap, before = self.heap, self.attempt.planner.effort
        fruitless = Fruitless(self.state, self.budgets, None if self.steps else self.attempt.looked)
        while heap:
            if not self.steps and not self.found and self.attempt.is_cut_short(before):
                return -1
            *_, rank, index = heapq.heappop(heap)
            node = self.state.nodes.ordered[index]
            if index not in self.offers and not self._open_node(row, node, fruitless):
                continue
            mark, known = self.trial.mark(), len(self.steps)
            cleared = self._clear(row, index)
            cost = pods_of(self.steps[known:])
            self.found = self.found or cleared
            if cleared and (self.attempt.is_dear(before) or not (heap and cost > heap[0][:2])):
                heapq.heappush(heap, (0, 1, rank, index))
                return index
            self._undo(mark, known)
            del self.offers[index]
            if cleared:
                heapq.heappush(heap, (*cost, rank, index))
            else:
                fruitless.add(row, node, self.attempt.candidates_on(node))
        return -1

    def _open_node(self, row: Row, node: Node, fruitless: Fruitless) -> bool:
        """Offer whoever may go on a node, unless it is known that this leads nowhere."""
        if fruitless.looked_at(row, node):
            return False
        pods = self.attempt.candidates_on(node)
        if fruitless.knows(row, node, pods):
            return False
        self.attempt.planner.effort += A_NODE
        self.offers[node.index] = self.attempt.offers(self.attempt.victims(pods), self.budgets)
        return True

    def _clear(self, row: Row, index: int) -> bool:
        """Evict on one node until a pod of the row fits there."""
        only = self.attempt.only(index)
        while not self._fits_on(row, index, only):
            step = self.offers[index].choose()
            if step is None:
                return False
            self.attempt.take(step, self.trial, self.budgets)
            self.steps.append(step)
        return True

    def _undo(self, mark: int, known: int) -> None:
        self.trial.rollback(mark)
        for step in self.steps[known:]:
            self.budgets.spend(step.victim.pods, step.rule, -1)
        del self.steps[known:]

    def _fits_on(self, row: Row, index: int, only: BoolVector) -> bool:
        free = self.state.nodes.free
        if any(free[column, index] < amount for column, amount in row.klass.room):
            return False
        return not row.blocks or self.attempt.planner.placer.best(row, only) >= 0
