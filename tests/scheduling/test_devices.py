"""Devices by ResourceClaims count like any resource: in placement, in shares, in limits, in evictions."""

from dataclasses import replace
from pathlib import Path

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.explanation.explain import Explainer
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.attachments import Slice, device_resource
from allotment_scheduler.core.objects.devices import NodeDevices
from allotment_scheduler.core.report import outcome_report, tenants_report
from allotment_scheduler.core.simulate import run_to_fixpoint
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.core.state.invariants import check
from allotment_scheduler.manifests import Manifests

DRIVER = "gpu.example.com"
GROUND = """
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: gpu}
spec: {selectors: [{cel: {expression: 'device.driver == "gpu.example.com"'}}]}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: one, namespace: a}
spec: {spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: gpu}}]}}}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: one, namespace: b}
spec: {spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: gpu}}]}}}
"""


def node(name: str, devices: int) -> str:
    listed = ", ".join(f"{{name: d{number}}}" for number in range(devices))
    return f"""
---
apiVersion: v1
kind: Node
metadata: {{name: {name}}}
status: {{allocatable: {{cpu: "8", memory: 8Gi}}}}
---
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {{name: {name}}}
spec: {{driver: gpu.example.com, nodeName: {name}, pool: {{name: {name}, generation: 1}}, devices: [{listed}]}}
"""


def tenant(name: str, limit: str = "") -> str:
    limits = f", limits: {{gpu.deviceclass.resource.k8s.io/devices: {limit}}}" if limit else ""
    return f"""
---
apiVersion: allotment.dev/v1alpha1
kind: Tenant
metadata: {{name: {name}}}
spec: {{namespaces: [{name}]{limits}}}
"""


def pod(namespace: str, name: str, on: str = "", created: str = "00:00:00") -> str:
    bound = f", nodeName: {on}" if on else ""
    return f"""
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2026-01-01T{created}Z"}}
spec:
  {{schedulerName: allotment, priority: 0{bound}, containers: [{{name: c, resources: {{requests: {{cpu: "1"}}}}}}],
  resourceClaims: [{{name: gpu, resourceClaimTemplateName: one}}]}}
"""


def engine_of(path: Path, text: str) -> Engine:
    file = path / "cluster.yaml"
    file.write_text(text)
    state = ClusterState()
    state.apply_all(Manifests.read([file]).events())
    return Engine(state)


def test_pods_go_where_devices_are_free_and_wait_where_none_is(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, GROUND + node("n1", 1) + node("n2", 0) + tenant("a") + pod("a", "p") + pod("a", "q"))

    report = outcome_report(engine, run_to_fixpoint(engine, 0.0))

    assert [(each["pod"], each["node"]) for each in report["bindings"]] == [("p", "n1")]
    [waits] = report["pending"]
    assert waits["reason"] == "BehindFairShare"
    assert "1 gpu.deviceclass.resource.k8s.io/devices asked for, 0 free" in waits["message"]
    check(engine.state)


def test_devices_count_in_dominant_shares_and_entitlement(tmp_path: Path) -> None:
    text = GROUND + node("n1", 4) + tenant("a") + tenant("b")
    text += "".join(pod("a", f"a{number}", "n1") for number in range(4)) + pod("b", "b0", created="01:00:00")
    engine = engine_of(tmp_path, text)
    engine.state.settle()
    before = {each["name"]: each for each in tenants_report(engine)}

    outcome = run_to_fixpoint(engine, 0.0)

    assert before["a"]["dominantShare"] == 1.0
    assert before["a"]["dominantResource"] == device_resource("gpu")
    assert [evict.rule for done in outcome.rounds for evict in done.evictions] == ["R2"]


def test_a_limit_on_devices_binds(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, GROUND + node("n1", 4) + tenant("a", "1") + pod("a", "p") + pod("a", "q"))

    report = outcome_report(engine, run_to_fixpoint(engine, 0.0))

    assert [each["reason"] for each in report["pending"]] == ["AboveLimit"]


def test_a_claim_that_cannot_be_met_as_written_is_said_and_stops_nobody(tmp_path: Path) -> None:
    text = GROUND.replace("exactly: {deviceClassName: gpu}", "exactly: {deviceClassName: gpu, capacity: {}}", 1)
    engine = engine_of(tmp_path, text + node("n1", 2) + tenant("a") + tenant("b") + pod("a", "p") + pod("b", "q"))

    run_to_fixpoint(engine, 0.0)

    assert engine.state.pods["b", "q"].node == "n1"
    why = Explainer(engine).why(engine.state.pods["a", "p"])
    assert why.code == "InvalidRequest"
    assert "capacity is not supported" in why.message


@pytest.mark.parametrize("after", [0, 3])
def test_offers_follow_the_slices(tmp_path: Path, after: int) -> None:
    engine = engine_of(tmp_path, GROUND + node("n1", 1) + tenant("a") + "".join(pod("a", f"p{it}") for it in range(3)))
    engine.cycle(1)
    [known] = engine.state.attachments.slices.values()
    devices = tuple(replace(known.inventory.devices[0], id=(DRIVER, "n1", f"d{it}")) for it in range(after))
    offered = Slice("n1", "n1", (("gpu", after),), NodeDevices(devices))

    engine.state.apply(ev.StorageSeen(offered) if after else ev.StorageGone(known))
    engine.cycle(2)

    running = sum(each.node is not None for each in engine.state.pods.values())
    assert running == max(after, 1), "what runs keeps running"
    assert int(engine.state.nodes.free[engine.state.resources.column(device_resource("gpu")), 0]) == after - running
    check(engine.state)
