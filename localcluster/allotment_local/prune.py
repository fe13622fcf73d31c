"""Gives disk space back: old binaries and images, the caches of builds, and on request the whole cache folder.

Binaries of the current sources and the youngest image of each name stay unless all is asked for; so do binaries that a
cluster was started with, because its `kubectl` and its next `up` need them. Go writes its module cache read-only; that
is undone before removing.
"""

import contextlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from allotment_local import build
from allotment_local.errors import LocalClusterError
from allotment_local.layout import Layout, module_source
from allotment_local.progress import Progress, Silent
from allotment_local.real_node.images.leftovers import leftovers, turn
from allotment_local.specification import Specification


@dataclass(frozen=True, slots=True)
class Removed:
    """One thing that was removed, or would be."""

    path: Path
    size: int
    """Bytes that its removal gives back; what running nodes share with it is not given back."""


def prune(
    layout: Layout, *, everything: bool, dry_run: bool = False, progress: Progress | None = None
) -> list[Removed]:
    """Remove what is not needed to start clusters.

    Args:
        layout: where the cache is.
        everything: also binaries of the current sources, a Go toolchain that we installed, all images of real nodes
            and whatever else is in the cache folder.
        dry_run: only say what would be removed.
        progress: told when a running build is waited for.

    Returns:
        What was removed, largest first.
    """
    images = layout.cache / "images"
    with contextlib.ExitStack() as stack:
        for target in build.TARGETS if layout.binaries.is_dir() else ():
            stack.enter_context(build.lock(target, layout, progress or Silent()))
        if images.is_dir():
            stack.enter_context(turn(images, progress or Silent()))
        doomed = _doomed(layout, everything=everything)
        if not everything:
            doomed += leftovers(images)
        seen: dict[tuple[int, int], int] = {}
        removed = sorted((Removed(path, _size(path, seen)) for path in doomed), key=lambda item: -item.size)
        if not dry_run:
            for item in removed:
                _remove(item.path)
    return removed


def _doomed(layout: Layout, *, everything: bool) -> list[Path]:
    in_use = _in_use(layout)
    doomed = [path for path in (layout.go_build, layout.go_modules) if path.is_dir()]
    if everything and layout.cache.is_dir():
        kept = (layout.binaries, layout.go_build.parent)
        doomed += [path for path in layout.cache.iterdir() if path.is_dir() and path not in kept]
    # Binaries of other targets (real nodes) have their keys elsewhere; they go only with everything.
    ours = "" if everything else tuple(f"{target.label}-" for target in build.TARGETS)
    current = () if everything else _current()
    return doomed + [
        path
        for path in (layout.binaries.iterdir() if layout.binaries.is_dir() else ())
        if path.is_dir() and path not in in_use and path.name.startswith(ours) and not path.name.startswith(current)
    ]


def _current() -> tuple[str, ...]:
    """Name prefixes of the binaries that today's sources make."""
    return tuple(
        f"{target.label}-{build.source_digest(target, module_source(target.module))}-" for target in build.TARGETS
    )


def _in_use(layout: Layout) -> set[Path]:
    """Folders of binaries that existing clusters name."""
    folders = set()
    for name in layout.cluster_names():
        try:
            spec = Specification.load(layout.cluster(name))
        except LocalClusterError:
            continue
        if spec is not None:
            folders |= {Path(command[0]).parent for command in spec.binaries.values()}
    return folders


def _size(path: Path, seen: dict[tuple[int, int], int]) -> int:
    """Bytes that removing a file or tree gives back: a file with several names counts with the last of them.

    Args:
        path: the file or tree.
        seen: names met so far of each file that has several, by device and number.
    """
    total = 0
    files = [path] if path.is_file() else (Path(folder, file) for folder, _, names in os.walk(path) for file in names)
    for file in files:
        try:
            status = file.lstat()
        except OSError:
            continue  # gone meanwhile
        key = (status.st_dev, status.st_ino)
        seen[key] = seen.get(key, 0) + 1 if status.st_nlink > 1 else 1
        if seen[key] == status.st_nlink:
            total += status.st_blocks * 512
    return total


def _remove(path: Path) -> None:
    """Remove a file or a tree, read-only folders included; what cannot be removed is left to the next prune."""
    if path.is_file():
        path.unlink(missing_ok=True)
        return
    for folder, _, _ in os.walk(path):
        Path(folder).chmod(stat.S_IRWXU)
    shutil.rmtree(path, ignore_errors=True)
