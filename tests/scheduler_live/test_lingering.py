"""What lingers counts for as long as it is there: pods on their way out, sizes being changed, limits that come late."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from allotment_kube.models import Object
from allotment_kube.resources import PODS
from allotment_scheduler.core.state.invariants import check
from allotment_scheduler.shell import issuing
from allotment_scheduler.shell.permission import fits_still
from builders.live_world import EPOCH, World, until
from fakes.faults import FaultPlan

pytestmark = pytest.mark.looptime

DELETED = "2025-06-15T15:00:00Z"
NO_EXECUTE = [{"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}]


def change(world: World, name: str, **parts: Any) -> None:
    """Write parts of a pod, as its owner or its kubelet would."""
    found: Object = world.server.get(PODS, name, "a") or {}
    world.server.put(PODS, {**found, **{part: {**found[part], **value} for part, value in parts.items()}})


async def test_a_limit_that_is_lowered_while_a_start_waits_for_its_room_holds() -> None:
    world = World(FaultPlan(), graceful=True)
    world.tenant("a", limits={"cpu": "4"})
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        await world.claimed()
        await world.being_evicted()
        assert ("a", "claimant") in scheduler.ledger.starts
        world.tenant("a", limits={"cpu": "1"})
        await until(lambda: scheduler.state.tenant_specs["a"].limits.total == {"cpu": 1000})
        world.server.remove(PODS, "victim", "a")
        await asyncio.sleep(30)
        assert world.bound() == {}
        world.tenant("a", limits={"cpu": "2"})
        await until(lambda: world.bound() == {"claimant": "n"})
    check(scheduler.state)


async def test_a_pod_that_a_foreign_finalizer_keeps_holds_its_room_and_its_part_of_the_limit() -> None:
    world = World(FaultPlan())
    world.tenant("a", limits={"cpu": "2"})
    world.node("n", cpu="2")
    world.node("m", cpu="2")
    async with world.running() as scheduler:
        world.pod("a", "kept", cpu="2")
        await until(lambda: "kept" in world.bound())
        node = world.bound()["kept"]
        change(world, "kept", metadata={"finalizers": ["example.com/f"], "deletionTimestamp": DELETED})
        await until(lambda: scheduler.state.pods["a", "kept"].spec.deleting)
        world.pod("a", "next", cpu="2")
        world.pod("b", "large", cpu="2")
        world.pod("b", "other", cpu="2")
        await until(lambda: len(world.bound()) == 2)
        await asyncio.sleep(30)
        bound = world.bound()
        assert "next" not in bound, "its tenant's limit is used up"
        assert sorted(bound.values()) == ["m", "n"]
        world.server.remove(PODS, "kept", "a")
        await until(lambda: len(world.bound()) == 2 and node in world.bound().values())
    check(scheduler.state)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
async def test_a_pod_that_has_ended_holds_nothing_although_a_finalizer_keeps_it(phase: str) -> None:
    world = World(FaultPlan())
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        world.pod("a", "kept", cpu="2")
        await until(lambda: world.bound() == {"kept": "n"})
        ending = {"finalizers": ["example.com/f"], "deletionTimestamp": DELETED}
        change(world, "kept", metadata=ending, status={"phase": phase})
        world.pod("a", "next", cpu="2")
        await until(lambda: world.bound() == {"kept": "n", "next": "n"})
    check(scheduler.state)


async def test_a_waiting_pod_that_a_finalizer_keeps_is_not_started() -> None:
    world = World(FaultPlan())
    async with world.running() as scheduler:
        world.pod("a", "kept", cpu="2")
        await until(lambda: ("a", "kept") in scheduler.state.pods)
        change(world, "kept", metadata={"finalizers": ["example.com/f"], "deletionTimestamp": DELETED})
        await until(lambda: scheduler.state.pods["a", "kept"].spec.deleting)
        world.node("n", cpu="2")
        world.pod("a", "next", cpu="2")
        await until(lambda: world.bound() == {"next": "n"})
    check(scheduler.state)


def sized(wants: str, *, promised: str, has: str, pending: str = "") -> dict[str, Any]:
    """A container that wants, was promised and has so much."""
    said = {"name": "main", "allocatedResources": {"cpu": promised}, "resources": {"requests": {"cpu": has}}}
    condition = {"type": "PodResizePending", "status": "True", "reason": pending}
    return {
        "spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": wants}}}]},
        "status": {"containerStatuses": [said], "conditions": [condition] if pending else []},
    }


@pytest.mark.parametrize(
    ("resize", "counts"),
    [
        (sized("3", promised="1", has="1"), 3000),
        (sized("3", promised="1", has="1", pending="Deferred"), 3000),
        (sized("3", promised="1", has="1", pending="Infeasible"), 1000),
        (sized("1", promised="3", has="3"), 3000),
        (sized("1", promised="1", has="3"), 3000),
        (sized("1", promised="1", has="1"), 1000),
    ],
    ids=[
        "a wish",
        "a wish that has to wait",
        "a wish that the node can never meet",
        "a smaller wish, not promised yet",
        "promised, and not carried out",
        "done",
    ],
)
async def test_a_pod_that_is_being_resized_counts_the_most_of_wish_promise_and_possession(
    resize: dict[str, Any], counts: int
) -> None:
    world = World(FaultPlan())
    world.node("n", cpu="4")
    async with world.running() as scheduler:
        world.pod("a", "resized", cpu="1")
        await until(lambda: world.bound() == {"resized": "n"})
        change(world, "resized", **resize)
        await asyncio.sleep(1)
        world.pod("a", "next", cpu="2")
        await asyncio.sleep(10)
        assert dict(scheduler.state.pods["a", "resized"].klass.spec.requests)["cpu"] == counts
        assert ("next" in world.bound()) == (counts == 1000)
        if counts > 1000:
            change(world, "resized", **sized("1", promised="1", has="1"))
            await until(lambda: "next" in world.bound())
    check(scheduler.state)


async def test_nobody_is_placed_on_or_evicted_from_a_node_that_lets_nothing_run() -> None:
    """The taint manager is about to evict what runs there: until it has, that counts; and it frees no usable room."""
    world = World(FaultPlan())
    world.tenant("a", limits={"cpu": "3"})
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        world.pod("a", "runs", cpu="2")
        await until(lambda: world.bound() == {"runs": "n"})
        world.node("n", cpu="2", taints=NO_EXECUTE)
        await asyncio.sleep(5)
        world.pod("a", "claimant", cpu="2", priority=9)
        world.pod("a", "small", cpu="1")
        await asyncio.sleep(60)
        assert world.bound() == {"runs": "n"}
        evictions = [each for each in world.server.journal if each.path.endswith("/eviction")]
        assert not evictions
        assert scheduler.state.forest.by_name["a"].used[scheduler.state.resources.column("cpu")] == 2000

        world.server.remove(PODS, "runs", "a")  # by the taint manager
        await asyncio.sleep(30)
        assert world.bound() == {}
        world.node("n", cpu="2")
        await until(lambda: world.bound() == {"claimant": "n"})
    check(scheduler.state)


async def test_a_limit_that_is_met_on_a_node_that_lets_nothing_run_is_claimed_all_the_same() -> None:
    """Whoever runs there stands in the way of a limit, wherever the room is."""
    world = World(FaultPlan())
    world.tenant("a", limits={"cpu": "2"})
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        world.pod("a", "runs", cpu="2", owner=("ReplicaSet", "rs"))
        await until(lambda: world.bound() == {"runs": "n"})
        world.node("n", cpu="2", taints=NO_EXECUTE)
        world.node("m", cpu="2")
        await asyncio.sleep(5)
        world.pod("a", "claimant", cpu="2", priority=9)
        await until(lambda: world.bound() == {"claimant": "m"})
    check(scheduler.state)


@pytest.mark.parametrize(("since", "looks"), [(-3600.0, False), (300.0, True)], ids=["for good", "soon"])
async def test_starts_are_looked_at_once_more_for_who_will_go_not_for_who_hangs(
    since: float, looks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead node's pods hang in their deletion for hours, and others come and go all the time."""
    looked: list[None] = []

    def fits(*given: Any) -> bool:
        looked.append(None)
        return fits_still(*given)

    monkeypatch.setattr(issuing, "fits_still", fits)
    world = World(FaultPlan())
    for name in ("n", "m"):
        world.node(name, cpu="20")
    async with world.running() as scheduler:
        world.pod("a", "hangs", cpu="1")
        await until(lambda: "hangs" in world.bound())
        ends = datetime.fromtimestamp(EPOCH + asyncio.get_running_loop().time() + since, UTC)
        metadata = {"finalizers": ["example.com/f"], "deletionTimestamp": f"{ends:%FT%TZ}"}
        change(world, "hangs", metadata=metadata)
        await until(lambda: scheduler.state.pods["a", "hangs"].spec.deleting)
        term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "nobody"}}}
        for number in range(5):
            shy = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
            world.pod("a", f"p{number}", cpu="1", affinity=shy)
            await until(lambda: f"p{number}" in world.bound())  # noqa: B023 - awaited here
            world.server.remove(PODS, f"p{number}", "a")
        assert bool(looked) is looks
    check(scheduler.state)
