"""`allot why`: why a pod or the pods of a job wait, and what would end it."""

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from allotment_cli.estate import USAGE, Config, end, engine_over, events_of, pods_named, read, share_policy
from allotment_cli.live import SYSTEM, ApiUrl, Kubeconfig, System, Where, own_namespace, read_waits
from allotment_cli.offline import Output, show


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
    config: Config = None,
) -> None:
    """Explain why a pod waits, with numbers, and name the smallest change that would start it.

    Exit codes: 0 it runs, has run or would start now; 1 it waits; 2 wrong usage or file, no such pod, or no right to
    see it; stderr says what to do.
    """
    if "/" not in name and namespace:
        name = f"{namespace}/{name}"
    if not files:
        _live(name, output, Where(kubeconfig, api, system))
    _show(_from_files(name, files or [], config), output)


def _from_files(name: str, files: list[Path], config: Path | None) -> list[dict[str, Any]]:
    """Answer from manifests: what would become of these pods if the scheduler began now."""
    from allotment_scheduler.core.explanation.explain import Explainer  # noqa: PLC0415 - keeps `allot --help` quick
    from allotment_scheduler.core.simulate import run_to_fixpoint  # noqa: PLC0415 - as above

    policy = share_policy(config)
    manifests = read(files)
    engine, now = engine_over(events_of(manifests), policy)
    outcome = run_to_fixpoint(engine, now)
    found = pods_named(manifests, engine, name)
    if not found:
        end(f"no pod or workload {name} in the files, or none that still has to run", USAGE)
    explainer = Explainer(engine)
    started = {start.pod for done in outcome.rounds for start in done.starts}
    rows: list[dict[str, Any]] = []
    for pod in found:
        row: dict[str, Any] = {"namespace": pod.spec.namespace, "pod": pod.spec.name}
        if pod.node is not None:
            code = "StartsNow" if pod.key in started else "Running"
            row |= {"reason": code, "message": f"on node {pod.node}", "change": None}
        else:
            reason = explainer.why(pod)
            row |= {"reason": reason.code, "message": reason.message, "change": reason.change}
        rows.append(row)
    return rows


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
