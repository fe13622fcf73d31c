"""Rooms held for somebody in particular: successors of pods that their owner recreates, and units with a reservation.

Holds live outside the state: during a cycle the room is taken from the nodes, afterwards it is given back, so the
state's sums never contain anything but pods. Whoever a room is held for is served before the holds close.

A seat is more than room on a node: it keeps what its pod took up of limits, and, if it could not be preempted, of
guarantees (`Tenant.held`). It counts in no share. A seat is given up when its successor runs, there or elsewhere, and
when its time is over. While the successor has come and its node cannot take it, the room stays held, but nothing of
limits: it may start elsewhere.
"""

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from allotment_scheduler.core.objects.pods import Pod, PodKey
from allotment_scheduler.core.objects.resources import Amounts, Column
from allotment_scheduler.core.objects.tenants import Tenant
from allotment_scheduler.core.objects.units import Gang, Unit
from allotment_scheduler.core.placement.placer import Placer
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.cluster import ClusterState

RECREATING: frozenset[str] = frozenset({"StatefulSet"})
"""Controllers whose pods come back under the same name."""


class Room(NamedTuple):
    """What is held on one node, and for whom: the hold, by id, or the first pod of the unit with the reservation."""

    place: int
    """The index of the node."""
    amounts: Amounts
    whom: int | PodKey


@dataclass(slots=True)
class Hold:
    """Room on one node for the next pod of an owner, by name where its pods keep their names.

    Only for pods that did not end well: what has succeeded has no successor.
    """

    node: str
    amounts: Amounts
    namespace: str
    owner: str
    name: str | None
    until: float
    gang: Gang | None = None
    """The Job's gang: with it goes the hold, and once it misses nobody."""
    fixed: bool = False
    """The pod could not be preempted."""

    def is_for(self, pod: Pod) -> bool:
        """Whether a waiting pod is the successor."""
        spec = pod.spec
        if spec.namespace != self.namespace or spec.owner != self.owner:
            return False
        return self.name is None or spec.name == self.name


