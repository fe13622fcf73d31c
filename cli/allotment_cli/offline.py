"""What the offline commands share: manifests in, an engine out, data printed as the reader wants it.

Everything heavy is imported inside functions, so that `allot --help` stays quick.
"""

import json
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from allotment_scheduler.core.cycle import Engine


class Output(str, Enum):
    """How results are printed."""

    table = "table"
    json = "json"
    yaml = "yaml"


def load(files: list[Path]) -> "tuple[Engine, float]":
    """An engine over what the files hold, and the latest time that occurs in them."""
    from allotment_scheduler.core.cycle import Engine  # noqa: PLC0415 - keeps `allot --help` quick
    from allotment_scheduler.core.events import PodSeen  # noqa: PLC0415 - as above
    from allotment_scheduler.core.state import ClusterState  # noqa: PLC0415 - as above
    from allotment_scheduler.manifests import ManifestError, Manifests  # noqa: PLC0415 - as above

    try:
        events = Manifests.read(files).events()
    except ManifestError as error:
        typer.echo(f"allot: {error}", err=True)
        raise typer.Exit(2) from error
    state = ClusterState()
    state.apply_all(events)
    times = [max(e.spec.created, e.spec.started or 0.0) for e in events if isinstance(e, PodSeen)]
    state.settle()
    return Engine(state), max(times, default=0.0)


def show(data: Any, output: Output) -> None:
    """Print data as JSON or YAML."""
    if output is Output.yaml:
        import yaml  # noqa: PLC0415 - only where it is asked for

        yaml.safe_dump(data, sys.stdout, sort_keys=False)
    else:
        json.dump(data, sys.stdout, indent=1)
        sys.stdout.write("\n")
