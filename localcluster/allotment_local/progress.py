"""How slow work is told: a live bar on a terminal, a plain line now and then elsewhere.

Everything goes to stderr, so that a command's output stays clean. The work itself knows only the `Progress` protocol;
tests and callers that want silence pass `Silent`.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

_INTERVAL = 15.0
"""Seconds between plain lines: enough to see life in a CI log, too few to fill it."""


class Progress(Protocol):
    """Where work tells what it does."""

    def say(self, message: str) -> None:
        """Tell something once."""
        ...

    def step(self, what: str, done: int = 0, total: int = 0) -> None:
        """Tell how far a step is; a total of 0 means unknown."""
        ...


class Silent:
    """Tells nothing."""

    def say(self, message: str) -> None:
        """Ignore it."""

    def step(self, what: str, done: int = 0, total: int = 0) -> None:
        """Ignore it."""


class PlainProgress:
    """Lines for logs and pipes: every new step, then one every 15 s."""

    def __init__(self, stream: TextIO, *, interval: float = _INTERVAL) -> None:
        self._stream = stream
        self._interval = interval
        self._what = ""
        self._last = 0.0

    def say(self, message: str) -> None:
        """Print the message."""
        print(message, file=self._stream, flush=True)

    def step(self, what: str, done: int = 0, total: int = 0) -> None:
        """Print the step if it is new or the last line is old."""
        now = time.monotonic()
        if what == self._what and now - self._last < self._interval:
            return
        self._what, self._last = what, now
        self.say(f"{what}: {done} of {total}" if total else what)


class LiveProgress:
    """A bar on a terminal, gone when the work is done."""

    def __init__(self, console: Console) -> None:
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._what = ""

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def say(self, message: str) -> None:
        """Print the message above the bar."""
        self._bars.console.print(message, highlight=False, markup=False)

    def step(self, what: str, done: int = 0, total: int = 0) -> None:
        """Move the bar, or begin a new one."""
        if self._task is None or what != self._what:
            if self._task is not None:
                self._bars.remove_task(self._task)
            self._task = self._bars.add_task(what, total=total or None)
            self._what = what
        self._bars.update(self._task, completed=done, total=total or None)


@contextmanager
def reporter(stream: TextIO | None = None) -> Iterator[Progress]:
    """The progress that fits the stream (default stderr)."""
    stream = stream or sys.stderr
    if stream.isatty():
        with LiveProgress(Console(file=stream)) as live:
            yield live
    else:
        yield PlainProgress(stream)
