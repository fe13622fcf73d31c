"""What the demo sees of the cluster: one frozen picture, in the terms that its acts are judged by.

Objects as the API server sends them become facts here and nowhere else. A fact holds no more than an act, a check or
the view reads. Everything is pure: the same objects make the same facts.

Units: CPU in thousandths, other resources in bytes or pieces, shares as fractions of the cluster, times in seconds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from allotment_api.labels import COMPONENT_LABEL, INSTANCE_LABEL, KIND_LABEL
from allotment_api.quantities import CPU, GPU, units

Manifest = Mapping[str, Any]
SERVICE_KINDS: Final = (
    "KafkaCluster",
    "KafkaTopic",
    "KafkaUser",
    "CassandraCluster",
    "SparkApplication",
    "JenkinsAgentPool",
)
"""The kinds that the demo provisions, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class TenantFact:
    """A tenant as its status has it; shares are 0 while the scheduler has not written any."""

    name: str
    parent: str
    weight: float
    ready: bool
    share: float = 0.0
    resource: str = ""
    entitlement: Mapping[str, int] = field(default_factory=dict)
    usage: Mapping[str, int] = field(default_factory=dict)
    message: str = ""
    """What its condition Ready says."""


@dataclass(frozen=True, slots=True)
class PodFact:
    """A pod: whose it is, where it stands, and why it waits."""

    namespace: str
    name: str
    uid: str
    phase: str
    node: str
    scheduler: str
    kind: str
    """Kind of what made it: Job, or the kind of a service."""
    owner: str
    """Name of what made it."""
    component: str
    requests: Mapping[str, int]
    reason: str = ""
    message: str = ""
    evicted: bool = False
    leaving: bool = False
    nominated: str = ""
    """Node on which the scheduler is clearing room for it."""

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def holds_room(self) -> bool:
        """Whether it takes room on a node."""
        return bool(self.node) and not self.over

    @property
    def running(self) -> bool:
        """Whether it runs, and nothing has told it to go."""
        return self.phase == "Running" and not self.leaving

    @property
    def waiting(self) -> bool:
        """Whether it waits for a node."""
        return not self.node and not self.over and not self.leaving


@dataclass(frozen=True, slots=True)
class ServiceFact:
    """A service or a part of one, by its resource."""

    kind: str
    namespace: str
    name: str
    ready: bool
    reason: str
    message: str
    state: str = ""
    queued: int = 0
    agents: int = 0

    @property
    def simulated(self) -> bool:
        """Whether its readiness was told by simulated pods instead of the service itself."""
        return self.reason.endswith("Simulated")


@dataclass(frozen=True, slots=True)
class JobFact:
    """A Job of a tenant."""

    namespace: str
    name: str
    parallelism: int
    completions: int
    succeeded: int
    finished: bool


@dataclass(frozen=True, slots=True)
class NodeFact:
    """A node: its pool and what it can hold."""

    name: str
    pool: str
    allocatable: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class History:
    """What passed by and can no longer be seen."""

    starts: int = 0
    """Pods that were given a node."""
    evictions: int = 0
    """Pods that were evicted."""
    most_agents: int = 0
    """Build agents that ran at once."""
    gang_spread: Mapping[str, float] = field(default_factory=dict)
    """Job (namespace/name) → seconds between its first and its last pod's being given a node."""
    highest_share: Mapping[str, float] = field(default_factory=dict)
    """Tenant → largest dominant share seen."""
    violations: tuple[str, ...] = ()
    """What must never happen and did: overcommitted nodes, doubled drivers, surplus pods."""
    restarts: Mapping[str, int] = field(default_factory=dict)
    """Program → how often it had to be started again."""


@dataclass(frozen=True, slots=True)
class Builds:
    """The stand-in controller's builds."""

    waiting: int = 0
    running: int = 0
    finished: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """One picture of the cluster."""

    tenants: Mapping[str, TenantFact] = field(default_factory=dict)
    pods: tuple[PodFact, ...] = ()
    services: Mapping[tuple[str, str, str], ServiceFact] = field(default_factory=dict)
    jobs: Mapping[tuple[str, str], JobFact] = field(default_factory=dict)
    nodes: tuple[NodeFact, ...] = ()
    claims: tuple[tuple[str, str], ...] = ()
    """Namespaces and names of volume claims."""
    refusals: Mapping[str, str] = field(default_factory=dict)
    """What the API server refused, and its words."""
    builds: Builds = Builds()
    history: History = History()

    def service(self, kind: str, namespace: str, name: str) -> ServiceFact | None:
        """The service of that name, None if it does not exist."""
        return self.services.get((kind, namespace, name))

    def of_owner(self, namespace: str, owner: str) -> list[PodFact]:
        """Pods that one Job or service made and that are not over."""
        return [pod for pod in self.pods if pod.namespace == namespace and pod.owner == owner and not pod.over]

    def children(self, parent: str) -> list[TenantFact]:
        """Tenants below another; the top ones below the empty name."""
        return sorted((each for each in self.tenants.values() if each.parent == parent), key=lambda each: each.name)

    def namespaces_of(self, tenant: str) -> frozenset[str]:
        """Namespaces of a tenant and all below it; in the bank a leaf's namespace bears its name."""
        below = self.children(tenant)
        return frozenset({tenant}).union(*(self.namespaces_of(each.name) for each in below))

    def waiting(self, tenant: str) -> list[PodFact]:
        """Pods of a tenant, or below it, that wait."""
        namespaces = self.namespaces_of(tenant)
        return [pod for pod in self.pods if pod.waiting and pod.namespace in namespaces]

    def used(self, resource: str, *, namespace: str = "", pool: str = "") -> int:
        """What pods hold of a resource."""
        pools = {node.name: node.pool for node in self.nodes}
        return sum(
            pod.requests.get(resource, 0)
            for pod in self.pods
            if pod.holds_room and namespace in ("", pod.namespace) and (not pool or pools.get(pod.node) == pool)
        )

    def capacity(self, resource: str, *, pools: Iterable[str] = ()) -> int:
        """What the nodes offer of a resource, all of them or those of some pools."""
        wanted = frozenset(pools)
        return sum(node.allocatable.get(resource, 0) for node in self.nodes if not wanted or node.pool in wanted)


