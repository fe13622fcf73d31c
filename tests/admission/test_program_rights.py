"""The two programs' own ServiceAccounts: they can do exactly their work, and nothing that a thief would like."""

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from allotment_kube.resources import CUSTOM_RESOURCE_DEFINITIONS, EVENTS, NAMESPACES, NODES, SERVICES
from allotment_operator.api_server import ENDPOINT_SLICES
from allotment_operator.api_server import NAMESPACE as PLACE_OF_API_SERVER
from allotment_operator.drift import WALLS
from allotment_operator.kind import Kind
from allotment_operator.kinds import by_name, service_kinds
from allotment_operator.services.jenkins.kinds import IP_ADDRESSES
from allotment_operator.surroundings import Surroundings
from allotment_operator.tenancy.estate import SERVICE_KINDS, Estate
from allotment_operator.tenancy.kind import TenantKind
from allotment_operator.tenancy.register import NODE_POOLS
from allotment_operator.tenancy.vacancy import Vacancy
from allotment_operator.watches import CHILDREN
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.shell.ledger import Ledger
from allotment_scheduler.shell.picture import Picture
from allotment_scheduler.shell.watches import Watches
from builders.api_server import Actor, ApiServer
from builders.helm_chart import NAMESPACE, named, of_kind, render, tenant_policy
from builders.program_process import eventually
from builders.tenant_objects import (
    await_allowed,
    expect,
    meta,
    namespace_object,
    pod,
    pod_spec,
    role_binding,
    service_account,
)

ALLOTMENT = "allotment.dev"
MANAGED = {"app.kubernetes.io/managed-by": "allotment"}

Right = tuple[str, str, str]  # verb, API group, resource[/subresource]


def rights_of(rules: list[dict[str, Any]]) -> Iterator[Right]:
    """Every right of a role, one by one; those limited by name aside."""
    for rule in rules:
        if "resourceNames" not in rule:
            yield from (
                (verb, api_group, resource)
                for verb in rule["verbs"]
                for api_group in rule["apiGroups"]
                for resource in rule["resources"]
            )


def allowed(actor: Actor, right: Right, namespace: str = "", name: str = "") -> bool:
    verb, api_group, resource = right
    resource, _, subresource = resource.partition("/")
    return actor.allowed(verb, resource, group=api_group, subresource=subresource, namespace=namespace, name=name)


@pytest.fixture(scope="module")
def seat(unbounded: str, operator: Actor) -> str:
    """A tenant's namespace in which the operator has taken its seat."""
    itself = service_account(NAMESPACE, "allotment-operator")
    expect(operator, role_binding(unbounded, "allotment-operator", "allotment-operator-tenant", itself, **MANAGED))
    await_allowed(operator, "get", "secrets", unbounded)
    return unbounded


@pytest.mark.parametrize("program", ["operator", "scheduler"])
def test_a_program_has_every_right_of_its_role(program: str, api: ApiServer) -> None:
    actor = api.service_account(NAMESPACE, f"allotment-{program}")
    role = named(render(), "ClusterRole", f"allotment-{program}")

    def missing() -> list[Right]:
        return [right for right in rights_of(role["rules"]) if not allowed(actor, right)]

    eventually(lambda: not missing(), because=missing)


def test_the_operator_has_the_rights_of_its_seat_there_and_nowhere_else(
    seat: str, elsewhere: str, operator: Actor
) -> None:
    objects = render()
    of_seat = set(rights_of(named(objects, "ClusterRole", "allotment-operator-tenant")["rules"]))
    everywhere = set(rights_of(named(objects, "ClusterRole", "allotment-operator")["rules"]))

    missing = [right for right in of_seat if not allowed(operator, right, seat)]
    stray = [right for right in of_seat - everywhere if allowed(operator, right, elsewhere)]

    assert missing == []
    assert stray == []


