"""Errands: what runs beside the turns, such as a request to the API server whose answer no turn waits for.

A fault in one is counted and told, and ends nothing else; only the loss of the Lease ends everything.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from allotment_kube.errors import LeadershipLostError

_logger = logging.getLogger(__name__)


class Errands:
    """Runs errands in a task group.

    Args:
        group: lives as long as we lead.
        failed: told of each errand that failed by a fault of ours.
    """

    def __init__(self, group: asyncio.TaskGroup, failed: Callable[[], None]) -> None:
        self._group = group
        self._failed = failed

    def send(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run something beside the turns."""
        return self._group.create_task(self._run(work, name), name=name)

    async def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await work
        except LeadershipLostError:
            raise
        except Exception:
            _logger.exception("%s failed", name)
            self._failed()
