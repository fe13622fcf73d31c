"""What the data services have in common: where they run, what they request, what they report.

How it thinks: a service's pods are long-lived and hold data, so they are not preemptible unless the owner says so,
they spread over zones, and they never share a node by default. Amounts follow pods: `requests` and `limits` as in any
container; what is left out of `limits` has a rule of its own, written at the field.

Invariants: storage only grows, its class never changes. Every status has the same head, so that one column set, one
`kubectl wait` and one program read them all.
"""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, PlainValidator

from allotment_api.conditions import Conditions
from allotment_api.model import Bool, Count, KeyedBy, MaxText, Model, Rule, Timestamp, Unique
from allotment_api.names import DnsLabel, DnsName, Image, LabelKey, Message, PriorityClassName, ResourceList, within
from allotment_api.quantities import CPU, MEMORY, Quantity, quantity
from allotment_api.resource import AGE, Column, ready_column, reason_column

_LONGEST_VALUE: Final = 1024
_SMALLEST_DISK: Final = quantity("1Gi")


def _scalar(written: object) -> object:
    if isinstance(written, bool) or not isinstance(written, int | str):
        raise ValueError(f"{written!r} must be text: put it in quotes")  # noqa: TRY004 - pydantic collects only ValueError
    if len(str(written)) > _LONGEST_VALUE:
        raise ValueError(f"is too long: write {_LONGEST_VALUE} or fewer characters")
    return written


Config = Annotated[
    dict[str, Annotated[int | str, MaxText(_LONGEST_VALUE), PlainValidator(_scalar)]], Field(max_length=128)
]
"""Settings of the service itself, by their own names. Values are text or whole numbers; quote true and false."""


class Resources(Model):
    """What one pod requests, and what it may use at most."""

    requests: ResourceList = Field(default_factory=lambda: {CPU: quantity("1"), MEMORY: quantity("4Gi")})
    """What the pod is placed by and what counts in the tenant's share. Must name cpu and memory."""

    limits: ResourceList = Field(default_factory=dict)
    """Most that the pod may use. Where memory is left out its limit is its request; where cpu is, there is none."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.requests) || ('cpu' in self.requests && 'memory' in self.requests)",
            "requests must name cpu and memory: add the missing one, the service is sized by them",
            lambda it: CPU in it.requests and MEMORY in it.requests,
        ),
        within(
            "requests",
            "limits",
            "requests must not exceed limits: raise the limit or lower the request of that resource",
        ),
    )


class Storage(Model):
    """The disk of each pod."""

    size: Annotated[
        Quantity,
        Rule(
            "!isQuantity(string(self)) || quantity(string(self)).compareTo(quantity('1Gi')) >= 0",
            "must be 1Gi or more",
            lambda size: size >= _SMALLEST_DISK,
        ),
        Rule(
            "!isQuantity(string(self)) || quantity(string(self)).compareTo(quantity(string(oldSelf))) >= 0",
            "storage cannot shrink: keep the size or write a larger one",
        ),
    ] = Field(default=quantity("100Gi"))
    """Size of the volume. It can grow, never shrink."""

    storage_class: DnsName | None = None
    """StorageClass of the volume; absent: the cluster's default. Cannot change."""

    deletion_policy: Literal["Retain", "Delete"] = "Retain"
    """What becomes of the volumes when the service is deleted."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.storageClass) == has(oldSelf.storageClass) && "
            "(!has(self.storageClass) || self.storageClass == oldSelf.storageClass)",
            "storageClass cannot change: volumes stay where they are; restore the old value",
        ),
    )


class Placement(Model):
    """Which nodes the pods run on, and how far apart."""

    node_pool: DnsLabel | None = None
    """Node pool to run in, with its taints tolerated. Absent: any that the tenant may use, but tainted ones only if the
    pods request a device, or if there are no others."""

    topology_key: LabelKey = "topology.kubernetes.io/zone"
    """Label of the nodes that names the rack or zone. Pods spread evenly over its values."""

    share_nodes: Bool = False
    """Whether two of these pods may run on one node. Then one node's loss takes both."""


