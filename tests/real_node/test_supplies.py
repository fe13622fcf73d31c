"""Programs and images are made side by side, and the failure of either is told."""

from pathlib import Path

import pytest

from allotment_local.errors import BuildError, LocalClusterError
from allotment_local.layout import Layout
from allotment_local.real_node import programs, supplies
from allotment_local.real_node.images.cache import ImageCache
from allotment_local.real_node.images.recipes import Recipe


class Told:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    def step(self, what: str, done: int = 0, total: int = 0) -> None:
        raise AssertionError(f"the bar belongs to the compiler: {what}, {done} of {total}")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(cache=tmp_path / "cache", state=tmp_path / "state")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Programs that are there already."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for target in programs.TARGETS:
        (folder / target.program).write_text(target.program)
    return {"ALLOTMENT_NODE_BINARIES": str(folder)}


def recipe(name: str, *, broken: bool = False) -> Recipe:
    def fill(root: Path, _downloads: Path) -> None:
        if broken:
            raise LocalClusterError("Nothing to download from.")
        (root / "file").write_text(name)

    return Recipe(name, "1", (name,), fill)


def test_both_are_there_afterwards(layout: Layout, environment: dict[str, str]) -> None:
    told = Told()

    built = supplies.gather([recipe("one"), recipe("two")], layout=layout, progress=told, environment=environment)

    assert built.coredns.read_text() == "coredns"
    assert [message for message in told.said if message.startswith("Making")] == [
        "Making the image allotment.local/one:1",
        "Making the image allotment.local/two:1",
    ]
    told.said.clear()
    ImageCache(layout, told).image(recipe("one"))
    assert told.said == [], "an image that is there is not made again"


def test_an_image_that_cannot_be_made_is_told(layout: Layout, environment: dict[str, str]) -> None:
    with pytest.raises(LocalClusterError, match="Nothing to download from"):
        supplies.gather([recipe("one", broken=True)], layout=layout, progress=Told(), environment=environment)


def test_a_program_that_cannot_be_had_is_told(layout: Layout, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="allotment-node, pause, kube-router, coredns not found"):
        supplies.gather(
            [recipe("one")],
            layout=layout,
            progress=Told(),
            environment={"ALLOTMENT_NODE_BINARIES": str(tmp_path)},
        )
