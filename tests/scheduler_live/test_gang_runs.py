"""A PodGroup whose members are done: told once, known after a fault, and nothing to whoever runs under it next."""

import asyncio
from typing import Any

import pytest

from allotment_kube.resources import PODS
from allotment_scheduler.core.state.invariants import check
from allotment_scheduler.shell.loop import Scheduler
from allotment_scheduler.shell.statuses import Statuses
from allotment_scheduler.shell.watches import POD_GROUPS
from builders.live_world import EPOCH, World, until
from fakes.faults import FaultPlan

pytestmark = pytest.mark.looptime

SIZE = 3


def statuses(scheduler: Scheduler, world: World) -> dict[tuple[str, str], Any]:
    """What statuses are to say."""
    loop = asyncio.get_running_loop()
    found = Statuses(scheduler, lambda: world.settings, now=lambda: EPOCH + loop.time(), publish=lambda _: None)
    return {key: status for _, key, status in found.due()}


def phase(scheduler: Scheduler, world: World) -> Any:
    """What the group is to be told of its run."""
    return status(scheduler, world)["phase"]


def status(scheduler: Scheduler, world: World) -> Any:
    """What the group's status is to say."""
    return statuses(scheduler, world)["a", "g"]


async def one_run(world: World) -> None:
    """All members run, are done, and still exist."""
    world.group("a", "g", SIZE)
    names = [f"first-{number}" for number in range(SIZE)]
    for name in names:
        world.pod("a", name, group="g")
    await until(lambda: len(world.bound()) == SIZE)
    for name in names:
        world.server.put(PODS, {**(world.server.get(PODS, name, "a") or {}), "status": {"phase": "Succeeded"}})
    await until(lambda: not world.scheduler.state.pods)
    await asyncio.sleep(5)


def touch(world: World, count: int) -> None:
    """Somebody labels some of the members that are done."""
    for number in range(count):
        pod = world.server.get(PODS, f"first-{number}", "a") or {}
        labels = {**pod["metadata"]["labels"], "seen": "yes"}
        world.server.put(PODS, {**pod, "metadata": {**pod["metadata"], "labels": labels}})


async def next_run(world: World) -> None:
    """New members wait, and there is room for one of them."""
    world.pod("b", "hog", cpu="3", priority=9)
    await until(lambda: "hog" in world.bound())
    for number in range(SIZE):
        world.pod("a", f"second-{number}", group="g")
    await asyncio.sleep(3)


def second(world: World) -> set[str]:
    return {name for name in world.bound() if name.startswith("second")}


async def test_a_later_word_of_members_that_are_done_starts_no_part_of_the_next_run() -> None:
    world = World(FaultPlan())
    world.tenant("b", guarantee={"cpu": "3"})
    world.node("n", cpu="4")
    async with world.running() as scheduler:
        await one_run(world)
        await next_run(world)
        touch(world, SIZE - 1)
        await asyncio.sleep(10)
        assert scheduler.state.gangs["a", "g"].min_member == SIZE
        assert not second(world)
    check(scheduler.state)


async def test_a_standby_that_saw_one_run_end_starts_no_part_of_the_next() -> None:
    world = World(FaultPlan())
    world.tenant("b", guarantee={"cpu": "3"})
    world.node("n", cpu="4")
    async with world.standing_by(world.new_scheduler()) as standby:
        async with world.running():
            await one_run(world)
            for number in range(SIZE):
                world.server.remove(PODS, f"first-{number}", "a")
            await next_run(world)
            assert not second(world)
        standby.lead()
        await until(lambda: standby.scheduler.progress.leading)
        await asyncio.sleep(10)
        assert standby.scheduler.state.gangs["a", "g"].min_member == SIZE
        assert not second(world)
    check(standby.scheduler.state)


def write_status(world: World, scheduler: Scheduler) -> None:
    """As the leader does every few seconds."""
    group = world.server.get(POD_GROUPS, "g", "a") or {}
    world.server.put(POD_GROUPS, {**group, "status": statuses(scheduler, world)["a", "g"]})


async def done_and_deleted(world: World, *names: str) -> None:
    """Members that are done, and whose owner deletes them then, as Spark does with executors."""
    for name in names:
        world.server.put(PODS, {**(world.server.get(PODS, name, "a") or {}), "status": {"phase": "Succeeded"}})
        await asyncio.sleep(1)
        world.server.remove(PODS, name, "a")
    await asyncio.sleep(2)


