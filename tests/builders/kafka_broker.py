"""One Kafka broker as a plain process, started from the operator's own rendering."""

import base64
import contextlib
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allotment_api.kafka import DEFAULT_VERSION
from allotment_operator.plans.actions import ObjectRef
from allotment_operator.services.kafka.cluster import KafkaClusterKind
from allotment_operator.services.kafka.health import ClusterProbe
from builders.java_services import Container, await_, free_ports, jars, listens, running
from builders.services import HOME, World, custom

CLUSTER = "trades"
NAMESPACE = "payments"
HOST = f"{CLUSTER}-main-0.{CLUSTER}-nodes.{NAMESPACE}.svc"
BOOTSTRAP = f"{CLUSTER}-bootstrap.{NAMESPACE}.svc"


def cluster_kind(admin: Any = None) -> KafkaClusterKind:
    """The kind under test; simulated are the nodes whose name begins with kwok."""
    probe = ClusterProbe(admin=admin, simulated=lambda node: node.startswith("kwok"), operator_namespace=HOME)
    return KafkaClusterKind(operator_namespace=HOME, probe=probe)


@dataclass(frozen=True)
class Broker:
    """A running cluster of one broker: its world, and the ports of this machine that stand for Kafka's own."""

    world: World
    controller: int
    replication: int
    scram: int
    tls: int
    log: Path

    def secret(self, name: str, namespace: str = NAMESPACE) -> dict[str, str]:
        """A Secret's text by key."""
        return secret_text(self.world, name, namespace)


def secret_text(world: World, name: str, namespace: str = NAMESPACE) -> dict[str, str]:
    """A Secret's text by key."""
    found = world.objects[ObjectRef("v1", "Secret", namespace, name)]
    return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}


def one_node() -> dict[str, Any]:
    """The spec of a cluster that fits into a test."""
    small = {"requests": {"cpu": "500m", "memory": "768Mi"}}
    pool = {"name": "main", "replicas": 1, "resources": small, "jvm": {"options": ["-XX:TieredStopAtLevel=1"]}}
    quick = {"group.initial.rebalance.delay.ms": 0}
    return {"pools": [pool], "replication": {"factor": 1, "minInSync": 1}, "config": quick}


@contextlib.contextmanager
def running_broker(root: Path) -> Iterator[Broker]:
    """One combined node in the way that the operator renders it; it serves after about ten seconds."""
    libraries = jars(
        f"kafka-{DEFAULT_VERSION}",
        f"org.apache.kafka:kafka_2.13:{DEFAULT_VERSION}",
        f"org.apache.kafka:kafka-tools:{DEFAULT_VERSION}",
        "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
    )
    now = dt.datetime.now(dt.UTC)
    world = World(cluster_kind(), custom("KafkaCluster", CLUSTER, **one_node()), hosts=("localhost",), now=now)
    world.deploy()
    controller, replication, scram, tls = free_ports(4)
    (root / "opt" / "kafka").mkdir(parents=True)
    (root / "opt" / "kafka" / "libs").symlink_to(libraries)
    folders = ("/etc/kafka", "/var/lib/kafka", "/run/kafka", "/opt/kafka")
    ports = {":9090": f":{controller}", ":9091": f":{replication}", ":9092": f":{scram}", ":9093": f":{tls}"}
    container = Container(root, {HOST: "localhost", **ports, **{folder: f"{root}{folder}" for folder in folders}})
    pod = world.of_kind("StatefulSet")[f"{CLUSTER}-main"]["spec"]["template"]["spec"]
    container.prepare(pod, {**world.of_kind("ConfigMap"), **world.of_kind("Secret")})
    log = root / "kafka.log"
    with running(container.start(pod["containers"][0], f"{CLUSTER}-main-0", log=log)) as process:
        await_(lambda: all(map(listens, (replication, scram, tls))), process, log, timeout=60)
        yield Broker(world, controller, replication, scram, tls, log)
