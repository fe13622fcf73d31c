"""The kind of Cassandra, made with the operator's surroundings."""

from collections.abc import Iterator
from typing import Any

from allotment_operator.kind import Kind
from allotment_operator.services.cassandra.admin import CqlAdmin
from allotment_operator.services.cassandra.cluster import CassandraClusterKind
from allotment_operator.services.cassandra.health import ClusterProbe
from allotment_operator.surroundings import Surroundings


def kinds(surroundings: Surroundings) -> Iterator[Kind[Any]]:
    """Return the kinds that this package looks after."""
    home = surroundings.namespace
    probe = ClusterProbe(admin=CqlAdmin(), simulated=surroundings.simulated, operator_namespace=home)
    yield CassandraClusterKind(operator_namespace=home, probe=probe)
