"""Volumes: a disk of a certain size on the node of its pod, that outlives the pod, grows, and goes with its claim."""

import pytest

from builders.real_cluster import RealCluster
from builders.real_pods import IDLE, service, stateful_set

pytestmark = pytest.mark.real_node


def _free_mebibytes(cluster: RealCluster, namespace: str, name: str) -> int:
    return int(cluster.execute(namespace, name, "df", "--output=avail", "--block-size=1M", "/data").split()[1])


@pytest.fixture
def database(real_cluster: RealCluster, namespace: str) -> str:
    """A StatefulSet `db` of two pods on two nodes with 320 MiB each."""
    real_cluster.apply(
        stateful_set(namespace, "db", *IDLE, replicas=2, storage="320Mi"),
        service(namespace, "db", clusterIP="None"),
    )
    for number in range(2):
        real_cluster.wait("-n", namespace, f"pod/db-{number}", "--for=create")
    real_cluster.wait("-n", namespace, "pod", "--all", "--for=condition=Ready")
    return namespace


def test_each_pod_has_a_disk_of_its_own_and_a_name(real_cluster: RealCluster, database: str) -> None:
    for number in range(2):
        real_cluster.execute(database, f"db-{number}", "sh", "-c", f"echo {number} > /data/number")
    resolve = "import socket; print(socket.gethostbyname('db-1.db'))"

    assert real_cluster.execute(database, "db-0", "cat", "/data/number") == "0\n"
    address = real_cluster.get("-n", database, "pod", "db-1")["status"]["podIP"]
    assert real_cluster.execute(database, "db-0", "python3", "-c", resolve) == f"{address}\n"
    volumes = [item for item in real_cluster.get("pv")["items"] if item["spec"]["claimRef"]["namespace"] == database]
    assert {item["spec"]["capacity"]["storage"] for item in volumes} == {"320Mi"}


def test_content_outlives_the_pod(real_cluster: RealCluster, database: str) -> None:
    real_cluster.execute(database, "db-1", "sh", "-c", "echo kept > /data/file")
    node = real_cluster.get("-n", database, "pod", "db-1")["spec"]["nodeName"]

    real_cluster.kubectl("-n", database, "delete", "pod", "db-1")
    real_cluster.wait("-n", database, "pod/db-1", "--for=create")
    real_cluster.wait("-n", database, "pod/db-1", "--for=condition=Ready")

    assert real_cluster.execute(database, "db-1", "cat", "/data/file") == "kept\n"
    assert real_cluster.get("-n", database, "pod", "db-1")["spec"]["nodeName"] == node


def test_a_full_volume_refuses_and_a_grown_one_accepts(real_cluster: RealCluster, database: str) -> None:
    write = "import os; b=bytes(1<<20); f=open('/data/'+str(os.getpid()),'wb')\nfor _ in range(400): f.write(b)"
    full = real_cluster.kubectl("-n", database, "exec", "db-0", "--", "python3", "-c", write, check=False)
    assert "No space left on device" in full.stderr
    real_cluster.execute(database, "db-0", "sh", "-c", "rm /data/*")
    before = _free_mebibytes(real_cluster, database, "db-0")

    patch = '{"spec":{"resources":{"requests":{"storage":"1Gi"}}}}'
    real_cluster.kubectl("-n", database, "patch", "pvc", "data-db-0", "--patch", patch)
    real_cluster.wait("-n", database, "pvc/data-db-0", "--for=jsonpath={.status.capacity.storage}=1Gi")

    assert _free_mebibytes(real_cluster, database, "db-0") >= before + 680
    real_cluster.execute(database, "db-0", "python3", "-c", write)


def test_a_deleted_claim_takes_its_disk_with_it(real_cluster: RealCluster, database: str) -> None:
    volume = real_cluster.get("-n", database, "pvc", "data-db-0")["spec"]["volumeName"]
    files = [node.folder.volumes / f"{volume}.xfs" for node in real_cluster.fleet.nodes]
    assert sum(file.exists() for file in files) == 1

    real_cluster.kubectl("-n", database, "delete", "statefulset", "db")
    real_cluster.wait(f"pv/{volume}", "--for=delete")

    assert not any(file.exists() for file in files)
