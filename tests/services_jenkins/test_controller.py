"""The controller's client against the stand-in, on Jenkins' own paths."""

import json
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from allotment_operator.kind import ServiceRefusedError, ServiceUnavailableError
from allotment_operator.services.jenkins import snapshot
from allotment_operator.services.jenkins.controller import Address, HttpController, NewNode
from allotment_operator.services.jenkins.label_expression import matches
from allotment_operator.services.jenkins.snapshot import (
    LONGEST_LABELS,
    MOST_LISTED,
    NODES_OVERLAP,
    NODES_PAGE,
    QUEUE_PAGE,
    QueuedBuild,
    demand,
    read_nodes,
    read_queue,
)
from allotment_simulations.jenkins_controller import Build, StandInJenkins, StandInNode, application


@pytest.fixture
def jenkins() -> StandInJenkins:
    return StandInJenkins(clock=lambda: 0.0)


@pytest.fixture
async def url(jenkins: StandInJenkins) -> AsyncIterator[str]:
    async with TestServer(application(jenkins)) as server:
        yield str(server.make_url("/"))


@pytest.fixture
async def controller(jenkins: StandInJenkins, url: str) -> AsyncIterator[HttpController]:
    async with HttpController(Address(url, ["127.0.0.1"], jenkins.username, jenkins.token)) as controller:
        yield controller


def agent(name: str = "a") -> NewNode:
    return NewNode(name, ["linux", "mark"], "an agent <of> payments & co", web_socket=True)


@pytest.mark.parametrize("pipeline", [False, True], ids=["freestyle", "pipeline"])
async def test_queued_builds_are_counted_by_their_labels(
    jenkins: StandInJenkins, controller: HttpController, pipeline: bool
) -> None:
    for label in ("linux", "linux && jdk", "windows"):
        jenkins.enqueue(label, seconds=1, pipeline=pipeline)

    seen = await controller.snapshot()

    assert demand(seen.builds, frozenset({"linux"})) == 1
    assert demand(seen.builds, frozenset({"linux", "jdk"})) == 2


@pytest.mark.parametrize(("waiting", "counted"), [(12_000, 12_000), (MOST_LISTED + 5_000, MOST_LISTED)])
async def test_a_long_queue_is_counted_and_never_refused(
    jenkins: StandInJenkins, controller: HttpController, waiting: int, counted: int
) -> None:
    label = " || ".join(["linux"] * 16)  # as one answer the queue would be larger than what is read of one
    jenkins.builds = [Build(number, label, 1.0, 0.0) for number in range(waiting)]

    seen = await controller.snapshot()

    assert demand(seen.builds, frozenset({"linux"})) == counted


async def test_builds_that_wait_behind_many_blocked_ones_are_seen(
    jenkins: StandInJenkins, controller: HttpController
) -> None:
    jenkins.builds = [Build(number, "windows", 1.0, 0.0) for number in range(QUEUE_PAGE)]
    jenkins.enqueue("linux", seconds=1)

    assert demand((await controller.snapshot()).builds, frozenset({"linux"})) == 1


async def test_a_controller_of_many_nodes_is_read_by_pages(jenkins: StandInJenkins, controller: HttpController) -> None:
    labels = frozenset(f"label-{number:04}" for number in range(16))  # as one answer more than is read of one
    jenkins.nodes = {name: StandInNode(name, labels) for name in (f"n-{number:05}" for number in range(10_000))}

    seen = await controller.snapshot()

    assert set(seen.nodes) == {"Built-In Node", *jenkins.nodes}


@pytest.mark.parametrize("gone", [1, NODES_OVERLAP - 1, NODES_OVERLAP + 1, 3 * NODES_PAGE])
async def test_no_node_is_overlooked_where_others_go_meanwhile(
    gone: int, jenkins: StandInJenkins, controller: HttpController
) -> None:
    """One that is not seen counts as removed, and its agent is ended in the middle of a build."""
    names = [f"n-{number:05}" for number in range(5 * NODES_PAGE)]
    jenkins.nodes = {name: StandInNode(name, frozenset()) for name in names}
    leaving = iter([set[str](), set(names[:gone])])

    class Leaving(list[str]):
        def append(self, request: str) -> None:
            super().append(request)
            if request.startswith("GET /computer"):
                for name in next(leaving, ()):
                    del jenkins.nodes[name]

    jenkins.requests = Leaving()

    seen = await controller.snapshot()

    assert set(names[gone:]) <= set(seen.nodes)


async def test_nodes_that_never_stay_are_no_answer(jenkins: StandInJenkins, controller: HttpController) -> None:
    class Changing(list[str]):
        def append(self, request: str) -> None:
            super().append(request)
            names = (f"n-{len(self)}-{number:05}" for number in range(NODES_PAGE + 1))
            jenkins.nodes = {name: StandInNode(name, frozenset()) for name in names}

    jenkins.requests = Changing()

    with pytest.raises(ServiceUnavailableError, match="its nodes change faster than they can be read"):
        await controller.snapshot()


@pytest.mark.parametrize(("count", "label"), [(MOST_LISTED + NODES_PAGE, "a"), (5 * NODES_PAGE, "a" * 3700)])
async def test_more_nodes_than_any_controller_has_are_refused(
    count: int, label: str, jenkins: StandInJenkins, controller: HttpController
) -> None:
    names = (f"n-{number:05}" for number in range(count))
    jenkins.nodes = {name: StandInNode(name, frozenset({label})) for name in names}

    with pytest.raises(ServiceRefusedError, match="more than 20000 nodes, or 16 MiB of them"):
        await controller.snapshot()


