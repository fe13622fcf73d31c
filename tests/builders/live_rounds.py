"""A kind's rounds on the real API server, by the real engine; the test itself plays scheduler and node.

Pods are bound to nodes that do not exist, whose names mark them as simulated, and made ready by hand.
"""

import asyncio
import contextlib
import datetime as dt
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from allotment_kube.client import Client
from allotment_kube.errors import NotFoundError
from allotment_kube.patches import MergePatch
from allotment_operator.kind import Key, Kind
from allotment_operator.plans.outcome import TenantView, pod_is_ready
from allotment_operator.reconcile.engine import Engine, Ports
from allotment_operator.reconcile.executor import Executor
from allotment_operator.reconcile.observer import Observer
from allotment_operator.reconcile.status import StatusWriter
from allotment_operator.surroundings import Surroundings
from builders.patience import LateError
from builders.services import RETAIL

CRDS = Path(__file__).resolve().parents[2] / "crds"
SORTS = {
    "configmaps": ("v1", "ConfigMap"),
    "networkpolicies": ("networking.k8s.io/v1", "NetworkPolicy"),
    "poddisruptionbudgets": ("policy/v1", "PodDisruptionBudget"),
    "pods": ("v1", "Pod"),
    "pvc": ("v1", "PersistentVolumeClaim"),
    "secrets": ("v1", "Secret"),
    "services": ("v1", "Service"),
    "statefulsets": ("apps/v1", "StatefulSet"),
}
SIMULATED_NODE = "kwok-by-hand"
_AT_REST = 30.0
_PATIENCE = 180.0
"""Seconds: Kubernetes' own controllers take what a busy machine leaves them."""
FINALIZER = "allotment.dev/operator"


class OneTenant:
    """Every namespace is retail's."""

    def view(self, _namespace: str) -> TenantView | None:
        return RETAIL


