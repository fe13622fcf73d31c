"""One leader follows another: what the one did last is seen by the other before it decides anything."""

import asyncio
from typing import Any

import pytest

from allotment_kube import Client
from allotment_kube.errors import UnavailableError
from allotment_kube.resources import PODS
from allotment_scheduler.core.state.invariants import check
from allotment_scheduler.shell import succession
from allotment_scheduler.shell.loop import Scheduler
from allotment_scheduler.shell.watches import POD_GROUPS, TENANTS
from builders.live_world import World, until
from fakes.faults import Fault, FaultPlan, Verb

pytestmark = pytest.mark.looptime


@pytest.mark.parametrize("seconds_blind", [1, 100], ids=["its watch is dead", "its watch waits to be opened again"])
async def test_a_successor_whose_watch_lags_gives_nothing_away_that_its_predecessor_gave(seconds_blind: int) -> None:
    """By its own picture one pod waits, and its tenant's limit has room for it; the room was given to another."""
    world = World(FaultPlan())
    world.tenant("a", limits={"cpu": "1"})
    world.node("n")
    async with world.standing_by(world.new_scheduler()) as standby:
        async with world.running() as leader:
            world.plan.script(Verb.BIND, Fault.CONFLICT)
            world.pod("a", "waits")
            await until(lambda: ("a", "waits") in standby.scheduler.state.pods)
            await until(lambda: leader.ledger.in_quarantine)
            standby.transport.partitioned = True
            world.pod("a", "next")
            await until(lambda: world.bound() == {"next": "n"})
        await asyncio.sleep(seconds_blind)
        standby.transport.partitioned = False
        standby.lead()
        await asyncio.sleep(150)
        assert world.bound() == {"next": "n"}
        world.server.remove(PODS, "next", "a")
        await until(lambda: world.bound() == {"waits": "n"})
    check(standby.scheduler.state)


async def test_a_successor_on_a_quiet_cluster_begins_at_once() -> None:
    """No pod changes, so no watch tells a version: a short watch beside it shows that nothing was missed."""
    world = World(FaultPlan())
    world.node("n")
    async with world.standing_by(world.new_scheduler()) as standby:
        await asyncio.sleep(30)
        world.node("m")
        standby.lead()
        await until(lambda: standby.scheduler.progress.leading, seconds=5)
        world.pod("a", "p")
        await until(world.bound)
    check(standby.scheduler.state)


async def test_a_successor_knows_the_evictions_that_were_told_while_it_stood_by() -> None:
    world = World(FaultPlan())
    async with world.standing_by(world.new_scheduler()) as standby:
        await until(lambda: "a" in standby.scheduler.picture.ground.evictions)
        until_when = "2025-06-15T20:00:00Z"
        evictions = {
            "windowStart": "2025-06-15T15:00:00Z",
            "used": 7,
            "backoff": [{"workload": "job/1", "evictions": 3, "until": until_when}],
        }
        tenant = world.server.get(TENANTS, "a") or {}
        world.server.put(TENANTS, {**tenant, "status": {"evictions": evictions}})
        await asyncio.sleep(1)
        standby.lead()
        await until(lambda: standby.scheduler.progress.leading)
        brakes = standby.scheduler.engine.brakes
        assert brakes.windows["a"].used == 7
        assert brakes.backoffs["job/1"].evictions == 3


@pytest.mark.parametrize("where", ["seats", "remember_rooms", "offer"])
async def test_a_fault_in_taking_over_keeps_nobody_from_leading(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*_given: Any, **_named: Any) -> Any:
        raise ZeroDivisionError

    world = World(FaultPlan())
    world.node("n")
    async with world.standing_by(world.new_scheduler()) as standby:
        holder = standby.scheduler.picture.hardware if where == "offer" else succession
        monkeypatch.setattr(holder, where, faulty)
        standby.lead()
        await until(lambda: standby.scheduler.progress.leading)
        monkeypatch.undo()
        world.pod("a", "p")
        await until(lambda: world.bound() == {"p": "n"})
    check(standby.scheduler.state)


@pytest.mark.parametrize("told", [False, True], ids=["its status was not written yet", "its status says so"])
@pytest.mark.parametrize("how", ["another process", "a state built anew"])
async def test_a_plan_for_announced_members_outlives_its_leader(how: str, *, told: bool) -> None:
    """The victim is on its way out; the room is promised to a driver, and held for executors to come."""
    world = World(FaultPlan(), graceful=True)
    world.node("n", cpu="4")
    async with world.running() as scheduler:
        world.pod("a", "victim", cpu="4")
        await until(lambda: world.bound() == {"victim": "n"})
        world.group("a", "g", 3, expected=[{"name": "executor", "count": 2, "requests": {"cpu": "1"}}])
        world.pod("a", "driver", cpu="2", group="g", priority=9)
        await world.being_evicted()
        if how == "a state built anew":
            scheduler._known.rebuild()
            await finishes(world, scheduler)
            return
    if told:
        holds = [{"member": "executor", "node": "n", "count": 2}, {"member": "pod", "node": "n", "count": 1}]
        status = {"phase": "Starting", "reservation": {"until": "2030-01-01T00:00:00Z", "holds": holds}}
        world.server.put(POD_GROUPS, {**(world.server.get(POD_GROUPS, "g", "a") or {}), "status": status})
    world.scheduler = world.new_scheduler()
    async with world.running() as successor:
        await finishes(world, successor)


