"""What the offline commands stand on: manifests in, an engine out, and a word on stderr about whatever is left out.

Everything heavy is imported inside functions, so that `allot --help` stays quick.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from allotment_cli.outputs import end, warn

if TYPE_CHECKING:
    from allotment_scheduler.core.cycle import Engine
    from allotment_scheduler.core.objects.events import Event
    from allotment_scheduler.core.objects.pods import Pod, PodKey
    from allotment_scheduler.manifests import Manifests

USAGE = 2
"""Exit code of wrong usage and wrong files, but for commands that say otherwise."""
GONE_FOR_GOOD = "no controller makes it again: it is gone for good"
_MOST_WARNINGS = 20

_FILE = 'Manifests in YAML or JSON, as often as needed; a folder is read as a whole; "-" is stdin.'
Files = Annotated[list[Path], typer.Option("--file", "-f", metavar="FILE", help=_FILE)]
FilesOrLive = Annotated[
    list[Path] | None, typer.Option("--file", "-f", metavar="FILE", help=f"{_FILE} Without: the live cluster.")
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The scheduler's settings, as the live one reads them; with manifests its sharePolicy counts.",
    ),
]


def once(files: Sequence[Path], *, failure: int = USAGE) -> None:
    """End the program where standard input is named twice."""
    from allotment_scheduler.manifests.documents import STDIN  # noqa: PLC0415 - keeps `allot --help` quick

    if sum(path == STDIN for path in files) > 1:
        end("standard input can be read only once: give all but one of the manifests as files", failure)


def read(files: Sequence[Path], *, failure: int = USAGE) -> "Manifests":
    """What the files hold; a bad file ends the program with a message, and so do files that hold nothing at all."""
    from allotment_scheduler.manifests import ManifestError, Manifests  # noqa: PLC0415 - keeps `allot --help` quick
    from allotment_scheduler.manifests.documents import STDIN  # noqa: PLC0415 - as above

    once(files, failure=failure)
    try:
        found = Manifests.read(files)
    except ManifestError as error:
        end(str(error), failure)
    if not found.documents:
        named = ", ".join("standard input" if path == STDIN else str(path) for path in files)
        end(f"{named}: holds no object: check what should have written it", failure)
    return found


def events_of(manifests: "Manifests", *, failure: int = USAGE) -> "list[Event]":
    """The manifests as events; what is not read, and what probably is a mistake, is named."""
    from allotment_scheduler.manifests import ManifestError  # noqa: PLC0415 - keeps `allot --help` quick

    try:
        events = manifests.events()
    except ManifestError as error:
        end(str(error), failure)
    for warning in manifests.warnings[:_MOST_WARNINGS]:
        warn(warning)
    if len(manifests.warnings) > _MOST_WARNINGS:
        warn(f"… and {len(manifests.warnings) - _MOST_WARNINGS} more of the kind")
    if manifests.ignored:
        listed = ", ".join(f"{number} {kind}" for kind, number in sorted(manifests.ignored.items()))
        warn(f"kinds that are not read: {listed}")
    return events


def share_policy(config: Path | None, *, failure: int = USAGE) -> str:
    """The share policy that a file of the scheduler's settings sets; `drf` without one."""
    if config is None:
        return "drf"
    from allotment_kube.program.settings import SettingsError, Sources  # noqa: PLC0415 - only where it is asked for
    from allotment_scheduler.shell.settings import Settings  # noqa: PLC0415 - as above

    try:
        return Sources(Settings, config, {}, {}).read().share_policy
    except SettingsError as error:
        end(str(error), failure)


def engine_over(events: "list[Event]", policy: str) -> "tuple[Engine, float]":
    """An engine over these events, and the latest time that occurs in them; tenants that are not in force are named."""
    from allotment_scheduler.core.cycle import Engine  # noqa: PLC0415 - keeps `allot --help` quick
    from allotment_scheduler.core.objects.events import PodSeen  # noqa: PLC0415 - as above
    from allotment_scheduler.core.state.cluster import ClusterState  # noqa: PLC0415 - as above

    state = ClusterState(share_policy=policy)
    state.apply_all(events)
    state.settle()
    for name, problem in state.forest.problems.items():
        warn(f"Tenant {name.partition(':')[0]}: {problem}")
    times = [max(e.spec.created, e.spec.started or 0.0) for e in events if isinstance(e, PodSeen)]
    return Engine(state), max(times, default=0.0)


def load(files: Sequence[Path], config: Path | None) -> "tuple[Engine, float]":
    """An engine over what the files hold, and the latest time that occurs in them."""
    policy = share_policy(config)
    return engine_over(events_of(read(files)), policy)


def pods_named(manifests: "Manifests", engine: "Engine", name: str) -> "list[Pod]":
    """The pod of this name, or else the pods of the workload of this name; NAME or NAMESPACE/NAME."""
    namespace, _, plain = name.rpartition("/")
    pods = [pod for pod in engine.state.pods.values() if namespace in ("", pod.spec.namespace)]
    exact = [pod for pod in pods if pod.spec.name == plain]
    return exact or [pod for pod in pods if plain in _workloads_of(manifests, pod)]


def finished_named(manifests: "Manifests", name: str) -> "list[PodKey]":
    """The same among the pods that have ended."""
    namespace, _, plain = name.rpartition("/")
    ended = [key for key in manifests.finished if namespace in ("", key[0])]
    exact = [key for key in ended if key[1] == plain]
    return exact or [key for key in ended if plain in manifests.workloads.get(key, ())]


def _workloads_of(manifests: "Manifests", pod: "Pod") -> set[str]:
    """Names of what a pod belongs to: its controllers, its service, its PodGroup."""
    group = {pod.spec.group.rpartition("/")[2]} if pod.spec.group else set()
    return manifests.workloads.get(pod.key, set()) | group
