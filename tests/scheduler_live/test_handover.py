"""One leader follows another: what the one did last is seen by the other before it decides anything."""

import asyncio
from typing import Any

import pytest

from allotment_kube.resources import PODS
from allotment_scheduler.core.invariants import check
from allotment_scheduler.shell import succession
from allotment_scheduler.shell.watches import TENANTS
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
