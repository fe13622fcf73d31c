"""Our own programs for an image, from the checkout that we run in: the Dockerfile's steps, one by one.

Exactly the lock file's versions, by hash, then our own wheel and nothing more, in /opt/allotment as in the image that
the Dockerfile makes.
"""

import hashlib
import shutil
import tempfile
from pathlib import Path

from allotment_local.errors import LocalClusterError
from allotment_local.real_node.images.sources import python
from allotment_local.real_node.tools import run

HOME = Path("opt/allotment")
LIBRARY = HOME / "lib"
PROGRAMS = HOME / "bin"

_SOURCES = ("pyproject.toml", "uv.lock", "README.md", "LICENSE")
_FOLDER = Path(__file__).resolve().parents[5]
_INTERPRETER = "#!/usr/bin/python3\n"


def root() -> Path:
    """The checkout's folder.

    Raises:
        LocalClusterError: we run from an installed wheel.
    """
    if not is_there():
        raise LocalClusterError(
            "The image of Allotment's own programs can be made from a source checkout only.",
            hint="Clone the repository and run `allot` from there, or leave that image out.",
        )
    return _FOLDER


def is_there() -> bool:
    """Whether we run from a checkout."""
    return (_FOLDER / "uv.lock").is_file()


def lock_digest() -> str:
    """Changes when a dependency does."""
    return hashlib.sha256((root() / "uv.lock").read_bytes()).hexdigest()[:16]


def source_digest() -> str:
    """Changes when anything does that the wheel is built from."""
    digest = hashlib.sha256()
    for path in _wheel_sources(root()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root())} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def _wheel_sources(folder: Path) -> list[Path]:
    packages = folder.glob("*/allotment_*")
    trees = [*packages, folder / "helm", folder / "localcluster/controlplane", folder / "localcluster/node"]
    found = [path for tree in trees for path in tree.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return sorted([*found, *(folder / name for name in _SOURCES)])


def install_dependencies(image: Path, *, cache: Path) -> None:
    """Install what the lock file names."""
    with tempfile.TemporaryDirectory(prefix="allotment-image-") as folder:
        requirements = Path(folder, "requirements.txt")
        run(
            *(python.installer(), "export", "--frozen", "--no-dev", "--no-emit-project", "--quiet"),
            *(f"--project={root()}", f"--output-file={requirements}"),
            timeout=300,
        )
        python.install(("--require-hashes", f"--requirement={requirements}"), image / LIBRARY, cache=cache)
    _move_programs(image)


def install_wheel(image: Path, *, cache: Path) -> None:
    """Build our wheel and install it alone."""
    with tempfile.TemporaryDirectory(prefix="allotment-image-") as folder:
        run(
            *(python.installer(), "build", "--wheel", "--quiet", f"--out-dir={folder}", f"--cache-dir={cache}"),
            str(root()),
            timeout=300,
        )
        [wheel] = Path(folder).glob("*.whl")
        python.install((str(wheel),), image / LIBRARY, cache=cache, with_dependencies=False)
    _move_programs(image)


def _move_programs(image: Path) -> None:
    """Put the start scripts on PATH, and make them start the image's Python instead of the one that installed them."""
    programs = image / PROGRAMS
    programs.mkdir(parents=True, exist_ok=True)
    for script in (image / LIBRARY / "bin").glob("*"):
        content = script.read_bytes()
        if content.startswith(b"#!"):
            script.write_bytes(_INTERPRETER.encode() + content.partition(b"\n")[2])
        shutil.move(script, programs / script.name)
    (image / LIBRARY / "bin").rmdir()
