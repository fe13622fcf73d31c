"""Who may do what in a tenant's namespace: RoleBindings to the chart's ClusterRoles, one per role.

The operator's own seat (`allotment-operator-tenant`) is one of them. It comes first, because everything else in the
namespace is written by the right it gives, and goes last.
"""

from collections.abc import Mapping
from typing import Any, Final

from allotment_api.tenant import Member
from allotment_operator.plans.actions import ObjectRef

RBAC: Final = "rbac.authorization.k8s.io"
API: Final = f"{RBAC}/v1"
OPERATOR_ROLE: Final = "allotment-operator-tenant"
OPERATOR_ACCOUNT: Final = "allotment-operator"


def own_seat(namespace: str) -> ObjectRef:
    """Return which RoleBinding gives the operator its rights in a namespace."""
    return ObjectRef(API, "RoleBinding", namespace, OPERATOR_ROLE)


def operator_binding(namespace: str, labels: Mapping[str, str], *, operator_namespace: str) -> dict[str, Any]:
    """Render the operator's own seat."""
    account = {"kind": "ServiceAccount", "name": OPERATOR_ACCOUNT, "namespace": operator_namespace}
    return _binding(namespace, OPERATOR_ROLE, OPERATOR_ROLE, [account], labels)


def member_bindings(
    namespace: str, labels: Mapping[str, str], members: Mapping[str, tuple[Member, ...]]
) -> list[dict[str, Any]]:
    """Render the members' seats: one RoleBinding for each role that anybody has."""
    return [
        _binding(namespace, f"allotment-{role}", f"allotment-tenant-{role}", [_subject(each) for each in named], labels)
        for role, named in sorted(members.items())
    ]


def _binding(
    namespace: str, name: str, role: str, subjects: list[dict[str, str]], labels: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "apiVersion": API,
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": subjects,
    }


def _subject(member: Member) -> dict[str, str]:
    if member.kind == "ServiceAccount":
        return {"kind": member.kind, "name": member.name, "namespace": member.namespace or ""}
    return {"kind": member.kind, "name": member.name, "apiGroup": RBAC}
