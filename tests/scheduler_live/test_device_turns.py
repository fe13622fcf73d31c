"""A device that several want in turn: it is given on when nobody needs it, and not before."""

import asyncio
from typing import Any

import pytest

from allotment_kube import Client
from allotment_kube.errors import ForbiddenError
from allotment_kube.models import Object
from allotment_kube.resources import DEVICE_CLASSES, PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from allotment_scheduler.core.state.invariants import check
from builders.live_world import World, until
from fakes.faults import FaultPlan

pytestmark = pytest.mark.looptime
DRIVER = "gpu.example.com"


def one_device(world: World) -> None:
    """Node n has one device, and room for many pods."""
    world.node("n", cpu="9")
    world.server.put(DEVICE_CLASSES, {"metadata": {"name": "gpu"}, "spec": {}})
    pool = {"name": "n", "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": DRIVER, "nodeName": "n", "pool": pool, "devices": [{"name": "d0"}]}
    world.server.put(RESOURCE_SLICES, {"metadata": {"name": "n"}, "spec": spec})


def claimant(world: World, namespace: str, name: str, **given: Any) -> None:
    """A pod that asks for a device by a claim of its own name."""
    spec = {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}}
    world.server.put(RESOURCE_CLAIMS, {"metadata": {"name": name, "namespace": namespace}, "spec": spec, "status": {}})
    world.pod(namespace, name, resourceClaims=[{"name": "gpu", "resourceClaimName": name}], **given)


def status(world: World, namespace: str, name: str) -> Object:
    found: Object = world.server.get(RESOURCE_CLAIMS, name, namespace) or {}
    return dict(found["status"])


def take_back(world: World, namespace: str, name: str) -> None:
    """The controller manager does so with claims of pods that are gone."""
    found: Object = world.server.get(RESOURCE_CLAIMS, name, namespace) or {}
    world.server.put(RESOURCE_CLAIMS, {**found, "status": {}})


@pytest.mark.parametrize("restarted", [False, True], ids=["the same leader", "a new leader"])
async def test_a_pod_that_cannot_be_bound_keeps_no_device_from_others(
    *, restarted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bind = Client.bind

    async def refuse(client: Client, namespace: str, pod: str, **given: Any) -> None:
        if pod == "poison":
            raise ForbiddenError("a webhook says no", code=403)
        await bind(client, namespace, pod, **given)

    monkeypatch.setattr(Client, "bind", refuse)
    world = World(FaultPlan())
    one_device(world)
    async with world.running() as scheduler:
        claimant(world, "a", "poison")
        await until(lambda: scheduler.ledger.refusal(("a", "poison")))
        assert status(world, "a", "poison")["reservedFor"]
        if not restarted:
            claimant(world, "b", "next")
            await until(lambda: world.bound() == {"next": "n"})
            check(scheduler.state)
            return
        world.tenant("a", suspended=True)  # it is not tried again
        await asyncio.sleep(1)
    world.scheduler = world.new_scheduler()
    async with world.running() as successor:
        claimant(world, "b", "next")
        await until(lambda: world.bound() == {"next": "n"})
        assert not status(world, "a", "poison")
    check(successor.state)


async def test_a_successor_gives_a_device_on_when_the_pod_that_has_it_has_left() -> None:
    world = World(FaultPlan(), graceful=True)
    one_device(world)
    async with world.running():
        claimant(world, "a", "victim", terminationGracePeriodSeconds=1800)
        await until(lambda: world.bound() == {"victim": "n"})
        claimant(world, "a", "next", priority=9)
        await world.being_evicted()
    world.scheduler = world.new_scheduler()
    async with world.running() as successor:
        await asyncio.sleep(900)
        assert successor.ledger.refusal(("a", "next")) is None
        assert world.status("a", "next").get("nominatedNodeName") == "n"
        assert not status(world, "a", "next"), "nothing is asked for before it can be had"
        world.server.remove(PODS, "victim", "a")
        await asyncio.sleep(5)
        take_back(world, "a", "victim")
        await until(lambda: world.bound() == {"next": "n"})
    check(successor.state)
