"""A node is lost, and comes back with its disks."""

import pytest

from builders.real_cluster import RealCluster
from builders.real_pods import IDLE, service, stateful_set

pytestmark = pytest.mark.real_node


def dead(cluster: RealCluster) -> list[str]:
    """What `allot local status` says has died."""
    return [part.name for part in cluster.fleet.cluster.status().components if not part.running]


def test_the_status_counts_real_nodes_beside_simulated_ones(real_cluster: RealCluster) -> None:
    def counts() -> tuple[str, int, int, int]:
        status = real_cluster.fleet.cluster.status()
        return status.phase, status.nodes_ready, status.nodes, status.real_nodes

    real_cluster.comes_to(("Running", 5, 5, 3), counts)
    assert {"real-1", "real-2", "real-3", "volumes"} <= {
        part.name for part in real_cluster.fleet.cluster.status().components
    }


def test_a_killed_node_is_noticed_and_comes_back_with_its_volumes(real_cluster: RealCluster, namespace: str) -> None:
    """The node is `real-3`: the other tests' pods that must not move are on the first two."""
    manifest = stateful_set(namespace, "db", *IDLE, replicas=1, storage="300Mi")
    manifest["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/hostname": "real-3"}
    real_cluster.apply(manifest, service(namespace, "db", clusterIP="None"))
    real_cluster.wait("-n", namespace, "pod/db-0", "--for=create")
    real_cluster.wait("-n", namespace, "pod/db-0", "--for=condition=Ready")
    real_cluster.execute(namespace, "db-0", "sh", "-c", "echo kept > /data/file; sync /data/file")

    real_cluster.fleet.node("real-3").kill()
    real_cluster.comes_to(["real-3"], lambda: dead(real_cluster))
    real_cluster.wait("node/real-3", "--for=condition=Ready=Unknown")
    real_cluster.fleet.start("real-3")
    real_cluster.comes_to([], lambda: dead(real_cluster))
    real_cluster.wait("node/real-3", "--for=condition=Ready")

    # The pod is the old one, started again, or a new one where the node was away for longer than its toleration; and
    # until the kubelet has said otherwise, it may still be called ready from before.
    command = ("-n", namespace, "exec", "db-0", "--", "cat", "/data/file")

    def read() -> str:
        done = real_cluster.kubectl(*command, check=False)
        return done.stdout if done.returncode == 0 else done.stderr

    real_cluster.comes_to("kept\n", read)
