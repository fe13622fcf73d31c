"""Units of scheduling: what starts together or not at all, and the queues they wait in.

A unit is one pod, or a gang's missing pods up to `min_member` together with the room for its expected members. Pods of
a running gang beyond `min_member` are units of their own (elastic).

Units with the same needs share a `Shape`. In every leaf a `Lane` holds the waiting units of one shape in serving order
(priority, then arrival). What does not fit is parked as a lane, not unit by unit: that is how a misfit never blocks
others, at a cost that does not grow with the number of pods that wait.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

import numpy as np

from allotment_scheduler.core.objects.nodes import BoolVector, Nodes
from allotment_scheduler.core.objects.pods import Pod, PodKey, PodSpec
from allotment_scheduler.core.objects.resources import Amounts, Column, add
from allotment_scheduler.core.objects.tenants import Tenant

RowKey = tuple[int, tuple[int, ...], tuple[str, ...]]
"""What decides where a single pod may stand: (class, counters that see its labels, pools allowed to it).

A number below those of counters and labels among the second stands for the home of its gang (`Lineup.home`)."""
Order = tuple[int, tuple[int, float, int]]
"""(-priority, arrival): the smaller is served first within a leaf."""
EXPECTED: Final = "-expected-"
"""Between the name of an announced member and its number, in the name of a room that is held for it."""
_LONG_PASSED: Final = 64
"""So many dead units may stand in a lane before they are dropped, and as many as live ones."""


@dataclass(frozen=True, slots=True)
class ExpectedMember:
    """Pods of a gang that are not created yet; `template` says what each of them will need."""

    name: str
    count: int
    template: PodSpec


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """A gang from outside: a PodGroup, or a Job with the gang label."""

    namespace: str
    name: str
    min_member: int = 1
    expected: tuple[ExpectedMember, ...] = ()
    expected_timeout: float = 600.0
    max_runtime: float | None = None
    priority: int | None = None
    topology_key: str | None = None
    topology_required: bool = False
    """Wait until one domain has room for all, instead of taking what there is."""
    created: float | None = None
    paused: bool = False
    """Its pods wait; what runs keeps running."""
    counts_down: bool = False
    """`min_member` is reckoned anew as members finish (a Job); otherwise those that succeeded are deducted from it."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where a gang with a topology stands, and its other pods must stand, if it is required, or should."""

    key: str
    domains: tuple[str, ...]
    """In order of their names; none while none of it runs: then it is any domain there is."""
    required: bool

    def nodes(self, nodes: Nodes) -> BoolVector:
        """The nodes that belong to it."""
        codes, values = nodes.label_codes(self.key)
        if not self.domains:
            return codes >= 0
        return np.isin(codes, [values[domain] for domain in self.domains if domain in values])


@dataclass(slots=True, eq=False)
class Gang:
    """The core's record of a gang: its members by key, whether they run or wait."""

    key: tuple[str, str]
    spec: GroupSpec | None = None
    """None while pods name a group that does not exist (yet): such pods wait."""
    members: dict[tuple[str, str], Pod] = field(default_factory=dict)
    phantoms: list[Pod] = field(default_factory=list)
    """Rooms held for expected members."""
    held_since: float = 0.0
    """Since when the rooms are held."""
    finished: set[PodKey] = field(default_factory=set)
    """Members that have succeeded since the gang last had none: they are not missing."""
    succeeded: int = 0
    """How many had when the last member went; 0 while there is any."""
    running: int = 0
    """Members that run and are not being deleted (`standing`)."""
    whole: bool = False
    """It has run with all it needs, and some of it still runs."""
    cut_since: float | None = None
    """Since when a gang that was whole is short of members: by a loss, not by our doing or a higher minimum."""
    home: Home | None = None
    """Where it stood when its units were last formed; None without a topology."""

    @property
    def min_member(self) -> int:
        """How many pods must run at once."""
        if self.spec is None:
            return 1
        if self.spec.counts_down or not self.finished:
            return self.spec.min_member
        return max(1, self.spec.min_member - len(self.finished))

    @property
    def goes_whole(self) -> bool:
        """Whether all of it that runs is evicted if any of it is, and the rooms with it."""
        return 0 < self.running <= self.min_member

    def places(self) -> list[Pod]:
        """What goes with it: members that run and are not being deleted, and rooms."""
        return [*self.standing(), *self.phantoms]

    def standing(self) -> list[Pod]:
        """Members that run and are not being deleted."""
        return [pod for pod in self.members.values() if pod.node is not None and pod.stays]

    def waiting(self) -> list[Pod]:
        """Members that do not run, in serving order."""
        return sorted((pod for pod in self.members.values() if pod.node is None), key=order_of)


def member_of(room: Pod) -> str:
    """Which of a gang's announced members a room is held for."""
    return room.spec.name.rpartition(EXPECTED)[0]


def order_of(pod: Pod) -> Order:
    """Serving order within a leaf: priority, then arrival."""
    return (-pod.priority, pod.arrival)


@dataclass(slots=True, eq=False)
class Shape:
    """What equal units need. `parts` are the distinct pods in it with their number, largest first."""

    parts: tuple[tuple[RowKey, int], ...]
    amounts: Amounts
    asks: Amounts
    """The request without the pod count."""
    fixed: bool
    """Some of it may not be preempted: it must lie within the guarantee."""
    fixed_asks: Amounts
    size: int
    asked: frozenset[Column]
    """The columns of `asks`."""
    pieces: tuple[tuple[Amounts, int], ...]
    """The different requests of its pods, with their number."""
    together: tuple[str | None, bool] | None = None
    """The topology of its gang, by key, and whether it must be one domain; None for single pods."""
    lanes: "list[Lane]" = field(default_factory=list)
    pools: tuple[str, ...] = field(init=False)
    """Pools where all of it may run."""

    def __post_init__(self) -> None:
        self.pools = self.parts[0][0][2]


