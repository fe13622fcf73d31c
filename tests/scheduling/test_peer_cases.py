"""Cases of other schedulers and of the papers that hold for our semantics too; every case names its source.

Amounts are scaled to integers. Where a source leaves ties open, the case says only what does not depend on them
(`portable`).
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from allotment_cli.main import app
from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.report import tenants_report
from allotment_scheduler.core.simulate import run_to_fixpoint
from allotment_scheduler.core.state.invariants import check
from builders.peer_cases import (
    CASES,
    Case,
    engine_over,
    manifests,
    order_events,
    schedule_events,
    tenant_labels,
    units,
)


def expected(case: Case) -> dict[str, Any]:
    want = case["expected"]
    return {"horizon": want.get("horizon", "fixpoint"), **want["portable"]} if "portable" in want else want


def check_use(engine: Engine, want: dict[str, Any]) -> None:
    """What queues use in the end, and their shares."""
    for queue, use in want.get("queue_usage", {}).items():
        leaf = engine.state.forest.by_name[queue]
        got = dict(zip(engine.state.resources.names, leaf.used, strict=False))
        assert {name: got[name] for name in units(use)} == units(use), queue
    for queue, share in want.get("shares", {}).items():
        leaf = engine.state.forest.by_name[queue]
        got_share = float(engine.state.measure.dominant_share(leaf)[0])
        assert got_share == pytest.approx(share, abs=want.get("share_tolerance", 1e-6))


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
    check_use(engine, want)
    evicted = {name for name in before if name not in runs}
    if want.get("evicted") is not None:
        assert evicted == set(want["evicted"])
    if want.get("evicted_count") is not None:
        assert len(evicted) == want["evicted_count"]
    if want.get("started") is not None:
        assert {name for name in runs if name not in before} == set(want["started"])
    for work in want.get("claimants_that_will_run", {}):
        assert counts[work] > 0
    if final:
        assert set(want.get("pending") or ()) <= owner.keys() - runs.keys()
        assert not any(engine.cycle(2e6) for _ in range(5)), "it stays so"
    for name, place in want.get("placement", {}).items():
        assert runs.get(name) == place


@pytest.mark.parametrize("case", [c for c in CASES if c["kind"] == "schedule"], ids=lambda case: case["id"])
def test_the_command_does_with_manifests_what_the_engine_does_with_events(case: Case, tmp_path: Path) -> None:
    events, _ = schedule_events(case)
    engine = engine_over(events)
    run_to_fixpoint(engine, 2e6)
    objects, labels = manifests(events)
    path = tmp_path / "case.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    shown = CliRunner().invoke(app, ["simulate", "-f", str(path), "-o", "json"])

    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.stdout)
    assert {labels.back[each["pod"]] for each in told["pending"]} == {pod.spec.name for pod in engine.state.waiting()}
    placed = {labels.back[each["pod"]]: each["node"] for each in told["bindings"]}
    nodes = [
        spec.name for spec in sorted((e.spec for e in events if isinstance(e, ev.NodeSeen)), key=lambda it: it.name)
    ]
    started = {pod.spec.name: pod.node for pod in engine.state.pods.values() if pod.node and pod.spec.name in placed}
    assert {name: nodes[int(placed[name][1:])] for name in started} == started


ORDERS = pytest.mark.parametrize("case", [c for c in CASES if c["kind"] == "order"], ids=lambda case: case["id"])


def check_order(case: Case, listed: list[str]) -> None:
    """Whether the clients of a case, by path, stand as it says; it may leave some of them tied."""
    got = [path for path in listed if any(it["path"] == path and it.get("active", True) for it in case["clients"])]
    want = case["expected"]
    if "first" in want:
        assert got[0] == want["first"]
        return
    tied = {path: number for number, group in enumerate(want.get("tied_groups", [])) for path in group}
    assert [tied.get(path, path) for path in got] == [tied.get(path, path) for path in want["order"]]


@ORDERS
def test_a_peers_order(case: Case) -> None:
    events, paths = order_events(case)

    check_order(case, [paths.get(row["name"], "") for row in tenants_report(engine_over(events))])


@ORDERS
def test_the_command_lists_tenants_in_a_peers_order(case: Case, tmp_path: Path) -> None:
    events, paths = order_events(case)
    file = tmp_path / "case.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests(events)[0]}))

    shown = CliRunner().invoke(app, ["tenants", "-f", str(file), "-o", "json"])

    assert shown.exit_code == 0, shown.output
    names = tenant_labels(events).back
    check_order(case, [paths.get(names[row["name"]], "") for row in json.loads(shown.stdout)])
