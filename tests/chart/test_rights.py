"""No role of the chart holds more than it says, and the security model says all of it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from allotment_operator.tenancy.quota import OBJECT_COUNTS
from builders.helm_chart import CHART, named, of_kind, render

SECURITY_MODEL = CHART.parents[1] / "docs" / "security-model.md"
READ = {"get", "list", "watch"}
# bind is limited by name to the chart's own roles; manage is Allotment's own verb.
KNOWN_VERBS = READ | {"create", "update", "patch", "delete", "deletecollection", "bind", "manage"}

Rule = dict[str, Any]


def rules() -> Iterator[tuple[str, Rule]]:
    """Every rule of every role, with the role's name."""
    for role in of_kind(render({"rbac.platformAdminGroups": ["x"]}), "ClusterRole", "Role"):
        for rule in role.get("rules", []):
            yield f"{role['kind']} {role['metadata']['name']}", rule


def test_no_rule_has_a_wildcard() -> None:
    found = [
        (role, rule)
        for role, rule in rules()
        for key in ("apiGroups", "resources", "verbs")
        if "*" in "".join(rule[key])
    ]

    assert found == []


def test_nobody_may_escalate_impersonate_or_approve() -> None:
    unknown = {(role, verb) for role, rule in rules() for verb in rule["verbs"] if verb not in KNOWN_VERBS}

    assert unknown == set()


def test_bind_is_limited_to_the_charts_own_roles() -> None:
    objects = render()
    ours = {role["metadata"]["name"] for role in of_kind(objects, "ClusterRole")}
    binding = [(role, rule) for role, rule in rules() if "bind" in rule["verbs"]]

    assert [role for role, _ in binding] == ["ClusterRole allotment-operator"]
    for _, rule in binding:
        assert set(rule["resourceNames"]) <= ours
        assert rule["verbs"] == ["bind"]


def test_secrets_are_nobodys_cluster_wide() -> None:
    bound = {it["roleRef"]["name"] for it in of_kind(render({"rbac.platformAdminGroups": ["x"]}), "ClusterRoleBinding")}
    holders = {role for role, rule in rules() if {"secrets", "pods/exec", "pods/attach"} & set(rule["resources"])}

    assert {f"ClusterRole {name}" for name in bound} & holders == set()


def test_the_scheduler_writes_only_decisions() -> None:
    writes = {
        (resource, verb)
        for role, rule in rules()
        if role == "ClusterRole allotment-scheduler"
        for resource in rule["resources"]
        for verb in set(rule["verbs"]) - READ
    }

    assert writes == {
        ("pods/binding", "create"),
        ("pods/eviction", "create"),
        ("pods/status", "patch"),
        ("persistentvolumeclaims", "patch"),
        ("resourceclaims", "patch"),
        ("resourceclaims/status", "patch"),
        ("resourceclaims/binding", "patch"),
        ("tenants/status", "patch"),
        ("nodepools/status", "patch"),
        ("podgroups/status", "patch"),
        ("events", "create"),
        ("tokenreviews", "create"),
        ("subjectaccessreviews", "create"),
    }


def test_the_operators_seat_is_bound_nowhere_by_the_chart() -> None:
    bindings = of_kind(render(), "ClusterRoleBinding", "RoleBinding")

    assert "allotment-operator-tenant" not in {it["roleRef"]["name"] for it in bindings}


def test_every_rule_says_why_in_the_template() -> None:
    unexplained = []
    for template in (CHART / "templates").rglob("*.yaml"):
        lines = template.read_text().splitlines()
        starts = [number for number, line in enumerate(lines) if line.startswith("  - apiGroups:")]
        explained = False
        for number in starts:
            # A comment holds for the rules that follow it without another one between.
            explained = lines[number - 1].strip().startswith("#") or (
                explained and lines[number - 1].startswith("    ")
            )
            if not explained:
                unexplained.append(f"{template.name}:{number + 1}")

    assert unexplained == []


