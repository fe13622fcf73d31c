"""One real node: started, entered, killed.

A node is one process (`unshare`, which dies with its only child, process 1 of the node) and a folder. Killing that
process is both the loss of the node and the whole of its cleaning up: containers, mounts, links and firewall rules are
the namespaces' own and end with them. Only control groups outlive their processes; they are removed afterwards, and
again before a node of that name starts.
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from allotment_local import process
from allotment_local.errors import ClusterTimeoutError, LocalClusterError
from allotment_local.process import ProcessRecord
from allotment_local.real_node import configuration, network
from allotment_local.real_node.cgroups import CgroupTree
from allotment_local.real_node.configuration import NodeDescription
from allotment_local.real_node.paths import NodeFolder
from allotment_local.real_node.requirements import program
from allotment_local.real_node.tools import run

_NAMESPACE_PATIENCE = 60.0
_INIT = "allotment_local.real_node.init"


@dataclass(frozen=True, slots=True)
class RealNode:
    """A node of a cluster, running or not.

    Attributes:
        description: what it is.
        folder: its files.
        record: its pid file.
    """

    description: NodeDescription
    folder: NodeFolder
    record: Path

    @property
    def name(self) -> str:
        """The Node object's name."""
        return self.description.name

    def running(self) -> ProcessRecord | None:
        """Its process, if it runs."""
        record = ProcessRecord.load(self.record)
        return record if record is not None and record.is_running() else None

    def start(self, *, kubernetes: Path, kube_router: Path) -> None:
        """Start the node's processes and connect it; returns before its kubelet has registered.

        Args:
            kubernetes: our binary with kubelet and kube-proxy.
            kube_router: path of the program.
        """
        CgroupTree().remove(self.description.cgroup)
        CgroupTree().make(self.description.cgroup)
        self._write_configuration(kubernetes, kube_router)
        read, write = os.pipe()
        try:
            line = (
                *(program("unshare"), "--mount", "--net", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"),
                *(sys.executable, "-m", _INIT, str(self.folder.path)),
            )
            # Like the control plane's components a node gets no proxy settings: it speaks with this cluster only.
            environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
            record = process.spawn(line, log=self.folder.logs / "init.log", environment=environment, stdin=read)
            record.save(self.record)
            self._await_namespaces(record)
            network.connect(self.description.slot, self.description.index, pid=record.pid)
        except BaseException:
            self.kill()
            raise
        finally:
            os.close(read)
            os.close(write)  # the end of its standard input tells the node that its link is there

    def _write_configuration(self, kubernetes: Path, kube_router: Path) -> None:
        etc = self.folder.etc
        for name, content in configuration.files(self.description).items():
            (etc / name).parent.mkdir(exist_ok=True)
            (etc / name).write_text(content, encoding="utf-8")
        programs = configuration.commands(
            self.description,
            containerd=program("containerd"),
            kubernetes=str(kubernetes),
            kube_router=str(kube_router),
        )
        plan = {"name": self.name, "setup": configuration.setup(self.description), "programs": programs}
        (etc / "init.json").write_text(json.dumps(plan, indent=2), encoding="utf-8")

    def _await_namespaces(self, record: ProcessRecord) -> None:
        """Wait until the process has left our network namespace: only then does its id name another one."""
        ours = Path("/proc/self/ns/net").stat().st_ino
        end = time.monotonic() + _NAMESPACE_PATIENCE
        while time.monotonic() < end:
            try:
                if Path(f"/proc/{record.pid}/ns/net").stat().st_ino != ours:
                    return
            except OSError:
                break
            time.sleep(0.005)
        raise LocalClusterError(f"{self.name} did not start:\n{self.last_words()}")

    def last_words(self) -> str:
        """The end of its process 1's log."""
        log = self.folder.logs / "init.log"
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:]) if log.exists() else ""

    def init_pid(self) -> int:
        """The machine's id of the node's process 1.

        Raises:
            LocalClusterError: the node does not run.
        """
        record = self.running()
        if record is not None:
            for child in _children(record.pid):
                return child
        raise LocalClusterError(f"The node {self.name} does not run.", hint="`allot local up --node` starts it again.")

    def enter(self, *command: str, timeout: float = 60.0) -> str:
        """Run a program inside the node and return what it printed.

        Args:
            command: its absolute path, seen from inside, and arguments.
            timeout: seconds.
        """
        namespaces = (program("nsenter"), "--target", str(self.init_pid()), "--mount", "--net", "--pid", "--uts", "--")
        return run(*namespaces, *command, timeout=timeout)

    def kill(self) -> None:
        """End the node at once, as a power cut would, and remove what the kernel keeps of it."""
        record = ProcessRecord.load(self.record)
        if record is not None and record.is_running():
            inner = _children(record.pid)
            process.terminate(record, grace=0.0)
            _await_end(inner, what=self.name)
        self.record.unlink(missing_ok=True)
        CgroupTree().remove(self.description.cgroup)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except OSError:
        return []


def _await_end(pids: list[int], *, what: str) -> None:
    """Wait for processes that are being killed; a node's process 1 ends after everything else in the node has."""
    end = time.monotonic() + _NAMESPACE_PATIENCE
    while any(process.start_time(pid) is not None for pid in pids):
        if time.monotonic() > end:
            raise ClusterTimeoutError(f"{what} (process {pids[0]}) does not end.")
        time.sleep(0.01)
