"""Making .venv: once per folder, and anew where it was copied from another one or its Python has gone."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "bootstrap"
[VERSION] = re.findall(r"^UV_VERSION=(\S+)$", SCRIPT.read_text(), re.MULTILINE)
UV = f"""#!/bin/sh
if [ "$1" = --version ]; then echo "uv {VERSION}"; exit; fi
echo sync >> calls
mkdir -p .venv/bin
ln -sf "{sys.executable}" .venv/bin/python
printf '#!/bin/sh\\n' > .venv/bin/allot
chmod +x .venv/bin/allot
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a uv that only pretends, and a .venv made by it."""
    folder = tmp_path / "one"
    for name in ("scripts", ".tools/bin"):
        (folder / name).mkdir(parents=True)
    shutil.copy(SCRIPT, folder / "scripts")
    for name in ("uv.lock", "pyproject.toml"):
        (folder / name).write_text(name)
    (folder / ".tools/bin/uv").write_text(UV)
    (folder / ".tools/bin/uv").chmod(0o755)
    bootstrap(folder)
    return folder


def bootstrap(folder: Path) -> int:
    """Run it; returns how often uv was asked so far."""
    subprocess.run([folder / "scripts" / "bootstrap"], check=True, capture_output=True)
    return len((folder / "calls").read_text().splitlines())


def test_what_is_there_is_left_alone(checkout: Path) -> None:
    assert bootstrap(checkout) == 1


def another_lock(folder: Path) -> None:
    (folder / "uv.lock").write_text("another")


def no_python(folder: Path) -> None:
    (folder / ".venv/bin/python").unlink()
    (folder / ".venv/bin/python").symlink_to("/nowhere/python3")


@pytest.mark.parametrize(
    ("change", "stays"), [(another_lock, True), (no_python, False)], ids=["the lock has changed", "its Python has gone"]
)
def test_what_does_not_fit_is_made_anew(change: Callable[[Path], None], *, stays: bool, checkout: Path) -> None:
    (checkout / ".venv/mark").touch()
    change(checkout)

    assert bootstrap(checkout) == 2
    assert (checkout / ".venv/mark").exists() == stays


def test_a_copy_makes_its_own(checkout: Path) -> None:
    copy = checkout.with_name("two")
    shutil.copytree(checkout, copy, symlinks=True)
    (copy / ".venv/mark").touch()

    assert bootstrap(copy) == 2
    assert not (copy / ".venv/mark").exists()


def test_the_image_is_made_by_the_same_uv() -> None:
    assert f"uv=={VERSION}\n" in (ROOT / "Dockerfile").read_text()
