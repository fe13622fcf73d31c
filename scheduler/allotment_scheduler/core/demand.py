"""Demand: what entitlement is filled with, and the cache of what came out.

Per leaf, in order of priority, then creation: every running pod, and every pending pod that could start on this
cluster. A pending pod counts if its gang is complete, its tenant not suspended, some empty node would take it, and,
where it may not be preempted, the guarantee covers it on top of what such pods use already.
"""

import numpy as np

from allotment_scheduler.core.entitlement import Entitlement, Portion, fill
from allotment_scheduler.core.nodes import BoolVector
from allotment_scheduler.core.placement import Placer
from allotment_scheduler.core.pods import Pod
from allotment_scheduler.core.resources import PODS, Amounts
from allotment_scheduler.core.scores import pools_by_price
from allotment_scheduler.core.state import ClusterState
from allotment_scheduler.core.tenants import Tenant
from allotment_scheduler.core.units import Unit

Places = tuple[int, tuple[str, ...]]


class Demand:
    """Entitlement of a state, computed once per version of demand."""

    def __init__(self, state: ClusterState, placer: Placer) -> None:
        self.state = state
        self.placer = placer
        self._version = -1
        self._entitlement = Entitlement({})
        self._places: dict[Places, tuple[str, ...]] = {}
        self._layout = -1

    def entitlement(self) -> Entitlement:
        """Entitlement for the present demand."""
        if self._version != self.state.demand_version:
            self._version = self.state.demand_version
            self._entitlement = fill(self.state.forest.root, self.portions(), self.state.measure)
        return self._entitlement

    def portions(self) -> dict[str, list[Portion]]:
        """Every leaf's demand in order, equal neighbours merged."""
        by_leaf: dict[Tenant, list[Pod]] = {}
        for pod in self.state.running.pods:
            if pod is not None and pod.leaf is not None:
                by_leaf.setdefault(pod.leaf, []).append(pod)
        everyone = self.state.forest.by_name.values()
        fixed: dict[str, dict[int, int]] = {tenant.name: dict(enumerate(tenant.fixed)) for tenant in everyone}
        for pod in sorted(self.state.waiting(), key=_creation_order):
            if self._could_start(pod) and pod.leaf is not None and self._covered(pod, pod.leaf, fixed):
                by_leaf.setdefault(pod.leaf, []).append(pod)
        return {leaf.name: self._merged(pods, leaf) for leaf, pods in by_leaf.items()}

    def _could_start(self, pod: Pod) -> bool:
        if pod.leaf is None or pod.leaf.suspended or pod.spec.gated:
            return False
        gang = pod.gang
        if gang is not None:
            if gang.spec is None or gang.running + len(gang.waiting()) < gang.min_member:
                return False
            return all(self.places(member, pod.leaf) for member in gang.waiting())
        return bool(self.places(pod, pod.leaf))

    def _covered(self, pod: Pod, leaf: Tenant, fixed: dict[str, dict[int, int]]) -> bool:
        """Whether guarantees cover a pod that may not be preempted, counting those that came before it."""
        if pod.spec.preemptible:
            return True
        asks = pod.klass.asks
        levels = [tenant for tenant in leaf.path if tenant.has_guarantee]
        for tenant in levels:
            options = [tenant.guaranteed] if tenant.guaranteed is not None else list(tenant.guaranteed_in.values())
            if not any(all(fixed[tenant.name][c] + a <= caps.get(c, 0) for c, a in asks) for caps in options):
                return False
        for tenant in leaf.path:
            for column, amount in asks:
                fixed[tenant.name][column] += amount
        return bool(levels)

    def places(self, pod: Pod, leaf: Tenant) -> tuple[str, ...]:
        """Pools where an empty node would take the pod, the cheapest first."""
        if self._layout != self.state.nodes.layout_version:
            self._layout = self.state.nodes.layout_version
            self._places.clear()
        pools = self.state.pools_of(leaf)
        key = (int(pod.klass.id), pools)
        found = self._places.get(key)
        if found is None:
            mask = self.placer.static_mask(pod.klass, pools) & empty_fit(self.state, pod.klass.amounts)
            nodes = self.state.nodes
            present = {nodes.pool_names[int(index)] for index in np.unique(nodes.pool_index[mask])}
            ordered = pools_by_price(nodes, pod.klass.asks, self.state.measure)
            found = self._places[key] = tuple(pool for pool in ordered if pool in present)
        return found

    def scope(self, unit: Unit) -> tuple[str, ...]:
        """Pools where a claimant may run."""
        names: dict[str, None] = {}
        for pod in unit.pods:
            names.update(dict.fromkeys(self.places(pod, unit.leaf)))
        return tuple(names)

    def _merged(self, pods: list[Pod], leaf: Tenant) -> list[Portion]:
        portions: list[Portion] = []
        last: tuple[Amounts, tuple[str, ...]] | None = None
        count = 0
        for pod in sorted(pods, key=_creation_order):
            places = self.places(pod, leaf)
            if pod.node is not None:
                here = self.state.nodes.by_name.get(pod.node)
                if here is not None and here.pool not in places:
                    places = (*places, here.pool)
            what = (pod.klass.asks, places)
            if what == last:
                count += 1
                continue
            if last is not None:
                portions.append(Portion(*last, count))
            last, count = what, 1
        if last is not None:
            portions.append(Portion(*last, count))
        return portions


def _creation_order(pod: Pod) -> tuple[int, float, int]:
    return (-pod.spec.priority, pod.spec.created, pod.arrival[2])


def empty_fit(state: ClusterState, amounts: Amounts) -> BoolVector:
    """Nodes that could take a request if they were empty."""
    mask = state.nodes.usable_mask()
    for column, amount in amounts:
        if column != PODS:
            mask &= state.nodes.allocatable[column] >= amount
    return mask
