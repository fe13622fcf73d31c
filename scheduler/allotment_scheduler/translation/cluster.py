"""The ground and its order: nodes, pools, tenants, namespaces, gangs, disruption budgets."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal

from allotment_api.labels import GANG_LABEL, TENANT_LABEL
from allotment_api.node_pool import NodePool
from allotment_api.pod_group import ExpectedMember as ApiExpectedMember
from allotment_api.pod_group import PodGroup
from allotment_api.quantities import total
from allotment_api.tenant import Tenant
from allotment_api.tenant import TenantSpec as ApiTenantSpec
from allotment_kube.nodes import Namespace, Node
from allotment_kube.storage import CSINode
from allotment_kube.workloads import Job, PodDisruptionBudget, SchedulingPodGroup
from allotment_scheduler.core.objects.events import BudgetSpec, NamespaceSeen
from allotment_scheduler.core.objects.nodes import NodeSpec, PoolSpec
from allotment_scheduler.core.objects.pods import PodSpec, SchedulingSpec
from allotment_scheduler.core.objects.selectors import LabelSelector, Requirement, Toleration
from allotment_scheduler.core.objects.tenants import Bounds, TenantSpec
from allotment_scheduler.core.objects.units import ExpectedMember, GroupSpec
from allotment_scheduler.translation.pods import scheduling_group_name
from allotment_scheduler.translation.requests import MOST
from allotment_scheduler.translation.scalars import amounts, seconds
from allotment_scheduler.translation.selectors import label_selector, requirements_of, taints

_DEFAULT_BACKOFF_LIMIT = 6
"""Failures that a Job bears where it does not say, as the API server fills in."""

NOTHING = LabelSelector((Requirement("", "Exists"), Requirement("", "DoesNotExist")))
"""What a budget without a selector selects, said by requirements that exclude each other."""


def node_spec(node: Node, csi: CSINode | None = None) -> NodeSpec:
    """A node; without a Ready condition (as in hand-written manifests) it is taken to be ready."""
    ready = next((each.status for each in node.status.conditions if each.type == "Ready"), "True")
    drivers = (csi.spec.drivers or ()) if csi else ()
    return NodeSpec(
        name=node.metadata.name,
        allocatable=amounts(node.status.allocatable or node.status.capacity),
        labels=node.metadata.labels,
        taints=taints(node.spec.taints),
        unschedulable=node.spec.unschedulable,
        ready=ready == "True" and node.metadata.deletion_timestamp is None,
        volume_limits={
            each.name: each.allocatable.count
            for each in drivers
            if each.allocatable is not None and each.allocatable.count is not None
        },
        features=tuple(sorted(node.status.declared_features or ())),
    )


def pool_spec(pool: NodePool) -> PoolSpec:
    """A node pool."""
    selector = pool.spec.selector
    return PoolSpec(
        name=pool.metadata.name,
        # Only the pool `default` has none: it takes the nodes that no other pool selects.
        selector=_api_selector(selector.manifest()) if selector is not None else NOTHING,
        placement=pool.spec.placement,
        cost={name: Fraction(weight) for name, weight in pool.spec.cost.items()},
        tenants=pool.spec.tenants,
        paused=pool.spec.paused,
    )


def tenant_spec(tenant: Tenant) -> TenantSpec:
    """A tenant."""
    spec, created = tenant.spec, tenant.metadata.creation_timestamp
    return TenantSpec(
        name=tenant.metadata.name,
        parent=spec.parent or "",
        weight=Fraction(spec.weight),
        guaranteed=Bounds(total(spec.guaranteed), _by_pool(spec, "guaranteed")),
        limits=Bounds(total(spec.limits), _by_pool(spec, "limits")),
        suspended=spec.suspended,
        namespaces=spec.namespaces,
        node_pools=spec.node_pools,
        default_runtime=spec.policy.default_runtime_seconds,
        created=created.timestamp() if created else None,
        highest_priority=spec.policy.max_priority,
        leaving=tenant.metadata.deletion_timestamp is not None,
    )


def _by_pool(spec: ApiTenantSpec, field: Literal["guaranteed", "limits"]) -> dict[str, dict[str, int]]:
    amounts_of = {name: getattr(pool, field) for name, pool in spec.pools.items()}
    return {name: total(listed) for name, listed in amounts_of.items() if listed}


def namespace_seen(namespace: Namespace) -> NamespaceSeen:
    """A namespace with its labels and its tenant."""
    labels = namespace.metadata.labels
    return NamespaceSeen(namespace.metadata.name, labels, labels.get(TENANT_LABEL))


def group_spec(group: PodGroup, *, priority: int | None = None) -> GroupSpec:
    """A PodGroup; `priority` is the value of its priority class."""
    spec = group.spec
    namespace = group.metadata.namespace or "default"
    created = group.metadata.creation_timestamp
    return GroupSpec(
        namespace=namespace,
        name=group.metadata.name,
        min_member=spec.min_member,
        expected=tuple(expected_member(namespace, group.metadata.name, each) for each in spec.expected),
        expected_timeout=float(spec.expected_timeout_seconds),
        max_runtime=float(spec.max_runtime_seconds) if spec.max_runtime_seconds else None,
        priority=priority,
        topology_key=spec.topology.key if spec.topology else None,
        topology_required=spec.topology is not None and spec.topology.mode == "Required",
        created=created.timestamp() if created else None,
        paused=spec.paused,
    )


def scheduling_group_spec(group: SchedulingPodGroup) -> GroupSpec:
    """The gang that a PodGroup of scheduling.k8s.io is; with the policy `basic` its pods start one by one."""
    spec, topology = group.spec, group.spec.scheduling_constraints.topology
    gang = spec.scheduling_policy.gang
    return GroupSpec(
        namespace=group.metadata.namespace or "default",
        name=scheduling_group_name(group.metadata.name),
        min_member=max(1, gang.min_count) if gang is not None else 1,
        priority=spec.priority,
        topology_key=topology[0].key if topology else None,
        topology_required=bool(topology),
        created=seconds(group.metadata.creation_timestamp) or None,
    )


def expected_member(namespace: str, group: str, member: ApiExpectedMember) -> ExpectedMember:
    """Members that are announced, with what each of them will need, bounded as the requests of pods are."""
    requests = {name: min(amount, MOST) for name, amount in total(member.requests).items()}
    scheduling = SchedulingSpec(
        requests=tuple(sorted(requests.items())),
        node_selector=tuple(sorted(member.node_selector.items())),
        tolerations=tuple(
            Toleration(it.key or "", it.operator, it.value or "", it.effect or "") for it in member.tolerations
        ),
    )
    template = PodSpec(namespace, f"{group}/{member.name}", scheduling, group=group)
    return ExpectedMember(member.name, member.count, template)


def gang_of_job(job: Job) -> GroupSpec | None:
    """The gang that a Job with the gang label is: as many as may still run at once; None where it is none."""
    if job.metadata.labels.get(GANG_LABEL) != "true":
        return None
    spec, status = job.spec, job.status
    at_once = pods_at_once(spec.parallelism, spec.completions, status.succeeded, status.failed_indexes)
    return GroupSpec(
        namespace=job.metadata.namespace or "default",
        name=gang_name(job.metadata.name),
        min_member=max(1, at_once),
        max_runtime=float(job.spec.active_deadline_seconds) if job.spec.active_deadline_seconds else None,
        created=seconds(job.metadata.creation_timestamp) or None,
        counts_down=True,
    )


def pods_at_once(parallelism: int | None, completions: int | None, succeeded: int, failed_indexes: str = "") -> int:
    """How many pods of a Job may run at once from now on, 0 where its controller makes no more.

    A work queue gets no pod any more once one has succeeded, and an index that has failed for good (KEP-3850) none.

    Args:
        parallelism: of its spec; None means 1.
        completions: of its spec; None means a work queue.
        succeeded: pods, of its status.
        failed_indexes: of its status, such as `1,3-5`.

    Raises:
        ValueError: the failed indexes are no such list.
    """
    most = 1 if parallelism is None else parallelism
    if completions is None:
        return 0 if succeeded else most
    ranges = [each.partition("-") for each in failed_indexes.split(",") if each]
    failed = sum(int(last or first) - int(first) + 1 for first, _, last in ranges)
    return max(0, min(most, completions - succeeded - failed))


def dies_of_eviction(job: Job) -> bool:
    """Whether losing all its pods at once to evictions would fail the Job: they count as failures, and are too many.

    Where failures are counted by index (KEP-3850), one index that fails for good fails the Job, and which index failed
    how often the Job does not say: it counts as fragile once its failures might all have been of one.
    """
    policy = job.spec.pod_failure_policy
    for rule in policy.rules if policy else ():
        if any(each.type == "DisruptionTarget" and each.status == "True" for each in rule.on_pod_conditions):
            if rule.action == "Count":
                break
            return rule.action != "Ignore"
    if job.spec.backoff_limit_per_index is not None:
        return job.status.failed >= job.spec.backoff_limit_per_index
    tolerated = _DEFAULT_BACKOFF_LIMIT if job.spec.backoff_limit is None else job.spec.backoff_limit
    parallelism = 1 if job.spec.parallelism is None else job.spec.parallelism
    return job.status.failed + parallelism > tolerated


def gang_name(job: str) -> str:
    """The group that a Job's pods are members of; the slash keeps it apart from every PodGroup's name."""
    return f"job/{job}"


def budget_spec(budget: PodDisruptionBudget) -> BudgetSpec:
    """A disruption budget; what the controller allows counts only if it has seen the present spec."""
    metadata, spec, status = budget.metadata, budget.spec, budget.status
    selector = label_selector(spec.selector)
    current = status.observed_generation and status.observed_generation >= metadata.generation
    return BudgetSpec(
        namespace=metadata.namespace or "default",
        name=metadata.name,
        selector=NOTHING if selector is None else selector,
        allowed=status.disruptions_allowed if current else None,
        min_available=spec.min_available,
        max_unavailable=spec.max_unavailable,
    )


def _api_selector(selector: Mapping[str, Any]) -> LabelSelector:
    expressions = tuple(
        Requirement(each["key"], each["operator"], tuple(each.get("values", ())))
        for each in selector.get("matchExpressions", ())
    )
    return LabelSelector(requirements_of(selector.get("matchLabels", {})) + expressions)
