"""The pace of the API: whatever is asked, and by however many, answering takes but a part of the loop's time.

Every user has a budget of questions; nothing in that bounds what all users cost together, and they share one loop with
watches, decisions and the renewal of the Lease. So what answering costs is taken off one common credit that grows with
time. Where it is used up, answers wait in the order in which they came, until what is owed has been paid back.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

PART: Final = 0.2
"""Of the loop's time, in the long run."""
BURST: Final = 0.5
"""Seconds of the loop's time that may be used at once, after a pause."""


class Pace:
    """Credit for work on the loop.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._credit, self._at = BURST, clock()
        self._line = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for credit, then take off it what this costs; nobody must wait for anything inside."""
        async with self._line:
            await asyncio.sleep(max(-self._present() / PART, 0.0))
            with self.taken_off():
                yield

    @contextmanager
    def taken_off(self) -> Iterator[None]:
        """Take off the credit what this costs, without waiting: for what is done so often and no oftener."""
        began = self._clock()
        try:
            yield
        finally:
            took = self._clock() - began
            self._credit = max(self._present() - took, -BURST)  # nobody waits for more than that

    def _present(self) -> float:
        now = self._clock()
        self._credit = min(self._credit + (now - self._at) * PART, BURST)
        self._at = now
        return self._credit
