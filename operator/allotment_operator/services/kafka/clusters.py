"""How a topic or a user finds its cluster: the KafkaCluster of that name in its namespace, and the way in to it."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from allotment_api.conditions import ConditionType, Reason
from allotment_api.errors import InvalidManifestError
from allotment_api.kafka import KafkaCluster
from allotment_api.labels import API_VERSION
from allotment_kube.client import Client
from allotment_kube.resources import SECRETS, STATEFUL_SETS
from allotment_operator.plans.ownership import Owner
from allotment_operator.services.kafka.admin import Login
from allotment_operator.services.kafka.names import REPLICATION_PORT, Names


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster as its topics and users see it.

    Attributes:
        names: of the cluster's objects.
        resource: the KafkaCluster; None where there is none.
        login: the operator's way in; None until the cluster has been deployed.
        waiting: why nothing can be asked of it now, in words; empty where it can.
        simulated: whether its nodes are, so that there is nobody to ask.
        gone: whether there is nothing (any more) that a topic or a user could be taken out of.
    """

    names: Names
    resource: KafkaCluster | None = None
    login: Login | None = None
    waiting: str = ""
    simulated: bool = False
    gone: bool = False


class Clusters(Protocol):
    """Finds clusters, and what else of a namespace matters to topics and users."""

    async def find(self, namespace: str, name: str) -> Cluster:
        """Return the cluster of that name, whether it exists or not."""

    def seen(self, namespace: str, kind: str) -> Sequence[Mapping[str, Any]]:
        """Return the custom resources of a kind in a namespace as last seen; it costs no request."""

    async def siblings(self, namespace: str, kind: str) -> list[Mapping[str, Any]]:
        """Return the custom resources of a kind in a namespace as they are now: what is deleted by it stays deleted."""

    async def secret_labels(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """Return the labels of a Secret; None where there is none."""


class KubernetesClusters:
    """Finds them at the API server.

    Args:
        client: with the operator's own rights.
        operator_namespace: where the operator's own certificates are kept.
        seen: the custom resources of a kind in a namespace as last seen.
    """

    def __init__(
        self, client: Client, *, operator_namespace: str, seen: Callable[[str, str], Sequence[Mapping[str, Any]]]
    ) -> None:
        self._client = client
        self._home = operator_namespace
        self._seen = seen

    async def find(self, namespace: str, name: str) -> Cluster:
        """Return the cluster of that name, whether it exists or not."""
        kind = await self._client.discover(API_VERSION, "KafkaCluster")
        manifest = await self._client.find(kind, name, namespace=namespace)
        names = Names(namespace, name)
        if manifest is None:
            return cluster(names, None, None, deployed=False)
        ref = names.operator_certificate(self._home)
        certificate = await self._client.find(SECRETS, ref.name, namespace=ref.namespace)
        deployed = certificate is not None or await self._runs(manifest)
        return cluster(names, manifest, certificate, deployed=deployed)

    async def _runs(self, manifest: Mapping[str, Any]) -> bool:
        """Say whether a cluster has nodes, wanted or not."""
        owner = Owner.read("KafkaCluster", manifest)
        labels = ",".join(f"{name}={value}" for name, value in sorted(owner.selector.items()))
        return bool(await self._client.list(STATEFUL_SETS, namespace=owner.namespace, label_selector=labels))

    def seen(self, namespace: str, kind: str) -> Sequence[Mapping[str, Any]]:
        """Return the custom resources of a kind in a namespace as last seen."""
        return self._seen(kind, namespace)

    async def siblings(self, namespace: str, kind: str) -> list[Mapping[str, Any]]:
        """Return the custom resources of a kind in a namespace as they are now."""
        resource = await self._client.discover(API_VERSION, kind)
        found: list[Mapping[str, Any]] = [*await self._client.list(resource, namespace=namespace)]
        return found

    async def secret_labels(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """Return the labels of a Secret; None where there is none."""
        secret = await self._client.find(SECRETS, name, namespace=namespace)
        return None if secret is None else secret["metadata"].get("labels") or {}


def cluster(
    names: Names, manifest: Mapping[str, Any] | None, certificate: Mapping[str, Any] | None, *, deployed: bool
) -> Cluster:
    """Judge a cluster by its resource, the operator's certificate for it, and whether anything of it was deployed."""
    name = f"KafkaCluster {names.cluster}"
    if manifest is None:
        waiting = f"{name} does not exist in this namespace: make it, or correct spec.cluster"
        return Cluster(names, waiting=waiting, gone=True)
    login, ready = _login(names, certificate), _ready(manifest)
    simulated = ready is not None and ready.get("reason") == Reason.PODS_READY_SIMULATED
    try:
        resource = KafkaCluster.parse(manifest, strict=False)
    except InvalidManifestError as error:
        # Its brokers may run all the same, and know the users that they were told of.
        return Cluster(names, None, login, f"{name} is not valid: {error}", simulated, gone=not deployed)
    if resource.metadata.deletion_timestamp is not None:
        return Cluster(names, resource, waiting=f"{name} is being deleted", gone=True)
    if login is None and deployed:
        return Cluster(names, resource, waiting=f"the operator's certificate for {name} is missing, and is being made")
    if login is None or ready is None:
        return Cluster(names, resource, login, waiting=f"{name} is being deployed", gone=not deployed)
    reason = str(ready.get("message", "")).removesuffix(".")  # whoever tells it ends the sentence
    waiting = "" if ready["status"] == "True" else f"{name} is not ready: {reason}"
    return Cluster(names, resource, login, waiting, simulated)


def _ready(manifest: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what was said last of whether a cluster is ready, however its spec reads now."""
    said = (manifest.get("status") or {}).get("conditions") or ()
    return next((each for each in said if each["type"] == ConditionType.READY), None)


def _login(names: Names, certificate: Mapping[str, Any] | None) -> Login | None:
    data = (certificate or {}).get("data") or {}
    if "tls.pem" not in data:
        return None
    pem, authority = (base64.b64decode(data[key]).decode() for key in ("tls.pem", "ca.crt"))
    return Login(f"{names.entrance_host}:{REPLICATION_PORT}", authority, certificate=pem)
