"""A node is lost, and comes back with its disks."""

import pytest

from builders.real_cluster import RealCluster
from builders.real_pods import IDLE, service, stateful_set

pytestmark = pytest.mark.real_node


def test_a_killed_node_is_noticed_and_comes_back_with_its_volumes(real_cluster: RealCluster, namespace: str) -> None:
    """The node is `real-3`: the other tests' pods that must not move are on the first two."""
    manifest = stateful_set(namespace, "db", *IDLE, replicas=1, storage="300Mi")
    manifest["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/hostname": "real-3"}
    real_cluster.apply(manifest, service(namespace, "db", clusterIP="None"))
    real_cluster.wait("-n", namespace, "pod/db-0", "--for=create")
    real_cluster.wait("-n", namespace, "pod/db-0", "--for=condition=Ready")
    real_cluster.execute(namespace, "db-0", "sh", "-c", "echo kept > /data/file; sync /data/file")

    real_cluster.fleet.node("real-3").kill()
    real_cluster.wait("node/real-3", "--for=condition=Ready=Unknown", timeout=90)
    real_cluster.fleet.start("real-3")
    real_cluster.wait("node/real-3", "--for=condition=Ready", timeout=60)

    # The pod may be the old one, started again, or a new one: the node was away for less than its toleration.
    real_cluster.wait("-n", namespace, "pod/db-0", "--for=condition=Ready", timeout=60)
    assert real_cluster.execute(namespace, "db-0", "cat", "/data/file") == "kept\n"
