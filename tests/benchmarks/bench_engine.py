"""Engine benchmarks, named and sized as kube-scheduler's scheduler_perf; targets in docs/benchmarks.md.

The state is built first; only decisions are timed, in memory. Run: `python tests/benchmarks/bench_engine.py [NAME…]`.
Figures are of CPU time; the table gives the time on the clock beside it, and what a turn of a plain loop took in the
same run. Writes build/bench.json: `[{"name","value","unit","target","ok"}]`; figures that are not measured stay there.
"""

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program, tests/ is not on the path

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.entitlement.demand import Demand
from allotment_scheduler.core.entitlement.filling import Entitlement, fill
from allotment_scheduler.core.explanation.explain import Explainer
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.nodes import NodeSpec
from allotment_scheduler.core.objects.pods import Pod, PodAffinityTerm, PodSpec, SchedulingSpec, SpreadConstraint
from allotment_scheduler.core.objects.selectors import LabelSelector, NodeSelectorTerm, Requirement
from allotment_scheduler.core.objects.tenants import TenantSpec
from allotment_scheduler.core.objects.units import GroupSpec
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.shell.loop import tame_collector
from builders.figures import Figure, keep

GIB = 2**30
MIB = 2**20
SMALL = (("cpu", 100), ("memory", 500 * MIB))
ZONE = "topology.kubernetes.io/zone"
HOST = "kubernetes.io/hostname"


def nodes(count: int, **extra: int) -> Iterator[ev.Event]:
    for number in range(count):
        name = f"node-{number:05}"
        labels = {ZONE: f"zone-{number % 3}", HOST: name, "disk": "fast" if number % 10 == 0 else "slow"}
        yield ev.NodeSeen(NodeSpec(name, {"cpu": 32_000, "memory": 128 * GIB, "pods": 110, **extra}, labels))


def tenant(name: str, parent: str = "", weight: str = "1", **more: Any) -> ev.Event:
    return ev.TenantSeen(TenantSpec(name, parent, Fraction(weight), namespaces=(name,), **more))


def pod(namespace: str, name: str, scheduling: SchedulingSpec, created: float, **more: Any) -> ev.Event:
    return ev.PodSeen(PodSpec(namespace, name, scheduling, created=created, **more))


def build(events: Iterator[ev.Event]) -> Engine:
    state = ClusterState()
    state.apply_all(events)
    state.settle()
    tame_collector()  # as the live scheduler does after its first lists
    return Engine(state)


def warm_up() -> None:
    """Walk every path once on a tiny cluster: a scheduler that runs has imported and cached what it needs."""
    state = ClusterState()
    spec = SchedulingSpec((("cpu", 1000),))
    state.apply(ev.NodeSeen(NodeSpec("n", {"cpu": 4000})))
    for name in ("a", "b"):
        state.apply(tenant(name))
    for number in range(4):
        state.apply(pod("a", f"r{number}", spec, number, started=number, node="n"))
        state.apply(pod("b", f"g{number % 2}-{number}", spec, number, group=f"g{number % 2}"))
    for number in range(2):
        state.apply(ev.GroupSeen(GroupSpec("b", f"g{number}", 2)))
    Engine(state).cycle(1e9)


def timed(engine: Engine, want: int | None = None) -> tuple[float, int]:
    begin = time.process_time()
    done = engine.cycle(1e9)
    took = time.process_time() - begin
    if want is not None and len(done.starts) != want:
        raise AssertionError(f"{len(done.starts)} pods started instead of {want}")
    return took, len(done.decisions)


def quickest(events: Callable[[], Iterator[ev.Event]], want: int) -> tuple[float, int]:
    """The quickest of three cycles, each from a state of its own: what disturbs one only makes it slower."""
    return min(timed(build(events()), want) for _ in range(3))


def throughput(name: str, target: float, events: Callable[[], Iterator[ev.Event]], want: int) -> Figure:
    took, count = quickest(events, want)
    return Figure(name, count / took, "pods/s", target, higher=True)


