"""Volumes: a disk of a certain size on the node of its pod, that outlives the pod, grows, and goes with its claim."""

import json
from collections.abc import Iterator

import pytest

from allotment_api import quantities
from builders.real_cluster import RealCluster
from builders.real_pods import IDLE, service, stateful_set

pytestmark = pytest.mark.real_node

_RESOLVE = """
import socket, sys, time
end = time.monotonic() + 240
while True:
    try:
        print(socket.gethostbyname("db-1.db"))
        break
    except OSError as error:
        if time.monotonic() > end:
            sys.exit(str(error))
        time.sleep(0.2)
"""
"""Tries until there is a name: the DNS hears by a watch that the pod is ready."""


def _free_mebibytes(cluster: RealCluster, namespace: str, name: str) -> int:
    return int(cluster.execute(namespace, name, "df", "--output=avail", "--block-size=1M", "/data").split()[1])


def _mebibytes(cluster: RealCluster, namespace: str, claim: str) -> int:
    capacity = cluster.get("-n", namespace, "pvc", claim)["status"]["capacity"]["storage"]
    return quantities.units("storage", capacity) >> 20


@pytest.fixture(scope="module")
def database(real_cluster: RealCluster) -> Iterator[str]:
    """A namespace with a StatefulSet `db` of two pods on two nodes with 320 MiB each; the last test removes it."""
    namespace = "volumes"
    real_cluster.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        stateful_set(namespace, "db", *IDLE, replicas=2, storage="320Mi"),
        service(namespace, "db", clusterIP="None"),
    )
    for number in range(2):
        real_cluster.wait("-n", namespace, f"pod/db-{number}", "--for=create")
    real_cluster.wait("-n", namespace, "pod", "--all", "--for=condition=Ready")
    yield namespace
    real_cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def test_each_pod_has_a_disk_of_its_own_and_a_name(real_cluster: RealCluster, database: str) -> None:
    for number in range(2):
        real_cluster.execute(database, f"db-{number}", "sh", "-c", f"echo {number} > /data/number")
    assert real_cluster.execute(database, "db-0", "cat", "/data/number") == "0\n"
    address = real_cluster.get("-n", database, "pod", "db-1")["status"]["podIP"]
    assert real_cluster.execute(database, "db-0", "python3", "-c", _RESOLVE) == f"{address}\n"
    for number in range(2):
        assert _mebibytes(real_cluster, database, f"data-db-{number}") == 320


def test_content_outlives_the_pod(real_cluster: RealCluster, database: str) -> None:
    real_cluster.execute(database, "db-1", "sh", "-c", "echo kept > /data/file")
    node = real_cluster.get("-n", database, "pod", "db-1")["spec"]["nodeName"]

    real_cluster.kubectl("-n", database, "delete", "pod", "db-1")
    real_cluster.wait("-n", database, "pod/db-1", "--for=create")
    real_cluster.wait("-n", database, "pod/db-1", "--for=condition=Ready")

    assert real_cluster.execute(database, "db-1", "cat", "/data/file") == "kept\n"
    assert real_cluster.get("-n", database, "pod", "db-1")["spec"]["nodeName"] == node


def test_a_full_volume_refuses_and_a_grown_one_accepts(real_cluster: RealCluster, database: str) -> None:
    size = _mebibytes(real_cluster, database, "data-db-0")
    fill = f"f = open('/data/filling', 'wb'); [f.write(bytes(1 << 20)) for _ in range({size + 80})]"
    full = real_cluster.kubectl("-n", database, "exec", "db-0", "--", "python3", "-c", fill, check=False)
    assert "No space left on device" in full.stderr
    real_cluster.execute(database, "db-0", "rm", "/data/filling")
    before = _free_mebibytes(real_cluster, database, "db-0")

    patch = json.dumps({"spec": {"resources": {"requests": {"storage": f"{size + 704}Mi"}}}})
    real_cluster.kubectl("-n", database, "patch", "pvc", "data-db-0", "--patch", patch)
    real_cluster.comes_to(size + 704, lambda: _mebibytes(real_cluster, database, "data-db-0"))

    assert _free_mebibytes(real_cluster, database, "db-0") >= before + 680
    real_cluster.execute(database, "db-0", "python3", "-c", fill)


def test_a_deleted_claim_takes_its_disk_with_it(real_cluster: RealCluster, database: str) -> None:
    volume = real_cluster.get("-n", database, "pvc", "data-db-0")["spec"]["volumeName"]
    files = [node.folder.volumes / f"{volume}.xfs" for node in real_cluster.fleet.nodes]
    assert sum(file.exists() for file in files) == 1

    real_cluster.kubectl("-n", database, "delete", "statefulset", "db")
    real_cluster.wait(f"pv/{volume}", "--for=delete")

    assert not any(file.exists() for file in files)
