"""Whose a cluster is: the demo takes away its own, and nobody else's, whatever it is called."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from allotment_cli.demo.production import put_on
from allotment_cli.main import app
from allotment_local.cluster import LocalCluster
from allotment_local.errors import InvalidInputError, LocalClusterError


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """The command takes SIGTERM for itself; in a test it gives it back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def existing(state: Path, name: str, *, demo: bool = False) -> Path:
    """The folder of a cluster that is there already, with data in it."""
    folder = state / "clusters" / name
    (folder / "demo" if demo else folder).mkdir(parents=True)
    (folder / "data").write_text("weeks of work")
    return folder


def allot(state: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["demo", *arguments], env={"ALLOTMENT_STATE": str(state), "COLUMNS": "200"})


@pytest.mark.parametrize(
    ("demo", "advice"), [(True, "`allot demo --down --name taken` takes it away"), (False, "Choose another --name")]
)
def test_a_cluster_of_that_name_is_named_and_left_alone(state: Path, demo: bool, advice: str) -> None:
    folder = existing(state, "taken", demo=demo)

    done = allot(state, "--name", "taken")

    assert done.exit_code == 2
    assert "A cluster 'taken' exists already" in done.stderr
    assert advice in done.stderr
    assert (folder / "data").read_text() == "weeks of work"


def test_only_a_demo_is_taken_away_as_one(state: Path) -> None:
    own, demo = existing(state, "own"), existing(state, "kept", demo=True)

    refused, done, again = (allot(state, "--down", "--name", name) for name in ("own", "kept", "kept"))

    assert (refused.exit_code, done.exit_code, again.exit_code) == (2, 0, 0)
    assert "`allot local down --name own`" in refused.stderr
    assert (own / "data").exists()
    assert not demo.exists()
    assert "There was no demo" in again.stdout


class Stolen(LocalCluster):
    """A cluster that another demo had made its own by the time it was our turn."""

    def up(self, **_: Any) -> Any:
        existing(self.layout.state, self.name, demo=True)


class Broken(LocalCluster):
    """A cluster on which nothing can be installed."""

    def up(self, **_: Any) -> Any:
        self.folder.mkdir(parents=True)

    def helm(self, *_: Any, **__: Any) -> Any:
        raise LocalClusterError("no chart today")


def test_of_two_demos_at_once_the_slower_one_leaves_the_other_alone(state: Path) -> None:
    cluster = Stolen("demo", state=state)

    with pytest.raises(InvalidInputError, match="exists already"):
        put_on(cluster, Console(quiet=True), keep=False, svg=None, report=None)

    assert (cluster.folder / "data").exists()


@pytest.mark.parametrize("keep", [False, True])
def test_a_demo_that_fails_takes_away_what_it_made(state: Path, keep: bool) -> None:
    cluster = Broken("demo", state=state)

    with pytest.raises(LocalClusterError, match="no chart today"):
        put_on(cluster, Console(quiet=True), keep=keep, svg=None, report=None)

    assert not cluster.folder.exists()


@pytest.mark.parametrize("option", ["--svg", "--report"])
def test_a_file_that_cannot_be_written_is_told_before_anything_starts(state: Path, option: str) -> None:
    done = allot(state, option, str(state / "nowhere" / "file"))

    assert done.exit_code == 2
    assert "there is no folder" in done.stderr
    assert not state.exists()