@pytest.mark.parametrize(
    "role",
    [
        "ClusterRole allotment-operator",
        "Role allotment-operator",
        "Role allotment-operator-api-server",
        "ClusterRole allotment-operator-tenant",
        "ClusterRole allotment-spark-driver",
        "ClusterRole allotment-scheduler",
        "Role allotment-scheduler",
        "Role allotment-scheduler-api",
        "Role allotment-scheduler-api-reader",
    ],
)
def test_the_security_model_lists_every_right_of_the_programs(role: str) -> None:
    text = SECURITY_MODEL.read_text()
    section = text.split(f"### {role}\n", 1)[1].split("\n##", 1)[0]
    documented = {
        (resource, verb)
        for cells in re.findall(r"^\| (.+?) \| (.+?) \| .+ \|$", section, re.MULTILINE)
        if cells[0] not in ("Resources", "---")
        for resource in re.findall(r"`([^`]+)`", cells[0])
        for verb in cells[1].split(", ")
    }
    rendered = {
        (resource, verb)
        for name, rule in rules()
        if name == role
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }

    assert documented == rendered


def test_the_security_model_describes_every_policy() -> None:
    text = SECURITY_MODEL.read_text()
    policies = {
        it["metadata"]["name"] for it in of_kind(render(), "ValidatingAdmissionPolicy", "MutatingAdmissionPolicy")
    }

    assert [name for name in sorted(policies) if f"| `{name}` |" not in text] == []


def test_every_policy_is_bound_once_and_refuses_when_it_cannot_be_evaluated() -> None:
    objects = render()
    policies = list(of_kind(objects, "ValidatingAdmissionPolicy", "MutatingAdmissionPolicy"))
    bound = [
        it["spec"]["policyName"]
        for it in of_kind(objects, "ValidatingAdmissionPolicyBinding", "MutatingAdmissionPolicyBinding")
    ]
    warning_only = named(objects, "ValidatingAdmissionPolicyBinding", "allotment-notices")

    assert sorted(bound) == sorted(it["metadata"]["name"] for it in policies)
    assert [it["metadata"]["name"] for it in policies if it["spec"]["failurePolicy"] != "Fail"] == ["allotment-notices"]
    assert warning_only["spec"]["validationActions"] == ["Warn"]


def test_policies_with_parameters_refuse_where_the_parameters_are_missing() -> None:
    objects = render()
    with_parameters = {
        it["metadata"]["name"] for it in of_kind(objects, "ValidatingAdmissionPolicy") if "paramKind" in it["spec"]
    }
    references = {
        it["spec"]["policyName"]: it["spec"]["paramRef"]
        for it in of_kind(objects, "ValidatingAdmissionPolicyBinding")
        if "paramRef" in it["spec"]
    }

    assert references.keys() == with_parameters
    # All tenants are its parameters, and where there is none there is nothing to exceed.
    assert references.pop("allotment-tenant-bounds") == {"selector": {}, "parameterNotFoundAction": "Allow"}
    assert all(it["name"] == "allotment" and "namespace" not in it for it in references.values())
    assert {name for name, it in references.items() if it["parameterNotFoundAction"] != "Deny"} == {"allotment-notices"}


def test_policies_about_tenants_namespaces_touch_no_other() -> None:
    """A policy without a selector must say in its first condition, or by its kind, whom it is about."""
    cluster_wide = {
        it["metadata"]["name"]
        for it in of_kind(render(), "ValidatingAdmissionPolicy", "MutatingAdmissionPolicy")
        if "namespaceSelector" not in it["spec"]["matchConstraints"]
    }

    assert cluster_wide == {
        "allotment-tenants",  # our own kind
        "allotment-tenant-bounds",  # our own kind
        "allotment-namespaces",  # only where the tenant label changes
        "allotment-operator-namespaces",  # only the operator's own requests
        "allotment-operator-bindings",  # only the operator's own requests
    }


def test_of_whatever_a_tenants_member_may_create_the_number_is_bounded() -> None:
    """RoleBindings, which only owners create, are left out for a reason: see `OBJECT_COUNTS`."""
    made = {
        f"count/{resource}.{api_group}" if api_group else f"count/{resource}"
        for role in of_kind(render(), "ClusterRole")
        if any(label.startswith("allotment.dev/aggregate-to-tenant-") for label in role["metadata"]["labels"])
        for rule in role["rules"]
        if "create" in rule["verbs"]
        for api_group in rule["apiGroups"]
        for resource in rule["resources"]
        if "/" not in resource
    }

    assert made - OBJECT_COUNTS.keys() == {"count/rolebindings.rbac.authorization.k8s.io"}
