"""Where pods reach the API server: the addresses of the Service `default/kubernetes` and of what stands behind it.

A NetworkPolicy can name the API server by addresses only. Plug-ins differ in whether they judge a connection before or
after the Service's address is replaced, so both sides count. Every cluster publishes them itself, and changes them when
its control plane moves: hence two watches, of one object or a few each.
"""

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from allotment_kube.client import Client
from allotment_kube.reflector import Event, Reflector, Synced, all_synced, run_together
from allotment_kube.resources import SERVICES, Resource

NAMESPACE: Final = "default"
SERVICE: Final = "kubernetes"
ENDPOINT_SLICES: Final = Resource.custom("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")

Place = tuple[str, int]
"""An IP address and a TCP port."""


class ApiServer:
    """Reflects where the API server is.

    Args:
        client: with the operator's own rights.
        changed: told when an address comes or goes.
    """

    def __init__(self, client: Client, *, changed: Callable[[], None] = lambda: None) -> None:
        self._changed = changed
        self._told: tuple[Place, ...] = ()
        self._service = Reflector(
            client, SERVICES, self._heard, namespace=NAMESPACE, field_selector=f"metadata.name={SERVICE}"
        )
        self._slices = Reflector(
            client,
            ENDPOINT_SLICES,
            self._heard,
            namespace=NAMESPACE,
            label_selector=f"kubernetes.io/service-name={SERVICE}",
        )

    async def run(self) -> None:
        """Watch until cancelled."""
        await run_together((self._service, self._slices))

    async def synced(self) -> None:
        """Wait for the first complete lists."""
        await all_synced((self._service, self._slices))

    def places(self) -> tuple[Place, ...]:
        """Return every address and port, in order; empty where the cluster publishes none."""
        return places(self._service.objects().values(), self._slices.objects().values())

    def _heard(self, event: Event[dict[str, Any]]) -> None:
        if isinstance(event, Synced):
            return
        now = self.places()
        if now != self._told:
            self._told = now
            self._changed()


def places(services: Iterable[Mapping[str, Any]], slices: Iterable[Mapping[str, Any]]) -> tuple[Place, ...]:
    """Return the places that Services and EndpointSlices name; what is no TCP port or IP address is left out."""
    found: set[Place] = set()
    for service in services:
        spec = service.get("spec") or {}
        for address in spec.get("clusterIPs") or ():
            found |= {(address, port["port"]) for port in spec.get("ports") or () if _is_tcp(port)}
    for piece in slices:
        for endpoint in piece.get("endpoints") or ():
            for address in endpoint.get("addresses") or ():
                found |= {(address, port["port"]) for port in piece.get("ports") or () if _is_tcp(port)}
    return tuple(sorted(place for place in found if _is_address(place[0])))


def _is_tcp(port: Mapping[str, Any]) -> bool:
    return bool(port.get("port")) and port.get("protocol", "TCP") == "TCP"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False  # a headless Service has "None", a slice may hold names
    return True
