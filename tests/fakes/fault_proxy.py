"""A proxy between a program and the real API server that makes the network and the server behave badly, by a seed.

It speaks plain HTTP to the program, on the loopback interface, and TLS to the API server, and passes the program's
credentials on. Each request belongs to a class (bind, evict, status, lease, watch, other); each class has a rate of
faults. A fault hits before the request is passed on, or after it was carried out; watches are also hit in midstream:
cut within a line, ended, silenced, told 410, given old events again, or left to lag behind from then on.

Delays stay below the programs' own timeouts: a request that its sender has given up is dropped here, too.

What was carried out in truth (Bindings and evictions that the API server accepted) is kept for the history checker.
"""

import asyncio
import base64
import json
import random
import ssl
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml
from aiohttp import web

from allotment_kube.connector import Connector

RATES: Final = {"bind": 0.3, "evict": 0.5, "status": 0.3, "lease": 0.15, "watch": 0.9, "other": 0.05}
CLASSES: Final = ("bind", "evict", "status", "watch", "lease")
_BEFORE: Final = ("drop", "delay", "409", "410", "429", "500", "503")
_AFTER: Final = ("drop after", "500 after")
_STREAM: Final = ("cut", "end", "silence", "gone", "repeat", "lag")
_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "host", "content-length", "te", "upgrade"})
_REASONS: Final = {
    409: "Conflict", 410: "Expired", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable",
}  # fmt: skip
_LONGEST_DELAY: Final = 1.0
Lines = asyncio.Queue[tuple[float, bytes]]
"""Lines of a watch, and when each came."""


@dataclass(frozen=True)
class Deed:
    """Something that the API server has accepted."""

    kind: str
    namespace: str
    name: str
    uid: str
    node: str = ""


