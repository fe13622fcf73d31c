"""Who we are to the API server, and how that is renewed while the program runs.

An `Identity` is immutable: one Authorization header and perhaps a client certificate. A `Credentials` source hands out
the current one without waiting, and obtains a new one when it has none, when it has run out, or when the server
rejected it. Comparing identities by object tells "somebody refreshed it meanwhile" from "it is still the bad one", so
that a hundred requests that fail together start one refresh.

It must never let a secret reach a message or a `repr`.
"""

import asyncio
import base64
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

import msgspec

from .errors import ConfigurationError

EXEC_API_VERSIONS: Final = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_EXEC_EXPIRY_MARGIN: Final = 10.0  # seconds: a token must outlive the request it travels with


@dataclass(frozen=True, slots=True, eq=False)
class KeyPair:
    """A client certificate and its key, PEM."""

    certificate: bytes = field(repr=False)
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """What a request proves itself with; compared by object identity."""

    authorization: str | None = field(default=None, repr=False)
    key_pair: KeyPair | None = field(default=None, repr=False)


class Credentials(Protocol):
    """A renewable source of identities."""

    def current(self) -> Identity | None:
        """The identity to use now; None: `obtain` one first. Must not wait."""

    async def obtain(self, *, rejected: Identity | None) -> Identity:
        """A fresh identity; the same one as `rejected` where nothing better can be had."""


class FixedCredentials:
    """A token, a password, or nothing at all, for the life of the process."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def current(self) -> Identity | None:
        """Return the one identity."""
        return self._identity

    async def obtain(self, *, rejected: Identity | None) -> Identity:  # noqa: ARG002 - nothing to renew
        """Return the one identity, rejected or not."""
        return self._identity


def bearer(token: str) -> Identity:
    """An identity by token."""
    return Identity(authorization=f"Bearer {token}")


def basic(username: str, password: str) -> Identity:
    """An identity by name and password, for proxies that still ask so."""
    return Identity(authorization="Basic " + base64.b64encode(f"{username}:{password}".encode()).decode())


class TokenFileCredentials:
    """A token in a file that somebody replaces, such as the kubelet a projected service account token.

    The file is read again when `reread_after` seconds have passed and on rejection. A projected token is small and
    lies in memory (tmpfs), so reading it does not stall the loop.
    """

    def __init__(self, path: Path, *, reread_after: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._reread_after = reread_after
        self._clock = clock
        self._identity: Identity | None = None
        self._read_at = 0.0

    def current(self) -> Identity | None:
        """Return the token, read again if it is due; an unreadable file leaves the last good token in use."""
        if self._identity is None or self._clock() - self._read_at >= self._reread_after:
            self._read()
        return self._identity

    async def obtain(self, *, rejected: Identity | None) -> Identity:  # noqa: ARG002 - the file is the only source
        """Read the file now."""
        self._read()
        if self._identity is None:
            raise ConfigurationError(f"no token in {self._path}: mount a service account token or fix tokenFile")
        return self._identity

    def _read(self) -> None:
        self._read_at = self._clock()
        try:
            token = self._path.read_text(encoding="utf-8").strip()
        except OSError:
            return
        if token and (self._identity is None or self._identity.authorization != f"Bearer {token}"):
            self._identity = bearer(token)


@dataclass(frozen=True, slots=True)
class ExecPlugin:
    """A command of a kubeconfig that prints an ExecCredential.

    Attributes:
        cluster: what the plugin is told about the cluster, None unless `provideClusterInfo` is set.
    """

    command: str
    api_version: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    install_hint: str = ""
    cluster: Mapping[str, object] | None = field(default=None, repr=False)
    timeout: float = 60.0


class _ExecStatus(msgspec.Struct, rename="camel"):
    expiration_timestamp: str | None = None
    token: str = ""
    client_certificate_data: str = ""
    client_key_data: str = ""


class _ExecCredential(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    status: _ExecStatus | None = None


class ExecCredentials:
    """Runs a credential plugin, keeps its answer until it expires or is rejected (KEP-541)."""

    def __init__(self, plugin: ExecPlugin, *, wall_clock: Callable[[], float] = time.time) -> None:
        if plugin.api_version not in EXEC_API_VERSIONS:
            raise ConfigurationError(
                f"exec plugin {plugin.command!r}: apiVersion {plugin.api_version!r} is not supported; "
                f"use {' or '.join(EXEC_API_VERSIONS)}"
            )
        self._plugin = plugin
        self._wall_clock = wall_clock
        self._identity: Identity | None = None
        self._expires_at: float | None = None
        self._running = asyncio.Lock()

    def current(self) -> Identity | None:
        """Return the last answer unless it has (nearly) expired."""
        if self._expires_at is not None and self._wall_clock() >= self._expires_at - _EXEC_EXPIRY_MARGIN:
            return None
        return self._identity

    async def obtain(self, *, rejected: Identity | None) -> Identity:
        """Run the plugin, unless another task just did."""
        async with self._running:
            known = self.current()
            if known is not None and known is not rejected:
                return known
            self._identity, self._expires_at = self._understand(await self._run())
            return self._identity

    async def _run(self) -> bytes:
        plugin = self._plugin
        info = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": {"interactive": False}}
        if plugin.cluster is not None:
            info["spec"] = {"interactive": False, "cluster": plugin.cluster}
        environment = {**os.environ, **plugin.env, "KUBERNETES_EXEC_INFO": msgspec.json.encode(info).decode()}
        try:
            process = await asyncio.create_subprocess_exec(
                plugin.command,
                *plugin.args,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            hint = f" {plugin.install_hint}" if plugin.install_hint else ""
            raise ConfigurationError(f"exec plugin {plugin.command!r} cannot be started: {error}.{hint}") from error
        try:
            async with asyncio.timeout(plugin.timeout):
                output, complaint = await process.communicate()
        except TimeoutError as error:
            raise ConfigurationError(f"exec plugin {plugin.command!r} gave no answer in {plugin.timeout} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            last_words = complaint.decode("utf-8", "replace").strip()[-500:]
            raise ConfigurationError(f"exec plugin {plugin.command!r} failed ({process.returncode}): {last_words}")
        return output

    def _understand(self, output: bytes) -> tuple[Identity, float | None]:
        name = self._plugin.command
        try:
            answer = msgspec.json.decode(output, type=_ExecCredential)
        except msgspec.MsgspecError as error:
            # The output holds the secret: the decoder's message, which names a position and a type, must do.
            raise ConfigurationError(f"exec plugin {name!r} printed no ExecCredential: {error}") from error
        status = answer.status
        if answer.api_version != self._plugin.api_version or answer.kind != "ExecCredential" or status is None:
            raise ConfigurationError(
                f"exec plugin {name!r} answered {answer.api_version} {answer.kind} "
                f"instead of {self._plugin.api_version} ExecCredential with a status"
            )
        if bool(status.client_certificate_data) != bool(status.client_key_data):
            raise ConfigurationError(f"exec plugin {name!r} gave a certificate without its key, or the reverse")
        if not status.token and not status.client_certificate_data:
            raise ConfigurationError(f"exec plugin {name!r} gave neither a token nor a certificate")
        pair = None
        if status.client_certificate_data:
            pair = KeyPair(status.client_certificate_data.encode(), status.client_key_data.encode())
        expires_at = None
        if status.expiration_timestamp:
            expires_at = datetime.fromisoformat(status.expiration_timestamp).timestamp()
        return Identity(f"Bearer {status.token}" if status.token else None, pair), expires_at
