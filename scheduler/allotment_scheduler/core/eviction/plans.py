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

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from allotment_scheduler.core.entitlement.demand import Demand
from allotment_scheduler.core.eviction.backtracking import Backtracking
from allotment_scheduler.core.eviction.bounds import A_NODE, NodeBounds
from allotment_scheduler.core.eviction.brakes import Allowance, Brakes
from allotment_scheduler.core.eviction.budgets import Budgets, Covering
from allotment_scheduler.core.eviction.fruitless import Fruitless, Looked
from allotment_scheduler.core.eviction.hysteresis import SmallestUnits
from allotment_scheduler.core.eviction.node_by_node import NodeByNode
from allotment_scheduler.core.eviction.rules import R1, R2, Claim, P, rule
from allotment_scheduler.core.eviction.surplus import Surplus
from allotment_scheduler.core.eviction.victims import Cost, Offers, Step, Victim, pods_of, victim_of
from allotment_scheduler.core.fairness.serving import Turns
from allotment_scheduler.core.objects.nodes import BoolVector, IntVector, Node
from allotment_scheduler.core.objects.pods import Pod, PodKey
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
_ROWS_A_LOOK = 1024
"""Running pods that arrays go through in the time in which one victim is looked at by itself."""
SETS_TRIED = 64
"""Sets of victims tried for one claimant, on all nodes together, where no order of its victims made room; and the pods
up to which that is tried at all."""
STEPS_ALL = 512
"""Victims up to which the plan over all nodes is made although another plan was found."""


