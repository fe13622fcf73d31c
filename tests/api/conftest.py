"""A plain HTTP client of the API server, and the definitions installed on it once for all tests here."""

import base64
import json
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode
from uuid import uuid4

import pytest
import urllib3
import yaml

from allotment_api.crd import definition_name
from allotment_api.generate import ROOT, crd_file
from allotment_api.labels import GROUP, VERSION
from allotment_api.registry import KINDS


class TestCluster(Protocol):
    """What these tests need of the shared control plane."""

    kubeconfig: Path

    def kubectl(self, *args: str) -> Any: ...

    def apply(self, manifests: str) -> None: ...


@dataclass(frozen=True)
class Answer:
    """What the API server said."""

    status: int
    body: dict[str, Any]

    @property
    def accepted(self) -> bool:
        return self.status < 300

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


@dataclass(frozen=True)
class Api:
    """The API server, spoken to as the administrator, in a namespace of these tests' own."""

    server: str
    pool: urllib3.PoolManager
    namespace: str

    def request(
        self, method: str, path: str, body: Any = None, *, as_type: str = "application/json", **query: str
    ) -> Answer:
        response = self.pool.request(
            method,
            f"{self.server}{path}?{urlencode(query)}",
            body=None if body is None else json.dumps(body),
            headers={"Content-Type": as_type, "Accept": "application/json"},
        )
        return Answer(response.status, json.loads(response.data))

    def path(self, manifest: dict[str, Any], *, name: bool = False) -> str:
        definition = KINDS[manifest["kind"]].definition
        where = f"namespaces/{self.namespace}/" if definition.scope == "Namespaced" else ""
        suffix = f"/{manifest['metadata']['name']}" if name else ""
        return f"/apis/{GROUP}/{VERSION}/{where}{definition.plural}{suffix}"

    def create(self, manifest: dict[str, Any], *, keep: bool = False) -> Answer:
        dry = {} if keep else {"dryRun": "All"}
        return self.request("POST", self.path(manifest), self._here(manifest), fieldValidation="Strict", **dry)

    def replace(self, manifest: dict[str, Any]) -> Answer:
        """Ask whether an update would be accepted, without making it."""
        path = self.path(manifest, name=True)
        return self.request("PUT", path, self._here(manifest), fieldValidation="Strict", dryRun="All")

    def delete(self, manifest: dict[str, Any]) -> Answer:
        return self.request("DELETE", self.path(manifest, name=True))

    def _here(self, manifest: dict[str, Any]) -> dict[str, Any]:
        if KINDS[manifest["kind"]].definition.scope == "Cluster":
            return manifest
        return {**manifest, "metadata": {**manifest["metadata"], "namespace": self.namespace}}


def _client(kubeconfig: Path) -> tuple[str, urllib3.PoolManager]:
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]

    def pem(section: dict[str, str], key: str) -> str:
        if f"{key}-data" in section:
            return base64.b64decode(section[f"{key}-data"]).decode()
        return (kubeconfig.parent / section[key]).read_text()

    context = ssl.create_default_context(cadata=pem(cluster, "certificate-authority"))
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as chain:
        chain.write(pem(user, "client-certificate") + pem(user, "client-key"))
        chain.flush()
        context.load_cert_chain(chain.name)
    return cluster["server"], urllib3.PoolManager(ssl_context=context, maxsize=4, retries=False)


@pytest.fixture(scope="session")
def api(cluster: TestCluster) -> Iterator[Api]:
    """The API server with our definitions installed."""
    cluster.apply("---\n".join((ROOT / "crds" / crd_file(kind)).read_text() for kind in KINDS.values()))
    names = [f"crd/{definition_name(kind)}" for kind in KINDS.values()]
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=180s", *names)
    server, pool = _client(cluster.kubeconfig)
    out = Api(server, pool, f"api-{uuid4().hex[:8]}")
    body = {"metadata": {"name": out.namespace}}
    assert out.request("POST", "/api/v1/namespaces", body).accepted
    yield out
    out.request("DELETE", f"/api/v1/namespaces/{out.namespace}")
    pool.clear()
