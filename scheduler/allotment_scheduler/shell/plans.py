"""Plans: takes a cycle's decisions down in the ledger, and carries out those that need somebody's eviction first.

A plan is one claimant's: its starts, and the victims whose room they take. Plans run beside the turns, each to its end
or until it is given up; `under_way` names them.
"""

import asyncio

from allotment_scheduler.core import decisions as core
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import PodKey
from allotment_scheduler.shell.errands import Errands
from allotment_scheduler.shell.evictor import Evictor
from allotment_scheduler.shell.knowledge import Knowledge
from allotment_scheduler.shell.ledger import Departure, Phase, Start
from allotment_scheduler.shell.outcomes import Outcomes


class Plans:
    """Enters rounds of decisions into the ledger, and sets evictions going."""

    def __init__(self, knowledge: Knowledge, outcomes: Outcomes) -> None:
        self._known = knowledge
        self._outcomes = outcomes
        self.under_way: dict[PodKey, asyncio.Task[None]] = {}
        """Plans being carried out, by claimant."""

    def take_down(self, done: core.Round, evictor: Evictor, errands: Errands) -> None:
        """Enter a round into the ledger, and set evictions going."""
        now, ledger = self._known.clock(), self._known.ledger
        plans = self._depart(done, now)
        claimants: dict[PodKey, list[Start]] = {}
        for decided in done.starts:
            if decided.phantom:
                continue  # room held for a member that does not exist yet: the core and the PodGroup's status keep it
            uid = self._known.state.pods[decided.pod].spec.uid
            start = Start(decided.pod, uid, decided.node, decided.unit, now)
            ledger.open(start)
            if decided.unit in plans:
                claimants.setdefault(decided.unit, []).append(start)
        for claimant, victims in plans.items():
            ledger.undertakings[claimant].deadline = now + 2 * self._known.settings().eviction_seconds
            work = self._carry_out(evictor, claimant, claimants.get(claimant, []), victims)
            self.under_way[claimant] = errands.begin(work, f"plan of {claimant}")

    def _depart(self, done: core.Round, now: float) -> dict[PodKey, list[Departure]]:
        """Enter a round's evictions into the ledger; returns them by claimant."""
        known, plans = self._known, dict[PodKey, list[Departure]]()
        starters = {decided.unit for decided in done.starts}
        for evict in done.evictions:
            start = known.ledger.starts.get(evict.pod)
            uid = known.state.pods[evict.pod].spec.uid
            departure = Departure(evict.pod, uid, evict.node, evict.claimant, evict.rule, now)
            if start is not None and start.phase is Phase.WAITING:
                self._outcomes.withdraw(start)  # it was never sent there: nobody need be asked
                self._outcomes.stays(departure)
                continue
            departure.for_nobody = evict.claimant not in starters
            plans.setdefault(evict.claimant, []).append(departure)
            known.ledger.depart(departure)
            known.state.apply(ev.PodLeaving(evict.pod, evict.node))
        return plans

    async def _carry_out(
        self, evictor: Evictor, claimant: PodKey, starts: list[Start], victims: list[Departure]
    ) -> None:
        """Carry out one plan, to its end or until it is given up."""
        ledger = self._known.ledger
        try:
            await evictor.carry_out(starts, victims, patience=self._known.settings().eviction_seconds)
        finally:
            if self.under_way.get(claimant) is asyncio.current_task():
                del self.under_way[claimant]  # otherwise this plan was given up, and the claimant has another by now
            for start in starts:  # the plan may have been given up while the mark was being made
                if start.nominated and ledger.starts.get(start.key) is not start:
                    self._outcomes.mark_is_over(start)
            for departure in victims:
                if ledger.departures.get(departure.key) is departure and not departure.accepted:
                    self._outcomes.keep(departure)

    def abandon_strays(self) -> None:
        """Keep the victims of plans that nobody carries out: they were decided in a turn that failed."""
        for departure in [*self._known.ledger.departures.values()]:
            if not departure.accepted and departure.claimant not in self.under_way:
                self._outcomes.keep(departure)
