"""Kinds around pods: Jobs, disruption budgets, priority classes and Leases."""

from .models import Condition, LabelSelector, Model, Resourced


class FailedPodCondition(Model, frozen=True):
    """A condition of a failed pod that a rule is about."""

    type: str
    status: str = "True"


class PodFailureRule(Model, frozen=True):
    """What a failed pod means for its Job: `action` is Ignore, Count, FailJob or FailIndex."""

    action: str
    on_pod_conditions: tuple[FailedPodCondition, ...] = ()


class PodFailurePolicy(Model, frozen=True):
    """Rules of which the first that matches decides."""

    rules: tuple[PodFailureRule, ...] = ()


class JobSpec(Model, frozen=True):
    """A Job's size. None of `parallelism` means 1; None of `completions` a work queue."""

    parallelism: int | None = None
    completions: int | None = None
    suspend: bool | None = None
    backoff_limit: int | None = None
    backoff_limit_per_index: int | None = None
    active_deadline_seconds: int | None = None
    selector: LabelSelector | None = None
    pod_failure_policy: PodFailurePolicy | None = None


class JobStatus(Model, frozen=True):
    """A Job's progress, in pods; `failed_indexes` are those that have failed for good, such as `1,3-5`."""

    active: int = 0
    ready: int | None = None
    succeeded: int = 0
    failed: int = 0
    failed_indexes: str = ""
    terminating: int | None = None
    conditions: tuple[Condition, ...] = ()
    start_time: str | None = None
    completion_time: str | None = None


class Job(Resourced, frozen=True):
    """batch/v1 Job."""

    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()


class DisruptionBudgetSpec(Model, frozen=True):
    """How many pods must stay, as a number or a percentage. A missing selector matches nothing."""

    selector: LabelSelector | None = None
    min_available: int | str | None = None
    max_unavailable: int | str | None = None
    unhealthy_pod_eviction_policy: str | None = None


class DisruptionBudgetStatus(Model, frozen=True):
    """What the disruption controller allows now; valid only while `observed_generation` is the current one."""

    disruptions_allowed: int = 0
    current_healthy: int = 0
    desired_healthy: int = 0
    expected_pods: int = 0
    observed_generation: int = 0
    disrupted_pods: dict[str, str] | None = None


class PodDisruptionBudget(Resourced, frozen=True):
    """policy/v1 PodDisruptionBudget."""

    spec: DisruptionBudgetSpec = DisruptionBudgetSpec()
    status: DisruptionBudgetStatus = DisruptionBudgetStatus()


class PriorityClass(Resourced, frozen=True):
    """scheduling.k8s.io/v1 PriorityClass."""

    value: int = 0
    global_default: bool = False
    preemption_policy: str = "PreemptLowerPriority"
    description: str = ""


class LeaseSpec(Model, frozen=True):
    """Who holds a lease and since when; times are RFC 3339 with microseconds, by the holder's wall clock."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class LeaseObject(Resourced, frozen=True):
    """coordination.k8s.io/v1 Lease."""

    spec: LeaseSpec = LeaseSpec()


class GangPolicy(Model, frozen=True):
    """All or nothing: so many pods at once."""

    min_count: int = 1


class GroupPolicy(Model, frozen=True):
    """How a group's pods are placed: together, or (`basic`) each for itself."""

    gang: GangPolicy | None = None


class GroupTopology(Model, frozen=True):
    """The node label in one of whose domains all pods of a group must be."""

    key: str


class GroupConstraints(Model, frozen=True):
    """Where a group's pods may be, as a whole."""

    topology: tuple[GroupTopology, ...] = ()


class SchedulingPodGroupSpec(Model, frozen=True):
    """What a group asks for."""

    scheduling_policy: GroupPolicy = GroupPolicy()
    scheduling_constraints: GroupConstraints = GroupConstraints()
    priority: int | None = None


class SchedulingPodGroup(Resourced, frozen=True):
    """scheduling.k8s.io PodGroup (KEP-4671, KEP-5832; alpha in 1.36): what `spec.schedulingGroup` of a pod names."""

    spec: SchedulingPodGroupSpec = SchedulingPodGroupSpec()
