"""The kinds of Kafka, made with the operator's surroundings."""

from collections.abc import Iterator
from typing import Any

from allotment_operator.kind import Kind
from allotment_operator.services.kafka.cluster import KafkaClusterKind
from allotment_operator.services.kafka.clusters import KubernetesClusters
from allotment_operator.services.kafka.health import ClusterProbe
from allotment_operator.services.kafka.kafka_python import KafkaPythonAdmin
from allotment_operator.services.kafka.topic import KafkaTopicKind
from allotment_operator.services.kafka.user import KafkaUserKind
from allotment_operator.surroundings import Surroundings


def kinds(surroundings: Surroundings) -> Iterator[Kind[Any]]:
    """Return the kinds that this package looks after; they share one port to brokers."""
    admin, home = KafkaPythonAdmin(), surroundings.namespace
    clusters = KubernetesClusters(surroundings.client, operator_namespace=home, seen=surroundings.resources)
    probe = ClusterProbe(admin=admin, simulated=surroundings.simulated, operator_namespace=home)
    yield KafkaClusterKind(operator_namespace=home, probe=probe)
    yield KafkaTopicKind(admin=admin, clusters=clusters)
    yield KafkaUserKind(admin=admin, clusters=clusters, operator_namespace=home)