def test_the_operator_makes_a_tenants_namespace_by_itself_and_takes_it_down(operator: Actor) -> None:
    """The whole of its work there with nothing but its own rights, as it must be able to do at run time."""
    name = "program-rights-made"
    itself = service_account(NAMESPACE, "allotment-operator")
    namespace = namespace_object(name, "retail", **MANAGED)
    expect(operator, namespace)
    expect(operator, role_binding(name, "allotment-operator", "allotment-operator-tenant", itself, **MANAGED))
    await_allowed(operator, "create", "secrets", name)
    certificate = {"apiVersion": "v1", "kind": "Secret", "metadata": meta("t1-ca", name), "stringData": {"ca.crt": "x"}}
    walls = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta("default-deny", name, labels=MANAGED),
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }
    labels = {"app": "t1"}
    stateful_set = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": meta("t1", name),
        "spec": {
            "selector": {"matchLabels": labels},
            "serviceName": "t1",
            "template": {"metadata": {"labels": labels}, "spec": pod_spec()},
        },
    }
    seat = role_binding(name, "allotment-owner", "allotment-tenant-owner", **MANAGED)
    for manifest in (tenant_policy(name), walls, seat, certificate):
        expect(operator, manifest)
    eventually(lambda: operator.create(stateful_set).accepted)  # once the API server knows of the TenantPolicy

    assert operator.delete(stateful_set).accepted
    assert operator.delete(namespace).accepted


PLURALS = {
    "ConfigMap": "configmaps",
    "LimitRange": "limitranges",
    "NetworkPolicy": "networkpolicies",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "Pod": "pods",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "PodGroup": "podgroups",
    "ResourceQuota": "resourcequotas",
    "RoleBinding": "rolebindings",
    "Secret": "secrets",
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
    "StatefulSet": "statefulsets",
    "TenantPolicy": "tenantpolicies",
}
CHILD = ("get", "list", "create", "patch", "delete")
"""What is done to a child: looked up by name, listed by label, applied (which creates it), and deleted."""
RBAC = "rbac.authorization.k8s.io"


def code_of_the_operator() -> dict[str, Kind[Any]]:
    """Every kind that it serves; they are asked what they look at, and call nobody."""
    client: Any = None
    surroundings = Surroundings(client, NAMESPACE, lambda _: False, lambda: dt.datetime(2030, 1, 1, tzinfo=dt.UTC))
    return by_name([TenantKind(Estate, Vacancy(cast("Any", None))), *service_kinds(surroundings)])


def children_of(scopes: Iterable[Mapping[str, tuple[str, ...]]]) -> set[tuple[str, str]]:
    """API group and plural of every kind in some scopes."""
    return {
        (version.rpartition("/")[0], PLURALS[kind])
        for scope in scopes
        for version, names in scope.items()
        for kind in names
    }


def test_the_operators_seat_holds_what_its_code_does_there_and_no_more() -> None:
    kinds = code_of_the_operator()
    children = children_of(each.scope.kinds for each in kinds.values()) - {(RBAC, "rolebindings")}
    wanted = {(verb, *child) for child in children for verb in CHILD}
    # A tenant that is deleted with deletionPolicy Cascade, and a Spark application whose time to live is over.
    wanted |= {("delete", ALLOTMENT, plural) for plural in SERVICE_KINDS.values()}

    held = set(rights_of(named(render(), "ClusterRole", "allotment-operator-tenant")["rules"]))

    assert held == wanted


