"""The transport over HTTP/1.1: calls on connections of our own (`wires`), streams and WebSockets by aiohttp.

Three pools. Calls share `connections` kept-alive connections, which is also the bound on requests in flight; urgent
ones have a few to themselves, so that no crowd of slow calls can cost a leader its Lease; streams and WebSockets, which
hold a connection for minutes, have a pool without a limit, so that watches never starve bindings.
Calls are many and small, and aiohttp would cost most of a scheduler's processor time on them; streams are few. Where a
proxy is configured, aiohttp carries the calls as well (all in `streams`).

What is fixed per identity is built once: headers per content type and the TLS context. Answers are asked for
uncompressed: inside a cluster network gzip costs both sides more time than it saves.
"""

import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from .configuration import Configuration
from .credentials import Identity
from .errors import ConfigurationError, OutcomeUnknownError, UnreachableError
from .tls import TlsContexts
from .transport import Observer, Request, Response, Stream, WebSocket
from .wires import BrokenError, LateError, UnsentError, Wires

if TYPE_CHECKING:
    from .streams import AiohttpStream, Sessions

DEFAULT_CONNECTIONS: Final = 64
URGENT_CONNECTIONS: Final = 2
_IDEMPOTENT: Final = frozenset({"GET", "PUT", "DELETE"})


