"""Looks up where a pool's controller is: once, so that what was judged is what is called.

A Service of the tenant is looked up at the API server and not by name resolution: its own address, or those of the pods
that it selects. One that leads elsewhere by its own word (ExternalName, or no selector) is refused. Any other host is
resolved, judged, and must be nothing that runs in this cluster: other tenants' pods and Services let the operator in.

The caller connects to the addresses returned and to no other. An answer is good for `KEPT_SECONDS`, and for the same
grant only.
"""

import asyncio
import datetime as dt
import ipaddress
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from allotment_api.conditions import ConditionType
from allotment_operator.kind import ServiceUnavailableError
from allotment_operator.plans.outcome import TenantView, pod_is_ready
from allotment_operator.services.jenkins.destination import (
    Destination,
    DestinationRefusedError,
    IpAddress,
    ServiceName,
    usable,
)

KEPT_SECONDS: Final = 30.0
RESOLVE_SECONDS: Final = 5.0
_REMEMBERED: Final = 1024

Resolve = Callable[[str, int], Awaitable[list[IpAddress]]]


class ClusterObjects(Protocol):
    """What the locator asks the API server."""

    async def service(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """Return a Service of a tenant's namespace, or None."""

    async def pods(self, namespace: str, labels: Mapping[str, str]) -> list[Mapping[str, Any]]:
        """Return the pods of a namespace that carry these labels."""

    async def holder(self, address: str) -> str:
        """Say which pod or Service of the cluster has an address; empty if none."""


async def resolve(host: str, port: int) -> list[IpAddress]:
    """Resolve a name with the machine's own resolver.

    Raises:
        ServiceUnavailableError: it does not answer, or knows no such name.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError) as error:
        raise ServiceUnavailableError(f"{host} cannot be resolved: {type(error).__name__}") from None
    return [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]


class Locator:
    """Says at which addresses a controller may be called for a tenant.

    Args:
        cluster: Services and pods.
        clock: the present time.
        allow_loopback: whether controllers on the operator's own machine are called.
        resolve: name resolution.
    """

    def __init__(
        self,
        cluster: ClusterObjects,
        *,
        clock: Callable[[], dt.datetime],
        allow_loopback: bool = False,
        resolve: Resolve = resolve,
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._allow_loopback = allow_loopback
        self._resolve = resolve
        self._known: OrderedDict[object, tuple[dt.datetime, tuple[str, ...]]] = OrderedDict()

    async def locate(self, url: str, tenant: TenantView | None) -> tuple[str, ...]:
        """Return the addresses of a controller, at least one.

        Raises:
            DestinationRefusedError: it may not be called for this tenant.
            ServiceUnavailableError: it cannot be found out now.
        """
        if tenant is None:
            raise DestinationRefusedError("the pool's namespace belongs to no tenant: no controller is called for it")
        key = (url, tenant.name, tenant.namespaces, tenant.egress)
        known = self._known.get(key)
        if known is not None and (self._clock() - known[0]).total_seconds() < KEPT_SECONDS:
            return known[1]
        found = tuple(dict.fromkeys(map(str, await self._look_up(Destination.of(url), tenant))))
        self._known[key] = (self._clock(), found)
        self._known.move_to_end(key)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found

    async def _look_up(self, destination: Destination, tenant: TenantView) -> tuple[IpAddress, ...]:
        literal, service = destination.address, destination.service
        if service is not None:
            return await self._behind(service, tenant)
        found = [literal] if literal is not None else await self._resolve(destination.host, destination.port)
        allowed = usable(destination.host, found, egress=tenant.egress, allow_loopback=self._allow_loopback)
        for address in allowed:
            if not address.is_loopback and (holder := await self._cluster.holder(str(address))):
                raise DestinationRefusedError(
                    f"{destination.host} leads to {address}, which is the cluster's own ({holder}): name a Service of "
                    "the tenant in spec.jenkins.url instead, as <service>.<namespace>.svc"
                )
        return allowed

    async def _behind(self, service: ServiceName, tenant: TenantView) -> tuple[IpAddress, ...]:
        whole = f"{service.namespace}/{service.name}"
        if service.namespace not in tenant.namespaces:
            raise DestinationRefusedError(
                f"the namespace {service.namespace} in spec.jenkins.url is not the tenant {tenant.name}'s: name a "
                f"Service in one of its namespaces ({', '.join(sorted(tenant.namespaces))})"
            )
        found = await self._cluster.service(service.namespace, service.name)
        if found is None:
            raise DestinationRefusedError(f"there is no Service {whole}: create it, or change spec.jenkins.url")
        spec = found.get("spec") or {}
        if spec.get("type") == "ExternalName" or not spec.get("selector"):
            raise DestinationRefusedError(
                f"the Service {whole} selects no pods of its namespace, so it may lead anywhere: give it a selector, "
                "or write the address that it stands for into spec.jenkins.url"
            )
        cluster_ips = [
            each for each in spec.get("clusterIPs") or [spec.get("clusterIP")] if each not in (None, "", "None")
        ]
        if cluster_ips and not service.pod:
            return tuple(map(ipaddress.ip_address, cluster_ips))
        pods = [
            pod
            for pod in await self._cluster.pods(service.namespace, spec["selector"])
            if pod_is_ready(pod) and service.pod in ("", pod["metadata"]["name"])
        ]
        addresses = [pod["status"]["podIP"] for pod in pods if pod["status"].get("podIP")]
        if not addresses:
            raise ServiceUnavailableError(f"no pod behind the Service {whole} is {ConditionType.READY}")
        return tuple(map(ipaddress.ip_address, addresses))
