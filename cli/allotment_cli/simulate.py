"""`allot simulate`: what the scheduler would do with these manifests, to the end."""

from pathlib import Path
from typing import Annotated

import typer

from allotment_cli.offline import Output, load, show


def simulate(
    files: Annotated[list[Path], typer.Option("--file", "-f", help='Manifests in YAML or JSON; "-" is stdin.')],
    output: Annotated[Output, typer.Option("--output", "-o", help="table, json or yaml.")] = Output.table,
) -> None:
    """Run the scheduler on manifests until nothing more can be decided, and print what it did."""
    engine, now = load(files)
    from allotment_scheduler.core.report import outcome_report  # noqa: PLC0415 - keeps `allot --help` quick
    from allotment_scheduler.core.simulate import run_to_fixpoint  # noqa: PLC0415 - as above

    report = outcome_report(engine, run_to_fixpoint(engine, now))
    show(report, output)
