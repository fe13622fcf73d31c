"""What people read: tenants, waits and the load, as wide as their terminal and no wider.

Amounts are written as in manifests, shares as percentages; a column in which nobody has anything is left out. On a
narrow terminal the least telling columns go, and a line names them: a table whose cells are folded letter by letter
tells nothing. Explanations are sentences, and sentences are not put into columns. What is piped is not folded at all:
whoever reads it counts lines.

Colours are few and mean nothing that the words do not say; rich leaves them out where NO_COLOR is set or nobody looks.
It must never read markup in what it shows: names and messages come from the cluster.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from allotment_cli.outputs import printable

Row = Mapping[str, Any]
AT_REST: Final = frozenset({"Running", "StartsNow", "Succeeded", "Failed"})
"""Reasons of pods that do not wait."""
_UNFOLDED: Final = 100_000
_NAMED: Final = 5
_GAP: Final = 2
_BINARY: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading, its cells, and how soon it goes where room is short (0: never)."""

    title: str
    cells: tuple[str, ...]
    goes: int = 0
    right: bool = False

    @property
    def width(self) -> int:
        """Letters of the longest line."""
        return max(len(line) for cell in (self.title, *self.cells) for line in cell.split("\n"))


def terminal() -> Console:
    """Where answers are printed."""
    unfolded = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=_UNFOLDED if unfolded else None, highlight=False, markup=False, emoji=False)


# --- tenants ----------------------------------------------------------------------------------------------------


def show_tenants(rows: Sequence[Row], screen: Console, *, amounts: bool = True) -> None:
    """Print tenants, one line for each of their resources."""
    if not rows:
        screen.print("There are no tenants yet: apply a Tenant.")
        return
    columns = [
        Column("tenant", tuple(row["name"] for row in rows)),
        Column("parent", tuple(row["parent"] or "" for row in rows), 1),
        Column("weight", tuple(f"{row['weight']:g}" for row in rows), 6, right=True),
        Column("share", tuple(_percent(row["dominantShare"]) for row in rows), right=True),
        Column("of", tuple(row["dominantResource"] or "" for row in rows), 5),
        Column("by weight", tuple(_percent(row["weightedShare"]) for row in rows), 4, right=True),
        Column("waiting", tuple(str(row["pending"]) for row in rows), right=True),
    ]
    if amounts:
        columns += _amounts(rows)
    _print(columns, screen)


def _amounts(rows: Sequence[Row]) -> list[Column]:
    listed = [_resources(row) for row in rows]
    columns = [Column("resource", tuple("\n".join(names) for names in listed), 9)]
    for title, key, goes, nothing in (
        ("used", "used", 8, "0"),
        ("entitled", "entitlement", 7, ""),
        ("limit", "limits", 3, ""),
        ("guaranteed", "guaranteed", 2, ""),
    ):
        cells = (
            "\n".join(amount(name, row[key][name]) if name in row[key] else nothing for name in names)
            for row, names in zip(rows, listed, strict=True)
        )
        columns.append(Column(title, tuple(cells), goes, right=True))
    return columns


def _resources(row: Row) -> list[str]:
    """What there is to say about: of pods, which everybody uses, only where their number is bounded or promised."""
    bounds = {**row["guaranteed"], **row["limits"]}
    used = (name for name, units in row["used"].items() if units and name != "pods")
    entitled = (name for name, units in row["entitlement"].items() if units)
    return list(dict.fromkeys([*used, *entitled, *bounds]))


def amount(resource: str, units: float) -> str:
    """Units as people write them: cpu is counted in thousandths, memory and storage in bytes."""
    if resource == "cpu":
        return _short(units / 1000)
    if not resource.endswith(("memory", "storage")) and not resource.startswith("hugepages-"):
        return _short(units)
    size, power = units, 0
    while abs(size) >= 1024 and power < len(_BINARY) - 1:
        size, power = size / 1024, power + 1
    return f"{_short(size)}{_BINARY[power]}"


def _short(number: float) -> str:
    """Four digits, and never fewer than the whole part has."""
    return f"{number:.4g}" if abs(number) < 10_000 else f"{number:.0f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


# --- waits ------------------------------------------------------------------------------------------------------