def test_the_operator_holds_cluster_wide_what_its_code_does_there_and_no_more() -> None:
    kinds = code_of_the_operator()
    plurals = {kind: each.model.definition.plural for kind, each in kinds.items()}
    making = [plurals[kind] for kind, each in kinds.items() if each.scope.kinds and kind in SERVICE_KINDS]
    watched = [*CHILDREN, *WALLS, NODES, NODE_POOLS, NAMESPACES, CUSTOM_RESOURCE_DEFINITIONS]
    wanted = {(verb, each.group, each.plural) for each in watched for verb in ("list", "watch")}
    wanted |= {(verb, ALLOTMENT, plural) for plural in plurals.values() for verb in ("get", "list", "watch", "patch")}
    wanted |= {("patch", ALLOTMENT, f"{plural}/status") for plural in plurals.values()}
    wanted |= {("update", ALLOTMENT, f"{plural}/finalizers") for plural in making}
    # Namespaces, and the seats in them, are made before the operator has any right there.
    wanted |= {(verb, "", "namespaces") for verb in CHILD} | {(verb, RBAC, "rolebindings") for verb in CHILD}
    wanted |= {("get", IP_ADDRESSES.group, IP_ADDRESSES.plural)}
    wanted |= {(verb, EVENTS.group, EVENTS.plural) for verb in ("create", "patch")}

    held = set(rights_of(named(render(), "ClusterRole", "allotment-operator")["rules"]))

    assert held == wanted


def test_the_operator_holds_in_its_own_namespace_what_its_code_does_there_and_no_more() -> None:
    scopes = [each.scope.operator_namespace for each in code_of_the_operator().values()]
    wanted = {(verb, *child) for child in children_of(scopes) for verb in CHILD}
    lease = "coordination.k8s.io"

    rules = named(render(), "Role", "allotment-operator")["rules"]

    assert set(rights_of(rules)) == {*wanted, ("create", lease, "leases")}
    [by_name] = [rule for rule in rules if "resourceNames" in rule]
    assert (by_name["resources"], by_name["verbs"]) == (["leases"], ["get", "update"])


def test_the_operator_sees_where_the_api_server_is_and_nothing_else_there(operator: Actor) -> None:
    role = named(render(), "Role", "allotment-operator-api-server")
    watched = (SERVICES, ENDPOINT_SLICES)

    assert role["metadata"]["namespace"] == PLACE_OF_API_SERVER
    assert set(rights_of(role["rules"])) == {
        (v, each.group, each.plural) for each in watched for v in ("list", "watch")
    }
    assert allowed(operator, ("list", "discovery.k8s.io", "endpointslices"), PLACE_OF_API_SERVER)


def test_the_scheduler_may_see_what_it_watches_and_nothing_else() -> None:
    picture = Picture(ClusterState(), Ledger(), changed=lambda: None)
    client = cast("Any", SimpleNamespace(rng=None))
    watched = {resource.partition(".")[0] for resource in Watches(client, picture).names()}
    rules = named(render(), "ClusterRole", "allotment-scheduler")["rules"]
    seen = {plural for verb, _, plural in rights_of(rules) if verb in {"get", "list", "watch"}}

    assert seen == watched


def test_what_the_scheduler_watches_it_lists_and_watches_and_gets_only_what_it_reads_by_name() -> None:
    rules = named(render(), "ClusterRole", "allotment-scheduler")["rules"]
    verbs: dict[str, set[str]] = {}
    for verb, _, plural in rights_of(rules):
        verbs.setdefault(plural, set()).add(verb)
    read = {plural: found & {"get", "list", "watch"} for plural, found in verbs.items()}

    assert {plural for plural, found in read.items() if found and not found >= {"list", "watch"}} == set()
    assert {plural for plural, found in read.items() if "get" in found} == {"pods"}


