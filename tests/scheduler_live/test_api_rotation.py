"""Certificates and authorities of the scheduler's API change while it serves: nobody is turned away for it."""

import asyncio
import datetime as dt
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from allotment_kube.certificates import KeyPair, authority, issue
from allotment_kube.client import Client
from allotment_kube.errors import ApiError, ForbiddenError, UnavailableError
from allotment_kube.models import Object
from allotment_kube.resources import CONFIG_MAPS, SECRETS, Resource
from allotment_scheduler.shell.api import Api
from allotment_scheduler.shell.api_access import ACCESS_REVIEWS, Access, User
from allotment_scheduler.shell.api_callers import Callers
from allotment_scheduler.shell.api_certificate import LOOK_AT_AUTHORITY, NAME, Certificate
from allotment_scheduler.shell.api_pace import Pace
from allotment_scheduler.shell.api_views import Views
from fakes.api_server import FakeApiServer
from fakes.in_process import InProcessTransport

HOST = "allotment-scheduler-api.system.svc"
LOOK = 0.02


class Cluster:
    """Publishes authorities of client certificates, and lets everybody see everything."""

    def __init__(self, *signers: KeyPair) -> None:
        self.fault: ApiError | None = None
        self.trust(*signers)

    def trust(self, *signers: KeyPair) -> None:
        self.published = "".join(signer.certificate_pem.decode() for signer in signers)

    async def get(self, resource: Resource[Any], name: str, *, namespace: str = "", subresource: str = "") -> Any:
        assert (resource.plural, namespace, subresource) == ("configmaps", "kube-system", "")
        if self.fault is not None:
            raise self.fault
        return {"metadata": {"name": name}, "data": {"client-ca-file": self.published}}

    async def create(self, resource: Resource[Any], body: Object, *, namespace: str = "", dry_run: bool = False) -> Any:
        assert (bool(body["spec"]), namespace, dry_run) == (True, "", False)
        if resource is ACCESS_REVIEWS:
            return {"status": {"allowed": True}}
        return {"status": {"authenticated": True, "user": {"username": "rita"}}}


class Unlimited(Access):
    """Nobody asks too often."""

    def has_budget(self, user: User) -> bool:
        return bool(user.name)


class Shown:
    leading = True

    def tenants(self, only: str | None = None) -> list[dict[str, Any]]:
        return [{"name": only or "red"}]


@dataclass
class Served:
    """An API that listens, and what its callers know of it."""

    api: Api
    certificate: Certificate
    trusted: bytes
    folder: Path
    asked: int = 0
    refused: list[str] = field(default_factory=list)

    def context(self, shown: KeyPair | None) -> ssl.SSLContext:
        made = ssl.create_default_context(cadata=self.trusted.decode())
        if shown is not None:
            pem = self.folder / f"{shown.certificate.serial_number}.pem"
            pem.write_bytes(shown.certificate_pem + shown.key_pem)
            made.load_cert_chain(pem)
        return made

    async def ask(self, session: aiohttp.ClientSession, context: ssl.SSLContext, *, token: bool) -> int:
        """The answer's code; 0 where there is none."""
        headers = {"Authorization": "Bearer t"} if token else {}
        url = f"https://127.0.0.1:{self.api.port}/v1/tenants"
        try:
            async with session.get(url, ssl=context, server_hostname=HOST, headers=headers) as answer:
                await answer.read()
                return answer.status
        except aiohttp.ClientError as error:
            self.refused.append(str(error))
            return 0

    async def go_on_asking(self, shown: KeyPair | None, *, keep: bool) -> None:
        """Ask until cancelled, on one connection or on a new one each time; every answer must be one."""
        context = self.context(shown)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=not keep)) as session:
            while True:
                code = await self.ask(session, context, token=shown is None)
                if code != 200:
                    self.refused.append(f"HTTP {code}")
                self.asked += 1
                await asyncio.sleep(0)

    async def code(self, shown: KeyPair | None) -> int:
        """The answer to one question on a new connection."""
        async with aiohttp.ClientSession() as session:
            return await self.ask(session, self.context(shown), token=shown is None)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():  # noqa: ASYNC110 - what it waits for happens inside the API, which tells nobody
                await asyncio.sleep(LOOK)

    async def answered(self, more: int = 10) -> None:
        """Wait until so many more questions have been answered."""
        wanted = self.asked + more
        await self.until(lambda: self.asked >= wanted)


@asynccontextmanager
async def serving(
    cluster: Cluster, certificate: Certificate, trusted: Callable[[], bytes], folder: Path
) -> AsyncIterator[Served]:
    api = Api(
        cast("Views", Shown()),
        Unlimited(cluster, clock=lambda: 0.0),
        certificate,
        Callers(cluster),
        host="127.0.0.1",
        port=0,
        url=lambda port: f"https://127.0.0.1:{port}",
        pace=Pace(time.monotonic),
        observe=lambda _path, _code, _seconds: None,
        look_seconds=LOOK,
    )
    running = asyncio.create_task(api.run())
    served = Served(api, certificate, b"", folder)
    try:
        await served.until(lambda: api.port is not None)
        served.trusted = trusted()
        yield served
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def fresh_server() -> FakeApiServer:
    server = FakeApiServer()
    for resource, kind in ((SECRETS, "Secret"), (CONFIG_MAPS, "ConfigMap")):
        server.put(resource, {"apiVersion": "v1", "kind": kind, "metadata": {"name": NAME, "namespace": "system"}})
    return server


