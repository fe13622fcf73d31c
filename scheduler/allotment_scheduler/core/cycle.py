"""One cycle of the scheduler: who starts, who makes room, in the order in which it is decided.

Read `Engine.cycle` from top to bottom: it is the algorithm.

1. *Settle*: rebuild what structural changes have made stale.
2. *Serve*: while any unit is eligible, the one next in serving order starts.
3. *Claim*: the first unit in serving order for which a plan exists evicts and starts; then serving goes on.
4. *End*: what was evicted waits again, behind its peers.

The engine decides and records its decisions in the state as it goes; carrying them out is the caller's business.
"""

from collections.abc import Callable, Iterable

from allotment_scheduler.core.claims import Claimants
from allotment_scheduler.core.decisions import Evict, Round, Start
from allotment_scheduler.core.demand import Demand
from allotment_scheduler.core.eligibility import Eligibility, limits_met
from allotment_scheduler.core.events import PodEvicted, RoundEnded
from allotment_scheduler.core.eviction.plans import Plan, Planner
from allotment_scheduler.core.gangs import GangPlacer
from allotment_scheduler.core.placement import Placer
from allotment_scheduler.core.serving import Serving
from allotment_scheduler.core.state import ClusterState
from allotment_scheduler.core.tenants import Tenant
from allotment_scheduler.core.units import Unit


class Engine:
    """The decision maker over one state."""

    def __init__(self, state: ClusterState) -> None:
        self.state = state
        self.placer = Placer(state)
        self.gangs = GangPlacer(state, self.placer)
        self.demand = Demand(state, self.placer)
        self.planner = Planner(state, self.placer, self.gangs, self.demand)
        self.eligibility = Eligibility(state, self.placer, self.gangs.fits)
        self.serving = Serving(state, self.eligibility.propose)

    def cycle(self, now: float, *, most_starts: int | None = None) -> Round:
        """Decide until nothing more can be decided, or `most_starts` pods have started."""
        state, done = self.state, Round()
        # 1. Settle.
        state.now = now
        state.settle()
        # 2. Serve until nothing is eligible.
        self._open_serving()
        self._serve(done, most_starts)
        # 3. Claim, and serve on, until there is no plan left.
        while not _enough(done, most_starts) and (plan := self._first_plan()) is not None:
            self._carry_out(plan, done)
            self._open_serving()
            self._serve(done, most_starts)
        # 4. What was evicted waits again.
        state.apply(RoundEnded())
        return done

    def first_eligible(self) -> Callable[[Tenant], Unit | None]:
        """What finds a leaf's first unit that could start now, for listings."""
        self.state.settle()
        eligibility = Eligibility(self.state, self.placer, self.gangs.fits)
        eligibility.unpark_all()
        return eligibility.propose

    def _open_serving(self) -> None:
        """Let every leaf compete anew."""
        self.eligibility = Eligibility(self.state, self.placer, self.gangs.fits)
        self.eligibility.unpark_all()
        self.placer.take_changes()
        self.serving = Serving(self.state, self.eligibility.propose)
        self.serving.refresh_all(self._leaves())
        self.state.dirty_leaves.clear()

    def _leaves(self) -> list[Tenant]:
        """Leaves with anything in their queue."""
        return [queue.leaf for queue in self.state.queues.values()]

    def _serve(self, done: Round, most_starts: int | None) -> None:
        while not _enough(done, most_starts) and (unit := self.serving.next()) is not None:
            self._start(unit, done)
            self._ask_again(self.eligibility.leaves_to_ask())

    def _ask_again(self, leaves: Iterable[Tenant]) -> None:
        dirty = self.state.dirty_leaves
        if leaves:
            dirty.update(leaves)
        if len(dirty) == 1:
            self.serving.refresh(dirty.pop())
        else:
            for leaf in sorted(dirty, key=lambda leaf: leaf.rank):
                self.serving.refresh(leaf)
            dirty.clear()

    def _start(self, unit: Unit, done: Round) -> None:
        """Start a unit that was found eligible."""
        pools = limits_met(unit.leaf, unit.shape)[1] if unit.leaf.limited_path else unit.shape.pools
        if len(unit.pods) == 1:
            key = unit.shape.parts[0][0]
            row = self.placer.row(key if pools is key[2] else (key[0], key[1], pools))
            node = self.state.nodes.ordered[self.placer.best(row)].spec.name
            pod = unit.pods[0]
            self.state.occupy(pod, node)
            done.decisions.append(Start(pod.key, node, pod.key))
            self.state.unit_started(unit)
            return
        trial = self.state.trial()
        if not self.gangs.place(unit, pools, trial):
            raise AssertionError(f"{unit.first} was found eligible but cannot be placed: this is a bug")
        for pod, node, _ in trial.commit():
            done.decisions.append(Start(pod.key, node, unit.first.key, pod.phantom))
        self.state.unit_started(unit)

    def _first_plan(self) -> Plan | None:
        """The plan of the first unit in serving order that has one."""
        claimants = Claimants(self.state, self.demand.entitlement)
        order = Serving(self.state, claimants.propose)
        order.refresh_all(self._leaves())
        while (unit := order.next()) is not None:
            plan = self.planner.plan(unit)
            if plan is not None:
                return plan
            claimants.passed_over(unit)
            order.refresh(unit.leaf)
        return None

    def _carry_out(self, plan: Plan, done: Round) -> None:
        """Evict, then start the claimant in the room that was made."""
        for step in plan.steps:
            for pod in step.victim.pods:
                node = pod.node or ""
                self.state.apply(PodEvicted(pod.key))
                done.decisions.append(Evict(pod.key, plan.unit.first.key, step.rule, node))
        for pod, node in plan.starts:
            self.state.occupy(pod, node)
            done.decisions.append(Start(pod.key, node, plan.unit.first.key, pod.phantom))
        self.state.unit_started(plan.unit)


def _enough(done: Round, most_starts: int | None) -> bool:
    return most_starts is not None and len(done.decisions) >= most_starts
