"""A tenant's walls stand: what the operator wrote is changed by nobody whom it walls in."""

from collections.abc import Callable
from typing import Any

import pytest

from builders.api_server import Actor, ApiServer
from builders.helm_chart import NAMESPACE, tenant_policy
from builders.program_process import eventually
from builders.tenant_objects import await_allowed, expect, group, meta, namespace_object, role_binding, service_account

Member = Callable[[str, str], Actor]

MANAGED = {"app.kubernetes.io/managed-by": "allotment"}
ALLOW_ALL = {"podSelector": {}, "ingress": [{}], "egress": [{}], "policyTypes": ["Ingress", "Egress"]}
DENY_ALL = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def network_policy(namespace: str, name: str, spec: dict[str, Any], **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta(name, namespace, labels=labels),
        "spec": spec,
    }


def quota(namespace: str, name: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": meta(name, namespace, labels=labels),
        "spec": {"hard": {"pods": "10"}},
    }


def limits(namespace: str, name: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": meta(name, namespace, labels=labels),
        "spec": {"limits": [{"type": "Container", "default": {"memory": "1Gi"}}]},
    }


@pytest.fixture(scope="module")
def walls(unbounded: str, admin: Actor) -> dict[str, dict[str, Any]]:
    """What the operator keeps in a tenant's namespace, by kind."""
    objects = [
        network_policy(unbounded, "default-deny", DENY_ALL, **MANAGED),
        quota(unbounded, "counts", **MANAGED),
        limits(unbounded, "defaults", **MANAGED),
    ]
    for manifest in objects:
        expect(admin, manifest)
    objects.append(tenant_policy(unbounded))
    objects.append(role_binding(unbounded, "allotment-viewer", "allotment-tenant-viewer", **MANAGED))
    return {manifest["kind"]: manifest for manifest in objects}


KINDS = ["NetworkPolicy", "ResourceQuota", "LimitRange", "TenantPolicy", "RoleBinding"]
CHANGE = {"metadata": {"annotations": {"seen": "yes"}}}


@pytest.mark.parametrize("kind", KINDS)
def test_an_owner_does_not_move_the_walls(
    kind: str, walls: dict[str, dict[str, Any]], unbounded: str, member: Member
) -> None:
    owner = member(unbounded, "owner")

    assert owner.get(walls[kind]).accepted
    assert owner.patch(walls[kind], CHANGE, dry_run=True).status == 403
    assert owner.delete(walls[kind], dry_run=True).status == 403


@pytest.fixture(scope="module")
def careless(unbounded: str, api: ApiServer, admin: Actor) -> Actor:
    """Somebody who was given every right in the namespace by hand."""
    expect(admin, role_binding(unbounded, "careless", "cluster-admin", group("careless")))
    eve = api.user("eve@bank", ["careless"])
    await_allowed(eve, "patch", "resourcequotas", unbounded)
    return eve


@pytest.mark.parametrize("kind", KINDS)
def test_nor_does_whoever_has_every_right_in_the_namespace(
    kind: str, walls: dict[str, dict[str, Any]], careless: Actor
) -> None:
    for answer in (careless.patch(walls[kind], CHANGE, dry_run=True), careless.delete(walls[kind], dry_run=True)):
        assert "is written by Allotment's operator: change the Tenant instead" in answer.message


@pytest.fixture(scope="module")
def seated(unbounded: str, operator: Actor) -> Actor:
    """The operator, after it has taken its seat in the namespace."""
    itself = service_account(NAMESPACE, "allotment-operator")
    expect(operator, role_binding(unbounded, "allotment-operator", "allotment-operator-tenant", itself, **MANAGED))
    await_allowed(operator, "patch", "resourcequotas", unbounded)
    return operator


@pytest.mark.parametrize("kind", KINDS)
def test_the_operator_and_platform_admins_do(
    kind: str, walls: dict[str, dict[str, Any]], seated: Actor, admin: Actor
) -> None:
    for answer in (seated.patch(walls[kind], CHANGE, dry_run=True), seated.delete(walls[kind], dry_run=True)):
        assert answer.accepted, answer.message
    assert admin.patch(walls[kind], CHANGE, dry_run=True).accepted


@pytest.mark.parametrize("controller", ["namespace-controller", "generic-garbage-collector"])
def test_a_namespace_can_always_be_cleared(controller: str, walls: dict[str, dict[str, Any]], api: ApiServer) -> None:
    cleaner = api.service_account("kube-system", controller)

    for manifest in walls.values():
        answer = cleaner.delete(manifest, dry_run=True)

        assert answer.accepted, answer.message


def test_a_tenants_namespace_goes_when_it_is_deleted(new_namespace: Callable[..., str], admin: Actor) -> None:
    name = new_namespace("operator-objects-leaving")
    expect(admin, network_policy(name, "default-deny", DENY_ALL, **MANAGED))
    expect(admin, quota(name, "counts", **MANAGED))
    assert admin.delete(namespace_object(name)).accepted

    eventually(lambda: admin.get(namespace_object(name)).status == 404)


def test_an_owner_binds_the_tenants_own_programs(unbounded: str, member: Member) -> None:
    own = role_binding(unbounded, "pipeline", "allotment-tenant-ci", service_account(unbounded, "pipeline"))

    answer = member(unbounded, "owner").create(own, dry_run=True)

    assert answer.accepted, answer.message


def test_an_owner_does_not_pass_anything_off_as_the_operators(unbounded: str, member: Member) -> None:
    fake = role_binding(unbounded, "fake", "allotment-tenant-ci", service_account(unbounded, "pipeline"), **MANAGED)

    answer = member(unbounded, "owner").create(fake, dry_run=True)

    assert "is written by Allotment's operator" in answer.message


def test_nobody_but_the_operator_takes_the_names_of_its_seats(
    unbounded: str, careless: Actor, member: Member, operator: Actor, admin: Actor
) -> None:
    seat = role_binding(unbounded, "allotment-auditor", "allotment-tenant-viewer", group("friends"))
    its = {**seat, "metadata": {**seat["metadata"], "labels": MANAGED}}

    for actor in (member(unbounded, "owner"), careless):
        assert "is written by Allotment's operator" in actor.create(seat, dry_run=True).message
    assert operator.create(its, dry_run=True).accepted
    assert admin.create(seat, dry_run=True).accepted


@pytest.mark.parametrize("role", ["cluster-admin", "allotment-operator-tenant", "allotment-platform-admin"])
def test_an_owner_gives_nobody_more_than_is_held(role: str, unbounded: str, member: Member) -> None:
    answer = member(unbounded, "owner").create(role_binding(unbounded, "gift", role, group("friends")), dry_run=True)

    assert "attempting to grant RBAC permissions not currently held" in answer.message


def test_no_member_opens_the_network(unbounded: str, member: Member) -> None:
    for role in ("owner", "developer", "ci", "viewer"):
        answer = member(unbounded, role).create(network_policy(unbounded, "open", ALLOW_ALL), dry_run=True)

        assert answer.status == 403, role
