"""The chart, the scheduler under its own ServiceAccount, and grounds to try it on: nodes and tenants of one test."""

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from builders.api_server import Actor
from builders.ground import GROUND, Ground
from builders.helm_chart import Release
from builders.program_process import SchedulerProcess, eventually, kubeconfig_of_account


class ClusterLike(Protocol):
    """What these fixtures need of the shared fixture `cluster`."""

    @property
    def kubeconfig(self) -> Path: ...


@pytest.fixture(scope="module")
def credentials(cluster: ClusterLike, only_release: Release, admin: Actor) -> Iterator[Path]:
    """A kubeconfig of the scheduler's own ServiceAccount."""
    only_release.ensure()
    with tempfile.TemporaryDirectory(prefix="allotment-scheduler-") as folder:
        yield kubeconfig_of_account(cluster.kubeconfig, admin, Path(folder), account=SchedulerProcess.account)


@pytest.fixture(scope="module")
def scheduler(credentials: Path) -> Iterator[SchedulerProcess]:
    """The scheduler, leading."""
    settings = {"minimumRuntimeSeconds": 0, "explainSeconds": 0.3, "quarantineSeconds": 1}
    process = SchedulerProcess(credentials, credentials.parent / "scheduler.log", settings, supervised=True)
    process.start()
    yield process
    if process.process is not None:
        process.stop()


@pytest.fixture
def ground(admin: Actor) -> Iterator[Ground]:
    """A ground that nobody else knows."""
    found = Ground(admin, f"g{uuid.uuid4().hex[:8]}")
    yield found
    found.leave()
    eventually(lambda: not admin.request("GET", f"/api/v1/nodes?labelSelector={GROUND}%3D{found.name}").body["items"])
