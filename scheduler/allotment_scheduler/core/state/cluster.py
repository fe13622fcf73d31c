"""The state of the cluster: one object, one door for what happens.

`ClusterState.apply(event)` is the only way in for whatever happens outside, and for what becomes of our decisions.
Events may come in any order; what does not fit together yet (a pod before its namespace, a node before its pool) is put
right as soon as the rest is known. Changes of structure (nodes, tenants, pools) only mark what is stale; `settle()`
rebuilds it once, before the next decision.

Starts are no events, because they are tried before they are made: `occupy` and `vacate` move pods, in a trial mostly,
and what has started is told to the `lineup` (`unit_started`, `seated`). Rooms of announced members are held and given
up by the `population`. Beside these, a cycle only writes when it last looked at a cut gang, and counts `own_version` up
where its seats alter demand; a state that is rebuilt is given what only the one before it knew (shell/recovery.py).

Invariants, checked by `invariants.check`:

- a node's free room is its allocatable minus what occupies it; a tenant's use is the sum of its pods', all the way up;
- a pod occupies a node or waits, never both; a waiting pod is in at most one live unit;
- `demand_version` moves with every change from outside that could let someone start, never with our own decisions;
  `own_version` moves where these, or what follows from them, alter what counts as demand.

Parts, each with one concern: `Population` (pods), `Surroundings` (everything else),
`Lineup` (who waits), `Interning` (equivalence classes), the layout (sums from scratch).

It must never decide anything.
"""

from collections.abc import Callable, Iterable
from typing import Final

from allotment_scheduler.core.fairness.shares import Measure
from allotment_scheduler.core.filters.counters import Counters
from allotment_scheduler.core.filters.devices import DeviceUse
from allotment_scheduler.core.filters.volumes import VolumeUse
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.attachments import Attachments
from allotment_scheduler.core.objects.nodes import Node, Nodes
from allotment_scheduler.core.objects.pods import ClassId, Pod, PodKey
from allotment_scheduler.core.objects.resources import Resources
from allotment_scheduler.core.objects.tenants import Forest, TenantSpec, build_forest
from allotment_scheduler.core.objects.units import Gang
from allotment_scheduler.core.state.interning import Interning
from allotment_scheduler.core.state.layout import lay_out
from allotment_scheduler.core.state.lineup import Lineup
from allotment_scheduler.core.state.population import Population
from allotment_scheduler.core.state.surroundings import Surroundings
from allotment_scheduler.core.state.table import PodTable
from allotment_scheduler.core.state.timers import Timers
from allotment_scheduler.core.state.trial import Trial

_LONG_LOG: Final = 100_000


