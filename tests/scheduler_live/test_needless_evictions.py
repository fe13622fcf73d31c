"""Evictions that were decided and are not made: nobody is asked to go in vain, and nothing is charged for it."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from allotment_kube import Client
from allotment_kube.errors import ForbiddenError, ThrottledError, UnavailableError
from allotment_kube.resources import NODES, POD_DISRUPTION_BUDGETS, PODS
from allotment_scheduler.core.state.invariants import check
from allotment_scheduler.shell.settings import Settings
from allotment_scheduler.shell.statuses import Statuses
from builders.live_world import World, until
from fakes.faults import Fault, FaultPlan, Verb

pytestmark = pytest.mark.looptime


class Refusing:
    """An API server whose admission refuses the first evictions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        self.left = times
        self.asked: list[float] = []
        evict = Client.evict

        async def refuse(client: Client, namespace: str, pod: str, **given: Any) -> None:
            self.asked.append(asyncio.get_running_loop().time())
            self.left -= 1
            if self.left >= 0:
                raise ForbiddenError("admission says no", code=403)
            await evict(client, namespace, pod, **given)

        monkeypatch.setattr(Client, "evict", refuse)


def borrowed(world: World, *, guaranteed: str) -> None:
    """Tenant a has all of node n, of which b may be guaranteed a part."""
    world.tenant("b", **({"guaranteed": {"cpu": guaranteed}} if guaranteed else {}))
    world.node("n", cpu="2")
    for name in ("one", "two"):
        world.pod("a", name, owner=("ReplicaSet", name))


async def test_an_eviction_that_was_refused_leaves_the_disruption_budget_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its controller says nothing new, for nothing has happened."""
    Refusing(monkeypatch, 1)
    world = World(FaultPlan())
    borrowed(world, guaranteed="1")
    about = {"metadata": {"name": "pdb", "namespace": "a"}, "spec": {"selector": {}}}
    world.server.put(POD_DISRUPTION_BUDGETS, {**about, "status": {"disruptionsAllowed": 1, "observedGeneration": 1}})
    async with world.running() as scheduler:
        await until(lambda: len(world.bound()) == 2)
        world.pod("b", "claimant")
        await until(lambda: "claimant" in world.bound())
    check(scheduler.state)


async def test_an_eviction_that_was_refused_is_nobodys_setback(monkeypatch: pytest.MonkeyPatch) -> None:
    Refusing(monkeypatch, 1)
    world = World(FaultPlan())
    borrowed(world, guaranteed="")
    async with world.running() as scheduler:
        await until(lambda: len(world.bound()) == 2)
        world.pod("b", "claimant")
        await until(scheduler.ledger.spared.next_over)
        brakes = scheduler.engine.brakes
        assert brakes.backoffs == {}
        assert [window.used for window in brakes.windows.values()] == [0]
        assert not scheduler.state.population.turns.owners_evicted, "who comes next is no replacement"
        await until(lambda: "claimant" in world.bound())
        assert [window.used for window in brakes.windows.values()] == [1]
        assert [backoff.evictions for backoff in brakes.backoffs.values()] == [1]
    check(scheduler.state)


def delete(world: World) -> None:
    """The claimant is deleted, and its Job's finalizer keeps it for a while."""
    pod = world.server.get(PODS, "claimant", "a") or {}
    gone = {"deletionTimestamp": "2025-06-15T15:00:00Z", "finalizers": ["batch.kubernetes.io/job-tracking"]}
    world.server.put(PODS, {**pod, "metadata": {**pod["metadata"], **gone}})


def cordon(world: World) -> None:
    """Somebody drains node n."""
    node = world.server.get(NODES, "n") or {}
    world.server.put(NODES, {**node, "spec": {**node.get("spec", {}), "unschedulable": True}})


@pytest.mark.parametrize(
    "change",
    [
        delete,
        cordon,
        lambda world: world.tenant("a", suspended=True),
        lambda world: world.group("a", "gang", 1, paused=True),
        lambda world: world.group("a", "gang", 2),
    ],
    ids=["it is deleted", "its node is cordoned", "its tenant is suspended", "its gang is paused", "its gang grows"],
)
async def test_nobody_goes_any_more_for_who_may_not_start_any_more(change: Callable[[World], None]) -> None:
    world = World(FaultPlan())
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        world.pod("a", "victim", cpu="2")
        await until(lambda: world.bound() == {"victim": "n"})
        world.plan.script(Verb.EVICT, *[Fault.UNAVAILABLE] * 20)
        world.group("a", "gang", 1)
        world.pod("a", "claimant", cpu="2", priority=9, group="gang")
        await until(lambda: world.plan.injected[Verb.EVICT, Fault.UNAVAILABLE] > 2)
        change(world)
        await until(lambda: not scheduler.ledger.departures and not scheduler.ledger.starts, seconds=10)
        await asyncio.sleep(60)
        assert world.bound() == {"victim": "n"}
    check(scheduler.state)


