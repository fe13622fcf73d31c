"""Where one node's files lie, seen from the machine and from inside the node.

Inside its mount namespace a node sees its folder as /run/allotment/node, and the parts of it that Kubernetes expects at
fixed places (/var/lib/kubelet, /var/log/pods …) over there. Outside nothing but the folder exists.
"""

from dataclasses import dataclass
from pathlib import Path

INSIDE = Path("/run/allotment/node")
"""The node's folder, seen from inside."""

CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")
"""Inside: /run is the node's own."""


@dataclass(frozen=True, slots=True)
class NodeFolder:
    """One node's folder, seen from the machine."""

    path: Path

    @property
    def etc(self) -> Path:
        """Configuration, certificates and kubeconfigs."""
        return self.path / "etc"

    @property
    def containerd(self) -> Path:
        """Images and containers."""
        return self.path / "containerd"

    @property
    def kubelet(self) -> Path:
        """The kubelet's state, at /var/lib/kubelet inside."""
        return self.path / "kubelet"

    @property
    def pod_logs(self) -> Path:
        """At /var/log/pods inside."""
        return self.path / "pod-logs"

    @property
    def volumes(self) -> Path:
        """Images of the node's disks, one per volume."""
        return self.path / "volumes"

    @property
    def logs(self) -> Path:
        """One file per program of the node."""
        return self.path / "logs"

    def make(self) -> None:
        """Create what is missing, for the owner only where secrets or tenants' data lie."""
        for folder in (self.etc, self.containerd, self.kubelet, self.pod_logs, self.volumes, self.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
