"""Workers: each takes a key, runs its round, and says when to look again. A failing round costs its own key only."""

import asyncio
import logging
import random
import time
from typing import Final
from uuid import uuid4

from allotment_kube.errors import ApiError, LeadershipLostError
from allotment_kube.program import logs
from allotment_operator.kind import Key
from allotment_operator.metrics import Metrics
from allotment_operator.reconcile.engine import Engine
from allotment_operator.reconcile.queue import WorkQueue

_logger = logging.getLogger(__name__)

JITTER: Final = 0.1
"""Resources that were looked at together drift apart by this fraction, so that a resync is no burst."""
SLOW_SECONDS: Final = 5.0
"""A round that takes longer is logged with a warning."""


SHARE: Final = 4
"""One tenant's rounds hold at most one worker of so many: a service that answers slowly, or never, holds its worker for
up to minutes, and must not hold those of other tenants' rounds."""


def share_of(count: int) -> int:
    """Return how many of so many workers one tenant's rounds may hold."""
    return max(1, count // SHARE)


class Workers:
    """Runs rounds, several at a time, never two for the same key.

    Args:
        engine: runs one round.
        queue: hands out keys.
        metrics: counts.
        rng: for jitter.
    """

    def __init__(self, engine: Engine, queue: WorkQueue[Key], *, metrics: Metrics, rng: random.Random) -> None:
        self._engine = engine
        self._queue = queue
        self._metrics = metrics
        self._rng = rng

    async def run(self, count: int) -> None:
        """Work until cancelled, a quarter of the workers at most for one tenant.

        Raises:
            LeadershipLostError: another operator may be at work; nothing more may be written.
        """
        self._queue.share(self._engine.tenant_of, most=share_of(count))
        self._queue.tell_lateness(self._metrics.waited)
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(self._work(), name=f"worker {number}")

    async def _work(self) -> None:
        while True:
            await self.once(await self._queue.take())

    async def once(self, key: Key) -> None:
        """Run one round for a key that was taken, and give it back to the queue."""
        started = time.perf_counter()
        tenant = self._engine.tenant_of(key)
        identity = uuid4().hex[:12]
        with logs.fields(kind=key.kind, namespace=key.namespace, name=key.name, tenant=tenant, round=identity):
            try:
                again = await self._engine.reconcile(key)
            except (asyncio.CancelledError, LeadershipLostError):
                self._queue.done(key)
                raise
            except Exception as error:  # noqa: BLE001 - one resource's failure must not reach the others
                self._failed(key, error, time.perf_counter() - started)
                return
            if again is not None:
                again *= 1 + JITTER * (2 * self._rng.random() - 1)
            self._queue.done(key, again_after=again)
            seconds = time.perf_counter() - started
            self._metrics.round(key.kind, result="done", seconds=seconds)
            level = logging.WARNING if seconds > SLOW_SECONDS else logging.DEBUG
            wait = None if again is None else round(again, 1)
            logs.event(_logger, "round done", level=level, seconds=round(seconds, 3), again_after=wait)

    def _failed(self, key: Key, error: Exception, seconds: float) -> None:
        delay = self._queue.failed(key)
        expected = isinstance(error, ApiError)
        reason = (error.reason if isinstance(error, ApiError) else "") or type(error).__name__
        self._metrics.round(key.kind, result="failed", seconds=seconds)
        self._metrics.failed(key.kind, reason)
        logs.event(
            _logger,
            "round failed",
            level=logging.WARNING if expected else logging.ERROR,
            seconds=round(seconds, 3),
            error=str(error),
            reason=reason,
            again_after=round(delay, 1),
        )
        if not expected:
            _logger.error("the fault in full", exc_info=error)
