"""Freshness: before its first cycle, a new leader has seen everything that its predecessor did.

A standby's watch may lag: it was cut and waits to be opened again, or it is dead and nobody has noticed. By such a
picture a tenant's pods would be started that its limit no longer allows, because the predecessor's last Bindings are
not in it. So a new leader, once nobody else writes any more, asks for the cluster's present version (a consistent list
of one object) and waits until its watch has told everything up to it.

A quiet watch tells no version. Whether it has missed anything is seen by a second, short watch from the version it
stands at: that one ends with a bookmark, and nothing before the bookmark means that nothing was missed.

It must never take silence for peace: where this cannot be found out, it waits and tries again.
"""

import asyncio
import logging
import random
from contextlib import aclosing
from typing import Any, Final, Protocol

from allotment_kube.client import Client
from allotment_kube.errors import ApiError
from allotment_kube.resources import Resource
from allotment_kube.watch import WatchSettings, watch

_logger = logging.getLogger(__name__)
_PROBE: Final = WatchSettings(server_timeout=3.0, silence=10.0, connect_timeout=5.0)
"""The API server sends a bookmark two seconds before a watch ends, so at least three are needed for one."""
_LOOK: Final = 0.05
_PAUSE: Final = 0.5


class Watched(Protocol):
    """What is needed of a reflector."""

    @property
    def resource(self) -> Resource[Any]:
        """The kind."""

    @property
    def resource_version(self) -> str:
        """The version up to which everything has been told; empty while a list is due."""


class _Unjittered(random.Random):
    """A probe is to end soon, and there is only one of it."""

    def random(self) -> float:
        return 0.0


async def caught_up(client: Client, watched: Watched) -> None:
    """Wait until a watch has told everything that the API server knew when this was called."""
    target: int | None = None
    while True:
        try:
            if target is None:
                target = await _present(client, watched.resource)
            needed = await _needed(client, watched, target)
        except ApiError as error:
            _logger.info("whether %s are up to date cannot be told yet: %s", watched.resource, error)
            await asyncio.sleep(_PAUSE)
            continue
        if needed is not None:
            break
    await _reaches(watched, needed)


async def _present(client: Client, resource: Resource[Any]) -> int:
    """The cluster's version now: a list without one is consistent, however few objects it asks for."""
    async with aclosing(client.pages(resource, page_size=1)) as pages:
        async for page in pages:
            return int(page.resource_version)
    raise AssertionError("a list has a page")


async def _needed(client: Client, watched: Watched, target: int) -> int | None:
    """The version that the watch must have told to have missed nothing up to `target`; None if that stays open."""
    await _reaches(watched, 1)
    if _told(watched) >= target:
        return 0
    missed = 0
    events = watch(
        client.transport,
        watched.resource,
        watched.resource_version,
        settings=_PROBE,
        rng=_Unjittered(),
        on_undecodable=lambda _: None,
    )
    async with aclosing(events):
        async for batch in events:
            for event in batch:
                version = int(event.object.metadata.resource_version)
                if event.type != "BOOKMARK":
                    missed = min(version, target)
                if version >= target:
                    return missed
            if _told(watched) >= target:
                return 0
    return None


async def _reaches(watched: Watched, version: int) -> None:
    while _told(watched) < version:  # noqa: ASYNC110 - a reflector has no event for this, and it is soon
        await asyncio.sleep(_LOOK)


def _told(watched: Watched) -> int:
    return int(watched.resource_version or 0)
