"""`allot what-if`: what a change would do before anyone makes it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from allotment_cli.offline import Output, engine_over, read, show


def what_if(
    files: Annotated[list[Path], typer.Option("--file", "-f", help='Manifests in YAML or JSON; "-" is stdin.')],
    add: Annotated[list[Path] | None, typer.Option("--add", help="Manifests of what would be created.")] = None,
    change: Annotated[list[Path] | None, typer.Option("--change", help="Manifests that would replace others.")] = None,
    drain: Annotated[list[str] | None, typer.Option("--drain", help="Node that would be drained.")] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="table, json or yaml.")] = Output.table,
) -> None:
    """Compare the outcome of a change with the outcome without it.

    Exit codes: 0 what is added starts now (or nothing more waits than before); 1 it waits; 2 it can never run.
    A wrong file or an unknown node ends with 3.
    """
    from allotment_scheduler.core.explain import Explainer  # noqa: PLC0415 - keeps `allot --help` quick
    from allotment_scheduler.core.simulate import run_to_fixpoint  # noqa: PLC0415 - as above

    before, more = read(files, failure=3), read([*(add or ()), *(change or ())], failure=3)
    base, base_now = engine_over(before)
    run_to_fixpoint(base, base_now)
    engine, now = engine_over([*before, *more, *_drained(before, drain or [])])
    run_to_fixpoint(engine, now)
    old = {pod.key: pod.node for pod in base.state.pods.values()}
    explainer = Explainer(engine)
    report: dict[str, list[dict[str, Any]]] = {"starts": [], "moves": [], "displaced": [], "waits": []}
    never = False
    for pod in engine.state.pods.values():
        row: dict[str, Any] = {"namespace": pod.spec.namespace, "pod": pod.spec.name}
        was = old.get(pod.key)
        if pod.node is not None:
            if was is None:
                report["starts"].append({**row, "node": pod.node})
            elif was != pod.node:
                report["moves"].append({**row, "from": was, "node": pod.node})
            continue
        if was is None and pod.key in old:
            continue
        reason = explainer.why(pod)
        never = never or (reason.never and pod.key not in old)
        kind = "displaced" if was is not None else "waits"
        report[kind].append({**row, "reason": reason.code, "message": reason.message, "change": reason.change})
    show(report, output)
    raise typer.Exit(2 if never else 1 if report["waits"] or report["displaced"] else 0)


def _drained(events: list[Any], names: list[str]) -> list[Any]:
    """The events of draining nodes: no new starts there, and what ran there waits."""
    from dataclasses import replace  # noqa: PLC0415 - keeps `allot --help` quick

    from msgspec import structs  # noqa: PLC0415 - as above

    from allotment_scheduler.core.events import NodeSeen, PodGone, PodSeen  # noqa: PLC0415 - as above

    nodes = {event.spec.name: event for event in events if isinstance(event, NodeSeen)}
    out: list[Any] = []
    for name in names:
        if name not in nodes:
            typer.echo(f"allot: --drain {name}: there is no such node in the files", err=True)
            raise typer.Exit(3)
        out.append(NodeSeen(replace(nodes[name].spec, unschedulable=True)))
        for event in events:
            if isinstance(event, PodSeen) and event.spec.node == name:
                out += [PodGone(event.spec.key), PodSeen(structs.replace(event.spec, node=None, started=None))]
    return out
