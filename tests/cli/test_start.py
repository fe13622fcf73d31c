"""`allot` starts quickly: it names its command groups without importing them."""

import subprocess
import sys
from typing import Final

import pytest
from typer.testing import CliRunner

from allotment_cli.main import GROUPS, app, load

HEAVY: Final = {"numpy", "pydantic", "networkx", "aiohttp", "cryptography", "yaml", "allotment_scheduler"}
START: Final = "from allotment_cli.main import app; app(['--help'], standalone_mode=False)"


@pytest.mark.parametrize("name", GROUPS)
def test_the_help_of_all_groups_says_what_each_says_of_itself(name: str) -> None:
    assert GROUPS[name].summary == " ".join(load(name).help.split("\n\n")[0].split())


@pytest.mark.parametrize("name", GROUPS)
def test_every_group_answers_to_its_name(name: str) -> None:
    result = CliRunner().invoke(app, [name, "--help"])

    assert result.exit_code == 0
    assert f"Usage: allot {name}" in " ".join(result.output.split())


def test_an_unknown_group_is_refused_and_the_nearest_one_named() -> None:
    result = CliRunner().invoke(app, ["simulat"])

    assert result.exit_code == 2
    assert "simulate" in result.output


def test_the_help_loads_nothing_heavy() -> None:
    program = f"{START}; import sys; print('loaded:', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    loaded = set(done.stdout.rpartition("loaded:")[2].split())
    assert "allotment_cli.main" in loaded
    assert loaded.isdisjoint(HEAVY)
