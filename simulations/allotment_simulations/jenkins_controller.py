"""A stand-in for a Jenkins controller: Jenkins' own REST paths over a queue and nodes that only exist here.

Jenkins itself is not to be had from package registries, so tests and the demo use this. It is no Jenkins: it keeps a
queue of builds with label expressions, runs each on an idle node that matches for as long as the build says, and
answers as Jenkins core does on the paths that an agent pool uses, including what it refuses. Agents do not speak their
protocol to it: whoever drives it says when one connects.

Sources: Jenkins core 2.5xx, ``hudson.model.{Queue,ComputerSet,Computer}`` and ``hudson.slaves.SlaveComputer``.
"""

import asyncio
import hashlib
import hmac
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from allotment_operator.services.jenkins.label_expression import matches

_RANGE = re.compile(r"\{(\d+),(\d+)\}$")
"""At the end of a ``tree``: from which item on, and before which, as Stapler's ``NamedPathPruner`` reads it."""


@dataclass(slots=True)
class Build:
    """A build: what it asks for, how long it takes, and where it got to. Times are seconds of the clock."""

    id: int
    label: str
    seconds: float
    queued_at: float
    pipeline: bool = False
    started_at: float | None = None
    finished_at: float | None = None
    node: str | None = None


@dataclass(slots=True)
class StandInNode:
    """A node: registered by somebody, online once its agent connected, held when no further build may come."""

    name: str
    labels: frozenset[str]
    online: bool = False
    held: bool = False
    cause: str = ""
    build: Build | None = None


@dataclass(slots=True)
class StandInJenkins:
    """The state behind the paths; `clock` is in seconds and only ever moves forward."""

    clock: Callable[[], float]
    username: str = "allotment"
    token: str = "stand-in-token"  # noqa: S105 - there is nothing behind it
    nodes: dict[str, StandInNode] = field(default_factory=dict)
    builds: list[Build] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    failing: bool = False
    _key: bytes = b"stand-in"

    def enqueue(self, label: str, *, seconds: float, pipeline: bool = False) -> Build:
        """Queue a build; a pipeline's step tells its label only in the reason for waiting, as Jenkins does."""
        build = Build(max((each.id for each in self.builds), default=0) + 1, label, seconds, self.clock(), pipeline)
        self.builds.append(build)
        return build

    def call_off(self) -> int:
        """Take every build that waits out of the queue, as somebody would by hand; returns how many."""
        waiting = self.queue()
        self.builds = [each for each in self.builds if each not in waiting]
        return len(waiting)

    def connect(self, name: str, secret: str) -> None:
        """An agent connects.

        Raises:
            PermissionError: wrong secret, or no such node.
        """
        node = self.nodes.get(name)
        if node is None or not hmac.compare_digest(secret, self.secret(name)):
            raise PermissionError(f"no node {name} with this secret")
        node.online = True
        self.settle()

    def disconnect(self, name: str) -> None:
        """An agent's connection breaks; its build, if any, is lost and waits again, as a restartable one does."""
        node = self.nodes.get(name)
        if node is None:
            return
        node.online, node.cause = False, "Connection was broken"
        if node.build is not None:
            node.build.started_at, node.build.node = None, None
            node.build = None

    def secret(self, name: str) -> str:
        """The secret of a node's agent: the same for ever, for a name."""
        return hmac.new(self._key, name.encode(), hashlib.sha256).hexdigest()

    def settle(self) -> None:
        """Finish the builds whose time is over and start those for which a node idles, the oldest first."""
        now = self.clock()
        for node in self.nodes.values():
            build = node.build
            if build is not None and build.started_at is not None and now >= build.started_at + build.seconds:
                build.finished_at, node.build = build.started_at + build.seconds, None
        for build in self.queue():
            for node in self.nodes.values():
                if node.online and not node.held and node.build is None and matches(build.label, node.labels):
                    build.started_at, build.node, node.build = now, node.name, build
                    break

    def queue(self) -> list[Build]:
        """The builds that wait, the oldest first."""
        return [build for build in self.builds if build.started_at is None]

    def running(self) -> list[Build]:
        """The builds that run."""
        return [node.build for node in self.nodes.values() if node.build is not None]

    def finished(self) -> list[Build]:
        """The builds that are done."""
        return [build for build in self.builds if build.finished_at is not None]

    @contextmanager
    def down(self) -> Iterator[None]:
        """Fail every request for a while."""
        self.failing = True
        try:
            yield
        finally:
            self.failing = False