class HttpTransport:
    """Carries requests to the API server of a `Configuration`."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        connections: int = DEFAULT_CONNECTIONS,
        user_agent: str = "allotment",
        observer: Observer | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._base = configuration.server
        self._secure = configuration.server.startswith("https://")
        self._credentials = configuration.credentials
        self._tls = TlsContexts(configuration.tls) if self._secure else None
        self._proxy = configuration.proxy_url or None
        self._observer = observer
        self._clock = clock
        self._fixed_headers = [
            ("Accept", "application/json"),
            ("Accept-Encoding", "identity"),
            ("User-Agent", user_agent),
            *configuration.impersonation.headers(),
        ]
        self._headers: dict[str, list[tuple[str, str]]] = {}
        self._heads: dict[str, bytes] = {}
        self._headers_identity: Identity | None = None
        self._connections = connections
        self._sessions: Sessions | None = None
        parts = urlsplit(self._base)
        self._prefix = parts.path.rstrip("/")
        self._host = parts.netloc.rpartition("@")[2]
        self._wires: Wires | None = None
        self._urgent_wires: Wires | None = None

    async def send(self, request: Request) -> Response:
        """Exchange one request for one whole answer; on 401 once more with fresh credentials."""
        identity = self._credentials.current() or await self._credentials.obtain(rejected=None)
        response = await self._exchange(request, identity)
        if response.code == 401:
            fresh = await self._renew(identity)
            if fresh is not None:
                response = await self._exchange(request, fresh)
        return response

    def stream(self, request: Request) -> AbstractAsyncContextManager[Stream]:
        """Open an answer to be read as it comes; on 401 once more with fresh credentials."""
        return self._open_stream(request)

    def websocket(self, request: Request, subprotocols: Sequence[str]) -> AbstractAsyncContextManager[WebSocket]:
        """Upgrade to a WebSocket."""
        return self._open_websocket(request, subprotocols)

    async def close(self) -> None:
        """Close all connections; requests in flight fail."""
        if self._sessions is not None:
            await self._sessions.close()
            self._sessions = None
        for wires in (self._wires, self._urgent_wires):
            if wires is not None:
                await wires.close()
        self._wires = self._urgent_wires = None

    async def _exchange(self, request: Request, identity: Identity) -> Response:
        started = self._clock()
        code = 0
        try:
            response = await (self._proxied if self._proxy else self._direct)(request, identity)
            code = response.code
            return response
        finally:
            if self._observer is not None:
                self._observer.observe(
                    method=request.method, label=request.label, code=code, seconds=self._clock() - started
                )

    async def _direct(self, request: Request, identity: Identity) -> Response:
        wires, context = self._wires_for(request), self._context(identity)
        try:
            answer = await wires.exchange(
                self._written(request, identity),
                context,
                seconds=request.timeout,
                idempotent=request.method in _IDEMPOTENT,
            )
        except LateError:
            raise OutcomeUnknownError(f"no answer within {request.timeout:g} s", request=request.line) from None
        except (UnsentError, BrokenError) as error:
            self._distrust()
            if isinstance(error, UnsentError):
                raise UnreachableError(self._no_connection(error), request=request.line) from None
            raise OutcomeUnknownError(f"the connection broke: {_plain(error)}", request=request.line) from None
        return Response(*answer)

    def _wires_for(self, request: Request) -> Wires:
        if request.urgent:
            if self._urgent_wires is None:
                self._urgent_wires = self._wires_to_server(URGENT_CONNECTIONS)
            return self._urgent_wires
        if self._wires is None:
            self._wires = self._wires_to_server(self._connections)
        return self._wires

    def _wires_to_server(self, limit: int) -> Wires:
        try:
            return Wires(self._base, limit=limit)
        except ValueError as error:
            raise ConfigurationError(f"the server's address {self._base!r} is not a URL: {error}") from None

    def _no_connection(self, error: UnsentError) -> str:
        cause = error.__cause__
        if isinstance(cause, ssl.SSLError):
            return f"TLS to {self._base} failed: {cause.reason or _plain(cause)}"
        reason = "no answer in time" if cause is None or isinstance(cause, TimeoutError) else _plain(cause)
        return f"no connection to {self._base}: {reason}"

    def _written(self, request: Request, identity: Identity) -> bytes:
        """A request as it goes onto the wire."""
        target = f"{self._prefix}{request.path}?{request.query}" if request.query else self._prefix + request.path
        if not (target.isascii() and target.isprintable()) or " " in target:
            raise ConfigurationError(f"{request.method} {target!r}: a path must be percent-encoded")
        body = request.body
        head = self._head_for(identity, request.content_type if body is not None else "")
        line = f"{request.method} {target} HTTP/1.1\r\n".encode()
        if body is None and request.method in {"GET", "DELETE"}:
            return b"%b%b\r\n" % (line, head)
        return b"%b%bContent-Length: %d\r\n\r\n%b" % (line, head, len(body or b""), body or b"")

    def _head_for(self, identity: Identity, content_type: str) -> bytes:
        headers = self._headers_for(identity, content_type)
        head = self._heads.get(content_type)
        if head is None:
            lines = [f"Host: {self._host}", *(f"{name}: {value}" for name, value in headers)]
            if any("\r" in line or "\n" in line for line in lines):
                raise ConfigurationError("a credential or a name to impersonate holds a line break")
            head = self._heads[content_type] = "".join(f"{line}\r\n" for line in lines).encode()
        return head

    async def _proxied(self, request: Request, identity: Identity) -> Response:
        return await self._opened().call(request, self._headers_of(request, identity), self._context(identity))

    @asynccontextmanager
    async def _open_stream(self, request: Request) -> AsyncIterator[Stream]:
        identity = self._credentials.current() or await self._credentials.obtain(rejected=None)
        started = self._clock()
        answer = await self._begin_stream(request, identity)
        try:
            if answer.code == 401:
                fresh = await self._renew(identity)
                if fresh is not None:
                    answer.close()
                    answer = await self._begin_stream(request, fresh)
            if self._observer is not None:
                self._observer.observe(
                    method="WATCH", label=request.label, code=answer.code, seconds=self._clock() - started
                )
            yield answer
        finally:
            answer.close()

    async def _begin_stream(self, request: Request, identity: Identity) -> "AiohttpStream":
        return await self._opened().begin(request, self._headers_of(request, identity), self._context(identity))

    @asynccontextmanager
    async def _open_websocket(self, request: Request, subprotocols: Sequence[str]) -> AsyncIterator[WebSocket]:
        identity = self._credentials.current() or await self._credentials.obtain(rejected=None)
        headers = self._headers_for(identity, "")
        async with self._opened().websocket(request, headers, self._context(identity), subprotocols) as socket:
            yield socket

    def _opened(self) -> "Sessions":
        # Built on first use: it belongs to the running loop.
        if self._sessions is None:
            from .streams import Sessions  # noqa: PLC0415 - the module says why

            self._sessions = Sessions(
                self._base,
                connections=self._connections,
                urgent=URGENT_CONNECTIONS,
                proxy=self._proxy,
                broken=self._distrust,
            )
        return self._sessions

    def _context(self, identity: Identity) -> ssl.SSLContext | None:
        return self._tls.context(identity.key_pair) if self._tls is not None else None

    def _distrust(self) -> None:
        # A rotated CA fails the handshake, an expired certificate the first read: the next attempt sees new files.
        if self._tls is not None:
            self._tls.refresh()

    def _headers_of(self, request: Request, identity: Identity) -> list[tuple[str, str]]:
        return self._headers_for(identity, request.content_type if request.body is not None else "")

    def _headers_for(self, identity: Identity, content_type: str) -> list[tuple[str, str]]:
        if identity is not self._headers_identity:
            self._headers = {}
            self._heads = {}
            self._headers_identity = identity
        headers = self._headers.get(content_type)
        if headers is None:
            headers = [*self._fixed_headers]
            if identity.authorization:
                headers.append(("Authorization", identity.authorization))
            if content_type:
                headers.append(("Content-Type", content_type))
            self._headers[content_type] = headers
        return headers

    async def _renew(self, rejected: Identity) -> Identity | None:
        """Better credentials after a 401, None if there are none to be had."""
        fresh = await self._credentials.obtain(rejected=rejected)
        rotated = self._tls is not None and self._tls.refresh()
        return fresh if rotated or fresh is not rejected else None


def _plain(error: BaseException) -> str:
    return str(error) or type(error).__name__
