"""One cycle of the scheduler: who starts, who makes room, in the order in which it is decided.

Read `Engine.cycle` from top to bottom: it is the algorithm. The engine decides, and records its decisions in the state
as it goes; carrying them out is the caller's business.

These words recur. A *unit* is what starts together: a pod, or what a gang is missing. Every leaf tenant *proposes* its
first unit that could start. A unit that fits nowhere may *claim* the room of others. A *seat* is room on a node that is
held for one pod that is to come; a *reservation* is nodes and a time, for a unit that fits nowhere now. Such room is
*closed* during a cycle: taken off its nodes, and lent to whom it is kept for.

*Serving order* goes down the tenant tree: at each level first the child that stays within its guarantee, then the one
with the smallest weighted dominant share, then fewer pods, then by name (`fairness/serving.py`). Who may be evicted for
whom, by the rules P, R1 and R2, is in `eviction/rules.py`; which victims, in `eviction/plans.py`.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from sys import maxsize
from typing import Final

from allotment_scheduler.core.decisions import Evict, Round, Start
from allotment_scheduler.core.entitlement.demand import Demand
from allotment_scheduler.core.eviction.brakes import Allowance, Brakes
from allotment_scheduler.core.eviction.budgets import Budgets
from allotment_scheduler.core.eviction.claimants import Claimants, Pass
from allotment_scheduler.core.eviction.leaving import Leaving
from allotment_scheduler.core.eviction.plans import Plan, Planner
from allotment_scheduler.core.eviction.rules import GANG
from allotment_scheduler.core.eviction.victims import victim_of
from allotment_scheduler.core.fairness.serving import Serving, listing
from allotment_scheduler.core.objects.events import PodEvicted, RoundEnded, StartForgotten, TimePassed
from allotment_scheduler.core.objects.nodes import BoolVector
from allotment_scheduler.core.objects.pods import Pod, PodKey
from allotment_scheduler.core.objects.tenants import Tenant
from allotment_scheduler.core.objects.units import Gang, Unit
from allotment_scheduler.core.placement.backfill import Backfill
from allotment_scheduler.core.placement.eligibility import Eligibility, is_covered, limits_met
from allotment_scheduler.core.placement.foresight import Foresight
from allotment_scheduler.core.placement.gangs import GangPlacer
from allotment_scheduler.core.placement.holds import Holds
from allotment_scheduler.core.placement.placer import Placer
from allotment_scheduler.core.placement.reservations import Reservations
from allotment_scheduler.core.quarantine import Quarantine
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.cluster import ClusterState

FEW_ROWS: Final = 512
"""So many rows of scores may be kept, whether or not anybody waits for them."""
_LEAVING_A_LOOK: Final = 8
"""Pods on their way out that are left out of the state in the time in which one victim is looked at."""


class Engine:
    """The decision maker over one state."""

    def __init__(self, state: ClusterState, settings: Settings | None = None) -> None:
        self.state = state
        self.settings = settings or Settings.timeless()
        self.placer = Placer(state)
        self.gangs = GangPlacer(state, self.placer)
        self.demand = Demand(state, self.placer)
        self.brakes = Brakes(self.settings)
        self.leaving = Leaving(state, self.settings)
        self.holds = Holds(state, self.placer, self.settings)
        self.reservations = Reservations(state, Foresight(state, self.placer, self.gangs), self.demand, self.settings)
        self.planner = Planner(
            state, self.placer, self.gangs, self.demand, self.brakes, kept_from=self.reservations.kept_from
        )
        self.quarantine = Quarantine(state, self.settings)
        self.claim_pass = Pass()
        self._most_rows = FEW_ROWS
        self.eligibility = Eligibility(
            state, self.placer, self.gangs, self.demand.scope_of, troubled=self.quarantine.isolate
        )
        self.serving = Serving(state, self.eligibility.propose, self.eligibility.where)

    def cycle(self, now: float, *, most_decisions: int | None = None, claims: bool = True) -> Round:
        """Decide until nothing more can be decided, or about `most_decisions` decisions were made."""
        state, done = self.state, Round()
        # 1. Settle: end what was to last until now, rebuild what is stale, forget brakes that are over.
        self._settle(now)
        try:
            # 2. Seats first, for that room is theirs already: announced members, successors of pods that left, units
            #    whose reservation has come true.
            self._seat_members(done)
            self._seat_successors(done, now)
            #    From here on nobody starts in a seat that is held for somebody else.
            self.holds.close(self.holds.seats())
            self._seat_reserved(done, now)
            # 3. Close the nodes that are reserved.
            self.holds.close(self.reservations.rooms(now))
            # 4. Serve: while any unit is eligible, the one next in serving order starts.
            self._open_serving()
            self._serve(done, most_decisions)
            # 5. Claim: the first unit in serving order that has a plan evicts and starts; then serving goes on. It ends
            #    when nobody has a plan, or when the search has cost `claim_effort`. `done.cut_short` asks for another
            #    cycle: after the latter, which goes on where this one stopped, and after a pass in whose course
            #    something has changed. Callers that must not evict leave it out.
            while claims and not _enough(done, most_decisions) and (found := self._next_plan(done)) is not None:
                plan = self._without_new_starts(found, done)
                if plan is not None:
                    self._carry_out(plan, done)
                #    What a plan has freed on reserved nodes is kept as well.
                self.holds.close(self.reservations.rooms(now))
                self._open_serving()
                self._serve(done, most_decisions)
            # 6. Backfill: with only the seats closed, start on reserved nodes what ends in time, in serving order.
            self.holds.open()
            self.holds.close(self.holds.seats())
            self._backfill(done, now)
            # 7. Reserve: the oldest units that fit nowhere get nodes and a time.
            self.reservations.renew(now)
        finally:
            self.holds.end()
        # 8. Let go: gangs that lost members from outside and were not brought back up in time.
        self._let_go(done, now)
        # 9. What was evicted waits again, behind its peers.
        state.apply(RoundEnded())
        done.troubles = self.quarantine.take()
        return done

    # --- 1. settle ------------------------------------------------------------------------------------------------

    def _settle(self, now: float) -> None:
        """Bring the state up to date, and begin the count of what this cycle may spend."""
        state = self.state
        state.now = now
        state.settle()
        if self.settings.timed:
            state.apply(TimePassed(now))
        self._thin_out_rows()
        self.brakes.begin_cycle(now)
        self.planner.effort = 0
        self.planner.spared.clear()

    def _thin_out_rows(self) -> None:
        """Forget the rows of scores (one for each class of pods, by node) that nobody waits for, now and then."""
        if len(self.placer.rows) > self._most_rows:
            self.placer.forget(self.state.lineup.row_keys())
            self._most_rows = max(FEW_ROWS, 2 * len(self.placer.rows))

    # --- 2. seats -------------------------------------------------------------------------------------------------

    def _seat_members(self, done: Round) -> None:
        """Members of a gang that were announced and have come take the room that is held for them.

        Until then a *phantom* stands there, a pod that does not exist.
        """
        for gang in [gang for gang in self.state.gangs.values() if gang.phantoms]:
            if gang.spec is None or gang.spec.paused:
                continue
            refused: set[tuple[object, ...]] = set()
            for pod in gang.waiting():
                kind = (*self.state.lineup.row_key(pod), pod.spec.preemptible)
                for room in [room for room in gang.phantoms if room.klass.amounts == pod.klass.amounts]:
                    if (*kind, room.node) in refused or not self.state.lineup.waits(pod):
                        continue
                    if self._take_room(pod, room, gang, done):
                        break
                    refused.add((*kind, room.node))

    def _take_room(self, pod: Pod, room: Pod, gang: Gang, done: Round) -> bool:
        """Start a pod in a room held for its like, if it may start there."""
        node = room.node or ""
        with self.state.trial() as trial:
            trial.evict(room)
            if not is_covered(pod, self.state.nodes.by_name[node].pool):  # the room held for it promises none
                return False
            only = self.state.nodes.named([node])
            index = self.placer.best(self.placer.row(self.state.lineup.row_key(pod)), only)
            if index < 0:
                return False
            trial.start(pod, index)
            trial.commit()
        self.state.lineup.seated(pod, room, gang)
        done.decisions.append(Start(pod.key, node, pod.key))
        return True

    def _seat_successors(self, done: Round, now: float) -> None:
        """Successors that have come start in their seats; what a gang is missing starts together, wherever it fits."""
        self.holds.collect(now)
        self.holds.seat(
            lambda unit, index: self._start_within(
                unit, None if index is None else self.state.nodes.only([index]), done
            )
        )

    def _seat_reserved(self, done: Round, now: float) -> None:
        """Units with a reservation start if they fit by now, in their own reserved room too, but in nobody else's."""
        for reservation in list(self.reservations.by_unit.values()):
            unit = self.reservations.unit_of(reservation)
            if unit is not None:
                others = self.holds.close(self.reservations.rooms(now, but_for=reservation))
                self._start_within(unit, None, done)
                self.holds.open(others)
                if not unit.live:
                    del self.reservations.by_unit[reservation.unit]

    # --- 4. serve -------------------------------------------------------------------------------------------------

    def _open_serving(self) -> None:
        """Let every leaf compete anew."""
        self.eligibility.reopen()
        self.serving = Serving(self.state, self.eligibility.propose, self.eligibility.where)
        self.serving.refresh_all(self._leaves())
        self.state.dirty_leaves.clear()

    def _serve(self, done: Round, most_decisions: int | None) -> None:
        """Start units in serving order until none is eligible, or enough has been decided."""
        most = maxsize if most_decisions is None else most_decisions
        serving, decisions = self.serving, done.decisions
        while (decided := len(decisions)) < most and (unit := serving.next()) is not None:
            try:
                self._start(unit, done)
            except Exception as error:  # noqa: BLE001 - one unit must not stop all others; the error is in the round
                del done.decisions[decided:]
                self.quarantine.isolate(unit, error)
            self._ask_again(self.eligibility.leaves_to_ask())

    def _ask_again(self, leaves: Iterable[Tenant]) -> None:
        """Let these leaves, and those whose queues have changed, propose anew.

        Equal units of a leaf wait in one lane. One whose first unit cannot start is parked until what it lacks may have
        come; then its leaf is asked again.
        """
        dirty = self.state.dirty_leaves
        dirty.update(leaves)
        if len(dirty) == 1:
            self.serving.refresh(dirty.pop())
        else:
            for leaf in sorted(dirty, key=lambda leaf: leaf.rank):
                self.serving.refresh(leaf)
            dirty.clear()

    def _start(self, unit: Unit, done: Round) -> None:
        """Start a unit that was found eligible, if it still is."""
        bound = unit.leaf.limited_path or unit.shape.fixed
        if bound and self.eligibility.propose(unit.leaf) is not unit:
            # Another leaf has used up the limit or guarantee above both since: it is asked anew.
            self.state.dirty_leaves.add(unit.leaf)
            return
        pools = limits_met(unit.leaf, unit.shape)[1] if bound else unit.shape.pools
        if len(unit.pods) == 1:
            key = unit.shape.parts[0][0]
            row = self.placer.row(key if pools is key[2] else (key[0], key[1], pools))
            index = self.placer.best(row)
            if index < 0:
                raise AssertionError(f"{unit.first} was found eligible but cannot be placed: this is a bug")
            node = self.state.nodes.ordered[index].spec.name
            pod = unit.pods[0]
            key_of_pod = pod.key
            self.state.occupy(pod, node)
            done.decisions.append(Start(key_of_pod, node, key_of_pod))
            self.state.lineup.unit_started(unit)
            return
        with self.state.trial() as trial:
            if not self.gangs.place(unit, pools, trial):
                raise AssertionError(f"{unit.first} was found eligible but cannot be placed: this is a bug")
            self._record(unit, trial.commit(), done)

    # --- 5. claim -------------------------------------------------------------------------------------------------

    def _next_plan(self, done: Round) -> Plan | None:
        """The plan of the first unit in serving order that has one, among those not tried in this pass.

        Whoever has none counts as tried (`self.claim_pass`). When all have been tried, the pass is over: the next one
        begins with the next cycle, at once if anything has changed in the course of this one.
        """
        if self.claim_pass.version < 0:
            self.claim_pass.version = self.state.demand_version
        with self._once_they_have_gone():
            return self._first_plan(done)

    def _first_plan(self, done: Round) -> Plan | None:
        favoured = self.holds.favoured()
        claimants = Claimants(self.state, self.demand.entitlement, self.claim_pass, self.brakes, favoured)
        order = Serving(self.state, claimants.propose, self.demand.scope)
        order.refresh_all(self._leaves())
        while (unit := order.next()) is not None:
            if self.planner.effort >= self.settings.claim_effort:
                done.cut_short = True
                return None
            plan = self._plan(unit)
            if plan is not None:
                return plan
            if self.planner.unfinished:
                done.cut_short = True
                return None
            claimants.passed_over(unit)
            order.refresh(unit.leaf)
        # What has changed in its course may let others claim who could not before.
        done.cut_short = self.claim_pass.evicted or self.claim_pass.version != self.state.demand_version
        self.claim_pass = Pass()
        return None

    @contextmanager
    def _once_they_have_gone(self) -> Iterator[None]:
        """Show the state without those who are on their way out: what they leave need not be made once more."""
        pods = self.state.running.leaving()
        if not pods or not any(lane.head() for queue in self.state.queues.values() for lane in queue.lanes.values()):
            yield
            return
        self.planner.effort += len(pods) // _LEAVING_A_LOOK
        self.holds.open()
        try:
            with self.demand.standing(), self.leaving.gone(pods):
                self._close_kept()  # on an overdrawn node there is more to be kept than before
                self.planner.room_comes = True
                try:
                    yield
                finally:
                    self.planner.room_comes = False
                    self.holds.open()
        finally:
            self._close_kept()

    def _close_kept(self) -> None:
        """Keep everybody off seats and off reserved nodes."""
        self.holds.close(self.holds.seats())
        self.holds.close(self.reservations.rooms(self.state.now))

    def _plan(self, unit: Unit) -> Plan | None:
        try:
            with self.holds.lent_to(unit), self.leaving.lent_to(unit):
                return self.planner.plan(unit, self.claim_pass.looked.setdefault(unit.first.key, set()))
        except Exception as error:  # noqa: BLE001 - as above
            self.quarantine.isolate(unit, error)
            return None

    def _without_new_starts(self, plan: Plan, done: Round) -> Plan | None:
        """Make a plan anew if it would evict somebody who started in this cycle.

        Single pods that were only served are taken back: they wait again, nobody has asked the API server for them yet.
        Gangs are not, and after the first eviction nobody is: that eviction may have been lawful only because of their
        start.
        """
        if all(pod.spec.node is not None for step in plan.steps for pod in step.victim.pods):
            return plan
        started = {start.pod for start in done.starts}
        new = [pod for step in plan.steps for pod in step.victim.pods if pod.spec.node is None and pod.key in started]
        if not new:
            return plan
        self.planner.spared |= started
        waiting = set() if done.evictions else {pod.key for pod in new if pod.gang is None}
        done.take_back(waiting)
        self.state.apply_all(map(StartForgotten, waiting))
        if waiting and not plan.unit.shape.fixed:
            with self.holds.lent_to(plan.unit):
                self._start_within(plan.unit, None, done)
            if not plan.unit.live:
                return None  # it fits without anybody going
        self.claim_pass.looked.pop(plan.unit.first.key, None)  # there may be more room than when they were looked at
        with self._once_they_have_gone():
            return self._plan(plan.unit)

    def _carry_out(self, plan: Plan, done: Round) -> None:
        """Evict, then start the claimant in the room that was made."""
        self.claim_pass.evicted = True
        for step in plan.steps:
            self._evict(step.victim.pods, step.rule, plan.unit.first.key, done)
        with self.holds.lent_to(plan.unit), self._devices_left_to(plan):
            for pod, node in plan.starts:
                self.state.occupy(pod, node)
                done.decisions.append(Start(pod.key, node, plan.unit.first.key, pod.phantom))
        self.state.lineup.unit_started(plan.unit)

    @contextmanager
    def _devices_left_to(self, plan: Plan) -> Iterator[None]:
        """Devices are given to who starts, so that they are given once: also those that somebody is about to leave."""
        asks = any(pod.klass.spec.devices for pod, _ in plan.starts)
        pods = self.state.running.leaving() if asks else []
        if not pods:
            yield
            return
        with self.leaving.gone(pods), self.leaving.lent_to(plan.unit):
            yield

    # --- 6. backfill ----------------------------------------------------------------------------------------------

    def _backfill(self, done: Round, now: float) -> None:
        """Start on reserved nodes what ends before they are needed."""
        if not self.reservations.by_unit:
            return
        backfill = Backfill(self.state, self.gangs, self.reservations, now)
        serving = Serving(self.state, backfill.propose, backfill.where)
        serving.refresh_all(self._leaves())
        while (unit := serving.next()) is not None:
            self._start_within(unit, backfill.nodes(unit), done)
            backfill.passed(unit)
            serving.refresh(unit.leaf)

    # --- 8. let go ------------------------------------------------------------------------------------------------

    def _let_go(self, done: Round, now: float) -> None:
        """Evict what is left of gangs that have been cut for too long, where all of it may go."""
        if not self.settings.timed:
            return
        for gang in self.state.gangs.values():
            if gang.cut_since is None or now - gang.cut_since < self.settings.gang_recovery:
                continue
            gang.cut_since = now  # whatever comes of it: it is looked at again after another `gang_recovery`
            left = gang.standing()  # nobody, where a plan has taken the rest
            victim = victim_of(left[0], self.state) if left else None
            budgets = Budgets(self.state, Allowance(self.brakes, now))
            if victim is None or victim.last_choice or not budgets.allows(victim.pods):
                continue
            if all(self.brakes.may_go(pod, GANG, now) for pod in victim.pods):
                self._evict(victim.pods, GANG, victim.pods[0].key, done)

    # --- what several steps use -----------------------------------------------------------------------------------

    def _start_within(self, unit: Unit, only: BoolVector | None, done: Round) -> None:
        """Start a unit on some nodes only, if it fits there and may start at all."""
        blocked, pools = limits_met(unit.leaf, unit.shape)
        trial = self.state.trial()
        if blocked is None and self.gangs.place(unit, pools, trial, only):
            self._record(unit, trial.commit(), done)

    def _record(self, unit: Unit, started: list[tuple[Pod, str, bool]], done: Round) -> None:
        for pod, node, _ in started:
            done.decisions.append(Start(pod.key, node, unit.first.key, pod.phantom))
        self.state.lineup.unit_started(unit)

    def _evict(self, pods: list[Pod], rule: str, claimant: PodKey, done: Round) -> None:
        """Take pods off their nodes in the state, and record it."""
        for pod in pods:
            node = pod.node or ""
            self.brakes.evicted(pod, rule, self.state.now)
            self.state.apply(PodEvicted(pod.key))
            done.decisions.append(Evict(pod.key, claimant, rule, node))

    def _leaves(self) -> list[Tenant]:
        """Leaves with anything in their queue."""
        return [queue.leaf for queue in self.state.queues.values()]

    # --- for reports ----------------------------------------------------------------------------------------------

    def serving_order(self) -> list[Tenant]:
        """Leaves in the order in which they would be served next, as things stand."""
        self.state.settle()
        eligibility = Eligibility(self.state, self.placer, self.gangs, self.demand.scope_of)
        eligibility.unpark_all()
        return listing(self.state, eligibility.propose, eligibility.where)


def _enough(done: Round, most_decisions: int | None) -> bool:
    return most_decisions is not None and len(done.decisions) >= most_decisions
