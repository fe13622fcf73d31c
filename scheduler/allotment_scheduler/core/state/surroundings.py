"""The surroundings of pods: nodes, pools, tenants, namespaces, gangs' descriptions, budgets, storage.

Whatever is equal to what was known changes nothing. A change of structure marks the tenant tree or the layout as stale;
both are rebuilt once, before the next decision. Every change moves `demand_version`, but for two kinds. Budgets allow
evictions, they start nobody. Claims, volumes and what holds devices come and go with the pods that use them, those we
start and evict among them: where they alter what could start, `own_version` tells of it. They come and go all the time:
only what is known of the classes of pods that name such a claim is made anew (`ClusterState.refitted`).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.attachments import Claim, ClaimName, Slice, StorageClass, Volume
from allotment_scheduler.core.objects.devices import Holding
from allotment_scheduler.core.objects.tenants import in_force
from allotment_scheduler.core.objects.units import Gang

if TYPE_CHECKING:
    from allotment_scheduler.core.state.cluster import ClusterState


class Surroundings:
    """Takes in what happens to everything but pods."""

    def __init__(self, state: "ClusterState") -> None:
        self.state = state

    def node_seen(self, event: ev.NodeSeen) -> None:
        """A node exists and looks like this."""
        known = self.state.nodes.by_name.get(event.spec.name)
        if known is not None and known.spec == event.spec:
            return
        for name in event.spec.allocatable:
            self.state.resources.column(name)
        self.state.nodes.upsert(event.spec)
        self.state.demand_version += 1

    def node_gone(self, event: ev.NodeGone) -> None:
        """A node exists no longer, nor does the room that was held on it."""
        for gang in self.state.gangs.values():
            self.state.population.give_back(gang, [room for room in gang.phantoms if room.node == event.name])
        self.state.nodes.remove(event.name)
        self.state.demand_version += 1

    def pool_seen(self, event: ev.PoolSeen) -> None:
        """A pool exists and looks like this."""
        if self.state.nodes.pools.get(event.spec.name) != event.spec:
            self.state.nodes.pools[event.spec.name] = event.spec
            for name in event.spec.cost:
                self.state.resources.column(name)
            self._structure_changed()

    def pool_gone(self, event: ev.PoolGone) -> None:
        """A pool exists no longer."""
        if self.state.nodes.pools.pop(event.name, None) is not None:
            self._structure_changed()

    def tenant_seen(self, event: ev.TenantSeen) -> None:
        """A tenant exists and looks like this."""
        known = self.state.tenant_specs.get(event.spec.name)
        if known != event.spec:
            if known is not None and known.parent != event.spec.parent:
                self._remember_tree()
            self.state.tenant_specs[event.spec.name] = event.spec
            self._structure_changed()

    def tenant_gone(self, event: ev.TenantGone) -> None:
        """A tenant exists no longer."""
        if any(spec.parent == event.name for spec in self.state.tenant_specs.values()):
            self._remember_tree()
        if self.state.tenant_specs.pop(event.name, None) is not None:
            self._structure_changed()

    def _remember_tree(self) -> None:
        """Note what is good of the tree before it is changed, if nobody has looked at it since the last change."""
        if self.state.forest_stale:
            forest = self.state.forest
            forest.in_force = in_force(self.state.tenant_specs, forest.in_force)[0]

    def namespace_seen(self, event: ev.NamespaceSeen) -> None:
        """A namespace exists with these labels."""
        if (
            self.state.namespaces.get(event.name) == event.labels
            and self.state.namespace_tenants.get(event.name) == event.tenant
        ):
            return
        self.state.namespaces[event.name] = dict(event.labels)
        if event.tenant is not None:
            self.state.namespace_tenants[event.name] = event.tenant
        else:
            self.state.namespace_tenants.pop(event.name, None)
        self._structure_changed()

    def namespace_gone(self, event: ev.NamespaceGone) -> None:
        """A namespace exists no longer."""
        self.state.namespaces.pop(event.name, None)
        self.state.namespace_tenants.pop(event.name, None)
        self._structure_changed()

    def _structure_changed(self) -> None:
        self.state.forest_stale = True
        self.state.demand_version += 1

    def group_seen(self, event: ev.GroupSeen) -> None:
        """A gang is described."""
        gang = self.state.gang((event.spec.namespace, event.spec.name))
        if gang.spec != event.spec:
            needed, announced = gang.min_member, gang.spec.expected if gang.spec is not None else ()
            gang.spec = event.spec
            if announced != event.spec.expected:
                self.state.population.give_back(gang, self.state.lineup.undescribed(gang))
            if gang.min_member > max(needed, gang.running):  # more are wanted than ever ran: it has lost nobody
                gang.whole, gang.cut_since = False, None
            self._reprioritise(gang)
            self.state.demand_version += 1
            if not self.state.stale:
                self.state.lineup.regang(gang)

    def group_gone(self, event: ev.GroupGone) -> None:
        """A gang's description exists no longer: what it held is free."""
        gang = self.state.gangs.get(event.key)
        if gang is None:
            return
        gang.spec, gang.whole, gang.cut_since = None, False, None
        self._reprioritise(gang)
        gang.finished.clear()
        self.state.population.give_back(gang, gang.phantoms)
        self.state.lineup.regang(gang)
        if not gang.members:
            del self.state.gangs[event.key]
        self.state.demand_version += 1

    def _reprioritise(self, gang: Gang) -> None:
        for table in (self.state.running, self.state.pending):
            table.reprioritise([*gang.members.values(), *gang.phantoms])

    def budget_seen(self, event: ev.BudgetSeen) -> None:
        """A disruption budget exists; evictions of ours that pods are known to have suffered are in its figure now.

        Its status is written for many reasons, also while ours have been decided and wait to be sent.
        """
        budget = event.spec
        key = (budget.namespace, budget.name)
        self.state.budgets[key] = budget
        self.state.disruptions[key] = sum(
            pod.leaving and pod.spec.ends is None and budget.covers(pod.labels) for pod in self.state.running.leaving()
        )

    def budget_gone(self, event: ev.BudgetGone) -> None:
        """A disruption budget exists no longer."""
        self.state.budgets.pop(event.key, None)
        self.state.disruptions.pop(event.key, None)

    def storage_seen(self, event: ev.StorageSeen) -> None:
        """Something pods attach to exists."""
        if isinstance(event.item, Holding):
            self.state.counters.devices.hold(event.item)
            return
        self._storage_changed(event.item, self.state.attachments.put(event.item))

    def _storage_changed(self, item: Claim | Volume | StorageClass | Slice, claims: Iterable[ClaimName]) -> None:
        state = self.state
        if not isinstance(item, Claim | Volume):
            state.nodes.mark_stale()
            state.demand_version += 1
            return
        classes = state.interning.naming(claims)
        state.own_version += bool(classes)
        if not state.stale:
            for klass in classes:
                state.refitted.append(klass.id)
                state.counters.refit(klass)

    def storage_gone(self, event: ev.StorageGone) -> None:
        """Something pods attach to exists no longer."""
        if isinstance(event.item, Holding):
            self.state.counters.devices.release(event.item.key)
            self.state.own_version += 1
            return
        self._storage_changed(event.item, self.state.attachments.drop(event.item))
