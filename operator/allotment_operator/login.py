"""How kopf reaches the API server: with the configuration that our own client uses.

So every way to log in that `allotment_kube` knows works for both halves of the operator: a token, a token file that the
kubelet rotates, a client certificate, an exec plugin, impersonation, a server under another name, a proxy.
"""

import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp
import kopf

from allotment_kube.configuration import Configuration
from allotment_kube.connector import Connector
from allotment_kube.credentials import FixedCredentials, Identity
from allotment_kube.tls import TlsContexts

RENEWAL: Final = dt.timedelta(minutes=10)
"""How long kopf uses one identity. The kubelet replaces a token when a fifth of its life is left: 12 minutes of an
hour at the least."""

Login = Callable[..., Awaitable[kopf.AiohttpSession]]


def login_with(configuration: Configuration) -> Login:
    """Return kopf's login handler for a configuration."""
    rejected: list[Identity] = []

    async def login(**_: Any) -> kopf.AiohttpSession:  # noqa: ANN401 - kopf's keyword arguments
        credentials = configuration.credentials
        identity = credentials.current()
        # kopf logs in again only when the identity has run out or was refused: then a new one is wanted.
        if identity is None or identity in rejected:
            identity = await credentials.obtain(rejected=identity)
        rejected[:] = [identity]
        headers = configuration.impersonation.headers()
        if identity.authorization:
            headers.append(("Authorization", identity.authorization))
        context = TlsContexts(configuration.tls).context(identity.key_pair)
        session = aiohttp.ClientSession(
            connector=Connector(limit=0, context=context),
            headers=headers,
            proxy=configuration.proxy_url or None,
        )
        fixed = isinstance(credentials, FixedCredentials)
        return kopf.AiohttpSession(
            server=configuration.server,
            default_namespace=configuration.namespace,
            aiohttp_session=session,
            expiration=None if fixed else dt.datetime.now(dt.UTC) + RENEWAL,
        )

    return login
