"""What is read from the objects where the scheduler does not answer: of one namespace no more than its tenant."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from allotment_cli import written
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
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "red-ns"}}],
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
        rows = await written.tenants(kubeconfig, namespace)
        load = await written.load(kubeconfig, namespace, own="red-ns")

    assert {row["name"] for row in rows} == {row["name"] for row in load["tenants"]} == tenants
    assert load["waiting"] == waiting


@pytest.mark.parametrize("namespace", ["nobodys-ns", "unknown"])
async def test_a_namespace_of_no_tenant_is_named(tmp_path: Path, namespace: str) -> None:
    async with cluster(tmp_path) as kubeconfig:
        with pytest.raises(written.UnownedError):
            await written.tenants(kubeconfig, namespace)
