"""The scheduler's HTTPS API: who has what, why a pod waits, how busy it is, from the live state.

    GET /v1/tenants[?namespace=NS]        rows as `allot tenants` prints them
    GET /v1/why?namespace=NS&name=NAME    a pod, or the pods of a Job
    GET /v1/top[?namespace=NS]            the load

With a namespace one sees the tenant that owns it, and needs the right to list pods there; without, everybody, and
needs the right to list Tenants. Callers show a bearer token (`api_access`) or a client certificate (`api_callers`).

Only the leader answers: what another copy knows is as true, but nobody acts by it. A copy that does not lead says 503;
the next connection may meet the one that does. Errors are JSON: {"code": 403, "message": "..."}.

Once it serves, it goes on serving: certificates and authorities that change are used from the next handshake on, and
where they cannot be read, or make no sense, the last good ones stay. A connection of the time before is answered once
more and then closed, so that nobody stays in by an authority that is trusted no longer.

It must never hold up deciding: answers are bounded, few at a time, and take but a part of the loop's time in all
(`api_pace`); a fault in here ends neither the loop nor the program.
"""

import asyncio
import datetime as dt
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from allotment_kube.errors import ApiError
from allotment_kube.program import logs
from allotment_scheduler.shell.api_access import Access, Right, TooManyTokensError, User
from allotment_scheduler.shell.api_callers import Callers, user_of
from allotment_scheduler.shell.api_certificate import Certificate
from allotment_scheduler.shell.api_pace import Pace
from allotment_scheduler.shell.api_views import Views

_logger = logging.getLogger(__name__)
LIST_TENANTS: Final = Right("list", "allotment.dev", "tenants")
_AT_ONCE: Final = 4
_MOST_IN_LINE: Final = 200
"""Questions that may be under way or wait to be."""
_LOOK_SECONDS: Final = 60.0
_TICK_SECONDS: Final = 1.0
_AFTER_FAULT: Final = 15.0
_IDLE_SECONDS: Final = 30.0
_EXPECTED: Final = (ApiError, OSError, ValueError, ssl.SSLError)


