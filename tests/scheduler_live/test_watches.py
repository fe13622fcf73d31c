"""What cannot be watched is named with its reason; without what decisions rest on, nobody leads."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from allotment_kube import Client
from allotment_kube.errors import NotFoundError, OutcomeUnknownError
from allotment_kube.program.server import Readiness, serving
from allotment_kube.resources import DEVICE_CLASSES, NODES, RESOURCE_CLAIMS, RESOURCE_SLICES
from allotment_kube.transport import Request, Response, Stream
from allotment_kube.workloads import SchedulingPodGroup
from allotment_scheduler.shell.groups import Groups
from allotment_scheduler.shell.teller import Key
from allotment_scheduler.shell.watches import SCHEDULING_GROUPS, Watches
from builders.live_world import World, until
from fakes.api_server import Refusal
from fakes.faults import FaultPlan
from fakes.in_process import InProcessTransport

looptime = pytest.mark.looptime
UNSERVED = "the API server does not serve tenants in allotment.dev/v1alpha1: is the CRD installed?"


def needs(plural: str, group: str) -> str:
    """What is said of a kind that must not be seen."""
    return f"forbidden: its role needs the verbs list and watch on {plural} in the API group {group}"


class Guarded(InProcessTransport):
    """Refuses some paths with a code, as an API server does that lacks a kind or a rule."""

    def __init__(self, world: World) -> None:
        super().__init__(world.server, latency=0.01)
        self.refused: dict[str, int] = {}
        self.unserved: set[str] = set()
        """Versions of which nothing is served any more, watches that are open included."""

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[Stream]:
        async with super().stream(request) as stream:
            if self._is_unserved(request):
                raise NotFoundError("the server could not find the requested resource", code=404)
            yield stream

    def _is_unserved(self, request: Request) -> bool:
        return any(request.path.startswith(prefix) for prefix in self.unserved)

    async def send(self, request: Request) -> Response:
        if self._is_unserved(request):
            return Refusal(404, "NotFound", f"{request.path} (injected)").response()
        for end, code in self.refused.items():
            if request.path.endswith(end):
                reason = {403: "Forbidden", 404: "NotFound", 500: "InternalError"}[code]
                return Refusal(code, reason, f"{end} (injected)").response()
        return await super().send(request)


class Watching:
    """A scheduler's watches of a world, through a transport that refuses."""

    def __init__(self, world: World, *refused: str, code: int = 403) -> None:
        self.transport = Guarded(world)
        self.transport.refused = dict.fromkeys(refused, code)
        self.readiness = Readiness()
        self.scheduler = world.scheduler
        client = Client(self.transport, rng=random.Random(1))
        self.watches = Watches(client, world.scheduler.picture, self.readiness)

    @property
    def missing(self) -> list[str]:
        return list(self.readiness.missing)

    @property
    def without(self) -> list[str]:
        return list(self.readiness.without)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        """While it watches; yields what waits for the whole picture."""
        tasks = [asyncio.create_task(self.watches.run()), asyncio.create_task(self.watches.synced())]
        try:
            yield tasks[1]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def device_world() -> World:
    """A node with a device, and a claim that it was given to."""
    world = World(FaultPlan())
    world.node("n")
    world.server.put(DEVICE_CLASSES, {"metadata": {"name": "gpu"}, "spec": {}})
    pool = {"name": "n", "generation": 1, "resourceSliceCount": 1}
    slice_spec = {"driver": "gpu.example.com", "nodeName": "n", "pool": pool, "devices": [{"name": "d0"}]}
    world.server.put(RESOURCE_SLICES, {"metadata": {"name": "s"}, "spec": slice_spec})
    result = {"request": "r", "driver": "gpu.example.com", "pool": "n", "device": "d0"}
    requests = [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]
    world.server.put(
        RESOURCE_CLAIMS,
        {
            "metadata": {"name": "c", "namespace": "a"},
            "spec": {"devices": {"requests": requests}},
            "status": {"allocation": {"devices": {"results": [result]}}},
        },
    )
    return world


@looptime
@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("/nodes", 403, f"nodes ({needs('nodes', chr(34) * 2)})"),
        ("/tenants", 403, f"tenants.allotment.dev ({needs('tenants', 'allotment.dev')})"),
        ("/tenants", 404, f"tenants.allotment.dev ({UNSERVED})"),
    ],
    ids=["a rule is missing", "a rule for a kind of ours is missing", "a CRD is missing"],
)
async def test_what_every_decision_rests_on_is_waited_for_and_named(
    end: str, code: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "allotment_scheduler")
    watching = Watching(World(FaultPlan()), end, code=code)
    async with watching.running() as synced:
        await until(lambda: said in watching.missing)
        await asyncio.sleep(120)
        assert not synced.done()
        assert watching.missing == [said, "pods"], "everything else but the pods, which come last, has come"
        kind, _, why = said.partition(" ")
        expected = f"{kind} cannot be listed, and nobody can lead without: {why.strip('()')}"
        told = [record.getMessage() for record in caplog.records]
        assert told.count(expected) == 1, "once, however long it lasts"

        watching.transport.refused.clear()
        await until(synced.done)
        assert watching.missing == []


