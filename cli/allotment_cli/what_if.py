"""`allot what-if`: what a change would do before anyone makes it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from allotment_cli.estate import GONE_FOR_GOOD, Config, Files, engine_over, events_of, once, read, share_policy
from allotment_cli.outputs import Output, OutputOption, end, show, warn

if TYPE_CHECKING:
    from allotment_scheduler.core.cycle import Engine
    from allotment_scheduler.core.objects.events import Event
    from allotment_scheduler.core.objects.pods import PodKey
    from allotment_scheduler.manifests import Manifests

WAITS, NEVER, WRONG = 1, 2, 3

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")


class WrongIsThree(TyperCommand):
    """A command whose wrong usage does not end as "it can never run" does."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - click's own
        """Parse the command line; what is wrong with it ends with 3."""
        try:
            return super().make_context(*args, **kwargs)
        except Exception as error:
            if getattr(error, "exit_code", None) == NEVER:  # click's UsageError, by whatever name typer has it
                error.exit_code = WRONG  # type: ignore[attr-defined] # it has just been asked for
            raise


@app.command("what-if", cls=WrongIsThree)
def what_if(
    files: Files,
    add: Annotated[
        list[Path] | None, typer.Option("--add", metavar="FILE", help="Manifests of what would be created.")
    ] = None,
    change: Annotated[
        list[Path] | None, typer.Option("--change", metavar="FILE", help="Manifests that would replace others.")
    ] = None,
    drain: Annotated[
        list[str] | None, typer.Option("--drain", metavar="NODE", help="Node that would be drained.")
    ] = None,
    *,
    output: OutputOption = Output.table,
    config: Config = None,
) -> None:
    """Compare the outcome of a change with the outcome without it.

    Exit codes: 0 what is added starts now (or nothing more waits than before); 1 it waits; 2 it can never run.
    Wrong usage, a wrong file or an unknown node ends with 3; stderr says what to do.
    """
    if not (add or change or drain):
        end("say what would change: --add FILE, --change FILE or --drain NODE", WRONG)
    policy = share_policy(config, failure=WRONG)
    before, after = _events(files, add or [], change or [])
    base, there = _outcome(before, policy)
    engine, _ = _outcome([*after, *_drained(after, drain or [])], policy)
    report, never = _differences(base, engine, there)
    show(report, output)
    raise typer.Exit(NEVER if never else WAITS if report["waits"] or report["displaced"] else 0)


def _events(files: list[Path], add: list[Path], change: list[Path]) -> "tuple[list[Event], list[Event]]":
    """What there is, and what there would be."""
    from allotment_scheduler.core.objects.events import TenantSeen  # noqa: PLC0415 - keeps `allot --help` quick
    from allotment_scheduler.manifests import ManifestError  # noqa: PLC0415 - as above

    once([*files, *add, *change], failure=WRONG)
    base = read(files, failure=WRONG)
    added, edited = _objects(add), _objects(change)
    before = events_of(base, failure=WRONG)
    if not (added.documents or edited.documents):
        return before, before
    try:
        changed = base.changed(added, edited)
        told = [*changed.warnings]
        after = changed.events()
    except ManifestError as error:
        end(str(error), WRONG)
    known = set(base.warnings)
    for warning in dict.fromkeys([*told, *changed.warnings]):
        if warning not in known:
            warn(warning)
    # An edit that cannot be leaves a tenant its last good version: so the first one comes first.
    return before, [*(event for event in before if isinstance(event, TenantSeen)), *after]


def _objects(paths: list[Path]) -> "Manifests":
    """What would be added or changed; a file that holds nothing is a mistake, of a pipe that failed for example."""
    from allotment_scheduler.manifests import Manifests  # noqa: PLC0415 - keeps `allot --help` quick

    return Manifests([document for path in paths for document in read([path], failure=WRONG).documents])


def _outcome(events: "list[Event]", policy: str) -> "tuple[Engine, frozenset[PodKey]]":
    """How it ends, and the pods that there were at the beginning."""
    from allotment_scheduler.core.simulate import run_to_fixpoint  # noqa: PLC0415 - keeps `allot --help` quick

    engine, now = engine_over(events, policy)
    there = frozenset(engine.state.pods)
    run_to_fixpoint(engine, now)
    return engine, there


def _differences(
    base: "Engine", engine: "Engine", there: "frozenset[PodKey]"
) -> "tuple[dict[str, list[dict[str, Any]]], bool]":
    """What starts, moves, is displaced and waits; and whether anything new can never run."""
    from allotment_scheduler.core.explanation.explain import Explainer  # noqa: PLC0415 - keeps `allot --help` quick

    old = {pod.key: pod.node for pod in base.state.pods.values()}
    explainer = Explainer(engine)
    report: dict[str, list[dict[str, Any]]] = {"starts": [], "moves": [], "displaced": [], "waits": []}
    never = False
    for pod in engine.state.pods.values():
        if pod.key in there and pod.key not in old:
            continue  # without the change it would be gone
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
    report["displaced"] += _gone(base, engine)
    return report, never


def _gone(base: "Engine", engine: "Engine") -> list[dict[str, Any]]:
    """The pods that run without the change, and that nobody makes again."""
    said = {"reason": "Gone", "message": GONE_FOR_GOOD, "change": None}
    return [
        {"namespace": pod.spec.namespace, "pod": pod.spec.name, **said}
        for pod in base.state.pods.values()
        if pod.key not in engine.state.pods and pod.node is not None and pod.spec.ours and not pod.spec.recreated
    ]


def _drained(events: "list[Event]", names: list[str]) -> "list[Event]":
    """The events of draining nodes: no new starts there, and what ran there waits.

    As `kubectl drain` does it: pods of a DaemonSet and of the node itself stay, others' pods are for others to place.
    Successors arrive behind everybody; a pod without a controller has none, and that of a pod on its way out is there.
    """
    from dataclasses import replace  # noqa: PLC0415 - keeps `allot --help` quick

    from msgspec import structs  # noqa: PLC0415 - as above

    from allotment_scheduler.core.objects.events import NodeSeen, PodGone, PodSeen  # noqa: PLC0415 - as above

    nodes = {event.spec.name: event for event in events if isinstance(event, NodeSeen)}
    seen = [event.spec for event in events if isinstance(event, PodSeen)]
    latest = max((max(spec.created, spec.started or 0.0) for spec in seen), default=0.0)
    out: list[Event] = []
    for name in names:
        if name not in nodes:
            end(f"--drain {name}: there is no such node in the files", WRONG)
        out.append(NodeSeen(replace(nodes[name].spec, unschedulable=True)))
        for event in events:
            if not isinstance(event, PodSeen) or event.spec.node != name:
                continue
            if event.spec.owner_kind in ("DaemonSet", "Node"):
                continue
            out.append(PodGone(event.spec.key))
            if event.spec.ours and event.spec.recreated and not event.spec.deleting:
                out.append(PodSeen(structs.replace(event.spec, node=None, started=None, created=latest)))
    return out
