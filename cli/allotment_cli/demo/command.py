"""`allot demo`: the command line around a performance.

Exit codes: 0 every act happened; 1 one did not, or a part failed; 2 wrong usage; 130 interrupted, and cleaned up.
Everything heavy is imported inside the function, so that `allot --help` stays quick.
"""

import os
import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

_INTERRUPTED = 130


def _writable(file: Path | None) -> Path | None:
    """Refuse a file that could not be written when the run is over."""
    if file is not None and not file.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {file.parent}; make it first")
    if file is not None and not os.access(file if file.exists() else file.parent, os.W_OK):
        raise typer.BadParameter(f"{file} may not be written; name another file")
    return file


def demo(  # noqa: PLR0917 - the options of a command line
    name: Annotated[str, typer.Option("--name", help="Name of the demo's own cluster.")] = "demo",
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running at the end.")] = False,
    down: Annotated[bool, typer.Option("--down", help="Take a kept demo away, and do nothing else.")] = False,
    svg: Annotated[
        Path | None,
        typer.Option("--svg", callback=_writable, dir_okay=False, help="Write a picture of the run to this file."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", callback=_writable, dir_okay=False, help="Write the summary as JSON to this file."),
    ] = None,
    no_color: Annotated[bool, typer.Option("--no-color", help="Without colours.")] = False,
) -> None:
    """A bank on one cluster: eight tenants, their services and jobs, on a real API server with 40 simulated nodes.

    Starts a cluster of its own, plays, sums up and cleans up. Ends with 0 only if every act happened.
    """
    from rich.console import Console  # noqa: PLC0415 - keeps `allot --help` quick
    from rich.markup import escape  # noqa: PLC0415 - as above

    from allotment_cli.demo.production import put_on  # noqa: PLC0415 - as above
    from allotment_cli.demo.stage import Checkout, Stage  # noqa: PLC0415 - as above
    from allotment_local.cluster import LocalCluster  # noqa: PLC0415 - as above
    from allotment_local.errors import ExitCode, LocalClusterError  # noqa: PLC0415 - as above
    from allotment_local.progress import reporter  # noqa: PLC0415 - as above

    console = Console(no_color=no_color)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with reporter() as progress:
            cluster = LocalCluster(name, progress=progress)
            if down:
                gone = Stage(cluster, Checkout(Path()), keep=True, say=progress.say).down()
                console.print("The demo is gone." if gone else "There was no demo.")
                return
        happened = put_on(cluster, console, keep=keep, svg=svg, report=report)
    except LocalClusterError as error:
        Console(stderr=True).print(f"[bold red]Error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        Console(stderr=True).print("Interrupted; everything is cleaned up.")
        raise typer.Exit(_INTERRUPTED) from None
    raise typer.Exit(ExitCode.OK if happened else ExitCode.FAILED)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
