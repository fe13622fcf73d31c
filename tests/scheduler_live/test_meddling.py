"""Others meddle: nodes and pods vanish or change under the scheduler's hands, and clocks jump."""

import asyncio
from typing import Any

import pytest

from allotment_kube.resources import NODES, PODS
from allotment_scheduler.core.state.invariants import check
from builders.live_world import EPOCH, World, until
from fakes.faults import Fault, FaultPlan, Verb

pytestmark = pytest.mark.looptime


async def test_a_node_that_is_deleted_while_its_pods_are_being_bound_gets_none_and_they_go_elsewhere() -> None:
    world = World(FaultPlan())
    world.node("n", cpu="4")
    async with world.running() as scheduler:
        world.plan.script(Verb.BIND, *[Fault.UNAVAILABLE] * 8)
        for number in range(4):
            world.pod("a", f"p{number}")
        await until(lambda: world.plan.injected[Verb.BIND, Fault.UNAVAILABLE] > 0)
        world.server.remove(NODES, "n")
        world.node("m", cpu="4")
        await until(lambda: len(world.bound()) == 4, seconds=300)
        await until(lambda: not scheduler.ledger.starts)
    check(scheduler.state)


@pytest.mark.parametrize(
    "spec",
    [{"unschedulable": True}, {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}],
    ids=["drained", "tainted"],
)
async def test_a_node_that_is_closed_gets_no_more_pods(spec: dict[str, Any]) -> None:
    world = World(FaultPlan())
    world.node("n", cpu="4")
    async with world.running() as scheduler:
        world.pod("a", "before")
        await until(lambda: world.bound() == {"before": "n"})
        world.node("n", cpu="4", **spec)
        await asyncio.sleep(5)
        world.pod("a", "after")
        await asyncio.sleep(30)
        assert world.bound() == {"before": "n"}
        world.node("n", cpu="4")
        await until(lambda: world.bound() == {"before": "n", "after": "n"})
    check(scheduler.state)


async def test_a_pod_that_is_deleted_while_being_bound_leaves_its_room_to_others() -> None:
    world = World(FaultPlan())
    world.node("n", cpu="1")
    async with world.running() as scheduler:
        world.plan.script(Verb.BIND, *[Fault.UNAVAILABLE] * 3)
        world.pod("a", "fleeting")
        await until(lambda: world.plan.injected[Verb.BIND, Fault.UNAVAILABLE] > 0)
        world.server.remove(PODS, "fleeting", "a")
        world.pod("a", "next")
        await until(lambda: world.bound() == {"next": "n"})
        await until(lambda: not scheduler.ledger.starts)
    check(scheduler.state)


async def test_a_recreated_pod_of_the_same_name_is_another_pod() -> None:
    world = World(FaultPlan())
    world.node("n", cpu="1")
    world.node("m", cpu="2")
    owner = ("StatefulSet", "set")
    async with world.running() as scheduler:
        world.plan.script(Verb.BIND, *[Fault.DROP_BEFORE] * 3)
        world.pod("a", "db-0", owner=owner)
        await until(lambda: world.plan.injected[Verb.BIND, Fault.DROP_BEFORE] > 0)
        world.server.remove(PODS, "db-0", "a")
        world.pod("a", "db-0", cpu="2", owner=owner)
        await until(lambda: world.bound() == {"db-0": "m"})
        uid = (world.server.get(PODS, "db-0", "a") or {})["metadata"]["uid"]
        await until(lambda: scheduler.state.pods["a", "db-0"].spec.uid == uid)
        await until(lambda: not scheduler.ledger.starts)
        assert int(scheduler.state.nodes.free[0, scheduler.state.nodes.by_name["n"].index]) == 1000
    check(scheduler.state)


async def test_a_pod_that_is_resized_in_place_counts_with_its_new_size() -> None:
    world = World(FaultPlan())
    world.node("n", cpu="4")
    async with world.running() as scheduler:
        world.pod("a", "grows", cpu="1")
        await until(lambda: world.bound() == {"grows": "n"})
        found = world.server.get(PODS, "grows", "a") or {}
        container = {"name": "main", "resources": {"requests": {"cpu": "6"}}}
        world.server.put(PODS, {**found, "spec": {**found["spec"], "containers": [container]}})
        await until(lambda: dict(scheduler.state.pods["a", "grows"].klass.spec.requests)["cpu"] == 6000)
        world.pod("a", "late", cpu="1")
        await asyncio.sleep(30)
        assert world.bound() == {"grows": "n"}
        found = world.server.get(PODS, "grows", "a") or {}
        container = {"name": "main", "resources": {"requests": {"cpu": "2"}}}
        world.server.put(PODS, {**found, "spec": {**found["spec"], "containers": [container]}})
        await until(lambda: world.bound() == {"grows": "n", "late": "n"})
    check(scheduler.state)


async def test_a_pod_that_asks_for_more_than_all_machines_have_stops_nobody_elses_claim() -> None:
    """The API server admits 9E, which no sum of 64 bits can hold once it is counted in thousandths."""
    world = World(FaultPlan())
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        for number in range(3):
            world.pod("b", f"nonsense-{number}", cpu="9E", priority=1)
        await world.claimed()
        await until(lambda: world.bound() == {"claimant": "n"})
        assert not scheduler.ledger.in_quarantine
    check(scheduler.state)


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0], ids=["a day ahead", "a day back"])
async def test_a_clock_that_jumps_stops_nothing(jump: float) -> None:
    world = World(FaultPlan())
    world.node("n", cpu="4")
    loop = asyncio.get_running_loop()
    ahead = 0.0
    world.scheduler = world.new_scheduler(clock=lambda: EPOCH + loop.time() + ahead)
    async with world.running() as scheduler:
        world.plan.script(Verb.BIND, Fault.CONFLICT)
        world.pod("a", "set-aside")
        await until(lambda: scheduler.ledger.in_quarantine == 1)
        ahead = jump
        world.pod("a", "next")
        await until(lambda: "next" in world.bound())
        # At worst the longest quarantine is waited out: times of before a jump are not believed.
        await until(lambda: "set-aside" in world.bound(), seconds=900)
    check(scheduler.state)
