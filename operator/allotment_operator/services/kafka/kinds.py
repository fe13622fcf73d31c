"""The kinds of Kafka, made with the operator's surroundings."""

from collections.abc import Iterator
from typing import Any

from allotment_operator.kind import Kind
from allotment_operator.services.kafka.cluster import KafkaClusterKind
from allotment_operator.services.kafka.health import ClusterProbe
from allotment_operator.services.kafka.kafka_python import KafkaPythonAdmin
from allotment_operator.surroundings import Surroundings


def kinds(surroundings: Surroundings) -> Iterator[Kind[Any]]:
    """Return the kinds that this package looks after."""
    admin = KafkaPythonAdmin()
    home = surroundings.namespace
    probe = ClusterProbe(admin=admin, simulated=surroundings.simulated, operator_namespace=home)
    yield KafkaClusterKind(operator_namespace=home, probe=probe)
