"""The scheduler's API: who is let in, what they see, and how its certificate comes about."""

import asyncio
import datetime as dt
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from cryptography import x509

from allotment_kube.certificates import KeyPair, authority, hosts_of, issue
from allotment_kube.client import Client
from allotment_kube.errors import UnavailableError
from allotment_kube.models import Object
from allotment_kube.resources import CONFIG_MAPS, SECRETS, Resource
from allotment_scheduler.shell.api import Api
from allotment_scheduler.shell.api_access import (
    ACCESS_REVIEWS,
    BURST,
    KEPT_SECONDS,
    PER_SECOND,
    Access,
    Right,
    TooManyTokensError,
    User,
)
from allotment_scheduler.shell.api_callers import Callers, demand_certificates, user_of
from allotment_scheduler.shell.api_certificate import NAME, Certificate
from allotment_scheduler.shell.api_pace import Pace
from allotment_scheduler.shell.api_views import Views
from fakes.api_server import FakeApiServer
from fakes.in_process import InProcessTransport

NOW = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)


class Reviews:
    """Answers reviews from a table: token to user, and which user may list pods of which namespace."""

    def __init__(self, users: Mapping[str, str], pods: Mapping[str, set[str]], admins: set[str]) -> None:
        self.users, self.pods, self.admins = users, pods, admins
        self.asked: list[str] = []
        self.broken = False

    async def create(self, resource: Resource[Any], body: Object, *, namespace: str = "", dry_run: bool = False) -> Any:
        assert not namespace
        assert not dry_run
        if self.broken:
            raise UnavailableError("no answer")
        self.asked.append(resource.kind)
        if resource is not ACCESS_REVIEWS:
            user = self.users.get(body["spec"]["token"])
            return {"status": {"authenticated": user is not None, "user": {"username": user}} if user else {}}
        user, wanted = body["spec"]["user"], body["spec"]["resourceAttributes"]
        if wanted["resource"] == "tenants":
            return {"status": {"allowed": user in self.admins}}
        return {"status": {"allowed": user in self.pods.get(wanted["namespace"], set())}}


class Shown:
    """Stands for the views: two tenants, each with the namespace of its name."""

    leading = True

    def tenant_of(self, namespace: str) -> str | None:
        return namespace if namespace in {"red", "blue"} else None

    def tenants(self, only: str | None = None) -> list[dict[str, Any]]:
        return [{"name": name} for name in ("red", "blue") if only in (None, name)]

    async def why(self, namespace: str, name: str) -> list[dict[str, Any]]:
        return [{"namespace": namespace, "pod": name}]

    def top(self, only: str | None = None) -> dict[str, Any]:
        return {"tenants": self.tenants(only)}


def reviews() -> Reviews:
    users = {"red-token": "rita", "root-token": "root", "odd-token": "odd"}
    return Reviews(users, {"red": {"rita"}, "plain": {"odd"}}, {"root"})


def api_of(
    shown: Shown,
    asked: Reviews,
    observe: Callable[[str, int, float], None] = lambda _path, _code, _seconds: None,
    context: ssl.SSLContext | None = None,
) -> Api:
    return Api(
        cast("Views", shown),
        Access(asked, clock=lambda: 0.0),
        cast("Certificate", SimpleNamespace(context=SimpleNamespace(newest=context))),
        cast("Callers", None),
        host="127.0.0.1",
        port=0,
        url=str,
        pace=Pace(time.monotonic),
        observe=observe,
    )


async def get(
    path: str, token: str = "", *, shown: Shown | None = None, asked: Reviews | None = None
) -> tuple[int, Any]:
    """Ask an API over plain HTTP; returns code and body."""
    served: list[tuple[str, int]] = []
    api = api_of(shown or Shown(), asked or reviews(), lambda path, code, _: served.append((path, code)))
    async with TestClient(TestServer(api.application())) as client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = await client.get(path, headers=headers)
        body = await answer.json()
    assert served == [(path.partition("?")[0], answer.status)]
    return answer.status, body


