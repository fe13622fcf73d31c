"""Credentials that are not accepted for a moment: time alone decides who leads."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from allotment_kube import Client, LeadershipLostError, Lease
from allotment_kube.resources import LEASES
from allotment_kube.transport import Request, Response
from fakes.api_server import FakeApiServer, Refusal
from fakes.in_process import InProcessTransport

pytestmark = pytest.mark.looptime


class Doubting(InProcessTransport):
    """Answers 401 or 403 while it is told to."""

    code = 0

    async def send(self, request: Request) -> Response:
        if self.code:
            await asyncio.sleep(0.01)
            reason = "Unauthorized" if self.code == 401 else "Forbidden"
            return Refusal(self.code, reason, "who are you?").response()
        return await super().send(request)


@asynccontextmanager
async def contending(transport: Doubting, led: list[float]) -> AsyncIterator[asyncio.Task[None]]:
    """Somebody who wants the Lease, and notes when they get it."""
    loop = asyncio.get_running_loop()
    client = Client(transport, rng=random.Random(1))
    lease = Lease(client, "l", namespace="a", identity="x", clock=loop.time)

    async def lead() -> None:
        led.append(loop.time())
        await asyncio.Event().wait()

    task = asyncio.create_task(lease.run(lead))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def free_lease() -> FakeApiServer:
    server = FakeApiServer(clock=asyncio.get_running_loop().time)
    server.put(LEASES, {"metadata": {"name": "l", "namespace": "a"}, "spec": {}})
    return server


@pytest.mark.parametrize("code", [401, 403])
async def test_a_leader_whom_nobody_knows_for_a_moment_goes_on(code: int) -> None:
    transport, led = Doubting(free_lease()), list[float]()
    async with contending(transport, led) as task:
        await asyncio.sleep(5)
        transport.code = code
        await asyncio.sleep(5)
        transport.code = 0
        await asyncio.sleep(60)
        assert not task.done()
    assert len(led) == 1


@pytest.mark.parametrize("code", [401, 403])
async def test_a_leader_whom_nobody_knows_for_long_stops_when_the_lease_is_over(code: int) -> None:
    transport, led = Doubting(free_lease()), list[float]()
    async with contending(transport, led) as task:
        await asyncio.sleep(5)
        transport.code = code
        with pytest.raises(LeadershipLostError):
            await task


@pytest.mark.parametrize("code", [401, 403])
async def test_a_standby_whom_nobody_knows_waits(code: int) -> None:
    transport, led = Doubting(free_lease()), list[float]()
    transport.code = code
    async with contending(transport, led) as task:
        await asyncio.sleep(60)
        assert not task.done()
        assert not led
        transport.code = 0
        await asyncio.sleep(10)
        assert len(led) == 1
