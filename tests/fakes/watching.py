"""The fake API server's watches: replay from a version, then follow, as lines."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fakes.api_server import FakeApiServer, Target
from fakes.faults import Fault, FaultPlan, Verb
from fakes.store import Change, event_line, selected

BOOKMARK_EVERY = 60.0


class CutError(Exception):
    """The connection breaks here."""


class Watching:
    """One open watch."""

    def __init__(self, server: FakeApiServer, target: Target, plan: FaultPlan, fault: Fault | None) -> None:
        self._server = server
        self._target = target
        self._plan = plan
        self._fault = fault
        self._revision = int(target.query.get("resourceVersion") or server.store.revision)
        self._told_before: list[bytes] = []
        # Where in the stream the fault strikes, so that it does not always hit the first event.
        self._patience = plan.number(4) if fault is not None else 0

    async def lines(self) -> AsyncIterator[bytes]:
        """The stream; ends in order after `timeoutSeconds`, or raises `CutError`."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + float(self._target.query.get("timeoutSeconds", "1800"))
        bookmark_at = loop.time() + BOOKMARK_EVERY
        store = self._server.store
        while True:
            # Also on the way: who is behind when history is dropped has missed something.
            if self._revision < store.compacted or self._fault is Fault.GONE:
                yield event_line("ERROR", {"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired"})
                return
            for change in store.since(self._revision):
                self._revision = change.revision
                for line in self._told(change):
                    async for piece in self._through_fault(line):
                        yield piece
            if self._fault is Fault.WATCH_CLOSED and self._patience < 0:
                return
            now = loop.time() + 0.001  # timers may fire a little early, also on virtual time
            if now >= min(ends_at, bookmark_at):
                async for piece in self._through_fault(self._bookmark()):
                    yield piece
                bookmark_at = loop.time() + BOOKMARK_EVERY
            if now >= ends_at:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(ends_at, bookmark_at)):
                    await store.wait()

    def _told(self, change: Change) -> list[bytes]:
        target = self._target
        if change.kind != target.kind:
            return []
        if target.namespace and change.object["metadata"].get("namespace") != target.namespace:
            return []
        labels, fields = target.query.get("labelSelector", ""), target.query.get("fieldSelector", "")
        is_in = change.type != "DELETED" and selected(change.object, labels, fields)
        was_in = change.previous is not None and selected(change.previous, labels, fields)
        if is_in:
            line = event_line("MODIFIED" if was_in else "ADDED", change.object)
        elif was_in:
            line = event_line("DELETED", change.object)
        else:
            return []
        if self._fault is Fault.WATCH_DUPLICATE:
            self._plan.injected[Verb.WATCH, Fault.WATCH_DUPLICATE] += 1
            # Not only the same event twice: an old one after a newer one is the harder case.
            self._told_before.append(line)
            return [line, self._told_before[self._plan.number(len(self._told_before))]]
        return [line]

    async def _through_fault(self, line: bytes) -> AsyncIterator[bytes]:
        self._patience -= 1
        if self._patience >= 0 or self._fault not in {Fault.WATCH_CUT, Fault.WATCH_SILENT}:
            yield line
            return
        if self._fault is Fault.WATCH_CUT:
            yield line[: self._plan.number(len(line))]
            raise CutError
        await asyncio.Event().wait()  # open, and dead

    def _bookmark(self) -> bytes:
        self._revision = max(self._revision, self._server.store.revision)
        resource = self._target.resource
        metadata = {"resourceVersion": str(self._revision), "creationTimestamp": None}
        return event_line("BOOKMARK", {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata})
