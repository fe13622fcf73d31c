"""Carries out a plan's lanes: parts that have nothing to do with each other, some of them at a time.

A build pool's twelve agents are twelve stories on a controller that may take a second an answer: one after another they
take twelve times as long, and the first that fails would hold up all behind it. So each runs in its own order, and its
failure is an answer like any other. Only what ends the whole program, the loss of the Lease, ends them all.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

from allotment_kube.errors import ApiError, KubernetesError

T = TypeVar("T")

WIDTH: Final = 8
"""Lanes of one resource that are under way at once: enough to hide what a service takes to answer, too few to drown
it or the API server in a burst."""


async def side_by_side(
    lanes: Mapping[str, T], run: Callable[[T], Awaitable[None]], *, width: int = WIDTH
) -> dict[str, Exception]:
    """Run every lane, at most ``width`` at once; return what went wrong in those that failed, by name.

    Raises:
        LeadershipLostError: nothing more may be written; lanes that were under way are cancelled.
    """
    places = asyncio.Semaphore(width)
    failures: dict[str, Exception] = {}

    async def lane(name: str, what: T) -> None:
        async with places:
            try:
                await run(what)
            except Exception as error:
                if isinstance(error, KubernetesError) and not isinstance(error, ApiError):
                    raise
                failures[name] = error

    try:
        async with asyncio.TaskGroup() as group:
            for name, what in lanes.items():
                group.create_task(lane(name, what), name=f"lane {name}")
    except ExceptionGroup as lost:
        raise lost.exceptions[0] from None
    return {name: failures[name] for name in lanes if name in failures}
