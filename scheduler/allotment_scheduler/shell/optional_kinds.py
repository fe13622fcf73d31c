"""Kinds that a cluster may do without: looked for until they are served and may be read, and watched while they are.

Absent they may be where that takes nothing from anybody but those who ask for them: without ResourceClaims no devices
are offered, and pods that name a PodGroup of scheduling.k8s.io wait. Kinds that only mean something together are there
together, and are watched in their order: devices are offered only once it is known which of them are given out.

A version may go with an upgrade of the API server. When it has stayed unserved for a while, the watches end and the
kinds are looked for again, in every version. What was known of their objects stays until new watches have listed them.

An absence is told: to whoever asks whether we are ready, and in the log, with the right that is missing.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from allotment_kube.client import Client
from allotment_kube.errors import ApiError, DeniedError, ForbiddenError, NotFoundError
from allotment_kube.program.server import Readiness
from allotment_kube.reflector import Key, Reflector
from allotment_kube.resources import Resource
from allotment_scheduler.shell.freshness import obstacle, present

_logger = logging.getLogger(__name__)
_UNSERVED_FOR: Final = 600.0
_FORBIDDEN_FOR: Final = 30.0
_AFTER_FAILURE: Final = 5.0
_LOOK: Final = 30.0
_LOOKS: Final = 3
"""So many times in a row a kind must be unserved to be gone: an API server that starts may not know it yet."""


class OptionalKinds:
    """Kinds that are there together, or not at all.

    Args:
        client: asks and watches.
        alternatives: versions in which they may be served, the best first.
        reflect: makes the watch of a kind.
        readiness: told of what is awaited, and of what there is not.
        gone: told of objects that are there no more when a kind is found again.
        dispensable: whether a leader may decide by what it knew of them, once they must not be read any more.
    """

    def __init__(
        self,
        client: Client,
        alternatives: Sequence[Sequence[Resource[Any]]],
        reflect: Callable[[Resource[Any]], Reflector[Any]],
        readiness: Readiness,
        gone: Callable[[Resource[Any], Key], None],
        *,
        dispensable: bool = False,
    ) -> None:
        self.watches: dict[str, Reflector[Any]] = {}
        """Their watches by name; none before they were found."""
        self.dispensable = dispensable
        self._gone = gone
        self._left: dict[str, set[Key]] = {}
        """What watches that have ended knew."""
        self.lost = False
        """Whether their watches have ended, and they have not been found again."""
        self.names = [str(resource) for resource in alternatives[0]]
        self._client = client
        self._alternatives = alternatives
        self._reflect = reflect
        self._readiness = readiness
        self._settled = asyncio.Event()
        for name in self.names:
            readiness.await_(name)

    async def settled(self) -> None:
        """Wait until they have been listed, or are known to be absent."""
        await self._settled.wait()

    async def run(self) -> None:
        """Look for them, then watch, until cancelled."""
        while True:
            kinds = await self._found()
            self.lost = False
            async with asyncio.TaskGroup() as group:
                following = group.create_task(self._follow(kinds), name=f"follow {', '.join(self.names)}")
                await self._unserved(kinds)
                following.cancel()
            self.lost = True
            _logger.warning("%s are served in %s no more: looked for again", self.names[-1], kinds[-1].api_version)

    async def _follow(self, kinds: Sequence[Resource[Any]]) -> None:
        """Watch them, one after the other, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for resource in kinds:
                name = str(resource)
                if (ended := self.watches.get(name)) is not None:
                    self._left.setdefault(name, set()).update(ended.objects())
                reflector = self.watches[name] = self._reflect(resource)
                group.create_task(reflector.run(), name=f"watch {resource}")
                await reflector.synced()
                for key in self._left.pop(name, set()):
                    if key not in reflector:
                        self._gone(resource, key)
            self._settled.set()

    async def _unserved(self, kinds: Sequence[Resource[Any]]) -> None:
        """Wait until one of them has not been served for a while."""
        times, failures = 0, 0
        while times < _LOOKS:
            await asyncio.sleep(_LOOK)
            before, failures = failures, sum(watch.statistics.failures for watch in self.watches.values())
            if failures == before and not times:
                continue
            answers = [await self._why_not(kind) for kind in kinds]
            times = times + 1 if any(isinstance(it, NotFoundError) for it in answers) else 0

    async def _found(self) -> Sequence[Resource[Any]]:
        """Wait for the first alternative that is served and may be read as a whole."""
        while True:
            forbidden: dict[str, str] = {}
            for kinds in self._alternatives:
                errors = [(kind, error) for kind in kinds if (error := await self._why_not(kind)) is not None]
                if not errors:
                    return kinds
                forbidden |= {str(kind): obstacle(kind, it) for kind, it in errors if isinstance(it, ForbiddenError)}
            self._absent(forbidden)
            await asyncio.sleep(_FORBIDDEN_FOR if forbidden or self.lost else _UNSERVED_FOR)

    def _absent(self, forbidden: Mapping[str, str]) -> None:
        """There are none for now: they are not served, or must not be read."""
        for name in self.names:
            why = forbidden.get(name)
            if why is None:
                self._readiness.done(name)
            elif self._readiness.do_without(name, why):
                _logger.warning("the scheduler does without %s: %s", name, why)
        self._settled.set()

    async def _why_not(self, kind: Resource[Any]) -> ApiError | None:
        """Why a kind cannot be read; None if it can. Waits for an answer that tells."""
        while True:
            try:
                await self._discover(kind)
                await present(self._client, kind)
            except (NotFoundError, ForbiddenError) as error:
                return error
            except ApiError as error:
                watch = self.watches.get(str(kind))
                if not self._settled.is_set() and (watch is None or not watch.statistics.lists):
                    self._readiness.await_(str(kind), obstacle(kind, error))
                _logger.warning("whether there are %s cannot be told: %s", kind, error)
                await asyncio.sleep(_AFTER_FAILURE)
            else:
                return None

    async def _discover(self, kind: Resource[Any]) -> None:
        """Look whether it is served: without rights, a kind that is not served is forbidden like any other.

        Raises:
            NotFoundError: it is not served.
        """
        try:
            await self._client.discover(kind.api_version, kind.kind)
        except DeniedError:
            return  # then listing tells what can be told
