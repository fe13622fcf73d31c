"""The state of the cluster: one object, one door for changes.

`ClusterState.apply(event)` is the only way in. Events may come in any order; what does not fit together yet (a pod
before its namespace, a node before its pool) is put right as soon as the rest is known. Changes of structure (nodes,
tenants, pools) only mark what is stale; `settle()` rebuilds it once, before the next decision.

Invariants, checked by `invariants.check`:

- a node's free room is its allocatable minus what occupies it; a tenant's use is the sum of its pods', all the way up;
- a pod occupies a node or waits, never both; a waiting pod is in at most one live unit;
- `demand_version` moves with every change from outside that could let someone start, never with our own decisions.

It must never decide anything.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from typing import Final

import numpy as np

from allotment_scheduler.core import events as ev
from allotment_scheduler.core.attachments import Attachments
from allotment_scheduler.core.filters.counters import Counters
from allotment_scheduler.core.nodes import Node, Nodes
from allotment_scheduler.core.pods import ClassId, LabelSet, Pod, PodClass, PodKey, PodSpec, SchedulingSpec
from allotment_scheduler.core.resources import PODS, Column, Resources, without_pods
from allotment_scheduler.core.running import RunningTable
from allotment_scheduler.core.shares import Measure
from allotment_scheduler.core.tenants import Forest, Tenant, TenantSpec, build_forest
from allotment_scheduler.core.trial import Trial
from allotment_scheduler.core.units import Gang, LeafQueue, RowKey, Shape, Unit, order_of, total

_LONG_LOG: Final = 100_000


class ClusterState:
    """Everything the scheduler knows. Times are seconds since the epoch, given from outside."""

    def __init__(self, *, share_policy: str = "drf") -> None:
        if share_policy not in ("drf", "hdrf"):
            raise ValueError(f"share policy {share_policy!r}: write drf or hdrf")
        self.share_policy = share_policy
        self.resources = Resources()
        self.nodes = Nodes(self.resources)
        self.running = RunningTable()
        self.pods: dict[PodKey, Pod] = {}
        self.classes: list[PodClass] = []
        self.labelsets: list[LabelSet] = []
        self.namespaces: dict[str, dict[str, str]] = {}
        self.namespace_tenants: dict[str, str] = {}
        self.counters = Counters(self.nodes, self.running, self.labelsets, self.namespaces)
        self.attachments = Attachments(self.nodes)
        self.tenant_specs: dict[str, TenantSpec] = {}
        self.forest: Forest = build_forest({}, self.resources)
        self.gangs: dict[tuple[str, str], Gang] = {}
        self.budgets: dict[tuple[str, str], ev.BudgetSpec] = {}
        self.disruptions: dict[tuple[str, str], int] = {}
        """Evictions of ours under each budget since its controller last spoke."""
        self.queues: dict[str, LeafQueue] = {}
        self.measure = Measure.of({}, {}, self.resources.width)
        self.demand_version = 0
        self.pools_version = 0
        self.now = 0.0
        self.evicted: list[Pod] = []
        """Pods evicted in this round: they wait again when it has ended."""
        self.departed: list[tuple[Pod, str]] = []
        """Pods that have gone, with their node, since someone last looked; not those we evicted."""
        self.dirty_leaves: set[Tenant] = set()
        """Leaves whose queue changed since someone last looked."""
        self._class_ids: dict[tuple[SchedulingSpec, str], PodClass] = {}
        self._labelset_ids: dict[tuple[str, tuple[tuple[str, str], ...]], LabelSet] = {}
        self._representatives: dict[tuple[int, tuple[int, ...]], LabelSet] = {}
        self._shapes: dict[tuple[object, ...], Shape] = {}
        self._pools_of: dict[str, tuple[str, ...]] = {}
        self._units: dict[tuple[str, str], list[Unit]] = {}
        self._seen = 0
        self._requeues = 0
        self._owners_evicted: dict[str, int] = {}
        self._forest_stale = True
        self._held_version = 0
        self._multi_pool = False
        self._handlers: dict[type, Callable[..., None]] = {
            ev.NodeSeen: self._node_seen, ev.NodeGone: self._node_gone,
            ev.PoolSeen: self._pool_seen, ev.PoolGone: self._pool_gone,
            ev.TenantSeen: self._tenant_seen, ev.TenantGone: self._tenant_gone,
            ev.NamespaceSeen: self._namespace_seen, ev.NamespaceGone: self._namespace_gone,
            ev.PodSeen: self._pod_seen, ev.PodGone: self._pod_gone,
            ev.GroupSeen: self._group_seen, ev.GroupGone: self._group_gone,
            ev.BudgetSeen: self._budget_seen, ev.BudgetGone: self._budget_gone,
            ev.StorageSeen: self._storage_seen, ev.StorageGone: self._storage_gone,
            ev.PodStarted: self._pod_started, ev.PodEvicted: self._pod_evicted, ev.RoundEnded: self._round_ended,
            ev.PodLeaving: self._pod_leaving, ev.StartForgotten: self._start_forgotten,
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
        if self._forest_stale or any(len(t.used) != self.resources.width for t in (self.forest.root,)):
            self._forest_stale = False
            self.forest = build_forest(self.tenant_specs, self.resources, self.namespace_tenants)
            for pod in self.pods.values():
                pod.leaf = self.forest.leaf_of_namespace.get(pod.spec.namespace)
            self.nodes.mark_stale()
        if self.nodes.stale:
            self._lay_out()
        if self._held_version != self.counters.held_version:
            self._held_version = self.counters.held_version
            self.requeue_all()
        self.running.flush()
        if len(self.nodes.touched) > _LONG_LOG:
            self.nodes.layout_version += 1
            self.nodes.touched.clear()

    # --- queries ------------------------------------------------------------------------------------------------

    def queue(self, leaf: Tenant) -> LeafQueue:
        """The waiting units of a leaf."""
        found = self.queues.get(leaf.name)
        if found is None:
            found = self.queues[leaf.name] = LeafQueue(leaf)
        return found

    def waiting(self) -> Iterable[Pod]:
        """Every pod of ours that does not run, in order of first sight."""
        return (pod for pod in self.pods.values() if pod.node is None and pod.spec.ours and not pod.spec.deleting)

    def node(self, name: str) -> Node:
        """A node by name."""
        return self.nodes.by_name[name]

    def pools_of(self, leaf: Tenant) -> tuple[str, ...]:
        """The pools a leaf may use: the intersection down its path, and the pools open to it."""
        found = self._pools_of.get(leaf.name)
        if found is None:
            names = {tenant.shown_name for tenant in leaf.path}
            found = tuple(
                pool for pool in self.nodes.pool_names
                if all(not t.spec.node_pools or pool in t.spec.node_pools for t in leaf.path)
                and (pool not in self.nodes.pools or not self.nodes.pools[pool].tenants
                     or not names.isdisjoint(self.nodes.pools[pool].tenants))
            )  # fmt: skip
            self._pools_of[leaf.name] = found
        return found

    def row_key(self, pod: Pod) -> RowKey:
        """What decides where a waiting pod may stand."""
        return (pod.klass.id, self._signature(pod), self.pools_of(pod.leaf) if pod.leaf else ())

    def labels_seen_by(self, klass_id: int, signature: tuple[int, ...]) -> LabelSet:
        """A label set that stands for all with this signature."""
        return self._representatives[klass_id, signature]

    def is_represented(self, klass_id: int, signature: tuple[int, ...]) -> bool:
        """Whether any pod that waits, or has waited since queues were last formed, is of this class and signature."""
        return (klass_id, signature) in self._representatives

    # --- occupation: the two primitives that trials and decisions share -----------------------------------------

    def occupy(self, pod: Pod, name: str) -> None:
        """Count a pod in on a node."""
        pod.node = name
        node = self.nodes.by_name.get(name)
        index = -1 if node is None else node.index
        amounts = pod.klass.amounts
        if node is not None and index >= 0:
            self.nodes.take(index, amounts, 1)
            if self.counters.all or pod.klass.minds:
                self.counters.count(pod, index, 1)
        pod.slot = self.running.add(pod, index)
        if node is not None:
            node.pods[pod.slot] = pod
        if pod.leaf is not None:
            pool = node.pool if node is not None and self._multi_pool else None
            pod.leaf.add(amounts, pool, fixed=not pod.spec.preemptible, sign=1)
        if pod.gang is not None and not pod.phantom:
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
        self.running.remove(pod.slot)
        pod.slot = -1
        if index >= 0:
            self.nodes.take(index, amounts, -1)
            if self.counters.all:
                self.counters.count(pod, index, -1)
        if pod.leaf is not None:
            pool = node.pool if node is not None and self._multi_pool else None
            pod.leaf.add(amounts, pool, fixed=not pod.spec.preemptible, sign=-1)
        if pod.gang is not None and not pod.phantom:
            pod.gang.running -= 1

    # --- nodes, pools, tenants, namespaces ----------------------------------------------------------------------

    def _node_seen(self, event: ev.NodeSeen) -> None:
        known = self.nodes.by_name.get(event.spec.name)
        if known is not None and known.spec == event.spec:
            return
        for name in event.spec.allocatable:
            self.resources.column(name)
        self.nodes.upsert(event.spec)
        self.demand_version += 1

    def _node_gone(self, event: ev.NodeGone) -> None:
        self.nodes.remove(event.name)
        self.demand_version += 1

    def _pool_seen(self, event: ev.PoolSeen) -> None:
        if self.nodes.pools.get(event.spec.name) != event.spec:
            self.nodes.pools[event.spec.name] = event.spec
            for name in event.spec.cost:
                self.resources.column(name)
            self._structure_changed()

    def _pool_gone(self, event: ev.PoolGone) -> None:
        if self.nodes.pools.pop(event.name, None) is not None:
            self._structure_changed()

    def _tenant_seen(self, event: ev.TenantSeen) -> None:
        if self.tenant_specs.get(event.spec.name) != event.spec:
            self.tenant_specs[event.spec.name] = event.spec
            self._structure_changed()

    def _tenant_gone(self, event: ev.TenantGone) -> None:
        if self.tenant_specs.pop(event.name, None) is not None:
            self._structure_changed()

    def _namespace_seen(self, event: ev.NamespaceSeen) -> None:
        if self.namespaces.get(event.name) == event.labels and self.namespace_tenants.get(event.name) == event.tenant:
            return
        self.namespaces[event.name] = dict(event.labels)
        if event.tenant is not None:
            self.namespace_tenants[event.name] = event.tenant
        else:
            self.namespace_tenants.pop(event.name, None)
        self._structure_changed()

    def _namespace_gone(self, event: ev.NamespaceGone) -> None:
        self.namespaces.pop(event.name, None)
        self.namespace_tenants.pop(event.name, None)
        self._structure_changed()

    def _structure_changed(self) -> None:
        self._forest_stale = True
        self.demand_version += 1

    # --- pods ---------------------------------------------------------------------------------------------------

    def _pod_seen(self, event: ev.PodSeen) -> None:
        spec = event.spec
        known = self.pods.get(spec.key)
        if known is not None:
            if known.spec == spec or self._only_confirms(known, spec):
                return
            self._forget(known)
        pod = self._record(spec, known)
        self.pods[spec.key] = pod
        if not (known is None and self._replaces_evicted(pod)):
            self.demand_version += 1
        if spec.node is not None:
            self._take_place(pod, spec.node)
        if self._forest_stale or self.nodes.stale:
            return
        if spec.node is not None:
            self._take_phantom(pod)
        if pod.gang is not None:
            self._regang(pod.gang)
        elif spec.node is None:
            self._enqueue(pod)

    def _take_place(self, pod: Pod, node: str) -> None:
        """Occupy a node; while the layout is stale only note it, for the layout counts everything anew."""
        if self._forest_stale or self.nodes.stale:
            pod.node = node
            pod.slot = self.running.add(pod, -1)
            if pod.gang is not None:
                pod.gang.running += 1
        else:
            self.occupy(pod, node)

    def _only_confirms(self, known: Pod, spec: PodSpec) -> bool:
        """Whether an event tells only what we did ourselves, or less."""
        same = replace(spec, node=known.spec.node, started=known.spec.started, nominated=known.spec.nominated)
        if known.node is None or same != known.spec or spec.node not in (None, known.node):
            return False
        if spec.node is not None:
            known.spec = spec
            known.started = spec.started if spec.started is not None else known.started
            self.running.flush().started[known.slot] = known.started
        return True

    def _record(self, spec: PodSpec, known: Pod | None) -> Pod:
        klass = self.klass(spec.scheduling, spec.namespace)
        labels = self.labelset(spec.namespace, spec.labels)
        self._seen += 1
        arrival = known.arrival if known is not None else (0, spec.created, self._seen)
        pod = Pod(spec, klass, labels, self.forest.leaf_of_namespace.get(spec.namespace), arrival)
        pod.started = spec.started if spec.started is not None else spec.created
        if known is not None:
            pod.leaving, pod.spent_at = known.leaving and spec.deleting, known.spent_at
        if spec.group is not None:
            gang = self.gang((spec.namespace, spec.group))
            gang.members[spec.key] = pod
            pod.gang = gang
        return pod

    def _replaces_evicted(self, pod: Pod) -> bool:
        """Whether a new pod takes the place of one we evicted: then it returns behind its peers, and alters nothing."""
        count = self._owners_evicted.get(pod.spec.owner, 0) if pod.spec.owner else 0
        if not count:
            return False
        self._owners_evicted[pod.spec.owner] = count - 1
        self._requeues += 1
        pod.arrival = (self._requeues, pod.spec.created, self._seen)
        pod.spent_at = self.demand_version
        return True

    def _take_phantom(self, pod: Pod) -> None:
        """A gang's expected member has come: it takes one of the rooms that are held for it."""
        if pod.gang is not None and not pod.phantom:
            for phantom in pod.gang.phantoms:
                if phantom.klass.amounts == pod.klass.amounts and phantom.node == pod.node:
                    self.vacate(phantom)
                    pod.gang.phantoms.remove(phantom)
                    break

    def _pod_gone(self, event: ev.PodGone) -> None:
        pod = self.pods.pop(event.key, None)
        if pod is None:
            return
        if pod.evicted_in < 0 and not pod.leaving:
            self.demand_version += 1
            if pod.node is not None and pod.spec.owner:
                self.departed.append((pod, pod.node))
        self._forget(pod)
        if pod.gang is not None:
            if not pod.gang.members and pod.gang.spec is None:
                self.gangs.pop(pod.gang.key, None)
            elif not (self._forest_stale or self.nodes.stale):
                self._regang(pod.gang)

    def _forget(self, pod: Pod) -> None:
        if pod.node is not None:
            if self._forest_stale or self.nodes.stale:
                self.running.remove(pod.slot)
                pod.node = None
                if pod.gang is not None:
                    pod.gang.running -= 1
            else:
                self.vacate(pod)
        if pod.gang is not None:
            pod.gang.members.pop(pod.key, None)
        if isinstance(pod.unit, Unit):
            pod.unit.live = False
            self._note(pod)
        if pod in self.evicted:
            self.evicted.remove(pod)

    def klass(self, spec: SchedulingSpec, namespace: str) -> PodClass:
        """The class of a scheduling spec. The namespace is part of it only where the spec refers to its own."""
        local = namespace if spec.minds_other_pods or spec.claims or spec.device_claims else ""
        found = self._class_ids.get((spec, local))
        if found is None:
            amounts = self.resources.sparse((*spec.requests, ("pods", 1)))
            minds = spec.minds_other_pods
            found = PodClass(ClassId(len(self.classes)), spec, local, amounts, without_pods(amounts), minds)
            self.classes.append(found)
            self._class_ids[spec, local] = found
        return found

    def labelset(self, namespace: str, labels: tuple[tuple[str, str], ...]) -> LabelSet:
        """The interned labels of pods in a namespace."""
        found = self._labelset_ids.get((namespace, labels))
        if found is None:
            found = LabelSet(len(self.labelsets), namespace, dict(labels))
            self.labelsets.append(found)
            self._labelset_ids[namespace, labels] = found
        return found

    # --- gangs, budgets, storage --------------------------------------------------------------------------------

    def gang(self, key: tuple[str, str]) -> Gang:
        """The record of a gang, whether or not it is described yet."""
        found = self.gangs.get(key)
        if found is None:
            found = self.gangs[key] = Gang(key)
        return found

    def _group_seen(self, event: ev.GroupSeen) -> None:
        gang = self.gang((event.spec.namespace, event.spec.name))
        if gang.spec != event.spec:
            gang.spec = event.spec
            self.demand_version += 1
            if not (self._forest_stale or self.nodes.stale):
                self._regang(gang)

    def _group_gone(self, event: ev.GroupGone) -> None:
        gang = self.gangs.get(event.key)
        if gang is None:
            return
        gang.spec = None
        for phantom in gang.phantoms:
            self.vacate(phantom)
        gang.phantoms.clear()
        self._regang(gang)
        if not gang.members:
            del self.gangs[event.key]
        self.demand_version += 1

    def _budget_seen(self, event: ev.BudgetSeen) -> None:
        key = (event.spec.namespace, event.spec.name)
        self.budgets[key] = event.spec
        self.disruptions.pop(key, None)

    def _budget_gone(self, event: ev.BudgetGone) -> None:
        self.budgets.pop(event.key, None)

    def _storage_seen(self, event: ev.StorageSeen) -> None:
        self.attachments.put(event.item)
        self.nodes.mark_stale()
        self.demand_version += 1

    def _storage_gone(self, event: ev.StorageGone) -> None:
        self.attachments.drop(event.item)
        self.nodes.mark_stale()
        self.demand_version += 1

    # --- our own decisions --------------------------------------------------------------------------------------

    def _pod_started(self, event: ev.PodStarted) -> None:
        pod = self.pods[event.key]
        pod.started = self.now
        self.occupy(pod, event.node)
        self.started(pod)

    def started(self, pod: Pod) -> None:
        """Take a pod that now occupies a node out of the queue."""
        if isinstance(pod.unit, Unit):
            pod.unit.live = False
            self._note(pod)
        pod.unit = None

    def _pod_evicted(self, event: ev.PodEvicted) -> None:
        pod = self.pods[event.key]
        self.vacate(pod)
        for key, budget in self.budgets.items():
            if budget.namespace == pod.spec.namespace and budget.selector.matches(pod.labels.labels):
                self.disruptions[key] = self.disruptions.get(key, 0) + 1
        self.evicted_now(pod)

    def evicted_now(self, pod: Pod) -> None:
        """Remember that a pod, which has left its node, was evicted by us."""
        self._requeues += 1
        pod.arrival = (self._requeues, pod.spec.created, pod.arrival[2])
        pod.evicted_in = self._requeues
        pod.spent_at = self.demand_version
        if pod.spec.node is not None:
            pod.spec = replace(pod.spec, node=None, started=None)
        if pod.spec.owner:
            self._owners_evicted[pod.spec.owner] = self._owners_evicted.get(pod.spec.owner, 0) + 1
        self.evicted.append(pod)
        if pod.gang is not None:
            self._regang(pod.gang)

    def _round_ended(self, _event: ev.RoundEnded) -> None:
        evicted, self.evicted = self.evicted, []
        for pod in evicted:
            pod.evicted_in = -1
        for gang in dict.fromkeys(pod.gang for pod in evicted if pod.gang is not None):
            self._regang(gang)
        for pod in evicted:
            if pod.gang is None:
                self._enqueue(pod)

    def _pod_leaving(self, event: ev.PodLeaving) -> None:
        pod = self.pods.get(event.key)
        if pod is None or pod.node is not None:
            return
        self._forget(pod)
        pod.spec = replace(pod.spec, node=event.node, deleting=True)
        pod.leaving, pod.evicted_in, pod.unit = True, -1, None
        if pod.gang is not None:
            pod.gang.members[pod.key] = pod
        self._take_place(pod, event.node)
        if pod.gang is not None and not (self._forest_stale or self.nodes.stale):
            self._regang(pod.gang)

    def _start_forgotten(self, event: ev.StartForgotten) -> None:
        pod = self.pods.get(event.key)
        if pod is None or pod.node is None or pod.spec.node is not None:
            return
        self._forget(pod)
        if pod.gang is not None:
            pod.gang.members[pod.key] = pod
        if self._forest_stale or self.nodes.stale:
            return
        if pod.gang is not None:
            self._regang(pod.gang)
        else:
            self._enqueue(pod)

    # --- queues -------------------------------------------------------------------------------------------------

    def requeue_all(self) -> None:
        """Form every waiting unit anew."""
        self.queues.clear()
        self._shapes.clear()
        self._representatives.clear()
        self._pools_of.clear()
        self._units.clear()
        for gang in self.gangs.values():
            self._regang(gang)
        for pod in self.pods.values():
            if pod.gang is None and pod.node is None:
                self._enqueue(pod)

    def _enqueue(self, pod: Pod) -> None:
        if self._waits_in_queue(pod):
            self._push((pod,), None)

    def unit_started(self, unit: Unit) -> None:
        """A unit's pods occupy their nodes: take them out of the queue; a gang's further pods become units."""
        for pod in unit.pods:
            pod.started = self.now
            if pod.phantom and unit.gang is not None:
                unit.gang.phantoms.append(pod)
            pod.unit = None
        unit.live = False
        self.dirty_leaves.add(unit.leaf)
        if unit.gang is not None:
            self._regang(unit.gang)

    def _waits_in_queue(self, pod: Pod) -> bool:
        spec, leaf = pod.spec, pod.leaf
        if leaf is None or leaf.suspended or not spec.ours or spec.gated or spec.deleting:
            return False
        return pod.node is None and pod.evicted_in < 0

    def is_spent(self, pod: Pod) -> bool:
        """Whether a pod was evicted and demand has not changed since: then it claims by priority alone."""
        return pod.spent_at == self.demand_version

    def _regang(self, gang: Gang) -> None:
        """Form the units of a gang anew: one for what is missing, or one for each pod beyond."""
        for unit in self._units.pop(gang.key, ()):
            unit.live = False
            self._note(unit.first)
        if gang.spec is None:
            return
        waiting = [pod for pod in gang.waiting() if self._waits_in_queue(pod)]
        missing = gang.min_member - gang.running
        if missing <= 0:
            self._units[gang.key] = [self._push((pod,), gang) for pod in waiting]
        elif waiting:
            expected = self._expected(gang, waiting)
            present = missing - len(gang.phantoms) - len(expected)
            if 0 < present <= len(waiting):
                self._units[gang.key] = [self._push((*waiting[:present], *expected), gang)]
            elif present <= 0:
                self._units[gang.key] = [self._push((pod,), gang) for pod in waiting]

    def _expected(self, gang: Gang, waiting: list[Pod]) -> list[Pod]:
        """Phantoms for expected members that neither exist nor have their room held."""
        assert gang.spec is not None, "only described gangs expect anyone"  # noqa: S101 - for the type checker
        out = []
        for member in gang.spec.expected:
            template = member.template
            klass = self.klass(template.scheduling, template.namespace)
            there = sum(1 for pod in gang.members.values() if pod.klass.amounts == klass.amounts)
            there += sum(1 for phantom in gang.phantoms if phantom.spec.name.startswith(f"{member.name}-expected-"))
            for number in range(there, member.count):
                spec = replace(template, name=f"{member.name}-expected-{number}", group=gang.key[1])
                labels = self.labelset(spec.namespace, spec.labels)
                phantom = Pod(spec, klass, labels, waiting[0].leaf, waiting[0].arrival, gang=gang, phantom=True)
                out.append(phantom)
        return out

    def _push(self, pods: tuple[Pod, ...], gang: Gang | None) -> Unit:
        leaf = pods[0].leaf
        assert leaf is not None, "only pods with a tenant wait in queues"  # noqa: S101 - invariant
        order = min(order_of(pod) for pod in pods if not pod.phantom)
        if gang is not None and gang.spec is not None and gang.spec.priority is not None:
            order = (-gang.spec.priority, order[1])
        for pod in pods:
            self.counters.fed_by(pod.klass, pod.labels)
        unit = Unit(leaf, pods, self._shape(pods), order, gang)
        for pod in pods:
            pod.unit = unit
        self.queue(leaf).push(unit)
        self.dirty_leaves.add(leaf)
        return unit

    def _note(self, pod: Pod) -> None:
        if pod.leaf is not None:
            self.dirty_leaves.add(pod.leaf)

    def _shape(self, pods: tuple[Pod, ...]) -> Shape:
        key: tuple[object, ...]
        if len(pods) == 1:
            parts: tuple[tuple[RowKey, int], ...] = ((self.row_key(pods[0]), 1),)
            key = (parts, not pods[0].spec.preemptible)
        else:
            counts: dict[RowKey, int] = {}
            for pod in pods:
                row = self.row_key(pod)
                counts[row] = counts.get(row, 0) + 1
            parts = tuple(counts.items())
            key = (parts, *(not pod.spec.preemptible for pod in pods))
        found = self._shapes.get(key)
        if found is None:
            amounts = total(pods)
            fixed = [pod for pod in pods if not pod.spec.preemptible]
            asks = without_pods(amounts)
            fixed_asks = without_pods(total(fixed))
            asked = frozenset(column for column, _ in asks)
            found = self._shapes[key] = Shape(parts, amounts, asks, bool(fixed), fixed_asks, len(pods), asked)
        return found

    def _signature(self, pod: Pod) -> tuple[int, ...]:
        """What tells pods of one class apart for placement: nothing, mostly."""
        klass = pod.klass
        if klass.minds:
            signature: tuple[int, ...] = (-1 - pod.labels.id,)
        elif self.counters.all:
            seen = self.counters.seen_by(pod.labels)
            signature = tuple(i for i in seen if self.counters.all[i].key.held is not None)
        else:
            signature = ()
        self._representatives.setdefault((klass.id, signature), pod.labels)
        return signature

    # --- layout -------------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        for name, node in self.nodes.by_name.items():
            offered = self.attachments.devices_of(name) if self.attachments.slices else {}
            if any(node.spec.allocatable.get(key) != count for key, count in offered.items()):
                for key in offered:
                    self.resources.column(key)
                node.spec = replace(node.spec, allocatable={**node.spec.allocatable, **offered})
        self.nodes.lay_out((pod.node, pod.klass.amounts) for pod in self.running.pods if pod is not None and pod.node)
        for node in self.nodes.ordered:
            node.pods.clear()
        for pod in self.running.pods:
            if pod is not None and pod.node in self.nodes.by_name:
                self.nodes.by_name[pod.node].pods[pod.slot] = pod
        self.running.relabel({node.spec.name: node.index for node in self.nodes.ordered})
        self._multi_pool = len({node.pool for node in self.nodes.ordered}) > 1
        self._measure()
        self._recount()
        self.counters.rebuild()
        for pod in self.running.pods:
            if pod is not None:
                self.counters.fed_by(pod.klass, pod.labels)
        self.requeue_all()

    def _measure(self) -> None:
        nodes = self.nodes
        usable = nodes.usable_mask()
        capacity: dict[str, dict[Column, int]] = {}
        for index, pool in enumerate(nodes.pool_names):
            members = usable & (nodes.pool_index == index)
            sums = nodes.allocatable[:, members].sum(axis=1)
            capacity[pool] = {Column(c): int(sums[c]) for c in range(len(self.resources.names)) if c != PODS}
        costs: dict[str, dict[Column, Fraction]] = {
            name: {self.resources.column(resource): Fraction(cost) for resource, cost in spec.cost.items()}
            for name, spec in nodes.pools.items()
        }
        self.measure = Measure.of(capacity, costs, self.resources.width)

    def _recount(self) -> None:
        width = self.resources.width
        for tenant in (self.forest.root, *self.forest.by_name.values()):
            tenant.used, tenant.fixed, tenant.used_in = [0] * width, [0] * width, {}
        for pod in self.running.pods:
            if pod is not None and pod.leaf is not None:
                node = self.nodes.by_name.get(pod.node or "")
                pool = node.pool if node is not None and self._multi_pool else None
                pod.leaf.add(pod.klass.amounts, pool, fixed=not pod.spec.preemptible, sign=1)


def index_of(state: ClusterState, pod: Pod) -> int:
    """Index of the node a running pod stands on, -1 if the node is unknown."""
    return int(np.int64(state.running.flush().node[pod.slot])) if pod.slot >= 0 else -1
