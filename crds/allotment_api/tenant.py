"""Tenant: a business unit, its share of the cluster, its people and its namespaces.

How it thinks: tenants form a forest by `parent`. Leaves own namespaces; inner tenants bundle others. `weight`,
`guaranteed` and `limits` are read by the scheduler, everything else by the operator. Amounts under `pools.<name>` hold
within that pool, the others over the whole cluster.

Invariants: a guarantee never exceeds the limit beside it; weights are decimals, read exactly. That parents exist, form
no cycle, and may be used by whoever asks is for the operator and the admission policies: no single object shows it.
"""

import ipaddress
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from allotment_api.conditions import Conditions
from allotment_api.model import Bool, Count, Int, KeyedBy, Model, Ratio, Rule, Seconds, Timestamp, Unique, Weight
from allotment_api.names import DnsLabel, Image, Message, ResourceList, is_label, within
from allotment_api.resource import AGE, LABEL_NAME, Column, Definition, Resource, ready_column, reason_column

DEFAULT_REQUESTS: Final[Mapping[str, str]] = {"cpu": "100m", "memory": "128Mi"}
"""What a container of a tenant's namespace requests that names nothing: without it, it would ride free of the tenant's
share. No default limits: a default below a container's own request would refuse the pod."""

HIGHEST_USER_PRIORITY = 1_000_000_000
"""The highest priority value Kubernetes lets a user-defined PriorityClass have; system classes lie above."""

_GUARANTEE_WITHIN_LIMIT = within(
    "guaranteed",
    "limits",
    "guaranteed must not exceed limits: raise the limit or lower the guarantee of that resource",
)

ServiceKind = Literal[
    "KafkaCluster",
    "KafkaTopic",
    "KafkaUser",
    "CassandraCluster",
    "SparkApplication",
    "SparkCluster",
    "JenkinsAgentPool",
]
"""Kinds of services that a tenant can provision."""


class PoolShare(Model):
    """A tenant's guarantee and limits within one node pool."""

    guaranteed: ResourceList = Field(default_factory=dict)
    """Room in this pool that the tenant gets back on demand, whoever borrows it meanwhile."""

    limits: ResourceList = Field(default_factory=dict)
    """Most that the tenant may use of this pool."""

    rules: ClassVar[tuple[Rule, ...]] = (_GUARANTEE_WITHIN_LIMIT,)


class Member(Model):
    """A person, group or service account with a role in the tenant's namespaces."""

    kind: Literal["User", "Group", "ServiceAccount"] = "Group"
    """What the name stands for. Groups come from the identity provider and outlive people."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Name as the API server knows it."""

    namespace: DnsLabel | None = None
    """Namespace of a ServiceAccount; empty for the others."""

    role: Literal["owner", "developer", "viewer", "ci"]
    """What the member may do: viewer sees everything but Secrets; ci also runs pods and jobs, and creates, changes and
    deletes any service; developer also reads and writes Secrets, enters pods and runs its own applications; owner also
    manages service accounts and roles within the namespaces."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.kind == 'ServiceAccount') == has(self.__namespace__)",
            "a ServiceAccount needs its namespace; users and groups must have none",
            lambda it: (it.kind == "ServiceAccount") == (it.namespace is not None),
        ),
    )


class ServiceAllowance(Model):
    """One kind of service that the tenant may provision."""

    kind: ServiceKind
    """Kind of the service."""

    count: Count | None = None
    """How many the tenant may have at once, over all its namespaces; empty for no limit."""


def _is_net(text: str) -> bool:
    address, slash, prefix = text.partition("/")
    try:
        parsed = ipaddress.ip_interface(text)
    except ValueError:
        return False
    canonical = str(int(prefix)) == prefix if prefix.isdigit() else False
    return bool(slash) and canonical and "%" not in address and str(parsed.network.prefixlen) == prefix


class NetworkPolicy(Model):
    """What the tenant's network may do beyond its own namespaces, as far as every tenant above it may do it, too."""

    allow_node_port: Bool = False
    """Whether services may be exposed on a port of every node."""

    allow_load_balancer: Bool = False
    """Whether services may be exposed by a load balancer."""

    egress: Annotated[
        tuple[
            Annotated[
                str,
                Field(min_length=1, max_length=43),
                Rule("isCIDR(self)", "must be a network such as 10.20.0.0/16 or 2001:db8::/32", _is_net),
            ],
            ...,
        ],
        Field(max_length=64),
        Unique(),
    ] = ()
    """Networks outside the cluster that pods may reach. Everything else outside is closed."""


