"""How many objects a namespace may hold, and what a container requests that says nothing, or nothing at all.

CPU, memory and GPU have no quota: they queue in the scheduler. What is bounded here is the number of objects, because
the API server's store is shared by all, and the number of services, because the Tenant says so, or one above it. A
Tenant's count is for the tenant as a whole and all below it: each namespace gets what it has plus what is left, so
the sum never exceeds it for long.
"""

from collections.abc import Mapping
from typing import Any, Final

from allotment_api.labels import GROUP
from allotment_api.tenant import DEFAULT_REQUESTS, Tenant
from allotment_operator.tenancy import grants
from allotment_operator.tenancy.estate import SERVICE_KINDS, Estate, ServiceFacts

NAME: Final = "allotment"
"""Of a namespace's ResourceQuota."""

OBJECT_COUNTS: Final[Mapping[str, int]] = {
    "count/pods": 20_000,
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
    "count/poddisruptionbudgets.policy": 1000,
    "count/horizontalpodautoscalers.autoscaling": 1000,
    "count/resourceclaims.resource.k8s.io": 10_000,
    "count/resourceclaimtemplates.resource.k8s.io": 1000,
    "count/roles.rbac.authorization.k8s.io": 500,
    f"count/podgroups.{GROUP}": 10_000,
    f"count/kafkaclusters.{GROUP}": 100,
    f"count/kafkatopics.{GROUP}": 5000,
    f"count/kafkausers.{GROUP}": 2000,
    f"count/cassandraclusters.{GROUP}": 100,
    f"count/sparkapplications.{GROUP}": 5000,
    f"count/sparkclusters.{GROUP}": 100,
    f"count/jenkinsagentpools.{GROUP}": 200,
}
"""Far above sensible use of one namespace, far below what would hurt the API server: every kind that a member may
create (tested), but for RoleBindings: the operator could not seat the members before the quota is counted."""

LEAST_REQUESTS: Final[Mapping[str, str]] = {"cpu": "1m", "memory": "1Mi"}
"""What a container requests at least: a request of nothing would ride free as well."""


def resource_quota(estate: Estate, tenant: Tenant, namespace: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Render the ResourceQuota of one namespace."""
    network = grants.network(estate.chain(tenant.metadata.name))
    hard: dict[str, str] = {name: str(count) for name, count in OBJECT_COUNTS.items()}
    if not network.allow_node_port and not network.allow_load_balancer:
        hard["services.nodeports"] = "0"  # a load balancer's Service takes node ports, too
    if not network.allow_load_balancer:
        hard["services.loadbalancers"] = "0"
    hard |= service_counts(estate, tenant, namespace)
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": NAME, "namespace": namespace, "labels": dict(labels)},
        "spec": {"hard": hard},
    }


def service_counts(estate: Estate, tenant: Tenant, namespace: str) -> dict[str, str]:
    """Return how many services of each kind this namespace may hold by the Tenants; others are left out."""
    chain = estate.chain(tenant.metadata.name)
    counts: dict[str, str] = {}
    for kind, plural in SERVICE_KINDS.items():
        counted = [each for each in grants.bounds(chain, kind) if each.count is not None]
        if not counted:
            continue
        here = sum(1 for each in estate.services_in(namespace) if each.kind == kind)
        # Of what is left every namespace may take all; who comes first has it, and the others' quotas shrink.
        left = min((each.count or 0) - len(estate.services_below(each.tenant, kind)) for each in counted)
        counts[f"count/{plural}.{GROUP}"] = str(here + max(0, left) if all(each.count for each in counted) else 0)
    return counts


def excess(estate: Estate, service: ServiceFacts) -> str:
    """Say why a service is one too many for its tenant, or for one above it; empty if it is not.

    A namespace's quota counts what is in that namespace, so services made at once in several can pass together. Then
    the older ones stand, by creation and then by name.
    """
    facts = estate.namespaces.get(service.namespace)
    chain = estate.chain(facts.tenant) if facts else ()
    for bound in grants.bounds(chain, service.kind):
        whose = bound.tenant if bound.tenant == chain[0].metadata.name else f"{bound.tenant}, above it,"
        if bound.count == 0:
            allowed = next(each.spec.services for each in chain if each.metadata.name == bound.tenant) or ()
            kinds = ", ".join(each.kind for each in allowed if each.count != 0) or "no services"
            return (
                f"The tenant {whose} may have {kinds}: ask a platform admin to add {service.kind} to the spec.services "
                f"of {bound.tenant}."
            )
        if bound.count is None:
            continue
        same = estate.services_below(bound.tenant, service.kind)
        older = sorted(same, key=lambda each: (each.created or "9999", each))[: bound.count]
        if not any((each.namespace, each.name) == (service.namespace, service.name) for each in older):
            return (
                f"The tenant {whose} may have {bound.count} of {service.kind} and has {len(same)} over all its "
                f"namespaces: delete another one, or ask a platform admin to raise the count in the spec.services of "
                f"{bound.tenant}."
            )
    return ""


def limit_range(namespace: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Render the LimitRange of one namespace."""
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "allotment", "namespace": namespace, "labels": dict(labels)},
        "spec": {
            "limits": [{"type": "Container", "defaultRequest": dict(DEFAULT_REQUESTS), "min": dict(LEAST_REQUESTS)}]
        },
    }
