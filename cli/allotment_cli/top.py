"""`allot top`: how full the cluster is, who has it, what waits and why."""

from allotment_cli.live import SYSTEM, ApiUrl, Context, Kubeconfig, OfNamespace, System, Where, read_top
from allotment_cli.outputs import Output, OutputOption, show_data


def top(
    output: OutputOption = Output.table,
    *,
    namespace: OfNamespace = "",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
    api: ApiUrl = "",
    system: System = SYSTEM,
) -> None:
    """Show the live cluster's load: what runs, what waits and why, and the tenants in serving order.

    Who may not see every tenant sees the one of their namespace.

    Exit codes: 0 shown; 2 wrong usage, no right, or no cluster; stderr says what to do.
    """
    found = read_top(Where(kubeconfig, context, api, system, namespace))
    if output is not Output.table:
        show_data(found, output)
        return
    from allotment_cli.tables import show_load, terminal  # noqa: PLC0415 - only for tables

    show_load(found, terminal())
