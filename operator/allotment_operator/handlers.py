"""The seam to kopf, which watches our kinds, holds their finalizer, and repeats deletions until they are done.

Nothing is decided here. An event only says which key to look at; a deletion drives `Engine.release` and waits, by
`TemporaryError`, for as long as something is left. kopf finds and repeats it after a restart, because the finalizer is
still there.

What kopf writes (verified in 1.45.2): one JSON patch to add and one to remove the finalizer, both tested against the
resource version; during a deletion one merge patch of annotations per attempt. Its copy of the last handled state,
which would double every object's size, is switched off (`NoDiff`): level-triggered rounds need no difference.

It must never index (quadratic in the number of objects) and never put a finalizer on a kind that is not ours.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, MutableMapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final
from weakref import WeakValueDictionary

import kopf

from allotment_api.labels import FINALIZER, GROUP, VERSION
from allotment_api.resource import Definition
from allotment_kube.errors import KubernetesError
from allotment_kube.program import logs
from allotment_operator.kind import Key, ServiceRefusedError, ServiceUnavailableError
from allotment_operator.login import Login
from allotment_operator.reconcile.engine import Engine
from allotment_operator.reconcile.queue import WorkQueue
from allotment_operator.workers import share_of

_logger = logging.getLogger(__name__)

FIRST_RETRY: Final = 1.0
LAST_RETRY: Final = 8.0
"""Seconds between looks at a deletion; half as long again each time."""
EXIT_SECONDS: Final = 25.0
"""After so long a hanging shutdown is killed: within the pod's 30 s of grace, so that the log tells of it."""


class NoDiff(kopf.DiffBaseStorage):
    """Stores no copy of the last handled state: every state counts as handled."""

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Return the present state."""
        return self.build(body=body)

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Write nothing."""


def kopf_settings() -> kopf.OperatorSettings:
    """Return kopf's settings: our names, patience that suits an operator, nothing posted by itself."""
    settings = kopf.OperatorSettings()
    settings.process.ultimate_exiting_timeout = EXIT_SECONDS
    settings.peering.standalone = True  # one of us works at a time by our own Lease
    settings.posting.enabled = False  # our own Events are aggregated and limited
    settings.persistence.finalizer = FINALIZER
    settings.persistence.diffbase_storage = NoDiff()
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP, v1=False)
    settings.watching.inactivity_timeout = 70.0  # the API server sends a bookmark a minute
    settings.watching.connect_timeout = 10.0
    settings.watching.chunk_size = 500
    settings.networking.request_timeout = 30.0
    settings.networking.connect_timeout = 10.0
    settings.networking.error_backoffs = (0.5, 1, 2, 4, 8)
    settings.queueing.error_delays = (1, 2, 5, 10, 20, 30)
    settings.execution.default_backoff = LAST_RETRY
    return settings


class Handlers:
    """Connects kopf's events and deletions with the engine.

    Args:
        engine: does the work.
        queue: where keys wait for a round.
        concurrency: how many deletions are driven at once.
        changed: told of every event about a resource that is more than a new status.
    """

    def __init__(
        self,
        engine: Engine,
        queue: WorkQueue[Key],
        *,
        concurrency: int = 16,
        changed: Callable[[Key], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._queue = queue
        self._changed = changed
        self._places = asyncio.Semaphore(concurrency)
        self._most = share_of(concurrency)
        self._shares: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._marks: dict[Key, object] = {}

    def register(self, kinds: Iterable[Definition], *, login: Login) -> kopf.OperatorRegistry:
        """Return a registry of kopf with our handlers for these kinds."""
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(login)
        for kind in kinds:
            where = (GROUP, VERSION, kind.plural)
            kopf.on.event(*where, id="event", registry=registry)(self._on_event(kind.kind))
            kopf.on.delete(*where, id="release", registry=registry)(self._on_delete(kind.kind))
        return registry

    def saw(self, kind: str, event: MutableMapping[str, Any]) -> None:
        """Take in one event of kopf's watch: type None is the first list."""
        manifest: dict[str, Any] = event["object"]
        metadata = manifest["metadata"]
        key = Key(kind, metadata.get("namespace", ""), metadata["name"])
        if event["type"] == "DELETED":
            self._engine.saw(key, None)
            self._queue.forget(key)
            self._marks.pop(key, None)
            self._changed(key)
            return
        self._engine.saw(key, manifest)
        mark = _mark(metadata)
        if self._marks.get(key) != mark:  # a status alone is our own doing
            self._marks[key] = mark
            self._queue.add(key)
            self._changed(key)

    async def release(self, key: Key, *, attempt: int) -> None:
        """Drive a deletion one step further.

        Raises:
            kopf.TemporaryError: something is left; look again after the delay.
        """
        delay = min(LAST_RETRY, FIRST_RETRY * 1.5 ** min(attempt, 10))
        async with self._share_of(key), self._places:
            with logs.fields(kind=key.kind, namespace=key.namespace, name=key.name, tenant=self._engine.tenant_of(key)):
                try:
                    left = await self._engine.release(key)
                except (KubernetesError, ServiceRefusedError, ServiceUnavailableError) as error:
                    logs.event(_logger, "release failed", level=logging.WARNING, attempt=attempt, error=str(error))
                    raise kopf.TemporaryError(str(error), delay=delay) from error
                except Exception as error:
                    _logger.exception("release failed by a fault of the operator")
                    raise kopf.TemporaryError(f"{type(error).__name__}: {error}", delay=LAST_RETRY) from error
                if left is not None:
                    level = logging.INFO if attempt == 0 else logging.DEBUG
                    logs.event(_logger, "release waits", level=level, attempt=attempt, waits_for=left)
                    raise kopf.TemporaryError(left, delay=delay)
                self._queue.forget(key)
                logs.event(_logger, "released", attempts=attempt + 1)

    def _share_of(self, key: Key) -> AbstractAsyncContextManager[None]:
        """Return the places that a tenant's deletions may take of all: one may wait long for a service's answer."""
        tenant = self._engine.tenant_of(key)
        return self._shares.setdefault(tenant, asyncio.Semaphore(self._most)) if tenant else nullcontext()

    def _on_event(self, kind: str) -> Callable[..., Any]:
        async def event(event: MutableMapping[str, Any], **_: Any) -> None:  # noqa: ANN401 - kopf's signature
            self.saw(kind, event)

        return event

    def _on_delete(self, kind: str) -> Callable[..., Any]:
        async def release(name: str, namespace: str | None, retry: int, **_: Any) -> None:  # noqa: ANN401 - kopf's
            await self.release(Key(kind, namespace or "", name), attempt=retry)

        return release


def _mark(metadata: MutableMapping[str, Any]) -> object:
    """Return what changes when there is something to do: all but the status, and kopf's own notes."""
    annotations = {
        name: value
        for name, value in (metadata.get("annotations") or {}).items()
        if name not in {f"{GROUP}/release", f"{GROUP}/touch-dummy"}
    }
    return (
        metadata.get("uid"),
        metadata.get("generation"),
        metadata.get("deletionTimestamp"),
        tuple(metadata.get("finalizers") or ()),
        tuple(sorted((metadata.get("labels") or {}).items())),
        tuple(sorted(annotations.items())),
    )


class QuietRetries(logging.Filter):
    """Drops kopf's error lines about deletions that only wait: `Handlers.release` tells of them once."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a record is worth a line."""
        return "failed temporarily" not in record.getMessage()
