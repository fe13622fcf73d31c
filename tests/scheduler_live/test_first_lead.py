"""From the start of a program to its first decision: no wait for what nobody can have done."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from allotment_kube import Client
from allotment_kube.lease import Lease
from allotment_kube.resources import LEASES
from allotment_scheduler.shell.main import LEASE, LiveSettings, Program
from allotment_scheduler.shell.metrics import Metrics
from allotment_scheduler.shell.settings import sources_of
from allotment_scheduler.shell.watches import Watches
from builders.live_world import World, until
from fakes.faults import FaultPlan
from fakes.in_process import InProcessTransport

pytestmark = pytest.mark.looptime


@pytest.fixture
def caught_up(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When somebody waited until the picture showed what a predecessor did last."""
    monkeypatch.setenv("ALLOTMENT_API_PORT", "-1")
    times, catch_up = list[float](), Watches.caught_up

    async def noted(watches: Watches) -> None:
        times.append(asyncio.get_running_loop().time())
        await catch_up(watches)

    monkeypatch.setattr(Watches, "caught_up", noted)
    return times


@asynccontextmanager
async def program(world: World, identity: str) -> AsyncIterator[asyncio.Event]:
    """A whole scheduler, as a process has it; ends when told to stop."""
    transport = InProcessTransport(world.server, world.plan, latency=0.01)
    client = Client(transport, rng=random.Random(identity))
    stop, scheduler, loop = asyncio.Event(), world.new_scheduler(), asyncio.get_running_loop()
    lease = Lease(client, LEASE, namespace="allotment", identity=identity, clock=loop.time)
    settings = LiveSettings(sources_of([]), Metrics())
    running = asyncio.create_task(Program(scheduler, client, settings, Metrics(), identity).run(stop, lease))
    try:
        yield stop
    finally:
        stop.set()
        await running
        await transport.close()


def free_lease(world: World) -> None:
    world.server.put(LEASES, {"metadata": {"name": LEASE, "namespace": "allotment"}, "spec": {}})


async def test_where_nobody_has_held_the_lease_since_before_the_first_lists_they_are_decided_by_at_once(
    caught_up: list[float],
) -> None:
    world = World(FaultPlan())
    free_lease(world)
    world.node("n")
    world.pod("a", "p")
    began = asyncio.get_running_loop().time()
    async with program(world, "one"):
        await until(world.bound)
        assert asyncio.get_running_loop().time() - began < 1.0
    assert not caught_up


async def test_where_somebody_has_held_it_meanwhile_what_he_did_last_is_waited_for(caught_up: list[float]) -> None:
    """One that stood by, and one that was freshly started while another led, released in good order."""
    world = World(FaultPlan())
    free_lease(world)
    world.node("n")
    async with program(world, "one") as stop:
        world.pod("a", "p")
        await until(world.bound)
        async with program(world, "two"):
            await asyncio.sleep(5)
            stop.set()
            await until(lambda: caught_up)
            world.pod("a", "q")
            await until(lambda: set(world.bound()) == {"p", "q"})
    assert len(caught_up) == 1