class Jvm(Model):
    """Settings of the Java virtual machine."""

    heap_size: Quantity | None = None
    """Size of the heap; absent: half of the memory request."""

    options: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=256)], ...], Field(max_length=64)] = ()
    """Further options, such as -XX:MaxGCPauseMillis=100."""


class ServiceSpec(Model):
    """Fields that every service has."""

    paused: Bool = False
    """Stops the operator from changing anything for this service; what runs keeps running."""

    image: Image | None = None
    """Container image; absent: the official one of the version asked for, on docker.io. The Tenant's
    policy.allowedRegistries, where it has any, must admit either."""

    image_pull_secrets: Annotated[tuple[DnsName, ...], Field(max_length=16), Unique()] = ()
    """Names of the Secrets, in the same namespace, that the image is pulled with."""

    priority_class_name: PriorityClassName | None = None
    """PriorityClass of the pods. It orders this tenant's own pods only."""


class Endpoint(Model):
    """Where clients connect."""

    name: DnsLabel
    """Name of the listener or port."""

    address: Annotated[str, Field(max_length=4096)]
    """Host and port, or several separated by commas, in the form that clients take."""

    protocol: Annotated[str, Field(max_length=64)] | None = None
    """Protocol to speak, such as SASL_SSL or https."""


class Binding(Model):
    """The Secret that a workload binds to, as the Service Binding specification has it."""

    name: DnsName
    """Name of the Secret, in the same namespace, with the keys type, host, port and what the service needs besides."""


StepState = Literal["Pending", "InProgress", "Waiting", "Blocked", "Complete"]
"""Pending: not begun. InProgress: being done. Waiting: for something that comes by itself. Blocked: for somebody."""


class Step(Model):
    """One step of a plan."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    """What is done, and to what."""

    state: StepState
    """How far it is."""

    message: Message | None = None
    """What it waits for, with numbers."""

    changed_at: Timestamp | None = None
    """When the state last changed."""


class Phase(Model):
    """Steps of a plan that belong together."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    """What the steps achieve together."""

    state: StepState
    """How far they are."""

    steps: Annotated[tuple[Step, ...], Field(max_length=256), KeyedBy("name")] = ()
    """Steps, in order."""


class Plan(Model):
    """Work in progress on a service, kept here so that a restarted operator resumes it."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    """What the plan is for, such as deploy."""

    generation: Count
    """Generation of the spec that the plan leads to."""

    state: StepState
    """How far it is."""

    started_at: Timestamp | None = None
    """When it began."""

    phases: Annotated[tuple[Phase, ...], Field(max_length=32), KeyedBy("name")] = ()
    """Phases, in order."""


class ServiceStatus(Model):
    """Fields that every service reports."""

    observed_generation: Count | None = None
    """Generation that the operator has acted on."""

    phase: (
        Literal["Pending", "Deploying", "Running", "Updating", "Scaling", "Degraded", "Paused", "Deleting", "Failed"]
        | None
    ) = None
    """Where the service stands, in one word; the conditions say more."""

    conditions: Conditions = ()
    """Standing answers: Ready, Progressing, Degraded, Paused. Ready is false whenever a client could not use it."""

    version: Annotated[str, Field(max_length=64)] | None = None
    """Version that runs."""

    endpoints: Annotated[tuple[Endpoint, ...], Field(max_length=32), KeyedBy("name")] = ()
    """Where clients connect."""

    binding: Binding | None = None
    """Secret with everything that a client needs."""

    plan: Plan | None = None
    """Work in progress."""


class ReplicatedStatus(ServiceStatus):
    """Fields that every service of several pods reports."""

    replicas: Count | None = None
    """Pods that exist."""

    ready_replicas: Count | None = None
    """Pods that serve."""

    selector: Annotated[str, Field(max_length=1024)] | None = None
    """Label selector of the pods, as text, for autoscalers."""


def service_columns(wanted: Column, *further: Column) -> tuple[Column, ...]:
    """Columns of a replicated service: is it well, how big, which version, and why."""
    return (
        ready_column(),
        Column("Phase", ".status.phase", "string", "Where the service stands."),
        wanted,
        Column("Up", ".status.readyReplicas", "integer", "Pods that serve."),
        Column("Version", ".spec.version", "string", "Version asked for."),
        *further,
        reason_column(),
        AGE,
    )
