"""How much of a virtual machine's time its host gives to others: what a benchmark's figures are to be read with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

_STAT: Final = Path("/proc/stat")
_STEAL: Final = 7
"""Of the numbers in the line of all processors; those of guests follow, and are counted within others (proc(5))."""


@dataclass(frozen=True, slots=True)
class MachineClock:
    """Ticks of all processors, and those of them that were stolen."""

    total: int
    stolen: int

    @classmethod
    def read(cls) -> "MachineClock":
        """Return the present state."""
        ticks = [int(each) for each in _STAT.read_text().splitlines()[0].split()[1:]]
        return cls(sum(ticks[: _STEAL + 1]), ticks[_STEAL])

    def stolen_since(self) -> float:
        """Return the part of the time from then until now that was stolen, 0 to 1."""
        now = MachineClock.read()
        return (now.stolen - self.stolen) / max(1, now.total - self.total)
