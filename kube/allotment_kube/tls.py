"""One `ssl.SSLContext` per identity, built once and shared by all connections.

A context is rebuilt only when what it was made from has changed: the identity's certificate, or the files it was read
from (certificates on disk are rotated under running programs). `refresh` looks at the files; the transport calls it
when a connection is refused or the server answers 401, never per request.

Certificate checks are off only where the kubeconfig itself says so, and then each start logs a warning.
"""

import logging
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from .credentials import KeyPair
from .errors import ConfigurationError

_logger = logging.getLogger(__name__)
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class PemSource:
    """PEM text, given inline or in a file."""

    data: bytes | None = field(default=None, repr=False)
    path: Path | None = None

    def __bool__(self) -> bool:
        return self.data is not None or self.path is not None

    def read(self) -> bytes:
        """The PEM text now."""
        if self.data is not None:
            return self.data
        if self.path is None:
            return b""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"cannot read {self.path}: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How to check the server and prove ourselves on the TLS level.

    Attributes:
        authority: CA bundle; empty means the system's.
        server_name: name to expect in the server's certificate, where it differs from the address.
        insecure: accept any certificate.
    """

    authority: PemSource = PemSource()
    certificate: PemSource = PemSource()
    key: PemSource = PemSource()
    server_name: str = ""
    insecure: bool = False


class TlsContexts:
    """Makes contexts from settings and keeps the current one."""

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self._material = self._read()
        self._key_pair: KeyPair | None = None
        self._context: ssl.SSLContext | None = None
        if settings.insecure:
            _logger.warning("The API server's certificate is not checked: the kubeconfig says insecure-skip-tls-verify")

    def context(self, key_pair: KeyPair | None) -> ssl.SSLContext:
        """The context for an identity; a pair from an exec plugin wins over the configured one."""
        if self._context is None or key_pair is not self._key_pair:
            self._context = self._build(key_pair)
            self._key_pair = key_pair
        return self._context

    def refresh(self) -> bool:
        """Read the files again; True if they have changed and new connections will use them."""
        material = self._read()
        if material == self._material:
            return False
        self._material = material
        self._context = None
        return True

    def _read(self) -> tuple[bytes, bytes, bytes]:
        settings = self._settings
        return settings.authority.read(), settings.certificate.read(), settings.key.read()

    def _build(self, key_pair: KeyPair | None) -> ssl.SSLContext:
        authority, certificate, key = self._material
        try:
            context = ssl.create_default_context(cadata=authority.decode("ascii") if authority else None)
            # Python 3.13 refuses CAs without key identifiers; many clusters' CAs have none.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            if self._settings.insecure:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            pair = key_pair or (KeyPair(certificate, key) if certificate else None)
            if pair:
                _load_key_pair(context, pair)
        except (ssl.SSLError, ValueError) as error:
            raise ConfigurationError(f"certificates cannot be used: {error}") from error
        return _Renamed.of(context, self._settings.server_name) if self._settings.server_name else context


class _Renamed(ssl.SSLContext):
    """Stands for a context, and expects a server of a certain name whatever the address says.

    An event loop asks a context for each connection's TLS (`wrap_bio`). So whoever is given this one need not know of
    the name, which kopf could not be told of.
    """

    renamed: ssl.SSLContext
    server_name: str

    @classmethod
    def of(cls, context: ssl.SSLContext, server_name: str) -> Self:
        """Stand for a context."""
        made = cls(ssl.PROTOCOL_TLS_CLIENT)
        made.renamed, made.server_name = context, server_name
        return made

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 - as in ssl.SSLContext
        server_hostname: str | bytes | None = None,  # noqa: ARG002 - as in ssl.SSLContext
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Begin a connection to the server of that name."""
        return self.renamed.wrap_bio(incoming, outgoing, server_side, self.server_name, session)


def _load_key_pair(context: ssl.SSLContext, pair: KeyPair) -> None:
    # OpenSSL completes a chain of one from what we trust and would send the API server its own authority. The server
    # then checks every single request by it as an intermediate, too: three signatures instead of one. A chain of two
    # is sent as it is, and our own certificate issues nothing, so nobody looks at it twice.
    alone = pair.certificate.count(_BEGIN) == 1
    chain = pair.certificate + b"\n" + pair.certificate if alone else pair.certificate
    # OpenSSL's binding reads certificates from files only; the folder is ours alone and gone at once.
    with tempfile.TemporaryDirectory(prefix="allotment-tls-") as folder:
        file = Path(folder, "pair.pem")
        file.touch(mode=0o600)
        file.write_bytes(chain + b"\n" + pair.key)
        context.load_cert_chain(file)
