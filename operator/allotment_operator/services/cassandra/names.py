"""What the objects of a Cassandra cluster are called, and which ports its nodes have."""

from dataclasses import dataclass
from typing import Final

from allotment_operator.plans.actions import ObjectRef
from allotment_operator.plans.names import ClusterNames

STORAGE_PORT: Final = 7000
"""Nodes among themselves; TLS with certificates on both sides."""

JMX_PORT: Final = 7199
"""For nodetool, inside the pod only."""

CQL_PORT: Final = 9042
"""Clients; TLS and a password."""

ADMIN: Final = "admin"
"""The superuser; Cassandra's own, which everybody knows the password of, is dropped."""

NODE_ORGANIZATION: Final = "allotment-cassandra-nodes"


@dataclass(frozen=True, slots=True)
class Names(ClusterNames):
    """The names of one cluster's objects; its groups of nodes are racks."""

    @property
    def headless(self) -> str:
        """Service that gives each node its name, also before it is ready: seeds must be found by then."""
        return f"{self.cluster}-ring"

    @property
    def entrance(self) -> str:
        """Service that clients connect to: any node that is ready."""
        return f"{self.cluster}-client"

    @property
    def configuration(self) -> str:
        """ConfigMap of all nodes."""
        return f"{self.cluster}-config"

    @property
    def certificate(self) -> str:
        """Secret with the certificate of the nodes."""
        return f"{self.cluster}-tls"

    @property
    def binding(self) -> str:
        """Secret with what the superuser connects with."""
        return f"{self.cluster}-cassandra-binding"

    def authority(self, operator_namespace: str) -> ObjectRef:
        """Return the Secret of the cluster's authority, which only the operator can read."""
        return ObjectRef("v1", "Secret", operator_namespace, f"cassandra.{self.namespace}.{self.cluster}.authority")
