"""What work costs, against a plain loop that takes turns with it.

Machines differ and are shared, so nothing here is a time. Work and loop are timed in turns, in CPU time, in stretches
short enough that some of each run undisturbed; the cheapest quarter of both is compared.
"""

import time
from collections.abc import Callable
from typing import Final

import pytest

TURNS: Final = 20_000
ATTEMPTS: Final = 4


def loop() -> None:
    """The reference: a plain loop."""
    total = 0
    for number in range(TURNS):
        total += number


def ratio(work: Callable[[], object], units: int, rounds: int) -> float:
    """What one of `units` pieces of the work costs, in turns of the loop."""
    works, loops = [], []
    for _ in range(rounds):
        begin = time.process_time()
        work()
        middle = time.process_time()
        loop()
        works.append(middle - begin)
        loops.append(time.process_time() - middle)
    quarter = max(rounds // 4, 1)
    return (sum(sorted(works)[:quarter]) / units) / (sum(sorted(loops)[:quarter]) / TURNS)


def stays_within(work: Callable[[], float], lowest: float, highest: float) -> None:
    """Fail if every attempt finds a ratio beyond these bounds: whoever disturbs, does not do so each time."""
    found: list[float] = []
    for _ in range(ATTEMPTS):
        found.append(work())
        if lowest <= found[-1] <= highest:
            return
    pytest.fail(f"{found}, expected {lowest} to {highest}: slower, or the range is out of date")
