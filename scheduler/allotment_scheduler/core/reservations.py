"""Reservations: large units do not starve behind small ones.

The oldest unit that fitted nowhere for `Settings.age` gets nodes set aside, and the time at which it will fit there,
computed from the declared maximum runtimes of what runs on them. Others may start on these nodes only if they end
before that time (backfill). Without declared runtimes there is no such time; after `Settings.drain` the nodes accept
no new starts. Nothing is evicted for a reservation.

Only a unit that would fit the empty cluster and is within every limit gets one, and only while neither what its tenants
use nor what it requests is more than they are entitled to: a greedy tenant's giant gang must not freeze a pool. (What
its own pods use now does not count on top: it may be waiting for just these to end.)
"""

from dataclasses import dataclass, field
from math import inf

import numpy as np

from allotment_scheduler.core.demand import Demand
from allotment_scheduler.core.eligibility import beyond_guarantee, limits_met
from allotment_scheduler.core.gangs import GangPlacer
from allotment_scheduler.core.pods import Pod, PodKey
from allotment_scheduler.core.resources import Amounts, Column
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state import ClusterState
from allotment_scheduler.core.units import Unit


@dataclass(slots=True)
class Reservation:
    """Nodes set aside for a unit. `eta`: when it fits, infinite while that is unknown."""

    unit: PodKey
    pool: str
    nodes: tuple[str, ...]
    eta: float
    since: float

    def binding(self, now: float, settings: Settings) -> bool:
        """Whether others are kept off now."""
        return self.eta < inf or now - self.since >= settings.drain


@dataclass(slots=True)
class Reservations:
    """All reservations, by the first pod of their unit."""

    state: ClusterState
    gangs: GangPlacer
    demand: Demand
    settings: Settings
    by_unit: dict[PodKey, Reservation] = field(default_factory=dict)

    def unit_of(self, reservation: Reservation) -> Unit | None:
        """The unit that waits for a reservation, None if it waits no longer."""
        pod = self.state.pods.get(reservation.unit)
        unit = pod.unit if pod is not None else None
        return unit if isinstance(unit, Unit) and unit.live else None

    def rooms(self, now: float) -> list[tuple[int, Amounts]]:
        """The free room of every node that others are kept off."""
        nodes, out = self.state.nodes, []
        for reservation in self.by_unit.values():
            for name in reservation.nodes if reservation.binding(now, self.settings) else ():
                node = nodes.by_name.get(name)
                if node is not None:
                    free = nodes.free[:, node.index]
                    out.append((node.index, tuple((Column(int(c)), int(free[c])) for c in np.flatnonzero(free > 0))))
        return out

    def may_backfill(self, unit: Unit, now: float) -> tuple[str, ...]:
        """Reserved nodes on which a unit would end in time."""
        runtimes = [runtime_of(pod) for pod in unit.pods]
        if None in runtimes:
            return ()
        end = now + max(runtime for runtime in runtimes if runtime is not None)
        return tuple(
            name for reservation in self.by_unit.values() if end <= reservation.eta < inf for name in reservation.nodes
        )  # fmt: skip

    def renew(self, now: float) -> None:
        """Drop reservations nobody waits for, recompute the others' times, and give new ones to the oldest units."""
        self.by_unit = {key: kept for key, kept in self.by_unit.items() if self.unit_of(kept) is not None}
        if not self.settings.timed:
            return
        for key, kept in list(self.by_unit.items()):
            unit = self.unit_of(kept)
            renewed = self._reserve(unit, now, kept.since) if unit is not None else None
            if renewed is None:
                del self.by_unit[key]
            else:
                self.by_unit[key] = renewed
        taken: dict[str, int] = {}
        for kept in self.by_unit.values():
            taken[kept.pool] = taken.get(kept.pool, 0) + 1
        for unit in self._oldest(now):
            pool = unit.shape.pools[0] if unit.shape.pools else ""
            if taken.get(pool, 0) >= self.settings.reservations_per_pool or unit.first.key in self.by_unit:
                continue
            made = self._reserve(unit, now, now) if self._deserves(unit) else None
            if made is not None:
                self.by_unit[unit.first.key] = made
                taken[made.pool] = taken.get(made.pool, 0) + 1

    def _oldest(self, now: float) -> list[Unit]:
        heads = {
            id(unit): unit
            for queue in self.state.queues.values()
            for lane in queue.lanes.values()
            if (unit := lane.head()) is not None and now - unit.first.spec.created >= self.settings.age
        }
        return sorted(heads.values(), key=lambda unit: (unit.first.spec.created, unit.first.key))

    def _deserves(self, unit: Unit) -> bool:
        if limits_met(unit.leaf, unit.shape)[0] is not None:
            return False
        if unit.shape.fixed and beyond_guarantee(unit.leaf, unit.shape) is not None:
            return False
        entitlement = self.demand.entitlement()
        return all(
            max(tenant.used[column], amount) <= entitlement.whole(tenant, column)
            for tenant in unit.leaf.path for column, amount in unit.asks
        )  # fmt: skip

    def _reserve(self, unit: Unit, now: float, since: float) -> Reservation | None:
        """Let what runs end in order of time until the unit fits; what has no declared end goes last."""
        state = self.state
        running = [pod for pod in state.running.pods if pod is not None and not pod.phantom]
        ends = sorted(((end_of(pod, now), pod.key, pod) for pod in running), key=lambda entry: entry[:2])
        pools = limits_met(unit.leaf, unit.shape)[1]
        with state.trial() as trial:
            position = 0
            while not self.gangs.fits(unit, pools):
                if position == len(ends):
                    return None
                end = ends[position][0]
                while position < len(ends) and ends[position][0] == end:
                    trial.evict(ends[position][2])
                    position += 1
            eta = ends[position - 1][0] if position else now
            mark = trial.mark()
            if not self.gangs.place(unit, pools, trial):
                return None
            nodes = tuple(dict.fromkeys(name for _, name, _ in trial.log[mark:]))
        return Reservation(unit.first.key, unit.shape.pools[0], nodes, eta, since)


def runtime_of(pod: Pod) -> float | None:
    """The declared maximum runtime of a pod, its gang, or its tenant's default; None if nobody declared any."""
    if pod.spec.max_runtime is not None:
        return pod.spec.max_runtime
    if pod.gang is not None and pod.gang.spec is not None and pod.gang.spec.max_runtime is not None:
        return pod.gang.spec.max_runtime
    path = pod.leaf.path if pod.leaf is not None else ()
    return next((t.spec.default_runtime for t in path if t.spec.default_runtime is not None), None)


def end_of(pod: Pod, now: float) -> float:
    """When a running pod ends at the latest; what is overdue ends any moment."""
    runtime = runtime_of(pod)
    return inf if runtime is None else max(now, pod.started + runtime)
