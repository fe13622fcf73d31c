"""KafkaCluster: Kafka in KRaft mode.

How it thinks: a bare cluster is fit for production. Three combined nodes form the quorum and hold the data, three
copies of everything with two in sync, TLS on every port, every client authenticated, authorisation on. Larger ones
list pools of controllers and brokers. What the operator derives from the spec (listeners, ids, disks, TLS,
authorizer, replication) cannot be set in `config`, so that no two fields say different things.

Invariants: an odd number of controllers; never more copies than brokers; a node id is never used twice, for its disk
may hold another node's data. TLS cannot be turned off.

Sources: KIP-853 (quorum), Kafka's broker configuration; names follow Strimzi where it has one.
"""

import re
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from allotment_api.model import Bool, Count, Int, KeyedBy, Model, Rule, Unique, no_keys_like
from allotment_api.names import DnsLabel
from allotment_api.resource import (
    LABEL_NAME,
    STARTS_WITH_LETTER,
    Column,
    Definition,
    Resource,
)
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

DEFAULT_VERSION: Final = "4.3.1"

IDS_PER_POOL: Final = 1000
"""Node ids reserved for each pool, from its firstNodeId on."""

_OWNED: Final = (
    no_keys_like(
        "^(listeners$|listener[.]|advertised[.]|inter[.]broker[.]|control[.]plane|controller[.]listener|early[.]start)",
        "config must not set listeners, the operator derives them: remove the key and use spec.listeners",
    ),
    no_keys_like(
        "^(node[.]id|broker[.](id|rack)|process[.]roles|log[.]dirs?$|metadata[.]log[.]dir|zookeeper[.]|"
        "controller[.]quorum[.](voters|bootstrap))",
        "config must not set ids, roles, racks, disks or the quorum, the operator derives them: remove the key, use "
        "spec.pools",
    ),
    no_keys_like(
        "^(ssl[.]|sasl[.]|security[.]inter|authorizer[.]|super[.]users|allow[.]everyone|principal[.]builder|"
        "delegation[.]token)",
        "config must not set TLS, SASL or the authorizer, the operator derives them: remove the key and use "
        "spec.listeners and spec.authorization",
        but=("ssl.cipher.suites", "ssl.protocol", "ssl.enabled.protocols"),
    ),
    no_keys_like(
        "^(default[.]replication[.]factor|min[.]insync[.]replicas|offsets[.]topic[.]replication|"
        "transaction[.]state[.]log[.](replication|min)|share[.]coordinator[.]state[.]topic[.](replication|min))",
        "config must not set replication, the operator derives it: remove the key and use spec.replication",
    ),
)
"""Broker settings that other fields stand for."""


class KafkaResources(Resources):
    """What one Kafka node requests, and what it may use at most."""


