"""What the objects of a clustered data service are called, as far as all such services agree.

A name is made in one place, from names that cannot change: objects find each other by it, and disks carry it. Services
of other kinds may have the cluster's name as well: what both would have is told apart by a word of its own.
"""

from dataclasses import dataclass
from typing import Self

from allotment_api.resource import Resource
from allotment_operator.plans.actions import ObjectRef


@dataclass(frozen=True, slots=True)
class ClusterNames:
    """The names of one cluster's objects; its pods are in groups (pools, racks), each a StatefulSet."""

    namespace: str
    cluster: str

    @classmethod
    def of(cls, resource: Resource) -> Self:
        """Return the names of a cluster's objects."""
        return cls(resource.metadata.namespace or "", resource.metadata.name)

    @property
    def headless(self) -> str:
        """Service that gives each node its name, also before it is ready: nodes must find each other by then."""
        raise NotImplementedError

    @property
    def entrance(self) -> str:
        """Service that clients connect to: any node that is ready."""
        raise NotImplementedError

    @property
    def entrance_host(self) -> str:
        """Host that clients connect to."""
        return f"{self.entrance}.{self.namespace}.svc"

    def group(self, group: str) -> str:
        """StatefulSet of a group of nodes."""
        return f"{self.cluster}-{group}"

    def pod(self, group: str, ordinal: int) -> str:
        """One node's pod."""
        return f"{self.group(group)}-{ordinal}"

    def host(self, group: str, ordinal: int) -> str:
        """One node's host name."""
        return f"{self.pod(group, ordinal)}.{self.headless}.{self.namespace}.svc"

    def server_hosts(self) -> tuple[str, ...]:
        """Return every name under which nodes are reached inside the Kubernetes cluster.

        A wildcard covers the nodes, so that a node added later needs no new certificate on those that run.
        """
        nodes, entrance = f"*.{self.headless}.{self.namespace}.svc", f"{self.entrance}.{self.namespace}"
        return (
            nodes,
            f"{nodes}.cluster.local",
            self.entrance,
            entrance,
            f"{entrance}.svc",
            f"{entrance}.svc.cluster.local",
        )

    def secret(self, name: str) -> ObjectRef:
        """Return a Secret in the cluster's own namespace."""
        return ObjectRef("v1", "Secret", self.namespace, name)
