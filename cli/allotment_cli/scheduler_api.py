"""Asking the scheduler's HTTPS API: where it is, how to trust it, and who we are to it.

Address and authority come from the ConfigMap that the scheduler publishes, or the address from the user (a forwarded
port). We show what our kubeconfig has: a token, or where there is none a client certificate, and that only to whom this
authority vouches for. With neither there is nobody to ask, nor for who acts as somebody else: only the API server knows
whether one may.

Every copy of the scheduler listens and only the leader answers, so a 503 or a refused connection is asked again a few
times: each connection may meet another copy. `Unreachable` means: read the objects instead. `Refused` is final.
"""

import asyncio
import json
import socket
import ssl
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from allotment_kube.client import Client
from allotment_kube.configuration import Configuration
from allotment_kube.credentials import Identity
from allotment_kube.errors import DeniedError, NotFoundError
from allotment_kube.resources import CONFIG_MAPS
from allotment_kube.tls import PemSource, TlsContexts, TlsSettings
from allotment_kube.wires import BrokenError, LateError, UnsentError, Wires

NAME: Final = "allotment-scheduler-api"
_ATTEMPTS: Final = 6
_PAUSE: Final = 0.3
_SECONDS: Final = 5.0


class UnreachableError(Exception):
    """There is no API to ask; the message says why, and what to do."""


class RefusedError(Exception):
    """The API's last word."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class _Place:
    url: str
    server_name: str
    authority: str
    system: str
    """The namespace that Allotment is installed in."""


async def ask(path: str, query: dict[str, str], *, configuration: Configuration, url: str, system: str) -> Any:  # noqa: ANN401 - JSON
    """One answer of the scheduler.

    Args:
        path: such as `/v1/tenants`.
        query: its parameters; without a namespace, and where the whole cluster is refused, ours is asked for.
        configuration: of the API server.
        url: where the API is; empty: as the scheduler published it.
        system: namespace of the scheduler.

    Raises:
        UnreachableError: nobody answers.
        RefusedError: the API says no.
        KubernetesError: the API server cannot be asked.
    """
    identity = await _identity(configuration)
    place = await _place(configuration, url=url, system=system)
    trusted, shown = _trust(configuration, place, identity), _token(identity)
    try:
        return await _answer(place, path, query, trusted, shown)
    except RefusedError as refused:
        if refused.code != 403 or "namespace" in query:
            raise
    return await _answer(place, path, {**query, "namespace": configuration.namespace}, trusted, shown)


async def _identity(configuration: Configuration) -> Identity:
    if configuration.impersonation.user:
        raise UnreachableError(f"it cannot tell whether you may act as {configuration.impersonation.user}")
    identity = configuration.credentials.current() or await configuration.credentials.obtain(rejected=None)
    if not _token(identity) and identity.key_pair is None and not configuration.tls.certificate:
        raise UnreachableError("the kubeconfig has neither a token nor a client certificate to show")
    return identity


def _token(identity: Identity) -> str:
    """The Authorization header where it carries a token; a password is for the API server only."""
    shown = identity.authorization or ""
    return shown if shown.startswith("Bearer ") and shown.isascii() and shown.isprintable() else ""


def _trust(configuration: Configuration, place: _Place, identity: Identity) -> ssl.SSLContext:
    """Trust the scheduler's authority alone, and show our client certificate where we have nothing else to show.

    Beside a token it would decide nothing, and one that the scheduler does not trust would end the handshake.
    """
    authority, tls = PemSource(place.authority.encode()), configuration.tls
    if _token(identity):
        context = TlsContexts(TlsSettings(authority)).context(None)
    else:
        context = TlsContexts(TlsSettings(authority, tls.certificate, tls.key)).context(identity.key_pair)
    # What an administrator's certificate is published with may be an authority that another one signed.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


async def _place(configuration: Configuration, *, url: str, system: str) -> _Place:
    async with Client.connect(configuration) as client:
        try:
            found = await client.get(CONFIG_MAPS.untyped, NAME, namespace=system)
        except NotFoundError as error:
            raise UnreachableError(
                f"namespace {system} has no ConfigMap {NAME}; is Allotment installed there, and its API enabled?"
            ) from error
        except DeniedError as error:
            raise UnreachableError(f"its address may not be read: {error.message}") from error
    data = found.get("data") or {}
    if url and not url.startswith("https://"):
        raise UnreachableError(f"--api {url!r} is no address; write it as https://127.0.0.1:8443")
    if not data.get("ca.crt"):
        raise UnreachableError(f"no scheduler has led yet; look at the pods in namespace {system}")
    return _Place((url or data["url"]).rstrip("/"), data["serverName"], data["ca.crt"], system)


async def _answer(place: _Place, path: str, query: dict[str, str], trusted: ssl.SSLContext, shown: str) -> Any:  # noqa: ANN401 - JSON
    why = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            await asyncio.sleep(_PAUSE)
        try:
            code, said = await _exchange(place, path, query, trusted, shown)
        except UnsentError as error:
            why = _unsent(place, error)
            continue
        except (BrokenError, ValueError) as error:
            why = str(error)
            continue
        except LateError:
            raise UnreachableError(f"{place.url}: no answer within {_SECONDS:g} s") from None
        if code == 200:
            return said
        message = str(said.get("message", "")) if isinstance(said, dict) else ""
        if code not in {429, 503}:
            raise RefusedError(code, message or f"HTTP {code}")
        why = message
    raise UnreachableError(f"{place.url}: {why}")


async def _exchange(
    place: _Place, path: str, query: dict[str, str], trusted: ssl.SSLContext, shown: str
) -> tuple[int, Any]:
    """One question on a connection of its own: a kept one would meet the same copy again."""
    parts = urlsplit(place.url)
    lines = [
        f"GET {parts.path}{path}?{urlencode(query)} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Accept: application/json",
        "Connection: close",
        *([f"Authorization: {shown}"] if shown else []),
    ]
    try:
        wires = Wires(place.url, limit=1, server_name=place.server_name)
    except ValueError as error:
        raise UnreachableError(f"{place.url!r} is no address of an API: {error}") from None
    try:
        request = "".join(f"{line}\r\n" for line in [*lines, ""]).encode("ascii")
        code, _, body = await wires.exchange(request, trusted, seconds=_SECONDS, idempotent=True)
    finally:
        await wires.close()
    return code, json.loads(body)


def _unsent(place: _Place, error: UnsentError) -> str:
    """Why there was no connection.

    Raises:
        UnreachableError: another attempt would fail the same way.
    """
    cause = error.__cause__
    if isinstance(cause, socket.gaierror):
        raise UnreachableError(
            f"{place.url} is an address within the cluster; from outside, forward its port "
            f"(kubectl -n {place.system} port-forward service/{NAME} 8443) "
            f"and give --system {place.system} --api https://127.0.0.1:8443"
        ) from None
    if cause is None or isinstance(cause, TimeoutError):
        raise UnreachableError(f"{place.url}: no connection within {_SECONDS:g} s") from None
    if isinstance(cause, ConnectionRefusedError):
        return "nobody listens there; is a scheduler running?"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"it does not prove to be {place.server_name}: {cause.verify_message}"
    return (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
