"""Housekeeping: what time alone brings about.

Quarantines and bars end to the moment, and so do the times for which running pods are spared. Once a second, plans
whose room did not become free in time are given up, and Bindings that no watch has shown are read. Deadlines from
before the clock was set back are brought near.

A plan whose victims have all been asked to go is not given up before their grace periods are over: its claimant would
have others killed for room that is about to come.
"""

from typing import Final

from allotment_scheduler.shell.confirmation import Confirmation, ReadingClient
from allotment_scheduler.shell.errands import Errands
from allotment_scheduler.shell.headroom import Headroom
from allotment_scheduler.shell.knowledge import Knowledge
from allotment_scheduler.shell.ledger import Undertaking
from allotment_scheduler.shell.outcomes import Outcomes

PERIOD: Final = 1.0
"""Seconds between two rounds."""
_DUE: Final = 0.9
"""The part of the period that must have passed for a round to be due again."""


class Housekeeping:
    """Looks after deadlines."""

    def __init__(self, knowledge: Knowledge, outcomes: Outcomes) -> None:
        self._known = knowledge
        self._outcomes = outcomes
        self._confirmation = Confirmation(knowledge, outcomes)
        self._last = 0.0

    def until_next(self) -> float:
        """Seconds until there is something to do."""
        release = self._known.ledger.next_release()
        return PERIOD if release is None else min(PERIOD, max(0.0, release - self._known.clock()))

    def look(self, client: ReadingClient, errands: Errands) -> None:
        """Do what is due; cheap where nothing is."""
        now = self._known.clock()
        for key in self._known.ledger.releasable(now):
            self._known.picture.reconsider(key)
        for key in self._known.ledger.spared.over(now):
            self._known.picture.spare(key, spared=False)
        if 0 <= now - self._last < PERIOD * _DUE:
            return
        self._last = now
        self._end_plans(now)
        self._confirmation.look(now, client, errands)

    def _end_plans(self, now: float) -> None:
        settings = self._known.settings()
        longest = max(2 * settings.eviction_seconds, settings.volume_seconds)
        for undertaking in [*self._known.ledger.undertakings.values()]:
            if undertaking.deadline is None:
                continue
            undertaking.deadline = min(undertaking.deadline, now + longest)
            if undertaking.deadline > now or not undertaking.waits:
                continue
            if undertaking.attaching:
                waiting = undertaking.waiting()
                self._outcomes.unattachable(undertaking, waiting, "its volumes or devices did not come in time")
                continue
            undertaking.deadline = min(self._end_of_grace(undertaking, now), now) + settings.eviction_seconds
            if undertaking.deadline <= now:
                self._outcomes.give_up(undertaking, "the room did not become free in time")

    def _end_of_grace(self, undertaking: Undertaking, now: float) -> float:
        """When the last pod that leaves room to a plan must have ended; 0 where one was never asked to go."""
        known = self._known
        departures = [known.ledger.departures[key] for key in undertaking.departures]
        if not all(departure.accepted for departure in departures):
            return 0.0
        waiting = undertaking.waiting()
        known.state.settle()
        leaving = {departure.key for departure in departures} | undertaking.neighbours
        leaving |= Headroom(known.state, known.ledger, waiting).awaited()
        end = max((known.picture.ending.get(key, 0.0) for key in leaving), default=0.0)
        return min(end, min(min(start.since, now) for start in waiting) + known.settings().longest_grace_seconds)