async def test_registering_twice_is_registering_once(jenkins: StandInJenkins, controller: HttpController) -> None:
    first = await controller.register(agent())
    second = await controller.register(agent())

    assert first == second == jenkins.secret("a")
    assert jenkins.nodes["a"].labels == {"linux", "mark", "a"}
    assert jenkins.requests.count("POST /computer/createItem") == 1


async def test_a_held_node_finishes_its_build_and_takes_no_other(
    jenkins: StandInJenkins, controller: HttpController
) -> None:
    jenkins.enqueue("linux", seconds=10)
    jenkins.enqueue("linux", seconds=10)
    jenkins.connect("a", await controller.register(agent()))
    await controller.hold("a")
    await controller.hold("a")

    node = (await controller.snapshot()).nodes["a"]

    assert (node.online, node.idle, node.held) == (True, False, True)
    jenkins.clock = lambda: 11.0
    node = (await controller.snapshot()).nodes["a"]
    assert (node.online, node.idle, node.held) == (True, True, True)
    assert len(jenkins.queue()) == 1


async def test_a_held_node_that_lost_its_connection_is_offline(
    jenkins: StandInJenkins, controller: HttpController
) -> None:
    jenkins.connect("a", await controller.register(agent()))
    await controller.hold("a")
    jenkins.disconnect("a")

    assert not (await controller.snapshot()).nodes["a"].online


async def test_removing_what_is_gone_is_success(jenkins: StandInJenkins, controller: HttpController) -> None:
    await controller.register(agent())
    await controller.remove("a")
    await controller.remove("a")

    assert jenkins.nodes == {}


async def test_wrong_credentials_name_the_rights_that_are_needed(jenkins: StandInJenkins, url: str) -> None:
    async with HttpController(Address(url, ["127.0.0.1"], jenkins.username, "wrong")) as stranger:
        with pytest.raises(ServiceRefusedError, match=r"credentials Secret.*Agent/Create"):
            await stranger.snapshot()


async def test_a_controller_that_fails_or_is_gone_is_unavailable(
    jenkins: StandInJenkins, controller: HttpController
) -> None:
    with jenkins.down(), pytest.raises(ServiceUnavailableError, match="503"):
        await controller.snapshot()
    async with HttpController(Address("http://127.0.0.1:9", ["127.0.0.1"], "a", "b")) as nobody:
        with pytest.raises(ServiceUnavailableError, match="does not answer"):
            await nobody.snapshot()


async def test_only_the_addresses_that_were_judged_are_called_whatever_the_name_says(
    jenkins: StandInJenkins, url: str
) -> None:
    named = url.replace("127.0.0.1", "jenkins.example.invalid")

    async with HttpController(Address(named, ["127.0.0.1"], jenkins.username, jenkins.token)) as controller:
        assert (await controller.snapshot()).builds == ()


async def test_a_redirect_is_not_followed(jenkins: StandInJenkins, url: str) -> None:
    async def elsewhere(_: web.Request) -> web.Response:
        raise web.HTTPFound(url)

    sly = web.Application()
    sly.router.add_route("*", "/{path:.*}", elsewhere)
    async with TestServer(sly) as server:
        address = Address(str(server.make_url("/")), ["127.0.0.1"], jenkins.username, jenkins.token)
        async with HttpController(address) as controller:
            with pytest.raises(ServiceRefusedError, match="no redirect is followed"):
                await controller.snapshot()

    assert jenkins.requests == []


def shortened(body: bytes) -> str:
    return repr(body[:20])


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"[]", b'{"items": [{"why": 1}]}', b'{"items": ["a"]}', b"\xff", b'{"a":' + b"[" * 200_000],
    ids=shortened,
)
def test_an_answer_that_is_not_jenkins_is_refused(body: bytes) -> None:
    with pytest.raises(ServiceRefusedError, match="is this the address of Jenkins"):
        read_queue(body)


@pytest.mark.parametrize("why", ["'" * 65_536, "\u2018a\u2019 doesn't have label " * 4096, "\u2018" * 65_536])
def test_a_reason_made_to_exhaust_the_reader_is_read_at_once(why: str) -> None:
    items = [{"id": number, "why": why, "buildable": True} for number in range(200)]

    # Without a bound this takes hours, and the test's own limit ends it.
    page = read_queue(json.dumps({"items": items}).encode())

    assert {build.label for build in page.builds} == {None}


@pytest.mark.parametrize("read", [read_queue, read_nodes])
def test_more_than_any_controller_has_is_refused(read: Callable[[bytes], object]) -> None:
    everything = {"id": 1, "displayName": "a"}
    body = json.dumps(dict.fromkeys(("items", "computer"), [everything] * (MOST_LISTED + 1))).encode()

    with pytest.raises(ServiceRefusedError, match="length <= 20000"):
        read(body)


def test_builds_that_ask_for_the_same_are_counted_by_reading_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read = watch_reading(monkeypatch)

    assert (
        demand(tuple(QueuedBuild(n, "linux && jdk", "") for n in range(10_000)), frozenset({"linux", "jdk"})) == 10_000
    )
    assert len(read) == 1


def test_labels_made_to_exhaust_the_reader_are_read_so_far_and_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    read = watch_reading(monkeypatch)
    endless = tuple(QueuedBuild(n, f"a{n:05}" + " && a" * 203, "") for n in range(15_000))

    demand((QueuedBuild(0, "a" * 100_000, ""), *endless), frozenset({"a"}))

    assert 0 < sum(map(len, read)) <= LONGEST_LABELS + 100_000  # the first is refused by its length


def watch_reading(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The expressions that are parsed."""
    read: list[str] = []

    def noting(expression: str, labels: frozenset[str]) -> bool:
        read.append(expression)
        return matches(expression, labels)

    monkeypatch.setattr(snapshot, "matches", noting)
    return read
