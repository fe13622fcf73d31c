"""The certificate that the scheduler's API serves, and how its readers come to trust it.

Either an administrator's: two files, mounted from a Secret, read again when they change. Or our own: one authority for
all copies of the scheduler, kept in the Secret `allotment-scheduler-api`, and a leaf that each copy signs for itself
and keeps in memory only. The authority's certificate is published in the ConfigMap of the same name, with the name to
expect and the address; whoever can read it can verify us.

Both objects are the chart's, empty: here they are only filled, which needs no right to create any. Copies that start
together agree by the Secret's resource version: the first to write wins, and the others read what it wrote.

What is in force changes under a socket that stays open: a changed certificate, or changed authorities of callers, make
a new context, and the next handshake begins with it (`NewestContext`). One that cannot be made leaves the last one.
"""

import asyncio
import base64
import datetime as dt
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol, Self

from allotment_kube import certificates
from allotment_kube.certificates import KeyPair
from allotment_kube.errors import ConflictError
from allotment_kube.models import Object
from allotment_kube.patches import MergePatch, Patch
from allotment_kube.resources import CONFIG_MAPS, SECRETS, Resource
from allotment_scheduler.shell.api_callers import demand_certificates

NAME: Final = "allotment-scheduler-api"
LEAF_LIFETIME: Final = dt.timedelta(days=30)
LOOK_AT_AUTHORITY: Final = dt.timedelta(minutes=10)
"""How often a copy looks whether the common authority is still the one that signed its certificate."""
_ATTEMPTS: Final = 5


class KeepingClient(Protocol):
    """What is needed of a client."""

    async def get(self, resource: Resource[Any], name: str, *, namespace: str = "", subresource: str = "") -> Any:  # noqa: ANN401 - of the resource's type
        """Read an object."""

    async def patch(
        self, resource: Resource[Any], name: str, patch: Patch, *, namespace: str = "", subresource: str = ""
    ) -> Any:  # noqa: ANN401 - of the resource's type
        """Change part of an object; returns it as it is then."""


def server_name(namespace: str) -> str:
    """The name that the certificate is for, which is the Service's."""
    return f"{NAME}.{namespace}.svc"


