"""Whose a namespace is: one label, written by the operator and platform admins alone."""

import uuid
from collections.abc import Callable, Iterator

import pytest

from builders.api_server import Actor, ApiServer
from builders.helm_chart import NAMESPACE, PROTECTED, Release
from builders.program_process import eventually
from builders.tenant_objects import await_allowed, expect, group, namespace_object, role_binding, service_account

MANAGED = {"app.kubernetes.io/managed-by": "allotment"}
NAMESPACE_EDITORS = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "test-namespace-editors"},
    "rules": [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "create", "update", "patch"]}],
}


@pytest.fixture(scope="module")
def editor(api: ApiServer, admin: Actor) -> Iterator[Actor]:
    """Somebody who may edit namespaces, such as a deployment tool, and is no platform admin."""
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "test-namespace-editors"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "test-namespace-editors"},
        "subjects": [group("namespace-editors")],
    }
    expect(admin, NAMESPACE_EDITORS)
    expect(admin, binding)
    tool = api.user("tool", ["namespace-editors"])
    for verb in ("create", "patch"):
        await_allowed(tool, verb, "namespaces", "")
    yield tool
    admin.delete(binding)
    admin.delete(NAMESPACE_EDITORS)


@pytest.mark.parametrize(
    "want", ["tool may not change the label allotment.dev/tenant: name the namespace in the Tenant's"]
)
def test_others_do_not_write_the_label(want: str, editor: Actor, unbounded: str, elsewhere: str) -> None:
    created = editor.create(namespace_object("namespaces-new", "retail"), dry_run=True)
    taken = editor.patch(
        namespace_object(elsewhere), {"metadata": {"labels": {"allotment.dev/tenant": "retail"}}}, dry_run=True
    )
    moved = editor.patch(
        namespace_object(unbounded), {"metadata": {"labels": {"allotment.dev/tenant": "markets"}}}, dry_run=True
    )
    freed = editor.patch(
        namespace_object(unbounded), {"metadata": {"labels": {"allotment.dev/tenant": None}}}, dry_run=True
    )

    for answer in (created, taken, moved, freed):
        assert want in answer.message


def test_others_go_on_with_their_own_labels(editor: Actor, unbounded: str) -> None:
    created = editor.create(namespace_object("namespaces-new"), dry_run=True)
    changed = editor.patch(namespace_object(unbounded), {"metadata": {"labels": {"team": "x"}}}, dry_run=True)

    assert created.accepted, created.message
    assert changed.accepted, changed.message


@pytest.mark.parametrize("name", ["kube-system", "default", NAMESPACE])
def test_the_clusters_namespaces_are_nobodys(name: str, admin: Actor, operator: Actor) -> None:
    change = {"metadata": {"labels": {"allotment.dev/tenant": "retail"}}}

    by_admin = admin.patch(namespace_object(name), change, dry_run=True)
    by_operator = operator.patch(namespace_object(name), change, dry_run=True)

    assert f"the namespace {name} belongs to the cluster and cannot be given to the tenant retail" in by_admin.message
    assert not by_operator.accepted