async def test_a_server_that_asks_for_time_is_given_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    evict, loop = Client.evict, asyncio.get_running_loop()

    async def busy(client: Client, namespace: str, pod: str, **given: Any) -> None:
        asked.append(loop.time())
        if len(asked) < 3:
            raise ThrottledError("too many requests", code=429, after=15)
        await evict(client, namespace, pod, **given)

    monkeypatch.setattr(Client, "evict", busy)
    world = World(FaultPlan())
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        await world.claimed()
        await until(lambda: world.bound() == {"claimant": "n"})
        assert [round(later - sooner) for sooner, later in itertools.pairwise(asked)] == [15, 15]
    check(scheduler.state)


async def test_what_the_pods_of_an_inner_tenant_have_suffered_is_told_to_a_successor() -> None:
    """Tenant a has pods of its own beside a child's: they are in a leaf that nobody named."""
    world = World(FaultPlan())
    world.settings = Settings(minimum_runtime_seconds=0)
    world.tenant("child", parent="a", namespaces=["child"])
    borrowed(world, guaranteed="")
    async with world.running() as scheduler:
        await until(lambda: len(world.bound()) == 2)
        world.pod("b", "claimant")
        await until(lambda: "claimant" in world.bound())
        victim = next(name for name in ("one", "two") if name not in world.bound())
        world.pod("a", f"{victim}-again", owner=("ReplicaSet", victim))
        await until(lambda: ("a", f"{victim}-again") in scheduler.state.pods)
        clock = scheduler._clock
        statuses = Statuses(scheduler, lambda: world.settings, now=clock, publish=lambda _: None)
        said = {key[1]: status for _, key, status in statuses.due() if "evictions" in status}
        assert said["a"]["evictions"]["used"] == 1
        assert [each["workload"] for each in said["a"]["evictions"]["backoff"]] == [victim]
    check(scheduler.state)


async def test_a_pod_that_stays_has_run_since_it_began_not_since_it_was_created(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or it would have lost its minimum runtime, and be expected to end long before it does."""
    Refusing(monkeypatch, 1000)
    world = World(FaultPlan())
    async with world.running() as scheduler:
        pods = scheduler.state.pods
        world.pod("a", "victim", cpu="2")
        await asyncio.sleep(1000)
        world.node("n", cpu="2")
        await until(lambda: world.bound() == {"victim": "n"})
        began = pods["a", "victim"].started
        world.pod("a", "claimant", cpu="2", priority=9)
        await until(scheduler.ledger.spared.next_over)
        assert pods["a", "victim"].started == began > pods["a", "victim"].spec.created + 900
        await asyncio.sleep(60)
        assert pods["a", "victim"].started == began
    check(scheduler.state)


async def test_a_plan_whose_claimant_may_not_start_any_more_keeps_nobody_waiting_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One of its victims has been asked and takes its time; the other one need not go."""
    evict, asked = Client.evict, list[str]()

    async def one_only(client: Client, namespace: str, pod: str, **given: Any) -> None:
        asked.append(pod)
        if pod != asked[0]:
            raise UnavailableError("not now", code=503)
        await evict(client, namespace, pod, **given)

    monkeypatch.setattr(Client, "evict", one_only)
    world = World(FaultPlan(), graceful=True)
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        for name in ("one", "two"):
            world.pod("a", name, owner=("ReplicaSet", name), terminationGracePeriodSeconds=60)
        await until(lambda: len(world.bound()) == 2)
        world.pod("a", "claimant", cpu="2", priority=9)
        await until(lambda: len(set(asked)) == 2)
        cordon(world)
        await until(lambda: not scheduler.ledger.starts, seconds=10)
        world.node("m", cpu="2")
        await until(lambda: world.bound().get("claimant") == "m", seconds=10)
        await asyncio.sleep(60)
        assert set(world.bound()) == {"one", "two", "claimant"}
        stays = next(name for name in ("one", "two") if name != asked[0])
        assert "deletionTimestamp" not in (world.server.get(PODS, stays, "a") or {})["metadata"]
    check(scheduler.state)
