"""What the API shows of a live scheduler, and what answering may cost, however many ask."""

import asyncio
from typing import Any

import pytest

from allotment_kube.resources import JOBS, PODS
from allotment_scheduler.shell.api_pace import BURST, PART, Pace
from allotment_scheduler.shell.api_views import MOST_EXPLAINED, Views
from allotment_scheduler.shell.reporter import NOT_SEEN, Reporter
from builders.live_world import EPOCH, World, until
from builders.outputs import output_of, unlisted
from fakes.faults import FaultPlan

pytestmark = pytest.mark.looptime


def views_of(world: World) -> Views:
    clock = asyncio.get_running_loop().time
    reporter = Reporter(
        world.scheduler,
        lambda: world.settings,
        now=lambda: EPOCH + clock(),
        publish=lambda _: None,
        failed=lambda: None,
    )
    return Views(world.scheduler, reporter, clock=clock, pace=Pace(clock))


async def test_the_load_is_told_for_each_tenant_and_for_all_by_one_look_at_all_pods(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(FaultPlan(), graceful=True)
    world.node("n", cpu="3")
    async with world.running() as scheduler:
        for namespace, name, cpu in (("a", "one", "1"), ("a", "two", "1"), ("a", "large", "9"), ("b", "three", "1")):
            world.pod(namespace, name, cpu=cpu)
        world.pod("nobodys", "stray")
        await until(lambda: len(world.bound()) == 3 and len(scheduler.state.pods) == 5)
        await until(lambda: not scheduler.ledger.starts)
        pod = world.server.get(PODS, "two", "a") or {}
        ends = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/wait"]}
        world.server.put(PODS, {**pod, "metadata": {**pod["metadata"], **ends}})
        await until(lambda: scheduler.picture.ending)
        views, looks = views_of(world), list[None]()
        look = views._by_tenant

        def counted() -> Any:
            looks.append(None)
            return look()

        monkeypatch.setattr(views, "_by_tenant", counted)
        shown = ("running", "waiting", "starting", "leaving")
        loads = {only: views.top(only) for only in ("a", "b", None, "unknown")}

        assert {only: tuple(load[name] for name in shown) for only, load in loads.items()} == {
            "a": (2, 1, 0, 1), "b": (1, 0, 0, 0), None: (3, 2, 0, 1), "unknown": (0, 0, 0, 0),
        }  # fmt: skip
        assert loads["a"]["waitingByReason"] == {NOT_SEEN: 1}
        listed = {each.path.split(".")[0].split("[")[0] for each in output_of("top").fields}
        for load in loads.values():
            assert unlisted(load, output_of("top")) == []
            assert load.keys() == listed
        assert len(looks) == 1
        await asyncio.sleep(2)
        views.top("a")
        assert len(looks) == 2


async def test_the_pods_of_a_job_are_explained_up_to_a_number() -> None:
    world = World(FaultPlan())
    async with world.running() as scheduler:
        for number in range(MOST_EXPLAINED + 5):
            world.pod("a", f"work-{number:05}")
        for name in ("work-other-00000", "workshop-00000"):
            world.pod("a", name)
        world.pod("b", "work-00000")
        await until(lambda: len(scheduler.state.pods) == MOST_EXPLAINED + 8)
        views = views_of(world)

        *explained, last = await views.why("a", "work")
        assert len(explained) == MOST_EXPLAINED
        assert (last["pod"], last["reason"]) == ("5 more", "NotShown")
        assert [row["pod"] for row in await views.why("a", "workshop")] == ["workshop-00000"]
        assert [row["namespace"] for row in await views.why("b", "work")] == ["b"]
        assert await views.why("a", "nothing") == []
        world.pod("a", "new")
        await until(lambda: ("a", "new") in scheduler.state.pods)
        assert [row["reason"] for row in await views.why("a", "new")] == ["NoNodeFits"], "a pod is known at once"


async def test_a_job_is_its_own_pods_and_those_that_wait_come_first() -> None:
    world = World(FaultPlan())
    world.node("n", cpu=f"{MOST_EXPLAINED + 1}")
    async with world.running() as scheduler:
        for name in ("sweep", "sweep-2"):
            uid = world.job("a", name)
            for number in range(MOST_EXPLAINED if name == "sweep" else 1):
                world.pod("a", f"{name}-{number:05}", owner=("Job", uid))
        await until(lambda: len(world.bound()) == MOST_EXPLAINED + 1 and not scheduler.ledger.starts)
        views = views_of(world)
        assert {row["reason"] for row in await views.why("a", "sweep")} == {"Running"}
        assert len(await views.why("a", "sweep")) == MOST_EXPLAINED, "the other Job's pod is none of them"

        world.pod("a", "sweep-99999", owner=("Job", (world.server.get(JOBS, "sweep", "a") or {})["metadata"]["uid"]))
        await until(lambda: ("a", "sweep-99999") in scheduler.state.pods)
        rows = await views.why("a", "sweep")
        assert [row["pod"] for row in rows if row["reason"] != "Running"] == ["sweep-99999"]
        assert (rows[0]["pod"], rows[-1]["pod"], rows[-1]["reason"]) == ("sweep-99999", "1 more", "Running")


async def test_a_pod_that_waits_for_its_victims_is_not_told_to_run() -> None:
    world = World(FaultPlan(), graceful=True)
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        await world.claimed()
        await world.being_evicted()
        views = views_of(world)
        assert [row["reason"] for row in await views.why("a", "claimant")] == ["Starting"]
        world.server.remove(PODS, "victim", "a")
        await until(lambda: world.bound() == {"claimant": "n"} and not scheduler.ledger.starts)
        assert [row["reason"] for row in await views.why("a", "claimant")] == ["Running"]


async def test_all_answers_together_take_but_a_part_of_the_loops_time() -> None:
    loop, spent = asyncio.get_running_loop(), [0.0]
    pace = Pace(lambda: loop.time() + spent[0])
    began = loop.time()

    async def ask() -> None:
        for _ in range(10):
            async with pace.turn():
                spent[0] += 0.05  # what nobody else has of the loop

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(ask())

    assert spent[0] == pytest.approx(10)
    waited = loop.time() - began
    assert spent[0] <= BURST + (waited + spent[0]) * PART + 0.05
    assert waited < 60, "nobody waits for more than that"


async def test_after_a_pause_an_answer_waits_for_nothing() -> None:
    loop = asyncio.get_running_loop()
    pace = Pace(loop.time)
    await asyncio.sleep(100)
    began = loop.time()
    for _ in range(100):
        async with pace.turn():
            pass
    assert loop.time() == began
