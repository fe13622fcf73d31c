"""A start that waits for its room is sent only where its pod might still be placed when the room is there."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from allotment_kube.models import Object
from allotment_kube.resources import PODS
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.state.invariants import check
from allotment_scheduler.core.state.trial import Trial
from allotment_scheduler.shell.issuing import Issuing
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


async def test_who_may_not_be_preempted_starts_only_within_what_is_guaranteed_now() -> None:
    """The guarantee is lowered while its victim takes its time."""
    world = World(FaultPlan(), graceful=True)
    world.tenant("a", guaranteed={"cpu": "2"})
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        world.pod("a", "victim", cpu="2")
        await until(lambda: world.bound() == {"victim": "n"})
        world.pod("a", "claimant", cpu="2", priority=9, preemptible=False)
        await world.being_evicted()
        world.tenant("a", guaranteed={"cpu": "1"})
        await asyncio.sleep(3)
        world.server.remove(PODS, "victim", "a")
        await asyncio.sleep(10)
        assert world.bound() == {}
        world.tenant("a", guaranteed={"cpu": "2"})
        await until(lambda: world.bound() == {"claimant": "n"})
    check(scheduler.state)


async def test_a_successor_waits_for_the_port_of_a_pod_that_is_on_its_way_out() -> None:
    """Room is there all the while: only its predecessor knew that the two cannot stand side by side."""
    world = World(FaultPlan(), graceful=True)
    world.node("n", cpu="3")
    needs = {**PORT, "resources": {"requests": {"cpu": "1"}}}
    async with world.running():
        world.pod("a", "victim", containers=[needs])
        await until(lambda: world.bound() == {"victim": "n"})
        world.pod("a", "claimant", priority=9, containers=[needs])
        await world.being_evicted()
    world.scheduler = world.new_scheduler()
    async with world.running() as successor:
        await asyncio.sleep(10)
        assert world.status("a", "claimant").get("nominatedNodeName") == "n"
        assert world.bound() == {"victim": "n"}
        world.server.remove(PODS, "victim", "a")
        await until(lambda: world.bound() == {"claimant": "n"})
    check(successor.state)


async def test_who_leaves_is_thought_away_once_a_turn_however_many_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world, names = World(FaultPlan(), graceful=True), [str(number) for number in range(5)]
    needs = {**PORT, "resources": {"requests": {"cpu": "1"}}}
    for name in names:
        world.node(f"n{name}", cpu="3")
        world.pod("a", f"victim-{name}", containers=[needs])
    async with world.running():
        await until(lambda: len(world.bound()) == len(names))
        for name in names:
            world.pod("a", f"claimant-{name}", priority=9, containers=[needs])
        await until(lambda: all(world.status("a", f"claimant-{name}").get("nominatedNodeName") for name in names))
        await until(lambda: all("deletionTimestamp" in each["metadata"] for each in running(world)))
    turns, evict, issue = list[Counter[str]](), Trial.evict, Issuing.issue

    def look(trial: Trial, pod: Pod) -> None:
        turns[-1][pod.spec.name] += 1
        evict(trial, pod)

    def turn(issuing: Issuing, *given: Any) -> None:
        turns.append(Counter())
        with monkeypatch.context() as patches:
            patches.setattr(Trial, "evict", look)
            issue(issuing, *given)

    monkeypatch.setattr(Issuing, "issue", turn)
    world.scheduler = world.new_scheduler()
    async with world.running() as successor:
        await until(lambda: any(turn["victim-0"] for turn in turns))
        assert max(turn[f"victim-{name}"] for turn in turns for name in names) == 1
        for name in names:
            world.server.remove(PODS, f"victim-{name}", "a")
        await until(lambda: sorted(world.bound()) == [f"claimant-{name}" for name in names])
    check(successor.state)


def running(world: World) -> list[Object]:
    return [each for each in world.server.objects(PODS) if each["spec"].get("nodeName")]


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
