"""Orphans: pods whose Job does not exist, and which nobody need wait for.

A Job is there before its pods are, and its watch may still tell of it later. Waiting some time is no proof that it will
not: the watch may be dead, and a gang would start in pieces. So once a Job has been waited for, its watch is first made
to tell everything that there is by now (`freshness`); what it has not told then does not exist.

It must never give up pods of a Job that cannot be asked for: they wait for as long as that lasts.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from allotment_scheduler.shell.jobs import Jobs

_logger = logging.getLogger(__name__)
_PATIENCE: Final = 30.0
"""Seconds for which a watch that lags may just lag."""
_LOOK: Final = 1.0


class Orphans:
    """Looks after pods that wait for their Job.

    Args:
        jobs: whose pods they are.
        caught_up: waits until the watch of Jobs has told everything that exists when this is called.
    """

    def __init__(self, jobs: Jobs, caught_up: Callable[[], Awaitable[None]]) -> None:
        self._jobs = jobs
        self._caught_up = caught_up
        self._since: dict[str, float] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(_LOOK)
            overdue = self._overdue(asyncio.get_running_loop().time())
            if not overdue:
                continue
            await self._caught_up()
            try:
                self._jobs.adopt(overdue)
            except Exception:  # the state is built anew, as after any fault in it
                _logger.exception("pods whose Job does not exist cannot be taken in")

    def _overdue(self, now: float) -> list[str]:
        """Jobs, by uid, that have been waited for long enough to ask whether they exist."""
        self._since = {uid: self._since.get(uid, now) for uid in self._jobs.awaited}
        return [uid for uid, since in self._since.items() if now - since > _PATIENCE]
