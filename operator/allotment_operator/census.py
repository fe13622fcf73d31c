"""Counts heads: lists every kind at the start and at every resync, so that no lost event is lost for good.

A watch can miss the end of an object (its finalizer was taken by hand while the connection was down), and kopf, which
keeps no list of its own, would then never tell. What the census no longer finds is forgotten; what it finds new is
queued.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from allotment_api.labels import API_VERSION
from allotment_kube.client import Client
from allotment_kube.errors import ApiError, NotFoundError
from allotment_operator.kind import Key
from allotment_operator.reconcile.engine import Engine
from allotment_operator.reconcile.queue import WorkQueue

_logger = logging.getLogger(__name__)


class Census:
    """Lists all kinds.

    Args:
        client: with the operator's own rights.
        engine: is told what there is.
        queue: gets the keys that are new.
        kinds: names of the kinds.
        sleep: waits some seconds.
    """

    def __init__(
        self,
        client: Client,
        engine: Engine,
        queue: WorkQueue[Key],
        *,
        kinds: Iterable[str],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._engine = engine
        self._queue = queue
        self._kinds = tuple(kinds)
        self._sleep = sleep

    async def take(self) -> int:
        """List every kind; returns how many resources were found.

        Raises:
            ApiError: a list failed. Kinds listed before it were taken in.
        """
        return sum([await self._take(kind) for kind in self._kinds])

    async def run(self, period: float) -> None:
        """Repeat every so many seconds; a list that fails is tried again next time."""
        while True:
            await self._sleep(period)
            try:
                await self.take()
            except ApiError as error:
                _logger.warning("the census failed: %s", error)

    async def _take(self, kind: str) -> int:
        before = set(self._engine.known(kind))
        try:
            resource = await self._client.discover(API_VERSION, kind)
            found = await self._client.list(resource)
        except NotFoundError:
            found = []  # its definition is not installed, or not any more
        present = set()
        for manifest in found:
            metadata = manifest["metadata"]
            key = Key(kind, metadata.get("namespace", ""), metadata["name"])
            present.add(key)
            self._engine.saw(key, {"apiVersion": API_VERSION, "kind": kind, **manifest})
            if key not in before:
                self._queue.add(key)
        for key in before - present:
            self._engine.saw(key, None)
            self._queue.forget(key)
        return len(found)
