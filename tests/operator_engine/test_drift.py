"""Walls that somebody changes bring their owner back to the queue at once, but not without end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from allotment_kube.client import Client
from allotment_kube.resources import Resource
from allotment_operator.drift import BURST, REFILL_SECONDS, WALLS, DriftWatches, Pace
from allotment_operator.kind import Key
from allotment_operator.reconcile.queue import WorkQueue
from allotment_operator.watches import SETTLE_SECONDS
from fakes.api_server import FakeApiServer
from fakes.in_process import InProcessTransport

pytestmark = pytest.mark.looptime

[NETWORK, BINDINGS, QUOTAS, LIMITS] = WALLS
TENANT = Key("Tenant", "", "retail")


def wall(name: str = "allotment", **rest: Any) -> dict[str, Any]:
    labels = {
        "app.kubernetes.io/managed-by": "allotment",
        "allotment.dev/kind": "Tenant",
        "allotment.dev/instance": "retail",
    }
    return {"metadata": {"name": name, "namespace": "pay", "labels": labels}, **rest}


@asynccontextmanager
async def watching(server: FakeApiServer) -> AsyncIterator[WorkQueue[Key]]:
    """The queue while walls are watched; what the first lists brought is done."""
    for kind in WALLS:
        server.register(kind)
    queue: WorkQueue[Key] = WorkQueue()
    watches = DriftWatches(Client(InProcessTransport(server)), queue, known={TENANT}.__contains__)
    running = asyncio.create_task(watches.run())
    await watches.synced()
    while len(queue):
        queue.done(await queue.take())
    yield queue
    running.cancel()


@pytest.mark.parametrize("kind", WALLS, ids=lambda kind: kind.kind)
async def test_a_wall_that_is_deleted_brings_its_tenant_back(kind: Resource[Any]) -> None:
    server = FakeApiServer()
    server.put(kind, wall())

    async with watching(server) as queue:
        server.remove(kind, "allotment", "pay")

        assert await queue.take() == TENANT


@pytest.mark.parametrize(
    "changed",
    [wall(spec={"hard": {"pods": "9"}}), {**wall(), "metadata": {**wall()["metadata"], "annotations": {"a": "b"}}}],
    ids=["its spec", "its metadata"],
)
async def test_a_wall_that_is_changed_brings_its_tenant_back(changed: dict[str, Any]) -> None:
    server = FakeApiServer()
    server.put(QUOTAS, wall(spec={"hard": {"pods": "1"}}))

    async with watching(server) as queue:
        server.put(QUOTAS, changed)

        assert await queue.take() == TENANT


async def test_a_wall_that_loses_its_label_brings_its_tenant_back() -> None:
    server = FakeApiServer()
    server.put(NETWORK, wall())

    async with watching(server) as queue:
        server.put(NETWORK, {"metadata": {"name": "allotment", "namespace": "pay", "labels": {}}})

        assert await queue.take() == TENANT


async def test_a_quota_that_counts_brings_nobody_back() -> None:
    server = FakeApiServer()
    server.put(QUOTAS, wall(spec={"hard": {"pods": "1"}}))

    async with watching(server) as queue:
        server.put(QUOTAS, wall(spec={"hard": {"pods": "1"}}, status={"used": {"pods": "1"}}))
        await asyncio.sleep(60)  # of the loop's own time

        assert len(queue) == 0


class TestThePace:
    def test_is_prompt_for_a_while_and_then_slow(self) -> None:
        now = 0.0
        pace = Pace(lambda: now)
        looks = []
        while now < 600:
            after = pace.after(TENANT)
            if after is not None:
                looks.append(now + after)
            now += 0.1

        prompt = [moment for moment in looks if moment < 10]
        assert prompt[0] == SETTLE_SECONDS
        assert len(prompt) <= BURST + 2
        assert len(looks) <= BURST + 600 / REFILL_SECONDS + 2

    def test_joins_what_happens_before_the_next_look(self) -> None:
        pace = Pace(lambda: 0.0)

        assert pace.after(TENANT) == SETTLE_SECONDS
        assert pace.after(TENANT) is None
        assert pace.after(Key("Tenant", "", "other")) == SETTLE_SECONDS

    def test_forgives_after_a_time_of_peace(self) -> None:
        now = 0.0
        pace = Pace(lambda: now)
        for _ in range(30):
            now += pace.after(TENANT) or 0.1
        now += BURST * REFILL_SECONDS + 300

        assert pace.after(TENANT) == SETTLE_SECONDS
