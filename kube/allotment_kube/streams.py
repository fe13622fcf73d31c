"""What aiohttp carries: streams, WebSockets, and calls through a proxy, which aiohttp knows how to tunnel.

Imported on first use: commands that only read manifests need none of it, and importing aiohttp takes longer than
everything else here together.

Exceptions of aiohttp end here: their `repr` may hold headers or a proxy's password, so they are not chained.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Final

import aiohttp
from yarl import URL

from .connector import Connector
from .errors import ConfigurationError, OutcomeUnknownError, UnreachableError, error_from_response
from .transport import Request, Response, WebSocket

_STREAM_BUFFER: Final = 1 << 18  # bytes read ahead of a watch's consumer before TCP pushes back
HeaderLines = Sequence[tuple[str, str]]


class Sessions:
    """Three pools: calls share `connections`, urgent ones have their own; streams and WebSockets have no limit.

    Args:
        server: URL of the API server.
        connections: of calls at once.
        urgent: of urgent calls at once, beside these.
        proxy: URL of a proxy.
        broken: told of every failure that another certificate or authority might mend.
    """

    def __init__(
        self,
        server: str,
        *,
        connections: int,
        urgent: int,
        proxy: str | None,
        broken: Callable[[], None],
    ) -> None:
        self._base = server
        self._proxy = proxy
        self._broken = broken
        self._calls, self._urgent, self._streams = _session(connections), _session(urgent), _session(0)

    async def close(self) -> None:
        """Close all connections."""
        for session in (self._calls, self._urgent, self._streams):
            await session.close()

    async def call(self, request: Request, headers: HeaderLines, context: ssl.SSLContext | None) -> Response:
        """Exchange one request for one whole answer."""
        try:
            limit = _call_timeout(request.timeout)
            session = self._urgent if request.urgent else self._calls
            async with self._request(session, request, headers, context, limit) as answer:
                return Response(answer.status, answer.headers, await answer.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._translated(error, request) from None

    async def begin(self, request: Request, headers: HeaderLines, context: ssl.SSLContext | None) -> "AiohttpStream":
        """Open an answer to be read as it comes; it must be closed."""
        # The timeout covers connecting and the headers; silence afterwards is the watcher's to judge.
        try:
            async with asyncio.timeout(request.timeout):
                return AiohttpStream(await self._request(self._streams, request, headers, context, _UNLIMITED), request)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._translated(error, request) from None

    @asynccontextmanager
    async def websocket(
        self, request: Request, headers: HeaderLines, context: ssl.SSLContext | None, subprotocols: Sequence[str]
    ) -> AsyncIterator[WebSocket]:
        """Upgrade to a WebSocket."""
        try:
            async with asyncio.timeout(request.timeout):
                socket = await self._streams.ws_connect(
                    self._url(request),
                    protocols=subprotocols,
                    headers=headers,
                    ssl=context or True,
                    proxy=self._proxy,
                    max_msg_size=0,
                )
        except aiohttp.WSServerHandshakeError as error:
            # Its repr holds our Authorization header. The handshake's error body is not given to us by aiohttp.
            raise error_from_response(error.status, b"", error.headers or {}, request.line) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._translated(error, request) from None
        try:
            yield _AiohttpWebSocket(socket, request)
        finally:
            await socket.close()

    def _url(self, request: Request) -> URL:
        target = f"{self._base}{request.path}?{request.query}" if request.query else self._base + request.path
        return URL(target, encoded=True)

    def _request(
        self,
        session: aiohttp.ClientSession,
        request: Request,
        headers: HeaderLines,
        context: ssl.SSLContext | None,
        timeout: aiohttp.ClientTimeout,
    ) -> "aiohttp.client._RequestContextManager":
        return session.request(
            request.method,
            self._url(request),
            data=request.body,
            headers=headers,
            ssl=context or True,
            proxy=self._proxy,
            timeout=timeout,
            allow_redirects=False,
        )

    def _translated(
        self, error: Exception, request: Request
    ) -> UnreachableError | OutcomeUnknownError | ConfigurationError:
        if not isinstance(error, TimeoutError):
            self._broken()
        if isinstance(error, aiohttp.InvalidURL):
            return ConfigurationError(f"the server's address {self._base!r} is not a URL")
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
            return UnreachableError(f"TLS to {self._base} failed: {_plain(error)}", request=request.line)
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            reason = "no answer in time" if isinstance(error, TimeoutError) else _plain(error)
            return UnreachableError(f"no connection to {self._base}: {reason}", request=request.line)
        if isinstance(error, TimeoutError):
            return OutcomeUnknownError(f"no answer within {request.timeout:g} s", request=request.line)
        return OutcomeUnknownError(f"the connection broke: {_plain(error)}", request=request.line)


class AiohttpStream:
    """An aiohttp response as a `Stream`."""

    def __init__(self, answer: aiohttp.ClientResponse, request: Request) -> None:
        self._answer = answer
        self._request = request

    @property
    def code(self) -> int:
        """HTTP status."""
        return self._answer.status

    @property
    def headers(self) -> Mapping[str, str]:
        """Case-insensitive headers."""
        return self._answer.headers

    def close(self) -> None:
        """Close its connection."""
        self._answer.close()

    async def read(self) -> bytes:
        """The next piece as it arrived, empty at the end."""
        try:
            return await self._answer.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise OutcomeUnknownError(f"the stream broke: {_plain(error)}", request=self._request.line) from None


class _AiohttpWebSocket:
    """An aiohttp WebSocket as a `WebSocket`."""

    def __init__(self, socket: "aiohttp.ClientWebSocketResponse[bool]", request: Request) -> None:
        self._socket = socket
        self._request = request

    @property
    def subprotocol(self) -> str:
        return self._socket.protocol or ""

    async def send(self, message: bytes) -> None:
        try:
            await self._socket.send_bytes(message)
        except (aiohttp.ClientError, OSError) as error:
            raise OutcomeUnknownError(f"the stream broke: {_plain(error)}", request=self._request.line) from None

    async def receive(self) -> bytes | None:
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.BINARY:
            return bytes(message.data)
        if message.type is aiohttp.WSMsgType.TEXT:
            return str(message.data).encode()
        if message.type is aiohttp.WSMsgType.ERROR:
            raise OutcomeUnknownError("the stream broke", request=self._request.line)
        return None


def _session(limit: int) -> aiohttp.ClientSession:
    connector = Connector(limit=limit)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=_STREAM_BUFFER)


_UNLIMITED: Final = aiohttp.ClientTimeout(total=None, sock_connect=10.0)


@lru_cache(maxsize=256)
def _call_timeout(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds, sock_connect=min(10.0, seconds))


def _plain(error: BaseException) -> str:
    return str(error) or type(error).__name__
