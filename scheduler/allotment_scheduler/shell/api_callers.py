"""Callers with client certificates: the API server's own client authority says who they are.

As for every aggregated API server, that authority is published in the ConfigMap `extension-apiserver-authentication` of
`kube-system`, and a role of the cluster allows to read it. A certificate is asked for in the TLS handshake and need not
be shown; one that does not come from that authority, has run out, or is no client's, ends the handshake. The common
name is the user, the organisations are the groups, exactly as the API server reads them.

What such a user may see is asked like everybody else's (`api_access`). Where the ConfigMap has never been read, for
want of it or of the right to, certificates are not asked for; where it was read once, what it said then stays until it
can be read again. Headers of a front proxy are never believed.
"""

import logging
import ssl
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from allotment_kube.errors import DeniedError, NotFoundError
from allotment_kube.resources import CONFIG_MAPS, Resource
from allotment_scheduler.shell.api_access import User

_logger = logging.getLogger(__name__)
NAMESPACE: Final = "kube-system"
CONFIG_MAP: Final = "extension-apiserver-authentication"
AUTHENTICATED: Final = "system:authenticated"


class ReadingClient(Protocol):
    """What is needed of a client."""

    async def get(self, resource: Resource[Any], name: str, *, namespace: str = "", subresource: str = "") -> Any:  # noqa: ANN401 - of the resource's type
        """Read an object."""


class Callers:
    """Knows the authority of client certificates.

    Args:
        client: as the scheduler.
    """

    def __init__(self, client: ReadingClient) -> None:
        self._client = client
        self._known = ""
        self._said = ""

    async def authorities(self) -> str:
        """The certificates that the API server trusts for its clients, as PEM; empty where there are none for us.

        Where there is nothing to read, or no right to, this is what was read last.

        Raises:
            ApiError: the API server cannot be asked.
        """
        try:
            found = await self._client.get(CONFIG_MAPS.untyped, CONFIG_MAP, namespace=NAMESPACE)
        except (NotFoundError, DeniedError) as error:
            if str(error) != self._said:
                self._said = str(error)
                now = "those of before stay trusted" if self._known else "client certificates are not asked for"
                _logger.info("the authority of client certificates cannot be read, %s: %s", now, error)
            return self._known
        self._said = ""
        self._known = str((found.get("data") or {}).get("client-ca-file") or "")
        return self._known


def demand_certificates(context: ssl.SSLContext, authorities: str) -> None:
    """Ask callers for a certificate of these authorities; they need not show one.

    Each authority is trusted for itself, also one that another has signed: so does the API server (Go's `x509.Verify`
    takes every certificate of its pool for a root), whereas OpenSSL by itself goes on to a self-signed one. A cluster
    that is given an intermediate authority for its clients would otherwise know people whom we refuse.

    Raises:
        ssl.SSLError: there is no certificate in `authorities`.
    """
    context.load_verify_locations(cadata=authorities)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_mode = ssl.CERT_OPTIONAL


def user_of(certificate: Mapping[str, Any] | None) -> User | None:
    """Whose certificate this is, verified as it is by the handshake; None where it names nobody.

    Args:
        certificate: as `ssl.SSLSocket.getpeercert` gives it; None or empty without a verified one.
    """
    parts: Iterable[tuple[str, str]] = (
        (str(key), str(value)) for rdn in (certificate or {}).get("subject", ()) for key, value in rdn
    )
    subject = list(parts)
    names = [value for key, value in subject if key == "commonName"]
    if len(names) != 1 or not names[0]:
        return None
    groups = [value for key, value in subject if key == "organizationName"]
    return User(names[0], "", (*groups, AUTHENTICATED), ())
