"""The kinds that Jenkins takes part with."""

from collections.abc import Mapping
from typing import Any, Final

from allotment_api.labels import OPERATOR_FIELD_MANAGER
from allotment_kube.client import Client
from allotment_kube.resources import PODS, SECRETS, SERVICES, Resource
from allotment_operator.kind import Kind
from allotment_operator.plans.actions import Manifest
from allotment_operator.reconcile.observer import selector
from allotment_operator.services.jenkins.controller import HttpController
from allotment_operator.services.jenkins.locator import Locator
from allotment_operator.services.jenkins.pool import JenkinsAgentPools
from allotment_operator.surroundings import Surroundings

IP_ADDRESSES: Final = Resource.custom("networking.k8s.io/v1", "IPAddress", "ipaddresses", namespaced=False)
"""Every address that a Service has, by name; pods' are not among them."""


def kinds(surroundings: Surroundings) -> list[Kind[Any]]:
    """Return them, each with what it uses of the world."""
    client = surroundings.client

    async def read_secret(namespace: str, name: str) -> Mapping[str, Any] | None:
        return await client.find(SECRETS, name, namespace=namespace)

    async def write_object(manifest: Manifest) -> None:
        resource = await client.discover(manifest["apiVersion"], manifest["kind"])
        await client.apply(resource, dict(manifest), manager=OPERATOR_FIELD_MANAGER, force=True)

    locator = Locator(
        ClusterOf(client), clock=surroundings.clock, allow_loopback=surroundings.allow_loopback_controllers
    )
    return [
        JenkinsAgentPools(
            read_secret=read_secret, write_object=write_object, locate=locator.locate, connect=HttpController
        )
    ]


class ClusterOf:
    """Services and pods, read with the operator's own rights."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def service(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """Return a Service of a tenant's namespace, or None."""
        return await self._client.find(SERVICES, name, namespace=namespace)

    async def pods(self, namespace: str, labels: Mapping[str, str]) -> list[Mapping[str, Any]]:
        """Return the pods of a namespace that carry these labels."""
        return [*await self._client.list(PODS.untyped, namespace=namespace, label_selector=selector(labels))]

    async def holder(self, address: str) -> str:
        """Say which pod or Service of the cluster has an address; empty if none."""
        pods = await self._client.list(PODS.untyped, field_selector=f"status.podIP={address}")
        if any((pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed") for pod in pods):
            return "a pod's address"
        return "a Service's address" if await self._client.find(IP_ADDRESSES, address) is not None else ""
