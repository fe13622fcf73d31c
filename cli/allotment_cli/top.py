"""`allot top`: how full the cluster is, who has it, what waits and why."""

from typing import Annotated, Any

import typer

from allotment_cli.live import ApiUrl, Kubeconfig, Where, read_top
from allotment_cli.offline import Output, show


def top(
    output: Annotated[Output, typer.Option("--output", "-o", help="table, json or yaml.")] = Output.table,
    kubeconfig: Kubeconfig = None,
    api: ApiUrl = "",
) -> None:
    """Show the live cluster's load: what runs, what waits and why, and the tenants in serving order.

    Who may not see every tenant sees the one of their namespace.
    """
    found = read_top(Where(kubeconfig, api))
    show(found if output is not Output.table else tables(found), output)


def tables(found: dict[str, Any]) -> dict[str, Any]:
    """The load as tables: figures, reasons, tenants with the columns that fit a screen."""
    shown = ("name", "weight", "dominantShare", "dominantResource", "weightedShare", "pending")
    figures = {name: value for name, value in found.items() if not isinstance(value, list | dict)}
    return {
        "now": [figures],
        "waiting, by reason": [{"reason": name, "pods": count} for name, count in found["waitingByReason"].items()],
        "tenants": [{name: row[name] for name in shown} for row in found["tenants"]],
    }
