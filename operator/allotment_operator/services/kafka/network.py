"""How a Kafka cluster's nodes are reached: Services, and who may connect."""

from collections.abc import Iterable
from typing import Any

from allotment_api.kafka import KafkaClusterSpec
from allotment_api.labels import COMPONENT_LABEL
from allotment_operator.plans.network import Opening, network_policy, operator_pods, pods_of, tenant_pods
from allotment_operator.plans.outcome import TenantView
from allotment_operator.plans.ownership import Owner
from allotment_operator.services.kafka.external import external_listeners, service_type
from allotment_operator.services.kafka.listeners import CONTROLLER, REPLICATION
from allotment_operator.services.kafka.names import CONTROLLER_PORT, REPLICATION_PORT, Names, listener_name


def headless_service(owner: Owner, names: Names, spec: KafkaClusterSpec) -> dict[str, Any]:
    """Return the Service that gives every node its name; nodes must find each other before they are ready."""
    ports = [_port(CONTROLLER, CONTROLLER_PORT), _port(REPLICATION, REPLICATION_PORT), *_internal(spec)]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(names.headless),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": owner.selector,
            "ports": ports,
        },
    }


def bootstrap_service(owner: Owner, names: Names, spec: KafkaClusterSpec) -> dict[str, Any]:
    """Return the Service that clients connect to first: any broker that is ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(names.entrance),
        "spec": {
            "type": "ClusterIP",
            "selector": {**owner.selector, COMPONENT_LABEL: "broker"},
            "ports": [_port(REPLICATION, REPLICATION_PORT), *_internal(spec)],
        },
    }


def policy(
    owner: Owner, names: Names, spec: KafkaClusterSpec, *, tenant: TenantView, operator_namespace: str
) -> dict[str, Any]:
    """Return who may connect: nodes to nodes, the operator, the tenant's pods to the client listeners.

    Only a listener whose Services the tenant may have is open to all: any pod of the namespace can wear the labels.
    """
    nodes, operator = pods_of(owner.selector), operator_pods(operator_namespace)
    internal = tuple(each.port for each in spec.listeners if each.type == "internal")
    outside = tuple(each.port for each in external_listeners(spec.listeners) if service_type(each) in tenant.ways_in)
    ingress = [
        Opening((CONTROLLER_PORT,), (nodes,)),
        Opening((REPLICATION_PORT,), (nodes, operator)),
        *([Opening(internal, (tenant_pods(tenant.name), operator))] if internal else ()),
        *([Opening(outside)] if outside else ()),
    ]
    egress = [Opening((CONTROLLER_PORT, REPLICATION_PORT), (nodes,))]
    return network_policy(owner, names.headless, selector=owner.selector, ingress=ingress, egress=egress)


def _internal(spec: KafkaClusterSpec) -> Iterable[dict[str, Any]]:
    return [_port(listener_name(each.name), each.port) for each in spec.listeners if each.type == "internal"]


def _port(listener: str, port: int) -> dict[str, Any]:
    # targetPort is written out: where it is left to the server, the server's default would be seen as ours.
    name = listener.lower().replace("_", "-")
    return {"name": name, "port": port, "targetPort": port, "protocol": "TCP"}
