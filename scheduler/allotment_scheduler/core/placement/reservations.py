"""Reservations: large units do not starve behind small ones.

A unit that fits nowhere ages: from the cycle in which it is first found not to fit, for as long as it does not. The
oldest of age `Settings.age` gets nodes set aside, and the time at which it will fit there, computed from the declared
maximum runtimes of what runs on them. Reservations are counted in the pools of their nodes. Others may start on these
nodes only if they end before that time (backfill). Without declared runtimes there is no such time; after
`Settings.drain` the nodes accept no new starts. Nothing is evicted for a reservation.

Only a unit that would fit the empty cluster and is within every limit has one, and only while neither what its tenants
use nor what it requests is more than they are entitled to, in the pools where it may run: a greedy tenant's giant gang
must not freeze a pool. (What its own pods use now does not count on top: it may be waiting for just these to end.)
"""

from dataclasses import dataclass, field
from math import inf

import numpy as np

from allotment_scheduler.core.entitlement.demand import Demand
from allotment_scheduler.core.objects.pods import Pod, PodKey
from allotment_scheduler.core.objects.resources import Column
from allotment_scheduler.core.objects.units import Unit
from allotment_scheduler.core.placement.eligibility import ROOM, beyond_guarantee, limits_met
from allotment_scheduler.core.placement.gangs import GangPlacer
from allotment_scheduler.core.placement.holds import Room
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.cluster import ClusterState


@dataclass(slots=True)
class Reservation:
    """Nodes set aside for a unit. `eta`: when it fits, infinite while that is unknown."""

    unit: PodKey
    pools: tuple[str, ...]
    """The pools of its nodes."""
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
    misfits: dict[PodKey, float] = field(default_factory=dict)
    """Since when units, by their first pod, have fitted nowhere."""

    def unit_of(self, reservation: Reservation) -> Unit | None:
        """The unit that waits for a reservation, None if it waits no longer."""
        return self._waiting(reservation.unit)

    def _waiting(self, first: PodKey) -> Unit | None:
        pod = self.state.pods.get(first)
        unit = pod.unit if pod is not None else None
        return unit if isinstance(unit, Unit) and unit.live else None

    def rooms(self, now: float, but_for: Reservation | None = None) -> list[Room]:
        """The free room of every node that others are kept off; one reservation may be left out."""
        nodes, out = self.state.nodes, list[Room]()
        for reservation in self.by_unit.values():
            binds = reservation is not but_for and reservation.binding(now, self.settings)
            for name in reservation.nodes if binds else ():
                node = nodes.by_name.get(name)
                if node is not None:
                    free = nodes.free[:, node.index]
                    amounts = tuple((Column(int(c)), int(free[c])) for c in np.flatnonzero(free > 0))
                    out.append(Room(node.index, amounts, reservation.unit))
        return out

    def may_backfill(self, unit: Unit, now: float) -> tuple[str, ...]:
        """Reserved nodes on which a unit would end in time."""
        runtimes = [runtime_of(pod) for pod in unit.pods]
        if None in runtimes:
            return ()
        end = now + max(runtime for runtime in runtimes if runtime is not None)
        until: dict[str, float] = {}
        for reservation in self.by_unit.values():
            if reservation.binding(now, self.settings):
                eta = reservation.eta if reservation.eta < inf else now
                until.update((name, min(eta, until.get(name, inf))) for name in reservation.nodes)
        return tuple(name for name, eta in until.items() if end <= eta)

    def renew(self, now: float) -> None:
        """Drop reservations nobody waits for, recompute the others' times, and give new ones to the oldest units."""
        self.by_unit = {key: kept for key, kept in self.by_unit.items() if self.unit_of(kept) is not None}
        if not self.settings.timed:
            return
        self._age(now)
        taken: dict[str, int] = {}
        before, self.by_unit = self.by_unit, {}
        for kept in before.values():
            unit = self.unit_of(kept)
            if unit is not None:
                self._give(unit, now, min(kept.since, now), taken)
        for unit in self._oldest(now):
            if unit.first.key not in before:
                self._give(unit, now, now, taken)

    def _give(self, unit: Unit, now: float, since: float, taken: dict[str, int]) -> None:
        """Reserve for a unit that deserves it, in pools that have a reservation left."""
        pools = self._open(unit, taken)
        made = self._reserve(unit, now, since, pools) if pools and self._deserves(unit) else None
        if made is not None:
            self.by_unit[made.unit] = made
            for pool in made.pools:
                taken[pool] = taken.get(pool, 0) + 1

    def _open(self, unit: Unit, taken: dict[str, int]) -> tuple[str, ...]:
        """The pools in which a unit could run and may reserve."""
        possible = self.demand.scope(unit)
        return tuple(
            pool for pool in limits_met(unit.leaf, unit.shape)[1]
            if pool in possible and taken.get(pool, 0) < self.settings.reservations_per_pool
        )  # fmt: skip

    def _age(self, now: float) -> None:
        """Note since when units fit nowhere; whoever fits, or is kept back by something else than room, starts anew."""
        misfits: dict[PodKey, float] = {}
        for key, since in self.misfits.items():
            unit = self._waiting(key)
            queue = self.state.queues.get(unit.leaf.name) if unit is not None else None
            lane = queue.lanes.get(id(unit.shape)) if unit is not None and queue is not None else None
            if lane is not None and lane.parked in (ROOM, None):
                misfits[key] = min(since, now)
        for queue in self.state.queues.values():
            for lane in queue.lanes.values():
                head = lane.head() if lane.parked == ROOM else None
                if head is not None:
                    misfits.setdefault(head.first.key, now)
        self.misfits = misfits

    def _oldest(self, now: float) -> list[Unit]:
        aged = [(since, key) for key, since in self.misfits.items() if now - since >= self.settings.age]
        units = [(since, unit) for since, key in aged if (unit := self._waiting(key)) is not None]
        units.sort(key=lambda it: (it[0], it[1].first.spec.created, it[1].first.key))
        return [unit for _, unit in units]

    def _deserves(self, unit: Unit) -> bool:
        if limits_met(unit.leaf, unit.shape)[0] is not None:
            return False
        if unit.shape.fixed and beyond_guarantee(unit.leaf, unit.shape) is not None:
            return False
        entitlement = self.demand.entitlement()
        pools = self.demand.scope(unit) if self.state.forest.root.used_in else None
        return self.demand.uses_no_more(unit) and all(
            amount <= entitlement.whole(tenant, column, pools)
            for tenant in unit.leaf.path for column, amount in unit.asks
        )  # fmt: skip

    def _reserve(self, unit: Unit, now: float, since: float, pools: tuple[str, ...]) -> Reservation | None:
        """Let what runs end in order of time until the unit fits; what has no declared end goes last."""
        state = self.state
        running = [pod for pod in state.running.pods if pod is not None and not pod.phantom]
        ends = sorted(((end_of(pod, now), pod.key, pod) for pod in running), key=lambda entry: entry[:2])
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
        where = tuple(dict.fromkeys(state.nodes.by_name[name].pool for name in nodes))
        return Reservation(unit.first.key, where, nodes, eta, since)


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