def run_and_wait(
    running: int,
    pending: int,
    spec: Callable[[int], SchedulingSpec],
    *,
    app: str = "",
    alike: bool = False,
    size: int = 5000,
) -> Iterator[ev.Event]:
    """Pods that run beside pods that wait, all labelled as of this app, or of ten; the former plain, or alike."""
    plain = SchedulingSpec(SMALL)
    yield from nodes(size)
    yield tenant("team")
    for number in range(running):
        labels = (("app", app or f"a{number % 10}"),)
        shape = spec(number) if alike else plain
        at = f"node-{number % size:05}"
        yield pod("team", f"run-{number}", shape, number, started=number, node=at, labels=labels)
    for number in range(pending):
        labels = (("app", app or f"a{number % 10}"),)
        yield pod("team", f"wait-{number}", spec(number), 1e6 + number, labels=labels)


def basic() -> Figure:
    spec = SchedulingSpec(SMALL)
    return throughput("SchedulingBasic", 30_000, lambda: run_and_wait(1000, 10_000, lambda _: spec), 10_000)


def mixed() -> Figure:
    specs = [SchedulingSpec((("cpu", 50 + 25 * (k % 8)), ("memory", (100 + 150 * (k // 8)) * MIB))) for k in range(40)]

    def events() -> Iterator[ev.Event]:
        yield from nodes(5000)
        for top in range(5):
            yield ev.TenantSeen(TenantSpec(f"d{top}", "", Fraction(top + 1)))
            for middle in range(8):
                yield ev.TenantSeen(TenantSpec(f"d{top}-{middle}", f"d{top}", Fraction(1 + middle % 3, 2)))
                for leaf in range(5):
                    yield tenant(f"d{top}-{middle}-{leaf}", f"d{top}-{middle}", str(1 + leaf))
        leaves = [f"d{t}-{m}-{n}" for t in range(5) for m in range(8) for n in range(5)]
        for number in range(1000):
            yield pod(
                leaves[number % 200], f"r{number}", specs[number % 40], number, started=number, node=f"node-{number:05}"
            )
        for number in range(10_000):
            yield pod(leaves[(number * 7) % 200], f"w{number}", specs[(number // 3) % 40], 1e6 + number)

    return throughput("SchedulingMixed", 20_000, events, 10_000)


def in_its_zone(number: int) -> SchedulingSpec:
    """One of three zones is required, another label preferred."""
    zone = NodeSelectorTerm((Requirement(ZONE, "In", (f"zone-{number % 3}",)),))
    fast = NodeSelectorTerm((Requirement("disk", "In", ("fast",)),))
    return SchedulingSpec(SMALL, required_nodes=(zone,), preferred_nodes=((10, fast),))


def selector(app: str) -> LabelSelector:
    return LabelSelector((Requirement("app", "In", (app,)),))


def evenly(_: int) -> SchedulingSpec:
    """Over the zones, at most five apart."""
    return SchedulingSpec(SMALL, spread=(SpreadConstraint(ZONE, 5, hard=True, selector=selector("spread")),))


def with_its_app(number: int) -> SchedulingSpec:
    """In a zone with a pod of its app, one of ten."""
    return SchedulingSpec(SMALL, affinity=(PodAffinityTerm(ZONE, selector(f"a{number % 10}")),))


def alone(_: int) -> SchedulingSpec:
    """On a node without its like."""
    return SchedulingSpec(SMALL, anti_affinity=(PodAffinityTerm(HOST, selector("lonely")),))


def node_affinity() -> Figure:
    return throughput("NodeAffinity", 10_000, lambda: run_and_wait(5000, 10_000, in_its_zone), 10_000)


def spread() -> Figure:
    return throughput("TopologySpreading", 8000, lambda: run_and_wait(5000, 5000, evenly, app="spread"), 5000)


def affinity() -> Figure:
    return throughput("PodAffinity", 2000, lambda: run_and_wait(5000, 5000, with_its_app), 5000)


def anti_affinity() -> Figure:
    """Who runs repels, too, as in scheduler_perf: a fifth of the nodes is closed from the start."""
    events = lambda: run_and_wait(1000, 2000, alone, app="lonely", alike=True)  # noqa: E731 - one expression
    return throughput("PodAntiAffinity", 3000, events, 2000)


def gangs_of_three(count: int, size: int = 5000) -> Iterator[ev.Event]:
    spec = SchedulingSpec(SMALL)
    yield from nodes(size)
    yield tenant("team")
    for number in range(count):
        yield ev.GroupSeen(GroupSpec("team", f"g{number}", 3))
        for member in range(3):
            yield pod("team", f"g{number}-{member}", spec, number, group=f"g{number}")


def gangs() -> Figure:
    took, _ = quickest(lambda: gangs_of_three(1000), 3000)
    return Figure("Gangs", took, "ms/gang", 0.5, higher=False)


def urgent_gang(size: int = 5000, members: int = 100) -> Iterator[ev.Event]:
    """Nodes full of pods of one CPU and low priority; a gang of pods of eight comes, of high priority."""
    low, high = SchedulingSpec((("cpu", 1000),)), SchedulingSpec((("cpu", 8000),))
    count = 32 * size
    yield from nodes(size)
    yield tenant("team")
    for number in range(count):
        yield pod("team", f"low{number}", low, number, started=(number * 7919) % count, node=f"node-{number % size:05}")
    yield ev.GroupSeen(GroupSpec("team", "high", members))
    for number in range(members):
        yield pod("team", f"high{number}", high, 1e6, group="high", priority=10)


def gang_preemption() -> Figure:
    took, _ = quickest(urgent_gang, 100)
    return Figure("GangPreemption", 1000 * took, "ms", 100, higher=False)


def greedy_and_entitled(size: int = 1000, members: int = 64) -> Iterator[ev.Event]:
    """Half the nodes full of one tenant's pods of one GPU, half of its gangs; another's gang wants whole nodes."""
    one, two, eight = (SchedulingSpec((("nvidia.com/gpu", count),)) for count in (1, 2, 8))
    half = size // 2
    yield from nodes(size, **{"nvidia.com/gpu": 8})
    yield tenant("greedy")
    yield tenant("entitled")
    for number in range(8 * half):
        at = f"node-{number % half:05}"
        yield pod("greedy", f"one{number}", one, number, started=(number * 7919) % (8 * half), node=at)
    for number in range(half):
        yield ev.GroupSeen(GroupSpec("greedy", f"g{number}", 4))
        for member in range(4):
            at = f"node-{half + (number + member * (half // 4)) % half:05}"
            yield pod("greedy", f"g{number}-{member}", two, number, started=number, node=at, group=f"g{number}")
    yield ev.GroupSeen(GroupSpec("entitled", "big", members))
    for number in range(members):
        yield pod("entitled", f"big{number}", eight, 1e6, group="big")


def reclaim() -> Figure:
    took, _ = quickest(greedy_and_entitled, 64)
    return Figure("Reclaim", took, "s", 0.5, higher=False)


def tree(shapes: int = 50, per_leaf: int = 50) -> Iterator[ev.Event]:
    specs = [SchedulingSpec((("cpu", 500 + 250 * (k % 10)), ("memory", (1 + k // 5) * GIB))) for k in range(shapes)]
    yield from nodes(1000)
    for a in range(10):
        yield ev.TenantSeen(TenantSpec(f"t{a}", "", Fraction(1 + a % 3)))
        for b in range(10):
            yield ev.TenantSeen(TenantSpec(f"t{a}-{b}", f"t{a}", Fraction(1 + b % 2)))
            for c in range(10):
                yield tenant(f"t{a}-{b}-{c}", f"t{a}-{b}")
    leaves = [f"t{a}-{b}-{c}" for a in range(10) for b in range(10) for c in range(10)]
    for number in range(1000 * per_leaf):
        yield pod(leaves[number % 1000], f"w{number}", specs[(number * 31 + number // 1000) % shapes], number)


def many_tenants() -> Figure:
    engine = build(tree())
    begin = time.process_time()
    count = len(engine.cycle(1e9, claims=False).starts)
    return Figure("ManyTenants", count / (time.process_time() - begin), "decisions/s", 5000, higher=True)


def entitlement() -> tuple[Figure, Figure]:
    """Everybody's exact entitlement; the best of five, each from cold: from its demand, and with finding that first."""
    engine = build(tree())
    engine.cycle(1e9, most_decisions=1)
    state, portions = engine.state, engine.demand.portions()
    filled = cheapest(lambda: fill(state.forest.root, portions, state.measure))
    found = cheapest(lambda: Demand(state, engine.placer).entitlement())
    return (
        Figure("Entitlement", 1000 * filled, "ms", 50, higher=False),
        Figure("EntitlementWithDemand", 1000 * found, "ms", 50, higher=False),
    )


def cheapest(find: Callable[[], Entitlement]) -> float:
    """CPU seconds of the best of five."""
    took = []
    for _ in range(5):
        begin = time.process_time()
        found = find()
        for name in found.cells:
            found.cells[name]
        took.append(time.process_time() - begin)
    return min(took)


def rebuild() -> tuple[Figure, Figure]:
    """In a process of its own, whose memory it measures."""
    program = Path(__file__).with_name("bench_rebuild.py")
    done = subprocess.run([sys.executable, str(program)], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    return (
        Figure("Rebuild", found["seconds"], "s", 15, higher=False),
        Figure("RebuildMemory", found["megabytes"], "MB", 500, higher=False),
    )


def full_nodes(size: int = 5000) -> Iterator[ev.Event]:
    """Nodes with too little left for the one pod that waits."""
    large, waits = SchedulingSpec((("cpu", 30_000),)), SchedulingSpec((("cpu", 4000), ("memory", GIB)))
    yield from nodes(size)
    yield tenant("team")
    for number in range(size):
        yield pod("team", f"r{number}", large, number, started=number, node=f"node-{number:05}")
    yield pod("team", "waits", waits, 1e6)


def explain() -> tuple[Figure, Figure]:
    """A pod that no node has room for; and pods of a full cluster, told whose turn it is among 1,000 tenants."""
    engine = build(full_nodes())
    engine.cycle(1e9)
    fragmented = explained(engine, [engine.state.pods["team", "waits"]] * 10, "Fragmented")
    engine = build(tree(shapes=1, per_leaf=70))
    engine.cycle(1e9, claims=False)
    waiting = [waits for waits in engine.state.pods.values() if waits.node is None]
    behind = explained(engine, waiting[:: len(waiting) // 20], "BehindFairShare")
    return (
        Figure("Explain", fragmented, "ms", 5, higher=False),
        Figure("ExplainFairShare", behind, "ms", 5, higher=False),
    )


def explained(engine: Engine, pods: list[Pod], code: str) -> float:
    """Milliseconds that a pod takes; entitlement is known before, as it is wherever the demand has not changed."""
    explainer = Explainer(engine)
    engine.demand.entitlement()
    begin = time.process_time()
    codes = {explainer.why(waits).code for waits in pods}
    took = time.process_time() - begin
    if codes != {code}:
        raise AssertionError(f"{sorted(codes)} instead of {code}")
    return 1000 * took / len(pods)


BENCHMARKS: dict[str, Callable[[], Figure | tuple[Figure, ...]]] = {
    "SchedulingBasic": basic,
    "SchedulingMixed": mixed,
    "NodeAffinity": node_affinity,
    "TopologySpreading": spread,
    "PodAffinity": affinity,
    "PodAntiAffinity": anti_affinity,
    "Gangs": gangs,
    "GangPreemption": gang_preemption,
    "Reclaim": reclaim,
    "ManyTenants": many_tenants,
    "Entitlement": entitlement,
    "Explain": explain,
    "Rebuild": rebuild,
}


def reference() -> float:
    """Nanoseconds that one turn of a plain Python loop takes here and now: what every figure should be read against."""
    begin, total = time.process_time(), 0
    for number in range(2_000_000):
        total += number
    return (time.process_time() - begin) / 2_000_000 * 1e9


def main() -> None:
    figures: list[Figure] = []
    for name in sys.argv[1:] or BENCHMARKS:
        gc.unfreeze()
        gc.collect()
        warm_up()
        loop, began, worked = reference(), time.perf_counter(), time.process_time()
        found = BENCHMARKS[name]()
        seconds, work = time.perf_counter() - began, time.process_time() - worked
        # Rebuild works in a process of its own: ours only waits.
        beside = f", clock {seconds / work:.1f} times the CPU" if work > seconds / 100 else ""
        for figure in found if isinstance(found, tuple) else (found,):
            figures.append(figure)
            print(f"{figure.line()} (loop {loop:.0f} ns{beside})", flush=True)  # noqa: T201 - a program, not a module
    keep(Path("build/bench.json"), figures)
    missed = [figure.name for figure in figures if not figure.ok]
    said = f": {', '.join(missed)}" if missed else ""
    print(f"{len(missed)} of {len(figures)} targets missed{said}")  # noqa: T201 - a program, not a module


if __name__ == "__main__":
    main()
