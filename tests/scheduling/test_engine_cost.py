"""The engine's cost: as ratios against a plain loop of the same run, and as calls that a decision makes.

Machines differ and are shared, so nothing here is a time (builders/cpu_cost.py). Every range goes from about a third of
what was found to three times that: it is to catch a change of the order of growth or a step that costs as much as all
others, not a tenth. What must not grow at all is counted in calls, which no load disturbs, or compared with itself.
"""

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from fractions import Fraction

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.entitlement.filling import fill
from allotment_scheduler.core.entitlement.leap import Leap
from allotment_scheduler.core.explanation.explain import Explainer
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.nodes import NodeSpec
from allotment_scheduler.core.objects.pods import PodSpec, SchedulingSpec
from allotment_scheduler.core.objects.tenants import TenantSpec
from allotment_scheduler.core.objects.units import Unit
from allotment_scheduler.core.state.cluster import ClusterState
from benchmarks import bench_rebuild
from benchmarks.bench_engine import (
    SMALL,
    alone,
    evenly,
    full_nodes,
    gangs_of_three,
    greedy_and_entitled,
    in_its_zone,
    nodes,
    pod,
    run_and_wait,
    tenant,
    tree,
    urgent_gang,
    with_its_app,
)
from builders.cpu_cost import ratio, stays_within
from builders.scheduling import World


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
    return ratio(lambda: made.cycle(1e9, most_decisions=100, claims=False), 100, 36)


def entitlement() -> float:
    """Turns of the loop that one portion of demand costs in a filling."""
    made = engine(20, waiting=5000, running=0, tenants=100, shapes=20)
    portions = made.demand.portions()
    count = sum(map(len, portions.values()))
    return ratio(lambda: fill(made.state.forest.root, portions, made.state.measure), count, 8)


def many_tenants() -> float:
    """Turns of the loop that one decision costs in a tree of 1,000 tenants."""
    made = build(tree(shapes=20, per_leaf=2))
    return ratio(lambda: made.cycle(1e9, most_decisions=50, claims=False), 50, 16)


def build(events: Iterator[ev.Event]) -> Engine:
    """An engine over what happened; the collector stays as tests have it."""
    state = ClusterState()
    state.apply_all(events)
    state.settle()
    return Engine(state)


def starts(events: Iterator[ev.Event], at_once: int = 50) -> float:
    """Turns of the loop that one start costs."""
    made = build(events)
    return ratio(lambda: made.cycle(1e9, most_decisions=at_once, claims=False), at_once, 20)


def waiting_unit(made: Engine) -> Unit:
    """The one unit that still waits when nothing fits any more."""
    made.cycle(1e9, claims=False)
    (unit,) = [unit for queue in made.state.queues.values() for unit in queue.waiting()]
    return unit


def plan(events: Iterator[ev.Event], rounds: int = 8) -> float:
    """Turns of the loop that it costs to plan evictions for the one unit that waits."""
    made = build(events)
    unit = waiting_unit(made)
    assert made.planner.plan(unit) is not None
    return ratio(lambda: made.planner.plan(unit), 1, rounds)


def explanation() -> float:
    """Turns of the loop that it costs to explain why a pod waits, with what would help it."""
    made = build(full_nodes(300))
    made.cycle(1e9)
    explainer, pod = Explainer(made), made.state.pods["team", "waits"]
    return ratio(lambda: explainer.why(pod), 1, 12)


def rebuild() -> float:
    """Turns of the loop that it costs to take in one pod or node, from a list as the API server sends it."""
    listed = list(bench_rebuild.pages(bench_rebuild.node, 200)), list(bench_rebuild.pages(bench_rebuild.pod, 2000))

    def work() -> None:
        bench_rebuild.decide(rebuilt(*listed))

    return ratio(work, 2200, 6)


def rebuilt(nodes: list[bytes], pods: list[bytes]) -> ClusterState:
    state = bench_rebuild.empty()
    for page in nodes:
        bench_rebuild.take_nodes(state, page)
    for page in pods:
        bench_rebuild.take_pods(state, page)
    return state


