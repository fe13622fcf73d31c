"""Victims take the time that their grace period gives them: their claimant waits, and nobody else goes for it."""

import asyncio
from datetime import UTC, datetime

import pytest

from allotment_kube.resources import NODES, PODS
from allotment_scheduler.core.state.invariants import check
from allotment_scheduler.shell.settings import Settings
from builders.live_world import EPOCH, World, until
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


def at_its_end(world: World, name: str, node: str, *, seconds: float) -> None:
    """A pod that somebody has deleted, and that takes its time."""
    ends = datetime.fromtimestamp(EPOCH + asyncio.get_running_loop().time() + seconds, UTC)
    metadata = {"name": name, "namespace": "a", "labels": {"app": name}, "deletionTimestamp": f"{ends:%FT%TZ}"}
    container = {"name": "main", "resources": {"requests": {"cpu": "1"}}}
    spec = {"schedulerName": "allotment", "nodeName": node, "containers": [container]}
    world.server.put(PODS, {"metadata": metadata, "spec": spec, "status": {}})


@pytest.mark.parametrize("where", ["n", "m", "k"])
async def test_room_is_held_no_longer_although_others_of_its_tenant_leave_who_are_not_in_its_way(where: str) -> None:
    """The tenant has a limit, and far more room below it."""
    world = World(FaultPlan(), graceful=True)
    world.tenant("a", limits={"cpu": "50"})
    world.node("k", cpu="1", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}])
    async with world.running() as scheduler:
        await two_victims(world, grace=40)
        beside = {"n": "0", "m": "0"}.get(where, "1")
        at_its_end(world, "other", where, seconds=600)
        found = world.server.get(PODS, "other", "a") or {}
        found["spec"]["containers"][0]["resources"]["requests"] = {"cpu": beside, "memory": "1Mi"}
        world.server.put(PODS, found)
        await until(lambda: len(leaving(world)) == 3, seconds=60)
    check(scheduler.state)


async def test_a_claimant_waits_for_the_grace_period_of_a_neighbour_on_another_node() -> None:
    world = World(FaultPlan(), graceful=True)
    world.settings = Settings(minimum_runtime_seconds=0, eviction_seconds=5)
    for name, cpu in (("n", "2"), ("m", "2")):
        room = {"cpu": cpu, "memory": "16Gi", "pods": "110"}
        metadata = {"name": name, "labels": {"zone": "z", "kubernetes.io/hostname": name}}
        world.server.put(NODES, {"metadata": metadata, "spec": {}, "status": {"allocatable": room}})
    at_its_end(world, "neighbour", "n", seconds=40)
    term = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "neighbour"}}}
    async with world.running() as scheduler:
        world.pod("a", "victim", nodeSelector={"kubernetes.io/hostname": "n"})
        await until(lambda: "victim" in world.bound())
        shy = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
        world.pod("a", "claimant", cpu="2", priority=9, affinity=shy)
        await until(lambda: ("a", "claimant") in scheduler.ledger.starts)
        start = scheduler.ledger.starts["a", "claimant"]
        await asyncio.sleep(38)
        assert scheduler.ledger.starts["a", "claimant"] is start
        await until(lambda: scheduler.ledger.starts.get(("a", "claimant")) is not start)
        world.server.remove(PODS, "neighbour", "a")
        await until(lambda: world.bound() == {"victim": "n", "claimant": "m"})
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
