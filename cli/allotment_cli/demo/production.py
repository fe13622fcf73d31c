"""One performance: the stage is built, the play is played and told, and all is cleaned up."""

import asyncio
import io
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.markup import escape

from allotment_cli.demo import acts, summary, view
from allotment_cli.demo.director import Director, Scene
from allotment_cli.demo.facts import Observation
from allotment_cli.demo.stage import Address, Checkout, Stage
from allotment_cli.demo.witness import Witness
from allotment_kube.client import Client
from allotment_kube.configuration import load_configuration
from allotment_local.cluster import LocalCluster

SILENCE_SECONDS: Final = 10.0
"""After so long without news the viewer is told what is waited for."""

PICTURED: Final = "contention"
"""The act whose end the exported picture shows."""


class Teller:
    """Tells the viewer: a live page on a terminal, lines elsewhere; keeps the page for the picture."""

    def __init__(self, console: Console, *, acts: int) -> None:
        self.console = console
        self.last = Observation()
        self.pictured: tuple[tuple[Scene, ...], Observation] | None = None
        self._acts = acts
        self._began = time.monotonic()
        self._before: Observation | None = None
        self._told = 0
        self._last_line = self._began
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    @property
    def seconds(self) -> float:
        """Since the demo began."""
        return time.monotonic() - self._began

    def start(self) -> None:
        """Begin the page."""
        if self._live is not None:
            self._live.start()

    def stop(self) -> None:
        """End the page."""
        if self._live is not None:
            self._live.stop()

    def line(self, text: str) -> None:
        """Tell one thing."""
        self._last_line = time.monotonic()
        self.console.print(f"[dim]{self.seconds:6.1f} s[/]  {escape(text)}", highlight=False, soft_wrap=True)

    def show(self, scenes: Sequence[Scene], seen: Observation) -> None:
        """Show a picture."""
        self.last = seen
        if scenes[-1].act.name == PICTURED:
            self.pictured = (tuple(scenes), seen)
        if self._live is not None:
            self._live.update(view.page(scenes, seen, acts=self._acts), refresh=True)
            return
        if len(scenes) > self._told:
            self._told = len(scenes)
            self.line(f"Act {len(scenes)} of {self._acts}, {scenes[-1].act.name}: {scenes[-1].act.sentence}")
        for text in view.changes(self._before, seen):
            self.line(text)
        self._before = seen
        if not scenes[-1].over and time.monotonic() - self._last_line > SILENCE_SECONDS:
            self.line(f"Still waiting: {scenes[-1].verdict.said or 'at work'}")
        if scenes[-1].over:
            self.line(f"{'It happened' if scenes[-1].happened else 'It did NOT happen'}: {scenes[-1].verdict.said}")


def put_on(cluster: LocalCluster, console: Console, *, keep: bool, svg: Path | None, report: Path | None) -> bool:
    """Build, play, sum up, clean up; returns whether every act happened."""
    teller = Teller(console, acts=len(acts.PLAY))
    with Stage(cluster, Checkout.find(), keep=keep, say=teller.line) as stage:
        address = stage.up()
        scenes = asyncio.run(_play(stage, address, teller))
        kubeconfig = cluster.kubeconfig
    found = summary.data(scenes, acts.PLAY, teller.last, seconds=teller.seconds)
    console.print()
    console.print(summary.table(found))
    console.print("\n[bold]Next:[/]")
    for line in summary.next_lines(name=cluster.name, kept=keep, kubeconfig=kubeconfig):
        console.print(f"  {line}", highlight=False, soft_wrap=True, markup=False)
    if svg is not None and teller.pictured is not None:
        picture(svg, *teller.pictured)
    if report is not None:
        report.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return bool(found["happened"])


async def _play(stage: Stage, address: Address, teller: Teller) -> list[Scene]:
    admin = load_configuration(stage.cluster.kubeconfig)
    async with Client.connect(admin, user_agent="allotment-demo") as client, asyncio.TaskGroup() as group:
        witness = Witness(client)
        watching = group.create_task(witness.run())
        try:
            await witness.synced()
            teller.start()
            return await Director(witness, admin, stage.checkout.bank, address, show=teller.show).play(acts.PLAY)
        finally:
            teller.stop()
            watching.cancel()


def picture(path: Path, scenes: Sequence[Scene], seen: Observation) -> None:
    """Export a page as SVG."""
    console = Console(record=True, width=view.WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(view.page(scenes, seen, acts=len(acts.PLAY)))
    # rich names a font on a content network; a picture must not fetch anything when it is looked at.
    text = re.sub(r"@font-face \{[^}]*\}\s*", "", console.export_svg(title="allot demo"))
    path.write_text(text.replace("Fira Code, monospace", "monospace"), encoding="utf-8")
