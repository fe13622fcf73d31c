"""`allot tenants`: who has what, and who would be served next."""

from pathlib import Path
from typing import Annotated

import typer

from allotment_cli.estate import USAGE, Config, load
from allotment_cli.live import SYSTEM, ApiUrl, Context, Kubeconfig, OfNamespace, System, Where, read_tenants
from allotment_cli.outputs import Output, OutputOption, end, show_data


def tenants(
    files: Annotated[
        list[Path] | None,
        typer.Option(
            "--file", "-f", metavar="FILE", help='Manifests in YAML or JSON; "-" is stdin. Without: the live cluster.'
        ),
    ] = None,
    *,
    output: OutputOption = Output.table,
    namespace: OfNamespace = "",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
    api: ApiUrl = "",
    system: System = SYSTEM,
    config: Config = None,
) -> None:
    """List every tenant: leaves in the order in which they would be served next, then inner tenants.

    The live cluster's scheduler is asked; who may not see every tenant sees the one of their namespace. Where its API
    cannot be reached, the tenants' statuses are listed, which it keeps; leaves then come by weighted share.

    Exit codes: 0 listed; 2 wrong usage or file, no right, or no cluster; stderr says what to do.
    """
    if not files:
        rows = read_tenants(Where(kubeconfig, context, api, system, namespace))
    else:
        if namespace:
            end("--namespace is about the live cluster: leave it out with --file", USAGE)
        engine, _ = load(files, config)
        from allotment_scheduler.core.report import tenants_report  # noqa: PLC0415 - keeps `allot --help` quick

        rows = tenants_report(engine)
    if output is not Output.table:
        show_data(rows, output)
        return
    from allotment_cli.tables import show_tenants, terminal  # noqa: PLC0415 - only for tables

    show_tenants(rows, terminal())
