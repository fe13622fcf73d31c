"""Connections for calls: HTTP/1.1 with one request in flight on each, written straight onto asyncio's transports.

A general HTTP client spends several times more processor time on a small request than the request is worth (timers,
request and response objects, hooks, cookies). A scheduler sends one binding per pod, so this is most of its work. Here
a request is one `write` and its answer one `AnswerReader`.

Connections are used last in, first out, so that few stay warm, and closed when they have idled for `KEEP_SECONDS`. One
request in flight per connection: the server answers a connection's requests one after the other, and would let a slow
one hold up the rest.

What it must never do: repeat a request by itself, except an idempotent one on a connection that had been idle and that
the server had closed meanwhile (RFC 9110, section 9.2.2); say `UnsentError` where a byte may have left.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import Final, cast
from urllib.parse import urlsplit

from .answers import AnswerReader, Headers, MalformedAnswerError

KEEP_SECONDS: Final = 60.0
_CONNECT_SECONDS: Final = 10.0
Answer = tuple[int, Headers, bytes]


class UnsentError(Exception):
    """The request was certainly not sent; the cause is an `OSError`, `ssl.SSLError` or `TimeoutError`."""


class BrokenError(Exception):
    """The connection broke, or made no sense, with a request under way; the message says how."""


class LateError(Exception):
    """The request was sent and no answer came in time."""


class StaleError(BrokenError):
    """An idle connection turned out to have been closed by the server, before a byte of the answer came."""


class Wire(asyncio.Protocol):
    """One connection; at most one exchange at a time."""

    def __init__(self, context: ssl.SSLContext | None, ended: Callable[["Wire"], None]) -> None:
        self.context = context
        self._ended = ended
        self._reader = AnswerReader()
        self._waiter: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None
        self._heard = False
        self.used = 0
        """Answers so far."""
        self.idle_since = 0.0
        self.open = False

    # What asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # bytes go both ways, whatever loop made it
        self.open = True

    def data_received(self, data: bytes) -> None:
        """Read on."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            self.abort()  # nothing was asked
            return
        self._heard = True
        reader = self._reader
        try:
            if reader.feed(data):
                self._answered(waiter)
        except MalformedAnswerError as error:
            waiter.set_exception(BrokenError(f"the answer makes no sense: {error}"))
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """End; who waits for an answer hears of it."""
        self.open = False
        self._ended(self)
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if error is None and self._reader.closed():
            self._answered(waiter)
            return
        kind = StaleError if self.used and not self._heard else BrokenError
        waiter.set_exception(kind(str(error) or "the server closed the connection"))

    # What its user asks

    async def exchange(self, request: bytes, deadline: float) -> Answer:
        """Send one request and wait for its answer until a time of the loop's clock.

        Raises:
            UnsentError: the connection had ended.
            BrokenError: it ended first.
            LateError: the time is over.
        """
        transport = self._transport
        if transport is None or not self.open:
            raise UnsentError from ConnectionResetError("the connection was closed as soon as it was open")
        self._reader.begin()
        self._heard = False
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Answer] = loop.create_future()
        self._waiter = waiter
        timer = loop.call_at(deadline, _late, waiter)
        try:
            transport.write(request)
            return await waiter
        except BaseException:
            # Given up half-way: whatever still comes belongs to nobody.
            self.abort()
            raise
        finally:
            timer.cancel()
            self._waiter = None

    def abort(self) -> None:
        """Close at once; nothing that was written is waited for."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    def _answered(self, waiter: "asyncio.Future[Answer]") -> None:
        reader = self._reader
        self.used += 1
        waiter.set_result((reader.code, reader.headers, reader.body))
        if not reader.keeps_open:
            self.abort()


def _late(waiter: "asyncio.Future[Answer]") -> None:
    if not waiter.done():
        waiter.set_exception(LateError())


class Wires:
    """A pool of connections to one server.

    Args:
        server: `http` or `https` URL; a path prefix is the caller's business.
        limit: connections at once, which bounds the requests in flight.
        server_name: name to expect in the certificate where it differs from the URL's host.
    """

    def __init__(self, server: str, *, limit: int, server_name: str | None = None) -> None:
        parts = urlsplit(server)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._server_name = server_name or self._host
        self._limit = limit
        self._idle: list[Wire] = []
        self._all: set[Wire] = set()
        self._opening = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._all)

    async def exchange(
        self, request: bytes, context: ssl.SSLContext | None, *, seconds: float, idempotent: bool
    ) -> Answer:
        """Send a request over a free connection; waits for one while `limit` are busy.

        Args:
            request: the whole of it, as it goes onto the wire.
            context: whose connections to use; None is plain text.
            seconds: for everything.
            idempotent: whether it may be sent again where an idle connection turns out to be closed.

        Raises:
            UnsentError: no connection could be had in time.
            BrokenError: the request was sent and its answer did not come.
            LateError: the request was sent and its answer did not come in time.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            wire = self._idle_wire(context)
            if wire is None:
                try:
                    async with asyncio.timeout_at(deadline):
                        wire = await self._take(context)
                except TimeoutError as error:
                    raise UnsentError from error
            fresh = not wire.used
            try:
                return await wire.exchange(request, deadline)
            except StaleError:
                if fresh or not idempotent:
                    raise
            finally:
                self._give_back(wire)

    async def close(self) -> None:
        """Close every connection; requests in flight fail."""
        for wire in [*self._all]:
            wire.abort()
        self._idle.clear()
        await asyncio.sleep(0)  # the transports end in callbacks

    def _idle_wire(self, context: ssl.SSLContext | None) -> Wire | None:
        oldest = asyncio.get_running_loop().time() - KEEP_SECONDS
        while self._idle:
            wire = self._idle.pop()
            # Another context is another identity, or the time before certificates were rotated.
            if wire.open and wire.idle_since > oldest and wire.context is context:
                return wire
            wire.abort()
        return None

    async def _take(self, context: ssl.SSLContext | None) -> Wire:
        while True:
            wire = self._idle_wire(context)
            if wire is not None:
                return wire
            if len(self._all) + self._opening < self._limit:
                return await self._open(context)
            waiter = asyncio.get_running_loop().create_future()
            self._queue.append(waiter)
            try:
                await waiter
            except BaseException:
                if waiter.done() and not waiter.cancelled():
                    self._wake()  # the turn was ours; somebody else may have it
                raise

    def _give_back(self, wire: Wire) -> None:
        if wire.open:
            wire.idle_since = asyncio.get_running_loop().time()
            self._idle.append(wire)
        self._wake()

    def _wake(self) -> None:
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _lost(self, wire: Wire) -> None:
        self._all.discard(wire)
        self._wake()

    async def _open(self, context: ssl.SSLContext | None) -> Wire:
        loop = asyncio.get_running_loop()
        self._opening += 1
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, wire = await loop.create_connection(
                    lambda: Wire(context, self._lost),
                    self._host,
                    self._port,
                    ssl=context,
                    server_hostname=self._server_name if context is not None else None,
                )
        except (OSError, TimeoutError) as error:
            self._wake()
            raise UnsentError from error
        except BaseException:
            self._wake()
            raise
        finally:
            self._opening -= 1
        if wire.open:  # it may have ended before we got to run again, and would then never leave the set
            self._all.add(wire)
        return wire
