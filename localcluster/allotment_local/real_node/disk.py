"""A volume's disk: a sparse file with XFS on a loop device, mounted inside its node.

A file system of its own makes the size true: a full volume says ENOSPC and takes no room from others. XFS, because it
grows while it is mounted. The loop device belongs to the mount: the kernel frees it when the mount goes, also when the
whole node is killed, so no device is ever left over.
"""

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from allotment_local.errors import LocalClusterError
from allotment_local.real_node.paths import INSIDE, NodeFolder
from allotment_local.real_node.requirements import program
from allotment_local.real_node.tools import ToolError, run

MINIMUM_SIZE = 300 << 20
"""XFS does not come smaller (mkfs.xfs(8))."""

MOUNTS = Path("/run/allotment/volumes")
"""Where disks are mounted, seen from inside their node."""

_SUFFIX = ".xfs"
_MOUNT_OPTIONS = "loop,nosuid,nodev,noatime,discard"
_BUSY_PATIENCE = 60.0
_PAUSE = 0.1


class Node(Protocol):
    """Where disks are: a running node."""

    @property
    def folder(self) -> NodeFolder:
        """The node's files."""

    def enter(self, *command: str) -> str:
        """Run a program inside the node."""


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk of one volume on one node."""

    node: Node
    volume: str

    @property
    def file(self) -> Path:
        """Its content, seen from the machine."""
        return self.node.folder.volumes / f"{self.volume}{_SUFFIX}"

    @property
    def mount_point(self) -> Path:
        """Where it is mounted, seen from inside."""
        return MOUNTS / self.volume

    def make(self, size: int) -> int:
        """Create and mount it; one that is there already is only mounted.

        Args:
            size: bytes wanted.

        Returns:
            The bytes it has: rounded up to what the file system needs.
        """
        size = rounded(size)
        if not self.file.exists():
            temporary = self.file.with_suffix(".new")
            _allocate(temporary, size)
            run(program("mkfs.xfs"), "-q", "-f", "-L", "", str(temporary))
            temporary.replace(self.file)
        self.mount()
        return self.file.stat().st_size

    def mount(self) -> None:
        """Mount it inside its node, unless it is."""
        if self._is_mounted():
            return
        mount(self.volume, run=self.node.enter)
        self.node.enter("/bin/chmod", "0777", str(self.mount_point))

    def grow(self, size: int) -> int:
        """Make it larger while it is in use; one that is large enough stays. Returns the bytes it has."""
        size = rounded(size)
        if self.file.stat().st_size < size:
            _allocate(self.file, size)
        self.mount()
        device = self.node.enter("/bin/findmnt", "--noheadings", "--output", "SOURCE", str(self.mount_point)).strip()
        self.node.enter(program("losetup"), "--set-capacity", device)
        self.node.enter(program("xfs_growfs"), str(self.mount_point))
        return self.file.stat().st_size

    def remove(self) -> None:
        """Unmount it and delete its content."""
        if self._is_mounted():
            self.node.enter("/bin/umount", str(self.mount_point))
        self.file.unlink(missing_ok=True)

    def _is_mounted(self) -> bool:
        try:
            self.node.enter("/bin/mountpoint", "--quiet", str(self.mount_point))
        except ToolError:
            return False
        return True


class Runner(Protocol):
    """Runs a command somewhere and returns what it printed."""

    def __call__(self, *command: str) -> str:
        """Run it; raises ToolError if it fails."""


def mount(volume: str, *, run: Runner) -> None:
    """Mount a disk at its place, seen from inside its node.

    A node killed a moment ago may still hold the disk: the kernel gives its mounts back in the background.
    """
    point = str(MOUNTS / volume)
    run("/bin/mkdir", "--parents", point)
    end = time.monotonic() + _BUSY_PATIENCE
    while True:
        try:
            run("/bin/mount", "-t", "xfs", "-o", _MOUNT_OPTIONS, str(INSIDE / "volumes" / f"{volume}{_SUFFIX}"), point)
        except ToolError:
            if time.monotonic() > end:
                raise
            time.sleep(_PAUSE)
        else:
            return


def known(folder: Path) -> Sequence[str]:
    """The volumes that have a disk in a folder."""
    return sorted(path.stem for path in folder.glob(f"*{_SUFFIX}"))


def rounded(size: int) -> int:
    """The size that a disk gets: at least what XFS needs, and whole mebibytes."""
    return -(-max(size, MINIMUM_SIZE) // (1 << 20)) * (1 << 20)


def _allocate(path: Path, size: int) -> None:
    """Give a file a size without writing it; refuse what the machine could never hold."""
    path.touch(mode=0o600)
    if size > shutil.disk_usage(path.parent).total:
        raise LocalClusterError(f"A volume of {size} bytes is larger than the machine's whole disk.")
    os.truncate(path, size)