class Api:
    """Serves the views to those who may see them.

    Args:
        views: what there is to see.
        access: who may.
        certificate: how we prove who we are.
        callers: whose client certificates we believe.
        host: address to listen on.
        port: 0 takes any free one.
        pace: lets answers wait where too much is asked in all.
        observe: told path, code and seconds of every answer, for metrics.
        look_seconds: how often certificates and authorities are looked at.
    """

    def __init__(
        self,
        views: Views,
        access: Access,
        certificate: Certificate,
        callers: Callers,
        *,
        host: str,
        port: int,
        url: Callable[[int], str],
        pace: Pace,
        observe: Callable[[str, int, float], None],
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self._views = views
        self._access = access
        self._certificate = certificate
        self._callers = callers
        self._host = host
        self._port = port
        self._url = url
        self._observe = observe
        self._pace = pace
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._in_line = 0
        self._look_seconds = look_seconds
        self._said: dict[str, str] = {}
        self.port: int | None = None
        """Where it listens; None while it does not."""

    async def run(self) -> None:
        """Serve until cancelled, beginning again after a fault."""
        while True:
            try:
                await self._attempt("the API is not served", self._serve())
            except Exception:
                _logger.exception("the API failed; it begins again")
            await asyncio.sleep(_AFTER_FAULT)

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application(client_max_size=1024)
        for path, view in (("/v1/tenants", self._tenants), ("/v1/why", self._why), ("/v1/top", self._top)):
            application.router.add_get(path, self._guarded(path, view))
        return application

    async def _serve(self) -> None:
        """Listen until cancelled."""
        await self._certificate.refresh()
        again = self._due(good=await self._look_at_authorities())
        runner = web.AppRunner(
            self.application(), access_log=None, shutdown_timeout=1.0, keepalive_timeout=_IDLE_SECONDS
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._host, self._port, ssl_context=self._certificate.context)
            await site.start()
            self.port = int(runner.addresses[0][1])
            logs.event(_logger, "the API is served", port=self.port)
            await self._stay_current(self._url(self.port), again)
        finally:
            self.port = None
            await runner.cleanup()

    async def _stay_current(self, url: str, again: float) -> None:
        """Look from time to time at what may have changed, and tell readers while this copy leads."""
        told = False
        while True:
            if time.monotonic() >= again:
                kept = "the API's certificate stays the last good one"
                good = await self._attempt(kept, self._certificate.refresh())
                again, told = self._due(good=await self._look_at_authorities() and good), False
            if not self._views.leading:
                told = False
            elif not told:
                told = await self._attempt("where the API is cannot be told", self._certificate.publish(url))
            await asyncio.sleep(min(_TICK_SECONDS, self._look_seconds))

    def _due(self, *, good: bool) -> float:
        """When to look again."""
        return time.monotonic() + (self._look_seconds if good else min(_AFTER_FAULT, self._look_seconds))

    async def _look_at_authorities(self) -> bool:
        async def look() -> None:
            await self._certificate.trust(await self._callers.authorities())

        return await self._attempt("the authorities of client certificates stay the last good ones", look())

    async def _attempt(self, but: str, work: Awaitable[None]) -> bool:
        """Whether something succeeded; a failure is logged once, and again only if it changes."""
        try:
            await work
        except _EXPECTED as error:
            if self._said.get(but) != str(error):
                self._said[but] = str(error)
                _logger.warning("%s: %s", but, error)
            return False
        self._said.pop(but, None)
        return True

    # --- answering ----------------------------------------------------------------------------------------------

    def _guarded(
        self, path: str, view: Callable[[web.Request], Awaitable[Any]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            began = time.monotonic()
            response = await self._answer(request, view)
            if self._is_outdated(request):
                response.force_close()
            self._observe(path, response.status, time.monotonic() - began)
            return response

        return answer

    def _is_outdated(self, request: web.Request) -> bool:
        """Whether the connection began with a context that has been replaced."""
        tls = request.get_extra_info("ssl_object")
        return tls is not None and tls.context is not self._certificate.context.newest

    async def _answer(self, request: web.Request, view: Callable[[web.Request], Awaitable[Any]]) -> web.Response:
        try:
            if not self._views.leading:
                return refusal(503, "this copy of the scheduler does not lead; ask again to reach another one")
            if self._in_line >= _MOST_IN_LINE:
                return refusal(503, "too many ask at once; ask again in a second")
            return await self._in_turn(request, view)
        except _RefusedError as refused:
            return refusal(refused.code, str(refused))
        except ApiError as error:
            _logger.warning("the API server could not be asked who may see this: %s", error)
            return refusal(503, "the API server could not be asked whether you may see this; try again")

    async def _in_turn(self, request: web.Request, view: Callable[[web.Request], Awaitable[Any]]) -> web.Response:
        self._in_line += 1
        try:
            async with self._slots:
                found = await view(request)
                async with self._pace.turn():
                    return web.json_response(found)
        finally:
            self._in_line -= 1

    async def _tenants(self, request: web.Request) -> Any:  # noqa: ANN401 - JSON
        return self._views.tenants(await self._scope(request))

    async def _top(self, request: web.Request) -> Any:  # noqa: ANN401 - JSON
        return self._views.top(await self._scope(request))

    async def _why(self, request: web.Request) -> Any:  # noqa: ANN401 - JSON
        namespace, name = request.query.get("namespace", ""), request.query.get("name", "")
        if not namespace or not name:
            raise _RefusedError(400, "give namespace and name, as in /v1/why?namespace=team-a&name=train-0")
        await self._permit(request, Right("list", "", "pods", namespace))
        return await self._views.why(namespace, name)

    async def _scope(self, request: web.Request) -> str | None:
        """The one tenant that the caller asks for and may see; None for all of them."""
        namespace = request.query.get("namespace", "")
        if not namespace:
            await self._permit(request, LIST_TENANTS)
            return None
        await self._permit(request, Right("list", "", "pods", namespace))
        tenant = self._views.tenant_of(namespace)
        if tenant is None:
            raise _RefusedError(404, f"namespace {namespace} belongs to no tenant")
        return tenant

    async def _permit(self, request: web.Request, right: Right) -> None:
        user = await self._caller(request)
        if not self._access.has_budget(user):
            raise _RefusedError(429, f"{user.name} asks too often; ask again in a second")
        if not await self._access.allowed(user, right):
            hint = "; ask for one namespace with ?namespace=NAME" if right is LIST_TENANTS else ""
            raise _RefusedError(403, f"{user.name} may not {right}{hint}")

    async def _caller(self, request: web.Request) -> User:
        """Who asks: by a token, or where there is none by the certificate of the connection."""
        shown = request.headers.get("Authorization")
        if shown is None:
            known = user_of(request.get_extra_info("peercert"))
            if known is None:
                raise _RefusedError(401, "show a bearer token or a client certificate of this cluster")
            return known
        scheme, _, token = shown.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _RefusedError(401, "show a bearer token of this cluster")
        try:
            user = await self._access.user(token.strip(), address=request.remote or "")
        except TooManyTokensError as error:
            raise _RefusedError(429, str(error)) from error
        if user is None:
            raise _RefusedError(401, "the cluster does not accept this token")
        return user


class _RefusedError(Exception):
    """What to answer instead."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def refusal(code: int, message: str) -> web.Response:
    """An answer that is none."""
    headers = {"Retry-After": "1"} if code in {429, 503} else {"WWW-Authenticate": "Bearer"} if code == 401 else {}
    return web.json_response({"code": code, "message": message}, status=code, headers=headers)


def utc_now() -> dt.datetime:
    """The present time."""
    return dt.datetime.now(dt.UTC)
