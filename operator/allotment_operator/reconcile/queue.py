"""A work queue of keys: each key once, never two workers on the same key, later when asked, slower after failures.

Events only say *which* object to look at; what to do follows from looking. So a hundred events for one object are one
piece of work, and an event that arrives while its object is being worked on makes one more round afterwards.
This is client-go's rate-limited work queue, reduced to what one event loop needs, and shared: work that takes long
because somebody's own services do not answer must leave workers to the others.
"""

import asyncio
import heapq
from collections import Counter, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


CLOSE_ENOUGH = 1e-6
"""Seconds before its time at which a key counts as due: no timer is finer, and one that fires early would spin."""


class WorkQueue(Generic[Key]):
    """Keys to be worked on, by the time at which they are due.

    Invariants: a key is in ``_due`` exactly while it waits; a key in ``_active`` is never handed out; a key added while
    active is handed out again once it is done; of one party at most ``_most`` keys are active. A key that is due while
    its party has so many is parked, and goes back onto the heap when one of them is done. Where keys are parked, a key
    of that party is active: it frees one as it ends, and the last frees all, for a key may have changed its party.

    Args:
        clock: seconds, monotonic; the event loop's own by default.
        base: first delay after a failure, in seconds; doubles with each further one.
        ceiling: largest such delay, in seconds.
    """

    def __init__(self, *, clock: Callable[[], float] | None = None, base: float = 0.5, ceiling: float = 120.0) -> None:
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._base, self._ceiling = base, ceiling
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._sequence = 0
        self._active: dict[Key, str] = {}
        self._party: Callable[[Key], str] = lambda _: ""
        self._most = 0
        self._late: Callable[[float], None] = lambda _: None
        self._working: Counter[str] = Counter()
        self._parked: dict[str, deque[tuple[float, int, Key]]] = {}
        self._again: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._changed = asyncio.Event()

    def share(self, party: Callable[[Key], str], *, most: int) -> None:
        """Hand out at most so many keys of one party at a time; keys of the party "" are not counted."""
        self._party, self._most = party, most

    def tell_lateness(self, late: Callable[[float], None]) -> None:
        """Tell of each key that is handed out how many seconds after its time that is."""
        self._late = late

    def __len__(self) -> int:
        return len(self._due) + len(self._again)

    def add(self, key: Key, *, after: float = 0.0) -> None:
        """Ask for the key to be worked on, ``after`` seconds from now at the latest."""
        due = self._clock() + after
        if key in self._active:
            self._again[key] = min(due, self._again.get(key, due))
            return
        if due >= self._due.get(key, float("inf")):
            return
        self._due[key] = due
        self._sequence += 1
        heapq.heappush(self._heap, (due, self._sequence, key))
        self._changed.set()

    async def take(self) -> Key:
        """Wait for the next key that is due; the caller must end its work with done or failed."""
        while True:
            delay = self._pop_stale()
            if delay is not None and delay <= CLOSE_ENOUGH:
                entry = heapq.heappop(self._heap)
                key, party = entry[2], self._party(entry[2])
                if party and self._working[party] >= self._most:
                    self._parked.setdefault(party, deque()).append(entry)
                    continue
                del self._due[key]
                self._late(max(0.0, self._clock() - entry[0]))
                self._active[key] = party
                self._working[party] += 1
                return key
            self._changed.clear()
            try:
                async with asyncio.timeout(delay):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, key: Key, *, again_after: float | None = None) -> None:
        """End the work on a key well; optionally look at it again after so many seconds."""
        self._failures.pop(key, None)
        self._finish(key, again_after)

    def failed(self, key: Key) -> float:
        """End the work on a key badly: it comes back after a delay, which is returned, in seconds.

        An event shortens the delay, as in client-go: a user who has mended a spec does not wait for the backoff.
        """
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(self._ceiling, self._base * 2.0 ** min(failures, 60))  # a float overflows at 1024
        self._finish(key, delay)
        return delay

    def forget(self, key: Key) -> None:
        """Drop a key that is gone: no more rounds, no memory of failures."""
        self._due.pop(key, None)
        self._again.pop(key, None)
        self._failures.pop(key, None)

    def _finish(self, key: Key, after: float | None) -> None:
        if key in self._active:
            self._give_back(self._active.pop(key))
        asked = self._again.pop(key, None)
        if asked is not None:
            self.add(key, after=max(0.0, asked - self._clock()))
        if after is not None:
            self.add(key, after=after)

    def _give_back(self, party: str) -> None:
        """Count one key of the party less, and let its next one go on: all of them where nobody is left to do so."""
        self._working[party] -= 1
        last = not self._working[party]
        if last:
            del self._working[party]
        parked = self._parked.get(party, deque())
        while parked:
            entry = parked.popleft()
            if self._due.get(entry[2]) == entry[0]:
                heapq.heappush(self._heap, entry)
                self._changed.set()
                if not last:
                    break
        if not parked:
            self._parked.pop(party, None)

    def _pop_stale(self) -> float | None:
        """Drop heap entries that were superseded; return seconds until the first due key, None when there is none."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] - self._clock() if self._heap else None
