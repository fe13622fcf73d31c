"""The real wire against the fake server: what sockets, headers and rotating credentials do."""

import asyncio
import random
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web
from multidict import CIMultiDictProxy

from allotment_kube import Client, Reflector, errors
from allotment_kube.configuration import Configuration, Impersonation
from allotment_kube.credentials import Credentials, FixedCredentials, Identity, TokenFileCredentials, bearer
from allotment_kube.lease import Lease, LeaseSettings
from allotment_kube.resources import CONFIG_MAPS, LEASES, NODES
from allotment_kube.retries import NEVER_REPEAT
from allotment_kube.transport import Request
from fakes.api_server import FakeApiServer
from fakes.faults import Fault, FaultPlan, Verb
from fakes.http_server import listening, served


def config_map(name: str) -> dict[str, object]:
    return {"metadata": {"name": name, "namespace": "a"}}


class Records:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, int]] = []

    def observe(self, *, method: str, label: str, code: int, seconds: float) -> None:
        assert seconds >= 0.0
        self.seen.append((method, label, code))


async def test_requests_are_observed_by_label_and_code() -> None:
    records = Records()
    plan = FaultPlan()
    async with (
        served(FakeApiServer(), plan) as url,
        Client.connect(Configuration(url), observer=records, retries=NEVER_REPEAT) as client,
    ):
        await client.create(CONFIG_MAPS, config_map("c"))
        await client.find(NODES, "n")
        plan.script(Verb.CREATE, Fault.DROP_BEFORE)
        with pytest.raises(errors.OutcomeUnknownError):
            await client.create(CONFIG_MAPS, config_map("d"))

    assert records.seen == [("POST", "configmaps", 201), ("GET", "nodes", 404), ("POST", "configmaps", 0)]


@pytest.mark.parametrize("proxied", [False, True], ids=["directly", "by a proxy"])
async def test_a_crowd_of_slow_writes_does_not_hold_up_the_renewals_of_a_lease(*, proxied: bool) -> None:
    server, stuck, release = FakeApiServer(), asyncio.Event(), asyncio.Event()
    server.put(LEASES, {"metadata": {"name": "l", "namespace": "a"}, "spec": {}})

    async def respond(incoming: web.Request) -> web.Response:
        if incoming.method == "POST":
            stuck.set()
            await release.wait()
            return web.Response(status=409)
        found = server.handle(Request(incoming.method, incoming.path, body=await incoming.read() or None))
        return web.Response(status=found.code, body=found.body)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", respond)
    async with listening(application) as url:
        configuration = Configuration(url, proxy_url=url if proxied else "")
        async with Client.connect(configuration, connections=1) as client:
            crowd = [asyncio.create_task(client.create(CONFIG_MAPS, config_map(f"c{n}"))) for n in range(3)]
            await stuck.wait()
            patient = LeaseSettings(duration=300, renew_deadline=200, request_timeout=60)
            assert await Lease(client, "l", namespace="a", identity="me", settings=patient)._try_acquire()
            release.set()
            refused = await asyncio.gather(*crowd, return_exceptions=True)
    assert [type(error) for error in refused] == [errors.ConflictError] * 3


@pytest.mark.parametrize("fault", [Fault.DROP_BEFORE, Fault.DROP_AFTER])
async def test_a_dropped_write_has_an_unknown_outcome(fault: Fault) -> None:
    server, plan = FakeApiServer(), FaultPlan()
    plan.script(Verb.CREATE, fault)
    async with served(server, plan) as url, Client.connect(Configuration(url)) as client:
        with pytest.raises(errors.OutcomeUnknownError, match="POST /api/v1/namespaces/a/configmaps"):
            await client.create(CONFIG_MAPS, config_map("c"))

    assert len(server.objects(CONFIG_MAPS)) == (fault is Fault.DROP_AFTER)


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    async with listening(web.Application()) as url:
        pass
    async with Client.connect(Configuration(url), retries=NEVER_REPEAT) as client:
        with pytest.raises(errors.UnreachableError):
            await client.create(CONFIG_MAPS, config_map("c"))


