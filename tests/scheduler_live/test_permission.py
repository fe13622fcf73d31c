"""A start that waits for its room is sent only where its pod might still be placed when the room is there."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from allotment_kube.resources import PODS
from allotment_scheduler.core.state.invariants import check
from allotment_scheduler.shell.watches import TENANTS
from builders.live_world import World, until
from fakes.faults import FaultPlan

pytestmark = pytest.mark.looptime

SMALL = {"requests": {"cpu": "10m"}}
PORT = {"name": "main", "ports": [{"containerPort": 80, "hostPort": 80}]}
TAINT = [{"key": "k", "value": "v", "effect": "NoSchedule"}]


def foreign(world: World, name: str, **spec: Any) -> None:
    """A pod that somebody else put on node n."""
    world.server.put(
        PODS,
        {
            "metadata": {"name": name, "namespace": "kube-system", "labels": {"app": "shy"}},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "resources": SMALL}], **spec},
            "status": {"phase": "Running"},
        },
    )


@pytest.mark.parametrize(
    ("change", "starts"),
    [
        (lambda _: None, True),
        (lambda world: world.tenant("a", suspended=True), False),
        (lambda world: world.server.remove(TENANTS, "a"), False),
        (lambda world: world.group("a", "gang", 1, paused=True), False),
        (lambda world: world.node("n", taints=TAINT), False),
        (lambda world: world.tenant("a", nodePools=["others"]), False),
        (lambda world: foreign(world, "there", containers=[{**PORT, "resources": SMALL}]), False),
        (lambda world: foreign(world, "there", containers=[{"name": "c", "resources": SMALL}]), True),
    ],
    ids=["nothing changes", "its tenant is suspended", "its tenant is gone", "its gang is paused",
         "the node is tainted", "its tenant may not use the node's pool", "somebody takes its port",
         "somebody comes who is not in the way"],
)  # fmt: skip
async def test_who_waited_for_room_starts_only_where_it_still_may(
    change: Callable[[World], None], *, starts: bool
) -> None:
    world = World(FaultPlan(), graceful=True)
    world.node("n", cpu="3")
    async with world.running() as scheduler:
        world.pod("a", "victim", cpu="2")
        await until(lambda: world.bound() == {"victim": "n"})
        world.group("a", "gang", 1)
        needs = {**PORT, "resources": {"requests": {"cpu": "2"}}}
        world.pod("a", "claimant", cpu="2", priority=9, group="gang", containers=[needs])
        await world.being_evicted()
        assert ("a", "claimant") in scheduler.ledger.starts
        change(world)
        await asyncio.sleep(3)
        world.server.remove(PODS, "victim", "a")
        await asyncio.sleep(10)
        assert ("claimant" in world.bound()) == starts
        if not starts:
            assert "nominatedNodeName" not in world.status("a", "claimant"), "a successor would keep that promise"
    check(scheduler.state)
