"""Never do two leaders act at once: what arrives at the server comes from one process after the other, never mixed.

Processes crash, lose the network, wait for slow answers and lost ones, and their writes may arrive seconds after they
gave up on them. Every write carries its author; at the server, an author whose successor has been heard must be silent.
"""

import asyncio
import contextlib
import json
import random

import pytest

from allotment_kube import ApiError, Client, LeadershipLostError, Lease
from allotment_kube.resources import CONFIG_MAPS, LEASES
from fakes.api_server import FakeApiServer
from fakes.faults import Fault, FaultPlan
from fakes.in_process import InProcessTransport

pytestmark = pytest.mark.looptime


async def life(server: FakeApiServer, name: str, plan: FaultPlan, rng: random.Random) -> None:
    """One machine: starts the program again whenever it ends."""
    loop = asyncio.get_running_loop()
    while True:
        identity = f"{name}-{rng.getrandbits(32):08x}"
        transport = InProcessTransport(server, plan, latency=0.02)
        client = Client(transport, rng=rng)
        lease = Lease(client, "l", namespace="a", identity=identity, clock=loop.time)
        program = asyncio.create_task(lease.run(lambda c=client, i=identity, held=lease: act(c.guarded(held), i, rng)))  # type: ignore[misc] # bound early
        weather = asyncio.create_task(change(transport, rng))
        try:
            await asyncio.wait({program}, timeout=rng.uniform(20.0, 120.0))
            if rng.random() < 0.5:
                transport.partitioned = True  # kill -9: no goodbye reaches anybody
        finally:
            for task in (weather, program):
                task.cancel()
            ended = await asyncio.gather(weather, program, return_exceptions=True)
        unexpected = [e for e in ended if e and not isinstance(e, asyncio.CancelledError | LeadershipLostError)]
        assert not unexpected


async def change(transport: InProcessTransport, rng: random.Random) -> None:
    """The network of one process comes and goes."""
    while True:
        await asyncio.sleep(rng.uniform(5.0, 60.0))
        transport.partitioned = True
        await asyncio.sleep(rng.uniform(0.5, 25.0))
        transport.partitioned = False


async def act(client: Client, identity: str, rng: random.Random) -> None:
    """A leader's work: writes and nothing but writes, several at a time."""

    async def write() -> None:
        body = {"metadata": {"generateName": "w-", "namespace": "a"}, "data": {"by": identity}}
        with contextlib.suppress(ApiError, LeadershipLostError):
            await client.create(CONFIG_MAPS, body)

    while True:
        await asyncio.gather(write(), write())
        await asyncio.sleep(rng.uniform(0.2, 2.0))


@pytest.mark.parametrize("seed", range(4))
async def test_leaders_never_overlap(seed: int) -> None:
    server = FakeApiServer(clock=asyncio.get_running_loop().time)
    server.put(LEASES, {"metadata": {"name": "l", "namespace": "a"}, "spec": {}})
    faults = frozenset({Fault.DELAY, Fault.DROP_BEFORE, Fault.DROP_AFTER, Fault.ERROR_AFTER, Fault.CONFLICT})
    plans = [FaultPlan(seed * 10 + n, rate=0.25, only=faults, longest_delay=7.5) for n in range(3)]
    machines = [
        asyncio.create_task(life(server, f"machine-{n}", plan, random.Random(seed * 10 + n)))
        for n, plan in enumerate(plans)
    ]
    try:
        done, _ = await asyncio.wait(machines, timeout=400.0, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for machine in machines:
            machine.cancel()
        await asyncio.gather(*machines, return_exceptions=True)
    for machine in done:
        machine.result()

    story = ", ".join(plan.describe() for plan in plans)
    authors = [
        json.loads(entry.body or b"{}")["data"]["by"]
        for entry in server.journal
        if entry.method == "POST" and entry.path.endswith("/configmaps")
    ]
    reigns = [author for n, author in enumerate(authors) if n == 0 or authors[n - 1] != author]
    assert len(reigns) == len(set(reigns)), f"two leaders at once: {reigns}; {story}"
    assert len(reigns) >= 4, f"too peaceful to prove anything: {reigns}; {story}"
