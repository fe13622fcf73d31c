"""The ledger: what we have decided and the API server does not show yet.

A *start* is a pod that the core counts on its node. It is issued as a Binding once its node really has the room: pods
that we evicted hold theirs until they are gone, and pods that others bound may have taken it meanwhile. All starts of
one unit are issued together. A start ends when the watch shows the pod bound, or when it is forgotten.

A *departure* is a pod that we evict for a claimant. It ends when the watch shows the pod gone, or when the eviction is
given up.

*Quarantine* keeps a pod aside whose Binding was refused, for doubling times. A pod whose plan was refused is *barred*
likewise: it makes no other plan meanwhile, and starts wherever room is free.

It must never talk to anybody: the loop carries out, the ledger remembers.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

from allotment_scheduler.core.objects.pods import PodKey
from allotment_scheduler.shell.backoffs import Backoffs


class Phase(Enum):
    """How far a start has come."""

    WAITING = "waiting"
    """For room that is still taken."""
    ISSUED = "issued"
    """The Binding is on its way."""
    BOUND = "bound"
    """The API server accepted it, or may have; the watch has not shown it yet."""


@dataclass(slots=True, eq=False)
class Start:
    """One pod's start on a node."""

    key: PodKey
    uid: str
    node: str
    unit: PodKey
    since: float
    phase: Phase = Phase.WAITING
    nominated: bool = False
    """Whether status.nominatedNodeName says so: the hold survives us."""
    doubt: str = ""
    """Why nobody knows whether its Binding took effect: it counts until the pod has been read."""


@dataclass(slots=True, eq=False)
class Undertaking:
    """All starts of one unit, and the departures they wait for."""

    unit: PodKey
    starts: list[Start] = field(default_factory=list)
    departures: set[PodKey] = field(default_factory=set)
    deadline: float | None = None
    """When it is given up if what it waits for has not come."""
    attaching: bool = False
    """Whether it waits for volumes or devices: nobody has to leave for it any more."""
    has_waited: bool = False
    """Whether it was decided in an earlier turn: what it was decided by may have changed."""

    neighbours: frozenset[PodKey] = frozenset()
    """Who was leaving when it was found that others are in its way, for what they are and not for what they hold."""

    @property
    def waits(self) -> bool:
        """Whether any of its starts has not been issued yet."""
        return any(start.phase is Phase.WAITING for start in self.starts)

    def waiting(self) -> list[Start]:
        """Its starts that have not been issued yet."""
        return [start for start in self.starts if start.phase is Phase.WAITING]


@dataclass(slots=True, eq=False)
class Departure:
    """One pod that we evict."""

    key: PodKey
    uid: str
    node: str
    claimant: PodKey
    rule: str
    since: float
    accepted: bool = False
    """Whether the API server has agreed."""
    for_nobody: bool = False
    """No start waits for it: what is left of a gang goes as a whole."""


