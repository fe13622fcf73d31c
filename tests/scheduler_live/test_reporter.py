"""What a pod is told, and that one that got a node meanwhile is not left with it."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from allotment_kube import Client
from allotment_kube.resources import PODS
from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.explanation.explain import Why
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.shell.reporter import Due, Reporter
from allotment_scheduler.shell.settings import Settings
from builders.live_world import EPOCH, World, until
from fakes.api_server import FakeApiServer
from fakes.faults import FaultPlan
from fakes.in_process import InProcessTransport

pytestmark = pytest.mark.looptime


def reporter_of(world: World, *, now: Callable[[], float] | None = None) -> Reporter:
    """A reporter beside a world's scheduler."""
    loop = asyncio.get_running_loop()
    clock = now or (lambda: EPOCH + loop.time())
    return Reporter(world.scheduler, lambda: world.settings, now=clock, publish=lambda _: None, failed=lambda: None)


def told(pod: dict[str, Any]) -> dict[str, Any]:
    return next(each for each in pod["status"]["conditions"] if each["type"] == "PodScheduled")


@pytest.mark.parametrize(
    ("node", "status", "reason"), [("", "False", "AboveLimit"), ("n1", "True", None)], ids=["waits", "bound meanwhile"]
)
async def test_a_pod_is_told_why_it_waits_unless_it_waits_no_more(node: str, status: str, reason: str | None) -> None:
    server = FakeApiServer()
    client = Client(InProcessTransport(server, FaultPlan()), rng=random.Random(1))
    spec = {"nodeName": node} if node else {}
    server.put(PODS, {"metadata": {"name": "p", "namespace": "a"}, "spec": spec, "status": {}})
    live = server.get(PODS, "p", "a")
    assert live is not None
    reporter = Reporter(
        cast("Any", SimpleNamespace(engine=Engine(ClusterState()), picture=SimpleNamespace(said=lambda _: None))),
        Settings,
        now=lambda: 0.0,
        publish=lambda _: None,
        failed=lambda: None,
    )

    await reporter._write(client, ("a", "p"), live["metadata"]["uid"], Why("AboveLimit", "8 of 8 cpu"), "AboveLimit")

    pod = server.get(PODS, "p", "a")
    assert pod is not None
    assert (told(pod)["status"], told(pod).get("reason")) == (status, reason)


async def test_others_have_their_turn_while_many_pods_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Explaining one pod may take milliseconds: who comes meanwhile must not wait for a whole pass."""
    world = World(FaultPlan())
    world.node("n")
    async with world.running() as scheduler:
        for number in range(60):
            world.pod("a", f"p{number}", cpu="64")
        await until(lambda: len(scheduler.state.pods) == 60)
        reporter = reporter_of(world)
        explain, ticks, at = reporter._explained, 0, list[int]()

        def explained(pod: Pod) -> Due:
            at.append(ticks)
            return explain(pod)

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        monkeypatch.setattr(reporter, "_explained", explained)
        ticking = asyncio.create_task(tick())
        await reporter._pass_over(Client(InProcessTransport(world.server, FaultPlan()), rng=random.Random(1)))
        ticking.cancel()

        assert len(at) == 60
        assert max(Counter(at).values()) < 10


async def test_who_goes_while_others_are_explained_is_told_nothing() -> None:
    world = World(FaultPlan())
    world.node("n")
    async with world.running() as scheduler:
        for number in range(20):
            world.pod("a", f"p{number}", cpu="64")
        await until(lambda: len(scheduler.state.pods) == 20)
        reporter, due = reporter_of(world), list[Due]()
        for number, batch in enumerate(reporter.batches()):
            due += batch
            if not number:
                world.server.remove(PODS, "p19", "a")
            await until(lambda: ("a", "p19") not in scheduler.state.pods)

        assert {told.pod.spec.name for told in due} == {f"p{number}" for number in range(19)}


async def test_numbers_are_told_again_though_the_clock_was_set_back() -> None:
    world = World(FaultPlan())
    world.node("n")
    world.node("m")
    ahead = 0.0
    async with world.running() as scheduler:
        loop = asyncio.get_running_loop()
        world.pod("a", "p", cpu="64")
        await until(lambda: ("a", "p") in scheduler.state.pods)
        reporter = reporter_of(world, now=lambda: EPOCH + loop.time() + ahead)
        ahead = 86_400.0
        client = Client(InProcessTransport(world.server, FaultPlan()), rng=random.Random(1))
        await reporter._pass_over(client)
        ahead = 0.0
        world.node("o")
        await until(lambda: len(scheduler.state.nodes.by_name) == 3)

        assert [told.pod.spec.name for told in reporter.pass_over()] == ["p"]