class NewestContext(ssl.SSLContext):
    """A server's context that stands for another one, which can be replaced while the server listens.

    An event loop takes a context once per listening socket and asks it for each connection's TLS (`wrap_bio`).
    """

    newest: ssl.SSLContext

    @classmethod
    def of(cls, context: ssl.SSLContext) -> Self:
        """Stand for a context."""
        made = cls(ssl.PROTOCOL_TLS_SERVER)
        made.newest = context
        return made

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 - as in ssl.SSLContext
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Begin a connection with the newest context."""
        return self.newest.wrap_bio(incoming, outgoing, server_side, server_hostname, session)


class Certificate:
    """Keeps one TLS context supplied with a valid certificate.

    Args:
        client: as the scheduler, in its own namespace.
        namespace: where Secret and ConfigMap are.
        given: folder with `tls.crt` and `tls.key` (and `ca.crt`) of an administrator; None for our own.
        now: the present time.
    """

    def __init__(
        self, client: KeepingClient, *, namespace: str, given: Path | None, now: Callable[[], dt.datetime]
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._given = given
        self._now = now
        self._pair: tuple[bytes, bytes] | None = None
        self._clients = ""
        self._renew_at: dt.datetime | None = None
        self._look_at: dt.datetime | None = None
        self._authority = b""
        self.context = NewestContext.of(_context(None, ""))
        """What to listen with; it stays the same object."""

    async def trust(self, clients: str) -> None:
        """Ask callers for certificates of these authorities, from the next handshake on; empty: ask for none.

        Raises:
            ssl.SSLError: there is no certificate among them; those of before stay.
        """
        if clients != self._clients:
            await self._replace(self._pair, clients)

    async def refresh(self) -> None:
        """Load the certificate if there is none yet, if its file has changed, or if it is due for renewal.

        Raises:
            ApiError: the Secret cannot be read or written.
            OSError: the administrator's files cannot be read.
            ValueError: they hold no certificate, or the Secret holds no authority.
            ssl.SSLError: certificate and key do not belong together.
        """
        if self._given is not None:
            pair = ((self._given / "tls.crt").read_bytes(), (self._given / "tls.key").read_bytes())
            authority = self._given / "ca.crt"
            signed = authority.read_bytes() if authority.exists() else pair[0]
            if pair != self._pair:
                await self._replace(pair, self._clients)
            self._authority = signed
        elif self._look_at is None or self._now() >= self._look_at:
            await self._renew(await self._shared_authority())
            self._look_at = self._now() + LOOK_AT_AUTHORITY

    async def _renew(self, authority: KeyPair) -> None:
        """Sign a certificate of our own if this authority has not, or the one we have is due."""
        same = authority.certificate_pem == self._authority
        if same and self._renew_at is not None and self._now() < self._renew_at:
            return
        name = server_name(self._namespace)
        hosts = [name, f"{name}.cluster.local", f"{NAME}.{self._namespace}", "localhost", "127.0.0.1"]
        leaf = certificates.issue(authority, name, now=self._now(), hosts=hosts, lifetime=LEAF_LIFETIME)
        await self._replace((leaf.certificate_pem, leaf.key_pem), self._clients)
        self._renew_at = certificates.renew_at(leaf.certificate)
        self._authority = authority.certificate_pem

    async def _replace(self, pair: tuple[bytes, bytes] | None, clients: str) -> None:
        # Connections that are open keep what they began with; the next handshake uses this.
        self.context.newest = await asyncio.to_thread(_context, pair, clients)
        self._pair, self._clients = pair, clients

    async def publish(self, url: str) -> None:
        """Tell readers where the API is and how to verify it; whoever leads does."""
        data = {"url": url, "serverName": server_name(self._namespace), "ca.crt": self._authority.decode("ascii")}
        found = await self._client.get(CONFIG_MAPS.untyped, NAME, namespace=self._namespace)
        if found.get("data") != data:
            await self._client.patch(CONFIG_MAPS.untyped, NAME, MergePatch({"data": data}), namespace=self._namespace)

    async def _shared_authority(self) -> KeyPair:
        for _ in range(_ATTEMPTS):
            secret = await self._client.get(SECRETS.untyped, NAME, namespace=self._namespace)
            data = secret.get("data") or {}
            if data.get("tls.crt") and data.get("tls.key"):
                found = KeyPair.parse(base64.b64decode(data["tls.crt"]), base64.b64decode(data["tls.key"]))
                if self._now() < certificates.renew_at(found.certificate):
                    return found
            made = certificates.authority(NAME, now=self._now())
            filled: Object = {
                "data": {
                    "tls.crt": base64.b64encode(made.certificate_pem).decode(),
                    "tls.key": base64.b64encode(made.key_pem).decode(),
                }
            }
            patch = MergePatch(filled, resource_version=secret["metadata"]["resourceVersion"])
            try:
                await self._client.patch(SECRETS.untyped, NAME, patch, namespace=self._namespace)
            except ConflictError:
                continue  # another copy was faster
            return made
        raise ValueError(f"the Secret {NAME} changes all the time; who else writes it?")


def _context(pair: tuple[bytes, bytes] | None, clients: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if clients:
        demand_certificates(context, clients)
    if pair is not None:
        # OpenSSL's binding reads certificates from files only; the folder is ours alone and gone at once.
        with tempfile.TemporaryDirectory(prefix="allotment-api-") as folder:
            file = Path(folder, "pair.pem")
            file.touch(mode=0o600)
            file.write_bytes(pair[0] + b"\n" + pair[1])
            context.load_cert_chain(file)
    return context
