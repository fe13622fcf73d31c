"""Processes that outlive us, found again beyond doubt.

A process is known by its id *and* the moment it started, as the kernel tells it, and the boot it started in. An id
alone is reused; a name belongs to anybody. A record whose process has another start time, or another boot, is of a
process long gone: it counts as not running and is never signalled.

On Linux the check and the signal go through one pidfd, so that the id cannot be reused between them. Elsewhere `ps`
tells the start time, and a tiny window remains.

Processes start with `posix_spawn` in a session of their own: they get no terminal signals and no open files of ours,
and no Python object waits for them.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A process as it was when it started: what a pid file holds."""

    pid: int
    started: str
    """Start time: clock ticks since boot (Linux) or a date (elsewhere); only ever compared for equality."""
    boot: str
    """The boot it started in; pid and ticks repeat after a reboot."""
    command: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write the record in one step, so that no reader ever sees half of it."""
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> "ProcessRecord | None":
        """Read a record; None if there is none or it is no record (a disk that was full, a foreign file)."""
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            return cls(int(raw["pid"]), str(raw["started"]), str(raw["boot"]), tuple(map(str, raw["command"])))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def is_running(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        return self.boot == boot_id() and start_time(self.pid) == self.started


def boot_id() -> str:
    """An identifier of the current boot; empty where the kernel has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def start_time(pid: int) -> str | None:
    """When the process started, or None if there is none or it is a zombie."""
    if sys.platform != "linux":
        return _start_time_by_ps(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # proc_pid_stat(5): the command, field 2, may hold spaces and parentheses; field 3 is the state, field 22 the start.
    fields = stat[stat.rindex(")") + 2 :].split()
    state, threads, started = fields[0], int(fields[17]), fields[19]
    # The first thread may be a zombie while others still hold the process's ports.
    return None if state in "ZX" and threads <= 1 else started


def _start_time_by_ps(pid: int) -> str | None:
    done = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = done.stdout.strip().partition(" ")
    return None if not started or state.startswith("Z") else started.strip()


def current() -> ProcessRecord:
    """The record of the process that asks."""
    return ProcessRecord(os.getpid(), start_time(os.getpid()) or "", boot_id(), tuple(sys.argv))


def spawn(
    command: Sequence[str], *, log: Path, environment: Mapping[str, str], stdin: int | None = None
) -> ProcessRecord:
    """Start a process in its own session, its output appended to `log`.

    Args:
        command: the program's path and arguments.
        log: file for stdout and stderr, created for its owner only.
        environment: the whole environment.
        stdin: descriptor to read from; /dev/null if None.

    Raises:
        OSError: the program cannot be executed (missing, no permission, not for this machine).
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions: list[tuple[int, int, str, int, int] | tuple[int, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0) if stdin is None else (os.POSIX_SPAWN_DUP2, stdin, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    pid = os.posix_spawn(
        command[0],
        list(command),
        dict(environment),
        file_actions=actions,
        setsid=True,
        setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGHUP],
        setsigmask=[],
    )
    # A process that ended at once is a zombie now; an empty start time never matches, which is the truth.
    return ProcessRecord(pid, start_time(pid) or "", boot_id(), tuple(command))


def reap(pid: int) -> str:
    """Collect a child that ended; return how it ended, or "" if it is no ended child of ours."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return ""
    if not ended:
        return ""
    code = os.waitstatus_to_exitcode(status)
    return f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


@contextlib.contextmanager
def _handle(record: ProcessRecord) -> Iterator[int | None]:
    """Open a pidfd of exactly this process; None if it is gone or the system has no pidfds."""
    try:
        descriptor = os.pidfd_open(record.pid) if sys.platform == "linux" else None
    except OSError:  # gone, or a kernel before 5.3
        descriptor = None
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def terminate(record: ProcessRecord, *, grace: float) -> bool:
    """End a process: SIGTERM, then SIGKILL after `grace` seconds. Another process of that id is left alone.

    Returns:
        Whether it ended by itself within the grace period (or was gone already).
    """
    with _handle(record) as descriptor:
        # Checked after the handle is open: from here on the handle cannot mean another process.
        if not record.is_running():
            reap(record.pid)
            return True
        _signal(record, descriptor, signal.SIGTERM)
        if _wait(record, descriptor, grace):
            return True
        _signal(record, descriptor, signal.SIGKILL)
        _wait(record, descriptor, 10.0)
        return False


def _signal(record: ProcessRecord, descriptor: int | None, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        if descriptor is not None and sys.platform == "linux":
            signal.pidfd_send_signal(descriptor, number)
        elif record.is_running():
            os.kill(record.pid, number)


def _wait(record: ProcessRecord, descriptor: int | None, seconds: float) -> bool:
    """Wait for the end of a process and collect it if it was our child."""
    if descriptor is not None:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        poller.poll(seconds * 1000)
    else:
        end = time.monotonic() + seconds
        while record.is_running() and time.monotonic() < end:
            time.sleep(0.05)
    ended = not record.is_running()
    if ended:
        reap(record.pid)
    return ended
