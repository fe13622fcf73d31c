"""Devices of starts that came to nothing: given back, so that others have them, and taken anew when they are needed."""

import asyncio
from typing import Any

import pytest

from allotment_kube.resources import DEVICE_CLASSES, PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from allotment_scheduler.core.state.invariants import check
from builders.live_world import World, until
from fakes.api_server import FakeApiServer, Refusal, Target
from fakes.faults import FaultPlan

pytestmark = pytest.mark.looptime
DRIVER = "gpu.example.com"


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of pods whose Bindings a webhook refuses."""
    names, bind = set[str](), FakeApiServer._bind

    def judged(server: FakeApiServer, target: Target, body: Any) -> Any:
        if target.name in names:
            raise Refusal(403, "Forbidden", "a webhook says no")
        return bind(server, target, body)

    monkeypatch.setattr(FakeApiServer, "_bind", judged)
    return names


def device_world() -> World:
    """Node n with one device, and a class that it is of."""
    world = World(FaultPlan())
    world.server.put(DEVICE_CLASSES, {"metadata": {"name": "gpu"}, "spec": {}})
    with_device(world, "n")
    return world


def with_device(world: World, name: str) -> None:
    world.node(name)
    pool = {"name": name, "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": DRIVER, "nodeName": name, "pool": pool, "devices": [{"name": "d0"}]}
    world.server.put(RESOURCE_SLICES, {"metadata": {"name": name}, "spec": spec})


def asks(world: World, namespace: str, name: str, **spec: Any) -> None:
    """A pod that asks for one device, by a claim of its name."""
    requests = [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]
    about = {"name": name, "namespace": namespace}
    world.server.put(RESOURCE_CLAIMS, {"metadata": about, "spec": {"devices": {"requests": requests}}, "status": {}})
    world.pod(namespace, name, resourceClaims=[{"name": "gpu", "resourceClaimName": name}], **spec)


def given(world: World, namespace: str, name: str) -> list[str]:
    """On which nodes a claim has devices."""
    status = (world.server.get(RESOURCE_CLAIMS, name, namespace) or {})["status"]
    return [each["pool"] for each in (status.get("allocation") or {"devices": {"results": []}})["devices"]["results"]]


async def test_a_pod_that_is_never_bound_keeps_its_device_from_nobody(refused: set[str]) -> None:
    world = device_world()
    refused.add("poison")
    async with world.running() as scheduler:
        asks(world, "a", "poison")
        await until(lambda: scheduler.ledger.in_quarantine)
        asks(world, "b", "next")
        await until(lambda: world.bound() == {"next": "n"})
        assert given(world, "b", "next") == ["n"]
        assert given(world, "a", "poison") == []
    check(scheduler.state)


async def test_who_could_not_start_once_is_given_a_device_again(refused: set[str]) -> None:
    world = device_world()
    refused.add("p")
    async with world.running() as scheduler:
        asks(world, "a", "p")
        await until(lambda: scheduler.ledger.in_quarantine and not given(world, "a", "p"))
        with_device(world, "m")
        world.node("n", unschedulable=True)
        refused.clear()
        await until(lambda: world.bound() == {"p": "m"})
        assert given(world, "a", "p") == ["m"]
    check(scheduler.state)


async def test_a_new_leader_gives_back_what_its_predecessor_gave_to_a_pod_that_waits() -> None:
    world = device_world()
    asks(world, "a", "p", schedulingGates=[{"name": "example.com/later"}])
    pod = world.server.get(PODS, "p", "a") or {}
    reserved = [{"resource": "pods", "name": "p", "uid": pod["metadata"]["uid"]}]
    allocation = {"devices": {"results": [{"request": "r", "driver": DRIVER, "pool": "n", "device": "d0"}]}}
    claim = world.server.get(RESOURCE_CLAIMS, "p", "a") or {}
    world.server.put(RESOURCE_CLAIMS, {**claim, "status": {"allocation": allocation, "reservedFor": reserved}})
    async with world.running() as scheduler:
        asks(world, "b", "q")
        await until(lambda: world.bound() == {"q": "n"})
        await asyncio.sleep(5)
        assert given(world, "a", "p") == []
    check(scheduler.state)
