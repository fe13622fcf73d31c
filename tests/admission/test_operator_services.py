"""What the operator asks a tenant's services by leads to them, whatever a tenant's member may write."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from builders.api_server import Actor, ApiServer
from builders.helm_chart import NAMESPACE
from builders.patience import LateError
from builders.tenant_objects import await_allowed, expect, group, meta, role_binding, service, service_account

Member = Callable[[str, str], Actor]

MANAGED = {"app.kubernetes.io/managed-by": "allotment"}
ELSEWHERE = {"spec": {"type": "ExternalName", "externalName": "vault.other.svc", "selector": None}}
CONTROLLERS = ["kube-system:endpointslice-controller", "kube-system:generic-garbage-collector", "kube-system:some-mesh"]


def entrance(namespace: str, name: str = "orders-bootstrap", **labels: str) -> dict[str, Any]:
    manifest = service(namespace, name)
    manifest["metadata"]["labels"] = {**MANAGED, **labels}
    return manifest


def slice_of(namespace: str, of: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": meta(f"{of}-slice", namespace, labels={"kubernetes.io/service-name": of, **labels}),
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"]}],
        "ports": [{"port": 9091}],
    }


def endpoints(namespace: str, name: str, **labels: str) -> dict[str, Any]:
    subsets = [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 9091}]}]
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": meta(name, namespace, labels=labels),
        "subsets": subsets,
    }


def eventually(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 180
    while not holds():
        if time.monotonic() > deadline:
            raise LateError(what)
        time.sleep(0.2)


@pytest.fixture(scope="module")
def asked(unbounded: str, admin: Actor) -> dict[str, Any]:
    """The Service by which the operator asks a cluster."""
    manifest = entrance(unbounded)
    expect(admin, manifest)
    return manifest


@pytest.fixture(scope="module")
def careless(unbounded: str, api: ApiServer, admin: Actor) -> Actor:
    """Somebody who was given every right in the namespace by hand."""
    expect(admin, role_binding(unbounded, "careless", "cluster-admin", group("careless")))
    eve = api.user("eve@bank", ["careless"])
    await_allowed(eve, "create", "endpointslices", unbounded, group="discovery.k8s.io")
    return eve


@pytest.mark.parametrize("role", ["owner", "developer", "ci"])
def test_no_member_leads_the_operators_questions_elsewhere(
    role: str, asked: dict[str, Any], unbounded: str, member: Member
) -> None:
    actor = member(unbounded, role)

    answers = [
        actor.patch(asked, ELSEWHERE, dry_run=True),
        actor.patch(asked, {"spec": {"selector": {"app": "other"}}}, dry_run=True),
        actor.patch(asked, {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}, dry_run=True),
        actor.delete(asked, dry_run=True),
        actor.create(entrance(unbounded, "fake-bootstrap"), dry_run=True),
    ]

    for answer in answers:
        assert "is written by Allotment's operator: change the resource that it serves instead" in answer.message


def test_nor_does_whoever_has_every_right_in_the_namespace(
    asked: dict[str, Any], unbounded: str, careless: Actor
) -> None:
    written = "is written by Allotment's operator"
    name = asked["metadata"]["name"]

    assert written in careless.patch(asked, ELSEWHERE, dry_run=True).message
    assert written in careless.create(endpoints(unbounded, "fake", **MANAGED), dry_run=True).message
    for manifest in (slice_of(unbounded, name, **MANAGED), slice_of(unbounded, name)):
        answer = careless.create(manifest, dry_run=True)
        assert "EndpointSlices of a tenant are written by the cluster's controllers" in answer.message


def test_the_operator_and_platform_admins_write_it(
    asked: dict[str, Any], unbounded: str, operator: Actor, admin: Actor
) -> None:
    itself = service_account(NAMESPACE, "allotment-operator")
    expect(operator, role_binding(unbounded, "allotment-operator", "allotment-operator-tenant", itself, **MANAGED))
    await_allowed(operator, "patch", "services", unbounded)

    for actor in (operator, admin):
        for answer in (
            actor.patch(asked, {"spec": {"selector": {"app": "other"}}}, dry_run=True),
            actor.create(entrance(unbounded, "new"), dry_run=True),
            actor.delete(asked, dry_run=True),
        ):
            assert answer.accepted, answer.message
    assert admin.create(slice_of(unbounded, "by-hand"), dry_run=True).accepted


@pytest.fixture(scope="module")
def trusted(unbounded: str, api: ApiServer, admin: Actor) -> Callable[[str], Actor]:
    """A program of the platform's, by namespace and name, with every right in the namespace."""

    def program(whole: str) -> Actor:
        namespace, _, name = whole.partition(":")
        subject = service_account(namespace, name)
        expect(admin, role_binding(unbounded, f"trusted-{name}", "cluster-admin", subject))
        actor = api.service_account(namespace, name)
        await_allowed(actor, "create", "endpointslices", unbounded, group="discovery.k8s.io")
        return actor

    return program