class Policy(Model):
    """Bounds on what the tenant's pods may ask for, enforced on admission."""

    allowed_registries: Annotated[tuple[Image, ...], Field(max_length=64), Unique()] = ()
    """Prefixes of the images that may run; empty for all. A prefix ends at a border of the name:
    registry.example.com/retail admits registry.example.com/retail/app, not registry.example.com/retail-x/app."""

    max_priority: Annotated[Int, Field(ge=-2_147_483_648, le=HIGHEST_USER_PRIORITY)] = HIGHEST_USER_PRIORITY
    """Highest priority value that a pod may have. Priority orders a tenant's own pods only, never tenants."""

    default_runtime_seconds: Seconds | None = None
    """Maximum runtime of pods that declare none; empty for unknown."""

    max_runtime_seconds: Seconds | None = None
    """Longest maximum runtime that a pod may declare; empty for no bound."""

    network: NetworkPolicy = Field(default_factory=NetworkPolicy)
    """What the tenant's network may do beyond its own namespaces."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.defaultRuntimeSeconds) || !has(self.maxRuntimeSeconds) || "
            "self.defaultRuntimeSeconds <= self.maxRuntimeSeconds",
            "defaultRuntimeSeconds must not exceed maxRuntimeSeconds: lower the default or raise the maximum",
            lambda it: (
                it.default_runtime_seconds is None
                or it.max_runtime_seconds is None
                or it.default_runtime_seconds <= it.max_runtime_seconds
            ),
        ),
    )


Namespace = Annotated[
    DnsLabel,
    Rule(
        "self != 'default' && !self.startsWith('kube-')",
        "the namespaces default and kube-* belong to the cluster: name another one",
        lambda name: name != "default" and not name.startswith("kube-"),
    ),
]
"""A namespace that a tenant may own."""


class TenantSpec(Model):
    """What an administrator grants to a business unit."""

    parent: DnsLabel | None = None
    """Tenant that this one is part of; empty for a tenant at the top."""

    weight: Weight = Decimal(1)
    """Claim to the shared ground relative to the other children of the same parent, a decimal of 0 or more. 0 means no
    claim beyond the guarantee: the tenant may borrow idle room, is served last and reclaimed first."""

    guaranteed: ResourceList = Field(default_factory=dict)
    """Room that the tenant gets back on demand, whoever borrows it meanwhile. A guarantee should name every resource
    that the tenant's pods request. Pods marked as not preemptible start only within it."""

    limits: ResourceList = Field(default_factory=dict)
    """Most that the tenant and everything below it may use, however much is idle."""

    pools: Annotated[dict[str, PoolShare], Field(max_length=32)] = Field(default_factory=dict)
    """Guarantee and limits within single node pools, by the pool's name. They hold besides those for the cluster."""

    suspended: Bool = False
    """Starts nothing new; what runs keeps running and keeps counting."""

    paused: Bool = False
    """Stops the operator from changing anything for this tenant."""

    members: Annotated[tuple[Member, ...], Field(max_length=128)] = ()
    """Who may do what in the tenant's namespaces."""

    namespaces: Annotated[tuple[Namespace, ...], Field(max_length=64), Unique()] = ()
    """Namespaces that the tenant owns; the operator makes those that are missing. Only leaves have namespaces."""

    node_pools: Annotated[tuple[DnsLabel, ...], Field(max_length=32), Unique()] = ()
    """Node pools that the tenant may use, as far as those pools admit it; empty for all of them."""

    services: Annotated[tuple[ServiceAllowance, ...], Field(max_length=32), KeyedBy("kind")] | None = None
    """Kinds of services that the tenant, and everything below it, may provision, and how many. Absent: every kind that
    the tenants above it may; an empty list: none."""

    policy: Policy = Field(default_factory=Policy)
    """Bounds on what the tenant's pods may ask for."""

    deletion_policy: Literal["Block", "Cascade"] = "Block"
    """What deleting the tenant does while it still has services: Block waits until they are gone, Cascade deletes them
    first and then the namespaces. Those in which services have left volumes stay."""

    rules: ClassVar[tuple[Rule, ...]] = (
        _GUARANTEE_WITHIN_LIMIT,
        Rule(
            "!has(self.pools) || self.pools.all(p, !format.dns1123Label().validate(p).hasValue())",
            "the keys of pools must be names of node pools: lower-case letters, digits and '-'",
            lambda it: all(map(is_label, it.pools)),
        ),
    )