@pytest.mark.parametrize(
    ("path", "token", "want"),
    [
        ("/v1/tenants", "root-token", [{"name": "red"}, {"name": "blue"}]),
        ("/v1/tenants?namespace=red", "red-token", [{"name": "red"}]),
        ("/v1/top?namespace=red", "red-token", {"tenants": [{"name": "red"}]}),
        ("/v1/why?namespace=red&name=p", "red-token", [{"namespace": "red", "pod": "p"}]),
    ],
)
async def test_one_sees_what_one_may(path: str, token: str, want: Any) -> None:
    assert await get(path, token) == (200, want)


@pytest.mark.parametrize(
    ("path", "token", "code", "says"),
    [
        ("/v1/tenants", "", 401, "bearer token"),
        ("/v1/tenants", "stolen", 401, "does not accept"),
        ("/v1/tenants", "red-token", 403, "rita may not list tenants.allotment.dev of the whole cluster"),
        ("/v1/tenants?namespace=blue", "red-token", 403, "rita may not list pods in namespace blue"),
        ("/v1/top", "red-token", 403, "?namespace="),
        ("/v1/why?namespace=blue&name=p", "red-token", 403, "namespace blue"),
        ("/v1/why?name=p", "red-token", 400, "give namespace and name"),
        ("/v1/tenants?namespace=plain", "odd-token", 404, "belongs to no tenant"),
    ],
)
async def test_everything_else_is_refused_in_words(path: str, token: str, code: int, says: str) -> None:
    got, body = await get(path, token)

    assert (got, body["code"]) == (code, code)
    assert says in body["message"]


async def test_a_copy_that_does_not_lead_says_so_and_asks_nobody() -> None:
    shown, asked = Shown(), reviews()
    shown.leading = False

    code, body = await get("/v1/tenants", "root-token", shown=shown, asked=asked)

    assert (code, asked.asked) == (503, [])
    assert "does not lead" in body["message"]


async def test_who_cannot_be_checked_is_not_let_in() -> None:
    asked = reviews()
    asked.broken = True

    assert (await get("/v1/tenants", "root-token", asked=asked))[0] == 503


async def test_answers_are_kept_for_a_while_and_rights_end() -> None:
    asked, clock = reviews(), [0.0]
    access = Access(asked, clock=lambda: clock[0])
    user = await access.user("red-token", address="10.0.0.1")
    assert isinstance(user, User)
    right = Right("list", "", "pods", "red")
    assert [await access.allowed(user, right) for _ in range(3)] == [True] * 3
    assert await access.user("red-token", address="10.0.0.1") == user
    assert asked.asked == ["TokenReview", "SubjectAccessReview"]

    asked.pods = {}
    clock[0] = KEPT_SECONDS

    assert not await access.allowed(user, right)


def test_who_asks_too_often_waits_and_nobody_else_does() -> None:
    clock = [0.0]
    access = Access(reviews(), clock=lambda: clock[0])
    rita, root = (User(name, "", (), ()) for name in ("rita", "root"))

    assert [access.has_budget(rita) for _ in range(int(BURST) + 2)] == [True] * int(BURST) + [False] * 2
    assert access.has_budget(root)
    clock[0] += 1 / PER_SECOND
    assert [access.has_budget(rita) for _ in range(2)] == [True, False]


async def test_too_many_questions_are_refused_with_a_time_to_ask_again() -> None:
    api = api_of(Shown(), reviews())
    async with TestClient(TestServer(api.application())) as client:
        headers = {"Authorization": "Bearer root-token"}
        answers = [await client.get("/v1/top", headers=headers) for _ in range(int(BURST) + 1)]

    assert [answer.status for answer in answers] == [200] * int(BURST) + [429]
    assert answers[-1].headers["Retry-After"] == "1"


