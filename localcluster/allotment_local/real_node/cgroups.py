"""A node's part of the control-group tree: made before its kubelet starts, removed after its last process.

Both layouts of Linux are known: one hierarchy per controller (version 1) and the unified one (version 2). A node's root
is a top-level group named after its cluster and itself; everything that its kubelet makes lies below.
"""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from allotment_local.errors import LocalClusterError

MOUNT = Path("/sys/fs/cgroup")

_CONTROLLERS = ("cpu", "cpuset", "memory", "pids")

_WEIGHT = 8
"""How many processes outside of groups a node's containers together weigh as much as, when all want the processors.
By default the kernel takes a whole group for one process: on a busy machine containers would hardly start."""
_REMOVAL_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class CgroupTree:
    """The machine's mounted hierarchies."""

    mount: Path = MOUNT

    @property
    def is_unified(self) -> bool:
        """Whether this is version 2."""
        return (self.mount / "cgroup.controllers").is_file()

    def hierarchies(self) -> list[Path]:
        """The roots that controllers are mounted at."""
        if self.is_unified:
            return [self.mount]
        return sorted(path for path in self.mount.iterdir() if path.is_dir() and not path.is_symlink())

    def missing_controllers(self) -> list[str]:
        """Controllers that a kubelet needs and this kernel or machine does not give."""
        if self.is_unified:
            present = (self.mount / "cgroup.controllers").read_text(encoding="ascii").split()
        elif self.mount.is_dir():
            present = [path.name for path in self.mount.iterdir()]
        else:
            present = []
        return [name for name in _CONTROLLERS if name not in present]

    def make(self, name: str) -> None:
        """Make a node's root in every hierarchy."""
        for hierarchy in self.hierarchies():
            root = hierarchy / name
            root.mkdir(exist_ok=True)
            (_settle_unified if self.is_unified else _settle_version_1)(hierarchy, root)

    def remove(self, name: str) -> None:
        """Remove a node's root and all below it, waiting for the last processes to be gone.

        Raises:
            LocalClusterError: processes remain in it.
        """
        end = time.monotonic() + _REMOVAL_PATIENCE
        for hierarchy in self.hierarchies():
            while not _remove_tree(hierarchy / name):
                if time.monotonic() > end:
                    raise LocalClusterError(
                        f"The control group {hierarchy / name} cannot be removed: processes remain in it.",
                        hint=f"`cat {hierarchy / name}/cgroup.procs` and below name them.",
                    )
                time.sleep(0.05)


def _settle_unified(hierarchy: Path, root: Path) -> None:
    wanted = " ".join(f"+{controller}" for controller in _CONTROLLERS)
    (hierarchy / "cgroup.subtree_control").write_text(wanted, encoding="ascii")
    (root / "cgroup.subtree_control").write_text(wanted, encoding="ascii")
    (root / "cpu.weight").write_text(str(100 * _WEIGHT), encoding="ascii")


def _settle_version_1(hierarchy: Path, root: Path) -> None:
    # A new group has no processors and no memory, and takes no process until it has.
    for setting in ("cpuset.cpus", "cpuset.mems"):
        if (root / setting).is_file():
            (root / setting).write_text((hierarchy / setting).read_text(encoding="ascii"), encoding="ascii")
    if (root / "cpu.shares").is_file():
        (root / "cpu.shares").write_text(str(1024 * _WEIGHT), encoding="ascii")


def _remove_tree(root: Path) -> bool:
    """Remove a group, children first; False while processes hold it."""
    if not root.is_dir():
        return True
    for child in root.iterdir():
        if child.is_dir():
            _remove_tree(child)
    with contextlib.suppress(OSError):
        root.rmdir()
    return not root.is_dir()