MERGE = "application/merge-patch+json"
FORBIDDEN_TO_BOTH: list[tuple[Right, str]] = [
    (("get", "", "secrets"), "kube-system"),
    (("list", "", "secrets"), "kube-system"),
    (("list", "", "secrets"), ""),
    (("get", "", "secrets"), "default"),
    (("create", "", "pods/exec"), "kube-system"),
    (("get", "", "pods/exec"), "default"),
    (("create", "", "pods/exec"), ""),
    (("create", "", "pods/attach"), "kube-system"),
    (("create", "", "pods/portforward"), ""),
    (("get", "", "pods/log"), "kube-system"),
    (("create", "", "pods"), "kube-system"),
    (("create", "", "pods"), NAMESPACE),
    (("delete", "", "pods"), "kube-system"),
    (("create", "", "serviceaccounts/token"), "kube-system"),
    (("create", "", "serviceaccounts"), "kube-system"),
    (("impersonate", "", "users"), ""),
    (("impersonate", "", "serviceaccounts"), "kube-system"),
    (("impersonate", "", "groups"), ""),
    (("get", "", "configmaps"), "kube-system"),
    (("patch", "", "nodes"), ""),
    (("delete", "", "nodes"), ""),
    (("get", "", "nodes/proxy"), ""),
    (("create", "", "nodes/proxy"), ""),
    (("create", "rbac.authorization.k8s.io", "clusterroles"), ""),
    (("patch", "rbac.authorization.k8s.io", "clusterroles"), ""),
    (("escalate", "rbac.authorization.k8s.io", "clusterroles"), ""),
    (("bind", "rbac.authorization.k8s.io", "clusterroles"), ""),
    (("create", "rbac.authorization.k8s.io", "clusterrolebindings"), ""),
    (("patch", "rbac.authorization.k8s.io", "clusterrolebindings"), ""),
    (("create", "rbac.authorization.k8s.io", "roles"), ""),
    (("patch", "apps", "deployments"), "kube-system"),
    (("patch", "apps", "daemonsets"), "kube-system"),
    (("create", "batch", "jobs"), "kube-system"),
    (("create", "admissionregistration.k8s.io", "validatingadmissionpolicies"), ""),
    (("delete", "admissionregistration.k8s.io", "validatingadmissionpolicybindings"), ""),
    (("patch", "admissionregistration.k8s.io", "mutatingadmissionpolicies"), ""),
    (("create", "admissionregistration.k8s.io", "mutatingwebhookconfigurations"), ""),
    (("patch", "apiextensions.k8s.io", "customresourcedefinitions"), ""),
    (("create", "certificates.k8s.io", "certificatesigningrequests"), ""),
    (("approve", "certificates.k8s.io", "signers"), ""),
    (("create", ALLOTMENT, "tenants"), ""),
    (("delete", ALLOTMENT, "tenants"), ""),
    (("manage", ALLOTMENT, "tenants"), ""),
    (("create", ALLOTMENT, "nodepools"), ""),
    (("patch", "coordination.k8s.io", "leases"), "kube-system"),
    (("get", "coordination.k8s.io", "leases"), "kube-node-lease"),
]


@pytest.mark.parametrize("program", ["operator", "scheduler"])
def test_what_neither_program_may_do(program: str, api: ApiServer) -> None:
    actor = api.service_account(NAMESPACE, f"allotment-{program}")

    assert [case for case in FORBIDDEN_TO_BOTH if allowed(actor, *case)] == []


def test_what_the_operator_may_not_do_even_in_a_tenants_namespace(seat: str, operator: Actor) -> None:
    forbidden: list[Right] = [
        ("create", "", "pods/binding"),
        ("create", "", "pods/exec"),
        ("create", "", "pods/eviction"),
        ("get", "", "pods/log"),
        ("create", "", "serviceaccounts/token"),
        ("patch", "", "pods/status"),
        ("create", "rbac.authorization.k8s.io", "roles"),
        ("create", ALLOTMENT, "kafkaclusters"),
        ("patch", ALLOTMENT, "podgroups/status"),
        ("deletecollection", "", "secrets"),
    ]

    assert [right for right in forbidden if allowed(operator, right, seat)] == []


