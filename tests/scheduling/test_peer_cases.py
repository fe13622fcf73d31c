"""Cases of other schedulers and of the papers that hold for our semantics too; every case names its source.

Amounts are scaled to integers. Where a source leaves ties open, the case says only what does not depend on them
(`portable`).
"""

import json
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.nodes import NodeSpec
from allotment_scheduler.core.objects.pods import PodSpec, SchedulingSpec
from allotment_scheduler.core.objects.tenants import Bounds, TenantSpec
from allotment_scheduler.core.objects.units import GroupSpec
from allotment_scheduler.core.report import tenants_report
from allotment_scheduler.core.simulate import run_to_fixpoint
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.core.state.invariants import check

CASES = json.loads((Path(__file__).parent / "data" / "peer_cases.json").read_text())["cases"]
SCALE = 1000
Case = dict[str, Any]


def units(amounts: dict[str, float]) -> dict[str, int]:
    return {"nvidia.com/gpu" if name == "gpu" else name: round(value * SCALE) for name, value in amounts.items()}


def node(name: str, capacity: dict[str, float], labels: dict[str, str] | None = None) -> ev.Event:
    return ev.NodeSeen(NodeSpec(name, {"pods": 1_000_000, **units(capacity)}, labels or {}))


def tenant(name: str, parent: str | None, weight: float, leaf: bool, **more: Any) -> ev.Event:
    namespaces = (f"ns-{name}",) if leaf else ()
    return ev.TenantSeen(TenantSpec(name, parent or "", Fraction(str(weight)), namespaces=namespaces, **more))


def requests(amounts: dict[str, float]) -> SchedulingSpec:
    asked = {name: amount for name, amount in amounts.items() if name != "pods"}
    return SchedulingSpec(tuple(sorted(units(asked).items())))


def schedule_events(case: Case) -> tuple[list[ev.Event], dict[str, tuple[str, str]]]:
    """The case as events, and the workload and queue of every pod."""
    out: list[ev.Event] = [node(n["name"], n["capacity"], n.get("labels")) for n in case["nodes"]]
    parents = {queue["parent"] for queue in case["queues"]}
    for queue in case["queues"]:
        bounds = {
            "guaranteed": Bounds(units(queue.get("guaranteed", {}))),
            "limits": Bounds(units(queue.get("limit", {}))),
        }
        suspended = not queue.get("active", True)
        name, parent, weight = queue["name"], queue["parent"], queue["weight"]
        out.append(tenant(name, parent, weight, name not in parents, suspended=suspended, **bounds))
    owner: dict[str, tuple[str, str]] = {}
    for work in sorted(case["workloads"], key=lambda work: work.get("arrival", 0)):
        namespace = f"ns-{work['queue']}"
        group = work["name"] if work["min_count"] > 1 else None
        if group:
            out.append(ev.GroupSeen(GroupSpec(namespace, group, work["min_count"])))
        for number, pod in enumerate(work["pods"]):
            for copy in range(pod.get("count", 1)):
                base = pod.get("name") or f"{work['name']}/{number}"
                name = base if pod.get("count", 1) == 1 else f"{base}#{copy}"
                owner[name] = (work["name"], work["queue"])
                on, order = pod.get("node"), len(owner)
                selector = tuple((pod.get("node_selector") or {}).items())
                asked = requests(pod["request"])
                out.append(
                    ev.PodSeen(
                        PodSpec(
                            namespace,
                            name,
                            SchedulingSpec(asked.requests, node_selector=selector),
                            priority=pod.get("priority", work["priority"]),
                            preemptible=pod.get("preemptible", work["preemptible"]),
                            created=order if on else 1e6 + order,
                            started=order if on else None,
                            node=on,
                            group=group,
                            recreated=False,
                        )
                    )
                )
    return out, owner


def engine_over(events: list[ev.Event]) -> Engine:
    state = ClusterState()
    state.apply_all(events)
    return Engine(state)


