"""The fake API server behind the client's `Transport`, without sockets: deterministic, and at home on virtual time.

Delays are honest: a request that is slow on its way arrives and takes effect later even if its sender has given up
meanwhile. That is the hazard that leases and preconditions exist for.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from multidict import CIMultiDict

from allotment_kube.errors import OutcomeUnknownError, UnreachableError
from allotment_kube.transport import Request, Response, Stream, WebSocket
from fakes.api_server import FakeApiServer, Refusal, Target, verb_of
from fakes.faults import Fault, FaultPlan
from fakes.watching import CutError, Watching


class InProcessTransport:
    """Carries requests straight into a `FakeApiServer`, through a `FaultPlan`."""

    def __init__(self, server: FakeApiServer, plan: FaultPlan | None = None, *, latency: float = 0.0) -> None:
        self._server = server
        self._plan = plan or FaultPlan()
        self._latency = latency
        self._under_way: set[asyncio.Task[Response]] = set()
        self.partitioned = False  # nothing gets through while it is set

    async def send(self, request: Request) -> Response:
        """Exchange one request."""
        fault = self._plan.draw(verb_of(request))
        self._check_connection(fault, request)
        arrival = asyncio.create_task(self._deliver(request, fault))
        self._under_way.add(arrival)
        arrival.add_done_callback(self._under_way.discard)
        try:
            async with asyncio.timeout(request.timeout):
                response = await asyncio.shield(arrival)
        except TimeoutError:
            raise OutcomeUnknownError(f"no answer within {request.timeout:g} s", request=request.line) from None
        if fault in {Fault.DROP_BEFORE, Fault.DROP_AFTER} or self.partitioned:
            raise OutcomeUnknownError("the connection broke", request=request.line)
        return response

    def stream(self, request: Request) -> AbstractAsyncContextManager[Stream]:
        """Open a watch."""
        return self._open(request)

    def websocket(self, request: Request, subprotocols: Sequence[str]) -> AbstractAsyncContextManager[WebSocket]:
        """Not served in process."""
        raise NotImplementedError("exec is tested over HTTP")

    async def close(self) -> None:
        """Let what is under way arrive."""
        for task in list(self._under_way):
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _deliver(self, request: Request, fault: Fault | None) -> Response:
        delay = self._plan.delay() if fault is Fault.DELAY else 0.0
        there = delay * self._plan.number(100) / 100 if delay else 0.0
        await asyncio.sleep(self._latency / 2 + there)
        response = answer(self._server, request, fault)
        await asyncio.sleep(self._latency / 2 + delay - there)
        return response

    def _check_connection(self, fault: Fault | None, request: Request) -> None:
        if self.partitioned or fault is Fault.REFUSED:
            raise UnreachableError("no connection", request=request.line)

    @asynccontextmanager
    async def _open(self, request: Request) -> AsyncIterator[Stream]:
        fault = self._plan.draw(verb_of(request))
        self._check_connection(fault, request)
        await asyncio.sleep(self._latency + (self._plan.delay() if fault is Fault.DELAY else 0.0))
        target, refusal = opened(self._server, request, fault)
        if target is None:
            yield _Whole(refusal.response())
            return
        lines = Watching(self._server, target, self._plan, fault).lines()
        try:
            yield _Lines(lines, request, self)
        finally:
            await lines.aclose()  # type: ignore[attr-defined] # it is a generator


def answer(server: FakeApiServer, request: Request, fault: Fault | None) -> Response:
    """The server's answer to anything but a watch, with the fault's part in it."""
    if fault is Fault.DROP_BEFORE:
        return Response(0, CIMultiDict(), b"")
    if fault is Fault.STALE:
        target = server.target(request)
        if not target.query.get("continue"):
            return _stale_list(server, request)
    elif (refusal := refusal_for(fault)) is not None and not (fault is Fault.GONE and "continue=" not in request.query):
        if fault is Fault.ERROR_AFTER:
            server.handle(request)
        return refusal.response()
    return server.handle(request)


def refusal_for(fault: Fault | None) -> Refusal | None:
    """The error answer that a fault stands for."""
    match fault:
        case Fault.CONFLICT:
            return Refusal(409, "Conflict", "the object has been modified (injected)")
        case Fault.GONE:
            return Refusal(410, "Expired", "too old resource version (injected)")
        case Fault.THROTTLED:
            return Refusal(429, "TooManyRequests", "too many requests (injected)", after=1)
        case Fault.ERROR | Fault.ERROR_AFTER:
            return Refusal(500, "InternalError", "internal error (injected)")
        case Fault.UNAVAILABLE:
            return Refusal(503, "ServiceUnavailable", "unavailable (injected)", after=1)
    return None


def opened(server: FakeApiServer, request: Request, fault: Fault | None) -> tuple[Target | None, Refusal]:
    """What a watch is about, or why it is refused. A 410 comes as an event, as from the real server."""
    refusal = None if fault is Fault.GONE else refusal_for(fault)
    try:
        target = server.target(request)
    except Refusal as missing:
        return None, missing
    return (target, _NO_REFUSAL) if refusal is None else (None, refusal)


_NO_REFUSAL = Refusal(200, "", "")


def _stale_list(server: FakeApiServer, request: Request) -> Response:
    store = server.store
    past = store.history[max(0, len(store.history) - 5)].revision - 1 if store.history else store.revision
    page = server.list(server.target(request), max(past, store.compacted))
    return Response(200, CIMultiDict(), json.dumps(page).encode())


class _Whole:
    """An error answer to a stream."""

    def __init__(self, response: Response) -> None:
        self.code = response.code
        self.headers: Mapping[str, str] = response.headers
        self._body = response.body

    async def read(self) -> bytes:
        body, self._body = self._body, b""
        return body


class _Lines:
    """A watch's lines as a stream."""

    def __init__(self, lines: AsyncIterator[bytes], request: Request, transport: InProcessTransport) -> None:
        self.code = 200
        self.headers: Mapping[str, str] = CIMultiDict()
        self._lines = lines
        self._request = request
        self._transport = transport

    async def read(self) -> bytes:
        try:
            piece = await anext(self._lines, b"")
        except CutError:
            raise OutcomeUnknownError("the stream broke", request=self._request.line) from None
        if self._transport.partitioned:
            await asyncio.Event().wait()  # bytes do not arrive, and nobody says so
        return piece
