"""Volumes that wait for their first consumer, with the real controller manager binding what the scheduler chose."""

from typing import Any

import pytest

from builders.ground import GROUND, Ground
from builders.program_process import SchedulerProcess, eventually

pytestmark = pytest.mark.cluster


def disk(ground: Ground, number: int, node: str) -> str:
    """A volume that only one node reaches."""
    name = f"{ground.name}-disk-{number}"
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": ground.name,
        "local": {"path": "/disks/0"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
    }
    metadata = {"name": name, "labels": {GROUND: ground.name}}
    volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec}
    ground.create("/api/v1/persistentvolumes", volume)
    return name


def claim(ground: Ground, namespace: str, name: str) -> None:
    spec = {
        "storageClassName": ground.name,
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    manifest = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}
    ground.create(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims", manifest, remember=False)


def test_a_claim_takes_the_volume_of_its_pods_node_and_only_then_the_pod_starts(
    scheduler: SchedulerProcess, ground: Ground
) -> None:
    nodes = ground.nodes(3)
    kind: dict[str, Any] = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": ground.name},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    ground.create("/apis/storage.k8s.io/v1/storageclasses", kind)
    reach = {disk(ground, number, node): node for number, node in enumerate(nodes[:2])}
    tenant = ground.tenant("a")
    for number in range(3):
        claim(ground, tenant, f"data-{number}")
        volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": f"data-{number}"}}]
        ground.pod(tenant, f"p{number}", volumes=volumes)

    eventually(lambda: len(ground.nodes_of(tenant)) == 2, because=scheduler.tail)

    listed = ground.admin.request("GET", f"/api/v1/namespaces/{tenant}/persistentvolumeclaims").body["items"]
    bound = {each["metadata"]["name"]: each["spec"].get("volumeName", "") for each in listed}
    for pod, node in ground.nodes_of(tenant).items():
        assert reach[bound[f"data-{pod[1:]}"]] == node
    (left,) = {f"p{number}" for number in range(3)} - set(ground.nodes_of(tenant))
    message = eventually(lambda: ground.condition(tenant, left).get("message"), because=scheduler.tail)
    assert f"claim data-{left[1:]}" in message
    assert bound[f"data-{left[1:]}"] == ""