@dataclass(slots=True)
class Holds:
    """All successor holds, and the rooms that are closed for this cycle."""

    state: ClusterState
    placer: Placer
    settings: Settings
    holds: list[Hold] = field(default_factory=list)
    closed: list[Room] = field(default_factory=list)
    _keeping: set[Tenant] = field(default_factory=set)
    """Whose limits and guarantees seats take a part of."""
    _sought: list[tuple[Pod, Hold]] = field(default_factory=list)
    """Successors that have come, and did not start in their seats in this cycle."""
    _fixed: dict[tuple[str, str, Column], int] = field(default_factory=dict)
    """What seats took up of guarantees in the last cycle, by tenant and pool."""

    def collect(self, now: float) -> None:
        """Hold the rooms of pods that have gone since the last cycle, and drop what is over."""
        departed, self.state.departed = self.state.departed, []
        if not self.settings.timed:
            return
        for pod, node in departed:
            spec = pod.spec
            if leaves_seat(pod):
                name, gang = (spec.name, None) if spec.owner_kind in RECREATING else (None, pod.gang)
                until = now + self.settings.successor_hold
                fixed = not spec.preemptible
                self.holds.append(Hold(node, pod.klass.amounts, spec.namespace, spec.owner, name, until, gang, fixed))
        for hold in self.holds:  # a clock that was set back makes none of them longer
            hold.until = min(hold.until, now + self.settings.successor_hold)
        self.holds = [hold for hold in self.holds if self._stands(hold, now)]

    def _keep(self) -> None:
        """Let every seat take up its part of limits and guarantees, and nothing else."""
        for tenant in self._keeping:
            tenant.held.clear()
            tenant.held_fixed.clear()
        self._keeping.clear()
        for hold in self.holds:
            self._count(hold, 1)

    def _count(self, hold: Hold, sign: int) -> None:
        leaf = self.state.forest.leaf_of_namespace.get(hold.namespace)
        for tenant in leaf.path if leaf is not None else ():
            self._keeping.add(tenant)
            for held in (tenant.held, tenant.held_fixed) if hold.fixed else (tenant.held,):
                for column, amount in hold.amounts:
                    for pool in ("", self.state.nodes.by_name[hold.node].pool):
                        held[pool, column] = held.get((pool, column), 0) + sign * amount

    def _stands(self, hold: Hold, now: float) -> bool:
        gone = hold.gang is not None and (hold.gang.spec is None or _misses_nobody(hold.gang))
        back = self.state.pods.get((hold.namespace, hold.name)) if hold.name is not None else None
        runs = back is not None and back.node is not None
        return hold.until > now and hold.node in self.state.nodes.by_name and not gone and not runs

    def seat(self, start: Callable[[Unit, int | None], None]) -> None:
        """Let successors that have come start, by `start`: a unit, and the index of its node if it is one pod.

        What a gang is missing starts as a whole, where it finds room beside the seats of others.
        """
        self._keep()
        free: dict[tuple[str, str], list[Hold]] = {}
        for hold in self.holds:
            free.setdefault((hold.namespace, hold.owner), []).append(hold)
        for pod in list(self.state.waiting()) if free else ():
            unit = pod.unit
            if not isinstance(unit, Unit) or not unit.live or unit.first is not pod:
                continue
            mine = [(member, it) for member in unit.pods if (it := _taken_from(free, member))]
            if not mine:
                continue
            for _, hold in mine:
                self._count(hold, -1)
            if len(unit.pods) == 1:
                start(unit, self.state.nodes.by_name[mine[0][1].node].index)
            else:
                ours = {id(hold) for _, hold in mine}
                mark = self.close(self.seats([hold for hold in self.holds if id(hold) not in ours]))
                start(unit, None)
                self.open(mark)
            if pod.node is None:
                self._sought += mine
            else:
                self._give_up([hold for _, hold in mine])
        self._compare_fixed()

    def _compare_fixed(self) -> None:
        """What guarantees leave to those that wait is part of demand: it changes with what seats take up of them."""
        fixed = {
            (tenant.name, *where): amount
            for tenant in self._keeping for where, amount in tenant.held_fixed.items() if amount
        }  # fmt: skip
        if fixed != self._fixed:
            self._fixed = fixed
            self.state.own_version += 1

    def _give_up(self, holds: list[Hold]) -> None:
        over = {id(hold) for hold in holds}
        self.holds = [hold for hold in self.holds if id(hold) not in over]

    def seats(self, holds: list[Hold] | None = None) -> list[Room]:
        """The rooms that are held, of all or of some."""
        which, by_name = self.holds if holds is None else holds, self.state.nodes.by_name
        return [Room(by_name[hold.node].index, hold.amounts, id(hold)) for hold in which if hold.node in by_name]

    def close(self, rooms: list[Room]) -> int:
        """Take rooms off their nodes for a while; returns the mark to open them by."""
        mark = len(self.closed)
        self.closed += map(self._close, rooms)
        return mark

    def _close(self, room: Room) -> Room:
        """Take what is free of a room off its node."""
        nodes = self.state.nodes
        free = nodes.free[:, room.place]
        amounts = tuple((column, min(amount, int(free[column]))) for column, amount in room.amounts if free[column] > 0)
        nodes.take(room.place, amounts, 1)
        return room._replace(amounts=amounts)

    @contextmanager
    def lent_to(self, unit: Unit) -> Iterator[None]:
        """Open the rooms that are held for a unit to it, and close again what it leaves of them."""
        whom: Container[int | PodKey] = {unit.first.key, *(id(hold) for pod, hold in self._sought if pod.unit is unit)}
        mine = [position for position, room in enumerate(self.closed) if room.whom in whom]
        for position in mine:
            self.state.nodes.take(self.closed[position].place, self.closed[position].amounts, -1)
        try:
            yield
        finally:
            for position in mine:
                self.closed[position] = self._close(self.closed[position])

    def favoured(self) -> list[Unit]:
        """Waiting units for whom any of the rooms is held that are closed."""
        sought = {id(hold): pod for pod, hold in self._sought}
        pods = [sought.get(room.whom) if isinstance(room.whom, int) else self.state.pods.get(room.whom)
                for room in self.closed]  # fmt: skip
        units = {id(it): it for pod in pods if pod is not None and isinstance(it := pod.unit, Unit) and it.live}
        return list(units.values())

    def end(self) -> None:
        """The cycle ends, or has failed: give back every room, and give up seats whose successors started elsewhere."""
        self.open()
        self._give_up([hold for pod, hold in self._sought if pod.node is not None])
        self._sought.clear()

    def open(self, mark: int = 0) -> None:
        """Give back every room that was closed since a mark."""
        for room in self.closed[mark:]:
            self.state.nodes.take(room.place, room.amounts, -1)
        del self.closed[mark:]


def leaves_seat(pod: Pod) -> bool:
    """Whether a pod's room is held for its successor once it has gone, if neither we evicted it nor it succeeded."""
    spec = pod.spec
    if not spec.ours or pod.leaf is None or not spec.owner:
        return False  # its successor starts without us, or not at all
    return spec.owner_kind in RECREATING or (spec.owner_kind == "Job" and pod.gang is not None)


def _misses_nobody(gang: Gang) -> bool:
    """Whether a Job's gang runs with all that its controller makes: its next members found their places."""
    return gang.spec is not None and gang.spec.counts_down and gang.running >= gang.min_member


def _taken_from(free: dict[tuple[str, str], list[Hold]], pod: Pod) -> Hold | None:
    """The first hold that is for a pod, taken out of those of its owner."""
    holds = free.get((pod.spec.namespace, pod.spec.owner))
    if holds is None:
        return None
    index = next((index for index, hold in enumerate(holds) if hold.is_for(pod)), None)
    return None if index is None else holds.pop(index)
