"""Plans: which victims make room for a claimant, proven before anyone is touched.

A plan is all or nothing. Everything happens in a trial on the real state, so every filter, limit and budget that binds
a start binds the plan too. Three kinds of plan are made, and the cheapest wins (`cheapest`): the fewest last-choice
pods, then the fewest pods, then the least work lost; among plans that cost the same tenants the same number of pods,
the lowest priority comes before work:

- one per candidate node: victims on that node only;
- one over all nodes, victims in the order of the rules alone;
- for a claimant of several pods, node by node: room for one pod after the other, each where it costs fewest pods.

Where no order of victims makes room, a few sets of them are tried (backtracking.py). Afterwards needless victims are
dropped, last chosen first, where every remaining step still obeys its rule.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from allotment_scheduler.core.entitlement.demand import Demand
from allotment_scheduler.core.eviction.backtracking import Backtracking
from allotment_scheduler.core.eviction.brakes import Brakes
from allotment_scheduler.core.eviction.budgets import Budgets
from allotment_scheduler.core.eviction.rules import R1, R2, Claim, P, rule
from allotment_scheduler.core.eviction.surplus import Surplus
from allotment_scheduler.core.eviction.victims import Offers, Step, Victim, victim_of
from allotment_scheduler.core.fairness.limits import open_pools
from allotment_scheduler.core.objects.nodes import BoolVector, IntVector
from allotment_scheduler.core.objects.pods import LOWEST, Pod, PodKey
from allotment_scheduler.core.objects.resources import Column
from allotment_scheduler.core.objects.tenants import Tenant
from allotment_scheduler.core.objects.units import Unit
from allotment_scheduler.core.placement.eligibility import beyond_guarantee, covered_pools, limits_met
from allotment_scheduler.core.placement.gangs import GangPlacer
from allotment_scheduler.core.placement.placer import Placer, Row
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.core.state.trial import Trial

NODES_TRIED = 64
"""Nodes looked at once one has a plan, after those that cannot be better are left out."""
VICTIMS_TRIED = 512
"""Victims looked at on single nodes, once one of them has a plan."""
_NOTHING = np.iinfo(np.int64).max
_ROWS_A_LOOK = 1024
"""Running pods that arrays go through in the time in which one victim is looked at by itself."""
_A_NODE = 16
"""Victims that could be looked at in the time that one more node takes, beside its own."""
SETS_TRIED = 64
"""Sets of victims tried for one claimant, on all nodes together, where no order of its victims made room."""
STEPS_ALL = 512
"""Victims up to which the plan over all nodes is made although another plan was found."""


Cost = tuple[int, int]
"""Pods that go: those of the last choice, and all."""
Bound = tuple[int, int, int, int]
"""A node with what room on it costs at least: (last-choice pods, pods, how far up the lowest priority is, index)."""


@dataclass(slots=True)
class Plan:
    """Who goes, by which rule, and where the claimant's pods then start."""

    unit: Unit
    steps: list[Step]
    starts: list[tuple[Pod, str]]

    @property
    def pods(self) -> Cost:
        """Pods evicted: those of the last choice, and all."""
        return pods_of(self.steps)

    @property
    def work(self) -> float:
        """Work lost."""
        return sum(step.victim.work for step in self.steps)

    @property
    def priority(self) -> int:
        """The highest among its victims."""
        return max(step.victim.priority for step in self.steps)

    @property
    def payers(self) -> Counter[str]:
        """How many pods each leaf gives."""
        paid: Counter[str] = Counter()
        for step in self.steps:
            paid[step.victim.leaf.name] += len(step.victim.pods)
        return paid


def pods_of(steps: Iterable[Step]) -> Cost:
    """How many pods some steps take: those of the last choice, and all."""
    pods = [pod for step in steps for pod in step.victim.pods]
    return (sum(pod.spec.last_choice for pod in pods), len(pods))


