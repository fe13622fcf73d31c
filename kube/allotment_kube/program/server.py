"""A program's own HTTP server: /healthz, /readyz, /metrics, and pages of its own.

It answers from memory and never asks the API server.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format."""


class Readiness:
    """What still has to happen before the program is at work; each thing has a name.

    A standby, which waits for the Lease, is ready too: it serves by being there.
    """

    def __init__(self) -> None:
        self._missing: dict[str, str] = {}
        self._without: dict[str, str] = {}

    def await_(self, name: str, why: str = "") -> bool:
        """Add something to wait for, or say what keeps it from happening; returns whether that is news."""
        news = self._missing.get(name) != why
        self._missing[name] = why
        self._without.pop(name, None)
        return news

    def do_without(self, name: str, why: str) -> bool:
        """Go on without something, and say why; returns whether that is news."""
        news = self._without.get(name) != why
        self._without[name] = why
        self._missing.pop(name, None)
        return news

    def done(self, name: str) -> None:
        """It has happened."""
        self._missing.pop(name, None)
        self._without.pop(name, None)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of what has not happened yet, with what keeps it from happening."""
        return tuple(f"{name} ({why})" if why else name for name, why in self._missing.items())

    @property
    def without(self) -> tuple[str, ...]:
        """Names of what the program does without, with the reason."""
        return tuple(f"{name} ({why})" for name, why in self._without.items())


@asynccontextmanager
async def serving(
    host: str,
    port: int,
    *,
    readiness: Readiness,
    scrape: Callable[[], bytes],
    pages: Mapping[str, Callable[[], Any]] = {},
) -> AsyncIterator[int]:
    """Serve while inside; yields the port.

    Args:
        host: address to listen on.
        port: 0 takes any free one.
        readiness: what /readyz answers from.
        scrape: all metrics in Prometheus' text format, asked at each scrape.
        pages: path to what gives its content, answered as JSON.

    Raises:
        OSError: the address cannot be bound.
    """

    async def healthz(_: web.Request) -> web.Response:
        # That this is answered at all says that the loop turns.
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if missing := readiness.missing:
            return web.Response(status=503, text=f"not yet: {', '.join(missing)}\n")
        without = readiness.without
        return web.Response(text=f"ok, without {', '.join(without)}\n" if without else "ok\n")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=scrape(), headers={"Content-Type": CONTENT_TYPE})

    def page(content: Callable[[], Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(_: web.Request) -> web.Response:
            return web.json_response(content())

        return answer

    application = web.Application()
    application.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    application.add_routes([web.get(path, page(content)) for path, content in pages.items()])
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