async def test_no_more_questions_wait_than_can_be_answered() -> None:
    shown, may_answer = Shown(), asyncio.Event()

    async def slow(namespace: str, name: str) -> list[dict[str, Any]]:
        await may_answer.wait()
        return [{"namespace": namespace, "pod": name}]

    shown.why = slow  # type: ignore[method-assign] # it takes its time
    api = api_of(shown, reviews())
    api._in_line = 195
    async with TestClient(TestServer(api.application())) as client:
        headers = {"Authorization": "Bearer red-token"}
        path = "/v1/why?namespace=red&name=p"
        asking = [asyncio.create_task(client.get(path, headers=headers)) for _ in range(9)]
        done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        assert {task.result().status for task in done} == {503}
        may_answer.set()
        codes = sorted([(await task).status for task in asking])

    assert codes == [200] * 5 + [503] * 4


async def test_tokens_that_come_to_nothing_cost_the_api_server_only_so_much() -> None:
    asked = reviews()
    api = api_of(Shown(), asked)
    async with TestClient(TestServer(api.application())) as client:

        async def show(token: str) -> aiohttp.ClientResponse:
            return await client.get("/v1/top", headers={"Authorization": f"Bearer {token}"})

        assert (await show("root-token")).status == 200
        refused = [await show(f"stolen-{number}") for number in range(int(BURST) + 5)]
        known = await show("root-token")

    assert [answer.status for answer in refused] == [401] * int(BURST) + [429] * 5
    assert refused[-1].headers["Retry-After"] == "1"
    assert asked.asked.count("TokenReview") == 1 + BURST
    assert known.status == 200, "who is known already is not asked about again"


async def test_good_tokens_are_not_counted_and_other_addresses_have_budgets_of_their_own() -> None:
    asked, clock = reviews(), [0.0]
    asked.users = {f"good-{number}": "rita" for number in range(3 * int(BURST))}
    access = Access(asked, clock=lambda: clock[0])

    assert all([await access.user(token, address="10.0.0.1") for token in asked.users])
    for number in range(int(BURST)):
        assert await access.user(f"bad-{number}", address="10.0.0.1") is None
    with pytest.raises(TooManyTokensError, match=r"10\.0\.0\.1"):
        await access.user("bad", address="10.0.0.1")
    assert await access.user("bad", address="10.0.0.2") is None
    clock[0] += 1 / PER_SECOND
    assert await access.user("worse", address="10.0.0.1") is None


def empty(kind: str) -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": NAME, "namespace": "system"}}


def fresh(server: FakeApiServer) -> Client:
    return Client(InProcessTransport(server))


async def test_copies_share_one_authority_and_publish_it() -> None:
    server = FakeApiServer()
    server.put(SECRETS, empty("Secret"))
    server.put(CONFIG_MAPS, empty("ConfigMap"))
    copies = [Certificate(fresh(server), namespace="system", given=None, now=lambda: NOW) for _ in range(3)]

    await asyncio.gather(*(copy.refresh() for copy in copies))
    published = []
    for copy in copies:
        await copy.publish("https://127.0.0.1:1")
        published.append(await fresh(server).get(CONFIG_MAPS.untyped, NAME, namespace="system"))

    assert len({each["data"]["ca.crt"] for each in published}) == 1
    assert published[0]["data"]["serverName"] == "allotment-scheduler-api.system.svc"
    assert all(copy.context.get_ca_certs() == [] for copy in copies)