class ClusterState:
    """Everything the scheduler knows. Times are seconds since the epoch, given from outside."""

    def __init__(self, *, share_policy: str = "drf") -> None:
        if share_policy not in ("drf", "hdrf"):
            raise ValueError(f"share policy {share_policy!r}: write drf or hdrf")
        self.share_policy = share_policy
        self.resources = Resources()
        self.interning = Interning(self.resources)
        self.classes, self.labelsets = self.interning.classes, self.interning.labelsets
        self.nodes = Nodes(self.resources)
        self.running, self.pending = PodTable(), PodTable()
        self.pods: dict[PodKey, Pod] = {}
        self.namespaces: dict[str, dict[str, str]] = {}
        self.namespace_tenants: dict[str, str] = {}
        self.attachments = Attachments()
        volumes, devices = VolumeUse(self.attachments, self.nodes), DeviceUse(self.attachments, self.nodes)
        self.counters = Counters(self.nodes, self.running, self.labelsets, self.namespaces, volumes, devices)
        self.tenant_specs: dict[str, TenantSpec] = {}
        self.forest: Forest = build_forest({}, self.resources)
        self.forest_stale = True
        self.gangs: dict[tuple[str, str], Gang] = {}
        self.budgets: dict[tuple[str, str], ev.BudgetSpec] = {}
        self.disruptions: dict[tuple[str, str], int] = {}
        """Evictions of ours under each budget that its figure does not include yet."""
        self.measure = Measure.of({}, {}, self.resources.width)
        self.multi_pool = False
        """Whether use is also kept per pool: there are several, or what is used in one has another price."""
        self.refitted: list[ClassId] = []
        """Classes of pods for whose claims other nodes may do than before, in order; readers keep a cursor into it."""
        self.demand_version = 0
        self.own_version = 0
        self.now = 0.0
        self.evicted: list[Pod] = []
        """Pods evicted in this round: they wait again when it has ended."""
        self.departed: list[tuple[Pod, str]] = []
        """Pods that have gone, with their node, since someone last looked; not those we evicted."""
        self.set_aside: set[PodKey] = set()
        """Pods in quarantine."""
        self.lineup = Lineup(self)
        self.queues, self.dirty_leaves = self.lineup.queues, self.lineup.dirty
        self._held_version = 0
        self.population = Population(self)
        self._handlers = self._doorkeepers(self.population, Surroundings(self))

    def _doorkeepers(self, pods: Population, around: Surroundings) -> dict[type, Callable[..., None]]:
        return {
            ev.NodeSeen: around.node_seen, ev.NodeGone: around.node_gone,
            ev.PoolSeen: around.pool_seen, ev.PoolGone: around.pool_gone,
            ev.TenantSeen: around.tenant_seen, ev.TenantGone: around.tenant_gone,
            ev.NamespaceSeen: around.namespace_seen, ev.NamespaceGone: around.namespace_gone,
            ev.GroupSeen: around.group_seen, ev.GroupGone: around.group_gone,
            ev.BudgetSeen: around.budget_seen, ev.BudgetGone: around.budget_gone,
            ev.StorageSeen: around.storage_seen, ev.StorageGone: around.storage_gone,
            ev.PodSeen: pods.pod_seen, ev.PodGone: pods.pod_gone,
            ev.PodEvicted: pods.pod_evicted, ev.RoundEnded: pods.round_ended,
            ev.PodLeaving: pods.pod_leaving, ev.PodStays: pods.pod_stays,
            ev.StartForgotten: pods.start_forgotten,
            ev.PodSetAside: pods.pod_set_aside, ev.TimePassed: Timers(self).time_passed,
        }  # fmt: skip

    # --- the door -----------------------------------------------------------------------------------------------

    def apply(self, event: ev.Event) -> None:
        """Take in what happened."""
        self._handlers[type(event)](event)

    def apply_all(self, events: Iterable[ev.Event]) -> None:
        """Take in many events."""
        for event in events:
            self._handlers[type(event)](event)

    def trial(self) -> Trial:
        """Begin a reversible excursion."""
        return Trial(self)

    def settle(self) -> None:
        """Rebuild what structural changes have made stale. Cheap when nothing is."""
        if self.forest_stale or any(len(t.used) != self.resources.width for t in (self.forest.root,)):
            self.forest_stale = False
            self.forest = build_forest(self.tenant_specs, self.resources, self.namespace_tenants, self.forest.in_force)
            for pod in self.pods.values():
                pod.leaf = self.forest.leaf_of_namespace.get(pod.spec.namespace)
            for gang in self.gangs.values():
                for phantom in gang.phantoms:
                    phantom.leaf = self.forest.leaf_of_namespace.get(phantom.spec.namespace)
            self.nodes.mark_stale()
        if self.nodes.stale:
            lay_out(self)
        if self._held_version != self.counters.held_version:
            self._held_version = self.counters.held_version
            self.lineup.requeue_all()
        self.lineup.thin_out()
        self.running.flush()
        self.pending.flush()
        if len(self.nodes.touched) + len(self.refitted) > _LONG_LOG:
            self.nodes.layout_version += 1
            self.nodes.touched.clear()
            self.refitted.clear()

    @property
    def stale(self) -> bool:
        """Whether `settle` will count everything anew: until then what comes is only noted."""
        return self.forest_stale or self.nodes.stale

    # --- queries ------------------------------------------------------------------------------------------------

    def waiting(self) -> Iterable[Pod]:
        """Every pod of ours that does not run, in order of first sight."""
        return (pod for pod in self.pods.values() if pod.node is None and pod.spec.ours and not pod.spec.deleting)

    def node(self, name: str) -> Node:
        """A node by name."""
        return self.nodes.by_name[name]

    def is_spent(self, pod: Pod) -> bool:
        """Whether a pod was evicted and demand has not changed since: then it claims by priority alone."""
        return pod.spent_at == self.demand_version

    def gang(self, key: tuple[str, str]) -> Gang:
        """The record of a gang, whether or not it is described yet."""
        found = self.gangs.get(key)
        if found is None:
            found = self.gangs[key] = Gang(key)
        return found

    # --- occupation: the two primitives that trials and decisions share -----------------------------------------

    def occupy(self, pod: Pod, name: str) -> None:
        """Count a pod in on a node."""
        if pod.slot >= 0:
            self.pending.remove(pod)
        pod.node = name
        node = self.nodes.by_name.get(name)
        index = -1 if node is None else node.index
        amounts = pod.klass.amounts
        if node is not None and index >= 0:
            self.nodes.take(index, amounts, 1)
            if self.counters.all or pod.klass.minds or pod.klass.spec.claims or pod.klass.spec.devices:
                self.counters.count(pod, index, 1)
        self.running.add(pod, index)
        if node is not None:
            node.pods[pod.slot] = pod
        if pod.leaf is not None:
            pool = node.pool if node is not None and self.multi_pool else None
            pod.leaf.add(amounts, pool, fixed=not pod.spec.preemptible, sign=1)
        if pod.gang is not None and pod.stays:
            pod.gang.running += 1

    def vacate(self, pod: Pod) -> None:
        """Count a pod out from its node."""
        name = pod.node
        assert name is not None, "only a pod that occupies a node can leave it"  # noqa: S101 - invariant
        node = self.nodes.by_name.get(name)
        index = -1 if node is None else node.index
        amounts = pod.klass.amounts
        pod.node = None
        if node is not None:
            node.pods.pop(pod.slot, None)
        self.running.remove(pod)
        if index >= 0:
            self.nodes.take(index, amounts, -1)
            if self.counters.all or pod.klass.spec.claims or pod.klass.spec.devices:
                self.counters.count(pod, index, -1)
        if pod.leaf is not None:
            pool = node.pool if node is not None and self.multi_pool else None
            pod.leaf.add(amounts, pool, fixed=not pod.spec.preemptible, sign=-1)
        if pod.gang is not None and pod.stays:
            pod.gang.running -= 1
        if pod.ready:
            self.pending.add(pod, -1)
