"""What an image cache holds that no node to come needs: older images of a name, their layers, older stores, downloads.

Read from the files alone, without knowing any recipe: of each image's name the youngest stays, and the store that was
used last. What goes can be made again; it costs the time that it took.
"""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from allotment_local.progress import Progress


@contextlib.contextmanager
def turn(folder: Path, progress: Progress) -> Iterator[None]:
    """Keep others from making or removing images meanwhile; the kernel gives the turn back however we end."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say("Another program makes images; waiting for it …")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def leftovers(folder: Path) -> list[Path]:
    """Files and folders of an image cache that may go; call it and remove them in one turn."""
    made = [path for path in (folder / "made").glob("*.json") if path.is_file()]
    images = {path: image for path in made if (image := _read(path))}
    youngest = {name: path for path in sorted(images, key=_age) for name in images[path]["names"]}
    kept = set(youngest.values())
    needed = {blob["digest"].removeprefix("sha256:") for path in kept for blob in images[path]["blobs"]}
    blobs = [path for path in (folder / "blobs/sha256").glob("*") if path.name not in needed]
    stores = sorted((folder / "stores").glob("[!.]*"), key=_age)[:-1]
    unfinished = [*folder.glob(".root-*"), *(folder / "stores").glob(".new-*")]
    downloads = list((folder / "downloads").glob("*"))
    return [*(path for path in made if path not in kept), *blobs, *stores, *unfinished, *downloads]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        image = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return image if isinstance(image, dict) and {"names", "blobs"} <= image.keys() else None


def _age(path: Path) -> float:
    return path.stat().st_mtime
