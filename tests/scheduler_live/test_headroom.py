"""Limits of tenants and room of nodes hold at every moment, also while evicted pods are still on their way out."""

import asyncio
from typing import Any

import pytest

from allotment_kube.resources import PODS
from allotment_scheduler.core.state.invariants import check
from allotment_scheduler.shell.headroom import Headroom
from allotment_scheduler.shell.settings import Settings
from builders.live_world import World, until
from fakes.faults import Fault, FaultPlan, Verb

pytestmark = pytest.mark.looptime


def robbed(world: World) -> None:
    """Tenant a, at its limit, has a large pod that b's guarantee claims the room of, and a small one that would fit."""
    world.tenant("a", limits={"cpu": "2"})
    world.tenant("b", guaranteed={"cpu": "2", "memory": "1Gi"})
    world.node("n", cpu="2")
    world.node("m", cpu="1")


async def test_a_pod_takes_the_place_of_an_evicted_one_under_a_limit_only_when_that_one_is_gone() -> None:
    world = World(FaultPlan(), graceful=True)
    robbed(world)
    async with world.running() as scheduler:
        world.pod("a", "large", cpu="2")
        await until(lambda: world.bound() == {"large": "n"})
        world.pod("a", "small")
        world.pod("b", "claimant", cpu="2")
        await until(lambda: (world.server.get(PODS, "large", "a") or {})["metadata"].get("deletionTimestamp"))
        await asyncio.sleep(30)
        assert world.bound() == {"large": "n"}
        world.server.remove(PODS, "large", "a")
        await until(lambda: world.bound() == {"claimant": "n", "small": "m"})
    check(scheduler.state)


async def test_a_pod_that_stays_after_all_keeps_its_part_of_the_limit() -> None:
    world = World(FaultPlan(), graceful=True)
    world.settings = Settings(minimum_runtime_seconds=0, eviction_seconds=2)
    robbed(world)
    async with world.running() as scheduler:
        world.pod("a", "large", cpu="2")
        await until(lambda: world.bound() == {"large": "n"})
        world.plan.script(Verb.EVICT, *[Fault.ERROR] * 40)
        world.pod("a", "small")
        world.pod("b", "claimant", cpu="2")
        await until(lambda: world.plan.injected[Verb.EVICT, Fault.ERROR] > 5)
        world.server.remove(PODS, "claimant", "b")
        await until(lambda: not scheduler.ledger.departures)
        await asyncio.sleep(30)
        assert world.bound() == {"large": "n"}
    check(scheduler.state)


async def test_a_gang_whose_room_others_took_in_part_is_not_squeezed_in() -> None:
    """Each of its pods alone would fit beside the foreign one."""
    world = World(FaultPlan(), graceful=True)
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        world.pod("a", "victim", cpu="2")
        await until(lambda: world.bound() == {"victim": "n"})
        world.group("a", "gang", 2)
        for number in range(2):
            world.pod("a", f"member-{number}", group="gang", priority=9)
        await until(lambda: (world.server.get(PODS, "victim", "a") or {})["metadata"].get("deletionTimestamp"))
        container = {"name": "c", "resources": {"requests": {"cpu": "1"}}}
        foreign = {
            "metadata": {"name": "foreign", "namespace": "kube-system"},
            "spec": {"nodeName": "n", "containers": [container]},
            "status": {"phase": "Running"},
        }
        world.server.put(PODS, foreign)
        await until(lambda: ("kube-system", "foreign") in scheduler.state.pods)
        world.server.remove(PODS, "victim", "a")
        await asyncio.sleep(30)
        assert world.bound() == {"foreign": "n"}
        world.server.remove(PODS, "foreign", "kube-system")
        await until(lambda: set(world.bound()) == {"member-0", "member-1"})
    check(scheduler.state)


async def test_who_tolerates_a_cordon_starts_on_a_node_that_is_cordoned() -> None:
    world = World(FaultPlan())
    world.node("n", unschedulable=True)
    async with world.running() as scheduler:
        world.pod("a", "p", tolerations=[{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}])
        await until(lambda: world.bound() == {"p": "n"}, seconds=20)
    check(scheduler.state)


class Unlisted(dict[Any, Any]):
    """What may be asked by key, and not gone through."""

    def __iter__(self) -> Any:
        raise AssertionError("all starts are gone through for one of them")

    items = values = keys = __iter__


async def test_who_waits_for_room_on_a_node_looks_at_that_nodes_pods_only() -> None:
    world = World(FaultPlan(), graceful=True)
    for name in "nm":
        world.node(name, cpu="2")
    async with world.running() as scheduler:
        for name in ("victim-0", "victim-1"):
            world.pod("a", name, cpu="2")
        await until(lambda: len(world.bound()) == 2)
        for name in ("claimant-0", "claimant-1"):
            world.pod("a", name, cpu="2", priority=9)
        await until(lambda: len(scheduler.ledger.starts) == 2)
        starts = scheduler.ledger.starts
        one = next(iter(starts.values()))
        scheduler.ledger.starts = Unlisted(starts)
        assert Headroom(scheduler.state, scheduler.ledger, [one]).on_nodes() is False, "its victim is still there"
        scheduler.ledger.starts = starts
    check(scheduler.state)
