"""Freshness: before its first cycle, a new leader has seen everything that its predecessor did.

A standby's watch may lag: it was cut and waits to be opened again, or it is dead and nobody has noticed. By such a
picture a tenant's pods would be started that its limit no longer allows, because the predecessor's last Bindings or the
limit itself are not in it; a device would be given twice, because a claim is not. So a new leader, once nobody else
writes any more, asks for each kind for the cluster's present version (a consistent list of one object) and waits until
its watch has told everything up to it.

A quiet watch tells no version. Whether it has missed anything is seen by a second, short watch from the version it
stands at: that one ends with a bookmark, and nothing before the bookmark means that nothing was missed. Where such
probes stay open, a watch that has missed something does not tell it soon, or it stands at a version that the API server
does not keep any more, everything is listed anew.

None of this is needed where the Lease was free before the first lists began, and nobody has held it since: then there
is no predecessor whose last writes these could lack (`Lease.unheld`).

It must never take silence for peace: where this cannot be found out, it waits, says so, and tries again.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final, Protocol

from allotment_kube.client import Client
from allotment_kube.errors import ApiError, ForbiddenError, GoneError, NotFoundError
from allotment_kube.models import Resourced
from allotment_kube.resources import Resource
from allotment_kube.watch import WatchSettings, watch

_PROBE: Final = WatchSettings(server_timeout=3.0, silence=10.0, connect_timeout=5.0)
"""The API server sends a bookmark two seconds before a watch ends, so at least three are needed for one."""
_OPEN_PROBES: Final = 2
"""So many in a row that end without an answer are enough."""
_PATIENCE: Final = 5.0
"""Seconds in which a watch must tell what it is known to have missed."""
_LOOK: Final = 0.05
_PAUSE: Final = 0.5
_LONGEST: Final = 300


class Watched(Protocol):
    """What is needed of a reflector."""

    @property
    def resource(self) -> Resource[Any]:
        """The kind."""

    @property
    def resource_version(self) -> str:
        """The version up to which everything has been told; empty while a list is due."""

    def relist(self) -> None:
        """List anew."""


class _Unjittered(random.Random):
    """A probe is to end soon, and there is only one of it."""

    def random(self) -> float:
        return 0.0


async def caught_up(client: Client, watched: Watched, hindered: Callable[[str], None], *, optional: bool) -> None:
    """Wait until a watch has told everything that the API server knew when this was called.

    Args:
        client: asks the API server.
        watched: the watch.
        hindered: told, in words, what this waits for if it takes longer than it should.
        optional: whether there is nothing to wait for once the API server does not serve the kind any more.
    """
    probes = 0
    while True:
        try:
            # Asked each time: where the cluster was restored from a backup meanwhile, it goes back.
            target = await present(client, watched.resource)
            needed = await _needed(client, watched, target)
        except GoneError:
            watched.relist()  # where it stands is so long ago that nobody can say what it has missed
        except ApiError as error:
            if optional and isinstance(error, NotFoundError):
                return
            hindered(obstacle(watched.resource, error))
        else:
            if needed is not None and await _reaches(watched, needed):
                return
            probes += needed is None
            hindered(_unanswered(probes, needed))
            if needed is not None or probes % _OPEN_PROBES == 0:
                watched.relist()
        await asyncio.sleep(_PAUSE)


def _unanswered(probes: int, needed: int | None) -> str:
    if needed is None:
        return f"whether its watch has missed anything is open after {probes} short watches beside it"
    return "its watch does not tell what it has missed: everything is listed anew"


async def present(client: Client, resource: Resource[Any]) -> int:
    """The cluster's version now: a list without one is consistent, however few objects it asks for.

    Raises:
        ApiError: the kind cannot be listed; `obstacle` says why in words.
    """
    async with aclosing(client.pages(resource.decoded_as(Resourced), page_size=1)) as pages:
        async for page in pages:
            return int(page.resource_version)
    raise AssertionError("a list has a page")


def obstacle(resource: Resource[Any], error: ApiError) -> str:
    """Why a kind cannot be listed or watched, and what to do about it where somebody must."""
    group = resource.group or '""'
    if isinstance(error, ForbiddenError):
        return f"forbidden: its role needs the verbs list and watch on {resource.plural} in the API group {group}"
    if isinstance(error, NotFoundError):
        return f"the API server does not serve {resource.plural} in {resource.api_version}: is the CRD installed?"
    return str(error)[:_LONGEST]


async def _needed(client: Client, watched: Watched, target: int) -> int | None:
    """The version that the watch must have told to have missed nothing up to `target`; None if that stays open."""
    if not await _reaches(watched, 1):
        return None
    if _told(watched) >= target:
        return 0
    missed = 0
    events = watch(
        client.transport,
        watched.resource.decoded_as(Resourced),  # of all kinds alike: only versions count
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


async def _reaches(watched: Watched, version: int) -> bool:
    """Whether a watch tells a version soon."""
    try:
        async with asyncio.timeout(_PATIENCE):
            while _told(watched) < version:  # noqa: ASYNC110 - a reflector has no event for this, and it is soon
                await asyncio.sleep(_LOOK)
    except TimeoutError:
        return False
    return True


def _told(watched: Watched) -> int:
    return int(watched.resource_version or 0)
