"""A quick test for needless victims: where free slots alone decide whether a claimant fits, they are counted.

For claimants of equal pods that do not mind their neighbours, below no limit and bound to no topology domain.
"""

from allotment_scheduler.core.eviction.victims import Step
from allotment_scheduler.core.objects.nodes import BoolVector
from allotment_scheduler.core.placement.placer import Placer, Row
from allotment_scheduler.core.state.cluster import ClusterState


class Surplus:
    """How many slots more than needed a plan frees, for claimants of equal pods that do not mind their neighbours."""

    def __init__(self, state: ClusterState, placer: Placer, row: Row, count: int, only: BoolVector | None) -> None:
        self.state = state
        self.placer = placer
        self.row = row
        self.count = count
        self.allowed = row.allowed if only is None else row.allowed & only
        self.total = 0

    def open(self) -> None:
        """Count the slots as things stand, with every victim gone."""
        self.total = int(self.placer.slots_by_node(self.row)[self.allowed].sum())

    def spares(self, step: Step) -> bool:
        """Whether the claimant would still fit with this step's victim back in place."""
        lost = 0
        free, allowed = self.state.nodes.free, self.allowed
        back: dict[int, dict[int, int]] = {}
        for pod, name in zip(step.victim.pods, step.nodes, strict=True):
            node = self.state.nodes.by_name.get(name)
            if node is None:
                continue  # it is gone, and its pods with it soon: they hold no room
            held = back.setdefault(node.index, {})
            for column, amount in pod.klass.amounts:
                held[column] = held.get(column, 0) + amount
        for index, held in back.items():
            if allowed[index]:
                wanted = [(int(free[c, index]), held.get(c, 0), amount) for c, amount in self.row.klass.room]
                now = max(0, min(room // amount for room, _, amount in wanted))
                then = max(0, min((room - taken) // amount for room, taken, amount in wanted))
                lost += now - then
        return self.total - lost >= self.count