def write(folder: Path, signer: KeyPair, pair: KeyPair) -> None:
    (folder / "ca.crt").write_bytes(signer.certificate_pem)
    (folder / "tls.crt").write_bytes(pair.certificate_pem)
    (folder / "tls.key").write_bytes(pair.key_pem)


def intermediate(root: KeyPair, now: dt.datetime) -> KeyPair:
    """An authority that another one has signed."""
    made = authority("between", now=now)
    signed = (
        x509.CertificateBuilder()
        .subject_name(made.certificate.subject)
        .issuer_name(root.certificate.subject)
        .public_key(made.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(made.certificate.not_valid_before_utc)
        .not_valid_after(made.certificate.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(root.key, hashes.SHA256())
    )
    return KeyPair(signed, made.key)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_no_request_fails_while_certificates_and_authorities_are_exchanged(
    loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    now = dt.datetime.now(dt.UTC)
    signer, old, new = (authority(name, now=now) for name in ("bank", "old", "new"))
    rita, rosa = (issue(by, name, now=now, client=True) for by, name in ((old, "rita"), (new, "rosa")))
    given = tmp_path / "given"
    given.mkdir()
    write(given, signer, issue(signer, HOST, now=now, hosts=[HOST]))
    cluster = Cluster(old)

    async def story() -> None:
        client = Client(InProcessTransport(fresh_server()))
        certificate = Certificate(client, namespace="system", given=given, now=lambda: now)
        async with serving(cluster, certificate, lambda: signer.certificate_pem, tmp_path) as served:
            port, first = served.api.port, certificate.context.newest
            async with asyncio.TaskGroup() as group:
                askers = [
                    group.create_task(served.go_on_asking(shown, keep=keep))
                    for shown in (rita, None)
                    for keep in (True, False)
                ]
                await served.answered()
                cluster.trust(old, new)
                await served.until(lambda: certificate.context.newest is not first)
                await served.answered()
                second = certificate.context.newest
                write(given, signer, issue(signer, HOST, now=now, hosts=[HOST]))
                await served.until(lambda: certificate.context.newest is not second)
                await served.answered()
                assert await served.code(rosa) == 200
                for fault in (UnavailableError("no answer"), ForbiddenError("no right")):
                    cluster.fault = fault
                    await served.answered()
                (given / "tls.key").write_bytes(b"half of a key")
                cluster.fault, cluster.published = None, "no certificate"
                await served.answered()
                for asker in askers:
                    asker.cancel()
            assert (served.refused, served.api.port) == ([], port)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(story())


async def test_who_is_trusted_no_longer_is_answered_once_more_and_then_not(tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    signer, old, new = (authority(name, now=now) for name in ("bank", "old", "new"))
    rita = issue(old, "rita", now=now, client=True)
    write(tmp_path, signer, issue(signer, HOST, now=now, hosts=[HOST]))
    cluster = Cluster(old)
    certificate = Certificate(
        Client(InProcessTransport(fresh_server())), namespace="system", given=tmp_path, now=lambda: now
    )
    async with serving(cluster, certificate, lambda: signer.certificate_pem, tmp_path) as served:
        context, before = served.context(rita), certificate.context.newest
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as kept:
            assert await served.ask(kept, context, token=False) == 200
            cluster.trust(new)
            await served.until(lambda: certificate.context.newest is not before)

            assert await served.ask(kept, context, token=False) == 200
            assert await served.ask(kept, context, token=False) == 0


async def test_people_are_known_by_an_authority_that_another_one_signed(tmp_path: Path) -> None:
    """The API server trusts each certificate of its bundle for itself; a cluster may be given an intermediate one."""
    now = dt.datetime.now(dt.UTC)
    root = authority("root", now=now)
    between = intermediate(root, now)
    rita = issue(between, "rita", now=now, client=True)
    signer = authority("bank", now=now)
    write(tmp_path, signer, issue(signer, HOST, now=now, hosts=[HOST]))
    certificate = Certificate(
        Client(InProcessTransport(fresh_server())), namespace="system", given=tmp_path, now=lambda: now
    )
    async with serving(Cluster(between), certificate, lambda: signer.certificate_pem, tmp_path) as served:
        assert await served.code(rita) == 200
        assert await served.code(issue(root, "rita", now=now, client=True)) == 0


async def test_copies_follow_when_the_common_authority_is_replaced(tmp_path: Path) -> None:
    now = [dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)]
    server = fresh_server()
    client = Client(InProcessTransport(server))
    first, second = (Certificate(client, namespace="system", given=None, now=lambda: now[0]) for _ in range(2))

    async def published() -> bytes:
        found = await client.get(CONFIG_MAPS.untyped, NAME, namespace="system")
        return str(found["data"]["ca.crt"]).encode()

    await first.refresh()
    await first.publish("https://x")
    before = await published()
    async with serving(Cluster(), second, lambda: before, tmp_path) as served:
        assert await served.code(None) == 200
        server.put(SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME, "namespace": "system"}})
        now[0] += LOOK_AT_AUTHORITY
        await first.refresh()
        await first.publish("https://x")
        async with asyncio.timeout(60):
            while served.trusted == before or await served.code(None) != 200:
                await asyncio.sleep(LOOK)
                served.trusted = await published()
