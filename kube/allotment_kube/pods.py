"""Pods as a scheduler reads them: everything that decides where a pod may run, nothing else.

Field meanings are those of core/v1 PodSpec in Kubernetes 1.36. Quantities stay strings here ("250m", "1Gi"): their
arithmetic belongs to `allotment_api.quantities`, and most pods share a few shapes that are worth parsing once.
"""

import msgspec

from .models import Condition, LabelRequirement, LabelSelector, Model, Resourced


class ContainerPort(Model, frozen=True):
    """A port of a container; only host ports matter for placement."""

    container_port: int = 0
    host_port: int = 0
    protocol: str = "TCP"
    host_ip: str = msgspec.field(default="", name="hostIP")


class ContainerClaim(Model, frozen=True):
    """A container's use of one of the pod's resource claims."""

    name: str
    request: str = ""


class Resources(Model, frozen=True):
    """Requests and limits, resource name to quantity."""

    requests: dict[str, str] = msgspec.field(default_factory=dict)
    limits: dict[str, str] = msgspec.field(default_factory=dict)
    claims: tuple[ContainerClaim, ...] = ()


class RestartRule(Model, frozen=True):
    """What to do when a container exits in a certain way."""

    action: str = ""


class Container(Model, frozen=True):
    """A container or init container; an init container with `restart_policy` Always is a sidecar."""

    name: str = ""
    image: str = ""
    resources: Resources = Resources()
    ports: tuple[ContainerPort, ...] = ()
    restart_policy: str = ""
    restart_policy_rules: tuple[RestartRule, ...] = ()


class NodeSelectorTerm(Model, frozen=True):
    """Requirements on a node's labels and fields, all of which must hold."""

    match_expressions: tuple[LabelRequirement, ...] = ()
    match_fields: tuple[LabelRequirement, ...] = ()


class NodeSelector(Model, frozen=True):
    """Alternatives: one term must hold."""

    node_selector_terms: tuple[NodeSelectorTerm, ...] = ()


class PreferredNodeTerm(Model, frozen=True):
    """A wish about nodes with its weight, 1 to 100."""

    weight: int
    preference: NodeSelectorTerm = NodeSelectorTerm()


class NodeAffinity(Model, frozen=True):
    """Which nodes a pod must or would like to run on."""

    required: NodeSelector | None = msgspec.field(default=None, name="requiredDuringSchedulingIgnoredDuringExecution")
    preferred: tuple[PreferredNodeTerm, ...] = msgspec.field(
        default=(), name="preferredDuringSchedulingIgnoredDuringExecution"
    )


class PodAffinityTerm(Model, frozen=True):
    """Pods that this pod wants (not) to share a topology domain with."""

    topology_key: str
    label_selector: LabelSelector | None = None
    namespaces: tuple[str, ...] = ()
    namespace_selector: LabelSelector | None = None
    match_label_keys: tuple[str, ...] = ()
    mismatch_label_keys: tuple[str, ...] = ()


class WeightedPodAffinityTerm(Model, frozen=True):
    """A wish about neighbours with its weight, 1 to 100."""

    weight: int
    pod_affinity_term: PodAffinityTerm


class PodAffinity(Model, frozen=True):
    """Affinity or anti-affinity between pods, required and preferred."""

    required: tuple[PodAffinityTerm, ...] = msgspec.field(
        default=(), name="requiredDuringSchedulingIgnoredDuringExecution"
    )
    preferred: tuple[WeightedPodAffinityTerm, ...] = msgspec.field(
        default=(), name="preferredDuringSchedulingIgnoredDuringExecution"
    )


class Affinity(Model, frozen=True):
    """All affinities of a pod."""

    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None


class Toleration(Model, frozen=True):
    """A taint that a pod puts up with; an empty effect or key matches all."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class TopologySpreadConstraint(Model, frozen=True):
    """How evenly pods must be spread over the domains of a topology key."""

    topology_key: str
    max_skew: int = 1
    when_unsatisfiable: str = "DoNotSchedule"
    label_selector: LabelSelector | None = None
    min_domains: int | None = None
    node_affinity_policy: str = "Honor"
    node_taints_policy: str = "Ignore"
    match_label_keys: tuple[str, ...] = ()


class SchedulingGate(Model, frozen=True):
    """While a pod has one, it must not be scheduled."""

    name: str


class ClaimVolume(Model, frozen=True):
    """A volume backed by a PersistentVolumeClaim."""

    claim_name: str


class EphemeralVolume(Model, frozen=True):
    """A generic ephemeral volume; its claim, which a controller makes of the template, is named `<pod>-<volume>`."""


class Volume(Model, frozen=True):
    """A pod's volume, as far as it restricts placement."""

    name: str
    persistent_volume_claim: ClaimVolume | None = None
    ephemeral: EphemeralVolume | None = None


class PodResourceClaim(Model, frozen=True):
    """A device claim of a pod, by name or from a template."""

    name: str
    resource_claim_name: str = ""
    resource_claim_template_name: str = ""


class SchedulingGroup(Model, frozen=True):
    """The upstream gang (scheduling.k8s.io PodGroup) that a pod names."""

    pod_group_name: str = ""


class PodSpec(Model, frozen=True):
    """What a pod asks for."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    overhead: dict[str, str] = msgspec.field(default_factory=dict)
    resources: Resources | None = None
    priority: int | None = None
    priority_class_name: str = ""
    preemption_policy: str = "PreemptLowerPriority"
    node_name: str = ""
    node_selector: dict[str, str] = msgspec.field(default_factory=dict)
    affinity: Affinity | None = None
    tolerations: tuple[Toleration, ...] = ()
    topology_spread_constraints: tuple[TopologySpreadConstraint, ...] = ()
    scheduling_gates: tuple[SchedulingGate, ...] = ()
    scheduler_name: str = "default-scheduler"
    scheduling_group: SchedulingGroup | None = None
    volumes: tuple[Volume, ...] = ()
    resource_claims: tuple[PodResourceClaim, ...] = ()
    host_network: bool = False
    host_users: bool | None = None
    restart_policy: str = "Always"
    termination_grace_period_seconds: int | None = None
    active_deadline_seconds: int | None = None


class PodClaimStatus(Model, frozen=True):
    """The generated ResourceClaim's name for a claim made from a template."""

    name: str
    resource_claim_name: str = ""


class ContainerStatus(Model, frozen=True):
    """What a kubelet says of a container's size: what it has, and what it was promised (in-place resize)."""

    name: str
    resources: Resources | None = None
    allocated_resources: dict[str, str] = msgspec.field(default_factory=dict)


class PodStatus(Model, frozen=True):
    """Where a pod is in its life. `resources` and `allocated_resources` are the pod's own, in resizing."""

    phase: str = "Pending"
    reason: str = ""
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    resources: Resources | None = None
    allocated_resources: dict[str, str] = msgspec.field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()
    start_time: str | None = None
    nominated_node_name: str = ""
    resource_claim_statuses: tuple[PodClaimStatus, ...] = ()


class Pod(Resourced, frozen=True):
    """core/v1 Pod."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()
