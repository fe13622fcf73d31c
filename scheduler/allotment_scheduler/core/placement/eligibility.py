"""Which unit of a leaf can start now: within limits, within the guarantee if it may not be preempted, and on nodes.

A lane whose front cannot start is parked with the reason, and the leaf looks further: a misfit never blocks others.
A lane that lacks nothing but a node stays parked from round to round, until its row gains one: so a round on a full
cluster costs by what has changed, not by what waits. All other lanes are judged anew in every round.
Lanes are unparked by what could have changed the answer: a row that gained a node, or less use under a limit.

Limits and guarantees of single pools are in the way where they close every pool in which a unit could run: pools that
are open to its tenant, but have no node for it, do not help.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import numpy as np

from allotment_scheduler.core.fairness.limits import closed_by, limit_in_the_way
from allotment_scheduler.core.fairness.shares import Where
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.objects.resources import Amounts, Column, without_pods
from allotment_scheduler.core.objects.tenants import Tenant
from allotment_scheduler.core.objects.units import Lane, Shape, Unit, total
from allotment_scheduler.core.placement.gangs import GangPlacer
from allotment_scheduler.core.placement.placer import Placer, Row
from allotment_scheduler.core.placement.witnesses import Witnesses
from allotment_scheduler.core.state.cluster import ClusterState

Scope = Callable[[tuple[Pod, ...], Tenant], tuple[str, ...]]
"""The pools where empty nodes would take some of these pods of a tenant."""
Ahead = Mapping[tuple[str, str, Column], int]
"""Use that may not be preempted and is still to come, by tenant, pool ("": all of them) and resource."""
NOBODY: Final[Ahead] = {}

LIMIT = "limit"
ROOM = "room"
GUARANTEE = "guarantee"


class Eligibility:
    """Finds each leaf's first unit that can start.

    `scope` says where pods could run. `troubled` takes a unit out of the way that cannot be judged; without it the
    error is the caller's.
    """

    def __init__(
        self, state: ClusterState, placer: Placer, gangs: GangPlacer, scope: Scope,
        troubled: Callable[[Unit, Exception], None] | None = None,
    ) -> None:  # fmt: skip
        self.state = state
        self.placer = placer
        self.gangs = gangs
        self.scope = scope
        self.troubled = troubled
        self.parked_on: dict[Row, list[Lane]] = {}
        self.roomless: dict[Row, list[Lane]] = {}
        """Lanes that lack nothing but a node: nothing else need be looked at until their row gains one."""
        self.parked_near: dict[Row, int] = {}
        """Rows among them whose neighbours matter, with the version of those neighbours."""
        self.watching: dict[Row, set[Tenant]] = {}
        """Leaves whose candidate stands on this row."""
        self.gang_leaves: dict[Tenant, None] = {}
        """Leaves whose candidate needs more than one row's word: asked again after every change."""
        self.gang_seats: dict[Row, dict[Tenant, int]] = {}
        """Leaves whose candidate needs so many slots of one row: asked again when there are fewer."""
        self._gang_rows: dict[Tenant, list[Row]] = {}
        self._most_seats: dict[Row, int] = {}
        self._judged_anew: list[Lane] = []
        """The other parked lanes: more than a gained node could let them start."""
        self._witnesses: Witnesses | None = None
        """Whose rows `roomless` speaks of."""

    def propose(self, leaf: Tenant) -> Unit | None:
        """The leaf's first unit that can start now."""
        self.gang_leaves.pop(leaf, None)
        for row in self._gang_rows.pop(leaf, ()):
            self.gang_seats[row].pop(leaf, None)
        queue = self.state.queues.get(leaf.name)
        if queue is None:
            return None
        while True:
            front = queue.front()
            if front is None:
                return None
            lane, unit = front
            try:
                if self._can_start(lane, unit):
                    return unit
            except Exception as error:
                if self.troubled is None:
                    raise
                self.troubled(unit, error)

    def _can_start(self, lane: Lane, unit: Unit) -> bool:
        shape = lane.shape
        pools = shape.pools
        if lane.leaf.limited_path or shape.fixed:
            if shape.fixed and barred_by_guarantee(unit, self.scope) is not None:
                return self._park(lane, GUARANTEE, None)
            blocker = barred_by_limit(unit, self.scope)
            if blocker is not None:
                return self._park(lane, LIMIT, blocker)
            pools = limits_met(lane.leaf, shape)[1]
        if shape.size == 1:
            return self._has_room(lane, pools)
        if not self.gangs.fits(unit, pools):
            return self._park(lane, ROOM, None)
        counted = self.gangs.counted(unit, pools)
        if counted is None:
            self.gang_leaves[lane.leaf] = None
        else:
            self._needs_seats(lane.leaf, *counted)
        return True

    def _needs_seats(self, leaf: Tenant, row: Row, count: int) -> None:
        """Ask a leaf again when a row has fewer slots than its candidate needs there."""
        self._gang_rows.setdefault(leaf, []).append(row)
        self.gang_seats.setdefault(row, {})[leaf] = count
        self._most_seats[row] = max(count, self._most_seats.get(row, 0))

    def _has_room(self, lane: Lane, pools: tuple[str, ...]) -> bool:
        """Whether one pod of a lane fits somewhere; remembers whom to ask again when that changes."""
        key = lane.shape.parts[0][0]
        row = self.placer.row(key if pools is key[2] else (key[0], key[1], pools))
        if self.placer.feasible(row):
            if row.blocks:
                self.gang_leaves[lane.leaf] = None
            watchers = self.watching.get(row)
            if watchers is None:
                watchers = self.watching[row] = set()
            watchers.add(lane.leaf)
            return True
        if row.blocks:
            self.parked_near[row] = row.neighbours.version
        if row.blocks or lane.shape.fixed or lane.leaf.limited_path:
            self.parked_on.setdefault(row, []).append(lane)
            return self._park(lane, ROOM, None)
        self.roomless.setdefault(row, []).append(lane)
        lane.parked = ROOM
        return False

    def _park(self, lane: Lane, why: str, by: Tenant | None) -> bool:
        lane.parked, lane.parked_by = why, by
        self._judged_anew.append(lane)
        return False

    def where(self, unit: Unit) -> Where:
        """What of an eligible unit would stand in each pool; its leaf is asked again when that may change."""
        pools, leaf = limits_met(unit.leaf, unit.shape)[1], unit.leaf
        nodes, placer = self.state.nodes, self.placer
        stands: dict[str, list[Pod]] = {}
        if unit.shape.size == 1:
            (klass_id, seen, _), _ = unit.shape.parts[0]
            index = placer.best(placer.row((klass_id, seen, pools)))
            stands = {nodes.ordered[index].pool: [unit.first]} if index >= 0 else {}
        else:
            with self.state.trial() as trial:
                if self.gangs.place(unit, pools, trial):
                    for pod, name, _ in trial.log:
                        stands.setdefault(nodes.by_name[name].pool, []).append(pod)
        if leaf in self.gang_leaves or len(unit.shape.parts) > 1 or not self._fill_in_turn(pools):
            self.gang_leaves[leaf] = None
        elif len(pools) > 1:
            for pool, pods in stands.items():
                self._needs_seats(leaf, placer.row((*unit.shape.parts[0][0][:2], (pool,))), len(pods))
        return {pool: without_pods(total(pods)) for pool, pods in stands.items()} or unit.shape.pools

    def _fill_in_turn(self, pools: tuple[str, ...]) -> bool:
        """Whether one pool is filled after the other: not where some nodes of a pool have GPUs and others have none."""
        if len(pools) < 2:
            return True
        where, has_gpu = self.state.nodes.pool_index, self.placer.basis.has_gpu
        return not np.intersect1d(where[has_gpu], where[~has_gpu]).size

    def leaves_to_ask(self) -> Iterable[Tenant]:
        """Leaves whose candidate may have changed through others' starts: rows that came or went, gangs in doubt."""
        changed = self.placer.take_changes()
        if not (changed or self.parked_near or self.gang_seats):
            return self.gang_leaves
        leaves: set[Tenant] = set()
        for row, seats in self.gang_seats.items():
            if seats and (slots := self.placer.slots(row)) < self._most_seats[row]:
                leaves.update(leaf for leaf, count in seats.items() if count > slots)
        changed |= {row for row, version in self.parked_near.items() if row.neighbours.version != version}
        for row in changed:
            self.parked_near.pop(row, None)
            leaves |= self.watching.pop(row, set())
            for lane in (*self.parked_on.pop(row, ()), *self.roomless.pop(row, ())):
                if lane.parked == ROOM and self.state.lineup.queue(lane.leaf).unpark(lane):
                    leaves.add(lane.leaf)
        leaves.update(self.gang_leaves)
        return leaves

    def reopen(self) -> None:
        """A new round begins: let every lane compete again that might start."""
        lineup = self.state.lineup
        changed = self.placer.take_changes()
        if lineup.parked_by is not self or self._witnesses is not self.placer.witnesses:
            self.unpark_all()
            return
        self._forget_candidates()
        judged_anew, self._judged_anew = self._judged_anew, []
        for row in changed:
            judged_anew += self.roomless.pop(row, ())
        for lane in judged_anew:
            lineup.queue(lane.leaf).unpark(lane)

    def unpark_all(self) -> None:
        """Let every lane compete again, whoever parked it."""
        self.roomless.clear()
        self._judged_anew.clear()
        self._forget_candidates()
        self._witnesses, self.state.lineup.parked_by = self.placer.witnesses, self
        for queue in self.state.queues.values():
            for lane in queue.lanes.values():
                queue.unpark(lane)

    def _forget_candidates(self) -> None:
        self.parked_on.clear()
        self.parked_near.clear()
        self.watching.clear()
        self.gang_leaves.clear()
        self.gang_seats.clear()
        self._gang_rows.clear()
        self._most_seats.clear()


