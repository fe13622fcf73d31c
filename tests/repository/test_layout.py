"""Guards of the layout: what would break imports or tests in ways that are hard to see."""

import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
    "packages"
]
STANDARD_LIBRARY = sys.stdlib_module_names


def test_top_folders_are_no_packages() -> None:
    shadowing = [package for package in PACKAGES if (ROOT / package).parent.joinpath("__init__.py").exists()]

    assert shadowing == []


def test_the_standard_library_operator_is_not_shadowed_from_the_root() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import operator; print(operator.__file__)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert Path(done.stdout.strip()).is_relative_to(sysconfig.get_path("stdlib"))


def test_tests_are_no_packages_and_shadow_no_standard_module() -> None:
    tests = ROOT / "tests"

    assert [str(path) for path in tests.rglob("__init__.py")] == []
    assert [path.name for path in tests.iterdir() if path.is_dir() and path.name in STANDARD_LIBRARY] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_typed_and_importable_by_its_last_path_part(package: str) -> None:
    name = Path(package).name

    subprocess.run([sys.executable, "-c", f"import {name}"], cwd=ROOT, check=True)
    assert (ROOT / package / "py.typed").exists()


def test_the_wheel_holds_every_package_and_what_the_programs_read(tmp_path: Path) -> None:
    uv = ROOT / ".tools" / "bin" / "uv"
    subprocess.run([uv, "build", "--wheel", "--sdist", "--quiet", "--out-dir", tmp_path], cwd=ROOT, check=True)

    wheel = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    top = {name.split("/")[0] for name in wheel if ".dist-info" not in name}
    assert top == {Path(package).name for package in PACKAGES}
    for needed in ("controlplane/go.sum", "controlplane/main.go", "helm/go.sum", "chart/Chart.yaml"):
        assert f"allotment_local/{needed}" in wheel
    assert list(tmp_path.glob("*.tar.gz"))