@looptime
async def test_a_kind_that_comes_while_it_is_asked_why_it_does_not_is_not_waited_for_again() -> None:
    watching = Watching(World(FaultPlan()), "/nodes", code=500)
    asked_in_vain: list[str] = []
    send = watching.transport.send

    async def send_late(request: Request) -> Response:
        if request.path.endswith("/nodes") and "limit=1&" in f"{request.query}&":
            await asyncio.sleep(30)  # the kind is listed meanwhile
            asked_in_vain.append(request.path)
            raise OutcomeUnknownError("no answer in time", request=request.line)
        return await send(request)

    watching.transport.send = send_late  # type: ignore[method-assign] # one request is late
    async with watching.running() as synced:
        await asyncio.sleep(10)
        watching.transport.refused.clear()
        await until(synced.done)
        assert not asked_in_vain, "it has come while it is asked"
        await asyncio.sleep(600)
        assert asked_in_vain
        assert watching.missing == []


@looptime
async def test_what_is_wrong_with_an_object_goes_with_it_and_is_not_mixed_with_a_namesakes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take = Groups.scheduling_group

    def faulty(groups: Groups, key: Key, found: SchedulingPodGroup | None) -> None:
        if found is not None and "poison" in found.metadata.labels:
            raise ZeroDivisionError
        take(groups, key, found)

    monkeypatch.setattr(Groups, "scheduling_group", faulty)
    world = World(FaultPlan())
    world.server.register(SCHEDULING_GROUPS[0])
    watching = Watching(world)
    problems = watching.scheduler.picture.problems
    async with watching.running() as synced:
        await until(synced.done)
        world.server.put(NODES, {"metadata": {"name": "bad"}, "status": {"allocatable": {"cpu": "many"}}})
        await until(lambda: ("Node", ("", "bad")) in problems)
        world.server.remove(NODES, "bad")
        await until(lambda: not problems)

        theirs = str(SCHEDULING_GROUPS[0]), ("a", "g")
        world.server.put(SCHEDULING_GROUPS[0], {"metadata": {"name": "g", "namespace": "a", "labels": {"poison": "y"}}})
        world.group("a", "g", -1)
        await until(lambda: {*problems} == {("PodGroup", ("a", "g")), theirs})
        assert "minMember" in problems["PodGroup", ("a", "g")].message
        world.server.put(SCHEDULING_GROUPS[0], {"metadata": {"name": "g", "namespace": "a", "labels": {}}})
        await until(lambda: [*problems] == [("PodGroup", ("a", "g"))])


@looptime
@pytest.mark.parametrize("refused", ["claims", "slices"])
async def test_devices_are_done_without_where_their_claims_must_not_be_seen(
    refused: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "allotment_scheduler")
    watching = Watching(device_world(), f"/resource{refused}")
    why = f"resource{refused}.resource.k8s.io ({needs(f'resource{refused}', 'resource.k8s.io')})"
    async with watching.running() as synced:
        await until(synced.done)
        await asyncio.sleep(100)
        assert (watching.missing, watching.without) == ([], [why])
        told = [record.getMessage() for record in caplog.records if "does without" in record.getMessage()]
        assert len(told) == 1
        hardware = watching.scheduler.picture.hardware
        assert not hardware.devices.slices, "nobody is given a device that somebody else may have"

        watching.transport.refused.clear()
        await until(lambda: hardware.devices.slices)
        assert watching.scheduler.state.attachments.holdings
        await until(lambda: watching.without == [])


@looptime
@pytest.mark.parametrize("refused", ["/apis/resource.k8s.io/v1", "/resourceclaims"], ids=["group", "kind"])
async def test_an_api_server_that_serves_no_devices_is_no_obstacle(refused: str) -> None:
    watching = Watching(World(FaultPlan()), refused, code=404)
    async with watching.running() as synced:
        await until(synced.done)
        assert (watching.missing, watching.without) == ([], [])
        await watching.watches.caught_up()


@looptime
async def test_where_discovery_is_forbidden_kinds_are_found_all_the_same() -> None:
    watching = Watching(device_world(), "/apis/resource.k8s.io/v1", "/apis/scheduling.k8s.io/v1beta1")
    async with watching.running() as synced:
        await until(synced.done)
        assert (watching.missing, watching.without) == ([], [])
        assert watching.scheduler.picture.hardware.devices.slices


