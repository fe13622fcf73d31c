"""Puts a case before the real kube-scheduler and brings back its verdict for every waiting pod.

A case is a list of manifests in the form in which `kubectl get` would print them, status and deletion included. The
referee makes the API server hold exactly that: it creates each object, writes its status where the server drops it at
creation, and deletes (with a long grace period) what the case shows as being deleted. Waiting pods come last, so that
kube-scheduler mostly knows the rest when it tries them.

Mostly: its watches have no order among each other. So a verdict that somebody doubts is asked for again (`ask_again`),
with the pod made anew; a real difference stays, a late watch does not.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from allotment_kube import Client
from allotment_kube.patches import MergePatch
from allotment_kube.pods import Pod
from allotment_kube.reflector import Deleted, Reflector, Synced
from allotment_kube.resources import (
    CSI_NODES,
    DEVICE_CLASSES,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    STORAGE_CLASSES,
    Resource,
)
from allotment_kube.transport import Request
from parity.kube_scheduler import Peer

Object = dict[str, Any]
PodName = tuple[str, str]

PATIENCE: Final = 120.0
"""Seconds for all verdicts of one case: a machine under load, never a part of what is tested."""

RUNTIME_CLASSES: Final = Resource.custom("node.k8s.io/v1", "RuntimeClass", "runtimeclasses", namespaced=False)
_KINDS: Final[dict[str, Resource[Any]]] = {
    each.kind: each.untyped
    for each in (
        NODES, CSI_NODES, STORAGE_CLASSES, PERSISTENT_VOLUMES, PERSISTENT_VOLUME_CLAIMS,
        RESOURCE_SLICES, DEVICE_CLASSES, RESOURCE_CLAIMS, PODS,
    )
}  # fmt: skip
_SPACES: Final = {
    "red": {"team": "a", "env": "test"},
    "blue": {"team": "b", "env": "prod"},
    "grey": {"env": "prod", "resource.kubernetes.io/admin-access": "true"},
}
"""The namespaces that cases may use, with their labels."""

OVERHEAD: Final = {"cpu": "250m", "memory": "64Mi"}
"""What the runtime class `heavy` adds to its pods."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What kube-scheduler says of a pod. `nodes` None: it was never tried, because it has scheduling gates."""

    nodes: frozenset[str] | None
    message: str