class KafkaPool(Model):
    """Kafka nodes that are alike."""

    name: Annotated[DnsLabel, Field(max_length=16)]
    """Name of the pool; part of its pods' names."""

    roles: Annotated[
        tuple[Literal["controller", "broker"], ...],
        Field(min_length=1, max_length=2),
        Unique(),
        Rule(
            "self.all(r, r in oldSelf) && oldSelf.all(r, r in self)",
            "roles of a pool cannot change: add a pool with the new roles, then remove this one",
        ),
    ] = ("controller", "broker")
    """What the nodes do: controllers keep the metadata, brokers the data."""

    replicas: Annotated[Int, Field(ge=1, le=IDS_PER_POOL)] = 3
    """Number of nodes."""

    first_node_id: Annotated[Int, Field(ge=0, le=1_000_000)] | None = None
    """First node id of the pool, a multiple of 1000: it owns that and the 999 after it. Absent: the operator takes the
    next free range and keeps it in the status. Cannot change."""

    storage: Storage = Field(default_factory=Storage)
    """Disk of each node."""

    resources: KafkaResources = Field(default_factory=KafkaResources)
    """What each node requests."""

    jvm: Jvm = Field(default_factory=Jvm)
    """Settings of the Java virtual machine."""

    placement: Placement = Field(default_factory=Placement)
    """Where the nodes run. The topology key's value becomes Kafka's rack."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!has(self.firstNodeId) || self.firstNodeId % {IDS_PER_POOL} == 0",
            f"firstNodeId must be a multiple of {IDS_PER_POOL}: write 0, 1000, 2000 or so on",
            lambda it: (it.first_node_id or 0) % IDS_PER_POOL == 0,
            field_path=".firstNodeId",
        ),
        Rule(
            "has(self.firstNodeId) == has(oldSelf.firstNodeId) && "
            "(!has(self.firstNodeId) || self.firstNodeId == oldSelf.firstNodeId)",
            "firstNodeId cannot change, the nodes' disks carry their ids: restore the old value",
            field_path=".firstNodeId",
        ),
    )


class Replication(Model):
    """Copies of the data, for topics that do not say otherwise and for Kafka's own."""

    factor: Annotated[Int, Field(ge=1, le=16)] = 3
    """Number of copies."""

    min_in_sync: Annotated[Int, Field(ge=1, le=16)] = 2
    """Copies that must have a record before a producer with acks=all is told so."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.minInSync <= self.factor",
            "minInSync must not exceed factor, or nothing could ever be written: lower minInSync or raise factor",
            lambda it: it.min_in_sync <= it.factor,
        ),
    )


class ListenerAuthentication(Model):
    """How clients prove who they are."""

    type: Literal["scram-sha-512", "tls"]
    """scram-sha-512: user and password. tls: client certificate."""


class Listener(Model):
    """A port for clients. It always speaks TLS."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=11),
        Rule(
            "self.matches('^[a-z][a-z0-9]*$')",
            "must be lower-case letters and digits, beginning with a letter",
            lambda name: re.fullmatch("[a-z][a-z0-9]*", name) is not None,
        ),
    ]
    """Name of the listener."""

    port: Annotated[
        Int,
        Field(ge=9092, le=65535),
        Rule(
            "!(self in [9404, 9999])",
            "ports 9404 and 9999 are for metrics: write another one",
            lambda p: p not in (9404, 9999),
        ),
    ]
    """Port, from 9092 on; 9090 and 9091 are for the nodes among themselves."""

    type: Literal["internal", "nodePort", "loadBalancer"] = "internal"
    """Who can reach it: pods of the cluster, anyone who reaches a node, or anyone who reaches a load balancer. The
    last two need the tenant's policy to allow them."""

    authentication: ListenerAuthentication
    """How clients prove who they are."""


def _default_listeners() -> tuple[Listener, ...]:
    scram = ListenerAuthentication(type="scram-sha-512")
    certificate = ListenerAuthentication(type="tls")
    return (
        Listener(name="scram", port=9092, authentication=scram),
        Listener(name="tls", port=9093, authentication=certificate),
    )


class Authorization(Model):
    """Who may do what. It is always on: what no KafkaUser is granted is denied."""

    super_users: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=253)], ...], Field(max_length=32), Unique()
    ] = ()
    """Names of users that may do everything."""