def test_what_the_scheduler_may_not_do_even_in_a_tenants_namespace(seat: str, scheduler: Actor) -> None:
    forbidden: list[Right] = [
        ("get", "", "secrets"),
        ("get", "", "configmaps"),
        ("create", "", "pods"),
        ("patch", "", "pods"),
        ("delete", "", "pods"),
        ("create", "", "pods/exec"),
        ("create", "rbac.authorization.k8s.io", "rolebindings"),
        ("patch", ALLOTMENT, "tenants"),
        ("patch", ALLOTMENT, "tenantpolicies"),
        ("patch", ALLOTMENT, "kafkaclusters"),
        ("patch", "batch", "jobs"),
    ]

    assert [right for right in forbidden if allowed(scheduler, right, seat)] == []


@pytest.mark.parametrize("role", ["cluster-admin", "admin", "edit", "system:node", "allotment-operator"])
def test_the_operator_binds_only_the_roles_it_is_given(role: str, operator: Actor) -> None:
    right = ("bind", "rbac.authorization.k8s.io", "clusterroles")

    assert not allowed(operator, right, name=role)
    assert allowed(operator, right, name="allotment-tenant-viewer")


def test_each_program_has_its_own_lease(operator: Actor, scheduler: Actor) -> None:
    for program, own, other in (
        (operator, "allotment-operator", "allotment-scheduler"),
        (scheduler, "allotment-scheduler", "allotment-operator"),
    ):
        lease = ("update", "coordination.k8s.io", "leases")

        assert allowed(program, lease, NAMESPACE, own)
        assert not allowed(program, lease, NAMESPACE, other)


def test_ca_keys_are_the_operators_alone(operator: Actor, scheduler: Actor) -> None:
    assert allowed(operator, ("get", "", "secrets"), NAMESPACE)
    assert not allowed(scheduler, ("get", "", "secrets"), NAMESPACE)


def test_no_other_subject_is_bound_to_the_programs_roles() -> None:
    objects = render()
    subjects = {
        binding["roleRef"]["name"]: [subject["name"] for subject in binding["subjects"]]
        for binding in of_kind(objects, "ClusterRoleBinding", "RoleBinding")
    }

    assert subjects == {
        "allotment-operator": ["allotment-operator"],
        "allotment-operator-api-server": ["allotment-operator"],
        "allotment-scheduler": ["allotment-scheduler"],
        "allotment-scheduler-api": ["allotment-scheduler"],
        "allotment-scheduler-api-reader": ["system:authenticated"],
        "extension-apiserver-authentication-reader": ["allotment-scheduler"],
    }


def test_whoever_is_known_to_the_cluster_reads_where_the_schedulers_api_is_and_nothing_else() -> None:
    (reader,) = [role for role in of_kind(render(), "Role") if role["metadata"]["name"].endswith("-reader")]

    assert reader["rules"] == [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": ["allotment-scheduler-api"]}
    ]


