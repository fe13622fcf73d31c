"""The programs of a node: those we build from pinned Go modules, and those of the machine.

The kubelet's module pins the versions that the control plane's pins: who has built one has compiled most of the other.

ALLOTMENT_NODE_BINARIES may name a folder that holds built ones (allotment-node, kube-router, coredns, pause).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from allotment_local import build
from allotment_local.build import KUBERNETES_VERSION, Target
from allotment_local.errors import BuildError
from allotment_local.layout import Layout
from allotment_local.progress import Progress

COREDNS_VERSION = "1.15.0"

KUBERNETES = Target(
    module="node/kubernetes",
    program="allotment-node",
    package=".",
    variables=(
        ("k8s.io/component-base/version.gitVersion", KUBERNETES_VERSION),
        ("k8s.io/client-go/pkg/version.gitVersion", KUBERNETES_VERSION),
    ),
    cold_minutes=8,
    binary_mb=87,
    cache_gb=2.0,
)
PAUSE = Target(
    module="node/kubernetes",
    program="pause",
    package="./pause",
    variables=(),
    cold_minutes=1,
    binary_mb=2,
    cache_gb=0.1,
)
KUBE_ROUTER = Target(
    module="node/kube-router",
    program="kube-router",
    package="github.com/cloudnativelabs/kube-router/cmd/kube-router",
    variables=(),
    cold_minutes=3,
    binary_mb=60,
    cache_gb=1.0,
)
COREDNS = Target(
    module="node/coredns",
    program="coredns",
    package="github.com/coredns/coredns",
    variables=(),
    cold_minutes=2,
    binary_mb=70,
    cache_gb=1.0,
)
TARGETS = (KUBERNETES, PAUSE, KUBE_ROUTER, COREDNS)


@dataclass(frozen=True, slots=True)
class NodePrograms:
    """Paths of what we build."""

    kubernetes: Path
    pause: Path
    kube_router: Path
    coredns: Path


def ensure(*, layout: Layout, progress: Progress, environment: Mapping[str, str] = os.environ) -> NodePrograms:
    """Find the programs, building what is not there yet.

    Raises:
        BuildError: they can neither be built nor found.
    """
    folder = environment.get("ALLOTMENT_NODE_BINARIES", "")
    if folder:
        paths = [Path(folder, target.program) for target in TARGETS]
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise BuildError(
                f"{', '.join(missing)} not found in {folder}.",
                hint="Unset ALLOTMENT_NODE_BINARIES to have them built.",
            )
    else:
        paths = [build.ensure(target, layout=layout, progress=progress, environment=environment) for target in TARGETS]
    return NodePrograms(*paths)
