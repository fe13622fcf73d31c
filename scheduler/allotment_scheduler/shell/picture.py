"""The picture of the cluster: what the watches tell, turned into events for the core.

Watches know no order among each other, so what belongs together is put together here, whichever comes first: a Job's
pods wait until their Job is known (it decides whether they are a gang), nodes are told again when their CSI limits
change, PodGroups when their priority class does.

The picture also knows what the API server does not know yet: pods we have decided to start (`starts`) are shown to the
core on their node whatever a late watch says, pods we are evicting as leaving, pods in quarantine as gated.

A Tenant, NodePool or PodGroup that cannot be understood keeps its last good version; `problems` says what is wrong
with it. What is told twice unchanged is told to the core once.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

from msgspec.structs import replace

from allotment_api.errors import InvalidManifestError
from allotment_api.node_pool import NodePool
from allotment_api.pod_group import PodGroup
from allotment_api.quantities import QuantityError
from allotment_api.tenant import Evictions, Tenant
from allotment_kube import pods as kube
from allotment_kube.devices import DeviceClass, ResourceClaim, ResourceSlice
from allotment_kube.models import Object
from allotment_kube.nodes import Namespace, Node
from allotment_kube.storage import CSINode, PersistentVolume, PersistentVolumeClaim, StorageClass
from allotment_kube.workloads import Job, PodDisruptionBudget, PriorityClass, SchedulingPodGroup
from allotment_scheduler.core import events as ev
from allotment_scheduler.core.nodes import NodeSpec
from allotment_scheduler.core.pods import PodKey, PodSpec
from allotment_scheduler.core.state import ClusterState
from allotment_scheduler.translation import cluster, storage
from allotment_scheduler.translation.bindings import bound_spec
from allotment_scheduler.translation.devices import Devices, claims_of_devices, holding
from allotment_scheduler.translation.pods import has_finished, pod_gone, pod_spec, scheduling_group_name
from allotment_scheduler.translation.scalars import seconds

Key = tuple[str, str]
K = TypeVar("K")
V = TypeVar("V")


class Decided(Protocol):
    """What we have decided about pods and the API server does not show yet."""

    def node_of(self, key: PodKey, uid: str) -> str | None:
        """The node on which this pod's start is under way."""

    def is_leaving(self, key: PodKey, uid: str) -> bool:
        """Whether we have evicted this pod."""

    def quarantined(self, key: PodKey, uid: str) -> bool:
        """Whether this pod is set aside after refusals."""

    def seen_bound(self, key: PodKey, uid: str, node: str) -> None:
        """The watch shows this pod on a node."""

    def seen_gone(self, key: PodKey) -> None:
        """The pod of this name has finished or is gone."""


class Said(NamedTuple):
    """What a waiting pod's condition PodScheduled says."""

    uid: str
    code: str
    message: str
    at: float


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an object's present version is not in force."""

    kind: str
    key: Key
    message: str
    generation: int


