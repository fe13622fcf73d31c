"""Where a pool's controller may be: what the operator, which reaches every tenant's pods, is willing to call.

A pool's address is a tenant's word, and the operator's network is wider than the tenant's. So it calls only what the
tenant's own pods may reach: a Service in one of the tenant's namespaces, or an address within the networks that the
tenant is granted (`policy.network.egress`) and that is nothing of the cluster's own. Names are judged by what they lead
to and never by how they are written.

Pure: looking names up is the locator's part.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from allotment_operator.kind import ServiceRefusedError
from allotment_operator.tenancy.network import METADATA_SERVICES

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA: Final = tuple(map(ipaddress.ip_network, METADATA_SERVICES))
_SUFFIXES: Final = (".svc", ".svc.cluster.local")


class DestinationRefusedError(ServiceRefusedError):
    """The operator does not call this address for this tenant; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Host and port of an address. The host is a name in lower case, or an IP address without brackets."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Destination":
        """Read an address. Admission refuses most of what is refused here; an older object may still hold it.

        Raises:
            DestinationRefusedError: it is not plain http or https, or says more than where the controller is.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise DestinationRefusedError(f"spec.jenkins.url is {url!r}: write http:// or https:// and a host")
        if "@" in url or "?" in url or "#" in url:
            raise DestinationRefusedError(
                "spec.jenkins.url holds a user, a query or a fragment: take it out; the credentials are in the Secret "
                "that spec.jenkins.credentialsSecret names"
            )
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise DestinationRefusedError(f"spec.jenkins.url has no usable port: {error}") from None
        return cls(parts.hostname.removesuffix("."), port)

    @property
    def address(self) -> IpAddress | None:
        """The address, where the host is one; None for a name.

        Raises:
            DestinationRefusedError: it is a number in a spelling that programs read differently, such as 127.1.
        """
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            last = self.host.rpartition(".")[2]
            if ":" in self.host or last.isdigit() or last.startswith("0x"):
                raise DestinationRefusedError(
                    f"{self.host} in spec.jenkins.url is no name and no plain IP address such as 10.20.0.5: write one"
                ) from None
            return None

    @property
    def service(self) -> "ServiceName | None":
        """The Service that the host names by the cluster's own naming; None for any other host."""
        for suffix in _SUFFIXES:
            labels = self.host.removesuffix(suffix).split(".")
            if self.host.endswith(suffix) and len(labels) in (2, 3):
                return ServiceName(labels[-1], labels[-2], labels[0] if len(labels) == 3 else "")
        return None


@dataclass(frozen=True, slots=True)
class ServiceName:
    """A Service, or one pod behind a headless one.

    Source: Kubernetes DNS-Based Service Discovery 1.1.0, sections 2.3 and 2.4.
    """

    namespace: str
    name: str
    pod: str = ""


def usable(
    host: str, addresses: Iterable[IpAddress], *, egress: Iterable[str], allow_loopback: bool
) -> tuple[IpAddress, ...]:
    """Return those of a host's addresses that may be called for a tenant, in order.

    Args:
        host: for messages.
        addresses: what the host leads to.
        egress: networks that the tenant is granted.
        allow_loopback: whether the operator's own machine counts as granted.

    Raises:
        DestinationRefusedError: none of them may.
    """
    granted = [ipaddress.ip_network(each, strict=False) for each in egress]
    found: list[IpAddress] = []
    refusal = f"{host} leads to no address: check spec.jenkins.url"
    for address in map(_plain, addresses):
        if address.is_loopback and allow_loopback:
            found.append(address)
        elif what := _never(address):
            refusal = f"{_leads(host, address)} is {what}, which the operator never calls: change spec.jenkins.url"
        elif not any(address in network for network in granted if network.version == address.version):
            refusal = (
                f"{_leads(host, address)} is outside the tenant's networks: ask a platform admin to add it to "
                "policy.network.egress of the Tenant, or name a Service of the tenant, as "
                "<service>.<namespace>.svc"
            )
        else:
            found.append(address)
    if not found:
        raise DestinationRefusedError(refusal)
    return tuple(found)


def _leads(host: str, address: IpAddress) -> str:
    return host if host == str(address) else f"{host} leads to {address}, which"


def _plain(address: IpAddress) -> IpAddress:
    """Return the IPv4 address that an IPv6 one stands for, as the kernel would use it."""
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _never(address: IpAddress) -> str:
    """Say what an address is that nobody is granted; empty if it may be granted."""
    if address.is_loopback:
        return "the operator's own machine"
    if address.is_link_local or any(address in each for each in _METADATA if each.version == address.version):
        return "a link-local address or a cloud's metadata service"
    if address.is_multicast or address.is_unspecified or address.is_reserved:
        return "no address of a single machine"
    return ""
