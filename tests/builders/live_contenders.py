"""Who binds pods in the live benchmark: ours, kube-scheduler, and a bare loop that decides nothing.

Each runs as a process of its own, as the same service account with the same rights, and presents its token, as it would
inside a cluster: a client certificate's signature is checked anew with every request, a token's is remembered for some
seconds. Run as a program, this module is the bare loop.
"""

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop
import yaml

from allotment_kube import Client
from allotment_kube.reflector import Reflector
from allotment_kube.resources import NODES, PODS, SERVICE_ACCOUNTS, Resource
from allotment_local.cluster import LocalCluster
from allotment_local.components import variables

SCHEDULER_NAMES: Final = {"allotment": "allotment", "kube-scheduler": "default-scheduler", "ceiling": "nobody"}
"""Of each contender: what a pod must name to be its."""
CONTENDERS: Final = tuple(SCHEDULER_NAMES)
CONNECTIONS: Final = 64
ACCOUNT: Final = "contender"
TOKEN_SECONDS: Final = 86_400
HERTZ: Final = os.sysconf("SC_CLK_TCK")
ROLE_BINDINGS: Final = Resource.custom(
    "rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False
)
_ROOT: Final = Path(__file__).resolve().parents[2]


class ContenderError(Exception):
    """A contender ended before its work was done."""


@dataclass(frozen=True)
class Contenders:
    """Starts them on one cluster; `folder` holds their logs and settings."""

    cluster: LocalCluster
    folder: Path

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig that all of them use."""
        return self.folder / "contender.kubeconfig"

    async def admit(self, client: Client) -> None:
        """Make their service account, and write the kubeconfig with its token."""
        metadata = {"name": ACCOUNT, "namespace": "kube-system"}
        await client.create(SERVICE_ACCOUNTS.untyped, {"metadata": metadata})
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
        subjects = [{"kind": "ServiceAccount", **metadata}]
        binding = {"apiVersion": ROLE_BINDINGS.api_version, "kind": ROLE_BINDINGS.kind, "metadata": {"name": ACCOUNT}}
        await client.create(ROLE_BINDINGS, {**binding, "roleRef": role, "subjects": subjects})
        token, _ = await client.service_account_token("kube-system", ACCOUNT, seconds=TOKEN_SECONDS)
        config = yaml.safe_load(self.cluster.kubeconfig.read_text())
        config["users"] = [{"name": each["name"], "user": {"token": token}} for each in config["users"]]
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(yaml.safe_dump(config))

    def start(self, contender: str, *, port: int = 0) -> subprocess.Popen[bytes]:
        """Start one; `port` is ours' for /readyz."""
        return subprocess.Popen(
            self._command(contender, port),
            stdout=self.log(contender).open("wb"),
            stderr=subprocess.STDOUT,
            env=environment(),
        )

    def log(self, contender: str) -> Path:
        """What it says."""
        return self.folder / f"{contender}.log"

    def alive(self, contender: str, process: subprocess.Popen[bytes]) -> None:
        """Look whether it still runs.

        Raises:
            ContenderError: it has ended.
        """
        if process.poll() is not None:
            said = self.log(contender).read_text()[-2000:]
            raise ContenderError(f"the contender ended with {process.returncode}:\n{said}")

    def _command(self, contender: str, port: int) -> list[str]:
        if contender == "allotment":
            config = self.folder / "scheduler.yaml"
            settings = {"httpHost": "127.0.0.1", "httpPort": port, "namespace": "kube-system", "apiPort": -1}
            # kube-scheduler is run without a Lease; ours must not lose its own to a server that is driven to its end.
            config.write_text(json.dumps({**settings, "leaseSeconds": 60}))
            command = [sys.executable, "-m", "allotment_scheduler.shell.main", "--kubeconfig", str(self.kubeconfig)]
            return [*command, "--config", str(config)]
        if contender == "kube-scheduler":
            flags = ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"]
            return [
                *self.cluster.specification.binaries["kube-scheduler"],
                *(f"--{flag}={self.kubeconfig}" for flag in flags),
                "--leader-elect=false",
                "--kube-api-qps=5000",
                "--kube-api-burst=5000",
                "--bind-address=127.0.0.1",
                "--secure-port=0",
            ]
        return [sys.executable, __file__, str(self.kubeconfig)]


def environment() -> dict[str, str]:
    """Ours without its settings, with byte code, as the image has it, and with what programs in Go run with there."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ALLOTMENT_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**variables(kept), "PYTHONPYCACHEPREFIX": str(_ROOT / "build" / "pycache")}


def processes(name: str, cluster: LocalCluster) -> list[int]:
    """Processes of a part of the control plane."""
    done = subprocess.run(["pgrep", "-f", f"{name} .*{cluster.folder}"], capture_output=True, text=True, check=False)
    return [int(found) for found in done.stdout.split()]


def usage(pid: int) -> tuple[float, float]:
    """CPU seconds and resident bytes of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return (int(fields[11]) + int(fields[12])) / HERTZ, float(resident)


async def bare_loop(kubeconfig: Path) -> None:
    """List, watch with decode, bind round robin: what an API server gives to Python that decides nothing."""
    async with Client.connect(kubeconfig, connections=CONNECTIONS + 4) as client:
        names = [each.metadata.name for each in await client.list(NODES)]
        reflector = Reflector(client, PODS, lambda _: None)
        task = asyncio.create_task(reflector.run())
        await reflector.synced()
        queue = [each for each in reflector.objects().values() if each.spec.scheduler_name == "nobody"]
        waiting = iter(list(enumerate(queue)))

        async def work() -> None:
            for number, each in waiting:
                target = names[number % len(names)]
                await client.bind(each.metadata.namespace, each.metadata.name, uid=each.metadata.uid, node=target)

        await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
        await task


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bare_loop(Path(sys.argv[1])))
