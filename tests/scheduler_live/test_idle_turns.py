"""Nothing is decided anew where nothing has happened: what is told and was known wakes nobody."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from allotment_kube.models import Object
from allotment_kube.resources import JOBS, NAMESPACES, NODES, PODS, Resource
from allotment_scheduler.core.state.invariants import check
from allotment_scheduler.shell.watches import NODE_POOLS, POD_GROUPS, TENANTS
from builders.live_world import World, until
from fakes.faults import FaultPlan

pytestmark = pytest.mark.looptime


def full(world: World) -> None:
    """A node with a running pod, a Job, a tenant, a pool and a group that waits."""
    world.node("n")
    world.tenant("t")
    world.job("a", "j", gang=True)
    world.group("a", "g", 2)
    pool = {"metadata": {"name": "default"}, "apiVersion": "allotment.dev/v1alpha1", "kind": "NodePool", "spec": {}}
    world.server.put(NODE_POOLS, pool)
    world.server.put(NAMESPACES, {"metadata": {"name": "a", "labels": {"team": "x"}}})
    world.pod("a", "p")
    world.pod("a", "waits", cpu="64")


def touch(world: World, resource: Resource[Any], name: str, namespace: str = "") -> Callable[[int], None]:
    """Writes a status that says nothing to a scheduler."""

    def write(number: int) -> None:
        known: Object = world.server.get(resource, name, namespace) or {}
        world.server.put(resource, {**known, "status": {**known.get("status", {}), "message": f"number {number}"}})

    return write


@pytest.mark.parametrize(
    ("resource", "name", "namespace"),
    [
        (PODS, "p", "a"),
        (PODS, "waits", "a"),
        (JOBS, "j", "a"),
        (NODES, "n", ""),
        (NAMESPACES, "a", ""),
        (TENANTS, "t", ""),
        (NODE_POOLS, "default", ""),
        (POD_GROUPS, "g", "a"),
    ],
    ids=str,
)
async def test_a_status_that_says_nothing_new_has_nothing_decided_anew(
    resource: Resource[Any], name: str, namespace: str
) -> None:
    world = World(FaultPlan())
    full(world)
    async with world.running() as scheduler:
        await until(lambda: "p" in world.bound() and not scheduler.ledger.starts)
        write, before = touch(world, resource, name, namespace), scheduler.progress.cycles
        for number in range(40):
            write(number)
            await asyncio.sleep(0.25)

        assert scheduler.progress.cycles - before < 15, "one a second comes by itself"
    check(scheduler.state)


async def test_a_binding_that_comes_back_has_nothing_decided_anew() -> None:
    world = World(FaultPlan())
    world.node("n", cpu="64")
    async with world.running() as scheduler:
        await asyncio.sleep(2)
        before = scheduler.progress.cycles
        for number in range(20):
            world.pod("a", f"p{number}")
            await asyncio.sleep(0.25)
        await until(lambda: len(world.bound()) == 20 and not scheduler.ledger.starts)

        assert scheduler.progress.cycles - before < 30, "one for each pod, and one a second"
    check(scheduler.state)
