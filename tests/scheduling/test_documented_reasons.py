"""What docs/scheduling.md says of waiting is what the commands print."""

import json
import re
from pathlib import Path

from typer.testing import CliRunner

from allotment_cli.main import app
from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.explanation import explain
from allotment_scheduler.core.explanation.explain import Explainer
from allotment_scheduler.core.objects.units import Unit
from allotment_scheduler.core.placement.reservations import OVERDUE
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.shell.reporter import STARTING, UNEXPLAINED
from builders.scheduling import World

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "scheduling.md").read_text()
EXAMPLE = ROOT / "examples" / "scheduling" / "reasons.yaml"


def rows() -> dict[str, list[str]]:
    """The guide's tables by their first column."""
    lines = re.findall(r"^\| `([^`]+)` \|(.*)\|$", GUIDE, re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in lines}


def test_the_example_waits_as_the_guide_says() -> None:
    done = json.loads(CliRunner().invoke(app, ["simulate", "-f", str(EXAMPLE), "-o", "json"]).stdout)
    told = rows()

    assert not done["bindings"] + done["evictions"]
    assert len({each["reason"] for each in done["pending"]}) == len(done["pending"]), "one pod for each reason"
    assert {each["pod"]: each["message"] for each in done["pending"]} == {
        each["pod"]: told[each["pod"]][1] for each in done["pending"]
    }


def test_the_changes_are_those_of_the_guide() -> None:
    told = rows()
    for name in ("gang-incomplete", "above-limit", "no-node-fits", "fragmented", "behind-fair-share", "gated"):
        shown = CliRunner().invoke(app, ["why", name, "-f", str(EXAMPLE), "-o", "json"])
        assert (json.loads(shown.stdout)[0]["change"] or "") == told[name][2]


def test_whatever_is_being_deleted_is_told_so() -> None:
    shown = CliRunner().invoke(app, ["why", "deleted", "-f", str(EXAMPLE), "-o", "json"])

    [why] = json.loads(shown.stdout)
    assert (why["reason"], why["message"]) == ("Deleted", rows()["deleted"][1])


def test_whoever_cannot_be_decided_about_is_told_until_when() -> None:
    engine = Engine(World().node("n", cpu=4).tenant("t").pod("t", "p", cpu=3).state(), Settings())
    unit = engine.state.pods["t", "p"].unit
    assert isinstance(unit, Unit)

    engine.quarantine.isolate(unit, ValueError("the fault"))

    told = Explainer(engine).why(engine.state.pods["t", "p"]).message
    assert told == "deciding about it has failed 1 time(s), next try in 60 s: ValueError: the fault"
    assert f'"{told.removesuffix(": ValueError: the fault")}", and the fault' in " ".join(GUIDE.split())


def test_every_code_is_explained() -> None:
    codes = set(re.findall(r'Why\(\s*"(\w+)"', Path(explain.__file__).read_text()))

    assert codes | {"OwnerGone", STARTING, UNEXPLAINED} <= rows().keys()


def test_a_reservation_is_told_with_its_time() -> None:
    world = World().node("n", cpu=4).tenant("t")
    for number in range(1, 5):
        world.pod("t", f"r{number}", on="n", cpu=1, more={"max_runtime": 5 + number * 1000.0 - number})
    engine = Engine(world.pod("t", "p", cpu=3).state(), Settings())
    for now in (5.0, 305.0):
        engine.cycle(now)

    message = Explainer(engine).why(engine.state.pods["t", "p"]).message
    assert message == "1 node is reserved; it is expected to start in 2700 s"
    assert message in " ".join(GUIDE.split())


def test_where_the_time_of_a_reservation_has_passed_it_is_told_what_is_overdue() -> None:
    world = World().node("n", cpu=4).tenant("t")
    engine = Engine(
        world.pod("t", "r", on="n", cpu=2, more={"max_runtime": 1000.0}).pod("t", "p", cpu=3).state(), Settings()
    )
    told = []
    for now in (5.0, 305.0, 5000.0, 9000.0):
        engine.cycle(now)
        told.append(Explainer(engine).why(engine.state.pods["t", "p"]).message)

    assert "it is expected to start in" in told[1]
    assert told[2] == told[3] == f"1 node is reserved; {OVERDUE}"
    assert OVERDUE in " ".join(GUIDE.split())
