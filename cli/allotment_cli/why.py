"""`allot why`: why a pod or the pods of a job wait, and what would end it."""

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from allotment_cli.live import SYSTEM, ApiUrl, Kubeconfig, System, Where, own_namespace, read_waits
from allotment_cli.offline import Output, load, show


def why(
    name: Annotated[str, typer.Argument(help="Pod or Job: NAME or NAMESPACE/NAME; a Job's name stands for its pods.")],
    files: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", help='Manifests in YAML or JSON; "-" is stdin. Without: the live cluster.'),
    ] = None,
    *,
    output: Annotated[Output, typer.Option("--output", "-o", help="table, json or yaml.")] = Output.table,
    namespace: Annotated[
        str,
        typer.Option("--namespace", "-n", help="Where the name has none; default: the kubeconfig's, or any file's."),
    ] = "",
    kubeconfig: Kubeconfig = None,
    api: ApiUrl = "",
    system: System = SYSTEM,
) -> None:
    """Explain why a pod waits, with numbers, and name the smallest change that would start it.

    Exit codes: 0 it runs, has run or would start now; 1 it waits; 2 wrong usage or file, no such pod, or no right to
    see it; stderr says what to do.
    """
    if "/" not in name and namespace:
        name = f"{namespace}/{name}"
    if not files:
        _live(name, output, Where(kubeconfig, api, system))
    engine, now = load(files or [])
    from allotment_scheduler.core.explain import Explainer  # noqa: PLC0415 - keeps `allot --help` quick
    from allotment_scheduler.core.simulate import run_to_fixpoint  # noqa: PLC0415 - as above

    outcome = run_to_fixpoint(engine, now)
    namespace, _, plain = name.rpartition("/")
    found = [
        pod for pod in engine.state.pods.values()
        if (pod.spec.name == plain or pod.spec.name.startswith(f"{plain}-")) and namespace in ("", pod.spec.namespace)
    ]  # fmt: skip
    exact = [pod for pod in found if pod.spec.name == plain]
    if not found:
        typer.echo(f"allot: no pod or job {name} in the files", err=True)
        raise typer.Exit(2)
    explainer = Explainer(engine)
    started = {start.pod: start.node for done in outcome.rounds for start in done.starts}
    rows: list[dict[str, Any]] = []
    for pod in exact or found:
        row: dict[str, Any] = {"namespace": pod.spec.namespace, "pod": pod.spec.name}
        if pod.node is not None:
            code = "StartsNow" if pod.key in started else "Running"
            row |= {"reason": code, "message": f"on node {pod.node}", "change": None}
        else:
            reason = explainer.why(pod)
            row |= {"reason": reason.code, "message": reason.message, "change": reason.change}
        rows.append(row)
    _show(rows, output)


def _live(name: str, output: Output, where: Where) -> NoReturn:
    """Answer from the live cluster."""
    namespace, _, plain = name.rpartition("/")
    namespace = namespace or own_namespace(where)
    rows = read_waits(namespace, plain, where)
    if not rows:
        typer.echo(
            f"allot: namespace {namespace} has no pod or job {plain}; write NAMESPACE/NAME for another namespace",
            err=True,
        )
        raise typer.Exit(2)
    _show(rows, output)


def _show(rows: list[dict[str, Any]], output: Output) -> NoReturn:
    """Print, and end with the exit code that says whether any of them waits."""
    from allotment_cli.tables import AT_REST, show_waits, terminal  # noqa: PLC0415 - keeps `allot --help` quick

    if output is Output.table:
        show_waits(rows, terminal())
    else:
        show(rows, output)
    raise typer.Exit(1 if any(row["reason"] not in AT_REST for row in rows) else 0)
