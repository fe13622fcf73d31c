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
from allotment_operator.services.kafka.admin import Login
from allotment_operator.services.kafka.cluster import KafkaClusterKind
from allotment_operator.services.kafka.health import ClusterProbe
from builders.java_services import Container, await_, free_ports, jars, listens, running
from builders.services import HOME, World, custom

CLUSTER = "trades"
NAMESPACE = "payments"
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


@dataclass(frozen=True)
class NodePorts:
    """Ports of this machine that stand for one node's own."""

    controller: int
    replication: int
    scram: int
    tls: int


class Machine:
    """Nodes of one cluster as processes on this machine, each with ports of its own.

    Args:
        world: with the cluster's rendered objects.
        root: folder in which the nodes' mounts lie.
        nodes: pool and ordinal of every node that will ever be started.
    """

    def __init__(self, world: World, root: Path, nodes: list[tuple[str, int]]) -> None:
        self.world, self.root = world, root
        ports = free_ports(4 * len(nodes))
        self.ports = {node: NodePorts(*ports[4 * index : 4 * index + 4]) for index, node in enumerate(nodes)}
        self.libraries = jars(
            f"kafka-{DEFAULT_VERSION}",
            f"org.apache.kafka:kafka_2.13:{DEFAULT_VERSION}",
            f"org.apache.kafka:kafka-tools:{DEFAULT_VERSION}",
            "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
        )

    @contextlib.contextmanager
    def node(self, pool: str, ordinal: int) -> Iterator[Path]:
        """Start a node as its pod says, and wait until it listens; its log."""
        root = self.root / f"{pool}-{ordinal}"
        (root / "opt" / "kafka").mkdir(parents=True)
        (root / "opt" / "kafka" / "libs").symlink_to(self.libraries)
        container = Container(root, self._substitutes(root, pool, ordinal))
        pod = self.world.of_kind("StatefulSet")[f"{CLUSTER}-{pool}"]["spec"]["template"]["spec"]
        container.prepare(pod, {**self.world.of_kind("ConfigMap"), **self.world.of_kind("Secret")})
        log = root / "kafka.log"
        opened = {port["name"] for port in pod["containers"][0]["ports"]}
        waited = [port for name, port in vars_of(self.ports[pool, ordinal]).items() if name in opened]
        with running(container.start(pod["containers"][0], f"{CLUSTER}-{pool}-{ordinal}", log=log)) as process:
            await_(lambda: all(map(listens, waited)), process, log, timeout=300)
            yield log

    def _substitutes(self, root: Path, pool: str, ordinal: int) -> dict[str, str]:
        hosts = {node: f"{CLUSTER}-{node[0]}-{node[1]}.{CLUSTER}-nodes.{NAMESPACE}.svc" for node in self.ports}
        own = self.ports[pool, ordinal]
        return {
            **{f"{host}:9090": f"localhost:{self.ports[node].controller}" for node, host in hosts.items()},
            **dict.fromkeys(hosts.values(), "localhost"),
            **{f":{9090 + index}": f":{port}" for index, port in enumerate(vars_of(own).values())},
            **{folder: f"{root}{folder}" for folder in ("/etc/kafka", "/var/lib/kafka", "/run/kafka", "/opt/kafka")},
        }


def vars_of(ports: NodePorts) -> dict[str, int]:
    """Ports by the name that the pod gives them, from 9090 on."""
    return {"controller": ports.controller, "replication": ports.replication, "scram": ports.scram, "tls": ports.tls}


@contextlib.contextmanager
def running_broker(root: Path) -> Iterator[Broker]:
    """One combined node in the way that the operator renders it; it serves after about ten seconds."""
    world = true_world(**one_node())
    machine = Machine(world, root, [("main", 0)])
    ports = machine.ports["main", 0]
    with machine.node("main", 0) as log:
        yield Broker(world, ports.controller, ports.replication, ports.scram, ports.tls, log)


def true_world(**spec: Any) -> World:
    """A deployed cluster whose certificates something real will check."""
    now = dt.datetime.now(dt.UTC)
    world = World(cluster_kind(), custom("KafkaCluster", CLUSTER, **spec), hosts=("localhost",), now=now)
    world.deploy()
    return world


def operator_login_at(world: World, port: int) -> Login:
    """The operator's way in to a broker on this machine."""
    secret = secret_text(world, f"kafka.{NAMESPACE}.{CLUSTER}.operator", HOME)
    return Login(f"localhost:{port}", secret["ca.crt"], certificate=secret["tls.pem"])
