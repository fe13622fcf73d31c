"""One Cassandra node as a plain process, started from the operator's own rendering."""

import contextlib
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allotment_api.cassandra import DEFAULT_VERSION
from allotment_operator.services.cassandra.cluster import CassandraClusterKind
from allotment_operator.services.cassandra.health import ClusterProbe
from builders.java_services import Container, await_, free_ports, jars, listens, running
from builders.services import HOME, World, custom

CLUSTER = "ledger"
NAMESPACE = "payments"
HOST = f"{CLUSTER}-r1-0.{CLUSTER}-ring.{NAMESPACE}.svc"
CLIENT_HOST = f"{CLUSTER}-client.{NAMESPACE}.svc"

_QUICK = (
    "-XX:TieredStopAtLevel=1",
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    "-Dcassandra.ring_delay_ms=500",
    "-Dcassandra.superuser_setup_delay_ms=0",
)


def cluster_kind(admin: Any = None) -> CassandraClusterKind:
    """The kind under test; simulated are the nodes whose name begins with kwok."""
    probe = ClusterProbe(admin=admin, simulated=lambda node: node.startswith("kwok"), operator_namespace=HOME)
    return CassandraClusterKind(operator_namespace=HOME, probe=probe)


@dataclass(frozen=True)
class Node:
    """A running ring of one node: its world, and the ports of this machine that stand for Cassandra's own."""

    world: World
    cql: int
    container: Container
    pod: dict[str, Any]
    log: Path


def one_node() -> dict[str, Any]:
    """The spec of a ring that fits into a test."""
    return {
        "size": 1,
        "racks": [{"name": "r1"}],
        "resources": {"requests": {"cpu": "500m", "memory": "1200Mi"}},
        "jvm": {"heapSize": "512Mi", "options": list(_QUICK)},
        "config": {"concurrent_writes": 8, "materialized_views_enabled": "true"},
    }


@contextlib.contextmanager
def running_node(root: Path) -> Iterator[Node]:
    """One node in the way that the operator renders it; it serves after about half a minute."""
    libraries = jars(f"cassandra-{DEFAULT_VERSION}", f"org.apache.cassandra:cassandra-all:{DEFAULT_VERSION}")
    now = dt.datetime.now(dt.UTC)
    world = World(cluster_kind(), custom("CassandraCluster", CLUSTER, **one_node()), hosts=("localhost",), now=now)
    for _ in range(3):
        world.round()
        world.run_pods()
    storage, cql, jmx = free_ports(3)
    (root / "opt" / "cassandra").mkdir(parents=True)
    (root / "opt" / "cassandra" / "lib").symlink_to(libraries)
    folders = ("/etc/cassandra", "/var/lib/cassandra", "/run/cassandra", "/opt/cassandra")
    ports = {"storage_port: 7000": f"storage_port: {storage}", "9042": str(cql), "7199": str(jmx)}
    paths = {folder: f"{root}{folder}" for folder in folders}
    container = Container(root, {HOST: "127.0.0.1", **ports, **paths}, {"POD_IP": "127.0.0.1"})
    pod = world.of_kind("StatefulSet")[f"{CLUSTER}-r1"]["spec"]["template"]["spec"]
    container.prepare(pod, {**world.of_kind("ConfigMap"), **world.of_kind("Secret")})
    log = root / "cassandra.log"
    with running(container.start(pod["containers"][0], f"{CLUSTER}-r1-0", log=log)) as process:
        await_(lambda: listens(cql), process, log, timeout=300)
        yield Node(world, cql, container, pod, log)
