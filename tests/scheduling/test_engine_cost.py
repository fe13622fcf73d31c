"""The engine's cost: as ratios against a plain loop of the same run, and as calls that a decision makes.

Machines differ and are shared, so nothing here is a time. Work and loop are timed in turns, in CPU time, in stretches
short enough that some of each run undisturbed; the cheapest quarter of both is compared. The ranges are wide: they are
to catch a change of the order of growth or a step that costs as much as all others, not a tenth. What must not grow at
all is counted in calls, which no load disturbs.
"""

import sys
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Final

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.entitlement.filling import fill
from allotment_scheduler.core.entitlement.leap import Leap
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.nodes import NodeSpec
from allotment_scheduler.core.objects.pods import PodSpec, SchedulingSpec
from allotment_scheduler.core.objects.tenants import TenantSpec
from allotment_scheduler.core.state.cluster import ClusterState
from builders.scheduling import World

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


def engine(nodes: int, running: int, waiting: int, *, tenants: int = 1, shapes: int = 1) -> Engine:
    """An engine over a cluster of large nodes, with the waiting pods spread over tenants in groups of five."""
    state = ClusterState()
    for number in range(nodes):
        state.apply(ev.NodeSeen(NodeSpec(f"n{number:04}", {"cpu": 64_000, "memory": 2**38, "pods": 1000})))
    for number in range(-(-tenants // 5)):
        state.apply(ev.TenantSeen(TenantSpec(f"g{number}", "", Fraction(1 + number % 3))))
    for number in range(tenants):
        name = f"t{number}"
        state.apply(ev.TenantSeen(TenantSpec(name, f"g{number // 5}", Fraction(1 + number % 2), namespaces=(name,))))
    specs = [SchedulingSpec((("cpu", 50 + 10 * k), ("memory", 2**28 + 2**24 * k))) for k in range(shapes)]
    for number in range(running + waiting):
        node = f"n{number % nodes:04}" if number < running else None
        scheduling = specs[(number * 7 + number // tenants) % shapes]
        namespace, name = f"t{number % tenants}", f"p{number}"
        state.apply(ev.PodSeen(PodSpec(namespace, name, scheduling, created=number, started=number, node=node)))
    state.settle()
    return Engine(state)


def decisions(**size: int) -> float:
    """Turns of the loop that one decision costs."""
    made = engine(200, waiting=4000, running=500, **size)
    return ratio(lambda: made.cycle(1e9, most_starts=100, claims=False), 100, 36)


def entitlement() -> float:
    """Turns of the loop that one portion of demand costs in a filling."""
    made = engine(20, waiting=5000, running=0, tenants=100, shapes=20)
    portions = made.demand.portions()
    count = sum(map(len, portions.values()))
    return ratio(lambda: fill(made.state.forest.root, portions, made.state.measure), count, 8)


@pytest.mark.parametrize(
    ("work", "lowest", "highest"),
    [
        pytest.param(decisions, 150, 3000, id="a decision for one tenant and one shape"),
        pytest.param(
            lambda: decisions(tenants=100, shapes=20), 200, 5000, id="a decision among 100 tenants, 20 shapes"
        ),
        pytest.param(entitlement, 10, 400, id="a portion in the filling of 100 tenants"),
    ],
)
def test_the_cost_stays_in_its_range(work: Callable[[], float], lowest: float, highest: float) -> None:
    found: list[float] = []
    for _ in range(ATTEMPTS):
        found.append(work())
        if lowest <= found[-1] <= highest:
            return

    pytest.fail(f"{found} turns of a plain loop, expected {lowest} to {highest}: slower, or the range is out of date")


def calls(made: Engine, starts: int) -> float:
    """Calls, of Python's and of C's functions, that one start makes."""
    count = 0

    def seen(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        done = made.cycle(1e9, most_starts=starts, claims=False)
    finally:
        sys.setprofile(before)
    assert len(done.starts) == starts

    return count / starts


def test_a_gang_takes_no_more_calls_the_more_tenants_wait_with_gangs() -> None:
    def crowd(tenants: int) -> Engine:
        world = World().nodes(50, cpu=64)
        for tenant in range(tenants):
            world.tenant(f"t{tenant:03}")
        for number in range(240):
            world.gang(f"t{number % tenants:03}", f"g{number}", 4)
            world.pods(f"t{number % tenants:03}", 4, f"g{number}-", group=f"g{number}", cpu=1)
        return Engine(world.state())

    few, many = (calls(crowd(tenants), 400) for tenants in (6, 120))

    assert many < 2 * few


def test_a_start_takes_no_more_calls_the_more_pods_run() -> None:
    few, many = (calls(engine(100, running=running, waiting=600), 500) for running in (100, 10_000))

    assert many <= 1.1 * few


def test_a_start_takes_few_calls() -> None:
    assert calls(engine(100, running=100, waiting=2500), 2000) <= 90


def test_a_regular_filling_looks_at_everybodys_course_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Leap] = []
    look = Leap._courses

    def counted(leap: Leap) -> object:
        looks.append(leap)
        return look(leap)

    monkeypatch.setattr(Leap, "_courses", counted)
    made = engine(20, waiting=5000, running=0, tenants=100, shapes=20)

    fill(made.state.forest.root, made.demand.portions(), made.state.measure)

    assert len(looks) == 1
