"""Backfill: who may start on reserved nodes, because it ends before they are needed.

The order is that of serving (serving.py), among units that declare how long they run and fit on reserved nodes for so
long. While a cycle backfills, room and limits only shrink: whoever does not fit is not asked again.
"""

from dataclasses import dataclass, field

from allotment_scheduler.core.fairness.shares import Where
from allotment_scheduler.core.objects.nodes import BoolVector
from allotment_scheduler.core.objects.resources import Amounts, add, without_pods
from allotment_scheduler.core.objects.tenants import Tenant
from allotment_scheduler.core.objects.units import Unit
from allotment_scheduler.core.placement.eligibility import limits_met
from allotment_scheduler.core.placement.gangs import GangPlacer
from allotment_scheduler.core.placement.reservations import Reservations
from allotment_scheduler.core.state.cluster import ClusterState


@dataclass(slots=True)
class Backfill:
    """The candidates of one cycle."""

    state: ClusterState
    gangs: GangPlacer
    reservations: Reservations
    now: float
    _queues: dict[Tenant, list[Unit]] = field(default_factory=dict)
    """Units that have not failed yet, the first at the end."""
    _misfits: set[tuple[Tenant, int, tuple[str, ...]]] = field(default_factory=set)
    """Leaves with shapes, by identity, and the nodes on which they do not fit, or beyond which limits of the leaf."""
    _where: dict[Tenant, Where] = field(default_factory=dict)

    def propose(self, leaf: Tenant) -> Unit | None:
        """A leaf's first unit that could start on reserved nodes now."""
        queue = self._queues.get(leaf)
        if queue is None:
            waiting = self.state.lineup.queue(leaf).waiting()
            queue = self._queues[leaf] = sorted(waiting, key=lambda unit: unit.order, reverse=True)
        while queue:
            if queue[-1].live and self._fits(queue[-1]):
                return queue[-1]
            queue.pop()
        return None

    def passed(self, unit: Unit) -> None:
        """A unit had its turn. When part of a gang has started, what is left of it has become other units."""
        self._queues[unit.leaf].pop()
        if unit.gang is not None and not unit.live:
            del self._queues[unit.leaf]

    def where(self, unit: Unit) -> Where:
        """What of a proposed unit would stand in each pool."""
        return self._where[unit.leaf]

    def nodes(self, unit: Unit) -> BoolVector:
        """The reserved nodes on which a unit ends in time."""
        return self.state.nodes.named(self.reservations.may_backfill(unit, self.now))

    def _fits(self, unit: Unit) -> bool:
        names = self.reservations.may_backfill(unit, self.now)
        misfit = (unit.leaf, id(unit.shape), names)
        if not names or misfit in self._misfits:
            return False
        blocked, pools = limits_met(unit.leaf, unit.shape)
        with self.state.trial() as trial:
            if blocked is None and self.gangs.place(unit, pools, trial, self.nodes(unit)):
                stands: dict[str, Amounts] = {}
                for pod, name, _ in trial.log:
                    pool = self.state.nodes.by_name[name].pool
                    stands[pool] = add(stands.get(pool, ()), without_pods(pod.klass.amounts))
                self._where[unit.leaf] = stands
                return True
        self._misfits.add(misfit)
        return False