async def test_a_reflector_follows_over_http_with_faults() -> None:
    server, plan = FakeApiServer(clock=asyncio.get_running_loop().time), FaultPlan()
    plan.script(Verb.WATCH, Fault.WATCH_CUT, Fault.UNAVAILABLE)
    async with served(server, plan) as url, Client.connect(Configuration(url), rng=random.Random(3)) as client:
        done = asyncio.Event()
        reflector = Reflector(client, CONFIG_MAPS, lambda _: done.set() if len(reflector) == 30 else None)
        running = asyncio.create_task(reflector.run())
        await reflector.synced()
        for number in range(30):
            server.put(CONFIG_MAPS, {**config_map(f"c{number}"), "data": {"large": "x" * 100_000}})
        async with asyncio.timeout(300.0):
            await done.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert len(reflector.objects()) == 30
    assert plan.injected[Verb.WATCH, Fault.WATCH_CUT] == 1


NOBODY_ELSE = Impersonation()


async def seen_headers(
    credentials: Credentials, impersonation: Impersonation = NOBODY_ELSE, requests: int = 1
) -> list[CIMultiDictProxy[str]]:
    """What a server sees of a client; it accepts only the token `good`."""
    seen: list[CIMultiDictProxy[str]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers)
        accepted = request.headers.get("Authorization") in {"Bearer good", None}
        return web.json_response({"metadata": {"name": "n"}}, status=200 if accepted else 401)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    async with listening(application) as url:
        configuration = Configuration(url, credentials=credentials, impersonation=impersonation)
        async with Client.connect(configuration, user_agent="tester/1") as client:
            for _ in range(requests):
                await client.get(NODES, "n")
    return seen


async def test_headers_say_who_asks_and_for_whom() -> None:
    impersonation = Impersonation("jane", ("devs", "ops"))
    headers = (await seen_headers(FixedCredentials(bearer("good")), impersonation))[0]

    assert headers["Authorization"] == "Bearer good"
    assert headers["User-Agent"] == "tester/1"
    assert headers["Accept-Encoding"] == "identity"
    assert headers["Impersonate-User"] == "jane"
    assert headers.getall("Impersonate-Group") == ["devs", "ops"]


class Renewable(Credentials):
    """Starts with a bad token; its plugin would give a good one."""

    def __init__(self) -> None:
        self.identity = bearer("expired")
        self.obtained = 0

    def current(self) -> Identity | None:
        return self.identity

    async def obtain(self, *, rejected: Identity | None) -> Identity:
        if rejected is self.identity:
            self.obtained += 1
            self.identity = bearer("good")
        return self.identity


async def test_a_rejected_credential_is_renewed_once() -> None:
    credentials = Renewable()

    seen = await seen_headers(credentials, requests=3)

    assert [headers["Authorization"] for headers in seen] == ["Bearer expired", *["Bearer good"] * 3]
    assert credentials.obtained == 1


async def test_a_rotated_token_file_is_read_on_rejection(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old", encoding="utf-8")
    credentials = TokenFileCredentials(file, reread_after=1e9)
    credentials.current()
    file.write_text("good", encoding="utf-8")

    seen = await seen_headers(credentials)

    assert [headers["Authorization"] for headers in seen] == ["Bearer old", "Bearer good"]


async def test_a_credential_that_stays_bad_is_unauthorized_and_unseen() -> None:
    with pytest.raises(errors.UnauthorizedError) as raised:
        await seen_headers(FixedCredentials(bearer("s3cret")))

    assert "s3cret" not in str(raised.value) + repr(raised.value)
    assert raised.value.__cause__ is None


def test_aiohttp_is_imported_by_who_opens_a_stream_only() -> None:
    program = "import sys, allotment_kube; print('aiohttp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"
