"""The ground of the demo: its own local cluster, the chart as it stands, the process behind the scene; and the end.

Building is a sequence, each step told to the viewer. Whatever the sequence has begun, `down` ends: processes by their
records, then the cluster with its folder. It may be called at any time, more than once, and on what another run left.

A cluster is a demo's where the demo's folder lies in it. Whoever makes that folder has the stage; a cluster that was
there before, another demo's or the user's own, is never touched.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import yaml

from allotment_cli.demo import backstage, programs
from allotment_cli.demo.members import PLATFORM_GROUP
from allotment_cli.demo.volumes import STORAGE_CLASS
from allotment_local import process
from allotment_local.cluster import LocalCluster
from allotment_local.errors import InvalidInputError, LocalClusterError
from allotment_local.pools import read_pools
from allotment_local.process import ProcessRecord

RELEASE: Final = "allotment"
BACKSTAGE: Final = "backstage"
START_SECONDS: Final = 180.0
"""How long the process behind the scene may take to be ready."""

VALUES: Final[dict[str, Any]] = {
    "rbac": {"platformAdminGroups": [PLATFORM_GROUP]},
    # What is reasonable for months is slow for a viewer: the demo shortens two waits, and says so in docs/demo.md.
    # The stand-in Jenkins listens beside the operator, on this machine; no real cluster needs that setting.
    "operator": {"config": {"allowLoopbackControllers": True}},
    "scheduler": {"config": {"statusSeconds": 1, "minimumRuntimeSeconds": 2}},
}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Checkout:
    """Where the chart and the bank's manifests are."""

    root: Path

    @classmethod
    def find(cls) -> Self:
        """The checkout that this package runs from, or the present folder.

        Raises:
            InvalidInputError: neither holds them.
        """
        for root in (Path(__file__).resolve().parents[3], Path.cwd()):
            if (root / "helm" / "allotment" / "Chart.yaml").is_file() and (root / "examples" / "bank").is_dir():
                return cls(root)
        raise InvalidInputError(
            "The demo needs the chart and the examples of a checkout, and this is none.",
            hint="Run it in the folder that holds helm/ and examples/.",
        )

    @property
    def chart(self) -> Path:
        """The chart."""
        return self.root / "helm" / "allotment"

    @property
    def bank(self) -> Path:
        """The bank's manifests."""
        return self.root / "examples" / "bank"

    @property
    def pools(self) -> Path:
        """The simulated nodes."""
        return self.root / "examples" / "local" / "bank.yaml"


@dataclass(frozen=True, slots=True)
class Address:
    """Where the stand-in controller is, and who may ask it."""

    url: str
    username: str
    token: str


class Stage:
    """The ground of one demo; a context that ends with `down` unless it is to be kept.

    Args:
        keep: leave everything running when the play is over.
        say: told every step.
    """

    def __init__(self, cluster: LocalCluster, checkout: Checkout, *, keep: bool, say: Say) -> None:
        self.cluster = cluster
        self.checkout = checkout
        self.keep = keep
        self._say = say
        self._ours = False
        self._lifeline: int | None = None

    @property
    def folder(self) -> Path:
        """Tokens, logs and records of the demo; only its owner may read them."""
        return self.cluster.folder / "demo"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ours and (not self.keep or error is not None):
            self.down()

    def up(self) -> Address:
        """Build everything; returns where the stand-in controller is.

        Raises:
            InvalidInputError: there is a cluster of that name.
            LocalClusterError: a step failed; what was built is taken down by the context.
        """
        if self.cluster.folder.exists():
            raise self._taken()
        self._say("Starting a Kubernetes control plane with 40 simulated nodes")
        self.cluster.up(pools=read_pools(self.checkout.pools), tied_to_us=not self.keep)
        try:
            self.folder.mkdir(mode=0o700)
        except FileExistsError:  # another demo was faster, and its cluster is the one that is up
            raise self._taken() from None
        self._ours = True
        self._say("Installing the chart")
        self._install()
        self._say("Starting the operator and the scheduler, each with its own account's token")
        return self._start_backstage()

    def _taken(self) -> InvalidInputError:
        name = self.cluster.name
        away = f"`allot demo --down --name {name}` takes it away; or choose" if self.folder.exists() else "Choose"
        return InvalidInputError(f"A cluster {name!r} exists already.", hint=f"{away} another --name.")

    def _install(self) -> None:
        values = self.folder / "values.yaml"
        values.write_text(yaml.safe_dump(VALUES), encoding="utf-8")
        line = ("install", RELEASE, str(self.checkout.chart), "--namespace", programs.NAMESPACE, "--create-namespace")
        self.cluster.helm(*line, "--values", str(values))
        # A missing Lease may be one that somebody deleted under its holder, so programs wait before they make it.
        # Here nobody can have held it: empty ones are taken at once.
        leases = [
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": name, "namespace": programs.NAMESPACE},
            }
            for name in ("allotment-operator", "allotment-scheduler")
        ]
        # No kube-scheduler runs here to place the programs' pods, and the programs run as processes of this machine.
        nobody = [
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": name, "namespace": programs.NAMESPACE},
                "spec": {"replicas": 0},
            }
            for name in ("allotment-operator", "allotment-scheduler")
        ]
        stream = yaml.safe_dump_all([STORAGE_CLASS, *leases, *nobody])
        self.cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=stream)

    def _start_backstage(self) -> Address:
        line = [sys.executable, "-m", "allotment_cli.demo.backstage", str(self.folder), str(self.cluster.kubeconfig)]
        log = self.folder / f"{BACKSTAGE}.log"
        if self.keep:
            record = process.spawn([*line, "--keep"], log=log, environment=os.environ)
        else:
            read, self._lifeline = os.pipe()
            try:
                record = process.spawn(line, log=log, environment=os.environ, stdin=read)
            finally:
                os.close(read)
        record.save(self.folder / f"{BACKSTAGE}.json")
        ready = self.folder / backstage.READY_FILE
        end = time.monotonic() + START_SECONDS
        while not ready.exists():
            if not record.is_running() or time.monotonic() > end:
                last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
                raise LocalClusterError(f"The process behind the scene did not start:\n{last}")
            time.sleep(0.05)
        return Address(**json.loads(ready.read_text(encoding="utf-8")))

    def down(self) -> bool:
        """End every process and remove the cluster; returns whether there was anything.

        Raises:
            InvalidInputError: the cluster is no demo's.
        """
        if self.cluster.folder.exists() and not self.folder.exists():
            name = self.cluster.name
            raise InvalidInputError(
                f"The cluster {name!r} is not a demo's.", hint=f"`allot local down --name {name}` takes it away."
            )
        for name in (BACKSTAGE, *(each.name for each in programs.both(self.folder))):
            record = ProcessRecord.load(self.folder / f"{name}.json")
            if record is not None:
                process.terminate(record, grace=15.0)
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        return self.cluster.down()