def show_waits(rows: Sequence[Row], screen: Console) -> None:
    """Print why pods wait; those that wait for the same are named together."""
    there = [row for row in rows if row["reason"] in AT_REST]
    if there:
        _print(
            [
                Column("pod", tuple(_name(row) for row in there)),
                Column("state", tuple(row["reason"] for row in there)),
                Column("", tuple(row["message"] for row in there)),
            ],
            screen,
        )
    groups: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        if row["reason"] not in AT_REST:
            key = (row["reason"], row["message"], row["change"] or "")
            groups.setdefault(key, []).append(_name(row))
    for number, ((reason, message, change), pods) in enumerate(groups.items()):
        if there or number:
            screen.print()
        _show_wait(reason, message, change, pods, screen)


def _show_wait(reason: str, message: str, change: str, pods: Sequence[str], screen: Console) -> None:
    if len(pods) == 1:
        screen.print(Text.assemble(_text(pods[0], "bold"), " waits: ", _text(reason, "yellow")))
    else:
        named = ", ".join(pods[:_NAMED]) + (f" and {len(pods) - _NAMED} more" if len(pods) > _NAMED else "")
        screen.print(Text.assemble((f"{len(pods)} pods", "bold"), " wait: ", _text(reason, "yellow")))
        _indented(named, screen)
    _indented(message, screen)
    if change:
        _indented(f"To start now: {change}", screen)


def _indented(text: str, screen: Console) -> None:
    width = max(screen.width, 20)
    for line in wrap(text, width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False):
        screen.print(_text(line))


def _text(words: str, style: str = "") -> Text:
    return Text(printable(words), style)


def _name(row: Row) -> str:
    return f"{row['namespace']}/{row['pod']}"


# --- the load ---------------------------------------------------------------------------------------------------


def show_load(found: Row, screen: Console) -> None:
    """Print what runs and waits, the scheduler's pace, the reasons, and the tenants."""
    counts = [f"{found[key]} {key}" for key in ("running", "waiting", "starting", "leaving") if key in found]
    if "nodes" in found:
        counts.insert(0, f"{found['nodes']} nodes")
    screen.print(
        "pods: " + ", ".join(counts) if "nodes" not in found else f"{counts[0]}; pods: {', '.join(counts[1:])}"
    )
    if "cycles" in found:
        screen.print(f"scheduler: {found['cycles']} cycles, the last one in {_duration(found['lastCycleSeconds'])}")
    evictions = found.get("evictions") or {}
    if evictions:
        screen.print("evictions: " + ", ".join(f"{count} {rule}" for rule, count in evictions.items()))
    reasons = found["waitingByReason"]
    if reasons:
        screen.print()
        counted = tuple(str(count) for count in reasons.values())
        _print([Column("waiting because", tuple(reasons)), Column("pods", counted, right=True)], screen)
        screen.print(_text("allot why NAMESPACE/POD says what would start one.", "dim"))
    if found["tenants"]:
        screen.print()
        show_tenants(found["tenants"], screen, amounts=False)


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


# --- any rows ---------------------------------------------------------------------------------------------------


def show_rows(title: str, rows: Sequence[Row], screen: Console) -> None:
    """Print rows of plain values under a title that counts them."""
    screen.print(_text(f"{title}: {len(rows)}", "bold"))
    if not rows:
        return
    if "dominantShare" in rows[0]:
        show_tenants(rows, screen)
    elif "change" in rows[0]:
        show_waits(rows, screen)
    else:
        _print([Column(name, tuple(_cell(row[name]) for row in rows)) for name in rows[0]], screen)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def _print(columns: Sequence[Column], screen: Console) -> None:
    """Print a table, without the columns that are empty, or that there is no room for."""
    shown = [column for column in columns if any(cell.strip() for cell in column.cells)]
    gone: list[str] = []
    while sum(column.width + _GAP for column in shown) - _GAP > screen.width:
        spare = [column for column in shown if column.goes]
        if not spare:
            break
        least = min(spare, key=lambda column: column.goes)
        gone.append(least.title)
        shown.remove(least)
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="dim")
    for column in shown:
        table.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
    for cells in zip(*(column.cells for column in shown), strict=True):
        table.add_row(*(_text(cell) for cell in cells))
    screen.print(table)
    if gone:
        screen.print(_text(f"no room for: {', '.join(gone)} (-o json has all)", "dim"))
