"""How the commands print data: tables for people, JSON and YAML for programs.

The fields of the JSON are a stable interface: `docs/reference/outputs.md` lists them. Everything heavy is imported
inside functions, so that `allot --help` stays quick.
"""

import json
import sys
from enum import StrEnum
from typing import Any

Data = list[dict[str, Any]] | dict[str, Any]


class Output(StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"
    yaml = "yaml"


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