async def test_a_new_leader_knows_of_members_that_are_done_and_gone() -> None:
    """One of three is done; another is lost, and the one in its place waits for nobody else."""
    world = World(FaultPlan())
    world.node("n")
    async with world.running() as scheduler:
        world.group("a", "g", SIZE)
        for number in range(SIZE):
            world.pod("a", f"first-{number}", group="g")
        await until(lambda: len(world.bound()) == SIZE)
        await done_and_deleted(world, "first-0")
        write_status(world, scheduler)
    world.scheduler = world.new_scheduler()
    async with world.running() as successor:
        await until(lambda: successor.progress.leading)
        assert statuses(successor, world)["a", "g"]["finished"] == 1
        assert phase(successor, world) == "Running"
        world.server.remove(PODS, "first-1", "a")
        world.pod("a", "second-1", group="g")
        await until(lambda: "second-1" in world.bound())
    check(successor.state)


async def test_a_new_leader_does_not_take_an_older_status_for_the_run_that_it_finds() -> None:
    """The last leader wrote it before that run began, and died."""
    world = World(FaultPlan())
    world.node("n")
    async with world.running() as scheduler:
        world.group("a", "g", SIZE)
        for number in range(SIZE):
            world.pod("a", f"first-{number}", group="g")
        await until(lambda: len(world.bound()) == SIZE)
        await done_and_deleted(world, "first-0", "first-1")
        write_status(world, scheduler)
        await done_and_deleted(world, "first-2")
        for number in range(SIZE):
            world.pod("a", f"second-{number}", group="g")
        await until(lambda: len(second(world)) == SIZE)
    world.scheduler = world.new_scheduler()
    async with world.running() as successor:
        await until(lambda: successor.progress.leading)
        assert successor.state.gangs["a", "g"].min_member == SIZE
    check(successor.state)


async def test_a_finished_group_stays_finished_when_a_pod_of_it_is_touched() -> None:
    world = World(FaultPlan())
    world.node("n")
    async with world.running() as scheduler:
        await one_run(world)
        assert phase(scheduler, world) == "Finished"
        touch(world, 1)
        await asyncio.sleep(5)
        assert phase(scheduler, world) == "Finished"


async def test_a_finished_group_stays_finished_when_the_state_is_built_anew() -> None:
    world = World(FaultPlan())
    world.node("n")
    async with world.running() as scheduler:
        await one_run(world)
        before = scheduler.state
        scheduler._known.doubt()
        await until(lambda: scheduler.state is not before)
        await asyncio.sleep(2)
        assert phase(scheduler, world) == "Finished"


@pytest.mark.parametrize("left", [0, 1], ids=["no member is left", "one member is still there"])
async def test_a_finished_group_stays_finished_under_a_leader_that_saw_none_of_it(left: int) -> None:
    world = World(FaultPlan())
    world.node("n")
    async with world.running() as scheduler:
        await one_run(world)
        said = status(scheduler, world)
    world.server.put(POD_GROUPS, {**(world.server.get(POD_GROUPS, "g", "a") or {}), "status": said})
    for number in range(left, SIZE):
        world.server.remove(PODS, f"first-{number}", "a")
    world.scheduler = world.new_scheduler()
    async with world.running() as successor:
        await until(lambda: successor.progress.complete)
        await asyncio.sleep(10)
        assert status(successor, world) == said
        world.pod("a", "second", group="g")
        await until(lambda: phase(successor, world) == "Pending")
    check(successor.state)


async def test_a_gang_on_its_way_out_does_not_start_again_in_pieces() -> None:
    """Its Job creates others at once, and there is room for some of them while the first are leaving."""
    world = World(FaultPlan(), graceful=True)
    world.node("n", cpu=str(SIZE))
    async with world.running() as scheduler:
        world.group("a", "g", SIZE)
        for number in range(SIZE):
            world.pod("a", f"first-{number}", group="g", owner=("Job", "job"))
        await until(lambda: len(world.bound()) == SIZE)
        world.node("m", cpu=str(SIZE - 1))
        world.pod("a", "claimant", cpu=str(SIZE), priority=9)
        await until(lambda: len(leaving(world)) == SIZE)
        for number in range(SIZE):
            world.pod("a", f"second-{number}", group="g", owner=("Job", "job"))
            await asyncio.sleep(3)
            assert not second(world)
        for number in range(SIZE):
            world.server.remove(PODS, f"first-{number}", "a")
            await asyncio.sleep(3)
            assert not second(world)
        await until(lambda: world.bound() == {"claimant": "n"})
        world.node("l", cpu="1")
        await until(lambda: len(second(world)) == SIZE)
    check(scheduler.state)


def leaving(world: World) -> list[str]:
    return [each["metadata"]["name"] for each in world.server.objects(PODS) if "deletionTimestamp" in each["metadata"]]