@dataclass(slots=True)
class Plan:
    """Who goes, by which rule, and where the claimant's pods then start.

    Nobody goes where the claimant has a right to make room, and enough is about to come anyway.
    """

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

    def __init__(
        self, state: ClusterState, placer: Placer, gangs: GangPlacer, demand: Demand, brakes: Brakes, *,
        kept_from: Callable[[Unit, float], tuple[str, ...]],
    ) -> None:  # fmt: skip
        self.state = state
        self.placer = placer
        self.gangs = gangs
        self.demand = demand
        self.brakes = brakes
        self.kept_from = kept_from
        """Nodes that are reserved for others now: they are used where no others will do."""
        self.effort = 0
        """Victims looked at since the cycle began: what searching for plans costs goes by them."""
        self.spared: set[PodKey] = set()
        """Who started in this cycle and is no victim in it."""
        self.unfinished = False
        """Whether the last search came to no end."""
        self.room_comes = False
        """Whether the state is shown without pods that are on their way out (leaving.py)."""

    def plan(self, unit: Unit, looked: Looked | None = None) -> Plan | None:
        """The best plan for a claimant, None if there is none. The state is as before.

        `looked` are the nodes on which no plan was found so far. Where they are given, a search that finds none ends as
        soon as it has cost the effort of a cycle: it is `unfinished`, and goes on with what it has added to them.
        """
        self.unfinished = False
        if any(pod.spec.never_preempts for pod in unit.pods) or unit.shape.amounts == ():
            return None
        if unit.shape.fixed and beyond_guarantee(unit.leaf, unit.shape) is not None:
            return None
        claim = self._claim(unit)
        self.effort += 1 + self.state.running.size // _ROWS_A_LOOK
        rights = self._rights(claim)
        if not rights:
            return None
        attempt = Attempt(self, unit, claim, rights, looked)
        if self.room_comes and (without_victims := attempt.in_room_that_comes()) is not None:
            return None if claim.only_p else without_victims  # who may claim by priority alone waits until it is idle
        if not attempt.mask().any():
            return None
        reserved = attempt.usable & self.state.nodes.named(self.kept_from(unit, self.state.now))
        if reserved.any():
            found = Attempt(self, unit, claim, rights, looked, without=reserved).best()
            if found is not None or self.unfinished:
                return found
        return attempt.best()

    def _claim(self, unit: Unit) -> Claim:
        only_p = any(map(self.state.is_spent, unit.pods)) or not self.brakes.may_claim(unit, self.state.now)
        several = len(self.state.measure.capacity) > 1 and any(t.used_in for t in (self.state.forest.root,))
        scope = self.demand.scope(unit)
        if unit.shape.fixed:
            scope = covered_pools(unit.leaf, unit.shape.fixed_asks, scope)[2]
        return Claim(
            unit.leaf, unit.asks, unit.priority, scope, several, self.demand.entitlement, only_p,
            SmallestUnits(self.state).of if self.brakes.settings.hysteresis else None,
            Turns(self.state).is_before if self.state.share_policy == "hdrf" else None,
        )  # fmt: skip

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

    def __init__(
        self, planner: Planner, unit: Unit, claim: Claim, rights: dict[Tenant, str], looked: Looked | None = None,
        *, without: BoolVector | None = None,
    ) -> None:  # fmt: skip
        self.planner = planner
        self.state = planner.state
        self.unit = unit
        self.claim = claim
        self.rights = rights
        self.covering: Covering = {}
        self.looked = looked
        """Nodes on which there is no plan; None if the search is not to be cut short."""
        self.tries = SETS_TRIED
        self.since = {
            leaf: planner.brakes.latest_start(leaf, by, self.state.now) for leaf, by in rights.items()
        }  # fmt: skip
        self.rows = self.rows_in(claim.scope if unit.shape.fixed else unit.shape.pools)
        self.usable = self._usable() if without is None else self._usable() & ~without
        self.bounds = NodeBounds(self.state, self.usable, unit.gang)

    def rows_in(self, pools: tuple[str, ...]) -> list[tuple[Row, int]]:
        """Rows of the claimant's pods in some pools, with their number."""
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
            plans += filter(None, [self._node_by_node(blocked)])
        if self.planner.unfinished:
            return None
        minds = any(row.blocks for row, _ in self.rows)
        dear = bool(plans) and min(plan.pods for plan in plans) > (0, 1)
        if not plans or blocked is not None or (dear and (minds or len(self.unit.pods) > 1)):
            rows = self._candidates(blocked)
            if not plans or len(rows) <= STEPS_ALL:
                running = self.state.running.pods
                pods = [pod for row in rows.tolist() if (pod := running[row]) is not None]
                plans += filter(None, [self._over(pods, sets=not plans)])
        return cheapest(plans)

    def in_room_that_comes(self) -> Plan | None:
        """A plan without victims: there will be room once those have gone who are on their way out."""
        with self.state.trial() as trial:
            starts = self._starts(trial, None) if self._claimant_fits(trial, None) else None
        return None if starts is None else Plan(self.unit, [], starts)

    def is_cut_short(self, before: int) -> bool:
        """Whether the search has cost what a cycle may, and something since `before`: it goes on in the next cycle."""
        self.planner.unfinished = self.is_dear(before)
        return self.planner.unfinished

    def is_dear(self, before: int) -> bool:
        """Whether the search has cost what a cycle may, and something since `before`."""
        effort, most = self.planner.effort, self.planner.brakes.settings.claim_effort
        return self.looked is not None and effort >= most and effort > before

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
            helps |= self.bounds.below(blocked, rows)
        found: IntVector = rows[helps]
        return found

    def victims(self, pods: Iterable[Pod]) -> Iterator[Victim]:
        """Distinct victims among some pods that the brakes let go: a gang counts once, the claimant's own never."""
        seen: set[int] = set()
        for pod in pods:
            if not (pod.stays or pod.phantom) or (pod.gang is not None and pod.gang is self.unit.gang):
                continue
            if pod.gang is not None and pod.gang.running <= pod.gang.min_member:
                if id(pod.gang) in seen:
                    continue
                seen.add(id(pod.gang))
            victim = victim_of(pod, self.state)
            if victim is not None and self._may_go(victim):
                yield victim

    def offers(self, victims: Iterable[Victim], budgets: Budgets) -> Offers:
        """The choice among some victims."""
        return Offers(self.state, self.claim, victims, budgets, self._may_go)

    def take(self, step: Step, trial: Trial, budgets: Budgets) -> None:
        """Evict in a trial."""
        for pod in step.victim.places:
            trial.evict(pod)
        budgets.spend(step.victim.pods, step.rule)

    def budgets(self) -> Budgets:
        """Budgets of which nothing is spent."""
        return Budgets(self.state, self._allowance(), self.covering)

    def _allowance(self) -> Allowance:
        return Allowance(self.planner.brakes, self.state.now)

    def _may_go(self, victim: Victim) -> bool:
        """Whether the brakes let all of a victim's pods go."""
        self.planner.effort += 1
        spared = self.planner.spared
        if spared and not spared.isdisjoint(pod.key for pod in victim.pods):
            return False
        brakes, by, now = self.planner.brakes, self.rights[victim.leaf], self.state.now
        return len(victim.places) == 1 or all(brakes.may_go(pod, by, now) for pod in victim.pods)

    # --- one node ------------------------------------------------------------------------------------------------

    def _single(self, blocked: Tenant | None) -> list[Plan]:
        """Plans on one node each, for a claimant of one pod."""
        row = self.rows[0][0]
        plans: list[Plan] = []
        fewest: Cost | None = None
        fruitless, before = Fruitless(self.state, self.budgets(), self.looked), self.planner.effort
        for tried, (*least, _, index) in enumerate(self.bounds.of(row, self.mask(), blocked)):
            enough = tried >= NODES_TRIED or self.planner.effort - before - A_NODE * tried >= VICTIMS_TRIED
            if fewest is not None and (tuple(least) > fewest or enough):
                break
            if not plans and self.is_cut_short(before):
                break
            plan = self._on_node(row, index, fruitless)
            if plan is not None:
                plans.append(plan)
                fewest = min(plan.pods, fewest or plan.pods)
        if not plans:
            self.is_cut_short(before)  # the plan over all nodes can wait, too
        return plans

    def _on_node(self, row: Row, index: int, fruitless: Fruitless) -> Plan | None:
        node = self.state.nodes.ordered[index]
        if fruitless.looked_at(row, node):
            return None
        pods = self.candidates_on(node)
        if fruitless.knows(row, node, pods):
            return None
        self.planner.effort += A_NODE
        plan = self._over(pods, self.only(index))
        if plan is None:
            fruitless.add(row, node, pods)
        return plan

    def candidates_on(self, node: Node) -> list[Pod]:
        """Pods of one node that may be victims, as far as single pods can tell."""
        self.planner.effort += 1
        return [pod for pod in node.pods.values() if self._candidate(pod)]

    def only(self, index: int) -> BoolVector:
        """One node."""
        return self.state.nodes.only([index])

    def _candidate(self, pod: Pod) -> bool:
        leaf = pod.leaf
        if leaf not in self.since or pod.started > self.since[leaf] or pod.key in self.planner.spared:
            return False
        return leaf is not self.unit.leaf or pod.priority < self.claim.priority

    # --- many nodes ----------------------------------------------------------------------------------------------

    def _node_by_node(self, blocked: Tenant | None) -> Plan | None:
        """Room for one pod of the gang after the other, each where it costs the fewest pods."""
        pools = self.unit.shape.pools if blocked is not None else limits_met(self.unit.leaf, self.unit.shape)[1]
        with self.state.trial() as trial:
            search = NodeByNode(self, trial, blocked)
            found = search.run(pools)
        return self._finish(search.steps, None) if found else None

    # --- choosing in order, then dropping what is needless --------------------------------------------------------

    def _over(self, pods: list[Pod], only: BoolVector | None = None, *, sets: bool = True) -> Plan | None:
        """Evict in the order of the rules until the claimant fits; if that leads nowhere, by size, then in any order.

        The order of the rules may use a right up on small victims (until their side is down to its guarantee, say, or
        their gang to its minimum), when one large victim would have made the room; or on a large one, when the small
        ones before it would have left it the right to go too. Where neither helps, sets of victims are tried, a few:
        not for a plan that is only to be cheaper than another, since among many victims that is long and leads nowhere.
        """
        victims = list(self.victims(pods))
        steps, fits = self._evict(victims, only)
        order_matters = only is None or not self._are_equal(victims)
        for size in (1, -1):
            if not fits and order_matters and 0 < len(steps) < len(pods):
                steps, fits = self._evict(victims, only, size=size)
        if sets and not fits and order_matters and 0 < len(steps) < len(pods) <= SETS_TRIED:
            steps, fits = self._backtrack(pods, only)
        if any(len(step.victim.places) > 1 for step in steps):
            only = None  # a gang makes room on other nodes, too: with that some victims here may be needless
        return self._finish(steps, only) if fits else None

    def _are_equal(self, victims: list[Victim]) -> bool:
        """Whether it makes no difference to the rules which of them go."""
        budgets = self.budgets()
        if any(pod.gang is not None or budgets.covering(pod) for victim in victims for pod in victim.pods):
            return False
        return len({(victim.leaf, victim.lane) for victim in victims}) <= 1

    def _backtrack(self, pods: list[Pod], only: BoolVector | None) -> tuple[list[Step], bool]:
        with self.state.trial() as trial:
            search = Backtracking(
                self.claim, trial, self.budgets(), fits=partial(self._claimant_fits, trial, only),
                victims=self.victims, tries=self.tries,
            )  # fmt: skip
            found = search.run(pods)
            self.tries = search.tries
        return search.steps, found

    def _evict(self, victims: list[Victim], only: BoolVector | None, *, size: int = 0) -> tuple[list[Step], bool]:
        """The victims taken one after the other, and whether the claimant fits then. The state is as before.

        By `size` 1 the largest go first, by -1 the smallest, by 0 the order of the rules holds.
        """
        budgets = self.budgets()
        offers = self.offers(victims, budgets)
        steps: list[Step] = []
        with self.state.trial() as trial:
            while not (fits := self._claimant_fits(trial, only)):
                step = offers.choose_by_size(only, size) if size else offers.choose()
                if step is None:
                    break
                self.take(step, trial, budgets)
                steps.append(step)
        return steps, fits

    def _claimant_fits(self, trial: Trial, only: BoolVector | None) -> bool:
        """Whether limits and nodes now take the claimant; the trial is left as it was."""
        blocked, pools = limits_met(self.unit.leaf, self.unit.shape)
        if blocked is not None:
            return False
        if len(self.unit.pods) == 1:
            row = self.rows_in(pools)[0][0]
            return self.planner.placer.best(row, only) >= 0
        slots = self.planner.placer.slots
        if any(slots(row) < count for row, count in self.rows_in(pools)):
            return False
        mark = trial.mark()
        fits = self.planner.gangs.place(self.unit, pools, trial)
        trial.rollback(mark)
        return fits

    def _finish(self, steps: list[Step], only: BoolVector | None) -> Plan | None:
        """Drop needless victims, then fix where the claimant starts."""
        kept = list(steps)
        surplus = Surplus(self.state, self.planner.placer, self.unit, only)
        with self.state.trial() as trial:
            if not self._replay(kept, trial):
                return None
            surplus.open()
            for needless in reversed(steps):
                if not surplus.spares(needless):
                    continue
                self.planner.effort += len(kept)
                fewer = [step for step in kept if step is not needless]
                trial.rollback()
                if self._replay(fewer, trial) and self._claimant_fits(trial, only):
                    kept = fewer
                else:
                    trial.rollback()
                    self._replay(kept, trial)
                surplus.open()
            starts = self._starts(trial, only)
        return None if starts is None or not kept else Plan(self.unit, kept, starts)

    def _replay(self, steps: list[Step], trial: Trial) -> bool:
        """Evict again from the start; whether every step obeys a rule, within the brakes, and leaves no gang cut."""
        allowance = self._allowance()
        for step in steps:
            by = rule(self.claim, step.victim)
            if by is None or not allowance.allows(step.victim.pods, by):
                return False
            allowance.spend(step.victim.pods, by)
            step.rule = by
            step.nodes = [pod.node or "" for pod in step.victim.places]
            for pod in step.victim.places:
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
            index = self.planner.placer.best(self.rows_in(pools)[0][0], only)
            if index < 0:
                return None
            trial.start(self.unit.first, index)
        elif not self.planner.gangs.place(self.unit, pools, trial):
            return None
        return [(pod, name) for pod, name, _ in trial.log[mark:]]
