"""CassandraCluster: one Cassandra data centre over racks.

How it thinks: a bare cluster is fit for production. Three nodes in three racks, TLS among nodes and to clients,
password authentication and authorisation on, the default superuser replaced. Names follow cass-operator where it has
one (`size`, `racks`, `datacenterName`, `clusterName`).

Invariants: every rack has a node from which others learn the ring; names and racks never change under a running ring.
TLS and authentication cannot be turned off.
"""

import re
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from allotment_api.model import Bool, Int, KeyedBy, Model, Rule, no_keys_like
from allotment_api.names import DnsLabel, NodeLabels, ResourceList
from allotment_api.quantities import CPU, MEMORY, quantity
from allotment_api.resource import LABEL_NAME, STARTS_WITH_LETTER, Column, Definition, Resource, Scale
from allotment_api.service import (
    Config,
    Jvm,
    Placement,
    ReplicatedStatus,
    Resources,
    ServiceSpec,
    Storage,
    service_columns,
)

DEFAULT_VERSION: Final = "5.0.5"

_OWNED: Final = (
    no_keys_like(
        "^(cluster_name|endpoint_snitch|node_proximity|initial_location|initial_token|partitioner|auto_bootstrap)",
        "config must not set names, racks or tokens, the operator derives them: remove the key and use "
        "spec.clusterName, spec.datacenterName and spec.racks",
    ),
    no_keys_like(
        "^(listen_|broadcast_|rpc_|native_transport_port|storage_port|ssl_storage_port|seed_provider)",
        "config must not set addresses, ports or seeds, the operator derives them: remove the key",
    ),
    no_keys_like(
        "(_directory|_directories)$",
        "config must not set folders, they lie on the volume of spec.storage: remove the key",
    ),
    no_keys_like(
        "(authenticator|authorizer|_encryption_options)$|^role_manager",
        "config must not set authentication, authorisation or TLS, they are always on: remove the key",
    ),
)
"""Settings of cassandra.yaml that other fields stand for."""


class CassandraResources(Resources):
    """What one Cassandra node requests, and what it may use at most."""

    requests: ResourceList = Field(default_factory=lambda: {CPU: quantity("2"), MEMORY: quantity("8Gi")})
    """What the pod is placed by and what counts in the tenant's share. Must name cpu and memory."""


class CassandraRack(Model):
    """Nodes that fail together: Cassandra keeps copies in different racks."""

    name: Annotated[DnsLabel, Field(max_length=16)]
    """Name of the rack; part of its pods' names."""

    node_selector: NodeLabels = Field(default_factory=dict)
    """Labels of the nodes that this rack runs on, such as a zone; empty: the operator spreads the racks over zones."""


def _default_racks() -> tuple[CassandraRack, ...]:
    return tuple(CassandraRack(name=f"r{number}") for number in (1, 2, 3))


class CassandraClusterSpec(ServiceSpec):
    """A Cassandra data centre. Empty means three nodes in three racks, TLS, authentication, authorisation."""

    version: Annotated[
        str,
        Field(max_length=32),
        Rule(
            "self.matches('^[0-9]+[.][0-9]+[.][0-9]+$')",
            "must be a full version such as 5.0.5",
            lambda version: re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", version) is not None,
        ),
    ] = DEFAULT_VERSION
    """Version of Cassandra."""

    preemptible: Bool = False
    """Whether its pods may be evicted in favour of others. Otherwise they start only within the tenant's guarantee."""

    cluster_name: (
        Annotated[
            str,
            Field(min_length=1, max_length=64),
            Rule("self == oldSelf", "clusterName cannot change, every node's disk carries it: restore the old value"),
        ]
        | None
    ) = None
    """Cassandra's own name of the cluster; absent: metadata.name. Cannot change."""

    datacenter_name: Annotated[
        DnsLabel,
        Field(max_length=48),
        Rule("self == oldSelf", "datacenterName cannot change, every node's disk carries it: restore the old value"),
    ] = "dc1"
    """Name of the data centre. Cannot change."""

    size: Annotated[Int, Field(ge=1, le=1000)] = 3
    """Number of nodes over all racks, spread evenly."""

    racks: Annotated[tuple[CassandraRack, ...], Field(min_length=1, max_length=16), KeyedBy("name")] = Field(
        default_factory=_default_racks
    )
    """Racks, in the order in which they are filled. Racks cannot be removed."""

    storage: Storage = Field(default_factory=Storage)
    """Disk of each node."""

    resources: CassandraResources = Field(default_factory=CassandraResources)
    """What each node requests."""

    jvm: Jvm = Field(default_factory=Jvm)
    """Settings of the Java virtual machine."""

    placement: Placement = Field(default_factory=Placement)
    """Where the nodes run."""

    config: Annotated[Config, _OWNED[0], _OWNED[1], _OWNED[2], _OWNED[3]] = Field(default_factory=dict)
    """Further settings, by their names in cassandra.yaml. Names, addresses, ports, folders, authentication and TLS are
    the operator's."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.size >= size(self.racks)",
            "size must be at least the number of racks, every rack needs a node: raise size, or list fewer racks (a "
            "single node has racks: [{name: r1}])",
            lambda it: it.size >= len(it.racks),
            field_path=".size",
        ),
        Rule(
            "oldSelf.racks.all(o, self.racks.exists(r, r.name == o.name))",
            "racks cannot be removed or renamed while they hold data: restore the old names",
            field_path=".racks",
        ),
        Rule(
            "has(self.clusterName) == has(oldSelf.clusterName)",
            "clusterName cannot change, every node's disk carries it: restore the old value",
            field_path=".clusterName",
        ),
    )


class CassandraClusterStatus(ReplicatedStatus):
    """What the operator observes."""


class CassandraCluster(Resource):
    """A Cassandra data centre: replicated over racks, encrypted and authenticated from the first minute."""

    definition: ClassVar[Definition] = Definition(
        kind="CassandraCluster",
        plural="cassandraclusters",
        short_names=("cass",),
        scope="Namespaced",
        columns=service_columns(
            Column("Size", ".spec.size", "integer", "Nodes asked for."),
            Column("Datacenter", ".spec.datacenterName", "string", "Name of the data centre.", wide=True),
        ),
        scale=Scale(".spec.size", ".status.replicas", ".status.selector"),
        longest_name=32,
    )

    kind: Literal["CassandraCluster"] = "CassandraCluster"
    """Kind of the object: CassandraCluster."""

    spec: CassandraClusterSpec = Field(default_factory=CassandraClusterSpec)
    """What the cluster should be."""

    status: CassandraClusterStatus | None = None
    """What the operator observes."""

    rules: ClassVar[tuple[Rule, ...]] = (LABEL_NAME, STARTS_WITH_LETTER)
