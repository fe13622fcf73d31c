"""Every command of the guide to scheduling that names files prints the lines that stand below it.

Warnings come on another stream, so that they stand first here, as on a terminal.
"""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from allotment_cli.main import app

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "scheduling.md").read_text()


def told() -> list[tuple[str, list[str]]]:
    """Commands with the lines that they are said to print."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```\n(\$ allot .*?)^```$", GUIDE, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line.removeprefix("$ allot "), []))
            else:
                found[-1][1].append(" ".join(line.split()))
    return [(command, lines) for command, lines in found if " -f " in command]


@pytest.mark.parametrize(("command", "lines"), told(), ids=lambda it: it if isinstance(it, str) else "")
def test_the_guides_commands_print_what_it_says(
    monkeypatch: pytest.MonkeyPatch, command: str, lines: list[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("COLUMNS", raising=False)  # workers of the tests have it: lines would be folded
    done = CliRunner().invoke(app, command.split())
    warned, said = (
        [" ".join(line.split()) for line in stream.splitlines()] for stream in (done.stderr, done.stdout)
    )  # fmt: skip
    printed = iter(warned + said)

    assert isinstance(done.exception, SystemExit | None)
    assert said
    assert lines[: len(warned)] == warned
    assert [line for line in lines if line not in printed] == []


def test_every_manifest_of_the_folder_is_shown() -> None:
    folder = ROOT / "examples" / "scheduling"

    assert [path.name for path in folder.glob("*.yaml") if f"examples/scheduling/{path.name}" not in GUIDE] == []
