"""The live cluster as its own objects tell it: tenants from their status, pods from their conditions.

Nothing here asks the scheduler: what it wrote is in the API server, where every reader's rights are checked. A member
of a tenant sees the pods of the tenant's namespaces; Tenants are cluster-scoped and need the right to list them.
"""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import typer

from allotment_api.errors import InvalidManifestError
from allotment_api.labels import API_VERSION
from allotment_api.quantities import Quantity, total
from allotment_api.tenant import Tenant
from allotment_kube.client import Client
from allotment_kube.errors import KubernetesError
from allotment_kube.pods import Pod
from allotment_kube.resources import PODS, Resource

TENANTS = Resource.custom(API_VERSION, "Tenant", "tenants", namespaced=False)
T = TypeVar("T")


def read_tenants(kubeconfig: Path | None = None) -> list[dict[str, Any]]:
    """Every tenant as `allot tenants` prints it: leaves by weighted share, suspended ones last, then inner tenants."""
    found = _run(_listed_tenants(kubeconfig))
    parents = {tenant.spec.parent for tenant in found}
    leaves = [tenant for tenant in found if tenant.metadata.name not in parents]
    inner = [tenant for tenant in found if tenant.metadata.name in parents]
    leaves.sort(key=lambda it: (it.spec.suspended, not it.spec.weight, _weighted(it), it.metadata.name))
    return [tenant_row(tenant) for tenant in [*leaves, *sorted(inner, key=lambda it: it.metadata.name)]]


def tenant_row(tenant: Tenant) -> dict[str, Any]:
    """One tenant's use and rights, as far as its status tells."""
    spec, status = tenant.spec, tenant.status
    share = status.dominant_share if status else None
    weighted = status.weighted_share if status else None
    return {
        "name": tenant.metadata.name,
        "parent": spec.parent,
        "weight": float(spec.weight),
        "dominantShare": float(share or 0),
        "dominantResource": status.dominant_resource if status else None,
        "weightedShare": float(weighted) if weighted is not None else None,
        "used": _units(status.usage if status else {}),
        "guaranteed": _units(spec.guaranteed),
        "limits": _units(spec.limits),
        "entitlement": _units(status.entitlement if status else {}),
        "pending": (status.pending or 0) if status else 0,
    }


def read_waits(name: str, kubeconfig: Path | None = None) -> list[dict[str, Any]]:
    """Pods of this name, or of a Job of this name, with why they wait."""
    namespace, _, plain = name.rpartition("/")
    pods = _run(_listed_pods(namespace, kubeconfig))
    exact = [pod for pod in pods if pod.metadata.name == plain]
    return [wait_row(pod) for pod in exact or [pod for pod in pods if _belongs(pod, plain)]]


def wait_row(pod: Pod) -> dict[str, Any]:
    """Why one pod waits, from its condition PodScheduled."""
    row: dict[str, Any] = {"namespace": pod.metadata.namespace, "pod": pod.metadata.name}
    if pod.spec.node_name:
        return {**row, "reason": "Running", "message": f"on node {pod.spec.node_name}", "change": None}
    said = next((each for each in pod.status.conditions if each.type == "PodScheduled"), None)
    if said is None:
        text = "the scheduler has not said anything about it yet"
        return {**row, "reason": "NotSeenYet", "message": text, "change": None}
    code, _, sentence = said.message.partition(": ")
    message, _, change = sentence.partition("; it would start now with this change: ")
    if not sentence:
        code, message = said.reason, said.message
    return {**row, "reason": code, "message": message, "change": change or None}


async def _listed_tenants(kubeconfig: Path | None) -> list[Tenant]:
    async with Client.connect(kubeconfig) as client:
        found = []
        for manifest in await client.list(TENANTS):
            try:
                found.append(Tenant.parse(manifest, strict=False))
            except InvalidManifestError as error:
                typer.echo(f"allot: left out: {error}", err=True)
        return found


async def _listed_pods(namespace: str, kubeconfig: Path | None) -> list[Pod]:
    async with Client.connect(kubeconfig) as client:
        return await client.list(PODS, namespace=namespace or client.namespace)


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except KubernetesError as error:
        typer.echo(f"allot: {error}", err=True)
        raise typer.Exit(2) from error


def _belongs(pod: Pod, job: str) -> bool:
    owner = pod.metadata.controller
    return owner is not None and owner.name == job


def _weighted(tenant: Tenant) -> float:
    return float((tenant.status.weighted_share if tenant.status else None) or 0)


def _units(listed: dict[str, Quantity]) -> dict[str, int]:
    return total(listed)
