"""Kinds that a cluster may do without: looked for until they are served and may be read, and watched from then on.

Absent they may be where that takes nothing from anybody but those who ask for them: without ResourceClaims no devices
are offered, and pods that name a PodGroup of scheduling.k8s.io wait. Kinds that only mean something together are there
together, and are watched in their order: devices are offered only once it is known which of them are given out.

An absence is told: to whoever asks whether we are ready, and in the log, with the right that is missing.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from allotment_kube.client import Client
from allotment_kube.errors import ApiError, DeniedError, ForbiddenError, NotFoundError
from allotment_kube.program.server import Readiness
from allotment_kube.reflector import Reflector
from allotment_kube.resources import Resource
from allotment_scheduler.shell.freshness import obstacle, present

_logger = logging.getLogger(__name__)
_UNSERVED_FOR: Final = 600.0
_FORBIDDEN_FOR: Final = 30.0
_AFTER_FAILURE: Final = 5.0


class OptionalKinds:
    """Kinds that are there together, or not at all.

    Args:
        client: asks and watches.
        alternatives: versions in which they may be served, the best first.
        reflect: makes the watch of a kind.
        readiness: told of what is awaited, and of what there is not.
    """

    def __init__(
        self,
        client: Client,
        alternatives: Sequence[Sequence[Resource[Any]]],
        reflect: Callable[[Resource[Any]], Reflector[Any]],
        readiness: Readiness,
    ) -> None:
        self.reflectors: list[Reflector[Any]] = []
        """Their watches; none while they are absent."""
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
        async with asyncio.TaskGroup() as group:
            for resource in await self._found():
                reflector = self._reflect(resource)
                self.reflectors.append(reflector)
                group.create_task(reflector.run(), name=f"watch {resource}")
                await reflector.synced()
            self._settled.set()

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
            await asyncio.sleep(_FORBIDDEN_FOR if forbidden else _UNSERVED_FOR)

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
                if not self._settled.is_set():
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