def tenant_fact(manifest: Manifest) -> TenantFact:
    """A Tenant as a fact."""
    spec, status = manifest.get("spec") or {}, manifest.get("status") or {}
    return TenantFact(
        name=manifest["metadata"]["name"],
        parent=spec.get("parent") or "",
        weight=float(spec.get("weight", 1)),
        ready=_condition(status, "Ready").get("status") == "True",
        share=float(status.get("dominantShare") or 0),
        resource=status.get("dominantResource") or "",
        entitlement=_amounts(status.get("entitlement")),
        usage=_amounts(status.get("usage")),
        message=_condition(status, "Ready").get("message", ""),
    )


def pod_fact(manifest: Manifest) -> PodFact:
    """A Pod as a fact."""
    metadata, spec, status = manifest["metadata"], manifest.get("spec") or {}, manifest.get("status") or {}
    labels = metadata.get("labels") or {}
    controller: Manifest = next((each for each in metadata.get("ownerReferences") or () if each.get("controller")), {})
    scheduled = _condition(status, "PodScheduled")
    waits = scheduled.get("status") == "False"
    return PodFact(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        phase=status.get("phase", "Pending"),
        node=spec.get("nodeName", ""),
        scheduler=spec.get("schedulerName", ""),
        kind=labels.get(KIND_LABEL) or controller.get("kind", ""),
        owner=labels.get(INSTANCE_LABEL) or controller.get("name", ""),
        component=labels.get(COMPONENT_LABEL, ""),
        requests=_requests(spec),
        reason=_code(scheduled) if waits else "",
        message=scheduled.get("message", "") if waits else "",
        evicted=_condition(status, "DisruptionTarget").get("status") == "True",
        leaving="deletionTimestamp" in metadata,
        nominated=status.get("nominatedNodeName", ""),
    )


def service_fact(manifest: Manifest) -> ServiceFact:
    """A service's resource as a fact."""
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    ready = _condition(status, "Ready")
    return ServiceFact(
        kind=manifest["kind"],
        namespace=metadata["namespace"],
        name=metadata["name"],
        ready=ready.get("status") == "True",
        reason=ready.get("reason", ""),
        message=ready.get("message", ""),
        state=(status.get("applicationState") or {}).get("state", ""),
        queued=int(status.get("queued") or 0),
        agents=int(status.get("agents") or 0),
    )


def job_fact(manifest: Manifest) -> JobFact:
    """A Job as a fact."""
    spec, status = manifest.get("spec") or {}, manifest.get("status") or {}
    return JobFact(
        namespace=manifest["metadata"]["namespace"],
        name=manifest["metadata"]["name"],
        parallelism=int(spec.get("parallelism") or 1),
        completions=int(spec.get("completions") or 1),
        succeeded=int(status.get("succeeded") or 0),
        finished=any(_condition(status, type_).get("status") == "True" for type_ in ("Complete", "Failed")),
    )


def node_fact(manifest: Manifest) -> NodeFact:
    """A Node as a fact."""
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    pool = (metadata.get("labels") or {}).get("pool", "")
    return NodeFact(metadata["name"], pool, _amounts(status.get("allocatable")))


def _condition(status: Manifest, type_: str) -> Manifest:
    return next((each for each in status.get("conditions") or () if each.get("type") == type_), {})


def _code(scheduled: Manifest) -> str:
    """The scheduler's code, which leads the message: the reason may be Unschedulable, for who reads only that."""
    code, colon, _ = scheduled.get("message", "").partition(": ")
    return str(code if colon else scheduled.get("reason", ""))


def _amounts(resources: Mapping[str, Any] | None) -> dict[str, int]:
    return {name: units(name, amount) for name, amount in (resources or {}).items()}


def _requests(spec: Manifest) -> dict[str, int]:
    """The sum of the containers' requests; the bank's pods have no init containers that ask for more."""
    found: dict[str, int] = {}
    for container in spec.get("containers") or ():
        for name, amount in _amounts((container.get("resources") or {}).get("requests")).items():
            found[name] = found.get(name, 0) + amount
    return found


SHOWN_RESOURCES: Final = (CPU, GPU)
"""Resources that the view and the checks name."""
