"""Demand: what entitlement is filled with, and the cache of what came out.

Per leaf, in order of priority, then creation: every running pod, but for those on their way out, and every pending pod
that could start on this cluster. A pending pod counts if its gang is complete, its tenant not suspended, some empty
node would take it, and, where it may not be preempted, the guarantee covers it on top of what such pods use already.

Entitlement knows pools, not nodes. So demand that only some nodes of its pools would take (pins.py) counts no further
than these nodes reach: what no fair division could give to a leaf must not lessen the others' part.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from allotment_scheduler.core.entitlement.filling import Entitlement, fill
from allotment_scheduler.core.entitlement.pins import Pins
from allotment_scheduler.core.entitlement.portions import Portions, Want
from allotment_scheduler.core.fairness.shares import Measure
from allotment_scheduler.core.objects.nodes import BoolVector
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.objects.resources import PODS, Amounts, Column
from allotment_scheduler.core.objects.tenants import Tenant
from allotment_scheduler.core.objects.units import Gang, Unit
from allotment_scheduler.core.placement.eligibility import covered_pools
from allotment_scheduler.core.placement.placer import Placer
from allotment_scheduler.core.placement.scores import pools_by_price
from allotment_scheduler.core.state.cluster import ClusterState

Ints = npt.NDArray[np.int64]
Places = tuple[int, tuple[str, ...]]


class Demand:
    """Entitlement of a state, computed at most once per version of demand, from outside and of our own."""

    def __init__(self, state: ClusterState, placer: Placer) -> None:
        self.state = state
        self.placer = placer
        self.pins = Pins(state, placer)
        self._version = (-1, -1)
        self._entitlement = Entitlement({})
        self._filled: tuple[Tenant, Measure, Portions] | None = None
        """The tree, capacity and demand that it was filled with."""
        self._places: dict[Places, tuple[str, ...]] = {}
        self._layout = -1
        self._stands = False
        self._leavers: tuple[object, list[Pod]] = None, []
        self._leaving: dict[tuple[Tenant, str, Column], int] = {}
        """What they take up."""

    def entitlement(self) -> Entitlement:
        """Entitlement for the present demand. Many changes leave demand as it was: then nothing is filled anew."""
        version = (self.state.demand_version, self.state.own_version)
        if self._version != version and not self._stands:
            root, measure, portions = self.state.forest.root, self.state.measure, self.portions()
            last = self._filled
            if last is None or last[0] is not root or last[1] != measure or not last[2].same_as(portions):
                self._entitlement = fill(root, portions, measure)
                self._filled = root, measure, portions
            self._version = version
        return self._entitlement

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Entitlement stays what it is now: those on their way out are not shown, but some of them are demand still."""
        self.entitlement()
        self._stands = True
        try:
            yield
        finally:
            self._stands = False

    def portions(self) -> Portions:
        """Every leaf's demand in order, equal neighbours merged."""
        running, size = self.state.running.flush(), self.state.running.size
        rows = np.flatnonzero(running.used[:size] & (running.leaf[:size] >= 0))
        if (leaving := running.deleting[rows]).any():
            rows = np.delete(rows, self._replaced(rows, np.flatnonzero(leaving)))
        waiting = self._startable()
        leaf = _joined(running.leaf[rows], [pod.leaf.rank if pod.leaf else -1 for pod in waiting])
        klass = _joined(running.klass[rows], [pod.klass.id for pod in waiting])
        node = _joined(running.node[rows], [-1] * len(waiting))
        priority = _joined(
            running.priority[rows], [pod.spec.priority if pod.gang is None else pod.priority for pod in waiting]
        )
        created = np.concatenate([running.created[rows], np.array([pod.spec.created for pod in waiting])])
        sight = _joined(running.sight[rows], [pod.arrival[2] for pod in waiting])
        pools = self.state.nodes.pool_index
        pool = np.where(node >= 0, pools[node] if len(pools) else -1, -1)
        order = np.lexsort((sight, created, -priority, leaf))
        order = order[self.pins.within_reach(leaf[order], klass[order])]
        return self._merged(leaf[order], klass[order], pool[order])

    def _replaced(self, rows: npt.NDArray[np.intp], leaving: npt.NDArray[np.intp]) -> list[int]:
        """Which of those on their way out ask for nothing more: who comes in their place does that, or nobody does.

        Whom we evicted asks until the one that his owner makes in his place has come.
        """
        evicted = self.state.population.turns.owners_evicted
        awaited: dict[str, int] = {}
        out: list[int] = []
        for place in leaving.tolist():
            pod = self.state.running.pods[rows[place]]
            if pod is not None and pod.leaving:
                owner = pod.spec.owner
                awaited[owner] = awaited.get(owner, evicted.get(owner, (0, 0.0))[0]) - 1
                if not owner or awaited[owner] >= 0:
                    continue
            out.append(place)
        return out

    def _merged(self, leaf: Ints, klass: Ints, pool: Ints) -> Portions:
        """Pods in order, by leaf, class and present pool (-1: none), as portions."""
        tenants = self.state.forest.tenants
        scopes: dict[tuple[str, ...], tuple[int, Tenant]] = {}
        scope = np.zeros(len(tenants), dtype=np.int64)
        for rank in np.unique(leaf).tolist():
            found = scopes.setdefault(self.state.lineup.pools_of(tenants[rank]), (len(scopes), tenants[rank]))
            scope[rank] = found[0]
        examples = [tenant for _, tenant in scopes.values()]
        places, many = len(self.state.nodes.pool_names) + 1, max(len(scopes), 1)
        combined, which = np.unique((klass * places + pool + 1) * many + scope[leaf], return_inverse=True)
        wants: dict[Want, int] = {}
        numbers = np.zeros(len(combined), dtype=np.int64)
        for index, number in enumerate(combined.tolist()):
            klass_id, pool_id = number // many // places, number // many % places - 1
            pools = self._places_of(klass_id, examples[number % many])
            if pool_id >= 0 and (name := self.state.nodes.pool_names[pool_id]) not in pools:
                pools = (*pools, name)
            numbers[index] = wants.setdefault((self.state.classes[klass_id].asks, pools), len(wants))
        return Portions.of(leaf, numbers[which.reshape(-1)], list(wants), [tenant.name for tenant in tenants])

    def _startable(self) -> list[Pod]:
        """Waiting pods that could start on this cluster, those under guarantees in order of creation."""
        ahead: dict[tuple[str, str, Column], int] = {}
        expected: list[Pod] = []
        gangs = {key: self._gang_could_start(gang, expected) for key, gang in self.state.gangs.items()}
        waiting = self._taken_somewhere(gangs) + expected
        if all(pod.spec.preemptible for pod in waiting):
            return waiting
        waiting.sort(key=lambda pod: (-pod.priority, pod.spec.created, pod.arrival[2]))
        return [pod for pod in waiting if pod.leaf is not None and self._covered(pod, pod.leaf, ahead)]

    def _taken_somewhere(self, gangs: Mapping[tuple[str, str], bool]) -> list[Pod]:
        """Waiting pods, of no gang or of one that could start, that some empty node would take.

        Whether it would is asked once for all leaves with the same pools.
        """
        by_pools: dict[tuple[str, ...], dict[int, bool]] = {}
        by_leaf: dict[Tenant, dict[int, bool]] = {}
        found: list[Pod] = []
        for pod in self.state.waiting():
            leaf = pod.leaf
            if leaf is None or not _may_wait(pod) or not (pod.gang is None or gangs[pod.gang.key]):
                continue
            taken = by_leaf.get(leaf)
            if taken is None:
                taken = by_leaf[leaf] = by_pools.setdefault(self.state.lineup.pools_of(leaf), {})
            klass = pod.klass.id
            if klass not in taken:
                taken[klass] = bool(self.places(pod, leaf))
            if taken[klass]:
                found.append(pod)
        return found

    def _gang_could_start(self, gang: Gang, expected: list[Pod]) -> bool:
        """Whether a gang is complete and some empty node would take each of the pods that it starts with.

        Members beyond those are demand one by one. The members that the gang expects and that hold no room yet are
        demand too: they are added to `expected`.
        """
        if gang.spec is None or gang.spec.paused:
            return False
        waiting = [pod for pod in gang.waiting() if _may_wait(pod)]
        coming = self.state.lineup.expected(gang, waiting) if waiting and gang.running < gang.min_member else []
        needed = max(gang.min_member - gang.running - len(gang.phantoms) - len(coming), 0)
        if len(waiting) < needed:
            return False
        if not all(pod.leaf is not None and self.places(pod, pod.leaf) for pod in [*waiting[:needed], *coming]):
            return False
        expected += coming
        return True

    def _covered(self, pod: Pod, leaf: Tenant, ahead: dict[tuple[str, str, Column], int]) -> bool:
        """Whether guarantees cover a pod that may not be preempted, counting those that came before it."""
        if pod.spec.preemptible:
            return True
        bare, _, pools = covered_pools(leaf, pod.klass.asks, self.places(pod, leaf), ahead)
        if bare is not None:
            return False
        for tenant in leaf.path:
            for column, amount in pod.klass.asks:
                for pool in ("", pools[0]):
                    ahead[tenant.name, pool, column] = ahead.get((tenant.name, pool, column), 0) + amount
        return True

    def places(self, pod: Pod, leaf: Tenant) -> tuple[str, ...]:
        """Pools where an empty node would take the pod, the cheapest first."""
        return self._places_of(pod.klass.id, leaf)

    def _places_of(self, klass_id: int, leaf: Tenant) -> tuple[str, ...]:
        if self._layout != self.state.nodes.layout_version:
            self._layout = self.state.nodes.layout_version
            self._places.clear()
        pools = self.state.lineup.pools_of(leaf)
        key = (klass_id, pools)
        found = self._places.get(key)
        if found is None:
            klass = self.state.classes[klass_id]
            mask = self.placer.static_mask(klass, pools) & empty_fit(self.state, klass.room)
            nodes = self.state.nodes
            present = {nodes.pool_names[int(index)] for index in np.unique(nodes.pool_index[mask])}
            ordered = pools_by_price(nodes, klass.asks, self.state.measure)
            found = self._places[key] = tuple(pool for pool in ordered if pool in present)
        return found

    def uses_no_more(self, unit: Unit) -> bool:
        """Whether no tenant of a unit's uses more than its entitlement, in what the unit asks for and where it may run.

        Where no node would ever take it, all pools count. Who is on his way out counts in no use: he is no demand.
        """
        pools = self.scope(unit) if self.state.forest.root.used_in else ()
        entitlement = self.entitlement()
        above = [
            (tenant, column, over) for tenant in unit.leaf.path for column, _ in unit.asks
            if (over := (sum(tenant.used_at(pool)[column] for pool in pools) if pools else tenant.used[column])
                - entitlement.whole(tenant, column, pools or None)) > 0
        ]  # fmt: skip
        leaving = self._used_by_leavers() if above else {}
        return all(
            over <= sum(leaving.get((tenant, pool, column), 0) for pool in pools or ("",))
            for tenant, column, over in above
        )

    def _used_by_leavers(self) -> Mapping[tuple[Tenant, str, Column], int]:
        """What those on their way out take up, by tenant, pool ("": in all) and resource."""
        state = self.state
        leavers = (state.forest.root, state.nodes.layout_version), state.running.leaving()
        if leavers != self._leavers:
            self._leavers, self._leaving = leavers, {}
            for pod in leavers[1]:
                node = state.nodes.by_name.get(pod.node or "")
                for tenant in pod.leaf.path if pod.leaf is not None else ():
                    for pool in {"", node.pool if node is not None else ""}:
                        for column, amount in pod.klass.amounts:
                            where = (tenant, pool, column)
                            self._leaving[where] = self._leaving.get(where, 0) + amount
        return self._leaving

    def scope(self, unit: Unit) -> tuple[str, ...]:
        """Pools where a claimant may run."""
        return self.scope_of(unit.pods, unit.leaf)

    def scope_of(self, pods: tuple[Pod, ...], leaf: Tenant) -> tuple[str, ...]:
        """Pools where some of these pods of a tenant may run."""
        names: dict[str, None] = {}
        for pod in {pod.klass: pod for pod in pods}.values():
            names.update(dict.fromkeys(self.places(pod, leaf)))
        return tuple(names)


def _may_wait(pod: Pod) -> bool:
    """Whether nothing but room keeps a pod from starting."""
    return not (
        pod.leaf is None or pod.leaf.suspended or pod.spec.gated or pod.spec.deleting or pod.invalid or pod.set_aside
    )


def _joined(running: npt.NDArray[np.signedinteger], waiting: list[int]) -> Ints:
    return np.concatenate([running, np.array(waiting, dtype=np.int64)])


def empty_fit(state: ClusterState, amounts: Amounts) -> BoolVector:
    """Nodes that could take a request if they were empty."""
    mask = state.nodes.usable_mask()
    for column, amount in amounts:
        if column != PODS:
            mask &= state.nodes.allocatable[column] >= amount
    return mask
