"""Asking the scheduler's HTTPS API: where it is, how to trust it, and who we are to it.

Address and authority come from the ConfigMap that the scheduler publishes, or the address from the user (a forwarded
port). We show what our kubeconfig has: a token, or a client certificate, and that only to whom this authority vouches
for. With neither there is nobody to ask.

Every copy of the scheduler listens and only the leader answers, so a 503 or a refused connection is asked again a few
times: each connection may meet another copy. `Unreachable` means: read the objects instead. `Refused` is final.
"""

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from allotment_kube.client import Client
from allotment_kube.configuration import Configuration, load_configuration
from allotment_kube.credentials import Identity
from allotment_kube.errors import DeniedError, NotFoundError
from allotment_kube.resources import CONFIG_MAPS
from allotment_kube.tls import PemSource, TlsContexts, TlsSettings

NAME: Final = "allotment-scheduler-api"
_ATTEMPTS: Final = 6
_PAUSE: Final = 0.3
_SECONDS: Final = 10.0


class UnreachableError(Exception):
    """There is no API to ask; the message says why, or is empty where none is to be expected."""


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


async def ask(path: str, query: dict[str, str], *, kubeconfig: Path | None, url: str, system: str) -> Any:  # noqa: ANN401 - JSON
    """One answer of the scheduler.

    Args:
        path: such as `/v1/tenants`.
        query: its parameters; without a namespace, and where the whole cluster is refused, ours is asked for.
        kubeconfig: as for every command.
        url: where the API is; empty: as the scheduler published it.
        system: namespace of the scheduler.

    Raises:
        UnreachableError: nobody answers.
        RefusedError: the API says no.
        KubernetesError: the API server cannot be asked, or the kubeconfig is wrong.
    """
    configuration = load_configuration(kubeconfig)
    identity = await _identity(configuration)
    place = await _place(configuration, url=url, system=system)
    trusted, shown = _trust(configuration, place, identity), identity.authorization or ""
    try:
        return await _answer(place, path, query, trusted, shown)
    except RefusedError as refused:
        if refused.code != 403 or "namespace" in query:
            raise
    return await _answer(place, path, {**query, "namespace": configuration.namespace}, trusted, shown)


async def _identity(configuration: Configuration) -> Identity:
    identity = configuration.credentials.current() or await configuration.credentials.obtain(rejected=None)
    scheme, _, _token = (identity.authorization or "").partition(" ")
    if scheme != "Bearer" and identity.key_pair is None and not configuration.tls.certificate:
        raise UnreachableError
    return identity


def _trust(configuration: Configuration, place: _Place, identity: Identity) -> ssl.SSLContext:
    """Trust the scheduler's authority alone, and show our client certificate where we have one."""
    settings = TlsSettings(PemSource(place.authority.encode()), configuration.tls.certificate, configuration.tls.key)
    return TlsContexts(settings).context(identity.key_pair)


async def _place(configuration: Configuration, *, url: str, system: str) -> _Place:
    async with Client.connect(configuration) as client:
        try:
            found = await client.get(CONFIG_MAPS.untyped, NAME, namespace=system)
        except (NotFoundError, DeniedError) as error:
            raise UnreachableError(f"its address is not published: {error}" if url else "") from error
    data = found.get("data") or {}
    if not data.get("ca.crt"):
        raise UnreachableError("no scheduler has published its certificate yet" if url else "")
    return _Place((url or data["url"]).rstrip("/"), data["serverName"], data["ca.crt"])


async def _answer(place: _Place, path: str, query: dict[str, str], trusted: ssl.SSLContext, shown: str) -> Any:  # noqa: ANN401 - JSON
    import aiohttp  # noqa: PLC0415 - keeps `allot --help` quick

    why = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            await asyncio.sleep(_PAUSE)
        try:
            # A new session each time: a kept connection would meet the same copy again.
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as session,
                session.get(
                    place.url + path,
                    params=query,
                    headers={"Authorization": shown} if shown.startswith("Bearer ") else {},
                    ssl=trusted,
                    server_hostname=place.server_name,
                    allow_redirects=False,
                ) as answer,
            ):
                said = await answer.json(content_type=None)
                if answer.status == 200:
                    return said
                message = str(said.get("message", "")) if isinstance(said, dict) else ""
                if answer.status != 503:
                    raise RefusedError(answer.status, message or f"HTTP {answer.status}")
                why = message
        except aiohttp.ClientConnectorDNSError:
            raise UnreachableError(f"{place.url} is an address within the cluster; forward its port") from None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            why = type(error).__name__ if isinstance(error, TimeoutError) else str(error)
    raise UnreachableError(f"{place.url}: {why}")