class Live:
    """One namespace on the real server, with an engine for some kinds."""

    def __init__(self, cluster: Any, client: Client, namespace: str, home: str) -> None:
        self.cluster, self.client, self.namespace, self.home = cluster, client, namespace, home
        self.engine = Engine({}, _ports(client, home))

    def serve(self, *kinds: Kind[Any]) -> None:
        """Look after these kinds."""
        self.engine = Engine({kind.model.definition.kind: kind for kind in kinds}, _ports(self.client, self.home))

    @property
    def surroundings(self) -> Surroundings:
        return Surroundings(
            self.client,
            self.home,
            lambda name: name.startswith("kwok"),
            _clock,
            resources=self._seen,
        )

    def _seen(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        return self.engine.resources(kind, namespace)

    def make(self, kind: str, name: str, **spec: Any) -> Key:
        """Make or change a custom resource."""
        metadata = {"name": name, "namespace": self.namespace, "finalizers": [FINALIZER]}
        manifest = {"apiVersion": "allotment.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}
        self.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
        return Key(kind, self.namespace, name)

    async def rounds(self, key: Key) -> None:
        """Run rounds, and do the nodes' work in between, until a round asks for no other and changes nothing."""
        before: object = None
        async for _ in _turns(f"{key} to settle"):
            again = await self.engine.reconcile(key)
            await self.run_pods()
            now = await self.versions()
            if now == before and again is not None and again > _AT_REST:
                return
            before = now

    async def rounds_until(self, key: Key, done: Callable[[], Awaitable[bool]]) -> None:
        """Run rounds, and do the nodes' work in between, until something holds."""
        async for _ in _turns(f"{key} to come so far"):
            if await done():
                return
            await self.engine.reconcile(key)
            await self.end_pods()
            await self.run_pods()

    async def run_pods(self) -> None:
        """Bind and ready every pod that waits."""
        for pod in await self.objects("pods"):
            name = pod["metadata"]["name"]
            if not pod["spec"].get("nodeName"):
                with contextlib.suppress(Exception):
                    await self.client.bind(self.namespace, name, uid=pod["metadata"]["uid"], node=SIMULATED_NODE)
            ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
            if not pod_is_ready(pod):
                pods = await self.client.discover("v1", "Pod")
                with contextlib.suppress(NotFoundError):
                    await self.client.patch(
                        pods, name, MergePatch(ready), namespace=self.namespace, subresource="status"
                    )

    async def end_pods(self) -> None:
        """Do what nodes do with pods that are to end."""
        for pod in await self.objects("pods"):
            if pod["metadata"].get("deletionTimestamp"):
                pods = await self.client.discover("v1", "Pod")
                with contextlib.suppress(NotFoundError):
                    await self.client.delete(pods, pod["metadata"]["name"], namespace=self.namespace, grace_period=0)

    async def let_go(self, key: Key) -> None:
        """Delete a resource and take down what belongs to it."""
        self.cluster.kubectl("-n", self.namespace, "delete", key.kind, key.name, "--wait=false")
        async for _ in _turns(f"{key} to go"):
            if await self.engine.release(key) is None:
                patch = ("patch", key.kind, key.name, "--type=merge", "-p", '{"metadata":{"finalizers":[]}}')
                self.cluster.kubectl("-n", self.namespace, *patch)
                return
            await self.end_pods()

    def get(self, key: Key) -> dict[str, Any]:
        """The resource as it is."""
        found: dict[str, Any] = json.loads(
            self.cluster.kubectl("-n", self.namespace, "get", key.kind, key.name, "-o", "json").stdout
        )
        return found

    def condition(self, key: Key, type_: str) -> dict[str, Any]:
        conditions = self.get(key).get("status", {}).get("conditions", [])
        return next((each for each in conditions if each["type"] == type_), {})

    async def objects(self, plural: str, namespace: str = "") -> list[dict[str, Any]]:
        """Objects of one sort as they are."""
        version, kind = SORTS[plural]
        resource = await self.client.discover(version, kind)
        found = await self.client.list(resource, namespace=namespace or self.namespace)
        return [{"kind": kind, **each} for each in found]

    async def left(self) -> set[str]:
        """Names of everything in both namespaces but what Kubernetes itself puts there."""
        found = [each for plural in SORTS for each in await self.objects(plural)]
        found += await self.objects("secrets", self.home)
        return {f"{each['kind']} {each['metadata']['name']}" for each in found} - {"ConfigMap kube-root-ca.crt"}

    async def versions(self) -> Mapping[str, str]:
        """Version of everything that the operator may write; of what others write to as well, the generation."""
        found = [each for plural in SORTS for each in await self.objects(plural)]
        found += await self.objects("secrets", self.home)
        return {
            f"{each['kind']}/{each['metadata']['name']}": str(each["metadata"].get("generation"))
            + each["metadata"]["uid"]
            + (each["metadata"]["resourceVersion"] if each["kind"] in ("ConfigMap", "Secret", "Service") else "")
            for each in found
        }


@contextlib.asynccontextmanager
async def live(cluster: Any, *plurals: str) -> AsyncIterator[Live]:
    """A restricted namespace for a tenant and one for the operator, with the definitions of these kinds."""
    for plural in plurals:
        cluster.apply((CRDS / f"{plural}.yaml").read_text())
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{plural}.allotment.dev", "--timeout=120s")
    suffix = uuid.uuid4().hex[:6]
    namespace, home = f"live-{suffix}", f"live-home-{suffix}"
    for name in (namespace, home):
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        cluster.apply(json.dumps(manifest))
    try:
        async with Client.connect(cluster.kubeconfig) as client:
            yield Live(cluster, client, namespace, home)
    finally:
        for plural in plurals:
            for each in json.loads(cluster.kubectl("-n", namespace, "get", plural, "-o", "json").stdout)["items"]:
                release = ("--type=merge", "-p", '{"metadata":{"finalizers":[]}}')
                cluster.kubectl("-n", namespace, "patch", plural, each["metadata"]["name"], *release, check=False)
        cluster.kubectl("delete", "namespace", namespace, home, "--wait=false")


async def _turns(what: str) -> AsyncIterator[int]:
    """Count turns, with a pause after each in which controllers may act, for as long as there is patience."""
    deadline, turn = time.monotonic() + _PATIENCE, 0
    while time.monotonic() < deadline:
        yield turn
        turn += 1
        await asyncio.sleep(0.2)
    raise LateError(f"waited {_PATIENCE:.0f} s for {what}, {turn} turns")


def _ports(client: Client, home: str) -> Ports:
    executor, observer = Executor(client, clock=_clock), Observer(client, namespace=home)
    return Ports(client, executor, observer, StatusWriter(client), OneTenant(), _clock)


def _clock() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
