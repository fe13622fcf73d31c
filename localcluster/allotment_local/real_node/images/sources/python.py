"""Python packages for an image, from the package index, installed for the image's Python rather than for ours."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from allotment_local.errors import LocalClusterError
from allotment_local.real_node.tools import run

IMAGE_PYTHON = "3.11"
"""The version in the base image (Debian 12)."""


def install(
    requirements: Sequence[str], target: Path, *, cache: Path, with_dependencies: bool = True, built_here: bool = False
) -> None:
    """Install requirements into a folder.

    Args:
        requirements: names with versions, paths of wheels, or further options of `uv pip install`.
        target: becomes a folder to put on PYTHONPATH.
        cache: keeps downloads.
        with_dependencies: also what the requirements need.
        built_here: whether packages may be built from source; only right for those of Python code alone.
    """
    command = (
        *(installer(), "pip", "install", "--quiet", f"--target={target}"),
        # A large package built from source would lie in the cache several times over, for no second use.
        "--no-cache" if built_here else f"--cache-dir={cache}",
        *(f"--python-version={IMAGE_PYTHON}", f"--python-platform={os.uname().machine}-unknown-linux-gnu"),
        "--compile-bytecode",  # containers cannot write byte code themselves
        *(() if built_here else ("--only-binary=:all:",)),
        *(() if with_dependencies else ("--no-deps",)),
        *requirements,
    )
    run(*command, timeout=1800)


def installer(environment: Mapping[str, str] = os.environ) -> str:
    """The path of uv: beside our interpreter, in the checkout's tools, or on PATH.

    Raises:
        LocalClusterError: there is none.
    """
    checkout = Path(__file__).resolve().parents[5]
    places = (Path(sys.executable).parent, checkout / ".tools/bin", Path(sys.prefix, "bin"))
    path = os.pathsep.join([*map(str, places), environment.get("PATH", os.defpath)])
    found = shutil.which("uv", path=path)
    if found is None:
        raise LocalClusterError("uv is needed to put Python packages into images.", hint="Install it: pip install uv")
    return found