def barred_by_guarantee(unit: Unit, scope: Scope) -> tuple[Tenant, Column | None] | None:
    """Why no guarantee lets a unit that may not be preempted start anywhere it could run, as `beyond_guarantee`."""
    leaf, shape = unit.leaf, unit.shape
    bare, column, _ = covered_pools(leaf, shape.fixed_asks, _in_question(unit, scope))
    return None if bare is None else (bare, column)


def barred_by_limit(unit: Unit, scope: Scope) -> Tenant | None:
    """The tenant whose limits, or guarantees for what may not be preempted, let a unit start nowhere it could run."""
    leaf, shape = unit.leaf, unit.shape
    blocker, _ = limits_met(leaf, shape, _in_question(unit, scope))
    if blocker is None and len(shape.parts) > 1 and _pool_limited(leaf):
        for pod in {pod.klass: pod for pod in unit.pods}.values():
            blocker = blocker or closed_by(leaf, pod.klass.amounts, scope((pod,), leaf) or shape.pools)
    return blocker


def _in_question(unit: Unit, scope: Scope) -> tuple[str, ...]:
    """The pools by which it is judged what is in a unit's way: if no node would ever take it, all that it may use."""
    if unit.leaf.pool_guaranteed or _pool_limited(unit.leaf):
        return scope(unit.pods, unit.leaf) or unit.shape.pools
    return unit.shape.pools