async def test_an_administrators_certificate_is_read_again_when_it_changes(tmp_path: Path) -> None:
    def write(days: int) -> bytes:
        signer = authority("bank", now=NOW)
        leaf = issue(signer, "api", now=NOW, hosts=["allotment-scheduler-api.system.svc"], lifetime=dt.timedelta(days))
        (tmp_path / "tls.crt").write_bytes(leaf.certificate_pem)
        (tmp_path / "tls.key").write_bytes(leaf.key_pem)
        (tmp_path / "ca.crt").write_bytes(signer.certificate_pem)
        return signer.certificate_pem

    server = FakeApiServer()
    server.put(CONFIG_MAPS, empty("ConfigMap"))
    client = fresh(server)
    certificate = Certificate(client, namespace="system", given=tmp_path, now=lambda: NOW)
    for days in (1, 2):
        signer = write(days)
        await certificate.refresh()
        await certificate.publish("https://x")
        told = await client.get(CONFIG_MAPS.untyped, NAME, namespace="system")

        assert told["data"]["ca.crt"].encode() == signer
    assert "allotment-scheduler-api.system.svc" in hosts_of(
        x509.load_pem_x509_certificate((tmp_path / "tls.crt").read_bytes())
    )


def pem(folder: Path, pair: KeyPair) -> Path:
    file = folder / "pair.pem"
    file.write_bytes(pair.certificate_pem + pair.key_pem)
    return file


@pytest.mark.parametrize(
    ("shown", "code", "says"),
    [
        ("of the cluster", 200, ""),
        ("of the cluster, for another tenant", 403, "bob may not list pods in namespace red"),
        ("none", 401, "client certificate"),
        ("of a stranger", 0, ""),
        ("of a server", 0, ""),
        ("run out", 0, ""),
    ],
)
async def test_a_client_certificate_says_who_asks(shown: str, code: int, says: str, tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    cluster, stranger = authority("cluster", now=now), authority("stranger", now=now)
    old = now - dt.timedelta(days=9)
    pairs = {
        "of the cluster": issue(cluster, "rita", now=now, organizations=["red"], client=True),
        "of the cluster, for another tenant": issue(cluster, "bob", now=now, client=True),
        "of a stranger": issue(stranger, "rita", now=now, client=True),
        "of a server": issue(cluster, "rita", now=now, hosts=["rita"]),
        "run out": issue(cluster, "rita", now=old, client=True, lifetime=dt.timedelta(days=1)),
    }
    serving = issue(cluster, "api", now=now, hosts=["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem(tmp_path, serving))
    demand_certificates(context, cluster.certificate_pem.decode())
    trusting = ssl.create_default_context(cadata=cluster.certificate_pem.decode())
    if shown in pairs:
        trusting.load_cert_chain(pem(tmp_path, pairs[shown]))
    server = TestServer(api_of(Shown(), reviews(), context=context).application(), scheme="https")
    await server.start_server(ssl=context)
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as session,
            session.get(server.make_url("/v1/tenants?namespace=red")) as answer,
        ):
            body = await answer.json()
            assert answer.status == code
            assert code == 200 or says in body["message"]
    except aiohttp.ClientError:
        assert code == 0
    finally:
        await server.close()


@pytest.mark.parametrize(
    ("subject", "want"),
    [
        (
            [("organizationName", "a"), ("organizationName", "b"), ("commonName", "rita")],
            User("rita", "", ("a", "b", "system:authenticated"), ()),
        ),
        ([("organizationName", "a")], None),
        ([("commonName", "")], None),
        ([("commonName", "rita"), ("commonName", "root")], None),
    ],
    ids=["a name and groups", "no name", "an empty name", "two names"],
)
def test_a_certificates_subject_names_a_user_as_for_the_api_server(
    subject: list[tuple[str, str]], want: User | None
) -> None:
    assert user_of({"subject": tuple((each,) for each in subject)}) == want
    assert user_of(None) is None


async def test_client_authorities_are_read_where_the_cluster_publishes_them() -> None:
    server = FakeApiServer()
    callers = Callers(fresh(server))

    assert await callers.authorities() == ""

    metadata = {"name": "extension-apiserver-authentication", "namespace": "kube-system"}
    server.put(
        CONFIG_MAPS, {"metadata": metadata, "data": {"client-ca-file": "PEM", "requestheader-client-ca-file": "no"}}
    )

    assert await callers.authorities() == "PEM"
