"""A pool's whole life: plans carried out against the stand-in controller, with pods of a simulated cluster."""

import asyncio
import base64
import copy
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from itertools import chain, zip_longest
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from allotment_api.conditions import Condition, find
from allotment_api.jenkins import JenkinsAgentPool
from allotment_operator.kind import ServiceRefusedError
from allotment_operator.plans.actions import Action, Apply, Delete, Invoke, ObjectRef
from allotment_operator.plans.outcome import Observed, Outcome, TenantView
from allotment_operator.reconcile.lanes import WIDTH, side_by_side
from allotment_operator.services.jenkins.controller import HttpController
from allotment_operator.services.jenkins.destination import DestinationRefusedError
from allotment_operator.services.jenkins.pool import NOTED_SECONDS, POLL_SECONDS, JenkinsAgentPools, mark
from allotment_simulations.jenkins_controller import StandInJenkins, StandInNode, application

START = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
TENANT = TenantView("ci", guaranteed=frozenset({"cpu", "memory"}))


class World:
    """A namespace with one pool, a controller, and nodes that take any pod at once."""

    def __init__(self, jenkins: StandInJenkins, url: str, **spec: Any) -> None:
        self.jenkins = jenkins
        self.seconds = 0.0
        jenkins.clock = lambda: self.seconds
        self.pods_start = True
        self.children: dict[ObjectRef, dict[str, Any]] = {}
        self.secrets = {"controller": {"username": jenkins.username, "token": jenkins.token}}
        self.manifest: dict[str, Any] = {
            "apiVersion": "allotment.dev/v1alpha1",
            "kind": "JenkinsAgentPool",
            "metadata": {"name": "builders", "namespace": "ci", "uid": "4f8c"},
            "spec": {"jenkins": {"url": url, "credentialsSecret": "controller"}, "labels": ["linux"], **spec},
        }
        self.kind = JenkinsAgentPools(
            read_secret=self._read, write_object=self._write, locate=self._locate, connect=HttpController
        )
        self.refused = ""
        self.failures: dict[str, str] = {}
        self.before_write: Callable[[str], Awaitable[None]] = _nothing

    @property
    def now(self) -> dt.datetime:
        return START + dt.timedelta(seconds=self.seconds)

    @property
    def pool(self) -> JenkinsAgentPool:
        return JenkinsAgentPool.parse(self.manifest)

    def pods(self) -> list[str]:
        return [ref.name for ref in self.children if ref.kind == "Pod"]

    async def round(self, *, stop_after: int | None = None, abreast: bool = False) -> Outcome:
        """One round as the engine runs it.

        After `stop_after` actions the operator is killed, before it can note anything: so many of one agent after the
        other, or of all abreast.
        """
        observed = Observed(children=copy.deepcopy(self.children), tenant=TENANT)
        health = await self.kind.probe(self.pool, observed)
        observed = Observed(children=observed.children, tenant=TENANT, health=health)
        outcome = self.kind.plan(self.pool, observed, now=self.now)
        if stop_after is not None:
            lanes = [*outcome.lanes.values()]
            steps = chain(*zip_longest(*lanes)) if abreast else chain(*lanes)
            for action in [step for step in steps if step is not None][:stop_after]:
                await self._execute(action, observed)
            return outcome
        await self.carry_out(outcome, observed)
        self._pods_come_up()
        return outcome

    async def carry_out(self, outcome: Outcome, observed: Observed) -> None:
        """Carry out an outcome and note what came of it, as the engine does."""

        async def run(actions: tuple[Action, ...]) -> None:
            for action in actions:
                await self._execute(action, observed)

        await run(outcome.actions)
        self.failures = {name: str(error) for name, error in (await side_by_side(outcome.lanes, run)).items()}
        noted = self.kind.note_failures(self.pool, outcome, self.failures) if self.failures else outcome
        self.manifest["status"] = {**self.manifest.get("status", {}), **noted.status}

    async def rounds(self, count: int, *, every: float = 3.0) -> Outcome:
        outcome = Outcome()
        for _ in range(count):
            outcome = await self.round()
            self.seconds += every
        return outcome

    async def _execute(self, action: Action, observed: Observed) -> None:
        match action:
            case Apply():
                await self._write(action.manifest)
            case Delete():
                self.children.pop(action.ref, None)
                if action.ref.kind == "Pod":
                    self.jenkins.disconnect(action.ref.name)
            case Invoke():
                await self.kind.perform(self.pool, observed, action)

    def _pods_come_up(self) -> None:
        for ref, pod in self.children.items():
            if ref.kind != "Pod" or not self.pods_start or pod.get("status"):
                continue
            placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": self.now.isoformat()}
            pod["status"] = {"phase": "Running", "conditions": [placed]}
            secret = self.children[ObjectRef("v1", "Secret", "ci", ref.name)]["data"]["secret"]
            self.jenkins.connect(ref.name, base64.b64decode(secret).decode())

    async def _locate(self, url: str, tenant: TenantView | None) -> tuple[str, ...]:
        assert (url, tenant) == (self.manifest["spec"]["jenkins"]["url"], TENANT)
        if self.refused:
            raise DestinationRefusedError(self.refused)
        return ("127.0.0.1",)

    async def _read(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        values = self.secrets.get(name) if namespace == "ci" else None
        if values is None:
            return None
        return {"data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}}

    async def _write(self, manifest: Mapping[str, Any]) -> None:
        ref = ObjectRef.of(manifest)
        await self.before_write(ref.name)
        if ref not in self.children:
            self.children[ref] = copy.deepcopy(dict(manifest))
            self.children[ref]["metadata"]["creationTimestamp"] = self.now.isoformat()


async def _nothing(_: str) -> None:
    """What stands in the way of a write, as a rule."""


@pytest.fixture
async def url() -> AsyncIterator[tuple[StandInJenkins, str]]:
    jenkins = StandInJenkins(clock=lambda: 0.0)
    async with TestServer(application(jenkins)) as server:
        yield jenkins, str(server.make_url("/"))


def condition_of(outcome: Outcome, type_: str) -> Condition:
    found = find(outcome.conditions, type_)
    assert found is not None
    return found


async def test_ten_builds_get_ten_fresh_agents_which_go_when_the_builds_are_done(
    url: tuple[StandInJenkins, str],
) -> None:
    world = World(*url)
    for _ in range(10):
        world.jenkins.enqueue("linux", seconds=30)

    await world.rounds(3)
    assert len(world.jenkins.running()) == 10
    await world.rounds(14)

    assert len(world.jenkins.finished()) == 10
    assert {build.node for build in world.jenkins.builds} == {build.node for build in world.jenkins.finished()}
    assert len({build.node for build in world.jenkins.builds}) == 10
    assert (world.pods(), world.jenkins.nodes, world.manifest["status"]["agentStates"]) == ([], {}, [])
    assert world.children == {}


async def test_a_burst_of_agents_is_made_side_by_side_and_in_the_round_after_the_one_that_noted_it(
    url: tuple[StandInJenkins, str],
) -> None:
    world = World(*url)
    for _ in range(10):
        world.jenkins.enqueue("linux", seconds=30)
    inside, most, together = set[str](), 0, asyncio.Barrier(WIDTH)

    async def gather(name: str) -> None:
        nonlocal most
        inside.add(name)
        most = max(most, len(inside))
        if len(arrived) < WIDTH:
            arrived.add(name)
            await together.wait()  # one after another, the first would wait here for ever
        inside.discard(name)

    arrived = set[str]()
    noted = await world.round()
    assert noted.requeue_after == NOTED_SECONDS
    world.before_write = gather
    async with asyncio.timeout(60):
        made = await world.round()

    assert made.requeue_after == POLL_SECONDS
    assert most == WIDTH
    assert len(world.pods()) == len(world.jenkins.nodes) == 10


async def test_one_agent_that_cannot_be_made_holds_up_no_other_and_is_given_up(
    url: tuple[StandInJenkins, str],
) -> None:
    world = World(*url, connectTimeoutSeconds=30)
    for _ in range(3):
        world.jenkins.enqueue("linux", seconds=10)
    await world.round()
    bad = world.manifest["status"]["agentStates"][1]["name"]

    async def refuse(name: str) -> None:
        if name == bad:
            raise ServiceRefusedError("no such image")

    world.before_write = refuse
    await world.rounds(2)

    assert len(world.jenkins.running()) == 2
    assert world.failures == {bad: "no such image"}
    assert {each["name"]: each.get("message") for each in world.manifest["status"]["agentStates"]}[bad] == (
        "no such image"
    )
    outcome = await world.rounds(11)
    failing = condition_of(outcome, "Progressing")
    assert failing.reason == "AgentsFailing"
    assert "it could not be made: no such image" in failing.message
    await world.rounds(12)
    assert len(world.jenkins.finished()) == 3
    assert world.jenkins.nodes == {}


async def test_more_builds_than_agents_are_served_in_turn(url: tuple[StandInJenkins, str]) -> None:
    world = World(*url, maxAgents=2)
    for _ in range(5):
        world.jenkins.enqueue("linux", seconds=10)
    most = 0
    for _ in range(40):
        await world.rounds(1)
        most = max(most, len(world.pods()))

    assert most == 2
    assert len(world.jenkins.finished()) == 5
    assert world.pods() == []


async def test_reusable_agents_serve_several_builds_and_go_after_idling(url: tuple[StandInJenkins, str]) -> None:
    world = World(*url, mode="Reusable", maxAgents=1, idleSeconds=60)
    for _ in range(3):
        world.jenkins.enqueue("linux", seconds=5)
    await world.rounds(12)

    assert len(world.jenkins.finished()) == 3
    assert len({build.node for build in world.jenkins.builds}) == 1
    await world.rounds(25)
    assert (world.pods(), world.jenkins.nodes) == ([], {})


@pytest.mark.parametrize("abreast", [False, True], ids=["one after the other", "abreast"])
@pytest.mark.parametrize("killed_after", range(8))
async def test_an_operator_killed_between_any_two_steps_leaves_nothing_behind(
    url: tuple[StandInJenkins, str], killed_after: int, abreast: bool
) -> None:
    world = World(*url)
    for _ in range(2):
        world.jenkins.enqueue("linux", seconds=20)
    for _ in range(6):
        await world.round(stop_after=killed_after, abreast=abreast)
        await world.rounds(1)
    await world.rounds(20)

    assert len(world.jenkins.finished()) == 2
    assert (world.pods(), world.jenkins.nodes, world.manifest["status"]["agentStates"]) == ([], {}, [])


async def test_agents_that_never_connect_are_removed_and_new_ones_wait_longer_each_time(
    url: tuple[StandInJenkins, str],
) -> None:
    world = World(*url, connectTimeoutSeconds=10)
    world.jenkins.enqueue("linux", seconds=5)
    await world.rounds(1)
    await world.round()
    for ref, pod in world.children.items():
        if ref.kind == "Pod":
            pod["status"] = {"phase": "Failed", "message": "image cannot be pulled"}
    world.jenkins.disconnect(world.pods()[0])

    outcome = await world.rounds(1)

    failing = condition_of(outcome, "Progressing")
    assert failing.reason == "AgentsFailing"
    assert "image cannot be pulled" in failing.message
    assert "next try is in 10 s" in failing.message
    await world.rounds(2)
    assert world.pods() == []
    await world.rounds(8)
    assert len(world.jenkins.finished()) == 1


async def test_a_controller_that_is_down_freezes_the_pool(url: tuple[StandInJenkins, str]) -> None:
    world = World(*url)
    world.jenkins.enqueue("linux", seconds=1000)
    await world.rounds(3)
    before = (world.pods(), world.manifest["status"]["agentStates"])
    with world.jenkins.down():
        outcome = await world.rounds(3)

        assert condition_of(outcome, "Ready").reason == "ControllerUnreachable"
        assert (world.pods(), world.manifest["status"]["agentStates"]) == before
    await world.rounds(2)
    assert len(world.jenkins.running()) == 1


@pytest.mark.parametrize(
    ("secrets", "wanted"),
    [
        ({}, "Secret controller does not exist: create it with the keys username and token"),
        ({"controller": {"username": "a"}}, "Secret controller has no token: add it"),
        ({"controller": {"username": "a", "token": "b"}}, "check the credentials Secret"),
    ],
    ids=["no secret", "half a secret", "wrong secret"],
)
async def test_what_is_wrong_with_the_credentials_is_said(
    url: tuple[StandInJenkins, str], secrets: dict[str, dict[str, str]], wanted: str
) -> None:
    world = World(*url)
    world.secrets = secrets

    assert wanted in condition_of(await world.round(), "Ready").message


async def test_a_controller_that_the_tenant_may_not_have_called_is_not_called_and_the_pool_freezes(
    url: tuple[StandInJenkins, str],
) -> None:
    world = World(*url)
    world.jenkins.enqueue("linux", seconds=1000)
    world.refused = "it is somebody else's: change spec.jenkins.url"

    ready = condition_of(await world.rounds(3), "Ready")

    assert (ready.status, ready.reason) == ("False", "ControllerNotAllowed")
    assert "change spec.jenkins.url" in ready.message
    assert world.jenkins.requests == []
    assert world.pods() == []


async def test_what_others_left_under_our_mark_is_removed_on_both_sides(url: tuple[StandInJenkins, str]) -> None:
    world = World(*url)
    world.jenkins.enqueue("linux", seconds=1000)
    await world.rounds(2)
    # The status is lost, as by a restore of an old backup.
    del world.manifest["status"]
    await world.rounds(3)

    assert len(world.pods()) == len(world.jenkins.nodes) == len(world.jenkins.running()) == 1


async def test_of_what_a_controller_lists_only_the_pools_own_is_kept_and_removed_little_by_little(
    url: tuple[StandInJenkins, str],
) -> None:
    world = World(*url)
    for number in range(150):
        world.jenkins.nodes[f"lost-{number}"] = StandInNode(f"lost-{number}", frozenset({mark(world.pool)}))
        world.jenkins.nodes[f"other-{number}"] = StandInNode(f"other-{number}", frozenset({"linux"}))

    health = await world.kind.probe(world.pool, Observed(tenant=TENANT))
    outcome = world.kind.plan(world.pool, Observed(tenant=TENANT, health=health), now=world.now)

    assert health is not None
    assert "301 nodes" in health.message
    assert {*health.details["snapshot"].nodes} == {f"lost-{number}" for number in range(150)}
    assert len(outcome.lanes) == 100


async def test_deleting_a_pool_removes_its_nodes_and_a_dead_controller_does_not_hold_it_for_ever(
    url: tuple[StandInJenkins, str],
) -> None:
    world = World(*url)
    world.jenkins.enqueue("linux", seconds=1000)
    await world.rounds(3)
    world.manifest["metadata"]["deletionTimestamp"] = world.now.isoformat()

    async def release() -> Outcome | None:
        observed = Observed(children=copy.deepcopy(world.children), tenant=TENANT)
        outcome = world.kind.release(world.pool, observed, now=world.now)
        if outcome:
            await world.carry_out(outcome, observed)
        return outcome

    assert await release() is not None
    assert await release() is not None or world.children == {}
    with world.jenkins.down():
        assert await release() is not None
        assert "503" in world.manifest["status"]["agentStates"][0]["message"]
        world.seconds += 601
        assert await release() is None
    world.seconds -= 601
    assert await release() is not None
    assert world.manifest["status"]["agentStates"] == []
    assert world.jenkins.nodes == {}


async def test_planning_twice_plans_the_same(url: tuple[StandInJenkins, str]) -> None:
    world = World(*url)
    world.jenkins.enqueue("linux", seconds=10)
    await world.rounds(1)
    observed = Observed(children=world.children, tenant=TENANT)
    health = await world.kind.probe(world.pool, observed)
    observed = Observed(children=world.children, tenant=TENANT, health=health)

    assert world.kind.plan(world.pool, observed, now=world.now) == world.kind.plan(world.pool, observed, now=world.now)
