"""How aiohttp's connections end here: at once.

aiohttp takes leave of a TLS connection that it cannot use again (a watch that nobody reads on, a request given up
half-way): it says goodbye and leaves the connection waiting for the server's own farewell, up to half a minute, which
may be longer than the event loop lives. Whoever closes a connection here has nothing more to say or to hear on it.
"""

import asyncio
import ssl
from functools import partial

import aiohttp
from aiohttp.client_proto import ResponseHandler


class Connector(aiohttp.TCPConnector):
    """A connector of the running loop whose connections are closed without a farewell.

    Args:
        limit: of connections at once; 0 is none.
        context: for requests that bring no context of their own.
    """

    def __init__(self, *, limit: int, context: ssl.SSLContext | None = None) -> None:
        super().__init__(limit=limit, ssl=context or True, keepalive_timeout=60.0)
        # aiohttp makes each connection's protocol by this, and gives no other way to choose it.
        made: type[ResponseHandler] = _Protocol
        self._factory = partial(made, loop=asyncio.get_running_loop())


class _Protocol(ResponseHandler):
    def close(self) -> None:
        self.abort()
