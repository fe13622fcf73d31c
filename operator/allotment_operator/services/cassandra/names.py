"""What the objects of a Cassandra cluster are called, and which ports its nodes have."""

from dataclasses import dataclass
from typing import Final

from allotment_operator.plans.actions import ObjectRef

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
class Names:
    """The names of one cluster's objects."""

    namespace: str
    cluster: str

    @property
    def headless(self) -> str:
        """Service that gives each node its name, also before it is ready: seeds must be found by then."""
        return f"{self.cluster}-ring"

    @property
    def client(self) -> str:
        """Service that clients connect to: any node that is ready."""
        return f"{self.cluster}-client"

    @property
    def client_host(self) -> str:
        """Host that clients connect to."""
        return f"{self.client}.{self.namespace}.svc"

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

    def rack(self, rack: str) -> str:
        """StatefulSet of a rack."""
        return f"{self.cluster}-{rack}"

    def pod(self, rack: str, ordinal: int) -> str:
        """One node's pod."""
        return f"{self.cluster}-{rack}-{ordinal}"

    def host(self, rack: str, ordinal: int) -> str:
        """One node's host name."""
        return f"{self.pod(rack, ordinal)}.{self.headless}.{self.namespace}.svc"

    def server_hosts(self) -> tuple[str, ...]:
        """Return every name under which nodes are reached inside the Kubernetes cluster."""
        nodes, client = f"*.{self.headless}.{self.namespace}.svc", f"{self.client}.{self.namespace}"
        return (nodes, f"{nodes}.cluster.local", self.client, client, f"{client}.svc", f"{client}.svc.cluster.local")

    def secret(self, name: str) -> ObjectRef:
        """Return a Secret in the cluster's own namespace."""
        return ObjectRef("v1", "Secret", self.namespace, name)

    def authority(self, operator_namespace: str) -> ObjectRef:
        """Return the Secret of the cluster's authority, which only the operator can read."""
        return ObjectRef("v1", "Secret", operator_namespace, f"cassandra.{self.namespace}.{self.cluster}.authority")
