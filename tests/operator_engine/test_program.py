"""Settings, logs, audit, kinds and health: the operator's edges."""

import asyncio
import datetime as dt
import io
import json
import logging
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from allotment_api.docstrings import texts
from allotment_api.registry import KINDS
from allotment_api.tenant import ServiceAllowance
from allotment_kube.certificates import authority, issue
from allotment_kube.configuration import Configuration
from allotment_kube.credentials import TokenFileCredentials
from allotment_kube.program import logs
from allotment_kube.program.server import Readiness, serving
from allotment_kube.program.settings import SettingsError, Sources
from allotment_kube.tls import PemSource, TlsSettings
from allotment_operator import kinds
from allotment_operator.audit import AuditLog, last_manager
from allotment_operator.kind import Key
from allotment_operator.login import login_with
from allotment_operator.metrics import PREFIX, Metrics
from allotment_operator.settings import Settings, from_command_line
from allotment_operator.tenancy.estate import SERVICE_KINDS
from fakes.http_server import listening


class TestSettings:
    def test_the_command_line_wins_over_the_environment_and_that_over_the_file(self, tmp_path: Path) -> None:
        file = tmp_path / "operator.yaml"
        file.write_text("workers: 3\nlogLevel: error\nresyncSeconds: 60\n")
        environment = {"ALLOTMENT_CONFIG": str(file), "ALLOTMENT_WORKERS": "4", "ALLOTMENT_LOG_LEVEL": "warning"}

        settings = from_command_line(["--log-level", "debug"], environment)

        assert (settings.workers, settings.log_level, settings.resync_seconds) == (4, "debug", 60)

    @pytest.mark.parametrize(
        ("text", "environment", "said"),
        [
            ("workres: 3", {}, "there is no such setting"),
            ("lease_seconds: 30", {}, r"lease_seconds \(.*operator.yaml\): write leaseSeconds"),
            ("log_level: debug", {"ALLOTMENT_LOG_LEVEL": "info"}, "write logLevel"),
            ("workers: many", {}, "workers"),
            ("- a list", {}, "must hold a mapping"),
            ("workers: [", {}, "cannot be read"),
            ("", {"ALLOTMENT_HTTP_PORT": "99999"}, "ALLOTMENT_HTTP_PORT"),
        ],
    )
    def test_a_fault_is_named_with_where_it_was_set(
        self, tmp_path: Path, text: str, environment: dict[str, str], said: str
    ) -> None:
        file = tmp_path / "operator.yaml"
        file.write_text(text)

        with pytest.raises(SettingsError, match=said):
            Sources(Settings, file, environment, {}).read()

    def test_every_one_is_explained(self) -> None:
        assert texts(Settings).keys() == Settings.model_fields.keys()


class TestLogs:
    def line(self, form: str, **values: Any) -> str:
        stream, root = io.StringIO(), logging.getLogger()
        handlers, level = root.handlers[:], root.level
        try:
            logs.configure("info", form, stream=stream)
            with logs.fields(kind="Tenant", name="retail", namespace="", round="r1"):
                logs.event(logging.getLogger("test"), "round done", **values)
        finally:
            root.handlers[:], root.level = handlers, level
        return stream.getvalue().strip()

    def test_are_one_object_per_line_with_the_rounds_fields(self) -> None:
        line = json.loads(self.line("json", seconds=0.5, again_after=None))

        assert line["message"] == "round done"
        assert (line["kind"], line["name"], line["round"], line["seconds"]) == ("Tenant", "retail", "r1", 0.5)
        assert "namespace" not in line
        assert "again_after" not in line

    def test_are_readable_on_a_terminal(self) -> None:
        assert self.line("text", seconds=0.5).endswith("I [Tenant retail] round done round=r1 seconds=0.5")