@looptime
async def test_groups_of_kubernetes_that_must_not_be_seen_are_done_without() -> None:
    watching = Watching(World(FaultPlan()), "scheduling.k8s.io/v1beta1", "v1beta1/podgroups")
    async with watching.running() as synced:
        await until(synced.done)
        why = needs("podgroups", "scheduling.k8s.io")
        assert (watching.missing, watching.without) == ([], [f"podgroups.scheduling.k8s.io ({why})"])


@looptime
async def test_groups_of_kubernetes_are_found_again_in_another_version_after_an_upgrade() -> None:
    world, (new, old, _) = World(FaultPlan()), SCHEDULING_GROUPS
    world.server.register(old)
    for name in ("stays", "goes"):
        world.server.put(old, {"metadata": {"name": name, "namespace": "a"}})
    watching = Watching(world)
    gangs = watching.scheduler.state.gangs

    def known() -> set[str]:
        return {key[1].rpartition("/")[2] for key, gang in gangs.items() if gang.spec is not None}

    async with watching.running() as synced:
        await until(synced.done)
        assert known() == {"stays", "goes"}
        watching.transport.unserved.add(old.prefix)
        await until(lambda: any(kinds.lost for kinds in watching.watches._optional), seconds=1200)
        assert known() == {"stays", "goes"}, "until something newer is known"
        async with asyncio.timeout(10):
            await watching.watches.caught_up()

        world.server.register(new)
        world.server.remove(new, "goes", "a")
        world.server.put(new, {"metadata": {"name": "comes", "namespace": "a"}})
        await until(lambda: known() == {"stays", "comes"})
        async with asyncio.timeout(10):
            await watching.watches.caught_up()
        world.server.remove(new, "stays", "a")
        await until(lambda: known() == {"comes"})


@looptime
async def test_a_right_to_groups_of_kubernetes_that_was_taken_away_keeps_nobody_from_leading() -> None:
    world = World(FaultPlan())
    world.server.register(SCHEDULING_GROUPS[0])
    watching = Watching(world)
    async with watching.running() as synced:
        await until(synced.done)
        watching.transport.refused = {"v1beta1/podgroups": 403}
        async with asyncio.timeout(10):
            await watching.watches.caught_up()
        assert watching.missing == []


@looptime
async def test_an_answer_that_tells_nothing_is_waited_out() -> None:
    watching = Watching(World(FaultPlan()), "/resourceslices", code=500)
    async with watching.running() as synced:
        await until(lambda: any("(injected)" in each for each in watching.missing))
        assert not synced.done()
        watching.transport.refused.clear()
        await until(synced.done)
        assert (watching.missing, watching.without) == ([], [])


@looptime
async def test_a_kind_that_is_no_longer_served_does_not_keep_a_new_leader_waiting() -> None:
    watching = Watching(device_world())
    async with watching.running() as synced:
        await until(synced.done)
        watching.transport.refused = {"/resourceclaims": 404}
        async with asyncio.timeout(10):
            await watching.watches.caught_up()


@looptime
async def test_a_right_that_was_taken_away_keeps_a_new_leader_waiting_and_is_named() -> None:
    watching = Watching(device_world())
    async with watching.running() as synced:
        await until(synced.done)
        watching.transport.refused = {"/resourceclaims": 403}
        catching_up = asyncio.create_task(watching.watches.caught_up())
        await asyncio.sleep(60)
        assert not catching_up.done()
        why = needs("resourceclaims", "resource.k8s.io")
        assert watching.missing == [f"what was written to resourceclaims.resource.k8s.io last ({why})"]
        watching.transport.refused.clear()
        await until(catching_up.done)
        assert watching.missing == []


async def test_the_page_says_what_is_missing_and_what_is_done_without() -> None:
    readiness = Readiness()
    readiness.await_("nodes")
    readiness.await_("pods", "forbidden")
    readiness.do_without("resourceclaims.resource.k8s.io", "forbidden")
    async with serving("127.0.0.1", 0, readiness=readiness, scrape=lambda: b"") as port, aiohttp.ClientSession() as web:

        async def page() -> tuple[int, str]:
            async with web.get(f"http://127.0.0.1:{port}/readyz") as answer:
                return answer.status, await answer.text()

        assert await page() == (503, "not yet: nodes, pods (forbidden)\n")
        for name in ("nodes", "pods"):
            readiness.done(name)
        assert await page() == (200, "ok, without resourceclaims.resource.k8s.io (forbidden)\n")
        readiness.done("resourceclaims.resource.k8s.io")
        assert await page() == (200, "ok\n")
