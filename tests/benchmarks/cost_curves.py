"""Cost curves: CPU time per decision against the size of everything that could make it grow.

    python tests/benchmarks/cost_curves.py [CURVE…] [--output FOLDER]

Every point starts pods on a cluster of its own, and is the best of several stretches of decisions, because machines are
shared. Writes one SVG per curve and their data as curves.json, and prints the points.
"""

import argparse
import gc
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program, or imported as tests are

from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import SchedulingSpec
from allotment_scheduler.core.objects.tenants import TenantSpec
from allotment_scheduler.core.objects.units import Unit
from benchmarks.bench_engine import MIB, SMALL, build, nodes, pod, tenant

DECISIONS: Final = 2000
STRETCH: Final = 100
Point = tuple[int, float]


def per_decision(events: Iterator[ev.Event]) -> float:
    """Microseconds of CPU per decision: the best of the stretches that one cycle is cut into."""
    engine = build(events)
    stamps: list[float] = []
    started = engine.state.lineup.unit_started

    def stamped(unit: Unit) -> None:
        stamps.append(time.process_time())
        started(unit)

    setattr(engine.state.lineup, "unit_started", stamped)  # noqa: B010 - a stop watch that mypy need not know
    engine.cycle(1e9, claims=False)
    took = [stamps[end] - stamps[end - STRETCH] for end in range(2 * STRETCH, len(stamps), STRETCH)]
    gc.unfreeze()
    return min(took) / STRETCH * 1e6


def pending(count: int = DECISIONS, tenants: Sequence[str] = ("team",), shapes: int = 1) -> Iterator[ev.Event]:
    specs = [SchedulingSpec((("cpu", 100 + number), ("memory", 500 * MIB))) for number in range(shapes)]
    for number in range(count):
        yield pod(tenants[number % len(tenants)], f"wait-{number}", specs[number % shapes], 1e6 + number)


def by_nodes(count: int) -> Iterator[ev.Event]:
    yield from nodes(count)
    yield tenant("team")
    yield from pending(min(DECISIONS, count * 20))


def by_running(count: int) -> Iterator[ev.Event]:
    plain = SchedulingSpec(SMALL)
    yield from nodes(5000)
    yield tenant("team")
    for number in range(count):
        yield pod("team", f"run-{number}", plain, number, started=number, node=f"node-{number % 5000:05}")
    yield from pending()


def by_tenants(count: int) -> Iterator[ev.Event]:
    """A tree of ten children to a tenant, as deep as it takes."""
    yield from nodes(1000)
    leaves = [f"t{number}" for number in range(count)]
    groups = [f"g{number}" for number in range(math.ceil(count / 10))] if count > 10 else []
    for number, name in enumerate(groups):
        yield ev.TenantSeen(TenantSpec(name, "", Fraction(1 + number % 3)))
    for number, name in enumerate(leaves):
        yield tenant(name, groups[number // 10] if groups else "", str(1 + number % 4))
    yield from pending(max(DECISIONS, count), leaves, 5)


def by_classes(count: int) -> Iterator[ev.Event]:
    yield from nodes(1000)
    yield tenant("team")
    yield from pending(max(DECISIONS, 3 * count), shapes=count)


CURVES: Final[dict[str, tuple[str, Sequence[int], Callable[[int], Iterator[ev.Event]]]]] = {
    "nodes": ("nodes, 1 class of pods", (100, 300, 1000, 3000, 10_000), by_nodes),
    "running": ("running pods on 5,000 nodes", (1000, 5000, 20_000, 60_000, 150_000), by_running),
    "tenants": ("leaf tenants, 1,000 nodes", (10, 50, 200, 1000, 5000), by_tenants),
    "classes": ("classes of pending pods, 1,000 nodes", (1, 10, 50, 200, 1000, 2000), by_classes),
}


def svg(title: str, points: Sequence[Point]) -> str:
    """A plot with a logarithmic axis of sizes and a linear one, from zero, of microseconds."""
    width, height, left, bottom = 560, 300, 60, 44
    low, high = math.log10(points[0][0]), math.log10(points[-1][0])
    top = max(value for _, value in points) * 1.15
    step = 10 ** math.floor(math.log10(top))
    step = next(each for each in (step / 5, step / 2, step, 2 * step) if top / each <= 6)

    def x(size: int) -> float:
        return left + (math.log10(size) - low) / (high - low) * (width - left - 30)

    def y(value: float) -> float:
        return height - bottom - value / top * (height - bottom - 34)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/><g font-size="12">',
        f'<text x="{left}" y="20" font-size="14">CPU time per decision (µs) by {title}</text>',
    ]
    for number in range(int(top / step) + 1):
        at = y(number * step)
        out.append(f'<line x1="{left}" y1="{at:.1f}" x2="{width - 30}" y2="{at:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{number * step:g}</text>')
    out += [f'<text x="{x(size):.1f}" y="{height - 22}" text-anchor="middle">{size:,}</text>' for size, _ in points]
    line = " ".join(f"{x(size):.1f},{y(value):.1f}" for size, value in points)
    out.append(f'<polyline points="{line}" fill="none" stroke="#1f5fa8" stroke-width="2"/>')
    out += [f'<circle cx="{x(size):.1f}" cy="{y(value):.1f}" r="3.5" fill="#1f5fa8"/>' for size, value in points]
    return "\n".join([*out, "</g></svg>\n"])


def main() -> None:
    """Measure the curves asked for, and draw them."""
    parser = argparse.ArgumentParser(description="CPU time per decision against size.")
    parser.add_argument("curves", nargs="*", metavar="CURVE", help=f"of {', '.join(CURVES)}; default: all")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    data = options.output / "curves.json"
    known: dict[str, list[Point]] = json.loads(data.read_text()) if data.exists() else {}
    for name in options.curves or CURVES:
        title, sizes, events = CURVES[name]
        points = [(size, round(per_decision(events(size)), 1)) for size in sizes]
        print(name, points, flush=True)  # noqa: T201 - a program
        (options.output / f"cost-by-{name}.svg").write_text(svg(title, points))
        known[name] = points
    data.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
