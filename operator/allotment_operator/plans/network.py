"""Who may reach a service's pods, and whom they may reach: NetworkPolicies.

Every tenant namespace is closed by default; a service opens exactly the ports it has, each to those who need it. Peers
are named here once, so that "clients of the same tenant" means the same for every service.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from allotment_api.labels import TENANT_LABEL
from allotment_operator.plans.ownership import Owner

NAMESPACE_NAME_LABEL: Final = "kubernetes.io/metadata.name"

Peer = Mapping[str, Any]


def pods_of(labels: Mapping[str, str]) -> Peer:
    """Pods of the same namespace with these labels."""
    return {"podSelector": {"matchLabels": dict(labels)}}


def tenant_pods(tenant: str) -> Peer:
    """All pods of a tenant, in any of its namespaces."""
    return {"namespaceSelector": {"matchLabels": {TENANT_LABEL: tenant}}}


def operator_pods(namespace: str) -> Peer:
    """The operator itself, in its namespace."""
    return {
        "namespaceSelector": {"matchLabels": {NAMESPACE_NAME_LABEL: namespace}},
        "podSelector": {
            "matchLabels": {"app.kubernetes.io/name": "allotment", "app.kubernetes.io/component": "operator"}
        },
    }


@dataclass(frozen=True, slots=True)
class Opening:
    """These TCP ports are open to these peers; without peers, to everybody."""

    ports: tuple[int, ...]
    peers: tuple[Peer, ...] = ()


def network_policy(
    owner: Owner,
    name: str,
    *,
    selector: Mapping[str, str],
    ingress: Iterable[Opening],
    egress: Iterable[Opening],
) -> dict[str, Any]:
    """Return the policy for the pods of the selector. Names they may ask for by the tenant's own policy."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": owner.metadata(name),
        "spec": {
            "podSelector": {"matchLabels": dict(selector)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [_rule(opening, "from") for opening in ingress],
            "egress": [_rule(opening, "to") for opening in egress],
        },
    }


def _rule(opening: Opening, direction: str) -> dict[str, Any]:
    ports = [{"protocol": "TCP", "port": port} for port in opening.ports]
    peers = {direction: [dict(peer) for peer in opening.peers]} if opening.peers else {}
    return {"ports": ports, **peers}
