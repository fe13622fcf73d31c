"""Asking the scheduler's API: what is shown to it, how often it is asked, and what is said where nobody answers."""

import datetime as dt
import json
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from allotment_cli.scheduler_api import NAME, RefusedError, UnreachableError, ask
from allotment_kube.certificates import KeyPair, authority, issue
from allotment_kube.configuration import load_configuration
from allotment_kube.resources import CONFIG_MAPS
from fakes.api_server import FakeApiServer
from fakes.http_server import listening, served

HOST = "allotment-scheduler-api.allotment-system.svc"
NOW = dt.datetime.now(dt.UTC)


class Scheduler:
    """Takes note of who asks for what, and answers what the test says."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self.answers = list(answers) or [(200, [])]
        self.asked: list[tuple[str, str, str]] = []

    async def answer(self, request: web.Request) -> web.Response:
        certificate = request.get_extra_info("peercert") or {}
        names = [value for rdn in certificate.get("subject", ()) for key, value in rdn if key == "commonName"]
        self.asked.append((request.path_qs, request.headers.get("Authorization", ""), "".join(names)))
        code, said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.json_response(said, status=code)


def pem(folder: Path, name: str, pair: KeyPair) -> Path:
    (folder / f"{name}.crt").write_bytes(pair.certificate_pem)
    (folder / f"{name}.key").write_bytes(pair.key_pem)
    (folder / f"{name}.pem").write_bytes(pair.certificate_pem + pair.key_pem)
    return folder / f"{name}.pem"


@asynccontextmanager
async def cluster(scheduler: Scheduler, folder: Path) -> AsyncIterator[Callable[..., Path]]:
    """An API server that tells where the scheduler's API is; yields what writes a kubeconfig for a user."""
    signer = authority("cluster", now=NOW)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem(folder, "api", issue(signer, HOST, now=NOW, hosts=[HOST])))
    context.load_verify_locations(cadata=signer.certificate_pem.decode())
    context.verify_mode = ssl.CERT_OPTIONAL
    pem(folder, "rita", issue(signer, "rita", now=NOW, client=True))
    application = web.Application()
    application.router.add_get("/{path:.*}", scheduler.answer)
    async with listening(application, context) as scheduler_url:
        told = {"url": scheduler_url, "serverName": HOST, "ca.crt": signer.certificate_pem.decode()}
        kube = FakeApiServer()
        for namespace in ("allotment-system", "platform"):
            kube.put(CONFIG_MAPS, {"metadata": {"name": NAME, "namespace": namespace}, "data": told})
        async with served(kube) as url:

            def kubeconfig(**user: Any) -> Path:
                file = folder / "kubeconfig"
                of = {"cluster": "c", "user": "u", "namespace": "red"}
                config = {
                    "clusters": [{"name": "c", "cluster": {"server": url}}],
                    "users": [{"name": "u", "user": user}],
                    "contexts": [{"name": "x", "context": of}],
                    "current-context": "x",
                }
                file.write_text(yaml.safe_dump(config))
                return file

            yield kubeconfig


def of_rita(folder: Path) -> dict[str, str]:
    return {"client-certificate": str(folder / "rita.crt"), "client-key": str(folder / "rita.key")}


async def question(kubeconfig: Path, *, url: str = "", system: str = "allotment-system") -> Any:
    return await ask("/v1/tenants", {}, configuration=load_configuration(kubeconfig), url=url, system=system)


async def test_a_certificate_is_shown_only_where_there_is_no_token(tmp_path: Path) -> None:
    """The scheduler need not trust who signed it; the handshake would end, although the token is good."""
    scheduler = Scheduler((200, [{"name": "red"}]))
    async with cluster(scheduler, tmp_path) as kubeconfig:
        assert await question(kubeconfig(token="t", **of_rita(tmp_path))) == [{"name": "red"}]
        assert await question(kubeconfig(**of_rita(tmp_path))) == [{"name": "red"}]

    assert [(token, name) for _, token, name in scheduler.asked] == [("Bearer t", ""), ("", "rita")]


async def test_a_copy_that_does_not_lead_is_asked_again(tmp_path: Path) -> None:
    scheduler = Scheduler((503, {"message": "this copy does not lead"}), (200, ["answer"]))
    async with cluster(scheduler, tmp_path) as kubeconfig:
        assert await question(kubeconfig(token="t")) == ["answer"]

    assert len(scheduler.asked) == 2


async def test_who_may_not_see_all_is_told_of_the_own_namespace(tmp_path: Path) -> None:
    scheduler = Scheduler((403, {"message": "no"}), (200, ["own"]), (403, {"message": "not that one either"}))
    async with cluster(scheduler, tmp_path) as kubeconfig:
        assert await question(kubeconfig(token="t")) == ["own"]
        with pytest.raises(RefusedError, match="not that one either"):
            await question(kubeconfig(token="t"))

    assert [path for path, _, _ in scheduler.asked][:2] == ["/v1/tenants", "/v1/tenants?namespace=red"]


@pytest.mark.parametrize(
    ("user", "given", "says"),
    [
        ({}, {}, "neither a token nor a client certificate"),
        ({"token": "t", "as": "root"}, {}, "whether you may act as root"),
        ({"token": "t"}, {"system": "elsewhere"}, "namespace elsewhere has no ConfigMap"),
        ({"token": "t"}, {"url": "https://127.0.0.1:1"}, "is a scheduler running?"),
        ({"token": "t"}, {"url": "127.0.0.1:8443"}, "write it as https://"),
        (
            {"token": "t"},
            {"url": "https://api.nowhere.invalid", "system": "platform"},
            "kubectl -n platform port-forward service/allotment-scheduler-api 8443) and give --system platform --api ",
        ),
    ],
)
async def test_where_nobody_can_be_asked_it_is_said_what_to_do(
    user: dict[str, str], given: dict[str, str], says: str, tmp_path: Path
) -> None:
    scheduler = Scheduler()
    async with cluster(scheduler, tmp_path) as kubeconfig:
        with pytest.raises(UnreachableError, match=re.escape(says)):
            await question(kubeconfig(**user), **given)

    assert json.dumps(scheduler.asked) == "[]"
