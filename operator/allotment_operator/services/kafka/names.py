"""What the objects of a Kafka cluster are called, and which ports its nodes have."""

from dataclasses import dataclass
from typing import Final

from allotment_operator.plans.actions import ObjectRef
from allotment_operator.plans.names import ClusterNames

CONTROLLER_PORT: Final = 9090
REPLICATION_PORT: Final = 9091

ADMIN: Final = "admin"
"""The user that may do everything; the cluster's own binding is for it."""

NODE_ORGANIZATION: Final = "allotment-kafka-nodes"
OPERATOR_ORGANIZATION: Final = "allotment-operator"
USER_ORGANIZATION: Final = "allotment-kafka-users"
"""Who a client certificate is for is in its organization; all are signed by the cluster's own authority."""

OPERATOR_COMMON_NAME: Final = "operator"
NODE_COMMON_NAME: Final = "node"


@dataclass(frozen=True, slots=True)
class Names(ClusterNames):
    """The names of one cluster's objects; its groups of nodes are pools."""

    @property
    def headless(self) -> str:
        """Service that gives each node its name."""
        return f"{self.cluster}-nodes"

    @property
    def entrance(self) -> str:
        """Service that clients connect to first."""
        return f"{self.cluster}-bootstrap"

    @property
    def binding(self) -> str:
        """Secret with what the administrator of the cluster connects with."""
        return f"{self.cluster}-kafka-binding"

    def configuration(self, pool: str) -> str:
        """ConfigMap of a pool."""
        return f"{self.cluster}-{pool}-config"

    def certificate(self, pool: str) -> str:
        """Secret with the certificate of a pool's nodes."""
        return f"{self.cluster}-{pool}-tls"

    def external(self, pool: str, ordinal: int, listener: str) -> str:
        """Service by which one node's external listener is reached."""
        return f"{self.pod(pool, ordinal)}-{listener}"

    def authority(self, operator_namespace: str) -> ObjectRef:
        """Return the Secret of the cluster's authority, which only the operator can read."""
        return ObjectRef("v1", "Secret", operator_namespace, f"kafka.{self.namespace}.{self.cluster}.authority")

    def operator_certificate(self, operator_namespace: str) -> ObjectRef:
        """Return the Secret of the operator's own client certificate."""
        return ObjectRef("v1", "Secret", operator_namespace, f"kafka.{self.namespace}.{self.cluster}.operator")


def listener_name(name: str) -> str:
    """Return Kafka's name of a client listener; the prefix keeps it apart from the nodes' own listeners."""
    return f"CLIENT_{name.upper()}"