@pytest.mark.parametrize("whole", CONTROLLERS)
def test_the_clusters_own_controllers_go_on(
    whole: str, asked: dict[str, Any], unbounded: str, trusted: Callable[[str], Actor]
) -> None:
    actor = trusted(whole)

    for answer in (
        actor.create(slice_of(unbounded, asked["metadata"]["name"], **MANAGED), dry_run=True),
        actor.create(endpoints(unbounded, "mirrored", **MANAGED), dry_run=True),
        actor.patch(asked, {"spec": {"loadBalancerClass": None, "sessionAffinity": "ClientIP"}}, dry_run=True),
        actor.delete(asked, dry_run=True),
    ):
        assert answer.accepted, answer.message


def test_a_tenants_own_program_is_none_of_them(unbounded: str, trusted: Callable[[str], Actor]) -> None:
    answer = trusted(f"{unbounded}:default").create(slice_of(unbounded, "orders-bootstrap"), dry_run=True)

    assert "name its namespace in admission.protectedNamespaces" in answer.message


def test_a_controller_elsewhere_may_note_something_on_it(
    asked: dict[str, Any], trusted: Callable[[str], Actor]
) -> None:
    balancer = trusted("balancers:controller")

    noted = balancer.patch(asked, {"metadata": {"finalizers": ["balancers.example/clean-up"]}}, dry_run=True)
    led = balancer.patch(asked, {"spec": {"externalName": "elsewhere.example"}}, dry_run=True)

    assert noted.accepted, noted.message
    assert "is written by Allotment's operator" in led.message


def test_a_members_own_services_are_the_members(unbounded: str, member: Member, careless: Actor) -> None:
    own = service(unbounded, "own")
    developer = member(unbounded, "developer")
    expect(developer, own)

    for answer in (
        developer.patch(own, {"spec": {"selector": {"app": "y"}}}, dry_run=True),
        developer.delete(own, dry_run=True),
        careless.create(endpoints(unbounded, "elected"), dry_run=True),
    ):
        assert answer.accepted, answer.message


def test_services_that_are_no_tenants_are_left_alone(elsewhere: str, admin: Actor, api: ApiServer) -> None:
    expect(admin, role_binding(elsewhere, "careless", "cluster-admin", group("careless")))
    eve = api.user("eve@bank", ["careless"])
    await_allowed(eve, "create", "endpointslices", elsewhere, group="discovery.k8s.io")

    for manifest in (entrance(elsewhere), slice_of(elsewhere, "any")):
        answer = eve.create(manifest, dry_run=True)
        assert answer.accepted, answer.message


def test_a_service_of_the_operators_gets_its_slice_and_loses_it(
    new_namespace: Callable[..., str], admin: Actor
) -> None:
    namespace = new_namespace("operator-services-slices")
    manifest = entrance(namespace, "served")
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    path += "?labelSelector=kubernetes.io%2Fservice-name%3Dserved"

    def slices() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = admin.request("GET", path).body["items"]
        return found

    expect(admin, manifest)
    eventually(lambda: bool(slices()), "the slice did not come")
    assert slices()[0]["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "allotment"

    assert admin.delete(manifest).accepted
    eventually(lambda: not slices(), "the slice did not go")