class TestTheOperator:
    def test_makes_and_deletes_a_tenants_namespace(self, operator: Actor, unbounded: str) -> None:
        made = operator.create(namespace_object("namespaces-made", "retail", **MANAGED), dry_run=True)
        deleted = operator.delete(namespace_object(unbounded), dry_run=True)

        assert made.accepted, made.message
        assert deleted.accepted, deleted.message

    def test_takes_over_a_namespace_that_is_there(self, operator: Actor, elsewhere: str) -> None:
        change = {"metadata": {"labels": {"allotment.dev/tenant": "retail"}}}

        answer = operator.patch(namespace_object(elsewhere), change, dry_run=True)

        assert answer.accepted, answer.message

    def test_does_not_call_it_its_own(self, operator: Actor, elsewhere: str) -> None:
        change = {"metadata": {"labels": {"allotment.dev/tenant": "retail", **MANAGED}}}

        answer = operator.patch(namespace_object(elsewhere), change, dry_run=True)

        assert "marks a namespace as its own when it makes it, and never later" in answer.message

    @pytest.mark.parametrize("name", ["vault", "openshift-dns"])
    def test_opens_no_namespace_that_is_protected(self, name: str, operator: Actor, admin: Actor) -> None:
        made = operator.create(namespace_object(name, "retail", **MANAGED), dry_run=True)
        given = admin.create(namespace_object(name, "retail"), dry_run=True)
        beside = operator.create(namespace_object(f"{name.partition('-')[0]}ed", "retail", **MANAGED), dry_run=True)

        assert f"the namespace {name}" in made.message, "which of two policies answers is the API server's choice"
        assert f"the namespace {name} belongs to the cluster" in given.message
        assert beside.accepted, beside.message

    @pytest.mark.parametrize("name", ["kube-system", "default", NAMESPACE])
    def test_leaves_the_clusters_namespaces_alone(self, name: str, operator: Actor) -> None:
        changed = operator.patch(namespace_object(name), {"metadata": {"labels": {"x": "y"}}}, dry_run=True)
        deleted = operator.delete(namespace_object(name), dry_run=True)

        assert f"the operator changes nothing about the namespace {name}" in changed.message
        assert not deleted.accepted

    def test_leaves_other_namespaces_alone(self, operator: Actor, elsewhere: str) -> None:
        made = operator.create(namespace_object("namespaces-plain"), dry_run=True)
        changed = operator.patch(namespace_object(elsewhere), {"metadata": {"labels": {"x": "y"}}}, dry_run=True)
        deleted = operator.delete(namespace_object(elsewhere), dry_run=True)

        for answer in (made, changed, deleted):
            assert "the operator changes only tenants' namespaces" in answer.message

    def test_deletes_no_namespace_that_it_did_not_make(
        self, operator: Actor, admin: Actor, new_namespace: Callable[..., str]
    ) -> None:
        name = new_namespace("namespaces-adopted")
        assert admin.patch(
            namespace_object(name), {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}
        ).accepted

        answer = operator.delete(namespace_object(name), dry_run=True)

        assert "the operator deletes only namespaces that it made" in answer.message

    def test_takes_its_seat_in_a_tenants_namespace_only(self, operator: Actor, unbounded: str, elsewhere: str) -> None:
        def seat(namespace: str) -> dict[str, object]:
            itself = service_account(NAMESPACE, "allotment-operator")
            return role_binding(namespace, "allotment-operator", "allotment-operator-tenant", itself, **MANAGED)

        there = operator.create(seat(unbounded), dry_run=True)
        refused = [
            operator.create(seat(it), dry_run=True).message for it in (elsewhere, "kube-system", "default", NAMESPACE)
        ]

        assert there.accepted, there.message
        assert all("the operator binds roles only in tenants' namespaces" in message for message in refused)

    @pytest.mark.parametrize("role", ["tenant-owner", "tenant-developer", "tenant-viewer", "tenant-ci", "spark-driver"])
    def test_seats_members_and_spark_drivers(self, role: str, operator: Actor, unbounded: str) -> None:
        seat = role_binding(unbounded, f"seat-{role}", f"allotment-{role}", group("anybody"), **MANAGED)

        answer = operator.create(seat, dry_run=True)

        assert answer.accepted, answer.message

    def test_gives_its_own_role_to_nobody_else(self, operator: Actor, unbounded: str) -> None:
        seat = role_binding(unbounded, "gift", "allotment-operator-tenant", group("friends"), **MANAGED)

        answer = operator.create(seat, dry_run=True)

        assert "allotment-operator-tenant is bound to the operator alone" in answer.message

    @pytest.mark.parametrize("role", ["cluster-admin", "admin", "edit", "system:node", "allotment-platform-admin"])
    def test_gives_no_other_role(self, role: str, operator: Actor, unbounded: str) -> None:
        answer = operator.create(role_binding(unbounded, "gift", role, group("friends"), **MANAGED), dry_run=True)

        assert not answer.accepted
        assert "attempting to grant RBAC permissions not currently held" in answer.message

    def test_leaves_other_peoples_bindings_alone(self, operator: Actor, admin: Actor, unbounded: str) -> None:
        theirs = role_binding(unbounded, "theirs", "view", group("auditors"))
        expect(admin, theirs)

        answer = operator.delete(theirs, dry_run=True)

        assert "the RoleBinding theirs is not the operator's" in answer.message


@pytest.fixture
def protected_late(operator: Actor, admin: Actor, only_release: Release) -> Iterator[tuple[str, dict[str, object]]]:
    """A tenant's namespace that was protected when it had two owners already, and the binding of these."""
    name = f"late-{uuid.uuid4().hex[:8]}"
    bound = role_binding(name, "allotment-owner", "allotment-tenant-owner", group("one"), group("two"), **MANAGED)
    expect(operator, namespace_object(name, "retail", **MANAGED))
    expect(operator, bound)
    only_release.put({"admission.protectedNamespaces": [*PROTECTED, name]})
    newcomer = role_binding(name, "newcomer", "allotment-tenant-viewer", group("three"), **MANAGED)
    elsewhere = {"metadata": {"labels": {"allotment.dev/tenant": "markets"}}}
    # The API server learns of each changed policy by a watch of its own.
    eventually(lambda: not operator.create(newcomer, dry_run=True).accepted)
    eventually(lambda: not operator.patch(namespace_object(name), elsewhere, dry_run=True).accepted)
    yield name, bound
    only_release.put()
    admin.delete(namespace_object(name))


def test_a_tenants_namespace_that_is_protected_later_may_leave_and_gives_nobody_rights(
    operator: Actor, protected_late: tuple[str, dict[str, object]]
) -> None:
    name, bound = protected_late
    space, change = namespace_object(name), {"metadata": {"labels": {"x": "y"}}}
    wider = {"subjects": [group("one"), group("two"), group("three")]}

    kept = operator.patch(space, change, dry_run=True)
    moved = operator.patch(space, {"metadata": {"labels": {"allotment.dev/tenant": "markets"}}}, dry_run=True)
    added = operator.patch(bound, wider, dry_run=True)
    lost = operator.patch(bound, {"subjects": [group("two")]}, dry_run=True)
    gone = operator.delete(bound, dry_run=True)
    deleted = operator.delete(space, dry_run=True)
    left = operator.patch(space, {"metadata": {"labels": {"allotment.dev/tenant": None}}})

    for answer in (kept, lost, gone, deleted, left):
        assert answer.accepted, answer.message
    assert f"the namespace {name}" in moved.message, "which of two policies answers is the API server's choice"
    assert f"the namespace {name} belongs to the cluster, and the operator binds no role there" in added.message
    back = operator.patch(space, {"metadata": {"labels": {"allotment.dev/tenant": "retail"}}}, dry_run=True)
    assert not back.accepted
