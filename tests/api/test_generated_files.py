import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from allotment_api import generate
from allotment_api.generate import CRD_FOLDERS, ROOT, differences, files, main, write
from allotment_api.registry import KINDS


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write(tmp_path)
    return tmp_path


def test_what_is_checked_in_is_what_the_models_say() -> None:
    assert differences(ROOT) == []


def test_both_homes_of_the_definitions_hold_the_same_files() -> None:
    wanted = files()
    per_folder = [{path.name: text for path, text in wanted.items() if path.parent == folder} for folder in CRD_FOLDERS]

    assert len(per_folder[0]) == len(KINDS)
    assert per_folder[0] == per_folder[1]


def test_generation_is_repeatable(repository: Path) -> None:
    assert write(repository) == []
    assert main(["--check", "--root", str(repository)]) == 0


def test_a_hand_edit_fails_the_check_with_the_difference(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = repository / "crds/tenants.yaml"
    path.write_text(path.read_text().replace("shortNames", "nicknames"))

    assert main(["--check", "--root", str(repository)]) == 1
    said = capsys.readouterr().err
    assert "-    nicknames:" in said
    assert "+    shortNames:" in said
    assert "python -m allotment_api.generate" in said


def test_files_of_kinds_that_are_gone_are_found_and_removed(repository: Path) -> None:
    path = repository / "crds/widgets.yaml"
    path.write_text("kind: CustomResourceDefinition\n")

    assert any("widgets.yaml" in hint for hint in differences(repository))
    assert write(repository) == [Path("crds/widgets.yaml")]
    assert not path.exists()


def test_pages_of_kinds_that_are_gone_are_found_too(repository: Path) -> None:
    (repository / "docs/reference/widgets.md").write_text("# Widget\n")

    assert [hint.split(":")[0] for hint in differences(repository)] == ["docs/reference/widgets.md"]


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    write(tmp_path)
    shutil.rmtree(tmp_path / "helm")

    assert len(differences(tmp_path)) == len(KINDS)
    assert len(write(tmp_path)) == len(KINDS)


def test_files_are_yaml_without_anchors() -> None:
    for text in (generate.crd_text(kind) for kind in KINDS.values()):
        document: Any = yaml.load(text, yaml.CSafeLoader)
        assert document["kind"] == "CustomResourceDefinition"
        assert "&id" not in text
