"""PodGroup: pods that are of use only together.

How it thinks: pods join by the label `allotment.dev/pod-group`. The group starts when `minMember` of its members can
run at once, and is never cut below that by eviction. Members that something else will create later (a Spark driver's
executors) are announced under `expected`: they count as members, and their room is held for them.

Invariants: `expected` members are among the `minMember`. Reservations live in the status, so that a new leader of the
scheduler finds them. A group that was stored when more was allowed is read as if it asked for the most.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, ValidationInfo, model_validator

from allotment_api.conditions import Conditions
from allotment_api.model import STORED, Bool, Count, Int, KeyedBy, Model, Rule, Seconds, Timestamp
from allotment_api.names import (
    DnsLabel,
    DnsName,
    LabelKey,
    Message,
    NodeLabels,
    PriorityClassName,
    ResourceList,
    Tolerations,
)
from allotment_api.resource import AGE, LABEL_NAME, Column, Definition, Resource, reason_column

LONGEST_HELD: Final = 3_600
"""Seconds for which room is held for members that have not come, at most: others wait for it meanwhile."""
MOST_EXPECTED: Final = 10_000
"""Members that may be announced: each of them is looked at like a pod that waits."""

_Members = Annotated[Int, Field(ge=1, le=100_000)]


class ExpectedMember(Model):
    """Members of the group that do not exist yet, all alike."""

    name: DnsLabel
    """Name of this part of the group, such as executor."""

    count: Annotated[Int, Field(ge=1, le=MOST_EXPECTED)]
    """How many pods."""

    requests: ResourceList = Field(default_factory=dict)
    """What one of these pods will request."""

    node_selector: NodeLabels = Field(default_factory=dict)
    """Labels of the nodes that these pods will ask for."""

    tolerations: Tolerations = ()
    """Taints that these pods will tolerate."""


class Topology(Model):
    """Members close together: all in one domain of the nodes."""

    key: LabelKey
    """Label of the nodes whose value names the domain, such as topology.kubernetes.io/zone."""

    mode: Literal["Required", "Preferred"] = "Preferred"
    """Required waits until one domain has room for all; Preferred takes what there is."""


class PodGroupSpec(Model):
    """Which pods belong together, and how they wait."""

    min_member: _Members = 1
    """Members that must run at once, those under `expected` included. Further pods of the group start one by one and
    are the first to go."""

    expected: Annotated[tuple[ExpectedMember, ...], Field(max_length=16), KeyedBy("name")] = ()
    """Members that will be created later by one of the others. They are admitted together with those present."""

    expected_timeout_seconds: Annotated[Int, Field(ge=1, le=LONGEST_HELD)] = 600
    """How long room is held for members that have not come yet, while others of the group run."""

    max_runtime_seconds: Seconds | None = None
    """Runtime after which the group is over. Lets it run on nodes that are reserved for a larger one."""

    priority_class_name: PriorityClassName | None = None
    """PriorityClass of the whole group; absent: the highest of its pods."""

    topology: Topology | None = None
    """Members close together; absent: wherever they fit."""

    paused: Bool = False
    """Keeps the group waiting; what runs keeps running."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.expected) || self.expected.map(e, e.count).sum() <= self.minMember",
            "expected members are among minMember: raise minMember to count them",
            lambda it: sum(e.count for e in it.expected) <= it.min_member,
        ),
        Rule(
            f"!has(self.expected) || self.expected.map(e, e.count).sum() <= {MOST_EXPECTED}",
            f"at most {MOST_EXPECTED} members are announced in all: make it several groups",
            lambda it: sum(e.count for e in it.expected) <= MOST_EXPECTED,
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _bounds_were_wider(cls, data: object, info: ValidationInfo) -> object:
        return _lowered(data) if info.context == STORED and isinstance(data, Mapping) else data


def _lowered(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read a stored spec within the bounds; what is no figure is left to the model."""
    held, expected, least = (spec.get(name) for name in ("expectedTimeoutSeconds", "expected", "minMember"))
    lowered = dict(spec)
    if isinstance(held, int) and held > LONGEST_HELD:
        lowered["expectedTimeoutSeconds"] = LONGEST_HELD
    parts = expected if isinstance(expected, list | tuple) else ()
    counts: list[Any] = [each.get("count") if isinstance(each, Mapping) else None for each in parts]
    if not isinstance(least, int) or not all(isinstance(each, int) for each in counts) or sum(counts) <= MOST_EXPECTED:
        return lowered
    before = [sum(counts[:index]) for index in range(len(counts))]
    kept = [max(0, min(count, MOST_EXPECTED - earlier)) for count, earlier in zip(counts, before, strict=True)]
    lowered["expected"] = [{**each, "count": count} for each, count in zip(parts, kept, strict=True) if count]
    # Those beyond never have room held for them, so the group must not wait for them.
    lowered["minMember"] = least - (sum(counts) - MOST_EXPECTED)
    return lowered


class Hold(Model):
    """Room on one node that is held for members of the group."""

    member: DnsLabel
    """Part of the group: a name under `expected`, or pod for members already present."""

    node: DnsName
    """Node whose room is held."""

    count: Count
    """For how many members."""


class Reservation(Model):
    """Room held for the group across cycles and changes of leader."""

    until: Timestamp
    """When the room is given up."""

    holds: Annotated[tuple[Hold, ...], Field(max_length=1024), KeyedBy("member", "node")] = ()
    """What is held where."""


class PodGroupStatus(Model):
    """What the scheduler observes."""

    observed_generation: Count | None = None
    """Generation that the scheduler has acted on."""

    phase: Literal["Pending", "Reserved", "Starting", "Running", "Degraded", "Finished"] | None = None
    """Pending: waits. Reserved: room is set aside, members are still missing. Starting: being bound. Running: at least
    minMember run. Degraded: some were lost and are being brought back. Finished: all are done."""

    conditions: Conditions = ()
    """Standing answers: Scheduled, with the reason for waiting and what would end it; PriorityBounded, where the tenant
    may not use the priority of its class."""

    members: Count | None = None
    """Members that exist."""

    running: Count | None = None
    """Members that run."""

    finished: Count | None = None
    """Members that are done."""

    reservation: Reservation | None = None
    """Room held for members that do not run yet."""

    message: Message | None = None
    """Why the group waits, in one sentence with numbers."""


class PodGroup(Resource):
    """A gang: pods that start together or not at all."""

    definition: ClassVar[Definition] = Definition(
        kind="PodGroup",
        plural="podgroups",
        short_names=("pg",),
        scope="Namespaced",
        columns=(
            Column("Phase", ".status.phase", "string", "Where the group stands."),
            Column("Min", ".spec.minMember", "integer", "Members that must run at once."),
            Column("Members", ".status.members", "integer", "Members that exist."),
            Column("Running", ".status.running", "integer", "Members that run."),
            reason_column("Scheduled"),
            AGE,
        ),
    )

    kind: Literal["PodGroup"] = "PodGroup"
    """Kind of the object: PodGroup."""

    spec: PodGroupSpec = Field(default_factory=PodGroupSpec)
    """Which pods belong together, and how they wait."""

    status: PodGroupStatus | None = None
    """What the scheduler observes."""

    rules: ClassVar[tuple[Rule, ...]] = (LABEL_NAME,)
