"""What a machine looks like from outside: everything that a real node could leave behind, as sets of lines.

Two pictures are compared for what is new in the second one. Things come and go on a machine that does other work too,
so processes are told apart by namespaces, which only containers have, and counters are left out.
"""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from allotment_local import process
from allotment_local.real_node.cgroups import CgroupTree
from allotment_local.real_node.init import KUBELET_SYSCTLS, NAMESPACED_SYSCTLS

_SYSCTLS = (*KUBELET_SYSCTLS, *NAMESPACED_SYSCTLS, "net/netfilter/nf_conntrack_max", "kernel/hostname")
_FOLDERS = (
    "/var/lib/kubelet",
    "/var/lib/cni",
    "/var/log/pods",
    "/var/log/containers",
    "/run/containerd",
    "/etc/cni/net.d",
)


@dataclass(frozen=True)
class Machine:
    """A picture of the machine."""

    namespaces: frozenset[str]
    mounts: frozenset[str]
    loop_devices: frozenset[str]
    links: frozenset[str]
    routes: frozenset[str]
    firewall: frozenset[str]
    cgroups: frozenset[str]
    sysctls: frozenset[str]
    folders: frozenset[str]

    @classmethod
    def look(cls) -> "Machine":
        """Take a picture."""
        return cls(
            namespaces=frozenset(_namespaces()),
            mounts=frozenset(Path("/proc/self/mountinfo").read_text().splitlines()),
            loop_devices=frozenset(_output("losetup", "--list", "--noheadings", "--output", "BACK-FILE")),
            links=frozenset(link["ifname"] for link in json.loads("".join(_output("ip", "-json", "link")))),
            routes=frozenset(_output("ip", "route", "show", "table", "all")),
            firewall=frozenset(re.sub(r" \[\d+:\d+\]|^#.*", "", line) for line in _output("iptables-save")),
            cgroups=frozenset(_cgroups()),
            sysctls=frozenset(f"{name}={Path('/proc/sys', name).read_text().strip()}" for name in _SYSCTLS),
            folders=frozenset(folder for folder in _FOLDERS if Path(folder).exists()),
        )

    def new_since(self, before: "Machine") -> dict[str, list[str]]:
        """What was not there before, by kind; kinds without news are left out."""
        news = {field.name: sorted(getattr(self, field.name) - getattr(before, field.name)) for field in fields(self)}
        return {kind: lines for kind, lines in news.items() if lines}

    @classmethod
    def left_since(cls, before: "Machine", *, seconds: float = 240.0) -> dict[str, list[str]]:
        """What stays new. A machine's own services come and go, with namespaces of their own: those are waited for."""
        end = time.monotonic() + seconds
        while (news := cls.look().new_since(before)) and time.monotonic() < end:
            time.sleep(1)
        return news


def _output(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def _namespaces() -> Iterator[str]:
    for folder in Path("/proc").iterdir():
        # A zombie has ended; it waits for the machine's process 1 to take note.
        if not folder.name.isdigit() or process.start_time(int(folder.name)) is None:
            continue
        for kind in ("net", "mnt", "pid", "uts"):
            try:
                yield str((folder / "ns" / kind).readlink())
            except OSError:  # it ended meanwhile, or is the kernel's
                continue


def _cgroups() -> Iterator[str]:
    for hierarchy in CgroupTree().hierarchies():
        yield from (str(path) for path in hierarchy.glob("allot*") if path.is_dir())
