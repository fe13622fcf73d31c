"""The binder: turns starts into Bindings, many at once, and says what became of each.

Every Binding carries the pod's uid, and the API server refuses a second one, so the same Binding may be sent again
after an answer was lost. Outcomes are classed by what the loop does next:

- BOUND: wait for the watch to show it;
- GONE: there is no such pod any more: forget the start;
- REFUSED: the server will not have it (admission, rights, validation): set the pod aside;
- FAILED: the server could not be reached for long: forget the start, try again later;
- DOUBTFUL: it may stand on a node all the same (an answer was lost, or the pod is bound already): count it there until
  it has been read. To forget it at once would give its room, and its tenant's limit, away a second time.

What it must never do: decide. Order is kept: pods of one unit are taken one after the other by free connections.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final, Protocol

from allotment_kube.errors import (
    ApiError,
    ConflictError,
    LeadershipLostError,
    NotFoundError,
    RetryError,
    ThrottledError,
    UnreachableError,
)
from allotment_kube.retries import Backoff
from allotment_scheduler.shell.ledger import Start

_logger = logging.getLogger(__name__)
_ATTEMPTS: Final = 6
_LONGEST_WAIT: Final = 30.0  # seconds that a server may ask for; a proxy that names an hour would hold the room as long
_BACKOFF: Final = Backoff(first=0.2, limit=5.0)


class Outcome(Enum):
    """What became of a Binding."""

    BOUND = "bound"
    GONE = "gone"
    REFUSED = "refused"
    FAILED = "failed"
    DOUBTFUL = "doubtful"


class BindingClient(Protocol):
    """What the binder needs of a client."""

    async def bind(self, namespace: str, pod: str, *, uid: str, node: str) -> None:
        """Bind a pod to a node, provided it still is the pod of that uid."""


Report = Callable[[Start, Outcome, str, float], None]
"""Start, outcome, the server's message, seconds it took."""


class Binder:
    """Sends Bindings.

    Args:
        client: guarded by the Lease.
        connections: Bindings on their way at once.
        report: told what became of each.
        jitter: seconds to wait after failure number n, counted from 0.
    """

    def __init__(
        self,
        client: BindingClient,
        *,
        connections: int,
        report: Report,
        jitter: Callable[[int], float],
    ) -> None:
        self._client = client
        self._connections = connections
        self._report = report
        self._jitter = jitter
        self._queue: deque[Start] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._below = 0
        self._drained = asyncio.Event()

    def __len__(self) -> int:
        return len(self._queue)

    def send(self, starts: Iterable[Start]) -> None:
        """Queue Bindings, in this order."""
        for start in starts:
            self._queue.append(start)
            while self._idle:
                waiter = self._idle.popleft()
                if not waiter.done():
                    waiter.set_result(None)
                    break

    async def drained(self, *, below: int) -> None:
        """Wait until fewer than this many Bindings wait for a connection."""
        if len(self._queue) >= below:
            self._below, self._drained = below, asyncio.Event()
            await self._drained.wait()

    async def run(self) -> None:
        """Send until cancelled. Ends by itself only when leadership is lost."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._connections):
                group.create_task(self._work(), name=f"binder {number}")

    async def _work(self) -> None:
        queue = self._queue
        loop = asyncio.get_running_loop()
        while True:
            if not queue:
                waiter = loop.create_future()
                self._idle.append(waiter)
                await waiter
                continue
            start = queue.popleft()
            if len(queue) < self._below:
                self._drained.set()
            began = time.monotonic()
            outcome, message = await self._bind(start)
            self._report(start, outcome, message, time.monotonic() - began)

    async def _bind(self, start: Start) -> tuple[Outcome, str]:
        namespace, name = start.key
        message, lost, pause = "", False, 0.0
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(pause)
            try:
                await self._client.bind(namespace, name, uid=start.uid, node=start.node)
            except ConflictError as error:
                # Also the answer where an earlier attempt of ours got through: the watch will tell.
                return (Outcome.BOUND if lost else Outcome.DOUBTFUL), str(error)
            except NotFoundError as error:
                return Outcome.GONE, str(error)
            except RetryError as error:
                message = str(error)
                lost = lost or not isinstance(error, ThrottledError | UnreachableError)
                _logger.info("binding %s/%s to %s: %s", namespace, name, start.node, error)
                pause = max(min(error.after or 0.0, _LONGEST_WAIT), self._jitter(attempt))
            except LeadershipLostError:
                raise
            except ApiError as error:
                return (Outcome.DOUBTFUL if lost else Outcome.REFUSED), error.message
            else:
                return Outcome.BOUND, ""
        return (Outcome.DOUBTFUL if lost else Outcome.FAILED), message


def jitter_with(rng: random.Random) -> Callable[[int], float]:
    """Delays between attempts."""
    return lambda attempt: _BACKOFF.delay(attempt, rng)
