"""`allot tenants`, `why` and `top` on a live cluster: by the scheduler's API, and from what it wrote on objects."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

from builders.ground import ALLOTMENT, Ground
from builders.outputs import output_of, unlisted
from builders.program_process import SchedulerProcess, eventually

pytestmark = pytest.mark.cluster
AT = "2026-01-01T00:00:00Z"


class ClusterLike(Protocol):
    @property
    def kubeconfig(self) -> Path: ...


def allot(cluster: ClusterLike, *arguments: str) -> tuple[int, Any]:
    """Exit code and JSON output."""
    code, answer, _ = allot_as(cluster.kubeconfig, *arguments)
    return code, answer


def allot_as(kubeconfig: Path, *arguments: str) -> tuple[int, Any, str]:
    """Exit code, JSON output, and what was said beside it."""
    program = "from allotment_cli.main import main; main()"
    command = [sys.executable, "-c", program, *arguments, "--kubeconfig", str(kubeconfig), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr, done.stderr


def member_of(tenant: str, ground: Ground, cluster: ClusterLike, folder: Path) -> Path:
    """A kubeconfig of a ServiceAccount that may view one tenant's namespace, and nothing else."""
    name = f"reader-{tenant}"
    ground.create(f"/api/v1/namespaces/{tenant}/serviceaccounts", {"metadata": {"name": name}}, remember=False)
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": tenant}],
    }
    ground.create(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{tenant}/rolebindings", binding, remember=False)
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    answer = ground.admin.request("POST", f"/api/v1/namespaces/{tenant}/serviceaccounts/{name}/token", asked)
    assert answer.accepted, answer.message
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    of = {"cluster": config["clusters"][0]["name"], "user": name, "namespace": tenant}
    config |= {
        "users": [{"name": name, "user": {"token": answer.body["status"]["token"]}}],
        "contexts": [{"name": name, "context": of}],
        "current-context": name,
    }
    target = folder / f"{name}.kubeconfig"
    target.write_text(yaml.safe_dump(config))
    return target


def test_tenants_and_waits_are_told_from_the_live_cluster(
    scheduler: SchedulerProcess, cluster: ClusterLike, ground: Ground
) -> None:
    ground.nodes(1, cpu="4")
    tenant = ground.tenant("a", limits={"cpu": "3"})
    ground.pod(tenant, "runs", cpu="2")
    ground.pod(tenant, "waits", cpu="2")
    eventually(lambda: ground.nodes_of(tenant) == {"runs": f"{ground.name}-0"}, because=scheduler.tail)
    eventually(
        lambda: ground.condition(tenant, "waits").get("message", "").startswith("AboveLimit:"), because=scheduler.tail
    )

    def counted() -> bool:
        """Before the first pod was bound one was pending, too."""
        status = ground.status("tenants", tenant)
        return status.get("pending") == 1 and status.get("running") == 1

    eventually(counted, because=scheduler.tail)

    code, rows = allot(cluster, "tenants")
    assert code == 0
    row = next(row for row in rows if row["name"] == tenant)
    assert row["used"]["cpu"] == 2000
    assert row["limits"] == {"cpu": 3000}
    assert row["pending"] == 1

    assert allot(cluster, "why", f"{tenant}/runs")[0] == 0
    code, [wait] = allot(cluster, "why", f"{tenant}/waits")
    assert (code, wait["reason"]) == (1, "AboveLimit")
    assert "3" in wait["message"]
    assert allot(cluster, "why", f"{tenant}/nobody")[0] == 2


def test_a_member_sees_the_own_tenant_by_the_schedulers_api_and_no_other(
    scheduler: SchedulerProcess, cluster: ClusterLike, ground: Ground, tmp_path: Path
) -> None:
    ground.nodes(1, cpu="4")
    red, blue = (ground.tenant(word, limits={"cpu": "3"}) for word in ("red", "blue"))
    ground.pod(red, "waits", cpu="4")
    ground.pod(blue, "runs", cpu="1")
    eventually(lambda: ground.nodes_of(blue) == {"runs": f"{ground.name}-0"}, because=scheduler.tail)
    eventually(lambda: scheduler.status().get("apiPort"), because=scheduler.tail)
    reader = member_of(red, ground, cluster, tmp_path)

    def known() -> bool:
        """The leader publishes where its API is once it leads; only then no notice says that it was not reached."""
        code, rows, said = allot_as(reader, "tenants")
        return code == 0 and not said and [row["name"] for row in rows] == [red]

    eventually(known, because=scheduler.tail)

    code, rows, _ = allot_as(reader, "why", f"{red}/waits")
    assert (code, rows[0]["reason"], rows[0]["namespace"]) == (1, "AboveLimit", red)

    def loaded() -> Any:
        """On a busy machine the API may answer too late for once; then the objects are read, and a notice says so."""
        code, load, said = allot_as(reader, "top")
        return load if code == 0 and not said else None

    load = eventually(loaded, because=scheduler.tail)
    assert [row["name"] for row in load["tenants"]] == [red]
    assert (load["running"], load["waiting"]) == (0, 1)

    def refused() -> bool:
        code, _, said = allot_as(reader, "why", f"{blue}/runs")
        assert code == 2
        return "may not list pods" in said

    eventually(refused, because=scheduler.tail)


def test_without_the_api_the_objects_are_read(
    scheduler: SchedulerProcess, cluster: ClusterLike, ground: Ground
) -> None:
    ground.nodes(1, cpu="4")
    tenant = ground.tenant("a")
    ground.pod(tenant, "runs", cpu="1")
    eventually(lambda: ground.nodes_of(tenant) == {"runs": f"{ground.name}-0"}, because=scheduler.tail)

    code, load, said = allot_as(cluster.kubeconfig, "top", "--api", "https://127.0.0.1:1")
    assert code == 0
    assert "127.0.0.1:1" in said
    assert load["running"] >= 1
    assert load.keys() == {"running", "waiting", "waitingByReason", "tenants"}, "as the reference says"
    assert unlisted(load, output_of("top")) == []
    assert tenant in {row["name"] for row in load["tenants"]}


def test_who_has_a_client_certificate_is_known_by_it(
    scheduler: SchedulerProcess, cluster: ClusterLike, ground: Ground
) -> None:
    """As the administrator of the test cluster has, and no token."""
    tenant = ground.tenant("a")

    def known() -> bool:
        code, load, said = allot_as(cluster.kubeconfig, "top")
        return code == 0 and not said and tenant in {row["name"] for row in load["tenants"]}

    eventually(known, because=scheduler.tail)


def test_the_operators_part_of_a_tenants_status_stays_the_operators(
    scheduler: SchedulerProcess, ground: Ground
) -> None:
    ground.nodes(1, cpu="4")
    tenant = ground.tenant("a")
    ready = {"type": "Ready", "status": "True", "reason": "Furnished", "message": "", "lastTransitionTime": AT}
    body = {
        "apiVersion": "allotment.dev/v1alpha1",
        "kind": "Tenant",
        "metadata": {"name": tenant},
        "status": {"namespaces": [{"name": tenant, "phase": "Ready"}], "conditions": [ready]},
    }
    path = f"{ALLOTMENT}/tenants/{tenant}/status?fieldManager=allotment-operator&force=true"
    answer = ground.admin.request("PATCH", path, body, content_type="application/apply-patch+yaml")
    assert answer.accepted, answer.message
    ground.pod(tenant, "runs", cpu="1")
    eventually(lambda: ground.status("tenants", tenant).get("running") == 1, because=scheduler.tail)

    status = ground.status("tenants", tenant)
    assert [each["name"] for each in status["namespaces"]] == [tenant]
    assert {each["type"]: each["reason"] for each in status["conditions"]} == {
        "Ready": "Furnished", "Scheduled": "AsExpected",
    }  # fmt: skip
