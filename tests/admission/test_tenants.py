"""Who may hang which Tenant where: platform admins anywhere, others below the tenants they manage."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from builders.api_server import Actor, ApiServer
from builders.helm_chart import NAMESPACE
from builders.program_process import eventually
from builders.tenant_objects import await_allowed, expect, group, meta, tenant

MANAGERS = "markets-heads"
PLATFORM = "platform-team"


def cluster_role(name: str, *rules: dict[str, list[str]]) -> dict[str, Any]:
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": meta(name), "rules": rules}


def cluster_role_binding(name: str, role: str, group_name: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": meta(name),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [group(group_name)],
    }


@pytest.fixture(scope="module", autouse=True)
def estate(admin: Actor, api: ApiServer) -> Iterator[None]:
    """Tenants markets {markets-risk} and retail; a group that manages markets, and one that runs the platform."""
    manage_markets = {
        "apiGroups": ["allotment.dev"],
        "resources": ["tenants"],
        "verbs": ["manage"],
        "resourceNames": ["markets"],
    }
    claim = {
        "apiGroups": [""],
        "resources": ["namespaces"],
        "verbs": ["claim"],
        "resourceNames": ["quant-lab", "quant-data", "quant-web"],
    }
    has = {
        "policy": {"network": {"egress": ["10.20.0.0/16"], "allowNodePort": True}},
        "services": [{"kind": "KafkaCluster", "count": 2}, {"kind": "KafkaTopic"}],
    }
    objects = [
        tenant("markets", **has),
        tenant("retail"),
        tenant("markets-risk", parent="markets", namespaces=["markets-risk"]),
        cluster_role("test-manage-markets", manage_markets, claim),
        cluster_role_binding("test-manage-markets", "test-manage-markets", MANAGERS),
        cluster_role_binding("test-delegates", "allotment-tenant-delegate", MANAGERS),
        cluster_role_binding("test-platform", "allotment-platform-admin", PLATFORM),
    ]
    for manifest in objects:
        expect(admin, manifest)
    # The API server learns of parents, as of every policy's parameters, by a watch of its own.
    beyond = tenant("markets-research", parent="markets", services=[{"kind": "SparkCluster"}])
    ada = api.user("ada@bank", [MANAGERS])
    eventually(lambda: "may not have as many" in ada.create(beyond, dry_run=True).message)
    grace = api.user("grace@bank", [PLATFORM])
    for verb in ("create", "patch", "delete"):
        await_allowed(grace, verb, "tenants", "", group="allotment.dev")
    yield
    for manifest in reversed(objects):
        admin.delete(manifest)


@pytest.fixture
def head(api: ApiServer) -> Actor:
    """Head of the unit markets."""
    return api.user("ada@bank", [MANAGERS])


@pytest.mark.parametrize(
    ("want", "manifest"),
    [
        pytest.param("", tenant("markets-research", parent="markets"), id="below the own tenant"),
        pytest.param(
            "ada@bank may not name a new tenant insurance: use a name that begins with markets-, or ask a",
            tenant("insurance", parent="markets"),
            id="under a name that others may mean somebody else by",
        ),
        pytest.param(
            "ada@bank may not hang a tenant below retail: it takes the verb manage on that tenant",
            tenant("markets-research", parent="retail"),
            id="below another tenant",
        ),
        pytest.param(
            "may not hang a tenant at the top: it takes the verb manage on all tenants; name a parent that you manage",
            tenant("markets-research"),
            id="at the top",
        ),
        pytest.param(
            "",
            tenant("markets-research", parent="markets", namespaces=["markets-lab"]),
            id="with a namespace of its name",
        ),
        pytest.param(
            "", tenant("markets-research", parent="markets", namespaces=["quant-lab"]), id="with one given by name"
        ),
        pytest.param(
            "", tenant("markets-research", parent="markets", namespaces=["quant-lab", "quant-web"]), id="with two"
        ),
        pytest.param(
            "take at most two such namespaces at a time",
            tenant("markets-research", parent="markets", namespaces=["quant-lab", "quant-data", "quant-web"]),
            id="with three",
        ),
        pytest.param(
            "",
            tenant("markets-research", parent="markets", namespaces=[f"markets-{number}" for number in range(64)]),
            id="with as many of its name as a Tenant can have",
        ),
        pytest.param(
            "may not claim the namespaces monitoring: use names that begin with markets-, or ask a platform admin",
            tenant("markets-research", parent="markets", namespaces=["markets-lab", "monitoring"]),
            id="with somebody's namespace",
        ),
        pytest.param(
            "kube-system",
            tenant("markets-research", parent="markets", namespaces=["kube-system"]),
            id="with kube-system",
        ),
    ],
)
def test_a_units_head_creates(want: str, manifest: dict[str, Any], head: Actor) -> None:
    answer = head.create(manifest, dry_run=True)

    assert want in answer.message
    assert answer.accepted == (not want)


@pytest.mark.parametrize(
    ("want", "name", "change"),
    [
        pytest.param("", "markets-risk", {"spec": {"weight": 2}}, id="a child's weight"),
        pytest.param(
            "may not change or delete this tenant: it takes the verb manage on all tenants, because this one has no",
            "markets",
            {"spec": {"weight": 100}},
            id="the own weight",
        ),
        pytest.param(
            "ada@bank may not hang a tenant below retail",
            "markets-risk",
            {"spec": {"parent": "retail"}},
            id="a child's move to another unit",
        ),
        pytest.param(
            "ada@bank may not hang a tenant at the top",
            "markets-risk",
            {"spec": {"parent": None}},
            id="a child's move to the top",
        ),
        pytest.param(
            "because this one has no parent",
            "retail",
            {"spec": {"parent": "markets"}},
            id="a take-over of another unit",
        ),
        pytest.param(
            "because this one has no parent", "retail", {"metadata": {"labels": {"x": "y"}}}, id="another unit's labels"
        ),
    ],
)
def test_a_units_head_changes(want: str, name: str, change: dict[str, Any], head: Actor) -> None:
    answer = head.patch(tenant(name), change, dry_run=True)

    assert want in answer.message
    assert answer.accepted == (not want)


BEYOND: list[Any] = [
    pytest.param("", {"policy": {"network": {"egress": ["10.20.3.0/24"]}}}, id="a part of the unit's networks"),
    pytest.param("", {"policy": {"network": {"allowNodePort": True}}}, id="a door that the unit has"),
    pytest.param("", {"services": [{"kind": "KafkaCluster", "count": 2}]}, id="as many services"),
    pytest.param("", {"services": [{"kind": "KafkaTopic"}]}, id="a kind without a count"),
    pytest.param("", {"services": [{"kind": "SparkCluster", "count": 0}]}, id="none of a foreign kind"),
    pytest.param("", {"services": []}, id="no services"),
    pytest.param(
        "the tenant markets may not reach 10.0.0.0/8, 192.0.2.0/24, so no tenant below it may",
        {"policy": {"network": {"egress": ["10.0.0.0/8", "10.20.0.0/16", "192.0.2.0/24"]}}},
        id="wider networks",
    ),
    pytest.param(
        "the tenant markets has no allowLoadBalancer",
        {"policy": {"network": {"allowLoadBalancer": True, "allowNodePort": True}}},
        id="a door that the unit lacks",
    ),
    pytest.param(
        "may not have as many of KafkaCluster", {"services": [{"kind": "KafkaCluster", "count": 3}]}, id="more services"
    ),
    pytest.param("as many of KafkaCluster", {"services": [{"kind": "KafkaCluster"}]}, id="any number of services"),
    pytest.param("as many of SparkCluster", {"services": [{"kind": "SparkCluster"}]}, id="a foreign kind"),
]


@pytest.mark.parametrize(("want", "spec"), BEYOND)
def test_a_units_head_hands_on_no_more_than_the_unit_has(
    want: str, spec: dict[str, Any], head: Actor, admin: Actor
) -> None:
    created = head.create(tenant("markets-research", parent="markets", **spec), dry_run=True)
    changed = head.patch(tenant("markets-risk"), {"spec": spec}, dry_run=True)

    for answer in (created, changed):
        assert want in answer.message
        assert answer.accepted == (not want)
    assert admin.create(tenant("markets-research", parent="markets", **spec), dry_run=True).accepted


@pytest.mark.parametrize(
    ("want", "name"),
    [("", "markets-risk"), ("may not change or delete this tenant", "markets"), ("may not change or delete", "retail")],
)
def test_a_units_head_deletes(want: str, name: str, head: Actor) -> None:
    answer = head.delete(tenant(name), dry_run=True)

    assert want in answer.message
    assert answer.accepted == (not want)


def test_the_platform_team_needs_no_cluster_rights(api: ApiServer) -> None:
    platform = api.user("grace@bank", [PLATFORM])

    created = platform.create(tenant("insurance", namespaces=["anything"]), dry_run=True)
    changed = platform.patch(tenant("markets"), {"spec": {"weight": 3}}, dry_run=True)
    deleted = platform.delete(tenant("retail"), dry_run=True)

    assert [answer.message for answer in (created, changed, deleted)] == ["", "", ""]
    assert platform.create(tenant("insurance", parent="markets"), dry_run=True).accepted
    assert not platform.allowed("get", "secrets", namespace="default")


@pytest.mark.parametrize("name", ["kube-system", "default", NAMESPACE, "vault", "openshift-dns"])
def test_nobody_claims_the_clusters_namespaces(name: str, admin: Actor) -> None:
    answer = admin.create(tenant("greedy", namespaces=[name]), dry_run=True)

    assert not answer.accepted
    assert "belong to the cluster" in answer.message


def test_tenants_members_have_no_say_over_tenants(member: Callable[[str, str], Actor], unbounded: str) -> None:
    owner = member(unbounded, "owner")

    assert "cannot create resource" in owner.create(tenant("mine"), dry_run=True).message


class TestTheOperator:
    def test_keeps_its_books_on_a_tenant(self, operator: Actor) -> None:
        answer = operator.patch(
            tenant("markets"), {"metadata": {"finalizers": ["allotment.dev/operator"]}}, dry_run=True
        )

        assert answer.accepted, answer.message

    def test_may_not_touch_its_spec(self, operator: Actor) -> None:
        answer = operator.patch(tenant("markets"), {"spec": {"weight": 9}}, dry_run=True)

        assert "may not change or delete this tenant" in answer.message

    def test_writes_its_status(self, operator: Actor, scheduler: Actor) -> None:
        for program in (operator, scheduler):
            answer = program.patch(tenant("markets"), {"status": {}}, subresource="status", dry_run=True)

            assert answer.accepted, answer.message
