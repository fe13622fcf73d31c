"""A quick test for needless victims: whether room and limits could do without one of them.

It counts what a plan frees beyond the need: free slots on the nodes, and what is left under the limits. Neighbours,
topology domains, limits per pool, and nodes that several kinds of pods share are not looked at, so what it spares is
still to be tried; what it does not spare is needed.
"""

from allotment_scheduler.core.eviction.victims import Step
from allotment_scheduler.core.objects.nodes import BoolVector
from allotment_scheduler.core.objects.resources import Column
from allotment_scheduler.core.objects.tenants import Tenant
from allotment_scheduler.core.objects.units import Unit
from allotment_scheduler.core.placement.placer import Placer, Row
from allotment_scheduler.core.state.cluster import ClusterState


class Surplus:
    """How much more than needed a plan frees."""

    def __init__(self, state: ClusterState, placer: Placer, unit: Unit, only: BoolVector | None) -> None:
        self.state = state
        self.placer = placer
        self.unit = unit
        self.rows = [(placer.row(key), count) for key, count in unit.shape.parts]
        self.allowed = [row.allowed if only is None else row.allowed & only for row, _ in self.rows]
        self.slots: list[int] = []
        """More than needed, by row."""
        self.slack: list[tuple[Tenant, dict[Column, int]]] = []
        """More than needed, under each limit."""

    def open(self) -> None:
        """Count as things stand, with every victim gone."""
        self.slots = [
            int(self.placer.slots_by_node(row)[allowed].sum()) - count
            for (row, count), allowed in zip(self.rows, self.allowed, strict=True)
        ]
        self.slack = [
            (tenant, {c: tenant.limits[c] - tenant.taken(c) - amount for c, amount in asked if c in tenant.limits})
            for asked in [self.unit.shape.amounts]
            for tenant in self.unit.leaf.limited_path
        ]

    def spares(self, step: Step) -> bool:
        """Whether the claimant could still start with this step's victim back in place."""
        return self._within_limits(step) and self._has_room(step)

    def _within_limits(self, step: Step) -> bool:
        if not self.slack:
            return True
        back: dict[Column, int] = {}
        for pod in step.victim.places:
            for column, amount in pod.klass.amounts:
                back[column] = back.get(column, 0) + amount
        return all(
            back.get(column, 0) <= left
            for tenant, slack in self.slack if tenant in step.victim.leaf.path for column, left in slack.items()
        )  # fmt: skip

    def _has_room(self, step: Step) -> bool:
        back: dict[int, dict[Column, int]] = {}
        for pod, name in zip(step.victim.places, step.nodes, strict=True):
            node = self.state.nodes.by_name.get(name)
            if node is None:
                continue  # it is gone, and its pods with it soon: they hold no room
            held = back.setdefault(node.index, {})
            for column, amount in pod.klass.amounts:
                held[column] = held.get(column, 0) + amount
        rows = zip(self.rows, self.allowed, self.slots, strict=True)
        return all(left >= self._lost(row, allowed, back) for (row, _), allowed, left in rows)

    def _lost(self, row: Row, allowed: BoolVector, back: dict[int, dict[Column, int]]) -> int:
        """Slots of a row that are lost when so much is held again on some nodes."""
        free, lost = self.state.nodes.free, 0
        for index, held in back.items():
            if allowed[index]:
                wanted = [(int(free[c, index]), held.get(c, 0), amount) for c, amount in row.klass.room]
                now = max(0, min(room // amount for room, _, amount in wanted))
                then = max(0, min((room - taken) // amount for room, taken, amount in wanted))
                lost += now - then
        return lost
