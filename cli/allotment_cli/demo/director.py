"""Carries out the play: does each act's steps as the people it names, and waits for its predicate.

The director never decides that something has happened: it asks the act's predicate about the witness' pictures. A
request that fails is tried again while the act lasts, since a role may be a second away; the last refusal is in the
verdict of an act that did not happen. Whatever else goes wrong ends the play with its error.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from allotment_cli.demo.acts import Act, Apply, CallOff, Credentials, Queue, Refused, Remove, Step, Verdict
from allotment_cli.demo.facts import Builds, Observation
from allotment_cli.demo.members import Member
from allotment_cli.demo.stage import Address
from allotment_cli.demo.witness import Witness
from allotment_kube.client import Client
from allotment_kube.configuration import Configuration
from allotment_kube.errors import ApiError, NotFoundError
from allotment_kube.resources import PODS, SECRETS

MANAGER: Final = "allot-demo"
_PAUSE: Final = 0.3
"""Seconds between pictures at least: changes come by the hundred."""


@dataclass(frozen=True, slots=True)
class Scene:
    """An act and how far it got; seconds are since its beginning."""

    act: Act
    verdict: Verdict
    seconds: float
    over: bool = False

    @property
    def happened(self) -> bool:
        """Whether it is over and did happen."""
        return self.over and self.verdict.done


Show = Callable[[Sequence[Scene], Observation], None]


class Director:
    """Plays acts on a cluster.

    Args:
        admin: the administrator's configuration, who may impersonate everybody.
        bank: the folder of the manifests.
        jenkins: the stand-in controller.
        show: told every scene and picture.
    """

    def __init__(self, witness: Witness, admin: Configuration, bank: Path, jenkins: Address, *, show: Show) -> None:
        self._witness = witness
        self._admin = admin
        self._bank = bank
        self._jenkins = jenkins
        self._show = show
        self._clients: dict[Member, Client] = {}
        self._trouble = ""
        self._scenes: list[Scene] = []

    async def play(self, acts: Sequence[Act]) -> list[Scene]:
        """Play acts in order; stops at the first that does not happen."""
        try:
            async with self._stand_in() as session, asyncio.TaskGroup() as group:
                news = group.create_task(self._ask_backstage(session))
                for act in acts:
                    if not (await self._play(act, session, group)).happened:
                        break
                news.cancel()
        finally:
            for client in self._clients.values():
                await client.close()
        return self._scenes

    async def _play(self, act: Act, session: aiohttp.ClientSession, group: asyncio.TaskGroup) -> Scene:
        began = time.monotonic()
        self._trouble = ""
        self._scenes.append(Scene(act, Verdict(done=False, said=""), 0.0))
        doing = group.create_task(self._do(act.steps, session))
        try:
            while True:
                self._witness.changed.clear()
                seen = self._witness.observe()
                verdict = act.judge(seen) if doing.done() else Verdict(done=False, said=self._trouble)
                passed = time.monotonic() - began
                late = passed > act.seconds
                if late and self._trouble and not verdict.done:
                    verdict = replace(verdict, said=self._trouble)
                scene = self._scenes[-1] = Scene(act, verdict, passed, over=verdict.done or late)
                self._show(self._scenes, seen)
                if scene.over:
                    return scene
                await asyncio.sleep(_PAUSE)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._witness.changed.wait(), 1.0)
        finally:
            doing.cancel()

    async def _do(self, steps: Sequence[Step], session: aiohttp.ClientSession) -> None:
        for step in steps:
            while True:
                try:
                    await self._step(step, session)
                    break
                except (ApiError, aiohttp.ClientError, TimeoutError, _NotRefusedError) as error:
                    self._trouble = str(error) or "no answer in time"
                    await asyncio.sleep(0.5)
        self._trouble = ""
        self._witness.changed.set()

    async def _step(self, step: Step, session: aiohttp.ClientSession) -> None:
        match step:
            case Apply():
                await self._apply(step)
            case Remove():
                client = self._as(step.who)
                with contextlib.suppress(NotFoundError):  # a short run may have ended and gone by itself
                    resource = await client.discover(step.api_version, step.kind)
                    await client.delete(resource, step.name, namespace=step.namespace)
            case Refused():
                await self._be_refused(step)
            case Credentials():
                secret = {
                    "metadata": {"name": step.name, "namespace": step.namespace},
                    "type": "Opaque",
                    "stringData": {"username": self._jenkins.username, "token": self._jenkins.token},
                }
                await self._as(step.who).apply(SECRETS, secret, manager=MANAGER, force=True)
            case Queue():
                body = {"label": step.label, "count": step.count, "seconds": step.seconds}
                async with session.post("/backstage/builds", json=body) as answer:
                    answer.raise_for_status()
            case CallOff():
                async with session.delete("/backstage/builds") as answer:
                    answer.raise_for_status()

    async def _apply(self, step: Apply) -> None:
        client = self._as(step.who)
        text = (self._bank / step.file).read_text(encoding="utf-8")
        for document in yaml.safe_load_all(text):
            if step.only and document["metadata"]["name"] not in step.only:
                continue
            if document["kind"] == "JenkinsAgentPool":
                document["spec"]["jenkins"]["url"] = self._jenkins.url
            resource = await client.discover(document["apiVersion"], document["kind"])
            await client.apply(resource, document, manager=MANAGER, force=True)

    async def _be_refused(self, step: Refused) -> None:
        pod = {
            "metadata": {"name": "shortcut", "namespace": step.namespace},
            "spec": {
                "schedulerName": step.scheduler,
                "automountServiceAccountToken": False,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 10001,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [
                    {
                        "name": "shortcut",
                        "image": "registry.bank.example/fraud/shortcut:1",
                        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    }
                ],
            },
        }
        try:
            await self._as(step.who).create(PODS, pod, dry_run=True)
        except ApiError as error:
            if "placed by the scheduler" not in str(error):
                raise
            self._witness.refusals[step.title] = error.message
            return
        raise _NotRefusedError(f"a pod for scheduler {step.scheduler} was accepted")

    def _as(self, member: Member) -> Client:
        if member not in self._clients:
            configuration = self._admin.acting_as(member.user, member.group)
            self._clients[member] = Client.connect(configuration, connections=8, user_agent="allotment-demo")
        return self._clients[member]

    @contextlib.asynccontextmanager
    async def _stand_in(self) -> AsyncIterator[aiohttp.ClientSession]:
        async with aiohttp.ClientSession(
            base_url=self._jenkins.url,
            headers={"Authorization": aiohttp.encode_basic_auth(self._jenkins.username, self._jenkins.token)},
            timeout=aiohttp.ClientTimeout(total=10),
        ) as session:
            yield session

    async def _ask_backstage(self, session: aiohttp.ClientSession) -> None:
        """Bring the builds and the programs' restarts into the pictures, every second."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.get("/backstage") as answer:
                    state: dict[str, Any] = await answer.json()
                self._witness.restarts = {name: each["restarts"] for name, each in state["programs"].items()}
                self._witness.builds = Builds(**state["builds"])
                self._witness.changed.set()
            await asyncio.sleep(1.0)


class _NotRefusedError(Exception):
    """Something went through that must not."""
