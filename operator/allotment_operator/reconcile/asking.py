"""Talks with a running service: each for a bounded time, and a silence is only believed when it lasts.

A broker that is busy, or a connection that is lost on its way, costs one question. Whoever reads ``Ready`` acts upon
it, so a service that served a moment ago is asked again before it is called silent. The answer is never an older one:
a plan that takes a node down goes by it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from allotment_operator.kind import ServiceUnavailableError
from allotment_operator.plans.outcome import Health

T = TypeVar("T")

ANSWER_SECONDS: Final = 120.0
"""How long a service may take to be asked, or told, one thing. Its kind bounds each of its own requests; beyond this
the worker goes on to others, whatever holds it up."""
PAUSES: Final = (1.0, 4.0)
"""Seconds before each further question to a service that served and does not answer."""


async def in_time(talk: Awaitable[T]) -> T:
    """Wait for a talk with a service, and no longer than `ANSWER_SECONDS`.

    Raises:
        ServiceUnavailableError: it was not over by then.
    """
    limit = asyncio.timeout(ANSWER_SECONDS)
    try:
        async with limit:
            return await talk
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise ServiceUnavailableError(f"the service did not answer within {ANSWER_SECONDS:g} s") from error


async def ask(probe: Callable[[], Awaitable[Health | None]], *, served: bool) -> Health | None:
    """Return a service's health; ask again where it served before and does not answer now.

    Args:
        probe: one question.
        served: whether the last answer was that clients can use it.

    Raises:
        ServiceUnavailableError: all of it took longer than `ANSWER_SECONDS`.
    """

    async def until_it_answers() -> Health | None:
        health = await probe()
        for seconds in PAUSES if served else ():
            if health is None or not health.silent:
                break
            await asyncio.sleep(seconds)
            health = await probe()
        return health

    return await in_time(until_it_answers())