def test_a_pod_takes_two_kilobytes() -> None:
    nodes, pods = list(bench_rebuild.pages(bench_rebuild.node, 200)), list(bench_rebuild.pages(bench_rebuild.pod, 2500))
    rebuilt(nodes, pods[:1])  # what is kept for all: modules, resources, parsed quantities
    tracemalloc.start()
    try:
        state = rebuilt(nodes, pods)
        state.settle()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert 1000 < taken / 2500 < 2800


def small(_: int) -> SchedulingSpec:
    return SchedulingSpec(SMALL)


@pytest.mark.parametrize(
    ("work", "lowest", "highest"),
    [
        pytest.param(decisions, 150, 2000, id="a decision for one tenant and one shape"),
        pytest.param(
            lambda: decisions(tenants=100, shapes=20), 200, 4000, id="a decision among 100 tenants, 20 shapes"
        ),
        pytest.param(entitlement, 10, 300, id="a portion in the filling of 100 tenants"),
        pytest.param(lambda: starts(run_and_wait(100, 1000, small, size=200)), 200, 2000, id="SchedulingBasic"),
        pytest.param(lambda: starts(run_and_wait(100, 1000, in_its_zone, size=200)), 260, 2500, id="NodeAffinity"),
        pytest.param(
            lambda: starts(run_and_wait(200, 1000, evenly, app="spread", size=200)), 380, 3500, id="TopologySpreading"
        ),
        pytest.param(lambda: starts(run_and_wait(200, 1000, with_its_app, size=200)), 950, 9000, id="PodAffinity"),
        pytest.param(
            lambda: starts(run_and_wait(100, 1000, alone, app="lonely", alike=True, size=1100)),
            *(500, 4800),
            id="PodAntiAffinity",
        ),
        pytest.param(lambda: starts(gangs_of_three(320, 200), 48), 290, 2800, id="Gangs"),
        pytest.param(lambda: plan(urgent_gang(100, 4)), 17_000, 190_000, id="GangPreemption"),
        pytest.param(lambda: plan(greedy_and_entitled(80, 8), 4), 380_000, 3_600_000, id="Reclaim"),
        pytest.param(many_tenants, 1200, 12_000, id="ManyTenants"),
        pytest.param(explanation, 1600, 20_000, id="Explain"),
        pytest.param(rebuild, 330, 3000, id="Rebuild"),
    ],
)
def test_the_cost_stays_in_its_range(work: Callable[[], float], lowest: float, highest: float) -> None:
    stays_within(work, lowest, highest)


def crowd(neighbours: int, priority: int) -> Iterator[ev.Event]:
    """Full nodes, each with a pod of low priority among so many neighbours, and an urgent pod that waits."""
    one = SchedulingSpec((("cpu", 1000),))
    yield from nodes(40, cpu=(1 + neighbours) * 1000, pods=1 + neighbours)
    yield tenant("team")
    for number in range(40):
        at = f"node-{number:05}"
        yield pod("team", f"low{number}", one, number, started=number, node=at)
        for each in range(neighbours):
            yield pod("team", f"n{number}-{each}", one, number, started=number, node=at, priority=priority)
    yield pod("team", "urgent", one, 1e6, priority=10)


@pytest.mark.parametrize("priority", [0, 20], ids=["all of them may go", "they may not go"])
def test_a_claim_costs_no_more_the_more_pods_run(priority: int) -> None:
    few, many = (build(crowd(neighbours, priority)) for neighbours in (9, 109))
    units = waiting_unit(few), waiting_unit(many)

    def growth() -> float:
        """Ten times the pods, on the same nodes."""
        cost_of_few = ratio(lambda: few.planner.plan(units[0]), 1, 6)
        return ratio(lambda: many.planner.plan(units[1]), 1, 6) / cost_of_few

    stays_within(growth, 0, 2.5)


def calls(made: Engine, starts: int) -> float:
    """Calls, of Python's and of C's functions, that one start makes."""
    count = 0

    def seen(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        done = made.cycle(1e9, most_decisions=starts, claims=False)
    finally:
        sys.setprofile(before)
    assert len(done.starts) == starts

    return count / starts


def test_a_gang_takes_no_more_calls_the_more_tenants_wait_with_gangs() -> None:
    def crowd(tenants: int) -> Engine:
        world = World().nodes(50, cpu=64)
        for number in range(tenants):
            world.tenant(f"t{number:03}")
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