class NamespaceState(Model):
    """One of the tenant's namespaces as the operator sees it."""

    name: DnsLabel
    """Name of the namespace."""

    phase: Literal["Ready", "Pending", "Taken", "Terminating"]
    """Ready: made and furnished. Pending: not yet. Taken: another tenant has it. Terminating: being deleted."""

    message: Message | None = None
    """What is in the way."""


class EvictionBackoff(Model):
    """A workload of this tenant that was evicted and must wait before it may claim room again."""

    workload: Annotated[str, Field(min_length=1, max_length=317)]
    """Controller UID or PodGroup (namespace/name) of the evicted pods."""

    evictions: Count
    """How often it was evicted."""

    until: Timestamp
    """Earliest time at which it may claim again."""


class Evictions(Model):
    """The tenant's eviction budget and the back-offs in force, kept here to survive a change of leader."""

    window_start: Timestamp | None = None
    """Begin of the hour that `used` counts in."""

    used: Count = 0
    """Pods of this tenant evicted within that hour."""

    backoff: Annotated[tuple[EvictionBackoff, ...], Field(max_length=1024), KeyedBy("workload")] = ()
    """Workloads that must wait."""


Shares = Annotated[dict[str, Ratio], Field(max_length=64)]
"""Resource → fraction of the cluster's total."""


class TenantStatus(Model):
    """What the operator and the scheduler observe; each owns its own fields."""

    observed_generation: Count | None = None
    """Generation that the operator has acted on."""

    namespaces: Annotated[tuple[NamespaceState, ...], Field(max_length=128), KeyedBy("name")] = ()
    """State of the tenant's namespaces (operator)."""

    conditions: Conditions = ()
    """Standing answers: Ready, Valid, Paused, GuaranteeIncomplete, Narrowed; Scheduled: this version is in force."""

    usage: ResourceList = Field(default_factory=dict)
    """What the pods of this tenant, and of all below it, hold (scheduler)."""

    entitlement: ResourceList = Field(default_factory=dict)
    """What the tenant may reclaim from others at the present demand (scheduler)."""

    shares: Shares = Field(default_factory=dict)
    """Usage of each resource as a fraction of the cluster's total (scheduler)."""

    dominant_resource: Annotated[str, Field(max_length=317)] | None = None
    """The resource with the largest share (scheduler)."""

    dominant_share: Ratio | None = None
    """The largest of `shares` (scheduler)."""

    weighted_share: Ratio | None = None
    """The dominant share divided by the weight; the smallest is served next. Absent at weight 0 (scheduler)."""

    running: Count | None = None
    """Pods that run (scheduler)."""

    pending: Count | None = None
    """Pods that wait (scheduler)."""

    evictions: Evictions | None = None
    """Eviction budget and back-offs (scheduler)."""


class Tenant(Resource):
    """A business unit: its share of the cluster, its people and its namespaces."""

    definition: ClassVar[Definition] = Definition(
        kind="Tenant",
        plural="tenants",
        short_names=("tn",),
        scope="Cluster",
        columns=(
            ready_column(),
            Column("Parent", ".spec.parent", "string", "Tenant that this one is part of."),
            Column("Weight", ".spec.weight", "number", "Claim relative to its siblings."),
            Column("Share", ".status.dominantShare", "number", "Largest fraction of any resource that it holds."),
            Column("Of", ".status.dominantResource", "string", "The resource that the share is of."),
            Column("Running", ".status.running", "integer", "Pods that run."),
            Column("Pending", ".status.pending", "integer", "Pods that wait."),
            Column("Suspended", ".spec.suspended", "boolean", "Whether it starts nothing new.", wide=True),
            reason_column(),
            AGE,
        ),
    )

    kind: Literal["Tenant"] = "Tenant"
    """Kind of the object: Tenant."""

    spec: TenantSpec = Field(default_factory=TenantSpec)
    """What an administrator grants to the business unit."""

    status: TenantStatus | None = None
    """What the operator and the scheduler observe."""

    rules: ClassVar[tuple[Rule, ...]] = (
        LABEL_NAME,
        Rule(
            "!has(self.spec.parent) || self.spec.parent != self.metadata.name",
            "a tenant cannot be its own parent: name another one in spec.parent, or remove it",
            lambda it: it.spec.parent is None or it.spec.parent != it.metadata.name,
            field_path=".spec.parent",
        ),
    )
