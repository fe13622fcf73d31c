"""The live cluster: asked of the scheduler where its API can be reached, else read from what it wrote on the objects.

The scheduler knows at this moment (`scheduler_api`); the objects know what it wrote seconds ago: Tenants their status,
pods their condition. Either way the API server decides who may see what. A member of a tenant sees the tenant's own
namespaces; from the objects, Tenants are cluster-scoped and need the right to list them.
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from allotment_api.errors import InvalidManifestError
from allotment_api.labels import API_VERSION, SCHEDULER_NAME
from allotment_api.quantities import Quantity, total
from allotment_api.tenant import Tenant
from allotment_cli.scheduler_api import RefusedError, UnreachableError, ask
from allotment_kube.client import Client
from allotment_kube.configuration import load_configuration
from allotment_kube.errors import KubernetesError
from allotment_kube.pods import Pod
from allotment_kube.resources import PODS, Resource

TENANTS = Resource.custom(API_VERSION, "Tenant", "tenants", namespaced=False)
T = TypeVar("T")
SYSTEM = "allotment-system"
_FINISHED = frozenset({"Succeeded", "Failed"})

Kubeconfig = Annotated[Path | None, typer.Option(help="Of the live cluster; default: as kubectl finds it.")]
ApiUrl = Annotated[
    str,
    typer.Option(
        "--api",
        envvar="ALLOTMENT_API",
        help="Address of the scheduler's API, such as a forwarded port; default: as the scheduler published it.",
    ),
]


@dataclass(frozen=True, slots=True)
class Where:
    """Which cluster to ask, and where its scheduler's API is if not where it says."""

    kubeconfig: Path | None = None
    api: str = ""
    system: str = SYSTEM


def read_tenants(where: Where) -> list[dict[str, Any]]:
    """Every tenant, or one's own: leaves in serving order (from the objects: by weighted share), then inner tenants."""
    rows: list[dict[str, Any]] | None = _asked("/v1/tenants", {}, where)
    return _written_tenants(where) if rows is None else rows


def read_top(where: Where) -> dict[str, Any]:
    """The load: what runs and waits, the scheduler's pace, and the tenants by share."""
    found: dict[str, Any] | None = _asked("/v1/top", {}, where)
    if found is not None:
        return found
    tenants = _written_tenants(where)
    pods = _run(_listed_pods("*", where.kubeconfig))
    ours = [pod for pod in pods if pod.spec.scheduler_name == SCHEDULER_NAME and pod.status.phase not in _FINISHED]
    waits = [wait_row(pod)["reason"] for pod in ours if not pod.spec.node_name]
    return {
        "running": len(ours) - len(waits),
        "waiting": len(waits),
        "waitingByReason": dict(Counter(waits).most_common()),
        "tenants": tenants,
    }


def read_waits(name: str, where: Where) -> list[dict[str, Any]]:
    """Pods of this name, or of a Job of this name, with why they wait."""
    namespace, _, plain = name.rpartition("/")
    if not namespace:
        namespace = _run(_own_namespace(where.kubeconfig))
    rows: list[dict[str, Any]] | None = _asked("/v1/why", {"namespace": namespace, "name": plain}, where)
    if rows:
        return rows
    pods = _run(_listed_pods(namespace, where.kubeconfig))
    exact = [pod for pod in pods if pod.metadata.name == plain]
    return [wait_row(pod) for pod in exact or [pod for pod in pods if _belongs(pod, plain)]]


def _asked(path: str, query: dict[str, str], where: Where) -> Any:  # noqa: ANN401 - JSON
    """The scheduler's answer; None where the objects must be read instead."""
    try:
        return _run(ask(path, query, kubeconfig=where.kubeconfig, url=where.api, system=where.system))
    except UnreachableError as error:
        if str(error):
            typer.echo(f"allot: the scheduler's API is not reached, this is what it last wrote: {error}", err=True)
        return None
    except RefusedError as error:
        typer.echo(f"allot: {error}", err=True)
        raise typer.Exit(2) from error


def _written_tenants(where: Where) -> list[dict[str, Any]]:
    """Every tenant from its status: leaves by weighted share, suspended ones last, then inner tenants."""
    found = _run(_listed_tenants(where.kubeconfig))
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
        return await client.list(PODS, namespace="" if namespace == "*" else namespace)


async def _own_namespace(kubeconfig: Path | None) -> str:
    return load_configuration(kubeconfig).namespace


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
