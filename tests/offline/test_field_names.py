"""No field that Kubernetes knows is taken for the misspelt name of another one."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from allotment_kube import nodes, pods, storage, workloads
from allotment_scheduler.manifests.documents import Document
from allotment_scheduler.manifests.doubts import misspelt_fields
from allotment_scheduler.manifests.workloads import Workload

DEEPEST = 12
"""Levels of an object that hold any field that is read."""


def whole(schemas: Mapping[str, Any], schema: Mapping[str, Any], depth: int = 0) -> Any:
    """An object with every field that its schema has."""
    for part in (schema, *schema.get("allOf", ())):
        if "$ref" in part:
            return whole(schemas, schemas[part["$ref"].rpartition("/")[2]], depth)
    if depth < DEEPEST and "properties" in schema:
        return {name: whole(schemas, of, depth + 1) for name, of in schema["properties"].items()}
    if depth < DEEPEST and schema.get("type") == "array":
        return [whole(schemas, schema["items"], depth + 1)]
    return {} if schema.get("type") == "object" else "value"


@pytest.mark.parametrize(
    ("path", "kind", "read_as"),
    [
        ("api/v1", "core.v1.Pod", pods.Pod), ("api/v1", "core.v1.Node", nodes.Node),
        ("api/v1", "core.v1.PersistentVolumeClaim", storage.PersistentVolumeClaim),
        ("api/v1", "core.v1.ReplicationController", Workload), ("apis/apps/v1", "apps.v1.Deployment", Workload),
        ("apis/apps/v1", "apps.v1.ReplicaSet", Workload), ("apis/apps/v1", "apps.v1.StatefulSet", Workload),
        ("apis/batch/v1", "batch.v1.Job", Workload),
        ("apis/policy/v1", "policy.v1.PodDisruptionBudget", workloads.PodDisruptionBudget),
    ],
)  # fmt: skip
def test_every_field_of_kubernetes_is_told_from_those_that_are_read(
    cluster: Any, path: str, kind: str, read_as: type[msgspec.Struct]
) -> None:
    schemas = json.loads(cluster.kubectl("get", "--raw", f"/openapi/v3/{path}").stdout)["components"]["schemas"]
    content = whole(schemas, schemas[f"io.k8s.api.{kind}"])

    assert "spec" in content
    assert list(misspelt_fields(Document("server", content), read_as)) == []