def cheapest(plans: Iterable[Plan]) -> Plan | None:
    """The plan that is carried out.

    Which tenants pay is decided without a look at priorities: these mean nothing between tenants. Then, among the plans
    that cost the same tenants the same, the one whose victims have the lowest priority: a higher one would only come
    back and evict it.
    """
    plans = list(plans)
    best = min(plans, key=lambda plan: (plan.pods, plan.work), default=None)
    if best is None or len(plans) == 1:
        return best
    peers = [plan for plan in plans if plan.pods == best.pods and plan.payers == best.payers]
    return min(peers, key=lambda plan: (plan.priority, plan.work))


class Planner:
    """Makes plans for claimants."""

    def __init__(self, state: ClusterState, placer: Placer, gangs: GangPlacer, demand: Demand, brakes: Brakes) -> None:
        self.state = state
        self.placer = placer
        self.gangs = gangs
        self.demand = demand
        self.brakes = brakes
        self.effort = 0
        """Victims looked at since the cycle began: what searching for plans costs goes by them."""
        self.spared: set[PodKey] = set()
        """Who started in this cycle and is no victim in it."""

    def plan(self, unit: Unit) -> Plan | None:
        """The best plan for a claimant, None if there is none. The state is as before."""
        if any(pod.spec.never_preempts for pod in unit.pods) or unit.shape.amounts == ():
            return None
        if unit.shape.fixed and beyond_guarantee(unit.leaf, unit.shape) is not None:
            return None
        claim = self._claim(unit)
        self.effort += 1 + self.state.running.size // _ROWS_A_LOOK
        rights = self._rights(claim)
        if not rights:
            return None
        attempt = Attempt(self, unit, claim, rights)
        return attempt.best() if attempt.mask().any() else None

    def _claim(self, unit: Unit) -> Claim:
        only_p = any(map(self.state.is_spent, unit.pods)) or not self.brakes.may_claim(unit, self.state.now)
        several = len(self.state.measure.capacity) > 1 and any(t.used_in for t in (self.state.forest.root,))
        scope = self.demand.scope(unit)
        if unit.shape.fixed:
            scope = covered_pools(unit.leaf, unit.shape.fixed_asks, scope)[2]
        return Claim(
            unit.leaf, unit.asks, unit.priority, scope, several, self.demand.entitlement, only_p,
            self._smallest() if self.brakes.settings.hysteresis else None,
        )  # fmt: skip

    def _smallest(self) -> Callable[[Tenant, Column], int]:
        """What the smallest unit below a tenant holds of a resource, as things stand before the plan."""
        by_leaf: dict[Column, IntVector] = {}

        def smallest(tenant: Tenant, column: Column) -> int:
            if column not in by_leaf:
                by_leaf[column] = self._smallest_by_leaf(column)
            found = min((int(by_leaf[column][leaf.rank]) for leaf in tenant.leaves()), default=_NOTHING)
            return 0 if found == _NOTHING else found

        return smallest

    def _smallest_by_leaf(self, column: Column) -> IntVector:
        """By rank of the leaf; a gang that would go as a whole counts as one unit."""
        running, size = self.state.running.flush(), self.state.running.size
        single = running.used[:size] & (running.leaf[:size] >= 0)
        smallest = np.full(len(self.state.forest.by_name) + 1, _NOTHING, dtype=np.int64)
        for gang in self.state.gangs.values():
            if 1 < gang.running <= gang.min_member:
                members = [pod for pod in gang.members.values() if pod.slot >= 0]
                single[[pod.slot for pod in members]] = False
                held = sum(dict(pod.klass.amounts).get(column, 0) for pod in members)
                if held and members and (leaf := members[0].leaf) is not None:
                    smallest[leaf.rank] = min(int(smallest[leaf.rank]), held)
        rows = np.flatnonzero(single)
        held_by_row = self.amounts_of(running.klass[rows])(column)
        np.minimum.at(smallest, running.leaf[rows[held_by_row > 0]], held_by_row[held_by_row > 0])
        return smallest

    def amounts_of(self, klass: npt.NDArray[np.int32]) -> Callable[[Column], IntVector]:
        """What pods of some classes, given by id, hold of a resource."""
        classes = list(self.state.classes.values())
        which = np.searchsorted(np.array([each.id for each in classes], dtype=np.int32), klass)
        amounts = [dict(each.amounts) for each in classes]
        return lambda column: np.array([held.get(column, 0) for held in amounts], dtype=np.int64)[which]

    def _rights(self, claim: Claim) -> dict[Tenant, str]:
        """Leaves from which someone might go, with the rule: a necessary condition, cheap to decide."""
        running, size = self.state.running.flush(), self.state.running.size
        rows = running.used[:size] & running.evictable[:size] & (running.leaf[:size] == claim.leaf.rank)
        own = bool((rows & (running.priority[:size] < claim.priority)).any())
        out = {claim.leaf: P} if own else {}
        if claim.only_p:
            return out
        columns = frozenset(column for column, _ in claim.asks)
        path = claim.leaf.path
        for mine in path:
            if mine.parent is None or len(mine.parent.children) == 1:
                continue
            by_guarantee, by_entitlement = claim.side(mine)
            if not (by_guarantee or by_entitlement or out):
                continue
            may_come = bool(out) and mine.has_guarantee  # R1, once somebody on the claimant's own side has made room
            for theirs in mine.parent.children:
                if theirs is mine or not claim.above_guarantee(theirs, columns, self.state.nodes.pool_names):
                    continue
                if by_guarantee or may_come or claim.above_entitlement(theirs, columns):
                    out |= dict.fromkeys([leaf for leaf in theirs.leaves() if leaf.running], R1 if by_guarantee else R2)
        return out