class KafkaClusterSpec(ServiceSpec):
    """A Kafka cluster. Empty means three combined nodes, three copies, TLS, authentication, authorisation."""

    version: Annotated[
        str,
        Field(max_length=32),
        Rule(
            "self.matches('^[0-9]+[.][0-9]+[.][0-9]+$')",
            "must be a full version such as 4.3.1",
            lambda version: re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", version) is not None,
        ),
    ] = DEFAULT_VERSION
    """Version of Kafka."""

    preemptible: Bool = False
    """Whether its pods may be evicted in favour of others. Otherwise they start only within the tenant's guarantee."""

    pools: Annotated[tuple[KafkaPool, ...], Field(min_length=1, max_length=16), KeyedBy("name")] = Field(
        default=(KafkaPool(name="main"),)
    )
    """Groups of nodes that are alike."""

    replication: Replication = Field(default_factory=Replication)
    """Copies of the data."""

    listeners: Annotated[tuple[Listener, ...], Field(min_length=1, max_length=16), KeyedBy("name")] = Field(
        default_factory=_default_listeners
    )
    """Ports for clients."""

    authorization: Authorization = Field(default_factory=Authorization)
    """Who may do what."""

    config: Annotated[Config, _OWNED[0], _OWNED[1], _OWNED[2], _OWNED[3]] = Field(default_factory=dict)
    """Further settings of the brokers and controllers, by Kafka's own names. Listeners, ids, disks, TLS, SASL, the
    authorizer and replication have fields of their own."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.pools.filter(p, 'controller' in p.roles).map(p, p.replicas).sum() % 2 == 1",
            "the number of controllers over all pools must be odd, so that a majority decides: write 1, 3 or 5",
            lambda it: _nodes(it, "controller") % 2 == 1,
            field_path=".pools",
        ),
        Rule(
            "self.pools.filter(p, 'controller' in p.roles).map(p, p.replicas).sum() <= 9",
            "more than 9 controllers only slow every decision down: write 3 or 5, and make further pools brokers only",
            lambda it: _nodes(it, "controller") <= 9,
            field_path=".pools",
        ),
        Rule(
            "self.pools.filter(p, 'broker' in p.roles).map(p, p.replicas).sum() >= self.replication.factor",
            "replication.factor exceeds the number of brokers: add brokers to pools, or lower replication.factor (and "
            "replication.minInSync with it)",
            lambda it: _nodes(it, "broker") >= it.replication.factor,
            field_path=".replication.factor",
        ),
        Rule(
            "self.pools.filter(p, has(p.firstNodeId)).all(p, self.pools.filter(q, has(q.firstNodeId) && "
            "q.firstNodeId == p.firstNodeId).size() == 1)",
            "two pools have the same firstNodeId: give each a range of its own",
            lambda it: _all_different([p.first_node_id for p in it.pools if p.first_node_id is not None]),
            field_path=".pools",
        ),
        Rule(
            "self.listeners.all(l, self.listeners.filter(o, o.port == l.port).size() == 1)",
            "two listeners have the same port: give each its own",
            lambda it: _all_different([listener.port for listener in it.listeners]),
            field_path=".listeners",
        ),
    )


def _nodes(spec: KafkaClusterSpec, role: str) -> int:
    return sum(pool.replicas for pool in spec.pools if role in pool.roles)


def _all_different(values: list[int]) -> bool:
    return len(set(values)) == len(values)


class KafkaPoolState(Model):
    """One pool as the operator sees it."""

    name: DnsLabel
    """Name of the pool."""

    first_node_id: Count
    """First node id of the pool."""

    node_ids: Annotated[tuple[Count, ...], Field(max_length=1000), Unique()] = ()
    """Ids of the nodes that exist."""

    ready: Count = 0
    """Nodes that serve."""


class KafkaClusterStatus(ReplicatedStatus):
    """What the operator observes."""

    cluster_id: Annotated[str, Field(max_length=64)] | None = None
    """Kafka's own id of the cluster, chosen once."""

    pools: Annotated[tuple[KafkaPoolState, ...], Field(max_length=32), KeyedBy("name")] = ()
    """State of the pools; ranges of removed pools stay, so that no id is used twice."""


class KafkaCluster(Resource):
    """A Kafka cluster: replicated, encrypted, authenticated and authorised from the first minute."""

    definition: ClassVar[Definition] = Definition(
        kind="KafkaCluster",
        plural="kafkaclusters",
        short_names=("kc",),
        scope="Namespaced",
        columns=service_columns(Column("Nodes", ".status.replicas", "integer", "Nodes that exist.")),
        longest_name=32,
    )

    kind: Literal["KafkaCluster"] = "KafkaCluster"
    """Kind of the object: KafkaCluster."""

    spec: KafkaClusterSpec = Field(default_factory=KafkaClusterSpec)
    """What the cluster should be."""

    status: KafkaClusterStatus | None = None
    """What the operator observes."""

    rules: ClassVar[tuple[Rule, ...]] = (LABEL_NAME, STARTS_WITH_LETTER)


ClusterName = Annotated[
    DnsLabel,
    Rule("self == oldSelf", "cluster cannot change: make a new resource for the other cluster, then delete this one"),
]
"""The KafkaCluster that a topic or user belongs to, in the same namespace."""