@dataclass(slots=True)
class Referee:
    """One API server with kube-scheduler. One case at a time."""

    client: Client
    peer: Peer
    _tried: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By pod uid: reason and message of the condition PodScheduled."""
    _heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def put(self, objects: Iterable[Object]) -> list[Object]:
        """Make the server hold these objects; returns them, and the namespaces, as it holds them."""
        ground = [each for each in objects if not _waits(each)]
        waiting = [each for each in objects if _waits(each)]
        await _together(self._make(each) for each in ground if each["kind"] != "Pod")
        await _together(self._make(each) for each in ground if each["kind"] == "Pod")
        await _together(self._make(each) for each in waiting)
        return await self.holds()

    async def holds(self) -> list[Object]:
        """Everything on the server that a scheduler reads, as dicts."""
        lists = await asyncio.gather(*(self.client.list(kind) for kind in (NAMESPACES.untyped, *_KINDS.values())))
        kinds = ("Namespace", *_KINDS)
        return [{**each, "kind": kind} for kind, found in zip(kinds, lists, strict=True) for each in found]

    async def verdicts(self, held: Iterable[Object]) -> dict[PodName, Verdict]:
        """kube-scheduler's verdict on every waiting pod, once it has tried them all."""
        uids = {_name(each): each["metadata"]["uid"] for each in held if each["kind"] == "Pod" and _waits(each)}
        async with asyncio.timeout(PATIENCE):
            while not set(uids.values()) <= self._tried.keys():
                self._heard.clear()
                await self._heard.wait()
        return {name: self._verdict(uid) for name, uid in uids.items()}

    async def ask_again(self, pod: Object) -> Verdict:
        """The verdict on a pod that was judged before, made anew."""
        namespace, name = _name(pod)
        await self.client.delete(PODS, name, namespace=namespace, grace_period=0)
        made = await self._make(pod)
        return (await self.verdicts([{**made, "kind": "Pod"}]))[namespace, name]

    async def clear(self) -> None:
        """Take everything away again."""
        for each in await self.client.list(PERSISTENT_VOLUME_CLAIMS):
            if each.metadata.finalizers:
                patch = MergePatch({"metadata": {"finalizers": None}})
                await self.client.patch(
                    PERSISTENT_VOLUME_CLAIMS, each.metadata.name, patch, namespace=each.metadata.namespace
                )
        namespaced = [each for each in _KINDS.values() if each.namespaced]
        await _together(self._sweep(kind, space) for kind in namespaced for space in _SPACES)
        await _together(self._sweep(kind, "") for kind in _KINDS.values() if not kind.namespaced)
        self._tried.clear()
        self.peer.extender.passed.clear()

    async def _make(self, manifest: Object) -> Object:
        kind, metadata = _KINDS[manifest["kind"]], manifest["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        leaving = metadata.get("deletionTimestamp")
        body = {**manifest, "metadata": {key: value for key, value in metadata.items() if key != "deletionTimestamp"}}
        made: Object = await self.client.create(kind, {"apiVersion": kind.api_version, **body}, namespace=namespace)
        if "status" in manifest and kind.kind != "Node":
            patch = MergePatch({"status": manifest["status"]})
            made = await self.client.patch(kind, name, patch, namespace=namespace, subresource="status")
        if leaving:
            await self.client.delete(kind, name, namespace=namespace, grace_period=3600 if kind.kind == "Pod" else None)
        return made

    async def _sweep(self, kind: Resource[Any], namespace: str) -> None:
        path = kind.collection(namespace)
        await self.client.call(Request("DELETE", path, body=b'{"kind":"DeleteOptions","gracePeriodSeconds":0}'))

    def _verdict(self, uid: str) -> Verdict:
        reason, message = self._tried[uid]
        if reason == "SchedulingGated":
            return Verdict(None, message)
        return Verdict(self.peer.extender.passed.get(uid, frozenset()), message)

    def _hear(self, event: Any) -> None:
        if isinstance(event, Synced | Deleted):
            return
        pod: Pod = event.new
        for each in pod.status.conditions:
            if each.type == "PodScheduled" and each.status == "False" and each.reason:
                self._tried[pod.metadata.uid] = (each.reason, each.message)
                self._heard.set()


@asynccontextmanager
async def refereeing(peer: Peer) -> AsyncIterator[Referee]:
    """A referee with its watch running, over an API server that holds the cases' namespaces."""
    async with Client.connect(peer.kubeconfig, connections=24) as client:
        referee = Referee(client, peer)
        for name, labels in _SPACES.items():
            await client.apply(NAMESPACES, {"metadata": {"name": name, "labels": labels}}, manager="parity", force=True)
        heavy = {"metadata": {"name": "heavy"}, "handler": "heavy", "overhead": {"podFixed": OVERHEAD}}
        await client.apply(RUNTIME_CLASSES, heavy, manager="parity", force=True)
        await referee.clear()
        reflector = Reflector(client, PODS, referee._hear, keep_objects=False)
        watch = asyncio.create_task(reflector.run())
        try:
            await reflector.synced()
            yield referee
        finally:
            await referee.clear()
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)


async def _together(requests: Iterable[Awaitable[Any]]) -> None:
    slots = asyncio.Semaphore(16)

    async def one(request: Awaitable[Any]) -> None:
        async with slots:
            await request

    await asyncio.gather(*(one(request) for request in requests))


def _waits(manifest: Object) -> bool:
    return bool(manifest["kind"] == "Pod" and not manifest["spec"].get("nodeName"))


def _name(manifest: Object) -> PodName:
    return manifest["metadata"]["namespace"], manifest["metadata"]["name"]
