"""What a tenant's members may do in its namespaces, and that it ends there."""

from collections.abc import Callable

import pytest

from builders.api_server import Actor
from builders.tenant_objects import await_allowed

Member = Callable[[str, str], Actor]

ROLES = ["viewer", "ci", "developer", "owner"]
OWNER, DEVELOPER, CI, VIEWER = {"owner"}, {"owner", "developer"}, {"owner", "developer", "ci"}, set(ROLES)
NOBODY: set[str] = set()

TABLE = [
    # verb, API group, resource, who may
    ("get", "allotment.dev", "kafkaclusters", VIEWER),
    ("list", "allotment.dev", "podgroups", VIEWER),
    ("get", "allotment.dev", "tenantpolicies", VIEWER),
    ("list", "", "pods", VIEWER),
    ("get", "", "pods/log", VIEWER),
    ("list", "", "events", VIEWER),
    ("list", "networking.k8s.io", "networkpolicies", VIEWER),
    ("list", "rbac.authorization.k8s.io", "rolebindings", VIEWER),
    ("create", "allotment.dev", "kafkaclusters", CI),
    ("delete", "allotment.dev", "cassandraclusters", CI),
    ("create", "allotment.dev", "sparkapplications", CI),
    ("create", "allotment.dev", "podgroups", CI),
    ("create", "batch", "jobs", CI),
    ("create", "", "pods", CI),
    ("get", "", "secrets", DEVELOPER),
    ("list", "", "secrets", DEVELOPER),
    ("create", "", "secrets", DEVELOPER),
    ("create", "", "pods/exec", DEVELOPER),
    ("get", "", "pods/exec", DEVELOPER),
    ("create", "", "pods/portforward", DEVELOPER),
    ("create", "apps", "deployments", DEVELOPER),
    ("patch", "apps", "deployments/scale", DEVELOPER),
    ("create", "batch", "cronjobs", DEVELOPER),
    ("create", "", "serviceaccounts", OWNER),
    ("create", "", "serviceaccounts/token", OWNER),
    ("create", "rbac.authorization.k8s.io", "rolebindings", OWNER),
    ("create", "apps", "daemonsets", NOBODY),
    ("create", "networking.k8s.io", "ingresses", NOBODY),
    ("create", "networking.k8s.io", "networkpolicies", NOBODY),
    ("delete", "networking.k8s.io", "networkpolicies", NOBODY),
    ("create", "", "resourcequotas", NOBODY),
    ("patch", "", "limitranges", NOBODY),
    ("patch", "allotment.dev", "tenantpolicies", NOBODY),
    ("patch", "allotment.dev", "podgroups/status", NOBODY),
    ("patch", "", "pods/status", NOBODY),
    ("create", "", "pods/binding", NOBODY),
    ("create", "", "bindings", NOBODY),
    ("escalate", "rbac.authorization.k8s.io", "roles", NOBODY),
    ("bind", "rbac.authorization.k8s.io", "clusterroles", NOBODY),
    ("impersonate", "", "serviceaccounts", NOBODY),
]


def may(actor: Actor, verb: str, api_group: str, resource: str, namespace: str) -> bool:
    resource, _, subresource = resource.partition("/")
    return actor.allowed(verb, resource, group=api_group, subresource=subresource, namespace=namespace)


@pytest.mark.parametrize(("verb", "api_group", "resource", "who"), TABLE, ids=[f"{it[0]} {it[2]}" for it in TABLE])
def test_in_the_tenants_own_namespace(  # noqa: PLR0917 - a row of the table, and two fixtures
    verb: str, api_group: str, resource: str, who: set[str], unbounded: str, member: Member
) -> None:
    allowed = {role for role in ROLES if may(member(unbounded, role), verb, api_group, resource, unbounded)}

    assert allowed == who


@pytest.mark.parametrize("role", ROLES)
def test_nothing_in_another_tenants_namespace_or_in_the_cluster(
    role: str, unbounded: str, strict: str, member: Member
) -> None:
    actor = member(unbounded, role)
    places = [strict, "kube-system", "default", "allotment-system", ""]

    leaks = [
        (verb, resource, place)
        for verb, api_group, resource, _ in TABLE
        for place in places
        if may(actor, verb, api_group, resource, place)
    ]

    assert leaks == []


def test_a_platform_admin_adds_rights_by_a_label(unbounded: str, admin: Actor, member: Member) -> None:
    extension = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "test-extension", "labels": {"allotment.dev/aggregate-to-tenant-viewer": "true"}},
        "rules": [{"apiGroups": ["monitoring.example.com"], "resources": ["probes"], "verbs": ["list"]}],
    }
    assert admin.create(extension).accepted
    try:
        for role in ("viewer", "ci"):
            await_allowed(member(unbounded, role), "list", "probes", unbounded, group="monitoring.example.com")
    finally:
        admin.delete(extension)