class Attempt:
    """The search for one claimant's plan."""

    def __init__(self, planner: Planner, unit: Unit, claim: Claim, rights: dict[Tenant, str]) -> None:
        self.planner = planner
        self.state = planner.state
        self.unit = unit
        self.claim = claim
        self.rights = rights
        self.tries = SETS_TRIED
        self.since = {
            leaf: planner.brakes.latest_start(leaf, by, self.state.now) for leaf, by in rights.items()
        }  # fmt: skip
        self.rows = self._rows(claim.scope if unit.shape.fixed else unit.shape.pools)
        self.usable = self._usable()

    def _rows(self, pools: tuple[str, ...]) -> list[tuple[Row, int]]:
        placer = self.planner.placer
        return [(placer.row((klass, seen, pools)), count) for (klass, seen, _), count in self.unit.shape.parts]

    def _usable(self) -> BoolVector:
        """Nodes that the claimant could use if they were empty."""
        mask = np.zeros(len(self.state.nodes.ordered), dtype=np.bool_)
        for row, _ in self.rows:
            fits = row.allowed.copy()
            for column, amount in row.klass.room:
                fits &= self.state.nodes.allocatable[column] >= amount
            mask |= fits
        return mask

    def best(self) -> Plan | None:
        """The cheapest of the plans there are."""
        plans: list[Plan] = []
        blocked, _ = limits_met(self.unit.leaf, self.unit.shape)
        if len(self.unit.pods) == 1:
            plans += self._single(blocked)
        else:
            plans += filter(None, [self._node_by_node()]) if blocked is None else []
        minds = any(row.blocks for row, _ in self.rows)
        dear = bool(plans) and min(plan.pods for plan in plans) > (0, 1)
        if not plans or (dear and (minds or len(self.unit.pods) > 1)):
            rows = self._candidates(blocked)
            if not plans or len(rows) <= STEPS_ALL:
                running = self.state.running.pods
                pods = [pod for row in rows.tolist() if (pod := running[row]) is not None]
                plans += filter(None, [self._over(pods, sets=not plans)])
        return cheapest(plans)

    # --- candidates ----------------------------------------------------------------------------------------------

    def mask(self) -> BoolVector:
        """Rows of running pods that may be victims, as far as arrays can tell: by leaf, priority and brakes."""
        running, size = self.state.running.flush(), self.state.running.size
        since = np.full(len(self.state.forest.by_name) + 1, -np.inf)
        for leaf, latest in self.since.items():
            since[leaf.rank] = latest
        where = running.leaf[:size]
        mask = running.used[:size] & running.evictable[:size] & (running.started[:size] <= since[where])
        mask &= (where != self.unit.leaf.rank) | (running.priority[:size] < self.claim.priority)
        result: BoolVector = mask
        return result

    def _candidates(self, blocked: Tenant | None) -> IntVector:
        """Rows of pods that help: below the limit in the way, or on nodes the claimant could use."""
        running = self.state.running.flush()
        rows = np.flatnonzero(self.mask())
        where = running.node[rows]
        helps = np.zeros(len(rows), dtype=np.bool_)
        helps[where >= 0] = self.usable[where[where >= 0]]
        if blocked is not None:
            below = np.zeros(len(self.state.forest.by_name) + 1, dtype=np.bool_)
            below[[leaf.rank for leaf in blocked.leaves()]] = True
            helps |= below[running.leaf[rows]]
        found: IntVector = rows[helps]
        return found

    def _victims(self, pods: Iterable[Pod]) -> Iterator[Victim]:
        """Distinct victims among some pods that the brakes let go: a gang counts once, the claimant's own never."""
        seen: set[int] = set()
        for pod in pods:
            if pod.gang is not None and pod.gang is self.unit.gang:
                continue
            if pod.gang is not None and pod.gang.running <= pod.gang.min_member:
                if id(pod.gang) in seen:
                    continue
                seen.add(id(pod.gang))
            victim = victim_of(pod, self.state)
            if victim is not None and self._may_go(victim):
                yield victim

    def _may_go(self, victim: Victim) -> bool:
        """Whether the brakes let all of a victim's pods go."""
        self.planner.effort += 1
        if not self.planner.spared.isdisjoint(pod.key for pod in victim.pods):
            return False
        brakes, by, now = self.planner.brakes, self.rights[victim.leaf], self.state.now
        return len(victim.pods) == 1 or all(brakes.may_go(pod, by, now) for pod in victim.pods)

    # --- one node ------------------------------------------------------------------------------------------------

    def _single(self, blocked: Tenant | None) -> list[Plan]:
        """Plans on one node each, for a claimant of one pod."""
        if blocked is not None:
            return []
        row = self.rows[0][0]
        plans: list[Plan] = []
        fewest: Cost | None = None
        before = self.planner.effort
        for tried, (*least, _, index) in enumerate(self._nodes_by_bound(row)):
            enough = tried >= NODES_TRIED or self.planner.effort - before - _A_NODE * tried >= VICTIMS_TRIED
            if fewest is not None and (tuple(least) > fewest or enough):
                break
            plan = self._on_node(index)
            if plan is not None:
                plans.append(plan)
                fewest = min(plan.pods, fewest or plan.pods)
        return plans

    def _on_node(self, index: int) -> Plan | None:
        node = self.state.nodes.ordered[index]
        only = np.zeros(len(self.usable), dtype=np.bool_)
        only[index] = True
        pods = [pod for pod in node.pods.values() if self._candidate(pod)]
        self.planner.effort += _A_NODE
        return self._over(pods, only)

    def _candidate(self, pod: Pod) -> bool:
        leaf = pod.leaf
        if leaf not in self.since or pod.started > self.since[leaf]:
            return False
        return leaf is not self.unit.leaf or pod.priority < self.claim.priority

    def _nodes_by_bound(self, row: Row) -> list[Bound]:
        """Nodes where evictions could make room for one pod of a row, by lower bounds of what they cost."""
        running, size, free = self.state.running.flush(), self.state.running.size, self.state.nodes.free
        rows = np.flatnonzero(self.mask() & (running.node[:size] >= 0))
        where = running.node[rows].astype(np.intp)  # numpy's `at` takes ten times as long by narrower indexes
        count = free.shape[1]
        most = np.bincount(where, minlength=count)
        bound: IntVector = np.zeros(count, dtype=np.int64)
        possible = row.allowed & self.usable
        held_of = self.planner.amounts_of(running.klass[rows])
        gangs = self._gang_nodes()
        last = running.last_choice[rows]
        some_last = bool(last.any())
        least_last: IntVector = np.zeros(count, dtype=np.int64)
        for column, asked in row.klass.room:
            held = held_of(column)
            lacking = np.maximum(asked - free[column], 0)
            largest = np.zeros(count, dtype=np.int64)
            np.maximum.at(largest, where, held)
            summed = np.zeros(count, dtype=np.int64)
            np.add.at(summed, where, held)
            possible &= (lacking <= summed) | (gangs & (lacking > 0) & (largest > 0))
            bound = np.maximum(bound, -(-lacking // np.maximum(largest, 1)))
            if some_last:
                np.add.at(summed, where[last], -held[last])
                least_last |= lacking > summed
        possible &= most > 0
        bound = np.where(gangs, 1, np.maximum(bound, 1))
        indexes = np.flatnonzero(possible)
        rank = self._lowest_ranks(rows, count)
        indexes = indexes[np.lexsort((rank[indexes], bound[indexes], least_last[indexes]))]
        return list(
            zip(
                least_last[indexes].tolist(),
                bound[indexes].tolist(),
                rank[indexes].tolist(),
                indexes.tolist(),
                strict=True,
            )
        )

    def _lowest_ranks(self, rows: IntVector, count: int) -> IntVector:
        """By node: how many priorities lie below its lowest candidate, within the candidate's own leaf."""
        running = self.state.running
        priority = running.priority[rows]
        ranks: IntVector = np.zeros(count, dtype=np.int64)
        if not len(rows) or (priority == priority[0]).all():
            return ranks
        codes, which = np.unique((running.leaf[rows].astype(np.int64) << 33) + priority - LOWEST, return_inverse=True)
        leaf = codes >> 33
        rank = (np.arange(len(codes)) - np.searchsorted(leaf, leaf))[which]
        ranks[:] = _NOTHING
        np.minimum.at(ranks, running.node[rows], rank)
        return ranks

    def _gang_nodes(self) -> BoolVector:
        """Nodes where a gang stands several of whose pods may leave at once: their bound is one step."""
        mask = np.zeros(len(self.usable), dtype=np.bool_)
        for gang in self.state.gangs.values():
            if 1 < gang.running <= gang.min_member:
                for pod in gang.members.values():
                    node = self.state.nodes.by_name.get(pod.node or "")
                    if node is not None:  # it may be gone, and the pod not yet
                        mask[node.index] = True
        return mask

    # --- many nodes ----------------------------------------------------------------------------------------------

    def _node_by_node(self) -> Plan | None:
        """Room for one pod of the gang after the other, each where it costs the fewest pods."""
        steps: list[Step] = []
        with self.state.trial() as trial:
            for row, _ in self._rows(limits_met(self.unit.leaf, self.unit.shape)[1]):
                heap = self._nodes_by_bound(row)
                offers: dict[int, Offers] = {}
                now = row
                for pod in self.unit.pods:
                    if self.state.lineup.row_key(pod)[:2] != row.key[:2]:
                        continue
                    there = open_pools(self.unit.leaf, pod.klass.amounts, row.key[2])
                    if there != now.key[2]:  # a pool has come to its limit: look past it
                        now = self.planner.placer.row((*row.key[:2], there))
                        heap = self._nodes_by_bound(now)
                    if not self._seat(pod, now, heap, trial, steps, offers=offers):
                        self.claim.seated.clear()
                        return None
        self.claim.seated.clear()
        return self._finish(steps, None)

    def _seat(
        self, pod: Pod, row: Row, heap: list[Bound], trial: Trial, steps: list[Step], *,
        offers: dict[int, Offers],
    ) -> bool:  # fmt: skip
        """Start one pod of the gang: where it fits, else where the fewest pods make room for it."""
        index = self.planner.placer.best(row)
        while index < 0 and heap:
            *_, rank, node = heapq.heappop(heap)
            mark, before = trial.mark(), len(steps)
            if not self._clear(row, node, trial, steps, offers):
                trial.rollback(mark)
                del steps[before:], offers[node]
                continue
            cost = pods_of(steps[before:])
            if heap and cost > heap[0][:2]:
                trial.rollback(mark)
                del steps[before:], offers[node]
                heapq.heappush(heap, (*cost, rank, node))
                continue
            heapq.heappush(heap, (0, 1, rank, node))
            index = node
        if index < 0:
            return False
        trial.start(pod, index)
        for column, amount in pod.klass.asks:
            self.claim.seated[column] = self.claim.seated.get(column, 0) + amount
        return True

    def _clear(self, row: Row, index: int, trial: Trial, steps: list[Step], offered: dict[int, Offers]) -> bool:
        """Evict on one node until a pod of the row fits there."""
        offers = offered.get(index)
        if offers is None:
            budgets = Budgets(self.state)
            for earlier in steps:
                budgets.spend(earlier.victim.pods)
            pods = [pod for pod in self.state.nodes.ordered[index].pods.values() if self._candidate(pod)]
            offers = offered[index] = Offers(self.state, self.claim, self._victims(pods), budgets, self._may_go)
        only = np.zeros(len(self.usable), dtype=np.bool_)
        only[index] = True
        while not self._fits_on(row, index, only):
            step = offers.choose()
            if step is None:
                return False
            for pod in step.victim.pods:
                trial.evict(pod)
            offers.budgets.spend(step.victim.pods)
            steps.append(step)
        return True

    def _fits_on(self, row: Row, index: int, only: BoolVector) -> bool:
        free = self.state.nodes.free
        if any(free[column, index] < amount for column, amount in row.klass.room):
            return False
        return not row.blocks or self.planner.placer.best(row, only) >= 0

    # --- choosing in order, then dropping what is needless --------------------------------------------------------

    def _over(self, pods: list[Pod], only: BoolVector | None = None, *, sets: bool = True) -> Plan | None:
        """Evict in the order of the rules until the claimant fits; if that leads nowhere, by size, then in any order.

        The order of the rules may use a right up on small victims (until their side is down to its guarantee, say, or
        their gang to its minimum), when one large victim would have made the room; or on a large one, when the small
        ones before it would have left it the right to go too. Where neither helps, sets of victims are tried, a few:
        not for a plan that is only to be cheaper than another, since among many victims that is long and leads nowhere.
        """
        steps, fits = self._evict(pods, only)
        for size in (1, -1):
            if not fits and 0 < len(steps) < len(pods):
                steps, fits = self._evict(pods, only, size=size)
        if sets and not fits and 0 < len(steps) < len(pods):
            steps, fits = self._backtrack(pods, only)
        return self._finish(steps, only) if fits else None

    def _backtrack(self, pods: list[Pod], only: BoolVector | None) -> tuple[list[Step], bool]:
        with self.state.trial() as trial:
            search = Backtracking(
                self.state, self.claim, trial, fits=partial(self._claimant_fits, trial, only), victims=self._victims,
                tries=self.tries,
            )  # fmt: skip
            found = search.run(pods)
            self.tries = search.tries
        return search.steps, found

    def _evict(self, pods: list[Pod], only: BoolVector | None, *, size: int = 0) -> tuple[list[Step], bool]:
        """The victims taken one after the other, and whether the claimant fits then. The state is as before.

        By `size` 1 the largest go first, by -1 the smallest, by 0 the order of the rules holds.
        """
        budgets = Budgets(self.state)
        offers = Offers(self.state, self.claim, self._victims(pods), budgets, self._may_go)
        steps: list[Step] = []
        with self.state.trial() as trial:
            while not (fits := self._claimant_fits(trial, only)):
                step = offers.choose_by_size(only, size) if size else offers.choose()
                if step is None:
                    break
                for pod in step.victim.pods:
                    trial.evict(pod)
                budgets.spend(step.victim.pods)
                steps.append(step)
        return steps, fits

    def _claimant_fits(self, trial: Trial, only: BoolVector | None) -> bool:
        """Whether limits and nodes now take the claimant; the trial is left as it was."""
        blocked, pools = limits_met(self.unit.leaf, self.unit.shape)
        if blocked is not None:
            return False
        if len(self.unit.pods) == 1:
            row = self._rows(pools)[0][0]
            return self.planner.placer.best(row, only) >= 0
        slots = self.planner.placer.slots
        if any(slots(row) < count for row, count in self._rows(pools)):
            return False
        mark = trial.mark()
        fits = self.planner.gangs.place(self.unit, pools, trial)
        trial.rollback(mark)
        return fits

    def _finish(self, steps: list[Step], only: BoolVector | None) -> Plan | None:
        """Drop needless victims, then fix where the claimant starts."""
        kept = list(steps)
        surplus = self._surplus_test(only)
        with self.state.trial() as trial:
            if not self._replay(kept, trial):
                return None
            if surplus is not None:
                surplus.open()
            for needless in reversed(steps):
                if surplus is not None and not surplus.spares(needless):
                    continue
                fewer = [step for step in kept if step is not needless]
                trial.rollback()
                if self._replay(fewer, trial) and self._claimant_fits(trial, only):
                    kept = fewer
                else:
                    trial.rollback()
                    self._replay(kept, trial)
                if surplus is not None:
                    surplus.open()
            starts = self._starts(trial, only)
        return None if starts is None or not kept else Plan(self.unit, kept, starts)

    def _surplus_test(self, only: BoolVector | None) -> Surplus | None:
        """A quick test for needless victims, where free slots alone decide whether the claimant fits."""
        if len(self.rows) != 1 or self.rows[0][0].blocks or self.unit.leaf.limited_path:
            return None
        if self.unit.gang is not None and self.unit.gang.spec is not None and self.unit.gang.spec.topology_key:
            return None
        return Surplus(self.state, self.planner.placer, *self.rows[0], only)

    def _replay(self, steps: list[Step], trial: Trial) -> bool:
        """Evict again from the start; whether every step obeys a rule and leaves no gang cut."""
        for step in steps:
            by = rule(self.claim, step.victim)
            if by is None:
                return False
            step.rule = by
            step.nodes = [pod.node or "" for pod in step.victim.pods]
            for pod in step.victim.pods:
                trial.evict(pod)
            gang = step.victim.gang
            if gang is not None and 0 < gang.running < gang.min_member:
                return False
        return True

    def _starts(self, trial: Trial, only: BoolVector | None) -> list[tuple[Pod, str]] | None:
        blocked, pools = limits_met(self.unit.leaf, self.unit.shape)
        if blocked is not None:
            return None
        mark = trial.mark()
        if len(self.unit.pods) == 1:
            index = self.planner.placer.best(self._rows(pools)[0][0], only)
            if index < 0:
                return None
            trial.start(self.unit.first, index)
        elif not self.planner.gangs.place(self.unit, pools, trial):
            return None
        return [(pod, name) for pod, name, _ in trial.log[mark:]]
