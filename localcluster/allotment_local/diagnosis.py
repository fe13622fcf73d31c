"""Why a component died: its last log lines, and the likely cause in words."""

import errno
import re
from pathlib import Path

from allotment_local.errors import ComponentDiedError

_TAIL_LINES = 12
_SEARCHED_LINES = 200
_TAIL_BYTES = 64_000
_MAX_LINE = 300

_ADDRESS_IN_USE = 0
_CAUSES: tuple[tuple[str, str], ...] = (
    (
        r"address already in use",
        (
            "One of its ports is taken by another program. `allot local status -o json` lists this cluster's ports;\n"
            "end that program, or take this cluster down and up again: it picks free ones."
        ),
    ),
    (
        r"no space left on device",
        "The disk is full. Free some space; ALLOTMENT_STATE puts clusters on another disk.",
    ),
    (
        r"too many open files",
        "The limit of open files is too low: raise `ulimit -n`.",
    ),
    (
        r"permission denied",
        "It may not read or write a file of its own. Was the cluster started by another user?",
    ),
    (
        r"wal: crc mismatch|failed to recover|invalid database|no such snapshot|database corrupt|freepages",
        (
            "etcd's data is damaged, most likely by a power cut (this cluster does not wait for the disk).\n"
            "Only a new cluster helps: `allot local down`, then `allot local up`."
        ),
    ),
    (
        r"unknown (?:shorthand )?flag|flag provided but not defined",
        "The program does not know one of our flags: it is another version than 1.36. Unset ALLOTMENT_BINARIES.",
    ),
    (
        r"signal SIGKILL",
        "It was killed from outside; if nobody did, the machine ran out of memory (see `dmesg`).",
    ),
)


def tail(log: Path, *, lines: int = _TAIL_LINES) -> list[str]:
    """The last lines of a log, overlong ones cut; empty if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line[:_MAX_LINE] for line in text.splitlines()[-lines:]]


def died(component: str, log: Path, *, how: str) -> ComponentDiedError:
    """The error for a component that ended.

    Args:
        component: its name.
        log: its log.
        how: exit status or signal, as far as known.
    """
    longer = tail(log, lines=_SEARCHED_LINES)
    number, telling = _cause([*longer, how])
    last = longer[-_TAIL_LINES:]
    if telling in longer and telling not in last:
        last = [telling, "…", *last]  # some print their whole usage after the one line that matters
    ending = f" ({how})" if how else ""
    shown = "".join(f"\n  {line}" for line in last) or "\n  (its log is empty)"
    return ComponentDiedError(
        f"{component} died{ending}. Its last log lines ({log}):{shown}",
        hint=_CAUSES[number][1] if number is not None else f"The whole log: `allot local logs {component}`.",
        component=component,
        address_in_use=number == _ADDRESS_IN_USE,
    )


def not_executable(component: str, program: str, error: OSError) -> ComponentDiedError:
    """The error for a program that the kernel refuses to run."""
    reasons = {
        errno.ENOENT: "is missing",
        errno.EACCES: "may not be executed (no permission, or a file system mounted noexec)",
        errno.ENOEXEC: "is broken, or made for another kind of machine",
    }
    reason = reasons.get(error.errno or 0, f"cannot be run: {error.strerror}")
    return ComponentDiedError(
        f"{component} cannot start: {program} {reason}.",
        hint="`allot local prune --all` removes built binaries; the next `allot local up` builds them again.",
        component=component,
        address_in_use=False,
    )


def _cause(lines: list[str]) -> tuple[int | None, str]:
    """The number of the first cause that any line speaks of, and that line."""
    for number, (pattern, _) in enumerate(_CAUSES):
        for line in lines:
            if re.search(pattern, line, re.IGNORECASE):
                return number, line
    return None, ""
