"""`allot why`: why a pod or the pods of a job wait, and what would end it."""

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from allotment_cli.live import ApiUrl, Kubeconfig, Where, read_waits
from allotment_cli.offline import Output, load, show


def why(
    name: Annotated[str, typer.Argument(help="Pod or Job: NAME or NAMESPACE/NAME; a Job's name stands for its pods.")],
    files: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", help='Manifests in YAML or JSON; "-" is stdin. Without: the live cluster.'),
    ] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="table, json or yaml.")] = Output.table,
    kubeconfig: Kubeconfig = None,
    api: ApiUrl = "",
) -> None:
    """Explain why a pod waits, with numbers, and name the smallest change that would start it.

    Exit codes: 0 it runs or would start now; 1 it waits; 2 wrong usage or file, or no such pod.
    """
    if not files:
        _live(name, output, Where(kubeconfig, api))
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
    show(rows, output)
    raise typer.Exit(1 if any(row["reason"] not in ("StartsNow", "Running") for row in rows) else 0)


def _live(name: str, output: Output, where: Where) -> NoReturn:
    """Answer from the live cluster."""
    rows = read_waits(name, where)
    if not rows:
        typer.echo(f"allot: no pod or job {name} in the cluster; write NAMESPACE/NAME for another namespace", err=True)
        raise typer.Exit(2)
    show(rows, output)
    raise typer.Exit(1 if any(row["reason"] != "Running" for row in rows) else 0)
