"""The operator's own HTTP server: /healthz, /readyz and /metrics."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from allotment_operator.metrics import CONTENT_TYPE, Metrics


class Readiness:
    """What still has to happen before the operator is at work; each thing has a name.

    A standby, which waits for the Lease, is ready too: it serves by being there.
    """

    def __init__(self) -> None:
        self._missing: dict[str, None] = {}

    def await_(self, name: str) -> None:
        """Add something to wait for."""
        self._missing[name] = None

    def done(self, name: str) -> None:
        """It has happened."""
        self._missing.pop(name, None)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of what has not happened yet."""
        return tuple(self._missing)


@asynccontextmanager
async def serving(
    host: str, port: int, *, metrics: Metrics, readiness: Readiness, publish: Callable[[], None] = lambda: None
) -> AsyncIterator[int]:
    """Serve while inside; yields the port.

    `publish` brings the metrics up to date before each scrape.

    Raises:
        OSError: the address cannot be bound.
    """

    async def healthz(_: web.Request) -> web.Response:
        # That this is answered at all says that the loop turns.
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if missing := readiness.missing:
            return web.Response(status=503, text=f"not yet: {', '.join(missing)}\n")
        return web.Response(text="ok\n")

    async def scrape(_: web.Request) -> web.Response:
        publish()
        return web.Response(body=metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    application = web.Application()
    application.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", scrape)])
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
