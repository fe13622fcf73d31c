"""What is read from the objects where the scheduler does not answer: of one namespace no more than its tenant."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from allotment_cli import written
from allotment_cli.main import app
from allotment_kube.configuration import load_configuration
from allotment_kube.resources import NAMESPACES, PODS
from fakes.api_server import FakeApiServer
from fakes.http_server import served


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Path]:
    """Tenants red and blue, and green by the namespace's label alone, each with a pod that waits: a kubeconfig."""
    kube = FakeApiServer()
    kube.register(written.TENANTS)
    for name in ("red", "blue", "green", "nobodys"):
        labels = {"allotment.dev/tenant": name} if name == "green" else {}
        kube.put(NAMESPACES, {"metadata": {"name": f"{name}-ns", "labels": labels}})
        spec = {"schedulerName": "allotment", "containers": [{"name": "main"}]}
        kube.put(PODS, {"metadata": {"name": "p", "namespace": f"{name}-ns"}, "spec": spec, "status": {}})
        listed: dict[str, Any] = {"namespaces": [f"{name}-ns"]} if name in ("red", "blue") else {}
        if name != "nobodys":
            tenant = {"kind": "Tenant", "apiVersion": "allotment.dev/v1alpha1", "metadata": {"name": name}}
            kube.put(written.TENANTS, {**tenant, "spec": listed})
    async with served(kube) as url:
        config = {
            "clusters": [
                {"name": "c", "cluster": {"server": url}},
                {"name": "other", "cluster": {"server": "http://127.0.0.1:1"}},
            ],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [
                {"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "red-ns"}},
                {"name": "elsewhere", "context": {"cluster": "other", "user": "u"}},
            ],
            "current-context": "x",
        }
        (folder / "kubeconfig").write_text(yaml.safe_dump(config))
        yield folder / "kubeconfig"


@pytest.mark.parametrize(
    ("namespace", "tenants", "waiting"),
    [("red-ns", {"red"}, 1), ("green-ns", {"green"}, 1), ("", {"red", "blue", "green"}, 4)],
)
async def test_a_namespace_narrows_what_is_read(
    tmp_path: Path, namespace: str, tenants: set[str], waiting: int
) -> None:
    async with cluster(tmp_path) as kubeconfig:
        rows = await written.tenants(load_configuration(kubeconfig), namespace)
        load = await written.load(load_configuration(kubeconfig), namespace)

    assert {row["name"] for row in rows} == {row["name"] for row in load["tenants"]} == tenants
    assert load["waiting"] == waiting


@pytest.mark.parametrize("namespace", ["nobodys-ns", "unknown"])
async def test_a_namespace_of_no_tenant_is_named(tmp_path: Path, namespace: str) -> None:
    async with cluster(tmp_path) as kubeconfig:
        with pytest.raises(written.UnownedError):
            await written.tenants(load_configuration(kubeconfig), namespace)


@pytest.mark.parametrize(
    ("context", "says"),
    [("x", ""), ("elsewhere", "(proxy-url)"), ("unknown", "unknown")],
)
@pytest.mark.parametrize("command", [["tenants"], ["top"], ["why", "p"]], ids=lambda it: it[0])
async def test_the_context_says_which_cluster_is_asked(
    tmp_path: Path, command: list[str], context: str, says: str
) -> None:
    async with cluster(tmp_path) as kubeconfig:
        words = [*command, "--kubeconfig", str(kubeconfig), "--context", context, "-o", "json"]
        done = await asyncio.to_thread(CliRunner().invoke, app, words)

    assert (done.exit_code, says in done.stderr) == (2 if says else int(command[0] == "why"), True), done.stderr
    assert bool(done.stdout) is not bool(says)
