"""Listeners reached from outside: one Service per broker, whose address the broker tells its clients.

A Kafka client talks to each broker by itself, so each needs an address of its own. A load balancer's address comes from
whoever provides it; a node port is chosen by Kubernetes when the Service is made, and the host is the node that the
pod runs on. An address that is not known yet is left out: the broker is restarted once it is, and the status says so.

The addresses are on the nodes' certificate. It only ever gains some: a pod that moves back to a node finds it there.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from allotment_api.kafka import Listener
from allotment_api.labels import COMPONENT_LABEL, POOL_LABEL
from allotment_operator.plans.actions import ObjectRef
from allotment_operator.plans.outcome import Observed
from allotment_operator.plans.ownership import Owner
from allotment_operator.services.kafka.names import Names, listener_name
from allotment_operator.services.kafka.topology import Pool

LISTENER_LABEL: Final = "allotment.dev/listener"
HOSTS_ANNOTATION: Final = "allotment.dev/external-hosts"
HOST_IP: Final = "@HOST_IP@"
"""Stands for the address of the Kubernetes node, which only the pod itself knows when it starts."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where one broker's external listener is reached, as the start script reads it."""

    listener: str
    port: int
    told: str

    def __str__(self) -> str:
        return f"{self.listener} {self.port} {self.told}\n"


def external_listeners(listeners: Iterable[Listener]) -> list[Listener]:
    """Return those that are reached from outside."""
    return [each for each in listeners if each.type != "internal"]


def service_type(listener: Listener) -> Literal["NodePort", "LoadBalancer"]:
    """Return the type of the Services by which a listener is reached from outside."""
    return "NodePort" if listener.type == "nodePort" else "LoadBalancer"


def services(owner: Owner, names: Names, pool: Pool, listeners: Iterable[Listener]) -> Iterator[dict[str, Any]]:
    """Return one Service per broker and external listener."""
    for ordinal in range(pool.replicas):
        for listener in listeners:
            labels = {COMPONENT_LABEL: pool.component, POOL_LABEL: pool.spec.name, LISTENER_LABEL: listener.name}
            yield {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": owner.metadata(names.external(pool.spec.name, ordinal, listener.name), labels=labels),
                "spec": {
                    "type": service_type(listener),
                    "externalTrafficPolicy": "Local",
                    "publishNotReadyAddresses": True,
                    "selector": {
                        **owner.selector,
                        "statefulset.kubernetes.io/pod-name": names.pod(pool.spec.name, ordinal),
                    },
                    "ports": [{"name": listener.name, "port": listener.port, "targetPort": listener.port}],
                },
            }


def addresses(
    observed: Observed, names: Names, pool: Pool, listeners: Iterable[Listener]
) -> dict[int, tuple[Address, ...]]:
    """Return the known addresses of a pool's external listeners, by ordinal."""
    known = list(listeners)
    return {
        ordinal: tuple(
            Address(listener_name(listener.name), listener.port, told)
            for listener in known
            if (told := _address(observed, names, pool, ordinal, listener))
        )
        for ordinal in range(pool.replicas)
    }


def missing(observed: Observed, names: Names, pool: Pool, listeners: Iterable[Listener]) -> list[str]:
    """Return the names of the Services that have no address yet."""
    return [
        names.external(pool.spec.name, ordinal, listener.name)
        for ordinal in range(pool.replicas)
        for listener in listeners
        if not _address(observed, names, pool, ordinal, listener)
    ]


def hosts(observed: Observed, names: Names, pool: Pool, listeners: Iterable[Listener]) -> tuple[str, ...]:
    """Return the hosts that the certificate of a pool must hold for its external listeners."""
    found: set[str] = set()
    kinds = {listener.type for listener in listeners}
    if "nodePort" in kinds:
        found |= {ip for pod in observed.of_kind("Pod") if (ip := (pod.get("status") or {}).get("hostIP"))}
    for ordinal in range(pool.replicas):
        for listener in listeners:
            if listener.type == "loadBalancer":
                found.add(_ingress(_service(observed, names, pool, ordinal, listener)))
    secret = observed.get(names.secret(names.certificate(pool.spec.name))) or {"metadata": {}}
    recorded = (secret["metadata"].get("annotations") or {}).get(HOSTS_ANNOTATION, "")
    return tuple(sorted((found | set(recorded.split(","))) - {""}))


def _address(observed: Observed, names: Names, pool: Pool, ordinal: int, listener: Listener) -> str:
    service = _service(observed, names, pool, ordinal, listener)
    if listener.type == "nodePort":
        ports = service.get("spec", {}).get("ports") or [{}]
        return f"{HOST_IP}:{ports[0]['nodePort']}" if ports[0].get("nodePort") else ""
    host = _ingress(service)
    return f"{host}:{listener.port}" if host else ""


def _ingress(service: dict[str, Any]) -> str:
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or [{}]
    return str(ingress[0].get("hostname") or ingress[0].get("ip") or "")


def _service(observed: Observed, names: Names, pool: Pool, ordinal: int, listener: Listener) -> dict[str, Any]:
    name = names.external(pool.spec.name, ordinal, listener.name)
    return dict(observed.get(ObjectRef("v1", "Service", names.namespace, name)) or {})
