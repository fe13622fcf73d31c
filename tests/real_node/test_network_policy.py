"""NetworkPolicy is enforced: tenants are closed to each other until somebody opens a door."""

from collections.abc import Iterator
from typing import Any

import pytest

from builders.real_cluster import RealCluster
from builders.real_pods import IDLE, SERVE, pod, service

pytestmark = pytest.mark.real_node

_CONNECT = """
import socket, sys, time
host, wanted, end = sys.argv[1], sys.argv[2], time.monotonic() + 240
while True:
    try:
        socket.create_connection((host, 8080), timeout=5).close()
        seen = "open"
    except ConnectionRefusedError:
        seen = "refused"
    except OSError:
        seen = "closed"
    if seen == wanted or time.monotonic() > end:
        break
    time.sleep(0.2)
print(seen)
"""
"""Tries until the wanted answer comes: a policy takes a moment to reach every node."""


def policy(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {}, **spec},
    }


def default_deny(namespace: str) -> dict[str, Any]:
    return policy(namespace, "default-deny", policyTypes=["Ingress", "Egress"])


def allow_dns(namespace: str) -> dict[str, Any]:
    """As written for any cluster: to the DNS pods of kube-system."""
    peer = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }
    ports = [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    return policy(namespace, "allow-dns", policyTypes=["Egress"], egress=[{"to": [peer], "ports": ports}])


def allow_between(server: str, client: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A grant: one tenant's pods may reach another's on port 8080, said on both sides."""
    ports = [{"port": 8080, "protocol": "TCP"}]

    def namespace(name: str) -> dict[str, Any]:
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}

    ingress = [{"from": [namespace(client)], "ports": ports}]
    egress = [{"to": [namespace(server)], "ports": ports}]
    return (
        policy(server, f"from-{client}", policyTypes=["Ingress"], ingress=ingress),
        policy(client, f"to-{server}", policyTypes=["Egress"], egress=egress),
    )


@pytest.fixture(scope="module")
def tenants(real_cluster: RealCluster) -> Iterator[RealCluster]:
    """Tenants `red` and `blue`, each with a server on one node and a client on the other."""
    names = ("red", "blue")
    nodes = ({"kubernetes.io/hostname": "real-1"}, {"kubernetes.io/hostname": "real-2"})
    for name in names:
        real_cluster.make_namespace(name)
        real_cluster.apply(
            pod(name, "server", *SERVE, nodeSelector=nodes[0]),
            pod(name, "client", *IDLE, nodeSelector=nodes[1]),
            service(name, "server"),
        )
    for name in names:
        real_cluster.wait("-n", name, "pod", "--all", "--for=condition=Ready")
    yield real_cluster
    for name in names:
        real_cluster.kubectl("delete", "namespace", name, "--wait=false")


def test_tenants_are_closed_to_each_other_until_a_grant_opens_a_door(tenants: RealCluster) -> None:
    def sees(client: str, server: str, *, wanted: str) -> str:
        host = f"server.{server}.svc.cluster.local"
        return tenants.execute(client, "client", "python3", "-c", _CONNECT, host, wanted).strip()

    assert sees("red", "blue", wanted="open") == "open", "without policies everybody reaches everybody"

    for name in ("red", "blue"):
        tenants.apply(default_deny(name), allow_dns(name))
    assert sees("red", "blue", wanted="refused") == "refused"
    assert sees("blue", "blue", wanted="refused") == "refused"

    grant = allow_between("blue", "red")
    tenants.apply(*grant)
    assert sees("red", "blue", wanted="open") == "open"
    assert sees("blue", "red", wanted="refused") == "refused"

    for manifest in grant:
        metadata = manifest["metadata"]
        tenants.kubectl("-n", metadata["namespace"], "delete", "networkpolicy", metadata["name"])
    assert sees("red", "blue", wanted="refused") == "refused"