class TestTheAuditTrail:
    def test_names_the_program_that_last_wrote_the_spec(self) -> None:
        entries = [
            {"manager": "kubectl", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {}}},
            {"manager": "pipeline", "time": "2026-01-02T00:00:00Z", "fieldsV1": {"f:spec": {}}},
            {"manager": "kopf", "time": "2026-01-03T00:00:00Z", "fieldsV1": {"f:metadata": {}}},
        ]

        assert last_manager({"managedFields": entries}) == "pipeline"
        assert last_manager({}) == ""

    def test_says_what_was_done_on_whose_behalf_and_how_it_went(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        trail = AuditLog(Metrics())

        trail.record(
            Key("KafkaCluster", "pay", "events"),
            action="created",
            subject="StatefulSet pay/events-broker",
            outcome="failed",
            message="quota",
        )

        fields = logs.fields_of(caplog.records[-1])
        assert fields["audit"] is True
        assert (fields["action"], fields["subject"], fields["outcome"], fields["reason"]) == (
            "created",
            "StatefulSet pay/events-broker",
            "failed",
            "quota",
        )


class TestKinds:
    def test_of_every_service_package_can_be_loaded(self) -> None:
        for name in kinds.service_modules():
            assert callable(__import__(name, fromlist=["kinds"]).kinds), name

    def test_of_a_service_that_cannot_be_loaded_are_left_out_and_told_of(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(kinds, "service_modules", lambda: ["allotment_operator.services.nowhere.kinds"])
        surroundings: Any = None

        assert kinds.service_kinds(surroundings) == []
        assert "cannot be loaded" in caplog.text

    def test_that_tenants_may_have_are_those_of_the_api(self) -> None:
        known = {name: kind.definition.plural for name, kind in KINDS.items() if name in SERVICE_KINDS}
        allowed = ServiceAllowance.model_fields["kind"].annotation.__args__  # type: ignore[union-attr]  # a Literal

        assert known == dict(SERVICE_KINDS)
        assert set(allowed) == set(SERVICE_KINDS)


class TestItsHttpServer:
    async def test_is_ready_when_nothing_is_missing(self) -> None:
        readiness, metrics = Readiness(), Metrics()
        readiness.await_("tenants")
        async with serving("127.0.0.1", 0, readiness=readiness, scrape=metrics.text) as port:
            assert await fetch(port, "/healthz") == (200, "ok\n")
            assert await fetch(port, "/readyz") == (503, "not yet: tenants\n")
            readiness.done("tenants")
            assert await fetch(port, "/readyz") == (200, "ok\n")
            code, text = await fetch(port, "/metrics")

        assert code == 200
        names = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
        assert names
        assert all(name.startswith(PREFIX) for name in names)


class TestLogin:
    async def test_gives_kopf_the_token_that_our_client_uses_also_after_it_was_replaced(self, tmp_path: Path) -> None:
        file = tmp_path / "token"
        file.write_text("first")
        configuration = Configuration("https://127.0.0.1:1", TokenFileCredentials(file))
        login = login_with(configuration)

        before = await login()
        file.write_text("second")
        after = await login()

        assert before.aiohttp_session.headers["Authorization"] == "Bearer first"
        assert after.aiohttp_session.headers["Authorization"] == "Bearer second"
        assert before.expiration is not None
        for each in (before, after):
            await each.aiohttp_session.close()

    async def test_acts_as_somebody_else_where_the_configuration_says_so(self) -> None:
        session = await login_with(Configuration("https://127.0.0.1:1").acting_as("ann", "devs"))()

        assert session.aiohttp_session.headers["Impersonate-User"] == "ann"
        await session.aiohttp_session.close()

    @pytest.mark.parametrize(("name", "reached"), [("kubernetes", True), ("", False)])
    async def test_expects_the_servers_name_that_the_configuration_gives(
        self, *, name: str, reached: bool, tmp_path: Path
    ) -> None:
        now = dt.datetime.now(dt.UTC)
        signer = authority("cluster", now=now)
        pair = issue(signer, "api", now=now, hosts=["kubernetes"])
        (tmp_path / "api.pem").write_bytes(pair.certificate_pem + pair.key_pem)
        serving_as = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving_as.load_cert_chain(tmp_path / "api.pem")
        tls = TlsSettings(authority=PemSource(data=signer.certificate_pem), server_name=name)
        async with listening(web.Application(), serving_as) as url:
            login = login_with(Configuration(url, tls=tls))
            async with (await login()).aiohttp_session as session:
                if reached:
                    assert (await session.get(url)).status == 404
                else:
                    with pytest.raises(aiohttp.ClientConnectorCertificateError):
                        await session.get(url)


async def fetch(port: int, path: str) -> tuple[int, str]:

    def get() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
                return int(answer.status), str(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(get)
