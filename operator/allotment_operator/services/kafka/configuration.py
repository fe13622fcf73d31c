"""The configuration files of a Kafka node: broker settings, start script, logging, options of the virtual machine.

How it thinks: one file of settings serves all nodes of a pool; the start script fills in what differs from node to node
(id, host name, rack). No file holds a secret: passwords are in Kafka's own metadata, keys in mounted Secrets.

Invariants: what the owner writes in `config` stands last but can neither change what the operator derives (the API
refuses those keys) nor break out of its line.
"""

import importlib.resources
from collections.abc import Mapping
from typing import Final

from allotment_api.kafka import KafkaClusterSpec
from allotment_operator.plans.jvm import heap_mebibytes
from allotment_operator.services.kafka.external import Address
from allotment_operator.services.kafka.listeners import Ports, super_users
from allotment_operator.services.kafka.names import CONTROLLER_PORT, Names
from allotment_operator.services.kafka.topology import Pool, Topology

KAFKA_HOME: Final = "/opt/kafka"
CONFIG_DIR: Final = "/etc/kafka/allotment"
TLS_DIR: Final = "/etc/kafka/tls"
ADMIN_DIR: Final = "/etc/kafka/admin"
RUN_DIR: Final = "/run/kafka"
VOLUME_DIR: Final = "/var/lib/kafka"
DATA_DIR: Final = f"{VOLUME_DIR}/data"
"""A folder in the volume: the volume's own top may hold lost+found, which Kafka would take for a partition."""

_SMALL_HEAP: Final = 1024
_START_SCRIPT: Final = importlib.resources.files(__package__).joinpath("start.sh").read_text()

_LOGGING: Final = """\
status=warn
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=[%d{ISO8601}] %p %m (%c)%n
rootLogger.level=info
rootLogger.appenderRef.console.ref=console
"""

_JVM: Final = (
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
)


def files(
    spec: KafkaClusterSpec, pool: Pool, topology: Topology, names: Names, addresses: Mapping[int, tuple[Address, ...]]
) -> dict[str, str]:
    """Return the files of a pool's nodes, by name.

    Args:
        spec: of the cluster.
        pool: whose nodes they are for.
        topology: of the cluster.
        names: of the cluster's objects.
        addresses: by ordinal, where a node's external listeners are reached.

    Raises:
        UnworkableError: the heap does not fit.
    """
    return {
        "server.properties": properties(settings(spec, pool, topology, names)),
        "start.sh": _START_SCRIPT,
        "log4j2.properties": _LOGGING,
        "jvm.options": "".join(f"{option}\n" for option in jvm_options(pool)),
        **{f"external-{ordinal}": "".join(map(str, told)) for ordinal, told in sorted(addresses.items()) if told},
    }


def settings(spec: KafkaClusterSpec, pool: Pool, topology: Topology, names: Names) -> dict[str, str]:
    """Return a pool's broker settings, by Kafka's names; ``@…@`` stands for what the start script fills in."""
    ports = Ports(pool.is_broker, pool.is_controller, spec.listeners)
    listeners = ports.settings("@HOST@")
    if pool.is_broker:
        listeners["listeners"] += "@MORE_LISTENERS@"
        listeners["advertised.listeners"] += "@MORE_ADVERTISED@"
    bootstrap = ",".join(f"{host}:{CONTROLLER_PORT}" for _, host in topology.founders(names))
    return {
        "node.id": "@NODE_ID@",
        "process.roles": ",".join(role for role in ("broker", "controller") if role in pool.spec.roles),
        "log.dirs": DATA_DIR,
        "controller.quorum.bootstrap.servers": bootstrap,
        # A controller added later becomes a voter by itself; the founders are voters from the start.
        **({"controller.quorum.auto.join.enable": "true"} if pool.is_controller else {}),
        **listeners,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": f"{TLS_DIR}/tls.pem",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": f"{TLS_DIR}/ca.crt",
        "ssl.endpoint.identification.algorithm": "https",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        "super.users": super_users(spec.authorization.super_users),
        **_replication(spec),
        **_sizes(pool),
        # Topics are made on purpose: a misspelt name would otherwise become a topic.
        "auto.create.topics.enable": "false",
        **{key: str(value) for key, value in sorted(spec.config.items())},
    }


def jvm_options(pool: Pool) -> list[str]:
    """Return the options of the virtual machine.

    Raises:
        UnworkableError: the heap does not fit.
    """
    heap = heap_mebibytes(pool.spec.jvm, pool.spec.resources)
    return [f"-Xms{heap}m", f"-Xmx{heap}m", *_JVM, *pool.spec.jvm.options]


def properties(entries: Mapping[str, str]) -> str:
    """Write a Java properties file."""
    return "".join(f"{_escape(key, ' =:#!')}={_escape(value, '').lstrip(' ')}\n" for key, value in entries.items())


def _replication(spec: KafkaClusterSpec) -> dict[str, str]:
    factor, in_sync = str(spec.replication.factor), str(spec.replication.min_in_sync)
    return {
        "default.replication.factor": factor,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": factor,
        "transaction.state.log.replication.factor": factor,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": factor,
        "share.coordinator.state.topic.min.isr": in_sync,
    }


def _sizes(pool: Pool) -> dict[str, str]:
    """Return buffers that fit the heap: the log cleaner's default of 128 MiB alone would fill a small one."""
    heap = heap_mebibytes(pool.spec.jvm, pool.spec.resources)
    return {"log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024)} if heap < _SMALL_HEAP else {}


def _escape(text: str, further: str) -> str:
    out = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    for character in further:
        out = out.replace(character, f"\\{character}")
    return out
