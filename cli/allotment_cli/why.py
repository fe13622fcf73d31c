"""`allot why`: why a pod or the pods of a job wait, and what would end it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from allotment_cli.estate import (
    GONE_FOR_GOOD,
    USAGE,
    Config,
    FilesOrLive,
    engine_over,
    events_of,
    finished_named,
    pods_named,
    read,
    share_policy,
)
from allotment_cli.live import SYSTEM, ApiUrl, Context, Kubeconfig, System, Where, read_waits
from allotment_cli.outputs import Output, OutputOption, end, show_data

if TYPE_CHECKING:
    from allotment_scheduler.manifests import Manifests


def why(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Pod or Job: NAME or NAMESPACE/NAME; a Job's name stands for its pods."),
    ],
    files: FilesOrLive = None,
    *,
    output: OutputOption = Output.table,
    namespace: Annotated[
        str,
        typer.Option(
            "--namespace",
            "-n",
            metavar="NAMESPACE",
            help="Where the name has none; default: the context's, or any file's.",
        ),
    ] = "",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
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
        _live(name, output, Where(kubeconfig, context, api, system))
    _show(_from_files(name, files or [], config), output)


def _from_files(name: str, files: list[Path], config: Path | None) -> list[dict[str, Any]]:
    """Answer from manifests: what would become of these pods if the scheduler began now."""
    from allotment_scheduler.core.explanation.explain import Explainer  # noqa: PLC0415 - keeps `allot --help` quick
    from allotment_scheduler.core.simulate import run_to_fixpoint  # noqa: PLC0415 - as above

    policy = share_policy(config)
    manifests = read(files)
    engine, now = engine_over(events_of(manifests), policy)
    found = pods_named(manifests, engine, name)
    if not found and not (ended := _ended(manifests, name)):
        end(f"no pod or workload {name} in the files", USAGE)
    if not found:
        return ended
    outcome = run_to_fixpoint(engine, now)
    explainer = Explainer(engine)
    started = {start.pod for done in outcome.rounds for start in done.starts}
    rows: list[dict[str, Any]] = []
    for pod in found:
        row: dict[str, Any] = {"namespace": pod.spec.namespace, "pod": pod.spec.name}
        if pod.node is not None:
            code = "StartsNow" if pod.key in started else "Running"
            row |= {"reason": code, "message": f"on node {pod.node}", "change": None}
        elif pod.key not in engine.state.pods:
            row |= {"reason": "Gone", "message": f"it is evicted, and {GONE_FOR_GOOD}", "change": None}
        else:
            reason = explainer.why(pod)
            row |= {"reason": reason.code, "message": reason.message, "change": reason.change}
        rows.append(row)
    return rows


def _ended(manifests: "Manifests", name: str) -> list[dict[str, Any]]:
    """Pods that have ended, as a live cluster tells them."""
    return [
        {"namespace": key[0], "pod": key[1], "reason": phase, "change": None,
         "message": f"on node {node}" if node else "it never had a node"}
        for key in finished_named(manifests, name)
        for phase, node in (manifests.finished[key],)
    ]  # fmt: skip


def _live(name: str, output: Output, where: Where) -> NoReturn:
    """Answer from the live cluster."""
    namespace, _, plain = name.rpartition("/")
    _show(read_waits(namespace, plain, where), output)


def _show(rows: list[dict[str, Any]], output: Output) -> NoReturn:
    """Print, and end with the exit code that says whether any of them waits."""
    from allotment_cli.tables import AT_REST, show_waits, terminal  # noqa: PLC0415 - keeps `allot --help` quick

    if output is Output.table:
        show_waits(rows, terminal())
    else:
        show_data(rows, output)
    raise typer.Exit(1 if any(row["reason"] not in AT_REST for row in rows) else 0)
