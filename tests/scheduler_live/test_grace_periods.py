"""Victims take the time that their grace period gives them: their claimant waits, and nobody else goes for it."""

import asyncio

import pytest

from allotment_kube.resources import PODS
from allotment_scheduler.core.state.invariants import check
from allotment_scheduler.shell.settings import Settings
from builders.live_world import World, until
from fakes.faults import FaultPlan

pytestmark = pytest.mark.looptime


async def two_victims(world: World, *, grace: int) -> str:
    """Two nodes full of pods with a grace period, and a claimant; returns the pod that has to go, on its way out."""
    world.settings = Settings(minimum_runtime_seconds=0, eviction_seconds=5, longest_grace_seconds=300)
    world.scheduler.configure()
    for name in "nm":
        world.node(name, cpu="2")
    for name in ("one", "two"):
        world.pod("a", name, cpu="2", terminationGracePeriodSeconds=grace)
    await until(lambda: len(world.bound()) == 2)
    world.pod("a", "claimant", cpu="2", priority=9)
    await until(lambda: leaving(world))
    return leaving(world)[0]


def leaving(world: World) -> list[str]:
    """Pods that were asked to go and are there still."""
    metadata = [each["metadata"] for each in world.server.objects(PODS)]
    return [each["name"] for each in metadata if "deletionTimestamp" in each]


async def test_room_is_held_until_the_victims_grace_period_has_ended() -> None:
    world = World(FaultPlan(), graceful=True)
    async with world.running() as scheduler:
        victim = await two_victims(world, grace=100)
        node = world.bound()[victim]
        await asyncio.sleep(100)
        assert leaving(world) == [victim], "one room is enough"
        assert world.status("a", "claimant").get("nominatedNodeName") == node
        world.server.remove(PODS, victim, "a")
        await until(lambda: world.bound().get("claimant") == node)
    check(scheduler.state)


async def test_a_successor_holds_room_until_the_victims_grace_period_has_ended() -> None:
    world = World(FaultPlan(), graceful=True)
    async with world.running():
        victim = await two_victims(world, grace=100)
        node = world.bound()[victim]
    world.scheduler = world.new_scheduler()
    async with world.running() as successor:
        await asyncio.sleep(90)
        assert leaving(world) == [victim]
        world.server.remove(PODS, victim, "a")
        await until(lambda: world.bound().get("claimant") == node)
    check(successor.state)


async def test_room_is_held_no_longer_for_a_victim_that_outlives_its_grace_period() -> None:
    """Its kubelet is dead, say, or somebody's finalizer keeps it."""
    world = World(FaultPlan(), graceful=True)
    async with world.running() as scheduler:
        await two_victims(world, grace=40)
        await until(lambda: len(leaving(world)) == 2, seconds=60)
        assert len(scheduler.ledger.departures) == 2
    check(scheduler.state)


@pytest.mark.parametrize(("own", "given"), [(86_400, 300), (301, 300), (300, 300), (100, 100)])
async def test_an_evicted_pod_has_its_own_grace_period_up_to_the_longest_that_there_is(own: int, given: int) -> None:
    """A pod with a day to end, from before admission bounded it, is neither waited for a day nor killed in vain."""
    world = World(FaultPlan(), graceful=True)
    async with world.running() as scheduler:
        victim = await two_victims(world, grace=own)
        node = world.bound()[victim]
        assert (world.server.get(PODS, victim, "a") or {})["metadata"]["deletionGracePeriodSeconds"] == given
        await asyncio.sleep(given)
        assert leaving(world) == [victim]
        world.server.remove(PODS, victim, "a")
        await until(lambda: world.bound().get("claimant") == node)
    check(scheduler.state)


async def test_who_starts_in_what_a_plan_leaves_over_is_tried_elsewhere_if_the_victim_does_not_end() -> None:
    world = World(FaultPlan(), graceful=True)
    world.settings = Settings(minimum_runtime_seconds=0, eviction_seconds=5)
    world.node("n", cpu="3")
    async with world.running() as scheduler:
        world.pod("a", "victim", cpu="3", terminationGracePeriodSeconds=20)
        await until(lambda: "victim" in world.bound())
        world.pod("a", "claimant", cpu="2", priority=9)
        world.pod("a", "beside", cpu="1", priority=9)
        await until(lambda: ("a", "beside") in scheduler.ledger.starts)
        world.node("m", cpu="1")
        await until(lambda: world.bound().get("beside") == "m", seconds=90)
    check(scheduler.state)


async def test_no_member_is_bound_to_a_gang_whose_others_have_begun_to_leave_meanwhile() -> None:
    world = World(FaultPlan(), graceful=True)
    world.node("n", cpu="2")
    world.group("a", "g", 2)
    async with world.running() as scheduler:
        for name in ("m0", "m1"):
            world.pod("a", name, group="g", priority=9)
        await until(lambda: len(world.bound()) == 2)
        world.server.remove(PODS, "m1", "a")
        world.pod("a", "low")
        await until(lambda: "low" in world.bound())
        world.pod("a", "m2", group="g", priority=9)
        await until(lambda: leaving(world) == ["low"])
        pod = world.server.get(PODS, "m0", "a") or {}
        gone = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 600}
        world.server.put(PODS, {**pod, "metadata": {**pod["metadata"], **gone, "finalizers": ["stay"]}})
        world.server.remove(PODS, "low", "a")
        await asyncio.sleep(20)
        assert world.bound() == {"m0": "n"}
    check(scheduler.state)