@dataclass(slots=True, eq=False)
class Unit:
    """Pods that start together."""

    leaf: Tenant
    pods: tuple[Pod, ...]
    shape: Shape
    order: Order
    gang: Gang | None = None
    live: bool = True
    """False once it has started, changed or gone: lanes drop it when they meet it."""

    @property
    def first(self) -> Pod:
        """The pod that stands for the unit in messages."""
        return self.pods[0]

    @property
    def priority(self) -> int:
        """The priority it is served and claims with."""
        return -self.order[0]

    @property
    def asks(self) -> Amounts:
        """What it requests, without the pod count."""
        return self.shape.asks


@dataclass(slots=True, eq=False)
class Lane:
    """Waiting units of one shape in one leaf.

    Units mostly come in the order in which they are served: they stand in line, and the next one costs nothing to find.
    Who comes before somebody who stands there already waits in a heap beside it.
    """

    leaf: Tenant
    shape: Shape
    number: int
    line: list[Unit] = field(default_factory=list)
    """Units in order, those before `passed` dead."""
    passed: int = 0
    early: list[tuple[Order, int, Unit]] = field(default_factory=list)
    """A heap of the others."""
    most: int = 2 * _LONG_PASSED
    """With so many units it is thinned out."""
    parked: str | None = None
    """Why none of it can start now, None while the front may."""
    parked_by: Tenant | None = None
    """The tenant whose limit is in the way."""

    def push(self, unit: Unit, number: int) -> None:
        """Add a unit, the `number`-th of its queue."""
        if len(self.line) + len(self.early) >= self.most:
            self._thin_out()
        line = self.line
        if len(line) > self.passed and unit.order < line[-1].order:
            heapq.heappush(self.early, (unit.order, number, unit))
        else:
            line.append(unit)

    def _thin_out(self) -> None:
        """Drop the dead, also those behind somebody who waits."""
        self.line, self.passed = [unit for unit in self.line if unit.live], 0
        self.early = [entry for entry in self.early if entry[2].live]
        heapq.heapify(self.early)
        self.most = 2 * max(_LONG_PASSED, len(self.line) + len(self.early))

    def head(self) -> Unit | None:
        """The first live unit."""
        line, at, early = self.line, self.passed, self.early
        while at < len(line) and not line[at].live:
            at += 1
        if at >= _LONG_PASSED and 2 * at > len(line):
            del line[:at]
            at = 0
        self.passed = at
        first = line[at] if at < len(line) else None
        while early and not early[0][2].live:
            heapq.heappop(early)
        return early[0][2] if early and (first is None or early[0][0] < first.order) else first

    def waiting(self) -> Iterable[Unit]:
        """All live units."""
        units = (*self.line[self.passed :], *(unit for _, _, unit in self.early))
        return (unit for unit in units if unit.live)

    def in_order(self) -> Iterable[Unit]:
        """All live units in serving order."""
        return iter(sorted(self.waiting(), key=attrgetter("order")))


@dataclass(slots=True, eq=False)
class LeafQueue:
    """The lanes of one leaf; `open` is a heap of the lanes that are not parked, by the order of their heads."""

    leaf: Tenant
    lanes: dict[int, Lane] = field(default_factory=dict)
    open: list[tuple[Order, int, Lane]] = field(default_factory=list)
    pushed: int = 0

    def push(self, unit: Unit) -> Lane:
        """Add a unit to its lane."""
        lane = self.lanes.get(id(unit.shape))
        if lane is None:
            lane = self.lanes[id(unit.shape)] = Lane(self.leaf, unit.shape, len(self.lanes))
            unit.shape.lanes.append(lane)
        self.pushed += 1
        lane.push(unit, self.pushed)
        if lane.parked is None and lane.head() is unit:
            heapq.heappush(self.open, (unit.order, lane.number, lane))
        return lane

    def front(self) -> tuple[Lane, Unit] | None:
        """The first unit in serving order among lanes that are not parked."""
        heap = self.open
        while heap:
            order, number, lane = heap[0]
            head = None if lane.parked is not None else lane.head()
            if head is None:
                heapq.heappop(heap)
                continue
            if head.order != order:
                entry = (head.order, number, lane)
                heapq.heapreplace(heap, entry)
                if heap[0] is not entry:
                    continue
            return lane, head
        return None

    def unpark(self, lane: Lane) -> bool:
        """Let a lane compete again; true if that changes anything."""
        if lane.parked is None:
            return False
        lane.parked = None
        lane.parked_by = None
        head = lane.head()
        if head is None:
            return False
        heapq.heappush(self.open, (head.order, lane.number, lane))
        return True

    def waiting(self) -> Iterable[Unit]:
        """Every live unit of the leaf, lane by lane."""
        for lane in self.lanes.values():
            yield from lane.waiting()


def total(pods: Iterable[Pod]) -> Amounts:
    """What some pods request together."""
    amounts: Amounts = ()
    for pod in pods:
        amounts = add(amounts, pod.klass.amounts)
    return amounts
