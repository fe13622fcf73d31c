"""The kinds that Spark takes part with."""

from typing import Any

from allotment_operator.kind import Kind
from allotment_operator.services.spark.application import SparkApplicationKind
from allotment_operator.services.spark.cluster import SparkClusterKind
from allotment_operator.services.spark.master import HttpMaster
from allotment_operator.surroundings import Surroundings


def kinds(surroundings: Surroundings) -> list[Kind[Any]]:
    """Return them, each with what it uses of the world."""
    return [
        SparkApplicationKind(api_server=surroundings.api_server),
        SparkClusterKind(
            simulated=surroundings.simulated, master=HttpMaster(), operator_namespace=surroundings.namespace
        ),
    ]
