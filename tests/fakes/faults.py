"""What can go wrong between a client and the API server, drawn from a seed.

A plan gives every class of request its faults, by chance (`rates`) or one by one (`script`). The same seed and the same
sequence of requests give the same faults; `describe` names the seed for a failing test's message. `injected` counts
what really happened, so that a test can check that its faults took place.
"""

import random
from collections import Counter, deque
from collections.abc import Mapping
from enum import StrEnum


class Fault(StrEnum):
    """One way for a request to go wrong."""

    DROP_BEFORE = "connection lost before the server acted"
    DROP_AFTER = "connection lost after the server acted"
    REFUSED = "no connection"
    DELAY = "slow, on the way there or back"
    CONFLICT = "409 without cause"
    GONE = "410"
    THROTTLED = "429 with Retry-After"
    ERROR = "500 before the server acted"
    ERROR_AFTER = "500 after the server acted"
    UNAVAILABLE = "503"
    STALE = "answered from an old cache"
    WATCH_CUT = "watch cut in the middle of a line"
    WATCH_CLOSED = "watch closed in order, early"
    WATCH_SILENT = "watch open, but dead"
    WATCH_DUPLICATE = "events told again, late"


class Verb(StrEnum):
    """Classes of requests that get faults of their own."""

    GET = "get"
    LIST = "list"
    WATCH = "watch"
    CREATE = "create"
    REPLACE = "replace"
    PATCH = "patch"
    DELETE = "delete"
    BIND = "bind"
    EVICT = "evict"


WRITES = frozenset(Verb) - {Verb.GET, Verb.LIST, Verb.WATCH}
_ANY = frozenset({Fault.DROP_BEFORE, Fault.REFUSED, Fault.DELAY, Fault.THROTTLED, Fault.ERROR, Fault.UNAVAILABLE})
_WATCH = frozenset(
    {Fault.WATCH_CUT, Fault.WATCH_CLOSED, Fault.WATCH_SILENT, Fault.WATCH_DUPLICATE, Fault.GONE, Fault.DELAY}
)
POSSIBLE: Mapping[Verb, frozenset[Fault]] = {
    Verb.GET: _ANY,
    Verb.LIST: _ANY | {Fault.GONE, Fault.STALE},
    Verb.WATCH: (_ANY - {Fault.DROP_BEFORE}) | _WATCH,
    **{verb: _ANY | {Fault.DROP_AFTER, Fault.CONFLICT, Fault.ERROR_AFTER} for verb in WRITES},
}


class FaultPlan:
    """Draws the fault, if any, of each request."""

    def __init__(
        self,
        seed: int = 0,
        *,
        rate: float = 0.0,
        rates: Mapping[Verb, float] | None = None,
        only: frozenset[Fault] = frozenset(Fault),
        longest_delay: float = 5.0,
    ) -> None:
        self.seed = seed
        self.longest_delay = longest_delay
        self.injected: Counter[tuple[Verb, Fault]] = Counter()
        self.active = True
        self._rng = random.Random(seed)
        self._rates = {verb: (rates or {}).get(verb, rate) for verb in Verb}
        self._possible = {verb: sorted(POSSIBLE[verb] & only) for verb in Verb}
        self._scripted: dict[Verb, deque[Fault | None]] = {verb: deque() for verb in Verb}

    def script(self, verb: Verb, *faults: Fault | None) -> None:
        """Give the next requests of a class these faults, in order; None lets one pass."""
        for fault in faults:
            if fault is not None and fault not in POSSIBLE[verb]:
                raise ValueError(f"{verb} cannot suffer {fault.name}")
        self._scripted[verb].extend(faults)

    def stop(self) -> None:
        """No more faults, so that everything can settle."""
        self.active = False

    def draw(self, verb: Verb) -> Fault | None:
        """The fault of the next request of a class."""
        if self._scripted[verb]:
            fault = self._scripted[verb].popleft()
        elif self.active and self._possible[verb] and self._rng.random() < self._rates[verb]:
            fault = self._rng.choice(self._possible[verb])
        else:
            return None
        if fault is not None:
            self.injected[verb, fault] += 1
        return fault

    def delay(self) -> float:
        """How many seconds a delay lasts."""
        return self._rng.uniform(0.0, self.longest_delay)

    def number(self, limit: int) -> int:
        """A number below `limit`, such as where to cut."""
        return self._rng.randrange(limit)

    def describe(self) -> str:
        """The seed and what was injected, for the message of a failing test."""
        counts = ", ".join(f"{verb}/{fault.name} {count}" for (verb, fault), count in sorted(self.injected.items()))
        return f"fault seed {self.seed}: {counts or 'nothing injected'}"
