"""Three Kafka brokers from hand-written manifests, as little as a secure cluster needs.

The brokers speak mutual TLS among themselves; clients come over TLS with a password (SCRAM-SHA-512) through one
NodePort per broker. It shows what the nodes and the image can do, independently of what the operator makes of them.
"""

import base64
import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any

from allotment_kube.certificates import KeyPair, authority, issue
from allotment_local.real_node.images import recipes
from builders.real_pods import RESTRICTED_CONTAINER, RESTRICTED_POD

BROKERS = 3
FIRST_NODE_PORT = 32090
USER = "app"
PASSWORD = "correct-horse"


def _uuid(name: str) -> str:
    """An id as Kafka writes them: 16 bytes in 22 characters, the same for the same name."""
    return base64.urlsafe_b64encode(uuid.uuid5(uuid.NAMESPACE_DNS, name).bytes).decode().rstrip("=")


_CLUSTER_ID = _uuid("cluster")
_DIRECTORY_IDS = tuple(_uuid(f"directory-{number}") for number in range(BROKERS))

_START = """
set -eu
id=${HOSTNAME##*-}
sed -e "s/@ID@/$id/g" -e "s/@PORT@/$((FIRST_PORT + id))/g" /etc/kafka/server.properties > /tmp/server.properties
java="java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dlog4j2.configurationFile=/etc/kafka/log4j2.properties"
if [ ! -f /data/kafka/meta.properties ]; then
  $java -Xmx128m -cp '/opt/kafka/libs/*' kafka.tools.StorageTool format --cluster-id "$CLUSTER_ID" \
    --config /tmp/server.properties --initial-controllers "$VOTERS" \
    --add-scram "SCRAM-SHA-512=[name=$USER_NAME,password=$PASSWORD]"
fi
exec $java -Xms256m -Xmx256m -cp '/opt/kafka/libs/*' kafka.Kafka /tmp/server.properties
"""

_LOGGING = """
status=warn
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%p %m (%c)%n
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
"""


def _properties(namespace: str, address: str) -> str:
    voters = ",".join(f"kafka-{number}.kafka.{namespace}.svc:9093" for number in range(BROKERS))
    host = f"kafka-@ID@.kafka.{namespace}.svc"
    settings = {
        "process.roles": "broker,controller",
        "node.id": "@ID@",
        "controller.quorum.bootstrap.servers": voters,
        "listeners": "INTERNAL://:9091,CONTROLLER://:9093,CLIENT://:9094",
        "advertised.listeners": f"INTERNAL://{host}:9091,CONTROLLER://{host}:9093,CLIENT://{address}:@PORT@",
        "listener.security.protocol.map": "INTERNAL:SSL,CONTROLLER:SSL,CLIENT:SASL_SSL",
        "inter.broker.listener.name": "INTERNAL",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": "/data/kafka",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": "/etc/kafka-tls/broker.pem",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": "/etc/kafka-tls/ca.crt",
        "listener.name.internal.ssl.client.auth": "required",
        "listener.name.controller.ssl.client.auth": "required",
        "listener.name.client.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.client.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:CN=kafka;User:{USER}",
        "offsets.topic.replication.factor": "3",
        "offsets.topic.num.partitions": "3",
        "min.insync.replicas": "2",
        "log.cleaner.dedupe.buffer.size": str(16 << 20),  # the default is half of so small a heap
        "group.initial.rebalance.delay.ms": "0",
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def certificates(namespace: str, addresses: Sequence[str]) -> tuple[KeyPair, KeyPair]:
    """An authority, and one certificate that serves all brokers inside and outside."""
    now = dt.datetime.now(tz=dt.UTC)
    signer = authority("kafka-test", now=now)
    inside = [f"kafka-{number}.kafka.{namespace}.svc" for number in range(BROKERS)]
    return signer, issue(signer, "kafka", hosts=[*inside, *addresses], client=True, now=now)


def manifests(namespace: str, *, address: str, signer: KeyPair, broker: KeyPair) -> list[dict[str, Any]]:
    """Everything but the namespace.

    Args:
        namespace: where.
        address: a node's address, by which clients reach the NodePorts.
        signer: the authority.
        broker: the brokers' certificate.
    """
    voters = ",".join(
        f"{number}@kafka-{number}.kafka.{namespace}.svc:9093:{_DIRECTORY_IDS[number]}" for number in range(BROKERS)
    )
    told = {
        "FIRST_PORT": str(FIRST_NODE_PORT),
        "CLUSTER_ID": _CLUSTER_ID,
        "VOTERS": voters,
        "USER_NAME": USER,
        "PASSWORD": PASSWORD,
    }
    files = {
        "server.properties": _properties(namespace, address),
        "start.sh": _START,
        "log4j2.properties": _LOGGING,
    }
    keys = {"broker.pem": (broker.key_pem + broker.certificate_pem).decode(), "ca.crt": signer.certificate_pem.decode()}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _named(namespace, "kafka"), "data": files},
        {"apiVersion": "v1", "kind": "Secret", "metadata": _named(namespace, "kafka"), "stringData": keys},
        _headless(namespace),
        *(_node_port(namespace, number) for number in range(BROKERS)),
        _stateful_set(namespace, told),
    ]


def _named(namespace: str, name: str) -> dict[str, Any]:
    return {"name": name, "namespace": namespace, "labels": {"app": "kafka"}}


def _headless(namespace: str) -> dict[str, Any]:
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,  # brokers must find each other to become ready
        "selector": {"app": "kafka"},
        "ports": [{"name": "internal", "port": 9091}, {"name": "controller", "port": 9093}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": _named(namespace, "kafka"), "spec": spec}


def _node_port(namespace: str, number: int) -> dict[str, Any]:
    spec = {
        "type": "NodePort",
        "selector": {"statefulset.kubernetes.io/pod-name": f"kafka-{number}"},
        "ports": [{"name": "client", "port": 9094, "nodePort": FIRST_NODE_PORT + number}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": _named(namespace, f"kafka-{number}"), "spec": spec}


def _stateful_set(namespace: str, told: dict[str, str]) -> dict[str, Any]:
    labels = {"app": "kafka"}
    apart = {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
    container = {
        "name": "kafka",
        "image": recipes.kafka().reference,
        "imagePullPolicy": "Never",
        "command": ["sh", "/etc/kafka/start.sh"],
        "env": [{"name": key, "value": value} for key, value in told.items()],
        "ports": [{"name": "client", "containerPort": 9094}],
        "readinessProbe": {"tcpSocket": {"port": 9094}, "periodSeconds": 2},
        "resources": {"requests": {"cpu": "50m", "memory": "448Mi"}, "limits": {"memory": "640Mi"}},
        "securityContext": RESTRICTED_CONTAINER,
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "configuration", "mountPath": "/etc/kafka"},
            {"name": "tls", "mountPath": "/etc/kafka-tls"},
        ],
    }
    pod = {
        "securityContext": RESTRICTED_POD,
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}},
        "containers": [container],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "configuration", "configMap": {"name": "kafka"}},
            {"name": "tls", "secret": {"secretName": "kafka", "defaultMode": 0o440}},
        ],
    }
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": _named(namespace, "kafka"),
        "spec": {
            "serviceName": "kafka",
            "replicas": BROKERS,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
            "volumeClaimTemplates": [claim],
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"},
        },
    }
