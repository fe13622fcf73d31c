"""`allot tenants` and `allot why` on a live cluster, from what the scheduler wrote there."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import pytest

from builders.ground import Ground
from builders.program_process import SchedulerProcess, eventually

pytestmark = pytest.mark.cluster


class ClusterLike(Protocol):
    @property
    def kubeconfig(self) -> Path: ...


def allot(cluster: ClusterLike, *arguments: str) -> tuple[int, Any]:
    """Exit code and JSON output."""
    program = "from allotment_cli.main import main; main()"
    command = [sys.executable, "-c", program, *arguments, "--kubeconfig", str(cluster.kubeconfig), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


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
