"""NodePool: a set of nodes with something in common, and who may use it.

How it thinks: a pool selects nodes by label and changes nothing on them. A node in no pool belongs to the pool
`default`, a node in two pools to the first by name; both pools then carry a condition. What one unit of a resource
costs here, relative to elsewhere, is `cost`.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from allotment_api.conditions import Conditions
from allotment_api.labels import DEFAULT_POOL
from allotment_api.model import Bool, Count, Model, Rule, Unique, Weight
from allotment_api.names import DnsLabel, LabelSelector, ResourceList, Taints, is_resource
from allotment_api.resource import AGE, LABEL_NAME, Column, Definition, Resource, ready_column, reason_column


class NodePoolSpec(Model):
    """Which nodes, for whom, and how they are filled."""

    selector: LabelSelector | None = None
    """Nodes of the pool, by their labels. Required, but for the pool named default: it holds what no other selects."""

    taints: Taints = ()
    """Taints that these nodes carry. Only pods of tenants that may use the pool may tolerate them."""

    placement: Literal["Pack", "Spread"] | None = None
    """Pack fills nodes up so that large pods still fit; Spread levels them. Absent: Pack on nodes with a GPU, Spread on
    the others."""

    cost: Annotated[dict[str, Weight], Field(max_length=32)] = Field(default_factory=dict)
    """Resource → what one unit of it counts here, a decimal of 0 or more; 1 if absent. With cost 0.25 four GPUs of this
    pool weigh as much in a tenant's share as one elsewhere."""

    tenants: Annotated[tuple[DnsLabel, ...], Field(max_length=256), Unique()] = ()
    """Tenants that may use the pool, with all below them; empty for all."""

    paused: Bool = False
    """Starts no new pods on these nodes; what runs keeps running."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.cost) || self.cost.all(k, k.contains('/') ? !format.qualifiedName().validate(k).hasValue() : "
            "k in ['cpu', 'memory', 'ephemeral-storage', 'pods'] || k.startsWith('hugepages-'))",
            "unknown resource in cost: write cpu, memory, or a name with its domain such as nvidia.com/gpu",
            lambda it: all(map(is_resource, it.cost)),
        ),
    )


class NodePoolStatus(Model):
    """What the scheduler observes."""

    observed_generation: Count | None = None
    """Generation that the scheduler has acted on."""

    conditions: Conditions = ()
    """Standing answers: Ready (has ready nodes), Overlapping (shares nodes with another pool), Scheduled (the present
    version is in force)."""

    nodes: Count | None = None
    """Nodes in the pool."""

    ready_nodes: Count | None = None
    """Nodes that are ready and take pods."""

    allocatable: ResourceList = Field(default_factory=dict)
    """What those nodes offer together."""

    usage: ResourceList = Field(default_factory=dict)
    """What the pods on them request."""


class NodePool(Resource):
    """A set of nodes with something in common, and who may use it."""

    definition: ClassVar[Definition] = Definition(
        kind="NodePool",
        plural="nodepools",
        short_names=("np",),
        scope="Cluster",
        columns=(
            ready_column(),
            Column("Nodes", ".status.nodes", "integer", "Nodes in the pool."),
            Column("Up", ".status.readyNodes", "integer", "Nodes that are ready and take pods."),
            Column("CPU", ".status.allocatable.cpu", "string", "CPU that the nodes offer."),
            Column("Memory", ".status.allocatable.memory", "string", "Memory that the nodes offer."),
            Column("GPU", r".status.allocatable.nvidia\.com/gpu", "string", "GPUs that the nodes offer."),
            Column("Placement", ".spec.placement", "string", "How the nodes are filled.", wide=True),
            reason_column(),
            AGE,
        ),
    )

    kind: Literal["NodePool"] = "NodePool"
    """Kind of the object: NodePool."""

    spec: NodePoolSpec
    """Which nodes, for whom, and how they are filled."""

    status: NodePoolStatus | None = None
    """What the scheduler observes."""

    rules: ClassVar[tuple[Rule, ...]] = (
        LABEL_NAME,
        Rule(
            f"has(self.spec.selector) != (self.metadata.name == '{DEFAULT_POOL}')",
            "spec.selector is required, except for the pool named default: that one takes the nodes no other pool "
            "selects, so remove its selector",
            lambda it: (it.spec.selector is not None) != (it.metadata.name == DEFAULT_POOL),
            field_path=".spec.selector",
        ),
    )
