"""What a standalone master says of itself: the JSON of its web interface (``/json/``).

Source: Spark's ``JsonProtocol.writeMasterState``: ``status``, ``aliveworkers``, ``cores``, ``coresused``.
"""

import json
from typing import Any, Protocol

import aiohttp

from allotment_operator.kind import ServiceUnavailableError
from allotment_operator.plans.outcome import Health

TIMEOUT_SECONDS = 5.0
LARGEST_ANSWER = 4 << 20
"""Bytes; the state of ten thousand workers has about 3 MiB."""

_NUMBERS = ("aliveworkers", "cores", "coresused")


class Master(Protocol):
    """A standalone master."""

    async def state(self, host: str, port: int) -> dict[str, Any]:
        """Return its state.

        Raises:
            ServiceUnavailableError: it does not answer, or not as a master does.
        """


class HttpMaster:
    """Asks masters over HTTP: their web interface is read-only and open to the tenant and the operator alone."""

    async def state(self, host: str, port: int) -> dict[str, Any]:
        """Return its state."""
        url = f"http://{host}:{port}/json/"
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)) as session,
                session.get(url, allow_redirects=False) as response,
            ):
                body = await response.content.read(LARGEST_ANSWER)
                while not response.content.at_eof() and len(body) < LARGEST_ANSWER:
                    body += await response.content.read(LARGEST_ANSWER - len(body))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ServiceUnavailableError(f"{url} does not answer: {type(error).__name__}") from None
        try:
            state = json.loads(body)
        except (ValueError, RecursionError):  # the tenant chooses the image: it may answer anything
            state = None
        if not isinstance(state, dict) or "aliveworkers" not in state or not _counts(state):
            raise ServiceUnavailableError(f"{url} does not answer as a Spark master")
        return state


def _counts(state: dict[str, Any]) -> bool:
    return all(isinstance(state.get(key, 0), int) for key in _NUMBERS)


def judge(state: dict[str, Any], *, workers: int) -> Health:
    """Say whether programs can run: the master leads and a worker is there (or none is asked for)."""
    alive, cores, used = (state.get(key, 0) for key in _NUMBERS)
    told = f"{alive} of {workers} workers, {used} of {cores} cores in use"
    if state.get("status") != "ALIVE":
        return Health(ready=False, reason="MasterNotLeading", message=f"The master is {state.get('status')}; {told}.")
    if workers and not alive:
        return Health(ready=False, reason="NoWorkers", message=f"No worker has joined the master; {told}.")
    return Health(ready=True, reason="MasterServes", message=f"The master leads {told}.")
