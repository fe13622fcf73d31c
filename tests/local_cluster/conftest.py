"""What the tests of the local cluster share: one running cluster with nodes, and the allot command."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from allotment_cli.main import app
from allotment_local.cluster import LocalCluster
from allotment_local.pools import PoolFile
from allotment_local.progress import reporter

Allot = Callable[..., Result]
AllotProcess = Callable[..., subprocess.CompletedProcess[str]]

POOLS = PoolFile.model_validate(
    {
        "pools": [
            {"name": "cpu", "count": 3, "cpu": 16, "memory": "64Gi", "zones": ["a", "b"]},
            {"name": "gpu", "count": 1, "cpu": 32, "memory": "256Gi", "gpu": 4, "taints": ["gpu=yes:NoSchedule"]},
        ]
    }
)


@pytest.fixture(scope="session")
def with_nodes(cluster_state: Path) -> Iterator[LocalCluster]:
    """A cluster of this folder's own, with three CPU nodes and a GPU node, and kube-scheduler."""
    with reporter() as progress:
        running = LocalCluster("with-nodes", state=cluster_state, progress=progress)
        running.up(pools=POOLS, with_scheduler=True, tied_to_us=True)
    try:
        yield running
    finally:
        running.down()


@pytest.fixture
def allot(cluster_state: Path) -> Allot:
    """Run `allot …` as a user would, on the clusters of this test run; in this process, which is quicker."""

    def run(*arguments: str, **variables: str) -> Result:
        return CliRunner().invoke(app, arguments, env={"ALLOTMENT_STATE": str(cluster_state), **variables})

    return run


@pytest.fixture
def allot_process(cluster_state: Path) -> AllotProcess:
    """Run `allot …` as a process of its own, which a command that becomes another program needs."""

    def run(*arguments: str, stdin: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "from allotment_cli.main import main; main()", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "ALLOTMENT_STATE": str(cluster_state), **variables},
        )

    return run
