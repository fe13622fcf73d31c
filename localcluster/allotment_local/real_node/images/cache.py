"""The user's image cache: makes images from recipes once, and keeps containerd stores ready to be handed to nodes.

    CACHE/images/blobs/sha256/…    layers, configurations, manifests (an OCI layout)
    CACHE/images/made/KEY.json     what a recipe's key became
    CACHE/images/downloads/        Debian packages, Maven's repository, wheels
    CACHE/images/stores/KEY/       containerd's folder with a set of images imported and unpacked, which held.json lists

A new store starts from the one that has most of its images already, so that a change of one image costs no more than
that image. A node's containerd starts from a copy of a store: images need no import per node, and the copy shares its
files with the store by hard links, so ten nodes take the room of one and are ready in the time it takes to link.
Unpacked images are only ever lower layers of containers, which the kernel never writes to; only containerd's small
databases are copied for real.

Makers take turns by a lock, and everything appears under its name only when it is whole.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from allotment_local.errors import LocalClusterError
from allotment_local.layout import Layout
from allotment_local.progress import Progress
from allotment_local.real_node.images.layout import Image, ImageLayout
from allotment_local.real_node.images.leftovers import turn
from allotment_local.real_node.images.recipes import Recipe, inherited
from allotment_local.real_node.requirements import program

_FORMAT = "2"
"""Part of every store's key: raised when stores of an older version must not be used any more."""

_STORES_KEPT = 3
_HELD = "held.json"
_SOCKET = "/run/allotment-import/containerd.sock"


