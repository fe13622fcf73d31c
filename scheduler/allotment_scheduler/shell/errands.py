"""Errands: what runs beside the turns, such as a request to the API server whose answer no turn waits for.

A fault in one is counted and told, and ends nothing else; only the loss of the Lease ends everything. Of each kind only
so many run at a time: a slow webhook, say, must not come to hold every connection that there is.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import Any, Final

from allotment_kube.errors import LeadershipLostError

_logger = logging.getLogger(__name__)
AT_ONCE: Final = 16
"""Errands of one kind that run at a time."""


class Errands:
    """Runs errands in a task group.

    Args:
        group: lives as long as we lead.
        failed: told of each errand that failed by a fault of ours.
    """

    def __init__(self, group: asyncio.TaskGroup, failed: Callable[[], None]) -> None:
        self._group = group
        self._failed = failed
        self._slots: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))

    def send(self, work: Coroutine[Any, Any, None], kind: str, about: object) -> None:
        """Run something short, such as one request, as soon as few others of its kind are running."""
        self.begin(self._in_turn(work, kind), f"{kind} of {about}")

    def begin(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run something that may take long, and bounds its requests by itself."""
        return self._group.create_task(self._run(work, name), name=name)

    async def _in_turn(self, work: Coroutine[Any, Any, None], kind: str) -> None:
        try:
            await self._slots[kind].acquire()
        except BaseException:
            work.close()
            raise
        try:
            await work
        finally:
            self._slots[kind].release()

    async def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await work
        except LeadershipLostError:
            raise
        except Exception:
            _logger.exception("%s failed", name)
            self._failed()
