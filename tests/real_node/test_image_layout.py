"""Images are written as the OCI image specification says, and the same content gives the same image."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import msgspec
import pytest

from allotment_local.errors import InvalidInputError
from allotment_local.real_node.images import recipes
from allotment_local.real_node.images.cache import nearest_store
from allotment_local.real_node.images.layout import Blob, Image, ImageLayout, RunSettings
from allotment_local.real_node.images.recipes import Recipe, inherited
from allotment_local.real_node.images.sources import maven

SETTINGS = RunSettings(entrypoint=("/bin/program",), environment={"A": "1"}, user="1000", folder="/work")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small file system."""
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin/program").write_text("#!/bin/sh\n")
    (root / "bin/program").chmod(0o755)
    (root / "bin/alias").symlink_to("program")
    (root / "lib").symlink_to("bin")
    return root


@pytest.fixture
def layout(tmp_path: Path) -> ImageLayout:
    return ImageLayout(tmp_path / "images")


def archived(layout: ImageLayout, *names: str, tree: Path) -> dict[str, bytes]:
    image = layout.add_image(names, [layout.add_layer(tree, owner=(0, 0))], SETTINGS)
    content = io.BytesIO()
    layout.write_archive([image], content)
    content.seek(0)
    with tarfile.open(fileobj=content) as archive:
        return {entry.name: file.read() for entry in archive if (file := archive.extractfile(entry)) is not None}


def image(name: str, *layers: str) -> Image:
    blobs = tuple(Blob("layer", f"sha256:{layer}", len(layer) * 100) for layer in (name, *layers))
    return Image((f"example/{name}:1",), blobs[0], blobs, blobs[1:], SETTINGS)


def test_a_blob_that_the_reader_has_is_left_out(layout: ImageLayout, tree: Path) -> None:
    made = layout.add_image(("example/one:1",), [layout.add_layer(tree, owner=(0, 0))], SETTINGS)
    content = io.BytesIO()

    layout.write_archive([made], content, without=frozenset({made.layers[0].digest}))

    content.seek(0)
    with tarfile.open(fileobj=content) as archive:
        names = archive.getnames()
    assert len(names) == 4  # the two documents of the layout, the manifest and the configuration
    assert not any(name.endswith(made.layers[0].digest.removeprefix("sha256:")) for name in names)


@pytest.mark.parametrize(
    ("stores", "want", "want_held"),
    [
        pytest.param({}, None, [], id="there is none"),
        pytest.param({"a": [image("base")]}, "a", ["base"], id="one with a part"),
        pytest.param({"a": [image("base")], "b": [image("base"), image("kafka")]}, "b", ["base", "kafka"], id="more"),
        pytest.param({"a": [image("base"), image("kafka", "older")]}, "a", ["base"], id="one image has changed"),
        pytest.param({"a": [image("base"), image("spark")]}, None, [], id="an image nobody wants would stay for ever"),
        pytest.param({"a": [image("base", "older")]}, None, [], id="nothing is the same"),
    ],
)
def test_a_new_store_starts_from_the_one_with_most_of_its_images(
    tmp_path: Path, stores: dict[str, list[Image]], want: str | None, want_held: list[str]
) -> None:
    for name, there in stores.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "held.json").write_bytes(msgspec.json.encode(there))
    (tmp_path / "of-an-older-version").mkdir()
    wanted = [image("base"), image("kafka"), image("client")]

    store, held = nearest_store(tmp_path, wanted)

    assert (store and store.name) == want
    assert [each.names[0] for each in held] == [f"example/{name}:1" for name in want_held]


def test_an_archive_holds_an_index_that_leads_to_every_blob(layout: ImageLayout, tree: Path) -> None:
    files = archived(layout, "example/one:1", "example/two:1", tree=tree)

    def blob(digest: str) -> bytes:
        content = files[f"blobs/sha256/{digest.removeprefix('sha256:')}"]
        assert f"sha256:{hashlib.sha256(content).hexdigest()}" == digest
        return content

    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    first, second = json.loads(files["index.json"])["manifests"]
    assert [entry["annotations"]["io.containerd.image.name"] for entry in (first, second)] == [
        "example/one:1",
        "example/two:1",
    ]
    assert first["digest"] == second["digest"]
    manifest = json.loads(blob(first["digest"]))
    configuration = json.loads(blob(manifest["config"]["digest"]))
    assert configuration["config"] == {
        "Env": ["A=1"],
        "Entrypoint": ["/bin/program"],
        "User": "1000",
        "WorkingDir": "/work",
    }
    assert configuration["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    with tarfile.open(fileobj=io.BytesIO(blob(manifest["layers"][0]["digest"]))) as layer:
        assert layer.getnames() == ["bin", "lib", "bin/alias", "bin/program"]
        assert layer.getmember("bin/program").mode == 0o755
        assert layer.getmember("lib").linkname == "bin"
        assert {(entry.uid, entry.gid, entry.mtime) for entry in layer} == {(0, 0, 0)}


def test_the_same_tree_gives_the_same_layer_whenever_it_was_written(layout: ImageLayout, tree: Path) -> None:
    first = layout.add_layer(tree, owner=(0, 0))
    os.utime(tree / "bin/program", (1, 1))

    assert layout.add_layer(tree, owner=(0, 0)) == first


def test_a_missing_blob_is_noticed(layout: ImageLayout, tree: Path) -> None:
    image = layout.add_image(("example/one:1",), [layout.add_layer(tree)], SETTINGS)
    assert layout.holds(image)

    layout.path(image.layers[0]).unlink()

    assert not layout.holds(image)


def test_a_recipe_changes_with_its_inputs_and_with_what_it_stands_on() -> None:
    def recipe(*inputs: str, base: Recipe | None = None) -> Recipe:
        return Recipe("name", "1", inputs, lambda _root, _downloads: None, base=base)

    keys = [recipe("a"), recipe("b"), recipe("a", base=recipe("c")), recipe("a", base=recipe("d"))]

    assert len({each.key for each in keys}) == len(keys)
    assert recipe("a", base=recipe("c")).key == recipe("a", base=recipe("c")).key


@pytest.mark.parametrize("name", ["kafka", "cassandra", "spark"])
def test_services_find_java_in_the_environment_that_they_inherit(name: str) -> None:
    environment = inherited(recipes.RECIPES[name]()).environment

    assert environment["JAVA_HOME"] == "/opt/java/openjdk"
    assert environment["PATH"].startswith("/opt/java/openjdk/bin:")


def test_an_unknown_image_is_refused_by_name() -> None:
    with pytest.raises(InvalidInputError, match="no image kafak"):
        recipes.chosen(["base", "kafak"])


def test_a_maven_project_names_each_artifact() -> None:
    written = maven.project(["org.example:thing:1.0"])

    assert "<groupId>org.example</groupId><artifactId>thing</artifactId><version>1.0</version>" in written