class Gate(NamedTuple):
    """Why a pod is kept out of the queues: a code of `core.explain` or `OwnerGone`, and a sentence."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class _KnownJob:
    gang: str | None
    fragile: bool


@dataclass(slots=True)
class _Gates:
    """Why pods are kept out of the queues, apart from quarantine."""

    own: set[PodKey] = field(default_factory=set)
    """They have scheduling gates."""
    jobless: dict[str, set[PodKey]] = field(default_factory=dict)
    """Their Job, by uid, is not known yet."""
    adopted: set[str] = field(default_factory=set)
    """Jobs, by uid, that have been waited for in vain: their pods are pods like any other."""
    ended: set[str] = field(default_factory=set)
    """Jobs, by uid, that are gone or going while pods of theirs are still there."""


class Picture:
    """Feeds one `ClusterState`.

    Args:
        state: the core's state.
        decided: our own decisions that are under way.
        changed: called after anything that may let somebody start.
        doubt: called when taking something in has failed half way.
    """

    def __init__(
        self,
        state: ClusterState,
        decided: Decided,
        changed: Callable[[], None],
        doubt: Callable[[], None] = lambda: None,
    ) -> None:
        self.state = state
        self.problems: dict[tuple[str, Key], Problem] = {}
        self.invalid_pods: dict[PodKey, str] = {}
        """Pods of ours that cannot be understood, with the reason."""
        self.generations: dict[tuple[str, Key], int] = {}
        """Of every Tenant, NodePool and PodGroup: the generation in force."""
        self.evictions: dict[str, Evictions | None] = {}
        """What each tenant's status says of evictions: for whoever takes over, a predecessor's memory."""
        self.seats: dict[PodKey, str] = {}
        """Every bound pod's node, as the watch shows it."""
        self._decided = decided
        self._changed = changed
        self._doubt = doubt
        self._jobs: dict[str, _KnownJob] = {}
        self._job_keys: dict[Key, str] = {}
        self._job_pods: dict[str, set[PodKey]] = {}
        self._gates = _Gates()
        self._said: dict[PodKey, Said] = {}
        self._read: dict[PodKey, int] = {}
        """Every waiting pod of ours: the generation in which it was last translated."""
        self._groups: dict[Key, PodGroup] = {}
        self._priorities: dict[str, int] = {}
        self._nodes: dict[str, NodeSpec] = {}
        self._raw_nodes: dict[str, Node] = {}
        self._csi: dict[str, CSINode] = {}
        self.devices = Devices()
        """What ResourceSlices offer and ResourceClaims ask for."""
        self.claimants: dict[PodKey, kube.Pod] = {}
        """Every pod with ResourceClaims, as the watch shows it."""
        self._offers_stale = False

    # --- pods ---------------------------------------------------------------------------------------------------

    def pod(self, key: Key, pod: kube.Pod) -> None:
        """A pod exists and looks like this."""
        if has_finished(pod):
            self.pod_gone(key, finished=pod)
            return
        uid = pod.metadata.uid
        known = self.state.pods.get(key)
        if known is not None and known.spec.uid != uid:
            self.pod_gone(key)  # another pod of the same name has taken its place
        if pod.spec.resource_claims:
            self.claimants[key] = pod
        try:
            spec = self._bound(key, pod) or self._translated(pod)
        except QuantityError as error:
            self.pod_gone(key)
            self.invalid_pods[key] = str(error)
            return
        self.invalid_pods.pop(key, None)
        if spec.node is not None:
            self.seats[key] = spec.node
            self._said.pop(key, None)
            self._decided.seen_bound(key, uid, spec.node)
            if not spec.deleting and self._decided.is_leaving(key, uid):
                spec = replace(spec, deleting=True)
        elif spec.ours:
            self._read[key] = pod.metadata.generation
            self._listen(key, pod)
            spec = self._undecided(key, spec)
        self._apply(ev.PodSeen(spec))

    def pod_gone(self, key: Key, *, finished: kube.Pod | None = None) -> None:
        """A pod has finished or is gone."""
        event = ev.PodGone(key) if finished is None else pod_gone(finished)
        self.invalid_pods.pop(key, None)
        self.seats.pop(key, None)
        self._gates.own.discard(key)
        self.claimants.pop(key, None)
        self._said.pop(key, None)
        self._read.pop(key, None)
        known = self.state.pods.get(key)
        if known is None:
            if event.succeeded and event.group is not None:
                self._apply(event)  # a gang's member that was done before we came
            return
        owner = known.spec.owner
        for index in (self._job_pods, self._gates.jobless):
            if owner in index:
                index[owner].discard(key)
                if not index[owner]:
                    del index[owner]
        if owner and owner not in self._job_pods:
            self._gates.adopted.discard(owner)
            self._gates.ended.discard(owner)
        self._apply(event)
        self._decided.seen_gone(key)

    def said(self, key: PodKey) -> Said | None:
        """What a waiting pod's condition says, as the watch showed it."""
        return self._said.get(key)

    def _listen(self, key: PodKey, pod: kube.Pod) -> None:
        for each in pod.status.conditions:
            if each.type == "PodScheduled" and each.status == "False":
                at = seconds(each.last_transition_time)
                self._said[key] = Said(pod.metadata.uid, each.message.partition(":")[0], each.message, at)

    def reconsider(self, key: PodKey) -> None:
        """Show a waiting pod to the core anew: its quarantine or its gates have changed."""
        pod = self.state.pods.get(key)
        if pod is not None and pod.node is None and pod.spec.ours:
            self._apply(ev.PodSeen(replace(pod.spec, gated=self._gated(key, pod.spec))))

    def gate(self, key: PodKey) -> Gate | None:
        """Why a pod is kept out of the queues; None where it is not, or by its own gates only."""
        pod = self.state.pods.get(key)
        if pod is None:
            return None
        if pod.spec.owner in self._gates.ended:
            return Gate("OwnerGone", "its Job is deleted: the garbage collector takes this pod away")
        if key in self._gates.jobless.get(pod.spec.owner, ()):
            return Gate("GangIncomplete", "its Job is not known yet")
        return None

    def has_own_gates(self, key: PodKey) -> bool:
        """Whether the pod has scheduling gates."""
        return key in self._gates.own

    def _bound(self, key: Key, pod: kube.Pod) -> PodSpec | None:
        """A pod that waited and is bound now, by the short way; None where there is none."""
        if not pod.spec.node_name or key not in self._read:
            return None
        generation, known = self._read.pop(key), self.state.pods.get(key)
        if known is None or not generation or generation != pod.metadata.generation:
            return None
        if known.spec.owner_kind == "Job" and known.spec.owner not in self._jobs:
            return None  # what its Job made of it may have changed
        return bound_spec(known.spec, pod)

    def _translated(self, pod: kube.Pod) -> PodSpec:
        controller = pod.metadata.controller
        if controller is None or controller.kind != "Job":
            return pod_spec(pod, devices=self.devices)
        job = self._jobs.get(controller.uid)
        if job is None:
            return pod_spec(pod, devices=self.devices)
        return pod_spec(pod, gang=job.gang, fragile=job.fragile, devices=self.devices)

    def _undecided(self, key: Key, spec: PodSpec) -> PodSpec:
        """A pod of ours that the API server shows unbound: what we know better about it."""
        if spec.gated:
            self._gates.own.add(key)
        else:
            self._gates.own.discard(key)
        if spec.owner_kind == "Job":
            self._job_pods.setdefault(spec.owner, set()).add(key)
            known = spec.owner in self._jobs or spec.owner in self._gates.adopted or spec.owner in self._gates.ended
            if not known and not spec.deleting:
                self._gates.jobless.setdefault(spec.owner, set()).add(key)
        node = self._decided.node_of(key, spec.uid)
        if node is not None and not spec.deleting:
            decided = self.state.pods.get(key)
            if decided is not None and decided.node == node:  # what was decided on stays, also while claims are written
                return replace(spec, node=node, scheduling=decided.spec.scheduling)
            return replace(spec, node=node)
        return replace(spec, gated=self._gated(key, spec))

    def _gated(self, key: PodKey, spec: PodSpec) -> bool:
        gates = self._gates
        return (
            key in gates.own
            or key in gates.jobless.get(spec.owner, ())
            or spec.owner in gates.ended
            or self._decided.quarantined(key, spec.uid)
        )

    # --- gangs --------------------------------------------------------------------------------------------------

    def job(self, key: Key, job: Job) -> None:
        """A Job exists and looks like this."""
        uid = job.metadata.uid
        gang = cluster.gang_of_job(job)
        known = _KnownJob(gang.name if gang else None, cluster.dies_of_eviction(job))
        before = self._jobs.get(uid)
        self._jobs[uid] = known
        self._job_keys[key] = uid
        if gang is not None:
            self._apply(ev.GroupSeen(gang))
        elif before is not None and before.gang is not None:
            self._apply(ev.GroupGone((key[0], before.gang)))
        waited = self._gates.jobless.pop(uid, set())
        self._gates.adopted.discard(uid)
        if known != before:
            for pod in [*self._job_pods.get(uid, ())]:
                self._of_job(pod, known)
        if job.metadata.deletion_timestamp is not None:
            self._end(uid)
        for pod in waited:
            self.reconsider(pod)

    def job_gone(self, key: Key) -> None:
        """A Job is gone; its pods follow, or become orphans."""
        uid = self._job_keys.pop(key, "")
        known = self._jobs.pop(uid, None)
        self._end(uid)
        if known is not None and known.gang is not None:
            self._apply(ev.GroupGone((key[0], known.gang)))

    def _end(self, uid: str) -> None:
        """A Job is deleted: what waits of it starts no more."""
        if uid in self._job_pods and uid not in self._gates.ended:
            self._gates.ended.add(uid)
            for pod in [*self._job_pods[uid]]:
                self.reconsider(pod)

    def adopt_orphans(self) -> None:
        """Stop waiting for Jobs that have not shown up: their pods are pods like any other."""
        waited, self._gates.jobless = self._gates.jobless, {}
        self._gates.adopted.update(waited)
        for keys in waited.values():
            for key in keys:
                self.reconsider(key)

    @property
    def waits_for_jobs(self) -> bool:
        """Whether any pod waits for its Job to be known."""
        return bool(self._gates.jobless)

    def _of_job(self, key: PodKey, job: _KnownJob) -> None:
        pod = self.state.pods.get(key)
        if pod is None:
            return
        own = pod.spec.group if pod.spec.group is not None and not pod.spec.group.startswith("job/") else None
        spec = replace(pod.spec, group=own or job.gang, fragile=job.fragile)
        if pod.node is not None and spec.node is None:
            spec = replace(spec, node=pod.node)
        if spec != pod.spec:
            self._apply(ev.PodSeen(spec))

    def group(self, key: Key, manifest: Object) -> None:
        """A PodGroup exists and looks like this."""
        group = self._parsed("PodGroup", key, manifest, PodGroup.parse)
        if group is None:
            return
        self._groups[key] = group
        self._apply(ev.GroupSeen(self._group_spec(group)))

    def group_gone(self, key: Key) -> None:
        """A PodGroup is gone."""
        self._groups.pop(key, None)
        self._forget("PodGroup", key)
        self._apply(ev.GroupGone(key))

    def scheduling_group(self, key: Key, found: SchedulingPodGroup | None) -> None:
        """A PodGroup of scheduling.k8s.io exists, or exists no longer."""
        if found is None:
            self._apply(ev.GroupGone((key[0], scheduling_group_name(key[1]))))
        else:
            self._apply(ev.GroupSeen(cluster.scheduling_group_spec(found)))

    def priority_class(self, key: Key, found: PriorityClass | None) -> None:
        """A priority class exists, or exists no longer."""
        if found is None:
            self._priorities.pop(key[1], None)
        else:
            self._priorities[key[1]] = found.value
        for group in self._groups.values():
            if group.spec.priority_class_name == key[1]:
                self._apply(ev.GroupSeen(self._group_spec(group)))

    def _group_spec(self, group: PodGroup) -> Any:  # noqa: ANN401 - GroupSpec, by way of translation
        name = group.spec.priority_class_name
        return cluster.group_spec(group, priority=self._priorities.get(name) if name else None)

    def groups(self) -> Mapping[Key, PodGroup]:
        """Every PodGroup in force."""
        return self._groups

    # --- ground -------------------------------------------------------------------------------------------------

    def node(self, key: Key, node: Node | None) -> None:
        """A node exists and looks like this, or exists no longer."""
        name = key[1]
        if node is None:
            self._raw_nodes.pop(name, None)
            self._nodes.pop(name, None)
            self._apply(ev.NodeGone(name))
            return
        try:
            spec = cluster.node_spec(node, self._csi.get(name))
        except QuantityError as error:
            self.problems["Node", key] = Problem("Node", key, str(error), node.metadata.generation)
            return
        self.problems.pop(("Node", key), None)
        self._raw_nodes[name] = node
        if self._nodes.get(name) != spec:
            self._nodes[name] = spec
            self._apply(ev.NodeSeen(spec))

    def csi_node(self, key: Key, found: CSINode | None) -> None:
        """The volume limits of a node are known, or no longer."""
        if found is None:
            self._csi.pop(key[1], None)
        else:
            self._csi[key[1]] = found
        node = self._raw_nodes.get(key[1])
        if node is not None:
            self.node(key, node)

    def pool(self, key: Key, manifest: Object) -> None:
        """A node pool exists and looks like this."""
        pool = self._parsed("NodePool", key, manifest, NodePool.parse)
        if pool is None:
            return
        self._apply(ev.PoolSeen(cluster.pool_spec(pool)))

    def pool_gone(self, key: Key) -> None:
        """A node pool is gone."""
        self._forget("NodePool", key)
        self._apply(ev.PoolGone(key[1]))

    def tenant(self, key: Key, manifest: Object) -> None:
        """A tenant exists and looks like this."""
        tenant = self._parsed("Tenant", key, manifest, Tenant.parse)
        if tenant is not None:
            self._apply(ev.TenantSeen(cluster.tenant_spec(tenant)))
            self.evictions[key[1]] = tenant.status.evictions if tenant.status else None

    def tenant_gone(self, key: Key) -> None:
        """A tenant is gone."""
        self._forget("Tenant", key)
        self._apply(ev.TenantGone(key[1]))

    def namespace(self, key: Key, found: Namespace | None) -> None:
        """A namespace exists, or exists no longer."""
        self._apply(ev.NamespaceGone(key[1]) if found is None else cluster.namespace_seen(found))

    def budget(self, key: Key, found: PodDisruptionBudget | None) -> None:
        """A disruption budget exists, or exists no longer."""
        self._apply(ev.BudgetGone(key) if found is None else ev.BudgetSeen(cluster.budget_spec(found)))

    # --- storage ------------------------------------------------------------------------------------------------

    def claim(self, key: Key, found: PersistentVolumeClaim | None) -> None:
        """A volume claim exists, or exists no longer."""
        known = self.state.attachments.claims.get(key)
        self._stored(known, None if found is None else storage.claim(found))

    def volume(self, key: Key, found: PersistentVolume | None) -> None:
        """A volume exists, or exists no longer."""
        known = self.state.attachments.volumes.get(key[1])
        self._stored(known, None if found is None else storage.volume(found))

    def storage_class(self, key: Key, found: StorageClass | None) -> None:
        """A storage class exists, or exists no longer."""
        known = self.state.attachments.classes.get(key[1])
        self._stored(known, None if found is None else storage.storage_class(found))

    def _stored(self, known: Any, seen: Any) -> None:  # noqa: ANN401 - the four kinds of StorageSeen.item
        if seen is None:
            if known is not None:
                self._apply(ev.StorageGone(known))
        elif seen != known:
            self._apply(ev.StorageSeen(seen))

    # --- devices ------------------------------------------------------------------------------------------------

    def resource_slice(self, key: Key, found: ResourceSlice | None) -> None:
        """Devices of a node exist, or exist no longer."""
        _keep(self.devices.slices, key[1], found)
        self.devices.reread()
        self._offers_stale = True
        self._changed()

    def device_class(self, key: Key, found: DeviceClass | None) -> None:
        """A class of devices exists, or exists no longer."""
        before = self.devices.classes.get(key[1])
        _keep(self.devices.classes, key[1], found)
        self.devices.reread()
        self._offers_stale = True
        if before is None or found is None or before.spec != found.spec:
            self._reread(lambda _: True)
        self._changed()

    def resource_claim(self, key: Key, found: ResourceClaim | None) -> None:
        """A claim for devices exists, or exists no longer."""
        _keep(self.devices.claims, key, found)
        held = None if found is None else holding(key, found)
        known = self.state.attachments.holdings.get(key)
        if held is not None and held != known:
            self._apply(ev.StorageSeen(held))
        elif held is None and known is not None:
            self._apply(ev.StorageGone(known))
        self._reread(lambda pod: key in claims_of_devices(pod))
        self._changed()

    def offer_devices(self) -> None:
        """Tell the core what nodes offer by their slices; cheap where nothing has changed."""
        if not self._offers_stale:
            return
        self._offers_stale = False
        offered, known = self.devices.offered(), self.state.attachments.slices
        for name in [name for name in known if name not in offered]:
            self._apply(ev.StorageGone(known[name]))
        for name, each in offered.items():
            if known.get(name) != each:
                self._apply(ev.StorageSeen(each))
        self._reread(self.devices.wants_all)

    def _reread(self, concerned: Callable[[kube.Pod], bool]) -> None:
        for key, pod in [*self.claimants.items()]:
            if concerned(pod):
                self.pod(key, pod)

    # --- what they share ----------------------------------------------------------------------------------------

    def _parsed(self, kind: str, key: Key, manifest: Object, parse: Callable[..., Any]) -> Any:  # noqa: ANN401 - a model
        generation = int(manifest["metadata"].get("generation") or 0)
        try:
            found = parse(manifest, strict=False)
        except (InvalidManifestError, ValueError) as error:
            self.problems[kind, key] = Problem(kind, key, str(error), generation)
            return None
        self.problems.pop((kind, key), None)
        self.generations[kind, key] = generation
        return found

    def failed(self, kind: str, key: Key, error: Exception) -> None:
        """Taking in an object failed, which is a fault of ours: it is left as it was known before, if at all."""
        message = f"a fault of the scheduler, {type(error).__name__}: {error}"
        if kind == "Pod":
            self.invalid_pods[key] = message
        else:
            self.problems[kind, key] = Problem(kind, key, message, self.generations.get((kind, key), 0))
        self._doubt()

    def _forget(self, kind: str, key: Key) -> None:
        self.problems.pop((kind, key), None)
        self.generations.pop((kind, key), None)

    def _apply(self, event: ev.Event) -> None:
        self.state.apply(event)
        self._changed()

    def known(self, kind: str) -> Iterable[Key]:
        """Names of all Tenants, NodePools or PodGroups that are in force."""
        return [key for found, key in self.generations if found == kind]


def _keep(table: dict[K, V], key: K, found: V | None) -> None:
    """Know an object by its key, or know it no longer."""
    if found is None:
        table.pop(key, None)
    else:
        table[key] = found
