"""How many objects a namespace may hold, and what a container requests that says nothing.

CPU, memory and GPU have no quota: they queue in the scheduler. What is bounded here is the number of objects, because
the API server's store is shared by all, and the number of services, because the Tenant says so. A service's count is
for the tenant as a whole: each namespace gets what it has plus what is left, so the sum never exceeds it for long.
"""

from collections.abc import Mapping
from typing import Any, Final

from allotment_api.labels import GROUP
from allotment_api.tenant import Tenant
from allotment_operator.tenancy.estate import SERVICE_KINDS, Estate, ServiceFacts

OBJECT_COUNTS: Final[Mapping[str, int]] = {
    "count/configmaps": 2000,
    "count/secrets": 2000,
    "count/services": 1000,
    "count/serviceaccounts": 500,
    "count/persistentvolumeclaims": 2000,
    "count/jobs.batch": 10_000,
    "count/cronjobs.batch": 500,
    "count/deployments.apps": 1000,
    "count/replicasets.apps": 10_000,
    "count/statefulsets.apps": 500,
    f"count/podgroups.{GROUP}": 10_000,
}
"""Far above sensible use of one namespace, far below what would hurt the API server."""

DEFAULT_REQUESTS: Final[Mapping[str, str]] = {"cpu": "100m", "memory": "128Mi"}
"""What a container requests that names nothing: without it, it would ride free of the tenant's share. No default
limits: a default below a container's own request would refuse the pod."""


def resource_quota(estate: Estate, tenant: Tenant, namespace: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Render the ResourceQuota of one namespace."""
    network = tenant.spec.policy.network
    hard: dict[str, str] = {name: str(count) for name, count in OBJECT_COUNTS.items()}
    if not network.allow_node_port and not network.allow_load_balancer:
        hard["services.nodeports"] = "0"  # a load balancer's Service takes node ports, too
    if not network.allow_load_balancer:
        hard["services.loadbalancers"] = "0"
    hard |= service_counts(estate, tenant, namespace)
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "allotment", "namespace": namespace, "labels": dict(labels)},
        "spec": {"hard": hard},
    }


def service_counts(estate: Estate, tenant: Tenant, namespace: str) -> dict[str, str]:
    """Return how many services of each kind this namespace may hold; kinds without a bound are left out."""
    if tenant.spec.services is None:
        return {}
    allowed = {each.kind: each.count for each in tenant.spec.services}
    counts: dict[str, str] = {}
    for kind, plural in SERVICE_KINDS.items():
        bound = allowed.get(kind, 0)  # type: ignore[call-overload]  # the keys are a Literal of the same names
        if bound is None:
            continue
        here = sum(1 for each in estate.services_in(namespace) if each.kind == kind)
        everywhere = sum(1 for name in tenant.spec.namespaces for each in estate.services_in(name) if each.kind == kind)
        # Of what is left every namespace may take all; who comes first has it, and the others' quotas shrink.
        counts[f"count/{plural}.{GROUP}"] = str(here + max(0, bound - everywhere) if bound else 0)
    return counts


def excess(estate: Estate, service: ServiceFacts) -> str:
    """Say why a service is one too many for its tenant; empty if it is not.

    A namespace's quota counts what is in that namespace, so services made at once in several can pass together. Then
    the older ones stand, by creation and then by name.
    """
    facts = estate.namespaces.get(service.namespace)
    tenant = estate.tenants.get(facts.tenant) if facts else None
    if tenant is None or tenant.spec.services is None:
        return ""
    name = tenant.metadata.name
    allowance = next((each for each in tenant.spec.services if each.kind == service.kind), None)
    if allowance is None:
        kinds = ", ".join(each.kind for each in tenant.spec.services) or "no services"
        return f"The tenant {name} may have {kinds}: ask a platform admin to add {service.kind} to its spec.services."
    if allowance.count is None:
        return ""
    same = [each for space in tenant.spec.namespaces for each in estate.services_in(space) if each.kind == service.kind]
    older = sorted(same, key=lambda each: (each.created or "9999", each))[: allowance.count]
    if any((each.namespace, each.name) == (service.namespace, service.name) for each in older):
        return ""
    return (
        f"The tenant {name} may have {allowance.count} of {service.kind} and has {len(same)} over all its namespaces: "
        f"delete another one, or ask a platform admin to raise the count in its spec.services."
    )


def limit_range(namespace: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Render the LimitRange of one namespace."""
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "allotment", "namespace": namespace, "labels": dict(labels)},
        "spec": {"limits": [{"type": "Container", "defaultRequest": dict(DEFAULT_REQUESTS)}]},
    }
