"""How a Cassandra cluster's nodes are reached: Services, and who may connect."""

from typing import Any

from allotment_operator.plans.network import Opening, network_policy, operator_pods, pods_of, tenant_pods
from allotment_operator.plans.ownership import Owner
from allotment_operator.services.cassandra.names import CQL_PORT, STORAGE_PORT, Names


def headless_service(owner: Owner, names: Names) -> dict[str, Any]:
    """Return the Service that gives every node its name, and by which seeds are found before they are ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(names.headless),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": owner.selector,
            "ports": [_port("storage", STORAGE_PORT), _port("cql", CQL_PORT)],
        },
    }


def client_service(owner: Owner, names: Names) -> dict[str, Any]:
    """Return the Service that clients connect to first: any node that is ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(names.entrance),
        "spec": {"type": "ClusterIP", "selector": owner.selector, "ports": [_port("cql", CQL_PORT)]},
    }


def policy(owner: Owner, names: Names, *, tenant: str, operator_namespace: str, secured: bool) -> dict[str, Any]:
    """Return who may connect: nodes to nodes, the operator, and the tenant's pods to CQL.

    The tenant only once the cluster is ``secured``: until then a superuser has a password that everybody knows.
    """
    nodes, operator = pods_of(owner.selector), operator_pods(operator_namespace)
    clients = (operator, tenant_pods(tenant)) if secured else (operator,)
    return network_policy(
        owner,
        names.headless,
        selector=owner.selector,
        ingress=[Opening((STORAGE_PORT,), (nodes,)), Opening((CQL_PORT,), clients)],
        egress=[Opening((STORAGE_PORT,), (nodes,))],
    )


def _port(name: str, port: int) -> dict[str, Any]:
    return {"name": name, "port": port, "targetPort": port, "protocol": "TCP"}