class ImageCache:
    """Images and stores in the user's cache folder."""

    def __init__(self, layout: Layout, progress: Progress) -> None:
        self._folder = layout.cache / "images"
        self._progress = progress

    @property
    def stores(self) -> Path:
        """One folder per store."""
        return self._folder / "stores"

    def image(self, recipe: Recipe) -> Image:
        """The recipe's image, made if it is not there."""
        with self._turn():
            return self._image(recipe)

    def holds(self, recipe: Recipe) -> bool:
        """Whether the recipe's image is there."""
        return self._found(recipe) is not None

    def _found(self, recipe: Recipe) -> Image | None:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            image = msgspec.json.decode(self._made(recipe).read_bytes(), type=Image)
            if ImageLayout(self._folder).holds(image):
                return image
        return None

    def _made(self, recipe: Recipe) -> Path:
        return self._folder / "made" / f"{recipe.key}.json"

    def _image(self, recipe: Recipe) -> Image:
        if found := self._found(recipe):
            return found
        layout = ImageLayout(self._folder)
        below = self._image(recipe.base).layers if recipe.base else ()
        self._progress.step(f"Making the image {recipe.reference}")
        started = time.monotonic()
        downloads = self._folder / "downloads"
        downloads.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".root-") as root:
            Path(root).chmod(0o755)
            recipe.fill(Path(root), downloads)
            layer = layout.add_layer(Path(root), owner=recipe.owner)
        image = layout.add_image(recipe.names, (*below, layer), inherited(recipe))
        _write(self._made(recipe), msgspec.json.encode(image))
        size, seconds = layer.size / 1e6, time.monotonic() - started
        self._progress.say(f"Made the image {recipe.reference}: {size:.0f} MB in {seconds:.0f} s.")
        return image

    def store(self, recipes: Sequence[Recipe]) -> Path:
        """A containerd folder that holds these images and those they stand on, made if it is not there."""
        with self._turn():
            wanted = {recipe.reference: recipe for given in recipes for recipe in _with_bases(given)}
            images = [self._image(recipe) for recipe in wanted.values()]
            names = sorted(f"{name}@{image.manifest.digest}" for image in images for name in image.names)
            key = hashlib.sha256("\n".join([_FORMAT, *names]).encode()).hexdigest()[:16]
            target = self.stores / key
            if not target.is_dir():
                self._import(images, target)
            os.utime(target)
            self._forget_old_stores()
            return target

    def _forget_old_stores(self) -> None:
        """Remove stores that were not used for long; nodes that were made from them keep their files."""
        stores = sorted(self.stores.glob("[!.]*"), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in stores[_STORES_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def _import(self, images: Sequence[Image], target: Path) -> None:
        """Let a containerd of our own import the images into a new folder, or what an older store lacks of them."""
        self.stores.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        temporary = Path(tempfile.mkdtemp(dir=self.stores, prefix=".new-"))
        try:
            older, held = nearest_store(self.stores, images)
            if older is not None:
                copy_store(older, temporary)
            missing = [image for image in images if image not in held]
            self._progress.step(f"Unpacking {len(missing)} images, once")
            with _containerd(temporary) as ctr:
                present = frozenset(blob.digest for image in held for blob in image.blobs)
                self._feed((*ctr, "images", "import", "--snapshotter=overlayfs", "-"), missing, without=present)
            _write(temporary / _HELD, msgspec.json.encode(images))
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        self._progress.say(f"Unpacked {len(missing)} images in {time.monotonic() - started:.0f} s.")

    def _feed(self, command: Sequence[str], images: Sequence[Image], *, without: frozenset[str]) -> None:
        """Run a command that reads an archive of images."""
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as importing:
            assert importing.stdin is not None  # noqa: S101 - asked for above
            with contextlib.suppress(BrokenPipeError), importing.stdin:
                ImageLayout(self._folder).write_archive(images, importing.stdin, without=without)
            words = importing.stderr.read().decode(errors="replace") if importing.stderr else ""
        if importing.returncode:
            raise LocalClusterError(f"containerd could not import the images: {words.strip()}")

    def _turn(self) -> AbstractContextManager[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        return turn(self._folder, self._progress)


def nearest_store(stores: Path, images: Sequence[Image]) -> tuple[Path | None, list[Image]]:
    """Find the store to start a new one from: that which holds most of the images, and none of another name.

    Returns:
        The store and those of the images that it holds; None and nothing where there is no such store.
    """
    names = {name for image in images for name in image.names}
    best: tuple[int, Path | None, list[Image]] = (0, None, [])
    for store in stores.glob("[!.]*"):
        try:
            there = msgspec.json.decode((store / _HELD).read_bytes(), type=list[Image])
        except (OSError, msgspec.DecodeError):
            continue  # of an older version
        held = [image for image in images if image in there]
        size = sum(blob.size for blob in {blob for image in held for blob in image.blobs})
        if size > best[0] and all(name in names for image in there for name in image.names):
            best = (size, store, held)
    return best[1:]


def _with_bases(recipe: Recipe) -> Iterator[Recipe]:
    if recipe.base is not None:
        yield from _with_bases(recipe.base)
    yield recipe


def copy_store(store: Path, target: Path) -> None:
    """Give a node's containerd its own copy of a store, sharing the images' files where the disk is the same."""
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copytree(store, target, symlinks=True, dirs_exist_ok=True, copy_function=_link_or_copy)
    for folder, _, _ in os.walk(store):
        owner = Path(folder).stat()
        os.chown(Path(target, Path(folder).relative_to(store)), owner.st_uid, owner.st_gid)


def _link_or_copy(source: str, target: str) -> None:
    if not source.endswith(".db"):  # containerd writes to its databases
        with contextlib.suppress(OSError):
            os.link(source, target, follow_symlinks=False)
            return
    shutil.copy2(source, target, follow_symlinks=False)
    owner = os.lstat(source)
    os.chown(target, owner.st_uid, owner.st_gid, follow_symlinks=False)


@contextlib.contextmanager
def _containerd(root: Path) -> Iterator[tuple[str, ...]]:
    """Run a containerd in namespaces of its own and yield the command of its client."""
    with tempfile.TemporaryDirectory(prefix="allotment-import-") as folder:
        configuration = Path(folder, "containerd.toml")
        configuration.write_text(
            f'version = 2\nroot = "{root}"\nstate = "/run/allotment-import/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n'
            f'[grpc]\n  address = "{_SOCKET}"\n',
            encoding="utf-8",
        )
        script = 'mount -t tmpfs tmpfs /run && mkdir /run/allotment-import && exec "$0" --config "$1" --log-level warn'
        command = [
            *(program("unshare"), "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("sh", "-c", script, program("containerd"), str(configuration)),
        ]
        with (
            (Path(folder) / "log").open("wb") as log,
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as server,
        ):
            try:
                inner = _await_child(server)
                enter = (program("nsenter"), f"--target={inner}", "--mount", "--pid", "--")
                ctr = (*enter, program("ctr"), f"--address={_SOCKET}", "--namespace=k8s.io")
                _await_server(ctr, server, Path(folder) / "log")
                yield ctr
                os.kill(inner, signal.SIGTERM)  # it closes its databases in order
                server.wait(30)
            finally:
                server.kill()


def _await_child(server: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if found := children.read_text(encoding="ascii").split():
                return int(found[0])
        time.sleep(0.01)
    raise LocalClusterError("containerd could not be started in namespaces of its own.")


def _await_server(ctr: Sequence[str], server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 30
    while subprocess.run([*ctr, "version"], capture_output=True, check=False).returncode:
        if server.poll() is not None or time.monotonic() > end:
            raise LocalClusterError(f"containerd does not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)