class Ledger:
    """Starts, departures and quarantines, by pod. Implements the picture's `Decided`."""

    def __init__(self) -> None:
        self.starts: dict[PodKey, Start] = {}
        self.undertakings: dict[PodKey, Undertaking] = {}
        self.departures: dict[PodKey, Departure] = {}
        self._waiting: dict[PodKey, Undertaking] = {}
        """Undertakings that may wait still: most are on their way, and are not looked through in every turn."""
        self.bound: int = 0
        """Starts that the watch has confirmed."""
        self.on_bound: Callable[[Start], None] = lambda _: None
        """Told of each of them, before the state is."""
        self.spared = Backoffs[PodKey]()
        """Running pods whose eviction was refused: nobody plans with it."""
        self.barred = Backoffs[PodKey]()
        """Waiting pods whose plan was refused: they evict nobody."""
        self._quarantined = Backoffs[PodKey]()

    # --- what the picture asks and tells ------------------------------------------------------------------------

    def node_of(self, key: PodKey, uid: str) -> str | None:
        """The node on which this pod's start is under way."""
        start = self.starts.get(key)
        return start.node if start is not None and start.uid == uid else None

    def is_leaving(self, key: PodKey, uid: str) -> bool:
        """Whether we have evicted this pod."""
        found = self.departures.get(key)
        return found is not None and found.uid == uid

    def quarantined(self, key: PodKey, uid: str) -> bool:
        """Whether this pod is set aside after refusals."""
        return self._quarantined.holds(key, uid)

    def is_barred(self, key: PodKey, uid: str) -> bool:
        """Whether this pod evicts nobody for now, because its plan was refused."""
        return self.barred.holds(key, uid)

    def is_spared(self, key: PodKey, uid: str) -> bool:
        """Whether this pod is no victim for now, because its eviction was refused."""
        return self.spared.holds(key, uid)

    def seen_bound(self, key: PodKey, uid: str, node: str) -> None:
        """The watch shows this pod on a node: ours, or one that somebody else chose."""
        start = self.starts.get(key)
        if start is not None and start.uid == uid:
            if start.node == node:
                self.bound += 1
                self.on_bound(start)
            self.close(start)
            self._quarantined.forget(key)
            self.barred.forget(key)

    def seen_gone(self, key: PodKey) -> None:
        """The pod of this name has finished or is gone."""
        start = self.starts.get(key)
        if start is not None:
            self.close(start)
        departure = self.departures.pop(key, None)
        if departure is not None:
            undertaking = self.undertakings.get(departure.claimant)
            if undertaking is not None:
                undertaking.departures.discard(key)
                self._drop_empty(undertaking)
        for backoffs in (self._quarantined, self.barred, self.spared):
            backoffs.forget(key)

    # --- starts -------------------------------------------------------------------------------------------------

    def open(self, start: Start) -> None:
        """A start is decided."""
        self.starts[start.key] = start
        undertaking = self.undertakings.get(start.unit)
        if undertaking is None:
            undertaking = self.undertakings[start.unit] = Undertaking(start.unit)
        elif not undertaking.waits:  # what was decided before is on its way: this has a deadline of its own
            undertaking.deadline, undertaking.attaching = None, False
        undertaking.starts.append(start)
        self._waiting[start.unit] = undertaking

    def close(self, start: Start) -> None:
        """A start is over, one way or the other."""
        if self.starts.get(start.key) is start:
            del self.starts[start.key]
        undertaking = self.undertakings.get(start.unit)
        if undertaking is not None:
            undertaking.starts.remove(start)
            self._drop_empty(undertaking)

    def depart(self, departure: Departure) -> None:
        """An eviction is decided."""
        self.departures[departure.key] = departure
        undertaking = self.undertakings.setdefault(departure.claimant, Undertaking(departure.claimant))
        undertaking.departures.add(departure.key)

    def stay(self, departure: Departure) -> None:
        """An eviction is given up: the pod stays."""
        self.departures.pop(departure.key, None)
        undertaking = self.undertakings.get(departure.claimant)
        if undertaking is not None:
            undertaking.departures.discard(departure.key)
            self._drop_empty(undertaking)

    def _drop_empty(self, undertaking: Undertaking) -> None:
        """Nothing is left of an undertaking: the next one of its unit has a deadline of its own."""
        if not undertaking.starts and not undertaking.departures:
            del self.undertakings[undertaking.unit]
            self._waiting.pop(undertaking.unit, None)

    def is_wanted(self, departure: Departure) -> bool:
        """Whether anybody still waits for the room that an eviction would free."""
        undertaking = self.undertakings.get(departure.claimant)
        return (
            self.departures.get(departure.key) is departure
            and undertaking is not None
            and departure.key in undertaking.departures
            and (bool(undertaking.starts) or departure.for_nobody)
        )

    def dissolve(self, undertaking: Undertaking) -> None:
        """Nobody waits for its departures any more; those that were accepted go all the same."""
        if self.undertakings.get(undertaking.unit) is undertaking:
            del self.undertakings[undertaking.unit]
            self._waiting.pop(undertaking.unit, None)
        if undertaking.starts:  # on their way: they end as starts without a plan
            self.undertakings[undertaking.unit] = Undertaking(undertaking.unit, [*undertaking.starts])

    def waiting(self) -> Iterable[Undertaking]:
        """Undertakings that wait for room."""
        self._waiting = {unit: each for unit, each in self._waiting.items() if each.waits}
        return [*self._waiting.values()]

    # --- what is left alone for a while -------------------------------------------------------------------------

    def refuse(self, key: PodKey, uid: str, message: str, *, now: float, first: float) -> float:
        """Set a pod aside for the next time; returns for how many seconds."""
        return self._quarantined.refused(key, uid, message, now=now, first=first)

    def releasable(self, now: float) -> list[PodKey]:
        """Waiting pods whose quarantine or bar is over; it holds them no more."""
        return [*self._quarantined.over(now), *self.barred.over(now)]

    def next_release(self) -> float | None:
        """When the next pod is left alone no longer, whatever it was left alone for."""
        ends = [backoffs.next_over() for backoffs in (self._quarantined, self.barred, self.spared)]
        return min((end for end in ends if end is not None), default=None)

    def refusal(self, key: PodKey) -> tuple[str, int, float] | None:
        """Why a pod is in quarantine: the server's message, how often it refused, and until when."""
        return self._quarantined.why(key)

    @property
    def in_quarantine(self) -> int:
        """How many pods are set aside."""
        return len(self._quarantined)
