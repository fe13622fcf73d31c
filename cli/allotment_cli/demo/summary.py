"""What happened, in numbers, and the lines to type next."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from allotment_cli.demo.acts import Act
from allotment_cli.demo.director import Scene
from allotment_cli.demo.facts import Observation


def succeeded(scenes: Sequence[Scene], acts: Sequence[Act], seen: Observation) -> bool:
    """Whether every act happened and nothing happened that must not."""
    return len(scenes) == len(acts) and all(scene.happened for scene in scenes) and not seen.history.violations


def data(scenes: Sequence[Scene], acts: Sequence[Act], seen: Observation, *, seconds: float) -> dict[str, Any]:
    """The summary as data; seconds are those of the whole demo."""
    played = {scene.act.name: scene for scene in scenes}
    history = seen.history
    return {
        "happened": succeeded(scenes, acts, seen),
        "seconds": round(seconds, 1),
        "acts": [
            {
                "name": act.name,
                "happened": act.name in played and played[act.name].happened,
                "seconds": round(played[act.name].seconds, 1) if act.name in played else None,
                "said": played[act.name].verdict.said if act.name in played else "",
            }
            for act in acts
        ],
        "podsStarted": history.starts,
        "evictions": history.evictions,
        "mostAgents": history.most_agents,
        "restarts": dict(history.restarts),
        "violations": list(history.violations),
    }


def table(found: dict[str, Any]) -> RenderableType:
    """The summary's data for people."""
    shown = Table("ACT", "", "SECONDS", "MEASURED", box=None, header_style="bold")
    for act in found["acts"]:
        mark = "[green]happened[/]" if act["happened"] else "[red]did not happen[/]"
        taken = "" if act["seconds"] is None else f"{act['seconds']:.1f}"
        shown.add_row(act["name"], mark, taken, Text(act["said"] or "not played"))
    restarts = sum(found["restarts"].values())
    words = (
        f"{found['podsStarted']} pods started, {found['evictions']} evicted; programs started again: {restarts}; "
        f"{found['seconds']:.0f} s in all. Services were Ready by simulated pods, not by real brokers."
    )
    lines: list[RenderableType] = [shown, Text(words)]
    lines += [Text(f"This must never happen: {each}", style="bold red") for each in found["violations"]]
    return Group(*lines)


def next_lines(*, name: str, kept: bool, kubeconfig: Path) -> list[str]:
    """What to type next, line by line, as it can be pasted into a shell."""
    folder = Path(sys.executable).parent
    lines = []
    if str(folder) not in os.environ.get("PATH", "").split(os.pathsep):
        lines.append(f'export PATH={shlex.quote(str(folder))}:"$PATH"')
    if not kept:
        return [*lines, "allot demo --keep                  # the same, and look around afterwards"]
    option = f" --name {name}"
    return [
        *lines,
        f"allot local kubectl{option} get tenants",
        f"allot local kubectl{option} get pods -A -o wide",
        f"export KUBECONFIG={shlex.quote(str(kubeconfig))}   # for your own kubectl",
        f"allot demo --down{option}            # clean up",
    ]
