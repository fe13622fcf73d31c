"""What the offline commands share: manifests in, an engine out, data printed as the reader wants it.

Everything heavy is imported inside functions, so that `allot --help` stays quick.
"""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from allotment_scheduler.core.cycle import Engine
    from allotment_scheduler.core.events import Event

Data = list[dict[str, Any]] | dict[str, Any]


class Output(StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"
    yaml = "yaml"


def read(files: list[Path], *, failure: int = 2) -> "list[Event]":
    """What the files hold, as events; a bad file ends the program with a message."""
    from allotment_scheduler.manifests import ManifestError, Manifests  # noqa: PLC0415 - keeps `allot --help` quick

    try:
        return Manifests.read(files).events()
    except ManifestError as error:
        typer.echo(f"allot: {error}", err=True)
        raise typer.Exit(failure) from error


def engine_over(events: "list[Event]") -> "tuple[Engine, float]":
    """An engine over these events, and the latest time that occurs in them; tenants that are not in force are named."""
    from allotment_scheduler.core.cycle import Engine  # noqa: PLC0415 - keeps `allot --help` quick
    from allotment_scheduler.core.events import PodSeen  # noqa: PLC0415 - as above
    from allotment_scheduler.core.state import ClusterState  # noqa: PLC0415 - as above

    state = ClusterState()
    state.apply_all(events)
    state.settle()
    for name, problem in state.forest.problems.items():
        typer.echo(f"allot: Tenant {name.partition(':')[0]}: {problem}", err=True)
    times = [max(e.spec.created, e.spec.started or 0.0) for e in events if isinstance(e, PodSeen)]
    return Engine(state), max(times, default=0.0)


def load(files: list[Path]) -> "tuple[Engine, float]":
    """An engine over what the files hold, and the latest time that occurs in them."""
    return engine_over(read(files))


def show(data: Data, output: Output) -> None:
    """Print data: JSON or YAML as it is, each list as a table."""
    if output is Output.json:
        json.dump(data, sys.stdout, indent=1)
        sys.stdout.write("\n")
    elif output is Output.yaml:
        import yaml  # noqa: PLC0415 - only where it is asked for

        yaml.safe_dump(data, sys.stdout, sort_keys=False)
    else:
        from allotment_cli.tables import show_rows, terminal  # noqa: PLC0415 - only for tables

        screen = terminal()
        for title, rows in data.items() if isinstance(data, dict) else (("rows", data),):
            if isinstance(rows, list):
                show_rows(title, rows, screen)
