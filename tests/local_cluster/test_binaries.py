"""Which programs a cluster runs: ours, the machine's, or those of a folder."""

from pathlib import Path

import pytest

from allotment_local import binaries, build
from allotment_local.errors import BuildError
from allotment_local.layout import Layout
from allotment_local.progress import Silent

ALL = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl", "kwok")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(cache=tmp_path / "cache", state=tmp_path / "state")


def programs(folder: Path, *names: str, version: str = "v1.36.0") -> Path:
    """Fill a folder with programs that only know their version."""
    folder.mkdir()
    for name in names:
        (folder / name).write_text(f"#!/bin/sh\necho Kubernetes {version}\n")
        (folder / name).chmod(0o755)
    return folder


def _cannot_build(*_: object, **__: object) -> Path:
    raise BuildError("cannot build today", hint="a hint")


def choose(layout: Layout, **environment: str) -> binaries.Binaries:
    return binaries.choose(layout=layout, progress=Silent(), environment=environment)


def test_a_folder_may_be_chosen(layout: Layout, tmp_path: Path) -> None:
    folder = programs(tmp_path / "bin", *ALL)

    assert choose(layout, ALLOTMENT_BINARIES=str(folder)) == {name: (str(folder / name),) for name in ALL}


def test_kubebuilder_assets_come_before_the_path(layout: Layout, tmp_path: Path) -> None:
    assets = programs(tmp_path / "assets", *binaries.REQUIRED)
    path = programs(tmp_path / "path", *ALL)

    chosen = choose(layout, ALLOTMENT_BINARIES="system", KUBEBUILDER_ASSETS=str(assets), PATH=str(path))

    assert chosen["etcd"] == (str(assets / "etcd"),)
    assert chosen["kwok"] == (str(path / "kwok"),)


def test_where_building_is_impossible_the_machines_own_are_taken(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "ensure", _cannot_build)
    assets = programs(tmp_path / "assets", *binaries.REQUIRED)

    assert set(choose(layout, KUBEBUILDER_ASSETS=str(assets), PATH="")) == set(binaries.REQUIRED)


@pytest.mark.parametrize("wanted", ["", "build"])
def test_where_neither_works_the_reason_is_the_builds(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    monkeypatch.setattr(build, "ensure", _cannot_build)

    with pytest.raises(BuildError, match="cannot build today"):
        choose(layout, ALLOTMENT_BINARIES=wanted, PATH="")


def test_who_asks_for_a_build_gets_no_substitute(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "ensure", _cannot_build)
    path = programs(tmp_path / "path", *ALL)

    with pytest.raises(BuildError, match="cannot build today"):
        choose(layout, ALLOTMENT_BINARIES="build", PATH=str(path))


def test_an_incomplete_folder_is_refused_by_what_is_missing(layout: Layout, tmp_path: Path) -> None:
    folder = programs(tmp_path / "bin", "etcd")

    with pytest.raises(BuildError, match="kube-apiserver, kubectl not found"):
        choose(layout, ALLOTMENT_BINARIES=str(folder))


def test_an_older_kubernetes_is_refused(layout: Layout, tmp_path: Path) -> None:
    folder = programs(tmp_path / "bin", *ALL, version="v1.35.9")

    with pytest.raises(BuildError, match=r"Kubernetes v1\.35; Allotment needs 1\.36"):
        choose(layout, ALLOTMENT_BINARIES=str(folder))
