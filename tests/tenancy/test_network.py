"""A tenant's walls, and what services may still keep closed behind them."""

from dataclasses import replace
from typing import Any

from allotment_operator.plans.actions import Apply
from allotment_operator.tenancy.furniture import Room, furnish
from allotment_operator.tenancy.network import NameServers, network_policies
from builders.estates import a_tenant, an_estate, held, owner_of

PLAIN = {"app": "web"}
SERVICE = {"allotment.dev/kind": "CassandraCluster", "allotment.dev/instance": "ledger"}


def policies(*egress: str) -> list[dict[str, Any]]:
    return network_policies("space", {}, tenant="retail", egress=egress, operator_namespace="allotment-system")


def selects(policy: dict[str, Any], labels: dict[str, str]) -> bool:
    rules = policy["spec"]["podSelector"].get("matchExpressions", [])
    return not any(rule["operator"] == "DoesNotExist" and rule["key"] in labels for rule in rules)


def opens(direction: str, labels: dict[str, str]) -> set[str]:
    return {each["metadata"]["name"] for each in policies() if each["spec"].get(direction) and selects(each, labels)}


def test_every_pod_is_walled_in() -> None:
    wall = policies()[0]

    assert wall["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_pods_of_one_tenant_reach_each_other_but_for_the_pods_of_services() -> None:
    """Policies add up: what a tenant's own policy opens on a service's pod, the service could not close."""
    assert "allotment-same-tenant" in opens("ingress", PLAIN)
    assert opens("ingress", SERVICE) == {"allotment-operator"}


def test_services_pods_may_still_go_where_their_tenant_may() -> None:
    assert opens("egress", SERVICE) == opens("egress", PLAIN) == {"allotment-dns", "allotment-to-same-tenant"}


def test_names_are_told_by_the_clusters_name_servers_wherever_they_listen() -> None:
    tenant = a_tenant("retail", namespaces=["space"])
    estate = replace(an_estate(tenant, namespaces=[held("space", "retail")]), dns=NameServers("openshift-dns", 5353))
    applied = [
        each.manifest
        for each in furnish(Room(estate, tenant, owner_of("retail"), "space", {}))
        if each.ref.name == "allotment-dns" and isinstance(each, Apply)
    ]
    servers, cache = applied[0]["spec"]["egress"]

    openshift = {"kubernetes.io/metadata.name": "openshift-dns"}
    assert servers == {
        "to": [{"namespaceSelector": {"matchLabels": openshift}}],
        "ports": [{"port": 5353, "protocol": "UDP"}, {"port": 5353, "protocol": "TCP"}],
    }
    assert cache == {
        "to": [{"ipBlock": {"cidr": "169.254.20.10/32"}}],
        "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
    }
