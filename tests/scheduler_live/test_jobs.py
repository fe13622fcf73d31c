"""What Jobs make of their pods: also where the watch of Jobs is dead, and of pods that were bound before we came."""

import asyncio
from typing import Any

import pytest

from allotment_kube.models import Object
from allotment_kube.resources import JOBS, PODS
from allotment_scheduler.core.state.invariants import check
from builders.live_world import Standby, World, until
from fakes.faults import FaultPlan

pytestmark = pytest.mark.looptime


async def unseen_job(world: World, standby: Standby, **job: Any) -> str:
    """A gang Job of which the watch, dead from then on, does not tell; its uid."""
    standby.transport.partitioned = True
    uid = world.job("a", "j", gang=True, **job)
    await asyncio.sleep(1)
    standby.transport.partitioned = False
    return uid


async def test_a_gang_is_not_started_in_pieces_while_the_watch_of_jobs_is_dead() -> None:
    world = World(FaultPlan())
    world.node("small", cpu="3")
    async with world.standing_by(world.scheduler) as standby:
        standby.lead()
        await until(lambda: world.scheduler.progress.complete)
        job = await unseen_job(world, standby, parallelism=8)
        for number in range(8):
            world.pod("a", f"p{number}", owner=("Job", job))
        await asyncio.sleep(50)  # it takes longer than this to notice that a watch is dead
        assert world.bound() == {}
        assert world.scheduler.state.gangs["a", "job/j"].min_member == 8, "its Job was asked for"
        world.node("large", cpu="8")
        await until(lambda: len(world.bound()) == 8)
    check(world.scheduler.state)


async def test_who_comes_late_is_not_adopted_with_those_who_have_waited() -> None:
    world = World(FaultPlan())
    world.node("n")
    async with world.standing_by(world.scheduler) as standby:
        standby.lead()
        await until(lambda: world.scheduler.progress.complete)
        world.pod("a", "orphan", owner=("Job", "gone"))
        await asyncio.sleep(25)
        job = await unseen_job(world, standby)
        world.pod("a", "late", owner=("Job", job))
        await until(lambda: "orphan" in world.bound(), seconds=20)
        pods = world.scheduler.state.pods
        await until(lambda: pods["a", "late"].spec.group == "job/j", seconds=20)
    check(world.scheduler.state)


def changed(world: World, **status: Any) -> None:
    """The Job's status changes."""
    found = world.server.get(JOBS, "j", "a") or {}
    world.server.put(JOBS, {**found, "status": status})


def labelled(world: World, labels: Object) -> None:
    """The Job's labels change."""
    found = world.server.get(JOBS, "j", "a") or {}
    world.server.put(JOBS, {**found, "metadata": {**found["metadata"], "labels": labels}})


@pytest.mark.parametrize("restarted", [False, True], ids=["of our own time", "bound before we came"])
async def test_running_pods_follow_their_job(*, restarted: bool) -> None:
    world = World(FaultPlan())
    world.node("n")
    job = world.job("a", "j")
    world.pod("a", "p", owner=("Job", job))
    async with world.running():
        await until(lambda: world.bound() == {"p": "n"})
        if not restarted:
            await follows(world)
    if restarted:
        world.scheduler = world.new_scheduler()
        async with world.running():
            await follows(world)
    check(world.scheduler.state)


async def follows(world: World) -> None:
    """What the Job becomes is known of its running pod, until that is an orphan."""
    state = world.scheduler.state
    assert not state.pods["a", "p"].spec.fragile
    changed(world, failed=6)  # the next failure is one too many
    await until(lambda: state.pods["a", "p"].spec.fragile)
    labelled(world, {"allotment.dev/gang": "true"})
    await until(lambda: state.pods["a", "p"].spec.group == "job/j")
    assert state.gangs["a", "job/j"].running == 1
    labelled(world, {})
    await until(lambda: state.pods["a", "p"].spec.group is None)
    pod = world.server.get(PODS, "p", "a") or {}
    world.server.put(PODS, {**pod, "metadata": {**pod["metadata"], "ownerReferences": []}})
    await until(lambda: not state.pods["a", "p"].spec.owner)
    changed(world, failed=0)
    await asyncio.sleep(1)
    labelled(world, {"allotment.dev/gang": "true"})
    await asyncio.sleep(1)
    assert state.pods["a", "p"].spec.group is None, "it is an orphan"
    assert world.bound() == {"p": "n"}


@pytest.mark.parametrize(
    ("completions", "ended", "status"),
    [(None, "Succeeded", {"succeeded": 1}), (3, "Failed", {"failed": 1, "failedIndexes": "0"})],
    ids=["a work queue that is empty", "an index that has failed for good"],
)
async def test_a_gang_is_not_cut_short_by_a_pod_that_its_job_makes_no_more(
    completions: int | None, ended: str, status: Object
) -> None:
    world = World(FaultPlan())
    world.node("n")
    uid = world.job("a", "j", gang=True, parallelism=3)
    job = world.server.get(JOBS, "j", "a") or {}
    world.server.put(JOBS, {**job, "spec": {"parallelism": 3, "completions": completions, "backoffLimit": 100}})
    for number in range(3):
        world.pod("a", f"p{number}", owner=("Job", uid))
    async with world.running() as scheduler:
        await until(lambda: len(world.bound()) == 3)
        pod = world.server.get(PODS, "p0", "a") or {}
        world.server.put(PODS, {**pod, "status": {"phase": ended}})
        changed(world, **status)
        await until(lambda: len(scheduler.state.pods) == 2)
        await asyncio.sleep(900)
        assert {"p1", "p2"} <= set(world.bound()), "they run on"
    check(scheduler.state)


async def test_the_pods_of_a_job_that_is_made_anew_start_together_though_the_old_ones_still_run() -> None:
    """As `kubectl replace --force` does it: the garbage collector comes to the old pods later."""
    world = World(FaultPlan())
    world.node("n", cpu="6")
    async with world.running() as scheduler:
        first = world.job("a", "j", gang=True, parallelism=4)
        for number in range(4):
            world.pod("a", f"old{number}", owner=("Job", first))
        await until(lambda: len(world.bound()) == 4)
        world.server.store.remove(str(JOBS), ("a", "j"))  # its pods stay for now
        second = world.job("a", "j", gang=True, parallelism=4)
        for number in range(4):
            world.pod("a", f"new{number}", owner=("Job", second))
        await asyncio.sleep(10)
        assert not {name for name in world.bound() if name.startswith("new")}, "there is room for two"
        for number in range(4):
            world.server.remove(PODS, f"old{number}", "a")
        await until(lambda: len(world.bound()) == 4)
    check(scheduler.state)


@pytest.mark.parametrize("rebuilt", [False, True], ids=["as it was", "built anew"])
async def test_room_for_a_jobs_next_pods_is_held_no_longer_than_there_is_the_job(*, rebuilt: bool) -> None:
    world = World(FaultPlan())
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        job = world.job("a", "j", gang=True, parallelism=2)
        for number in range(2):
            world.pod("a", f"p{number}", owner=("Job", job))
        await until(lambda: len(world.bound()) == 2)
        world.server.put(PODS, {**(world.server.get(PODS, "p0", "a") or {}), "status": {"phase": "Failed"}})
        await until(lambda: scheduler.engine.holds.holds)
        if rebuilt:
            scheduler._known.rebuild()
        world.server.remove(JOBS, "j", "a")
        world.pod("b", "next")
        await until(lambda: "next" in world.bound(), seconds=30)
        assert not scheduler.engine.holds.holds
    check(scheduler.state)
