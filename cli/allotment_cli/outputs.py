"""How the commands print: tables for people, JSON and YAML for programs; and the line that says what is wrong.

The fields of the JSON are a stable interface: `docs/reference/outputs.md` lists them. Everything heavy is imported
inside functions, so that `allot --help` stays quick.
"""

import json
import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, NoReturn

import typer


class Output(StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"
    yaml = "yaml"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to show the result.")]


def show_data(data: object, output: Output) -> None:
    """Print data for programs: as YAML where that is asked for, else as JSON."""
    if output is Output.yaml:
        import yaml  # noqa: PLC0415 - only where it is asked for

        yaml.safe_dump(data, sys.stdout, sort_keys=False)
    else:
        json.dump(data, sys.stdout, indent=1)
        sys.stdout.write("\n")


def show(report: Mapping[str, Any], output: Output) -> None:
    """Print a report: as data, or each of its lists as a table."""
    if output is not Output.table:
        show_data(report, output)
        return
    from allotment_cli.tables import show_rows, terminal  # noqa: PLC0415 - only for tables

    screen = terminal()
    for title, rows in report.items():
        if isinstance(rows, list):
            show_rows(title, rows, screen)


def printable(text: str) -> str:
    """A text that no terminal obeys: others may have written what is quoted in it."""
    if text.isprintable():
        return text
    return "".join(it if it.isprintable() or it == "\n" else ascii(it)[1:-1] for it in text)


def warn(message: str) -> None:
    """Say something beside the answer."""
    typer.echo(f"allot: {printable(message)}", err=True)


def end(message: str, code: int) -> NoReturn:
    """Say what is wrong, and end."""
    warn(message)
    raise typer.Exit(code)
