"""Process 1 of a real node: gives the node its mounts and network, starts its programs, and keeps them running.

It runs in mount, network, process and host-name namespaces of its own, where it is the ancestor of everything: when it
dies, the kernel kills every container with it, unmounts every mount and removes every link and firewall rule. So there
is nothing to clean up and nothing that a crash could leave, neither here nor on the machine.

What it must never do: change anything that is not the namespaces' own. The kernel settings that a kubelet wants to
write are global ones, so the kubelet gets files of the node's own in their place.

`python -m allotment_local.real_node.init FOLDER` reads FOLDER/etc/init.json. Standard input is a pipe; its end says
that the network link is there.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from allotment_local.real_node import disk
from allotment_local.real_node.paths import CONTAINERD_SOCKET, INSIDE, NodeFolder
from allotment_local.real_node.tools import run

KUBELET_SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What the kubelet sets where it differs (pkg/util/sysctl in Kubernetes)."""

NAMESPACED_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/bridge/bridge-nf-call-iptables": "1",
}
"""Settings of the node's own network namespace."""

_SOCKET_PATIENCE = 60.0
_RESTART_DELAY = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What init.json holds."""

    name: str
    setup: tuple[tuple[str, ...], ...]
    programs: dict[str, tuple[str, ...]]

    @classmethod
    def load(cls, path: Path) -> "Plan":
        """Read it."""
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            name=content["name"],
            setup=tuple(map(tuple, content["setup"])),
            programs={name: tuple(command) for name, command in content["programs"].items()},
        )


class Programs:
    """The node's programs; one that ends is started again."""

    def __init__(self, commands: dict[str, tuple[str, ...]], logs: Path) -> None:
        self._commands = commands
        self._logs = logs
        self._names: dict[int, str] = {}
        self._due: dict[str, float] = {}

    def start(self, name: str) -> None:
        """Start a program; its output goes to a file of its name."""
        with (self._logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(self._commands[name], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._names[process.pid] = name

    def run_forever(self) -> None:
        """Collect whatever ends, orphans of containers included, and restart programs after a moment."""
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG if self._due else 0)
            name = self._names.pop(pid, None)
            if name is not None:
                sys.stdout.write(f"{name} ended with status {os.waitstatus_to_exitcode(status)}\n")
                sys.stdout.flush()
                self._due[name] = time.monotonic() + _RESTART_DELAY
            now = time.monotonic()
            for due in [name for name, at in self._due.items() if at <= now]:
                del self._due[due]
                self.start(due)
            if self._due and pid == 0:
                time.sleep(0.1)


def prepare_mounts(folder: NodeFolder) -> None:
    """Lay the node's folder under the places that Kubernetes expects; nothing of it is seen outside."""
    run("mount", "--make-rshared", "/")  # volumes mounted later must reach containers
    # The folder must be found before /run is covered, wherever it lies.
    source = os.open(folder.path, os.O_PATH | os.O_DIRECTORY)
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    INSIDE.mkdir(parents=True)
    run("mount", "--rbind", f"/proc/{os.getpid()}/fd/{source}", str(INSIDE))
    os.close(source)
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/var/log")
    # New folders below /var/lib come into being in a layer that vanishes with the node.
    layer = Path("/run/allotment/var-lib")
    for part in ("upper", "work"):
        (layer / part).mkdir(parents=True)
    layers = f"lowerdir=/var/lib,upperdir={layer}/upper,workdir={layer}/work"
    run("mount", "-t", "overlay", "-o", layers, "overlay", "/var/lib")
    for inside, target in (("kubelet", "/var/lib/kubelet"), ("pod-logs", "/var/log/pods")):
        Path(target).mkdir(parents=True)
        run("mount", "--bind", str(INSIDE / inside), target)
    for volume in disk.known(INSIDE / "volumes"):  # of a node that starts again
        disk.mount(volume, run=run)


def shield_sysctls() -> None:
    """Put files of our own where the kubelet would change the whole machine."""
    shield = Path("/run/allotment/sysctl")
    for name, value in KUBELET_SYSCTLS.items():
        file = shield / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n", encoding="ascii")
        run("mount", "--bind", str(file), f"/proc/sys/{name}")


def prepare_network(plan: Plan) -> None:
    """Give the namespace its addresses, routes and settings, once the machine has put the link in."""
    sys.stdin.buffer.read()
    for command in plan.setup:
        run(*command)
    for name, value in NAMESPACED_SYSCTLS.items():
        Path("/proc/sys", name).write_text(value, encoding="ascii")


def await_containerd() -> None:
    """Wait until containerd listens: a kubelet that finds nobody gives up."""
    end = time.monotonic() + _SOCKET_PATIENCE
    while time.monotonic() < end:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(CONTAINERD_SOCKET))
            except OSError:
                time.sleep(0.05)
            else:
                return
    raise TimeoutError(f"containerd does not listen on {CONTAINERD_SOCKET}")


def main() -> None:
    """Become the node."""
    folder = NodeFolder(Path(sys.argv[1]))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    plan = Plan.load(folder.etc / "init.json")
    socket.sethostname(plan.name)
    prepare_mounts(folder)
    shield_sysctls()
    programs = Programs(plan.programs, INSIDE / "logs")
    first, *rest = plan.programs
    programs.start(first)
    prepare_network(plan)
    await_containerd()
    for name in rest:
        programs.start(name)
    programs.run_forever()


if __name__ == "__main__":
    main()
