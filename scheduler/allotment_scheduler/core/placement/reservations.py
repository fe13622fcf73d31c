"""Reservations: large units do not starve behind small ones.

A unit that fits nowhere ages: from the cycle in which it is first found not to fit, for as long as it does not. The
oldest of age `Settings.age` gets nodes set aside, and the time at which it will fit there, computed from the declared
maximum runtimes of what runs on them. Reservations are counted in the pools of their nodes. Others may start on these
nodes only if they end before that time (backfill). Without declared runtimes there is no such time; after
`Settings.drain` the nodes accept no new starts. Nothing is evicted for a reservation.

Where and when a unit will fit is found by `Foresight`. A reservation stays on its nodes as long as the unit will fit
there no later than was said; every `Settings.age` it is looked for elsewhere, too, and moves where it comes earlier. A
unit for which nothing is found is not searched for again before that time is over, and then after those that have not
been searched for yet. So what a cycle spends on reservations is bounded, however many units can never have one.

Only a unit that would fit the empty cluster and is within every limit has one, and only while neither what its tenants
use nor what it requests is more than they are entitled to, in the pools where it may run: a greedy tenant's giant gang
must not freeze a pool. (What its own pods use now does not count on top: it may be waiting for just these to end.)
"""

from dataclasses import dataclass, field
from math import inf
from typing import Final

import numpy as np

from allotment_scheduler.core.entitlement.demand import Demand
from allotment_scheduler.core.objects.pods import PodKey
from allotment_scheduler.core.objects.resources import Column
from allotment_scheduler.core.objects.units import Unit
from allotment_scheduler.core.placement.eligibility import ROOM, beyond_guarantee, limits_met
from allotment_scheduler.core.placement.foresight import Foresight, Prospect, runtime_of
from allotment_scheduler.core.placement.holds import Room
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.cluster import ClusterState

MOST_EFFORT: Final = 10_000
"""The effort of searches (foresight.py) after which a cycle begins no other."""

OVERDUE: Final = (
    "it should have room by now; where it has none, what runs there has outlived its declared runtime "
    "(allotment.dev/max-runtime)"
)
"""What is said of a reservation whose time has passed."""


@dataclass(slots=True)
class Reservation:
    """Nodes set aside for a unit. `eta`: when it fits, infinite while that is unknown."""

    unit: PodKey
    pools: tuple[str, ...]
    """The pools of its nodes."""
    nodes: tuple[str, ...]
    eta: float
    since: float
    searched: float
    """When it was last looked for on all nodes."""
    room: tuple[int, bytes] | None = None
    """The layout and the free room of its nodes for which `eta` was found."""

    @property
    def words(self) -> str:
        """What is set aside."""
        return "1 node is reserved" if len(self.nodes) == 1 else f"{len(self.nodes)} nodes are reserved"

    def binding(self, now: float, settings: Settings) -> bool:
        """Whether others are kept off now."""
        return self.eta < inf or now - self.since >= settings.drain


