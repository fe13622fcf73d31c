"""What the scheduler last wrote on the objects: Tenants' status, and pods' condition PodScheduled.

For whoever cannot ask the scheduler itself (`scheduler_api`). It is some seconds old and says less, and the API server
alone decides who may read it: Tenants are cluster-scoped and need the right to list them, pods that of their namespace.

Its libraries take longer to load than an answer of the scheduler takes to come: only who needs it imports it.
"""

from collections import Counter
from math import inf
from typing import Any, Final

from allotment_api.errors import InvalidManifestError
from allotment_api.labels import API_VERSION, SCHEDULER_NAME, TENANT_LABEL
from allotment_api.quantities import Quantity, total
from allotment_api.tenant import Tenant
from allotment_cli.outputs import warn
from allotment_kube.client import Client
from allotment_kube.configuration import Configuration
from allotment_kube.errors import ForbiddenError, NotFoundError
from allotment_kube.pods import Pod
from allotment_kube.resources import NAMESPACES, PODS, Resource

TENANTS: Final = Resource.custom(API_VERSION, "Tenant", "tenants", namespaced=False)
_FINISHED: Final = frozenset({"Succeeded", "Failed"})
Row = dict[str, Any]


class NotInstalledError(Exception):
    """The cluster has no Tenants."""


class UnownedError(Exception):
    """A namespace belongs to no tenant."""


async def tenants(cluster: Configuration, namespace: str = "") -> list[Row]:
    """Every tenant from its status: leaves by weighted share, suspended ones last, then inner tenants.

    Args:
        cluster: its API server.
        namespace: only the tenant that owns it; empty: all.

    Raises:
        NotInstalledError: the cluster does not know the kind.
        UnownedError: no tenant owns the namespace.
        KubernetesError: they cannot be listed, or it cannot be found out whose the namespace is.
    """
    found = await _listed_tenants(cluster)
    if namespace:
        owner = await _owner(cluster, namespace, found)
        return [tenant_row(tenant) for tenant in found if tenant.metadata.name == owner]
    parents = {tenant.spec.parent for tenant in found}
    leaves = [tenant for tenant in found if tenant.metadata.name not in parents]
    inner = [tenant for tenant in found if tenant.metadata.name in parents]
    leaves.sort(key=lambda it: (it.spec.suspended, not it.spec.weight, _weighted(it), it.metadata.name))
    return [tenant_row(tenant) for tenant in [*leaves, *sorted(inner, key=lambda it: it.metadata.name)]]


async def load(cluster: Configuration, namespace: str) -> Row:
    """What runs and waits in one namespace, and its tenant; or in all.

    Args:
        cluster: its API server.
        namespace: the one that is asked about; empty: all, or for who may not see all the context's.

    Raises:
        UnownedError: no tenant owns the namespace.
        KubernetesError: the pods cannot be listed.
    """
    async with Client.connect(cluster) as client:
        try:
            pods = await client.list(PODS, namespace=namespace)
        except ForbiddenError:
            if namespace:
                raise
            pods = await client.list(PODS, namespace=cluster.namespace)
    ours = [pod for pod in pods if pod.spec.scheduler_name == SCHEDULER_NAME and pod.status.phase not in _FINISHED]
    waits = [wait_row(pod)["reason"] for pod in ours if not pod.spec.node_name]
    try:
        listed = await tenants(cluster, namespace)
    except ForbiddenError as error:
        warn(f"tenants are left out: {error.message}")
        listed = []
    return {
        "running": len(ours) - len(waits),
        "waiting": len(waits),
        "waitingByReason": dict(Counter(waits).most_common()),
        "tenants": listed,
    }


async def waits(cluster: Configuration, namespace: str, name: str) -> list[Row]:
    """Pods of this name, or of a Job of this name.

    Raises:
        KubernetesError: they cannot be listed.
    """
    async with Client.connect(cluster) as client:
        pods = await client.list(PODS, namespace=namespace)
    exact = [pod for pod in pods if pod.metadata.name == name]
    return [wait_row(pod) for pod in exact or [pod for pod in pods if _belongs(pod, name)]]


def tenant_row(tenant: Tenant) -> Row:
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


def wait_row(pod: Pod) -> Row:
    """Why one pod waits, from its condition PodScheduled."""
    row: Row = {"namespace": pod.metadata.namespace, "pod": pod.metadata.name}
    if pod.status.phase in _FINISHED:
        where = f"on node {pod.spec.node_name}" if pod.spec.node_name else "it never had a node"
        return {**row, "reason": pod.status.phase, "message": where, "change": None}
    if pod.spec.node_name:
        return {**row, "reason": "Running", "message": f"on node {pod.spec.node_name}", "change": None}
    if pod.spec.scheduler_name != SCHEDULER_NAME:
        text = f"the scheduler {pod.spec.scheduler_name} is to place it"
        return {**row, "reason": "NotOurs", "message": text, "change": None}
    said = next((each for each in pod.status.conditions if each.type == "PodScheduled"), None)
    if said is None:
        text = "the scheduler has not said anything about it yet; is one running?"
        return {**row, "reason": "NotSeenYet", "message": text, "change": None}
    code, _, sentence = said.message.partition(": ")
    message, _, change = sentence.partition("; it would start now with this change: ")
    if not sentence:
        code, message = said.reason, said.message
    return {**row, "reason": code, "message": message, "change": change or None}


async def _listed_tenants(cluster: Configuration) -> list[Tenant]:
    async with Client.connect(cluster) as client:
        try:
            manifests = await client.list(TENANTS)
        except NotFoundError as error:
            raise NotInstalledError from error
    found = []
    for manifest in manifests:
        try:
            found.append(Tenant.parse(manifest, strict=False))
        except InvalidManifestError as error:
            warn(f"left out: {error}")
    return found


async def _owner(cluster: Configuration, namespace: str, known: list[Tenant]) -> str:
    """Whose namespace it is, as the scheduler has it: the oldest that lists it, else the one of its label."""
    listing = [tenant for tenant in known if namespace in tenant.spec.namespaces]
    if listing:
        return min(listing, key=_age).metadata.name
    async with Client.connect(cluster) as client:
        found = await client.find(NAMESPACES, namespace)
    labelled = found.metadata.labels.get(TENANT_LABEL) if found is not None else None
    if labelled is None or labelled not in {tenant.metadata.name for tenant in known}:
        raise UnownedError
    return labelled


def _age(tenant: Tenant) -> tuple[float, str]:
    created = tenant.metadata.creation_timestamp
    return (inf if created is None else created.timestamp(), tenant.metadata.name)


def _belongs(pod: Pod, job: str) -> bool:
    owner = pod.metadata.controller
    return owner is not None and owner.name == job


def _weighted(tenant: Tenant) -> float:
    return float((tenant.status.weighted_share if tenant.status else None) or 0)


def _units(listed: dict[str, Quantity]) -> dict[str, int]:
    return total(listed)
