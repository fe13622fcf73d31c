"""The fake API server on a real socket (loopback), for what needs wires."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

from aiohttp import web

from allotment_kube.transport import Request
from fakes.api_server import FakeApiServer, verb_of
from fakes.faults import Fault, FaultPlan, Verb
from fakes.in_process import answer, opened
from fakes.watching import CutError, Watching


@asynccontextmanager
async def served(server: FakeApiServer, plan: FaultPlan | None = None) -> AsyncIterator[str]:
    """Serve until the context ends; yields the URL."""
    handler = _Handler(server, plan or FaultPlan())
    application = web.Application(client_max_size=64 << 20)
    application.router.add_route("*", "/{path:.*}", handler.respond)
    async with listening(application) as url:
        yield url


@asynccontextmanager
async def listening(application: web.Application, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Run any aiohttp application on a free loopback port, with TLS where a context is given; yields its URL."""
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"{'https' if context else 'http'}://{host}:{port}"
    finally:
        await runner.cleanup()


class _Handler:
    """Turns HTTP into requests of the fake and back."""

    def __init__(self, server: FakeApiServer, plan: FaultPlan) -> None:
        self._server = server
        self._plan = plan

    async def respond(self, incoming: web.Request) -> web.StreamResponse:
        request = Request(
            incoming.method,
            quote(incoming.path, safe="/"),
            incoming.query_string,
            await incoming.read() or None,
            incoming.content_type,
            label="http",
        )
        verb = verb_of(request)
        fault = self._plan.draw(verb)
        if fault in {Fault.REFUSED, Fault.DROP_BEFORE}:
            return _drop(incoming)
        if fault is Fault.DELAY:
            await asyncio.sleep(self._plan.delay())
        if verb is Verb.WATCH:
            return await self._watch(incoming, request, fault)
        response = answer(self._server, request, fault)
        if fault is Fault.DROP_AFTER:
            return _drop(incoming)
        return web.Response(
            status=response.code,
            body=response.body,
            headers=dict(response.headers),
            content_type="application/json",
        )

    async def _watch(self, incoming: web.Request, request: Request, fault: Fault | None) -> web.StreamResponse:
        target, refusal = opened(self._server, request, fault)
        if target is None:
            plain = refusal.response()
            return web.Response(status=plain.code, body=plain.body, headers=dict(plain.headers))
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        await stream.prepare(incoming)
        try:
            async for line in Watching(self._server, target, self._plan, fault).lines():
                await stream.write(line)
        except CutError:
            return _drop(incoming)
        await stream.write_eof()
        return stream


def _drop(incoming: web.Request) -> web.StreamResponse:
    if incoming.transport is not None:
        incoming.transport.abort()
    return web.Response(status=500)
