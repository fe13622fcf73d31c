"""Figures of benchmarks with their targets, and the files that keep them.

A file is a list of `{"name", "value", "unit", "target", "ok"}`. Whoever runs a few benchmarks only replaces what these
have measured: the other rows stay as they were.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured figure. `higher` says which way is better."""

    name: str
    value: float
    unit: str
    target: float
    higher: bool

    @property
    def ok(self) -> bool:
        """Whether the target is reached."""
        return self.value >= self.target if self.higher else self.value <= self.target

    @property
    def verdict(self) -> str:
        """In a word."""
        return "ok" if self.ok else "MISSED"

    def row(self) -> dict[str, Any]:
        """As it is written down."""
        return {
            "name": self.name,
            "value": round(self.value, 3),
            "unit": self.unit,
            "target": self.target,
            "ok": self.ok,
        }

    def line(self) -> str:
        """As it is printed."""
        return f"{self.name:40} {self.value:12,.2f} {self.unit:12} target {self.target:,} {self.verdict}"


def keep(path: Path, figures: Iterable[Figure]) -> None:
    """Write these figures down, each in the place of an older one of its name, and leave the others as they are."""
    rows = {row["name"]: row for row in _rows(path)}
    rows |= {figure.name: figure.row() for figure in figures}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([*rows.values()], indent=1) + "\n")


def _rows(path: Path) -> list[dict[str, Any]]:
    """What a file of this form holds; nothing, if there is none or it is of another form."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return []
    return found if isinstance(found, list) else []
