"""Pruning: what goes, what stays, and what it says."""

import json
import os
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


@pytest.fixture
def images(layout: Layout) -> Path:
    """A cache of images: two of one name that share a layer, one of another name, two stores, downloads."""
    folder = layout.cache / "images"
    contents = {
        "made/old.json": _image("kafka", "base", "jars-1"),
        "made/new.json": _image("kafka", "base", "jars-2"),
        "made/spark.json": _image("spark", "base", "wheel"),
        "blobs/sha256/base": b"x" * 10_000,
        "blobs/sha256/jars-1": b"x" * 50_000,
        "blobs/sha256/jars-2": b"x" * 10_000,
        "blobs/sha256/wheel": b"x" * 10_000,
        "stores/unused/blob": b"x" * 20_000,
        "stores/used/blob": b"x" * 10_000,
        "stores/.new-half/blob": b"x" * 10_000,
        "downloads/maven/jar": b"x" * 10_000,
    }
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for age, name in enumerate(("made/new.json", "made/spark.json", "made/old.json", "stores/used", "stores/unused")):
        os.utime(folder / name, (1_000_000 - age, 1_000_000 - age))
    return folder


def _image(name: str, *layers: str) -> bytes:
    blobs = [{"digest": f"sha256:{layer}", "size": 1} for layer in layers]
    return json.dumps({"names": [f"allotment.local/{name}:1"], "blobs": blobs}).encode()


def test_the_youngest_image_of_a_name_and_the_last_used_store_stay(layout: Layout, images: Path) -> None:
    prune(layout, everything=False)

    left = {str(path.relative_to(images)) for path in images.rglob("*") if path.is_file() and path.name != ".lock"}
    assert left == {
        "image",
        "made/new.json",
        "made/spark.json",
        "blobs/sha256/base",
        "blobs/sha256/jars-2",
        "blobs/sha256/wheel",
        "stores/used/blob",
    }


def test_what_a_node_shares_with_a_store_does_not_count_as_given_back(layout: Layout, images: Path) -> None:
    (layout.state / "node").mkdir(parents=True)
    os.link(images / "stores/unused/blob", layout.state / "node/blob")

    sizes = {item.path.name: item.size for item in prune(layout, everything=False)}

    assert sizes["unused"] == 0
    assert sizes["jars-1"] >= 50_000
    assert (layout.state / "node/blob").exists()


def test_a_file_with_two_names_counts_once_when_both_go(layout: Layout, images: Path) -> None:
    os.link(images / "stores/unused/blob", images / "downloads/maven/blob")

    sizes = [item.size for item in prune(layout, everything=False) if item.path.name in {"unused", "maven"}]

    assert sum(sizes) in range(30_000, 60_000)


def test_images_are_found_where_nothing_was_ever_built(layout: Layout, images: Path) -> None:
    for folder in (layout.binaries, layout.go_modules, layout.go_build):
        folder.rename(folder.with_name(f"gone-{folder.name}"))

    assert "jars-1" in {item.path.name for item in prune(layout, everything=False)}
    assert not (images / "blobs/sha256/jars-1").exists()