def application(jenkins: StandInJenkins) -> web.Application:
    """Serve the stand-in on Jenkins' paths."""
    paths = _Paths(jenkins)
    app = web.Application(middlewares=[paths.guard])
    app.add_routes(
        [
            web.get("/queue/api/json", paths.queue),
            web.get("/computer/api/json", paths.computers),
            web.get("/computer/{name}/api/json", paths.computer),
            web.post("/computer/createItem", paths.create),
            web.post("/computer/{name}/doDelete", paths.delete),
            web.post("/computer/{name}/toggleOffline", paths.toggle),
            web.get("/computer/{name}/jenkins-agent.jnlp", paths.descriptor),
        ]
    )
    return app


class _Paths:
    """The handlers, each under the name of what Jenkins calls it."""

    def __init__(self, jenkins: StandInJenkins) -> None:
        self._jenkins = jenkins
        self._expected = aiohttp.encode_basic_auth(jenkins.username, jenkins.token)

    @property
    def guard(self) -> Any:  # noqa: ANN401 - aiohttp's middleware type is private
        """Refuse strangers, count requests, and let time have its effect before each answer."""

        @web.middleware
        async def guard(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
            self._jenkins.requests.append(f"{request.method} {request.path}")
            if self._jenkins.failing:
                return web.Response(status=503, text="Please wait while Jenkins is getting ready to work")
            if request.headers.get("Authorization") != self._expected:
                return web.Response(status=401)
            await asyncio.sleep(0)
            self._jenkins.settle()
            answer: web.StreamResponse = await handler(request)
            return answer

        return guard

    async def queue(self, request: web.Request) -> web.Response:
        items = [self._item(build) for build in self._jenkins.queue()[_asked(request)]]
        return web.json_response({"_class": "hudson.model.Queue", "items": items})

    async def computers(self, request: web.Request) -> web.Response:
        built_in = StandInNode("Built-In Node", frozenset({"built-in"}), online=True)
        every = [built_in, *(self._jenkins.nodes[name] for name in sorted(self._jenkins.nodes))]
        return web.json_response({"computer": [_computer(node) for node in every[_asked(request)]]})

    async def computer(self, request: web.Request) -> web.Response:
        node = self._jenkins.nodes.get(request.match_info["name"])
        return web.json_response(_computer(node)) if node else web.Response(status=404)

    async def create(self, request: web.Request) -> web.Response:
        name, xml = request.query["name"], await request.text()
        if request.content_type != "application/xml":
            return web.Response(status=415)
        if name in self._jenkins.nodes:
            return web.Response(status=400, text=f"Agent called {name} already exists")
        labels = xml.partition("<label>")[2].partition("</label>")[0].split()
        self._jenkins.nodes[name] = StandInNode(name, frozenset([*labels, name]))
        return web.Response(status=200)

    async def delete(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._jenkins.nodes:
            return web.Response(status=404)
        self._jenkins.disconnect(name)
        del self._jenkins.nodes[name]
        return web.Response(status=302, headers={"Location": "/computer/"})

    async def toggle(self, request: web.Request) -> web.Response:
        node = self._jenkins.nodes.get(request.match_info["name"])
        if node is None:
            return web.Response(status=404)
        node.held = not node.held
        node.cause = request.query.get("offlineMessage", "") if node.held else ""
        return web.Response(status=302, headers={"Location": f"/computer/{node.name}/"})

    async def descriptor(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._jenkins.nodes:
            return web.Response(status=404)
        arguments = f"<argument>{self._jenkins.secret(name)}</argument><argument>{name}</argument>"
        body = f"<jnlp><application-desc main-class='hudson.remoting.jnlp.Main'>{arguments}</application-desc></jnlp>"
        return web.Response(text=body, content_type="application/x-java-jnlp-file")

    def _item(self, build: Build) -> dict[str, Any]:
        candidates = [node for node in self._jenkins.nodes.values() if matches(build.label, node.labels)]
        if not candidates:
            why = f"There are no nodes with the label \u2018{build.label}\u2019"
        elif not any(node.online and not node.held for node in candidates):
            why = f"All nodes of label \u2018{build.label}\u2019 are offline"
        else:
            why = f"Waiting for next available executor on \u2018{build.label}\u2019"
        task: dict[str, Any] = {"name": f"build-{build.id}"}
        if not build.pipeline:
            task["labelExpression"] = build.label
        since = int(build.queued_at * 1000)
        return {"id": build.id, "why": why, "blocked": False, "buildable": True, "inQueueSince": since, "task": task}


def _asked(request: web.Request) -> slice:
    asked = _RANGE.search(request.query.get("tree", ""))
    return slice(int(asked[1]), int(asked[2])) if asked else slice(None)


def _computer(node: StandInNode) -> dict[str, Any]:
    return {
        "displayName": node.name,
        "idle": node.build is None,
        "offline": not node.online or node.held,
        "temporarilyOffline": node.held,
        "offlineCauseReason": node.cause,
        "assignedLabels": [{"name": label} for label in sorted(node.labels)],
    }
