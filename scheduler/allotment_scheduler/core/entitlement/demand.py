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

from allotment_scheduler.core.entitlement.asking import Asking, Ints, Rows
from allotment_scheduler.core.entitlement.filling import Entitlement, fill
from allotment_scheduler.core.entitlement.pins import Pins
from allotment_scheduler.core.entitlement.portions import Portions, Want, distinct
from allotment_scheduler.core.fairness.shares import Measure
from allotment_scheduler.core.objects.nodes import BoolVector
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.objects.resources import Column
from allotment_scheduler.core.objects.tenants import Tenant
from allotment_scheduler.core.objects.units import Gang, Unit
from allotment_scheduler.core.placement.eligibility import covered_pools
from allotment_scheduler.core.placement.placer import Placer
from allotment_scheduler.core.placement.scores import pools_by_price
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.core.state.table import PodTable

Places = dict[tuple[str, ...], tuple[str, ...]]
"""Of the pools that somebody may use, those where an empty node would take his pod, the cheapest first."""


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
        self._places: dict[int, Places] = {}
        """By class."""
        self._layout = -1
        self._refitted = 0
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
        asking = self._asking()
        runs = np.arange(len(asking.leaf)) < len(asking.picked[0][1])
        order = np.lexsort((asking.sight, asking.created, -asking.priority, asking.leaf))
        want, wants = self._wants(asking)
        could = self._could_run(asking, runs, np.array([bool(pools) for _, pools in wants], dtype=np.bool_)[want])
        if not could.all():
            order = order[could.take(order)]
        order = self.pins.within_reach(order, asking.leaf, asking.klass)
        names = [tenant.name for tenant in self.state.forest.tenants]
        return Portions.of(asking.leaf.take(order), want.take(order), wants, names)

    def _asking(self) -> Asking:
        """Who runs, but for those that ask for nothing more, and who waits and is kept back by nobody but nodes."""
        running, size = self.state.running.flush(), self.state.running.size
        standing = np.flatnonzero(running.used[:size] & (running.leaf[:size] >= 0))
        if (leaving := running.deleting[standing]).any():
            standing = np.delete(standing, self._replaced(standing, np.flatnonzero(leaving)))
        pending, announced = self.state.pending.flush(), PodTable()
        waits = pending.used[: pending.size] & self._may_start(pending.leaf[: pending.size])
        waits[[pod.slot for pod in self._kept_back(announced)]] = False
        rest = announced.flush()
        return Asking.of((running, standing), (pending, np.flatnonzero(waits)), (rest, np.arange(rest.size)))

    def _may_start(self, leaf: npt.NDArray[np.int32]) -> BoolVector:
        """By tenant's rank, whether any of its pods may start: none of nobody's (-1), or of one that is suspended."""
        open_to_starts: BoolVector = np.array([not tenant.suspended for tenant in self.state.forest.tenants] + [False])
        return open_to_starts[leaf]

    def _replaced(self, rows: Rows, leaving: Rows) -> list[int]:
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

    def _wants(self, asking: Asking) -> tuple[Ints, list[Want]]:
        """What everybody wants, by number: who is of one class, in one pool and of leaves with equal pools is alike."""
        tenants = self.state.forest.tenants
        scopes: dict[tuple[str, ...], tuple[int, Tenant]] = {}
        scope = np.zeros(len(tenants), dtype=np.int64)
        for rank in np.flatnonzero(np.bincount(asking.leaf)).tolist():
            found = scopes.setdefault(self.state.lineup.pools_of(tenants[rank]), (len(scopes), tenants[rank]))
            scope[rank] = found[0]
        examples = [tenant for _, tenant in scopes.values()]
        places, many = len(self.state.nodes.pool_names) + 1, max(len(scopes), 1)
        pools_at = self.state.nodes.pool_index
        pool = np.where(asking.node >= 0, pools_at[asking.node] if len(pools_at) else -1, -1)
        combined = (asking.klass * places + pool + 1) * many + scope[asking.leaf]
        alike, which = distinct(combined)
        wants: dict[Want, int] = {}
        numbers = np.zeros(len(alike), dtype=np.int64)
        for index, number in enumerate(alike.tolist()):
            klass_id, pool_id = number // many // places, number // many % places - 1
            pools = self._places_of(klass_id, examples[number % many])
            if pool_id >= 0 and (name := self.state.nodes.pool_names[pool_id]) not in pools:
                pools = (*pools, name)
            numbers[index] = wants.setdefault((self.state.classes[klass_id].asks, pools), len(wants))
        return numbers.take(which), list(wants)

    def _could_run(self, asking: Asking, runs: BoolVector, placed: BoolVector) -> BoolVector:
        """Who runs, or could on this cluster: some empty node takes him, and guarantees cover him if he needs them.

        Those who may not be preempted are counted against the guarantees in order of creation.
        """
        could = placed | runs
        fixed = np.flatnonzero(could & asking.fixed & ~runs)
        order = np.lexsort((asking.sight[fixed], asking.created[fixed], -asking.priority[fixed]))
        ahead: dict[tuple[str, str, Column], int] = {}
        for place in fixed[order].tolist():
            pod = asking.pod(place)
            could[place] = pod.leaf is not None and self._covered(pod, pod.leaf, ahead)
        return could

    def _kept_back(self, announced: PodTable) -> Iterator[Pod]:
        """Pending pods that could not start whatever nodes there are: in quarantine, or of a gang that cannot gather.

        What other gangs expect is added to `announced`.
        """
        for key in self.state.set_aside:
            pod = self.state.pods.get(key)
            if pod is not None and pod.set_aside and pod.pends:
                yield pod
        for gang in self.state.gangs.values():
            if not self._gang_could_start(gang, announced):
                yield from (pod for pod in gang.members.values() if pod.pends)

    def _gang_could_start(self, gang: Gang, announced: PodTable) -> bool:
        """Whether a gang is complete and some empty node would take each of the pods that it starts with.

        Members beyond those are demand one by one. The members that the gang expects and that hold no room yet are
        demand too: they are added to `announced`.
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
        for pod in coming:
            announced.add(pod, -1)
        return True

    def _covered(self, pod: Pod, leaf: Tenant, ahead: dict[tuple[str, str, Column], int]) -> bool:
        """Whether guarantees cover a pod that may not be preempted, counting those that came before it."""
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
            self._refitted = 0
        if self._refitted != len(self.state.refitted):
            for refitted in self.state.refitted[self._refitted :]:
                self._places.pop(refitted, None)
            self._refitted = len(self.state.refitted)
        pools = self.state.lineup.pools_of(leaf)
        places = self._places.setdefault(klass_id, {})
        found = places.get(pools)
        if found is None:
            klass = self.state.classes[klass_id]
            mask = self.pins.takers(klass_id) & self.placer.in_pools(pools)
            nodes = self.state.nodes
            present = {nodes.pool_names[int(index)] for index in np.unique(nodes.pool_index[mask])}
            ordered = pools_by_price(nodes, klass.asks, self.state.measure)
            found = places[pools] = tuple(pool for pool in ordered if pool in present)
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
    """Whether nothing but room, or its gang, keeps a pod from starting."""
    return pod.leaf is not None and not pod.leaf.suspended and pod.ready and not pod.set_aside
