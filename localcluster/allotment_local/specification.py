"""What one cluster is made of: its name, folder, addresses and ports; written once, read at every later command.

The specification is all that `down`, `status` and `kubectl` need, so that they work in another shell, after a crash
and after a reboot. Paths inside a cluster's folder are derived, never stored: the folder may be moved while stopped.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from allotment_local.errors import LocalClusterError

COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kwok", "kube-scheduler")
"""In starting order. They stop in reverse: without etcd the API server would not heed SIGTERM."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Loopback ports of one cluster."""

    api: int
    etcd_client: int
    etcd_peer: int
    controllers: int
    scheduler: int


@dataclass(frozen=True, slots=True)
class Specification:
    """One cluster, as it was asked for.

    Attributes:
        name: of the cluster; its kubeconfig context is `allotment-NAME`.
        folder: holds everything of this cluster.
        ports: see `Ports`.
        binaries: component (and kubectl) → the command that runs it, without flags.
        address: the address that the API server and the controllers listen on. 127.0.0.1 keeps the cluster to this
            machine; real nodes need one that they can reach.
        hosts: further names and addresses in the API server's certificate.
        service_range: cluster IPs of Services.
        pod_range: where simulated pods get their addresses from.
        with_scheduler: whether kube-scheduler runs too, for comparison.
        extra_flags: component → flags appended to ours; later ones win.
        merged_into: a kubeconfig that our context was merged into.
        previous_context: that file's current context before, given back by `down`.
    """

    name: str
    folder: Path
    ports: Ports
    binaries: Mapping[str, tuple[str, ...]]
    address: str = "127.0.0.1"
    hosts: tuple[str, ...] = ()
    service_range: str = "10.96.0.0/16"
    pod_range: str = "10.128.0.0/9"
    with_scheduler: bool = False
    extra_flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    merged_into: Path | None = None
    previous_context: str | None = None

    @property
    def context(self) -> str:
        """The kubeconfig context, cluster and user prefix."""
        return f"allotment-{self.name}"

    @property
    def server(self) -> str:
        """The API server's URL."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"https://{host}:{self.ports.api}"

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.folder / "pki"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "kubeconfig"

    @property
    def logs(self) -> Path:
        """One file per component, and the audit log."""
        return self.folder / "logs"

    @property
    def etcd_data(self) -> Path:
        """The cluster's whole state."""
        return self.folder / "etcd"

    @property
    def audit_policy(self) -> Path:
        """The API server's audit policy."""
        return self.folder / "audit-policy.yaml"

    @property
    def stages(self) -> Path:
        """The stages that kwok plays."""
        return self.folder / "stages.yaml"

    def component_kubeconfig(self, component: str) -> Path:
        """The kubeconfig of one component's own user."""
        return self.folder / "clients" / f"{component}.kubeconfig"

    def log(self, component: str) -> Path:
        """A component's output."""
        return self.logs / f"{component}.log"

    def record(self, component: str) -> Path:
        """A component's pid file."""
        return self.folder / "run" / f"{component}.json"

    def wanted(self) -> tuple[str, ...]:
        """The components this cluster runs, in starting order: those it has binaries for."""
        return tuple(
            component
            for component in COMPONENTS
            if component in self.binaries and (component != "kube-scheduler" or self.with_scheduler)
        )

    def save(self) -> None:
        """Write cluster.json in one step."""
        content = asdict(self)
        del content["folder"]
        content["merged_into"] = str(self.merged_into) if self.merged_into else None
        temporary = self.folder / "cluster.json.new"
        temporary.write_text(json.dumps(content, indent=2), encoding="utf-8")
        temporary.replace(self.folder / "cluster.json")

    @classmethod
    def load(cls, folder: Path) -> "Specification | None":
        """Read cluster.json; None if the folder holds none."""
        try:
            return cls._of(json.loads((folder / "cluster.json").read_text(encoding="utf-8")), folder)
        except FileNotFoundError:
            return None
        # Whatever is wrong with it: half of it is written, or another version of this program wrote it.
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LocalClusterError(
                f"{folder / 'cluster.json'} cannot be read ({error!r}): it is damaged, or of another version of allot.",
                hint=f"`allot local down --name {folder.name}` ends its processes and removes the folder.",
            ) from error

    @classmethod
    def _of(cls, content: Mapping[str, Any], folder: Path) -> "Specification":
        return cls(
            **{
                **content,
                "folder": folder,
                "ports": Ports(**content["ports"]),
                "binaries": {name: tuple(command) for name, command in content["binaries"].items()},
                "hosts": tuple(content["hosts"]),
                "extra_flags": {name: tuple(flags) for name, flags in content["extra_flags"].items()},
                "merged_into": Path(content["merged_into"]) if content["merged_into"] else None,
            }
        )

    def merged(self, into: Path | None, previous_context: str | None) -> "Specification":
        """The same cluster, its context merged into another kubeconfig (or into none)."""
        return replace(self, merged_into=into, previous_context=previous_context)
