"""Bindings that fail or are refused, of single pods and of gangs; and what all of it costs the API server."""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from allotment_kube import Client
from allotment_kube.errors import ApiError, ConflictError, ForbiddenError, ThrottledError, UnavailableError
from allotment_kube.resources import PODS
from allotment_scheduler.core.state.invariants import check
from allotment_scheduler.shell.metrics import Metrics
from allotment_scheduler.shell.reporter import Reporter
from builders.live_world import EPOCH, World, until
from fakes.faults import FaultPlan
from fakes.in_process import InProcessTransport

pytestmark = pytest.mark.looptime


class Refusing:
    """An API server that answers the Bindings of one pod with an error, so many times; counts them all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pod: str, error: ApiError, times: int) -> None:
        self.times = times
        self.tried: Counter[str] = Counter()
        bind = Client.bind

        async def refuse(client: Client, namespace: str, name: str, **given: Any) -> None:
            self.tried[name] += 1
            if name == pod and self.times > 0:
                self.times -= 1
                await asyncio.sleep(0.01)
                raise error
            await bind(client, namespace, name, **given)

        monkeypatch.setattr(Client, "bind", refuse)


@pytest.mark.parametrize(
    ("error", "times"),
    [
        (ForbiddenError("admission says no", code=403), 2),
        (ConflictError("somebody was faster", code=409), 1),
        (UnavailableError("etcd is away", code=500), 6),
        (ThrottledError("too many requests", code=429), 6),
    ],
    ids=["refused", "in conflict", "failing for long", "throttled for long"],
)
async def test_a_gang_of_which_one_binding_fails_keeps_the_others_and_is_whole_in_the_end(
    error: ApiError, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = Refusing(monkeypatch, "member-1", error, times)
    world = World(FaultPlan())
    world.node("n", cpu="3")
    world.group("a", "gang", 3)
    async with world.running() as scheduler:
        for number in range(3):
            world.pod("a", f"member-{number}", group="gang")
        await until(lambda: {"member-0", "member-2"} <= world.bound().keys())
        uids = {each["metadata"]["uid"] for each in world.server.objects(PODS)}
        await until(lambda: len(world.bound()) == 3)
        assert refusing.times == 0
        assert {each["metadata"]["uid"] for each in world.server.objects(PODS)} == uids
        assert refusing.tried["member-0"] == refusing.tried["member-2"] == 1
        assert not [each for each in world.server.journal if each.method == "DELETE" or "eviction" in each.path]
    check(scheduler.state)


async def test_a_pod_whose_binding_is_always_refused_is_tried_after_doubling_times_and_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusing = Refusing(monkeypatch, "bad", ForbiddenError("admission says no", code=403), 10**9)
    world = World(FaultPlan())
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        world.pod("a", "bad", cpu="2", priority=9)
        await until(lambda: refusing.tried["bad"])
        world.pod("a", "second", cpu="2")
        await until(lambda: world.bound() == {"second": "n"}, seconds=5)
        world.node("m", cpu="2")  # room that nobody else wants
        await asyncio.sleep(100)
        assert refusing.tried["bad"] == 4, "at once, and after 10, 20 and 40 seconds"
        assert (scheduler.ledger.refusal(("a", "bad")) or ("",))[0].endswith("admission says no")
        refusing.times = 0
        await until(lambda: "bad" in world.bound())
    check(scheduler.state)


async def test_a_pod_costs_one_binding_and_at_most_one_status_write_and_a_cycle_no_list() -> None:
    world, loop = World(FaultPlan()), asyncio.get_running_loop()
    world.node("n", cpu="60")
    reporter = Reporter(
        world.scheduler,
        lambda: world.settings,
        now=lambda: EPOCH + loop.time(),
        publish=Metrics().waiting,
        failed=lambda: None,
    )
    client = Client(InProcessTransport(world.server, world.plan), rng=random.Random(1))
    async with world.standing_by(world.scheduler) as standby:
        standby.lead()
        reporting = asyncio.create_task(reporter.run(client))
        for number in range(100):
            world.pod("a", f"p{number}")
            await asyncio.sleep(0.05)
        await until(lambda: len(world.bound()) == 60)
        await asyncio.sleep(30)
        reporting.cancel()
        assert world.scheduler.progress.cycles >= 20
        lists = {kind: found.lists for kind, found in standby.watches.statistics()}
        assert set(lists.values()) == {1}
    writes = Counter(each.path for each in world.server.journal if each.method != "GET")
    bindings = [path for path in writes if path.endswith("/binding")]
    statuses = [path for path in writes if path.endswith("/status")]
    assert len(bindings) == 60
    assert 40 <= len(statuses) <= 100
    assert set(writes) == {*bindings, *statuses}
    assert set(writes.values()) == {1}
    check(world.scheduler.state)