@dataclass
class FaultProxy:
    """One proxy, with an event loop and a thread of its own."""

    kubeconfig: Path
    seed: int
    rates: Mapping[str, float] = field(default_factory=lambda: dict(RATES))
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    deeds: list[Deed] = field(default_factory=list)
    calm: bool = True
    """Whether everything is passed on as it is."""

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        config = yaml.safe_load(self.kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self._server = str(cluster["server"]).rstrip("/")
        self._tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stop: asyncio.Event | None = None
        self.port = 0

    # --- for the test ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        assert self._ready.wait(300)

    def stop(self) -> None:
        """Close everything."""
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(300)

    def kubeconfig_for(self, source: Path, target: Path) -> Path:
        """The same credentials as in `source`, by way of this proxy."""
        config = yaml.safe_load(source.read_text())
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{self.port}"}
        target.write_text(yaml.safe_dump(config))
        target.chmod(0o600)
        return target

    def count(self, kind: str) -> int:
        """How many faults a class of requests has seen."""
        return sum(count for (of, _), count in self.faults.items() if of == kind)

    def table(self) -> str:
        """Faults and requests by class, for people."""
        rows = []
        for kind in (*CLASSES, "other"):
            kinds = ", ".join(f"{what} {n}" for (of, what), n in sorted(self.faults.items()) if of == kind)
            rows.append(f"{kind}: {self.count(kind)} faults in {self.requests[kind]} requests ({kinds})")
        return "\n".join(rows)

    # --- serving --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        connector = Connector(limit=0, context=self._tls)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=60)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False, timeout=timeout) as session:
            self._session = session
            app = web.Application(client_max_size=16 * 2**20)
            app.router.add_route("*", "/{path:.*}", self._handle)
            runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            [address, *_] = runner.addresses
            self.port = int(address[1])
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        kind = classify(request.method, request.path_qs)
        self.requests[kind] += 1
        body = await request.read()
        fault = self._draw(kind)
        if fault in _BEFORE:
            self.faults[kind, fault] += 1
            if fault == "delay":
                await asyncio.sleep(self._rng.uniform(0.05, _LONGEST_DELAY))
            elif fault == "drop":
                return _dropped(request)
            else:
                return _status(int(fault))
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        try:
            async with self._session.request(
                request.method, self._server + request.path_qs, data=body or None, headers=headers
            ) as answer:
                if kind == "watch" and answer.status == 200:
                    return await self._stream(request, answer, fault)
                content = await answer.read()
                self._note(kind, request.path, body, answer.status)
        except (aiohttp.ClientError, TimeoutError):
            return _dropped(request)
        if fault in _AFTER:
            self.faults[kind, fault] += 1
            return _dropped(request) if fault == "drop after" else _status(500)
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
        return web.Response(status=answer.status, body=content, headers=kept)

    def _draw(self, kind: str) -> str:
        if self.calm or self._rng.random() >= self.rates.get(kind, 0.0):
            return ""
        if kind == "watch":
            return self._rng.choice((*_STREAM, *_STREAM, *_BEFORE))
        return self._rng.choice(_BEFORE if kind == "other" else (*_BEFORE, *_AFTER))

    async def _stream(self, request: web.Request, answer: aiohttp.ClientResponse, fault: str) -> web.StreamResponse:
        """Pass a watch on, until its fate comes true."""
        response = web.StreamResponse(status=200, headers={"Content-Type": "application/json"})
        await response.prepare(request)
        lines: Lines = asyncio.Queue()
        reader = asyncio.create_task(_read_lines(answer.content, lines))
        try:
            return await self._pass_on(request, response, lines, fault)
        finally:
            reader.cancel()
            await asyncio.wait({reader})

    async def _pass_on(
        self, request: web.Request, response: web.StreamResponse, lines: Lines, fault: str
    ) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        lag = 0.0
        fate_at = loop.time() + self._rng.uniform(0.5, 8.0) if fault in _STREAM else float("inf")
        told: list[bytes] = []
        while True:
            came, line = await _next(lines, min(fate_at - loop.time(), 1.0))
            if line == b"":
                break
            if loop.time() >= fate_at and not self.calm:
                fate_at = float("inf")
                self.faults["watch", fault] += 1
                if fault == "repeat":
                    for old in told[-self._rng.randint(1, 20) :]:
                        await response.write(old)
                elif fault == "silence":
                    await asyncio.sleep(self._rng.uniform(1.0, 4.0))
                elif fault == "lag":
                    lag = self._rng.uniform(0.5, 3.0)
                else:
                    return await self._cut(request, response, line, fault)
            if line is not None:
                if not self.calm:
                    await asyncio.sleep(max(0.0, came + lag - loop.time()))
                told.append(line)
                del told[:-50]
                await response.write(line)
        await response.write_eof()
        return response

    async def _cut(
        self, request: web.Request, response: web.StreamResponse, line: bytes | None, fault: str
    ) -> web.StreamResponse:
        if fault == "gone":
            await response.write(json.dumps({"type": "ERROR", "object": _failure(410)}).encode() + b"\n")
        elif fault == "cut":
            if line:
                await response.write(line[: len(line) // 2])
            return _dropped(request)
        await response.write_eof()
        return response

    def _note(self, kind: str, path: str, body: bytes, status: int) -> None:
        if kind not in {"bind", "evict"} or status >= 300:
            return
        parts = path.split("/")  # /api/v1/namespaces/NAMESPACE/pods/NAME/binding
        found = json.loads(body)
        uid = found.get("metadata", {}).get("uid") or found.get("deleteOptions", {}).get("preconditions", {}).get("uid")
        node = found.get("target", {}).get("name", "")
        self.deeds.append(Deed(kind, parts[4], parts[6], uid or "", node))


def classify(method: str, path: str) -> str:
    """The class of a request."""
    bare, _, query = path.partition("?")
    if "/leases" in bare:
        return "lease"
    if method == "GET":
        return "watch" if "watch=" in query else "other"
    last = bare.rpartition("/")[2]
    return {"binding": "bind", "eviction": "evict", "status": "status"}.get(last, "other")


async def _read_lines(content: aiohttp.StreamReader, lines: Lines) -> None:
    """Put every line into the queue, and an empty one at the end."""
    loop = asyncio.get_running_loop()
    rest = b""
    try:
        async for chunk in content.iter_any():
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                lines.put_nowait((loop.time(), line + b"\n"))
    except aiohttp.ClientError:
        pass
    lines.put_nowait((loop.time(), b""))


async def _next(lines: Lines, seconds: float) -> tuple[float, bytes | None]:
    """When the next line came, and the line; None if none came in time; empty at the end."""
    try:
        async with asyncio.timeout(max(0.05, seconds)):
            return await lines.get()
    except TimeoutError:
        return 0.0, None


def _failure(code: int) -> dict[str, Any]:
    return {
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": _REASONS[code], "code": code, "message": "injected",
    }  # fmt: skip


def _status(code: int) -> web.Response:
    headers = {"Retry-After": "1"} if code in {429, 503} else {}
    return web.json_response(_failure(code), status=code, headers=headers)


def _dropped(request: web.Request) -> web.Response:
    """Close the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
