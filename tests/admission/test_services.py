"""Ways into the cluster from outside are the platform's to open."""

from collections.abc import Callable
from typing import Any

import pytest

from builders.api_server import Actor
from builders.tenant_objects import service

Member = Callable[[str, str], Actor]


@pytest.mark.parametrize(
    ("want", "spec"),
    [
        pytest.param("", {}, id="inside the cluster"),
        pytest.param("", {"clusterIP": "None"}, id="headless"),
        pytest.param(
            "tenant retail may not open node ports: use type ClusterIP, or ask a platform admin",
            {"type": "NodePort"},
            id="node port",
        ),
        pytest.param("may not open load balancers", {"type": "LoadBalancer"}, id="load balancer"),
        pytest.param("may not set externalIPs", {"externalIPs": ["192.0.2.1"]}, id="foreign addresses"),
    ],
)
def test_a_tenant_without_permission(want: str, spec: dict[str, Any], strict: str, member: Member) -> None:
    answer = member(strict, "developer").create(service(strict, **spec), dry_run=True)

    assert want in answer.message
    assert answer.accepted == (not want)


@pytest.mark.parametrize("kind", ["NodePort", "LoadBalancer"])
def test_a_tenant_with_permission(kind: str, new_namespace: Callable[..., str], member: Member) -> None:
    namespace = new_namespace(f"services-{kind.lower()}", **{f"allow{kind}": True})

    answer = member(namespace, "developer").create(service(namespace, type=kind), dry_run=True)

    assert answer.accepted, answer.message


def test_a_service_cannot_be_opened_later(strict: str, member: Member) -> None:
    manifest = service(strict, "later")
    developer = member(strict, "developer")
    assert developer.create(manifest).accepted

    answer = developer.patch(manifest, {"spec": {"type": "NodePort"}}, dry_run=True)

    assert "may not open node ports" in answer.message


def test_services_outside_tenants_namespaces_are_left_alone(elsewhere: str, admin: Actor) -> None:
    answer = admin.create(service(elsewhere, type="NodePort"), dry_run=True)

    assert answer.accepted, answer.message