def expected(case: Case) -> dict[str, Any]:
    want = case["expected"]
    return {"horizon": want.get("horizon", "fixpoint"), **want["portable"]} if "portable" in want else want


@pytest.mark.parametrize("case", [c for c in CASES if c["kind"] == "schedule"], ids=lambda case: case["id"])
def test_a_peers_schedule(case: Case) -> None:
    events, owner = schedule_events(case)
    before = {e.spec.name: e.spec.node for e in events if isinstance(e, ev.PodSeen) and e.spec.node}
    engine = engine_over(events)

    run_to_fixpoint(engine, 2e6)

    check(engine.state)
    want = expected(case)
    final = want.get("horizon", "fixpoint").startswith("fixpoint")
    runs = {pod.spec.name: pod.node for pod in engine.state.pods.values() if pod.node}
    counts = Counter(owner[name][0] for name in runs)
    for work, number in want.get("pods_running", {}).items():
        assert counts[work] == number if final else counts[work] >= number, work
    for group in want.get("group_running", []):
        assert sum(counts[work] for work in group["workloads"]) == group["pods"]
    for queue, use in want.get("queue_usage", {}).items():
        leaf = engine.state.forest.by_name[queue]
        got = dict(zip(engine.state.resources.names, leaf.used, strict=False))
        assert {name: got[name] for name in units(use)} == units(use), queue
    evicted = {name for name in before if name not in runs}
    if want.get("evicted") is not None:
        assert evicted == set(want["evicted"])
    if want.get("evicted_count") is not None:
        assert len(evicted) == want["evicted_count"]
    if want.get("started") is not None:
        assert {name for name in runs if name not in before} == set(want["started"])
    for work in want.get("claimants_that_will_run", {}):
        assert counts[work] > 0
    for name, place in want.get("placement", {}).items():
        assert runs.get(name) == place
    for queue, share in want.get("shares", {}).items():
        leaf = engine.state.forest.by_name[queue]
        got_share = float(engine.state.measure.dominant_share(leaf)[0])
        assert got_share == pytest.approx(share, abs=want.get("share_tolerance", 1e-6))


@pytest.mark.parametrize("case", [c for c in CASES if c["kind"] == "order"], ids=lambda case: case["id"])
def test_a_peers_order(case: Case) -> None:
    paths = {client["path"]: client for client in case["clients"]}
    every = {"/".join(path.split("/")[: depth + 1]) for path in paths for depth in range(path.count("/") + 1)}
    inner = {path.rpartition("/")[0] for path in every} - {""}
    events, leaves = [node("all", case["totals"])], {}
    for path in sorted(every):
        active = paths.get(path, {}).get("active", True)
        leaf = path not in inner
        name, parent = path.replace("/", "-"), path.rpartition("/")[0].replace("/", "-")
        events.append(tenant(name, parent, case["weights"].get(path, 1), leaf, suspended=leaf and not active))
        if path in paths and not leaf:
            events.append(tenant(f"{name}.own", name, 1, leaf=True, suspended=not active))
            name = f"{name}.own"
        leaves[path] = name
    for path, client in paths.items():
        holds = any(client["allocation"].values())
        for number in range(max(client.get("allocation_count", 1), int(holds))):
            spec = requests(client["allocation"] if number == 0 else {})
            events.append(ev.PodSeen(PodSpec(f"ns-{leaves[path]}", f"{leaves[path]}-{number}", spec, node="all")))
    back = {name: path for path, name in leaves.items()}

    listed = [back.get(row["name"]) for row in tenants_report(engine_over(events))]

    got = [path for path in listed if path in paths and paths[path].get("active", True)]
    want = case["expected"]
    if "first" in want:
        assert got[0] == want["first"]
        return
    tied = {path: number for number, group in enumerate(want.get("tied_groups", [])) for path in group}
    assert [tied.get(path, path) for path in got] == [tied.get(path, path) for path in want["order"]]