async def finishes(world: World, scheduler: Scheduler) -> None:
    """Whoever leads now finishes the plan, whoever else wants the room."""
    world.pod("b", "thief", cpu="4")
    await asyncio.sleep(3)
    assert world.status("a", "driver").get("nominatedNodeName") == "n"
    world.server.remove(PODS, "victim", "a")
    await until(lambda: world.bound() == {"driver": "n"})
    for number in range(2):
        world.pod("a", f"executor-{number}", group="g")
    await until(lambda: world.bound() == {"driver": "n", "executor-0": "n", "executor-1": "n"})
    check(scheduler.state)


@pytest.mark.parametrize("gone", [0, 1], ids=["both victims linger", "one victim is gone"])
@pytest.mark.parametrize("how", ["another process", "a state built anew"])
async def test_a_plan_for_a_gang_with_victims_on_two_nodes_is_finished(how: str, gone: int) -> None:
    world = World(FaultPlan(), graceful=True)
    victims = ["one", "two"]
    for number in range(2):
        world.node(f"n{number}", cpu="2")
    async with world.running() as scheduler:
        for name in victims:
            world.pod("a", name, cpu="2", owner=("ReplicaSet", name))
        await until(lambda: len(world.bound()) == 2)
        world.group("a", "g", 2)
        for number in range(2):
            world.pod("a", f"g-{number}", cpu="2", group="g", priority=9)
        for name in victims:
            await until(lambda name=name: deleted(world, name))  # type: ignore[misc] # mypy knows no such defaults
        for name in victims[:gone]:
            world.server.remove(PODS, name, "a")
        if how == "a state built anew":
            scheduler._known.rebuild()
            await gang_starts(world, scheduler, victims[gone:])
            return
    world.scheduler = world.new_scheduler()
    async with world.running() as successor:
        await gang_starts(world, successor, victims[gone:])


def deleted(world: World, name: str) -> bool:
    return "deletionTimestamp" in (world.server.get(PODS, name, "a") or {})["metadata"]


async def gang_starts(world: World, scheduler: Scheduler, lingering: list[str]) -> None:
    """Whoever leads now binds the gang when all its victims have gone, and not before; nobody else gets their room."""
    world.pod("a", "thief", cpu="2")
    for name in lingering:
        await asyncio.sleep(5)
        assert not {"g-0", "g-1", "thief"} & set(world.bound())
        world.server.remove(PODS, name, "a")
    await until(lambda: set(world.bound()) == {"g-0", "g-1"})
    check(scheduler.state)


async def test_who_was_promised_room_by_a_predecessor_runs_from_now_on() -> None:
    """Not since it was created: its minimum runtime would be over before it has begun."""
    world = World(FaultPlan(), graceful=True)
    async with world.running():
        world.pod("a", "claimant", cpu="2", priority=9, schedulingGates=[{"name": "later"}])
        await asyncio.sleep(1000)
        world.node("n", cpu="2")
        world.pod("a", "victim", cpu="2")
        await until(lambda: world.bound() == {"victim": "n"})
        claimant = world.server.get(PODS, "claimant", "a") or {}
        world.server.put(PODS, {**claimant, "spec": {**claimant["spec"], "schedulingGates": []}})
        await world.being_evicted()
    world.scheduler = world.new_scheduler()
    async with world.running() as successor:
        await until(lambda: ("a", "claimant") in successor.ledger.starts)
        pod = successor.state.pods["a", "claimant"]
        assert pod.started > pod.spec.created + 900
        await asyncio.sleep(5)
        assert pod.started > pod.spec.created + 900


async def test_a_plan_that_was_cut_short_costs_nobody_but_its_own_victims(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its leader died when one of two victims of a node had been asked to go."""
    evict, refusing, asked = Client.evict, True, list[str]()

    async def one_only(client: Client, namespace: str, pod: str, **given: Any) -> None:
        asked.append(pod)
        if refusing and pod != asked[0]:
            raise UnavailableError("not now", code=503)
        await evict(client, namespace, pod, **given)

    monkeypatch.setattr(Client, "evict", one_only)
    world = World(FaultPlan(), graceful=True)
    for name in "nm":
        world.node(name, cpu="2")
    async with world.running():
        for number in range(4):
            world.pod("a", f"p{number}", owner=("ReplicaSet", f"p{number}"), terminationGracePeriodSeconds=60)
        await until(lambda: len(world.bound()) == 4)
        world.pod("a", "claimant", cpu="2", priority=9)
        await until(lambda: leaving(world))
    before, [first] = world.bound(), leaving(world)
    refusing = False
    world.scheduler = world.new_scheduler()
    async with world.running() as successor:
        await until(lambda: len(leaving(world)) == 2, seconds=10)
        await asyncio.sleep(50)
        assert {before[name] for name in leaving(world)} == {before[first]}
        for name in leaving(world):
            world.server.remove(PODS, name, "a")
        await until(lambda: world.bound().get("claimant") == before[first])
    check(successor.state)


def leaving(world: World) -> list[str]:
    return [each["metadata"]["name"] for each in world.server.objects(PODS) if "deletionTimestamp" in each["metadata"]]
