"""`allot tenants`: who has what, and who would be served next."""

from pathlib import Path
from typing import Annotated

import typer

from allotment_cli.offline import Output, load, show


def tenants(
    files: Annotated[list[Path], typer.Option("--file", "-f", help='Manifests in YAML or JSON; "-" is stdin.')],
    output: Annotated[Output, typer.Option("--output", "-o", help="table, json or yaml.")] = Output.table,
) -> None:
    """List every tenant: leaves in the order in which they would be served next, then inner tenants."""
    engine, _ = load(files)
    from allotment_scheduler.core.report import tenants_report  # noqa: PLC0415 - keeps `allot --help` quick

    show(tenants_report(engine), output)