@dataclass(slots=True)
class Reservations:
    """All reservations, by the first pod of their unit."""

    state: ClusterState
    foresight: Foresight
    demand: Demand
    settings: Settings
    by_unit: dict[PodKey, Reservation] = field(default_factory=dict)
    misfits: dict[PodKey, float] = field(default_factory=dict)
    """Since when units, by their first pod, have fitted nowhere."""
    in_vain: dict[PodKey, float] = field(default_factory=dict)
    """When a search for units, by their first pod, last found nothing: it is not repeated before `Settings.age`."""
    _refitted: int = 0

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
                    if amounts:
                        out.append(Room(node.index, amounts, reservation.unit))
        return out

    def kept_from(self, unit: Unit, now: float) -> tuple[str, ...]:
        """Nodes that others' reservations keep a unit off, unless it would end in time."""
        mine = self.by_unit.get(unit.first.key)
        kept = {
            name: None
            for it in self.by_unit.values() if it is not mine and it.binding(now, self.settings) for name in it.nodes
        }  # fmt: skip
        return tuple(kept.keys() - set(self.may_backfill(unit, now))) if kept else ()

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
        """Drop reservations nobody waits for, bring the others up to date, and give new ones to the oldest units.

        Searching is bounded: a cycle begins no further search once `MOST_EFFORT` is spent. Who is left over is searched
        for in the next one; standing reservations stay as they are meanwhile.
        """
        self.by_unit = {key: kept for key, kept in self.by_unit.items() if self.unit_of(kept) is not None}
        if not self.settings.timed:
            return
        self._age(now)
        self._refit()
        self.foresight.effort = 0
        taken: dict[str, int] = {}
        before, self.by_unit = self.by_unit, {}
        for kept in before.values():
            unit = self.unit_of(kept)
            if unit is not None:
                self._keep(kept, unit, now, taken)
        for unit in self._candidates(now):
            if self.foresight.effort >= MOST_EFFORT or self._all_given(taken):
                break
            if unit.first.key not in before:
                self._give(unit, now, taken)

    def _refit(self) -> None:
        """What was found for a unit whose volumes have changed since is not trusted any more."""
        refitted = self.state.refitted
        since, self._refitted = self._refitted, len(refitted)
        classes = set(refitted[since:])
        for kept in self.by_unit.values() if classes else ():
            unit = self.unit_of(kept)
            if unit is not None and not classes.isdisjoint(pod.klass.id for pod in unit.pods):
                kept.room = None

    def _keep(self, kept: Reservation, unit: Unit, now: float, taken: dict[str, int]) -> None:
        """Keep a reservation up to date while its unit deserves it and pools have one left: on its nodes, if it can."""
        pools = self._open(unit, taken)
        if not pools or not self._deserves(unit):
            return
        kept.since, kept.searched = min(kept.since, now), min(kept.searched, now)
        stays = set(pools).issuperset(kept.pools)
        due = now - kept.searched >= self.settings.age
        renewed = self._renewed(kept, unit, pools, now, trusting=not due) if stays else None
        if (due or renewed is None or renewed.eta > max(kept.eta, now)) and self.foresight.effort < MOST_EFFORT:
            found, kept.searched = self.foresight.find(unit, pools, now), now
            if found is not None and (renewed is None or found.eta < renewed.eta):
                renewed = found
        unproven = renewed is None and stays and kept.searched < now
        if renewed is not None:
            kept.nodes, kept.eta = renewed.nodes, renewed.eta
        if renewed is not None or unproven:
            self._enter(kept, taken)
        if unproven:
            kept.room = None

    def _renewed(
        self, kept: Reservation, unit: Unit, pools: tuple[str, ...], now: float, *, trusting: bool
    ) -> Prospect | None:
        """When a unit fits on the nodes that it has, None if never; while their room stands still, as was found.

        What is overdue may end any moment, so that a time that has passed becomes the present.
        """
        if trusting and kept.room == self._room(kept.nodes):
            return Prospect(kept.nodes, max(kept.eta, now))
        return self.foresight.find(unit, pools, now, kept.nodes)

    def _room(self, names: tuple[str, ...]) -> tuple[int, bytes]:
        """What changes when the room of some nodes does."""
        nodes = self.state.nodes
        there = [nodes.by_name[name].index for name in names if name in nodes.by_name]
        return nodes.layout_version, nodes.free[:, there].tobytes()

    def _give(self, unit: Unit, now: float, taken: dict[str, int]) -> None:
        """Reserve for a unit that deserves it, in pools that have a reservation left."""
        pools = self._open(unit, taken)
        if not pools or not self._deserves(unit):
            return
        key = unit.first.key
        found = self.foresight.find(unit, pools, now)
        if found is None:
            self.in_vain[key] = now
            return
        self.in_vain.pop(key, None)
        self._enter(Reservation(key, (), found.nodes, found.eta, now, now), taken)

    def _enter(self, made: Reservation, taken: dict[str, int]) -> None:
        by_name = self.state.nodes.by_name
        made.pools = tuple(dict.fromkeys(by_name[name].pool for name in made.nodes if name in by_name))
        made.room = self._room(made.nodes)
        self.by_unit[made.unit] = made
        for pool in made.pools:
            taken[pool] = taken.get(pool, 0) + 1

    def _all_given(self, taken: dict[str, int]) -> bool:
        """Whether no pool with nodes has a reservation left."""
        nodes = self.state.nodes
        there = (nodes.pool_names[index] for index in np.unique(nodes.pool_index).tolist())
        return all(taken.get(pool, 0) >= self.settings.reservations_per_pool for pool in there)

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

    def _candidates(self, now: float) -> list[Unit]:
        """Units of the age for a reservation, the oldest first; those searched for in vain come last, and not soon."""
        self.in_vain = {key: min(at, now) for key, at in self.in_vain.items() if key in self.misfits}
        aged = [
            (self.in_vain.get(key, -inf), since, unit) for key, since in self.misfits.items()
            if now - since >= self.settings.age and now - self.in_vain.get(key, -inf) >= self.settings.age
            and (unit := self._waiting(key)) is not None
        ]  # fmt: skip
        aged.sort(key=lambda it: (it[0], it[1], it[2].first.spec.created, it[2].first.key))
        return [unit for _, _, unit in aged]

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
