"""A tenant's network: closed, with a few doors.

Everything is denied in both directions; then pods may ask for names, reach and be reached by pods of the same tenant in
any of its namespaces, be reached by the operator (health of services), and reach the outside networks that the Tenant
declares. Policies add up, so the pods of services are left out of what their tenant may reach: each service opens for
itself the ports that clients have, and no other.

Which pods are the same tenant's is told by the namespace's label, which only the operator and platform admins write.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from allotment_api.labels import KIND_LABEL
from allotment_operator.plans.network import operator_pods, tenant_pods

DNS_PORT: Final = 53
NODE_LOCAL_DNS: Final = "169.254.20.10/32"
"""Address of the node-local DNS cache, where one runs: it is the node's own, so no selector names it."""
METADATA_SERVICES: Final = ("169.254.169.254/32", "fd00:ec2::254/128")
"""Where clouds hand the node's own credentials to whoever asks: never part of a declared network by accident."""


@dataclass(frozen=True, slots=True)
class NameServers:
    """The pods that tell the cluster's names: where they are, and on which port they listen.

    Policies see pods, not the Service in front of them.
    """

    namespace: str = "kube-system"
    port: int = DNS_PORT


def network_policies(
    namespace: str,
    labels: Mapping[str, str],
    *,
    tenant: str,
    egress: Iterable[str],
    operator_namespace: str,
    dns: NameServers = NameServers(),
) -> list[dict[str, Any]]:
    """Render the NetworkPolicies of one namespace, the wall first."""
    same_tenant, operator = tenant_pods(tenant), operator_pods(operator_namespace)
    names = [
        {"to": [{"namespaceSelector": _namespace(dns.namespace)}], "ports": _both(dns.port)},
        {"to": [{"ipBlock": {"cidr": NODE_LOCAL_DNS}}], "ports": _both(DNS_PORT)},
    ]
    outside = [_block(network) for network in egress]
    rules: dict[str, dict[str, Any]] = {
        "allotment-default-deny": {"policyTypes": ["Ingress", "Egress"]},
        "allotment-dns": {"policyTypes": ["Egress"], "egress": names},
        "allotment-same-tenant": {
            "podSelector": {"matchExpressions": [{"key": KIND_LABEL, "operator": "DoesNotExist"}]},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [same_tenant]}],
        },
        "allotment-to-same-tenant": {"policyTypes": ["Egress"], "egress": [{"to": [same_tenant]}]},
        "allotment-operator": {"policyTypes": ["Ingress"], "ingress": [{"from": [operator]}]},
    }
    if outside:
        rules["allotment-egress"] = {"policyTypes": ["Egress"], "egress": [{"to": outside}]}
    return [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
            "spec": {"podSelector": {}, **spec},
        }
        for name, spec in rules.items()
    ]


def _both(port: int) -> list[dict[str, Any]]:
    return [{"port": port, "protocol": protocol} for protocol in ("UDP", "TCP")]


def _namespace(name: str) -> dict[str, Any]:
    return {"matchLabels": {"kubernetes.io/metadata.name": name}}


def _block(network: str) -> dict[str, Any]:
    """Open a network, but for the cloud's metadata service inside it; one that is named by itself is meant."""
    whole = ipaddress.ip_network(network, strict=False)
    holes = [
        hole
        for hole in METADATA_SERVICES
        if (inner := ipaddress.ip_network(hole)).version == whole.version
        and inner != whole
        and inner.network_address in whole
    ]
    return {"ipBlock": {"cidr": str(whole), **({"except": holes} if holes else {})}}
