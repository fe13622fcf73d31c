"""An OCI image layout on disk: layers written from folders, images as small documents that name them.

Follows the OCI image specification 1.1 (image-layout.md, manifest.md, config.md, layer.md). Layers are plain tar: they
never travel, so compressing them would only cost time. Blobs are named by their digest, so images that share a layer
share the blob, and writing the same content twice changes nothing.

A layer is a folder's tree as it is, except that owners may be set and times are dropped: the same content has the same
digest on every machine.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_NAME = "io.containerd.image.name"


@dataclass(frozen=True, slots=True)
class Blob:
    """Content by its digest."""

    media_type: str
    digest: str
    size: int

    def descriptor(self, **annotations: str) -> dict[str, Any]:
        """The blob as an OCI descriptor."""
        content: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return {**content, "annotations": annotations} if annotations else content


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How a container of the image starts, where a pod says nothing else."""

    entrypoint: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    folder: str = "/"


@dataclass(frozen=True, slots=True)
class Image:
    """A finished image in the layout.

    Attributes:
        names: its full references, such as `allotment.local/kafka:4.3.1`.
        manifest: its manifest.
        blobs: all that belongs to it: manifest, configuration and layers.
        layers: its layers, lowest first; another image may be built on them.
        settings: how its containers start; what is built on it inherits the environment.
    """

    names: tuple[str, ...]
    manifest: Blob
    blobs: tuple[Blob, ...]
    layers: tuple[Blob, ...]
    settings: RunSettings


class _Hashing(io.RawIOBase):
    """A file that knows the digest and size of what went through it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._digest.hexdigest()}"

    def write(self, content: Any) -> int:  # noqa: ANN401 - any buffer, as in RawIOBase
        self._digest.update(content)
        self.size += len(content)
        return self._file.write(content)


class ImageLayout:
    """A folder of blobs."""

    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "blobs" / "sha256"
        self._blobs.mkdir(parents=True, exist_ok=True)

    def path(self, blob: Blob) -> Path:
        """Where a blob's content lies."""
        return self._blobs / blob.digest.removeprefix("sha256:")

    def add_layer(self, root: Path, *, owner: tuple[int, int] | None = None) -> Blob:
        """Make a folder's tree a layer.

        Args:
            root: becomes `/`.
            owner: user and group of everything in it; None keeps what the files have.
        """
        temporary = self._blobs / f".layer.{os.getpid()}"
        try:
            with temporary.open("wb") as file:
                hashing = _Hashing(file)
                with tarfile.open(fileobj=hashing, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                    _add_tree(archive, root, _plain(owner))
            blob = Blob(_LAYER, hashing.digest, hashing.size)
            temporary.replace(self.path(blob))
        finally:
            temporary.unlink(missing_ok=True)
        return blob

    def add_image(self, names: Sequence[str], layers: Sequence[Blob], settings: RunSettings) -> Image:
        """Make an image of layers, lowest first."""
        configuration = self._add_document(
            _CONFIG,
            {
                "architecture": _architecture(),
                "os": "linux",
                "config": {
                    "Env": [f"{key}={value}" for key, value in settings.environment.items()],
                    "Entrypoint": list(settings.entrypoint),
                    "User": settings.user,
                    "WorkingDir": settings.folder,
                },
                # Layers are not compressed, so a layer's digest is that of its content.
                "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
            },
        )
        manifest = self._add_document(
            _MANIFEST,
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": configuration.descriptor(),
                "layers": [layer.descriptor() for layer in layers],
            },
        )
        return Image(tuple(names), manifest, (manifest, configuration, *layers), tuple(layers), settings)

    def _add_document(self, media_type: str, content: Mapping[str, Any]) -> Blob:
        encoded = json.dumps(content, sort_keys=True).encode()
        blob = Blob(media_type, f"sha256:{hashlib.sha256(encoded).hexdigest()}", len(encoded))
        temporary = self._blobs / f".document.{os.getpid()}"
        temporary.write_bytes(encoded)
        temporary.replace(self.path(blob))
        return blob

    def holds(self, image: Image) -> bool:
        """Whether all of the image's content is still there."""
        return all(self.path(blob).is_file() for blob in image.blobs)

    def write_archive(
        self, images: Sequence[Image], target: IO[bytes], *, without: frozenset[str] = frozenset()
    ) -> None:
        """Write images as one archive, shared blobs once: what `ctr images import -` reads.

        Args:
            images: which.
            target: written to from its present place.
            without: digests of blobs to leave out, because the reader has them.
        """
        index = {
            "schemaVersion": 2,
            "mediaType": _INDEX,
            "manifests": [image.manifest.descriptor(**{_NAME: name}) for image in images for name in image.names],
        }
        blobs = {blob.digest: blob for image in images for blob in image.blobs if blob.digest not in without}
        with tarfile.open(fileobj=target, mode="w|") as archive:
            _add_content(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            _add_content(archive, "index.json", json.dumps(index).encode())
            for blob in blobs.values():
                path = self.path(blob)
                archive.add(path, f"blobs/sha256/{path.name}", recursive=False)


def _add_tree(archive: tarfile.TarFile, root: Path, settle: Callable[[tarfile.TarInfo], tarfile.TarInfo]) -> None:
    """Add everything below a folder, by name, so that the same tree gives the same bytes."""
    for folder, folders, names in os.walk(root):
        folders.sort()
        # A link to a folder is listed as a folder by os.walk, and not followed.
        for name in sorted([*folders, *names]):
            path = Path(folder, name)
            archive.add(path, str(path.relative_to(root)), recursive=False, filter=settle)


def _plain(owner: tuple[int, int] | None) -> Callable[[tarfile.TarInfo], tarfile.TarInfo]:
    def settle(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.mtime = 0
        entry.uname = entry.gname = ""
        if owner is not None:
            entry.uid, entry.gid = owner
        return entry

    return settle


def _add_content(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _architecture() -> str:
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
