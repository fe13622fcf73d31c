"""Pruning: what goes, what stays, and what it says."""

from pathlib import Path

import pytest

from allotment_local import build
from allotment_local.layout import Layout, module_source
from allotment_local.prune import prune
from allotment_local.specification import Ports, Specification


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A cache with caches, a toolchain, a current and an old binary."""
    made = Layout(cache=tmp_path / "cache", state=tmp_path / "state")
    current = build.source_digest(build.HELM, module_source("helm"))
    for path in (
        made.go_build / "ab" / "object",
        made.go_modules / "example.com@v1" / "file.go",
        made.toolchain / "bin" / "go",
        made.cache / "images" / "image",
        made.binaries / f"helm-{current}-go1.26.8" / "helm",
        made.binaries / "helm-0123456789ab-go1.26.8" / "helm",
    ):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * 10_000)
    (made.go_modules / "example.com@v1").chmod(0o555)  # as Go leaves it
    return made


def names(folder: Path) -> list[str]:
    return sorted(
        path.name.split("-")[0] + path.name[-1:] for path in folder.iterdir() if not path.name.startswith(".")
    )


def test_caches_and_old_binaries_go_and_the_current_ones_stay(layout: Layout) -> None:
    removed = prune(layout, everything=False)

    assert {item.path.name for item in removed} == {"build", "mod", "helm-0123456789ab-go1.26.8"}
    assert not [item for item in removed if item.path.exists()]
    assert all(item.size >= 10_000 for item in removed)
    assert len(names(layout.binaries)) == 1
    assert layout.toolchain.exists()
    assert (layout.cache / "images").exists()


def test_everything_goes_on_request(layout: Layout) -> None:
    prune(layout, everything=True)

    assert not names(layout.binaries)
    assert not layout.toolchain.exists()
    assert not (layout.cache / "images").exists()


def test_a_dry_run_removes_nothing(layout: Layout) -> None:
    assert prune(layout, everything=True, dry_run=True)

    assert layout.go_build.exists()
    assert len(names(layout.binaries)) == 2


def test_the_binaries_of_existing_clusters_stay(layout: Layout) -> None:
    binary = layout.binaries / "helm-0123456789ab-go1.26.8" / "helm"
    folder = layout.cluster("running")
    folder.mkdir(parents=True)
    Specification("running", folder, Ports(1, 2, 3, 4, 5), binaries={"etcd": (str(binary), "etcd")}).save()

    prune(layout, everything=True)

    assert binary.exists()


def test_an_empty_cache_gives_nothing_back(tmp_path: Path) -> None:
    assert prune(Layout(cache=tmp_path / "cache", state=tmp_path / "state"), everything=True) == []
