"""After a cluster with real nodes is gone, the machine is as it was, however the cluster ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from allotment_local.cluster import LocalCluster
from allotment_local.process import ProcessRecord
from allotment_local.real_node.fleet import Fleet
from allotment_local.real_node.images import recipes
from builders.machine import Machine
from builders.patience import LateError
from builders.real_cluster import RealCluster
from builders.real_pods import SERVE, pod, service

pytestmark = pytest.mark.real_node

_TIED = """
import sys
from pathlib import Path
from allotment_local.cluster import LocalCluster
from allotment_local.real_node.fleet import Fleet
Fleet(LocalCluster("tied", state=Path(sys.argv[1]))).up(tied_to_us=True)
print("up", flush=True)
sys.stdin.read()
"""


def await_that(condition: Callable[[], bool], what: str, *, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise LateError(f"{what}: not so after {seconds:.0f} s")
        time.sleep(0.2)


def _is_a_nodes_own(news: dict[str, list[str]]) -> bool:
    """Whether what is new on the machine is what a node needs there. The machine's own services come and go besides."""
    needed = {"namespaces", "links", "routes", "cgroups"}
    return needed <= news.keys() and news.keys().isdisjoint({"mounts", "firewall", "sysctls", "folders"})


def test_down_leaves_nothing_even_when_the_cluster_is_half_dead(cluster_state: Path) -> None:
    before = Machine.look()
    cluster = LocalCluster("half-dead", state=cluster_state)
    fleet = Fleet(cluster)
    try:
        fleet.up(images=[recipes.base()], tied_to_us=True)
        running = RealCluster(fleet)
        running.apply(pod("default", "web", *SERVE), service("default", "web", type="NodePort"))
        running.wait("pod/web", "--for=condition=Ready")
        running.until(_is_a_nodes_own, lambda: Machine.look().new_since(before))
        for component in ("kube-apiserver", "etcd"):
            record = ProcessRecord.load(cluster.specification.record(component))
            assert record is not None
            os.kill(record.pid, signal.SIGKILL)
    finally:
        cluster.down()

    assert Machine.left_since(before) == {}


def test_a_killed_program_takes_its_cluster_with_it(cluster_state: Path) -> None:
    before = Machine.look()
    state = cluster_state / "tied"
    command = [sys.executable, "-c", _TIED, str(state)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        try:
            assert program.stdout.readline() == "up\n"
            assert Machine.look().new_since(before)
        finally:
            program.kill()

    await_that(lambda: not (state / "clusters").exists(), "the guardian has taken the cluster down")
    assert Machine.left_since(before) == {}
