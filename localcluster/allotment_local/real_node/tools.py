"""Runs the machine's own tools (ip, mount, losetup …) and turns a failure into an error that names the command.

Tools are never run through a shell, never wait for input, and get no proxy settings.
"""

import subprocess
from collections.abc import Sequence
from typing import Final

from allotment_local.errors import LocalClusterError

_NO_STATUS: Final = -1


class ToolError(LocalClusterError):
    """A tool of the machine failed.

    Attributes:
        status: its exit status; -1 where it has none.
    """

    def __init__(self, command: Sequence[str], status: int, output: str) -> None:
        super().__init__(f"{' '.join(command)}: {output.strip() or f'exit status {status}'}")
        self.status = status


def run(*command: str, timeout: float = 60.0, stdin: str | None = None) -> str:
    """Run a tool to its end and return what it printed.

    Raises:
        ToolError: it failed, did not end in its time or is not there; the message holds its last words.
    """
    try:
        done = subprocess.run(
            command,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(command, _NO_STATUS, f"it did not end within {timeout:g} s") from error
    except OSError as error:
        raise ToolError(command, _NO_STATUS, f"it cannot be run: {error.strerror}") from error
    if done.returncode:
        raise ToolError(command, done.returncode, done.stderr or done.stdout)
    return done.stdout


def succeeds(*command: str) -> bool:
    """Run a tool whose failure is an answer, not an error."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
    return done.returncode == 0
