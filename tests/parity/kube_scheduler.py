"""The real kube-scheduler beside a real API server, and nothing else: no controller may change what a case says.

Without controllers every object stays as it was written: volumes are bound or not as the manifest has it, nodes keep
their taints. So the admission plugins that count on controllers are off: `TaintNodesByCondition` (nobody would untaint
a new node), `StorageObjectInUseProtection` (nobody would let a deleted volume go), `ServiceAccount` (nobody would make
the account that pods need).

kube-scheduler runs as it comes, under our scheduler's name, with two changes: every node is looked at, and preemption
is off, for it decides about other pods.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from allotment_local.binaries import choose
from allotment_local.cluster import LocalCluster
from allotment_local.layout import Layout
from allotment_local.progress import reporter
from parity.extender import Extender

_COMPONENTS = ("etcd", "kube-apiserver", "kube-scheduler", "kubectl")
_WITHOUT = "TaintNodesByCondition,StorageObjectInUseProtection,ServiceAccount"


@dataclass(frozen=True, slots=True)
class Peer:
    """A running kube-scheduler: where its API server is, and what its filters let pass."""

    kubeconfig: Path
    extender: Extender
    log: Path


@contextmanager
def running(folder: Path) -> Iterator[Peer]:
    """A control plane of its own with kube-scheduler, below a folder; down again at the end, also by kill -9."""
    with reporter() as progress:
        built = choose(layout=Layout.from_environment(), progress=progress)
        programs = folder / "parity-programs"
        programs.mkdir()
        for name in _COMPONENTS:
            (programs / name).symlink_to(built[name][0])  # the program looks at the name it is called by
        extender = Extender()
        cluster = LocalCluster("parity", state=folder, progress=progress)
        config = folder / "kube-scheduler.json"
        config.write_text(
            json.dumps(_configuration(extender, cluster.folder / "clients" / "kube-scheduler.kubeconfig"))
        )
        flags = {
            "kube-apiserver": (f"--disable-admission-plugins={_WITHOUT}", "--delete-collection-workers=8"),
            "kube-scheduler": (f"--config={config}",),
        }
        environment = {**os.environ, "ALLOTMENT_BINARIES": str(programs)}
        cluster.up(with_scheduler=True, extra_flags=flags, tied_to_us=True, environment=environment)
    try:
        yield Peer(cluster.kubeconfig, extender, cluster.specification.log("kube-scheduler"))
    finally:
        cluster.down()
        extender.close()


def _configuration(extender: Extender, kubeconfig: Path) -> dict[str, object]:
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig), "qps": 5000, "burst": 5000},
        "leaderElection": {"leaderElect": False},
        "percentageOfNodesToScore": 100,
        "podInitialBackoffSeconds": 1,
        "podMaxBackoffSeconds": 2,
        "profiles": [{"schedulerName": "allotment", "plugins": {"postFilter": {"disabled": [{"name": "*"}]}}}],
        "extenders": [
            {"urlPrefix": extender.url, "filterVerb": "filter", "nodeCacheCapable": True, "httpTimeout": "60s"}
        ],
    }