class TestTheScheduler:
    @pytest.fixture
    def pending(self, seat: str, admin: Actor) -> Iterator[dict[str, Any]]:
        manifest = pod(seat, "pending")
        expect(admin, manifest)
        yield manifest
        admin.request("DELETE", f"/api/v1/namespaces/{seat}/pods/pending?gracePeriodSeconds=0")

    @staticmethod
    def binding(target: dict[str, Any]) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": target["metadata"],
            "target": {"kind": "Node", "name": "node-1"},
        }

    @staticmethod
    def bind(actor: Actor, target: dict[str, Any], *, dry_run: bool = True) -> str:
        namespace, name = target["metadata"]["namespace"], target["metadata"]["name"]
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/binding" + ("?dryRun=All" if dry_run else "")
        return actor.request("POST", path, TestTheScheduler.binding(target)).message

    def test_binds_a_tenants_pod(self, pending: dict[str, Any], scheduler: Actor, admin: Actor) -> None:
        message = self.bind(scheduler, pending, dry_run=False)

        assert message == ""
        assert admin.get(pending).body["spec"]["nodeName"] == "node-1"

    def test_is_alone_in_that(self, pending: dict[str, Any], api: ApiServer, admin: Actor) -> None:
        others = {"admin": admin, "kube-scheduler": api.user("system:kube-scheduler")}
        path = f"/api/v1/namespaces/{pending['metadata']['namespace']}/bindings?dryRun=All"

        for actor in others.values():
            old_path = actor.request("POST", path, self.binding({"metadata": {**pending["metadata"]}}))

            assert "only the scheduler allotment binds pods of a tenant" in self.bind(actor, pending)
            assert "only the scheduler allotment binds pods of a tenant" in old_path.message

    def test_binds_no_pod_of_anybody_else(self, elsewhere: str, scheduler: Actor, admin: Actor, api: ApiServer) -> None:
        manifest = pod(elsewhere, "theirs")
        expect(admin, manifest)

        assert "the scheduler decides only about tenants' namespaces" in self.bind(scheduler, manifest)
        assert self.bind(api.user("system:kube-scheduler"), manifest) == ""

    def test_evicts_tenants_pods_only(
        self, pending: dict[str, Any], elsewhere: str, scheduler: Actor, admin: Actor
    ) -> None:
        theirs = pod(elsewhere, "protected")
        expect(admin, theirs)

        def evict(target: dict[str, Any]) -> str:
            namespace, name = target["metadata"]["namespace"], target["metadata"]["name"]
            eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": target["metadata"]}
            path = f"/api/v1/namespaces/{namespace}/pods/{name}/eviction?dryRun=All"
            return scheduler.request("POST", path, {**eviction, "deleteOptions": {"dryRun": ["All"]}}).message

        assert evict(pending) == ""
        assert "the scheduler decides only about tenants' namespaces" in evict(theirs)

    def test_says_on_any_pod_why_it_waits(
        self, pending: dict[str, Any], elsewhere: str, scheduler: Actor, admin: Actor
    ) -> None:
        stray = pod(elsewhere, "stray", spec={"schedulerName": "allotment"})
        expect(admin, stray)
        waits = {"status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "UnknownTenant"}]}}

        for target in (pending, stray):
            answer = scheduler.patch(target, waits, subresource="status", dry_run=True)

            assert answer.accepted, answer.message

    def test_chooses_the_node_or_the_volume_of_a_claim_and_no_more(
        self, seat: str, elsewhere: str, scheduler: Actor, admin: Actor
    ) -> None:
        def claim(namespace: str) -> dict[str, Any]:
            return {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": meta("data", namespace),
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }

        for namespace in (seat, elsewhere):
            expect(admin, claim(namespace))
        node = {"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "node-1"}}}
        chosen = scheduler.patch(claim(seat), node, dry_run=True)
        named = scheduler.patch(claim(seat), {"spec": {"volumeName": "disk"}}, dry_run=True)
        grown = scheduler.patch(claim(seat), {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}, dry_run=True)
        theirs = scheduler.patch(claim(elsewhere), node, dry_run=True)

        assert chosen.accepted, chosen.message
        assert named.accepted, named.message
        assert not grown.accepted
        assert "decides only about tenants' namespaces" in theirs.message

    def test_gives_devices_to_tenants_claims_and_to_nobody_elses(
        self, seat: str, elsewhere: str, scheduler: Actor, admin: Actor
    ) -> None:
        finalized: dict[str, Any] = {"metadata": {"finalizers": ["resource.kubernetes.io/delete-protection"]}}
        given: dict[str, Any] = {"status": {"allocation": {"devices": {}}}}
        answers = {}
        for namespace in (seat, elsewhere):
            path = f"/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaims"
            claim = {"metadata": {"name": "gpu"}, "spec": {"devices": {}}}
            made = admin.request("POST", path, claim)
            assert made.accepted, made.message
            answers[namespace] = [
                scheduler.request("PATCH", f"{path}/gpu{part}?dryRun=All", change, content_type=MERGE).message
                for part, change in (("", finalized), ("/status", given))
            ]

        assert answers[seat] == ["", ""]
        assert all("decides only about tenants' namespaces" in message for message in answers[elsewhere])