def _pool_limited(leaf: Tenant) -> bool:
    return any(tenant.limits_in for tenant in leaf.limited_path)


def limits_met(
    leaf: Tenant, shape: Shape, pools: tuple[str, ...] | None = None
) -> tuple[Tenant | None, tuple[str, ...]]:
    """The tenant whose limit is in the way of one more such unit, and which of some pools are open to it.

    Limits per pool close pools, to a gang once they take none of its pods; so do guarantees to a unit that may not be
    preempted: it stays where they cover all of it. Unless said otherwise the pools are all that its tenant may use.
    """
    pools = shape.pools if pools is None else pools
    if shape.fixed:
        bare, _, pools = covered_pools(leaf, shape.fixed_asks, pools)
        if bare is not None:
            return bare, pools
    return limit_in_the_way(leaf, shape, pools)


def beyond_guarantee(leaf: Tenant, shape: Shape) -> tuple[Tenant, Column | None] | None:
    """Why a unit that may not be preempted may not start: the tenant, and the resource its guarantee does not cover.

    No resource is named where no tenant has a guarantee, or where it depends on the pool.
    """
    bare, column, _ = covered_pools(leaf, shape.fixed_asks, shape.pools)
    return None if bare is None else (bare, column)


def is_covered(pod: Pod, pool: str) -> bool:
    """Whether guarantees cover a pod in a pool, if it may not be preempted."""
    if pod.spec.preemptible or pod.leaf is None:
        return True
    bare, _, pools = covered_pools(pod.leaf, pod.klass.asks, (pool,))
    return bare is None and bool(pools)


def covered_pools(
    leaf: Tenant, asks: Amounts, pools: tuple[str, ...], ahead: Ahead = NOBODY
) -> tuple[Tenant | None, Column | None, tuple[str, ...]]:
    """The pools where guarantees cover what may not be preempted; where there are none, whose guarantee ends them.

    In each of these pools, at every level that has a guarantee, and for every requested resource, the use of that kind
    with the request stays within the guarantee of that pool or within that of the whole cluster. Some level must have
    one. `ahead` is what others are given first.
    """
    guaranteed = False
    for tenant in leaf.path:
        if not tenant.has_guarantee:
            continue
        guaranteed = True
        total, name = tenant.guaranteed or {}, tenant.name
        bare = [
            column for column, amount in asks
            if tenant.fixed[column] + tenant.held_fixed.get(("", column), 0) + ahead.get((name, "", column), 0) + amount
            > total.get(column, 0)
        ]  # fmt: skip
        if not bare:
            continue
        pools = tuple(pool for pool in pools if _covers(tenant, pool, [it for it in asks if it[0] in bare], ahead))
        if not pools:
            return tenant, None if tenant.guaranteed_in else bare[0], ()
    return (None, None, pools) if guaranteed else (leaf, None, ())


def _covers(tenant: Tenant, pool: str, asks: Iterable[tuple[Column, int]], ahead: Ahead) -> bool:
    """Whether a tenant's guarantee for one pool covers a request."""
    caps, fixed, name = tenant.guaranteed_in.get(pool, {}), tenant.fixed_at(pool), tenant.name
    return all(
        fixed[column] + tenant.held_fixed.get((pool, column), 0) + ahead.get((name, pool, column), 0) + amount
        <= caps.get(column, 0)
        for column, amount in asks
    )
