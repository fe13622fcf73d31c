"""Gangs of Kubernetes' own (KEP-4671, KEP-5832) in manifests."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from allotment_cli.main import app

GROUND = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Node, metadata: {name: n}, status: {allocatable: {cpu: "3", memory: 8Gi}}}
- {apiVersion: allotment.dev/v1alpha1, kind: Tenant, metadata: {name: team}, spec: {namespaces: [team-a]}}
"""
GROUP = """
---
apiVersion: scheduling.k8s.io/v1alpha2
kind: PodGroup
metadata: {name: train, namespace: team-a}
spec: {schedulingPolicy: {gang: {minCount: MIN}}}
"""
POD = """
---
apiVersion: v1
kind: Pod
metadata: {name: NAME, namespace: team-a}
spec:
  schedulerName: allotment
  priority: 0
  schedulingGroup: {podGroupName: train}
  containers: [{name: c, resources: {requests: {cpu: "1"}}}]
"""


@pytest.mark.parametrize(
    ("minimum", "starts", "said"),
    [
        (3, ["a", "b", "c"], ""),
        (4, [], "3 of 4 pods of group scheduling.k8s.io/train exist"),
        (0, [], "PodGroup scheduling.k8s.io/train does not exist"),
    ],
)
def test_a_pod_group_of_kubernetes_holds_its_pods_together(
    tmp_path: Path, minimum: int, starts: list[str], said: str
) -> None:
    path = tmp_path / "cluster.yaml"
    group = GROUP.replace("MIN", str(minimum)) if minimum else ""
    path.write_text(GROUND + group + "".join(POD.replace("NAME", name) for name in "abc"))

    done = json.loads(CliRunner().invoke(app, ["simulate", "-f", str(path), "-o", "json"]).stdout)

    assert [each["pod"] for each in done["bindings"]] == starts
    assert all(each["reason"] == "GangIncomplete" and said in each["message"] for each in done["pending"])
