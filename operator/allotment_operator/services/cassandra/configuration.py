"""The configuration files of a Cassandra node: cassandra.yaml, start script, logging, options of the virtual machine.

How it thinks: one set of files serves all nodes; the start script fills in the node's address and rack. No file holds a
secret: passwords are in Cassandra's own tables, keys in mounted Secrets.

Invariants: what the owner writes in `config` cannot change what the operator derives (the API refuses those keys).
"""

import importlib.resources
import json
from typing import Any, Final

import yaml

from allotment_api.cassandra import CassandraClusterSpec
from allotment_api.quantities import MEMORY
from allotment_operator.plans.jvm import MEBIBYTE, heap_mebibytes
from allotment_operator.services.cassandra.names import CQL_PORT, JMX_PORT, STORAGE_PORT, Names
from allotment_operator.services.cassandra.ring import Ring

HOME: Final = "/opt/cassandra"
CONFIG_DIR: Final = "/etc/cassandra/allotment"
TLS_DIR: Final = "/etc/cassandra/tls"
RUN_DIR: Final = "/run/cassandra"
VOLUME_DIR: Final = "/var/lib/cassandra"

_SCRIPTS: Final = {
    name: importlib.resources.files(__package__).joinpath(name).read_text() for name in ("start.sh", "nodetool.sh")
}

_LOGGING: Final = """\
<configuration>
  <appender name="console" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%-5level [%thread] %date{{ISO8601}} %F:%L - %msg%n</pattern></encoder>
  </appender>
  <root level="{level}"><appender-ref ref="console"/></root>
</configuration>
"""

_EXPORTS: Final = (
    "java.base/jdk.internal.misc",
    "java.base/java.lang.ref",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "jdk.unsupported/sun.misc",
    "jdk.attach/sun.tools.attach",
    "jdk.compiler/com.sun.tools.javac.file",
)
_OPENS: Final = (
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.module",
    "java.base/java.lang.reflect",
    "java.base/java.util",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "jdk.compiler/com.sun.tools.javac",
    "jdk.management/com.sun.management.internal",
)
"""Parts of the Java library that Cassandra 5.0 reaches into, as its conf/jvm17-server.options names them."""


def files(spec: CassandraClusterSpec, ring: Ring, names: Names) -> dict[str, str]:
    """Return the files of the nodes, by name.

    Raises:
        UnworkableError: the heap does not fit.
    """
    return {
        **_SCRIPTS,
        "cassandra.yaml": yaml.safe_dump(settings(spec, ring, names), sort_keys=False, width=4096),
        "jvm.options": "".join(f"{option}\n" for option in jvm_options(spec, ring)),
        "tool.options": "".join(f"{option}\n" for option in ("-Xmx128m", "-XX:TieredStopAtLevel=1", *_modules())),
        "logback.xml": _LOGGING.format(level="INFO"),
        "logback-tools.xml": _LOGGING.format(level="WARN"),
    }


def settings(spec: CassandraClusterSpec, ring: Ring, names: Names) -> dict[str, Any]:
    """Return cassandra.yaml; ``@ADDRESS@`` stands for what the start script fills in."""
    seeds = ",".join(ring.seed_hosts(names))
    pem = {
        "ssl_context_factory": {"class_name": "org.apache.cassandra.security.PEMBasedSslContextFactory"},
        "keystore": f"{TLS_DIR}/tls.pem",
        "truststore": f"{TLS_DIR}/ca.crt",
        "accepted_protocols": ["TLSv1.3", "TLSv1.2"],
    }
    return {
        "cluster_name": spec.cluster_name or names.cluster,
        "num_tokens": 16,
        "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
        "data_file_directories": [f"{VOLUME_DIR}/data"],
        **{f"{part}_directory": f"{VOLUME_DIR}/{part}" for part in ("commitlog", "hints", "saved_caches", "cdc_raw")},
        "commitlog_sync": "periodic",
        "commitlog_sync_period": "10s",
        "seed_provider": [
            {"class_name": "org.apache.cassandra.locator.SimpleSeedProvider", "parameters": [{"seeds": seeds}]}
        ],
        "listen_address": "@ADDRESS@",
        "rpc_address": "0.0.0.0",  # noqa: S104 - inside the pod's own network; the policy says who gets there
        "broadcast_rpc_address": "@ADDRESS@",
        "storage_port": STORAGE_PORT,
        "native_transport_port": CQL_PORT,
        "endpoint_snitch": "GossipingPropertyFileSnitch",
        "authenticator": "PasswordAuthenticator",
        "authorizer": "CassandraAuthorizer",
        "role_manager": "CassandraRoleManager",
        # Nodes know each other by address, which no certificate can name beforehand; their authority is theirs alone.
        "server_encryption_options": {
            **pem,
            "internode_encryption": "all",
            "optional": False,
            "require_client_auth": True,
            "require_endpoint_verification": False,
        },
        "client_encryption_options": {**pem, "enabled": True, "optional": False, "require_client_auth": False},
        **{key: _value(value) for key, value in sorted(spec.config.items())},
    }


def jvm_options(spec: CassandraClusterSpec, ring: Ring) -> list[str]:
    """Return the options of the virtual machine.

    Raises:
        UnworkableError: the heap does not fit.
    """
    heap = heap_mebibytes(spec.jvm, spec.resources)
    memory = spec.resources.requests[MEMORY].value // MEBIBYTE
    copies = min(3, ring.wanted)
    return [
        f"-Xms{heap}m",
        f"-Xmx{heap}m",
        f"-XX:MaxDirectMemorySize={max(64, (memory - heap) // 2)}m",
        "-Xss512k",
        "-XX:+UseG1GC",
        "-XX:MaxGCPauseMillis=300",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        *_modules(),
        "-Dio.netty.tryReflectionSetAccessible=true",
        "-Dcassandra-foreground=yes",
        f"-Dcassandra.storagedir={VOLUME_DIR}",
        f"-Dcassandra.jmx.local.port={JMX_PORT}",
        # Cassandra's own keyspaces begin with the copies that they need; else a lost node takes the logins with it.
        *(f"-Dcassandra.{keyspace}.default_rf={copies}" for keyspace in _OWN_KEYSPACES),
        *(_quoted(option) for option in spec.jvm.options),
    ]


_OWN_KEYSPACES: Final = ("system_auth", "system_distributed", "system_traces")


def _modules() -> list[str]:
    return [
        "-Djdk.attach.allowAttachSelf=true",
        *(f"--add-exports={module}=ALL-UNNAMED" for module in _EXPORTS),
        *(f"--add-opens={module}=ALL-UNNAMED" for module in _OPENS),
    ]


def _value(written: int | str) -> Any:  # noqa: ANN401 - any YAML value
    """Read a setting's value as YAML where it is text: true, 32MiB, or a list in brackets; a mapping stays text."""
    if isinstance(written, int):
        return written
    try:
        value = yaml.safe_load(written)
    except yaml.YAMLError:
        return written
    return value if isinstance(value, bool | int | float | list) else written


def _quoted(option: str) -> str:
    """Quote an option for Java's argument file, where spaces separate and quotes, backslashes and # mean something."""
    return json.dumps(option, ensure_ascii=False)
