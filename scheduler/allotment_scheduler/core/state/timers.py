"""Timers: what is over because time has passed.

- Room held for expected members that have not come within the gang's timeout, or of whose gang nothing runs any more,
  is given back. Whoever comes later waits for admission with the rest, as at first.
- A pod in quarantine waits again.
- What we evicted, and what was not recreated since, is awaited no longer.
- A gang that was whole and has lost members from outside is noted, with the time: `Engine` lets it go as a whole if it
  is not brought back up in time.

No time of before a clock was set back is believed: what began later than now began now, and lasts as long as it was to.

Called once per cycle, before anything is decided; without time (`allot simulate`) never.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.units import Gang

if TYPE_CHECKING:
    from allotment_scheduler.core.state.cluster import ClusterState


class Timers:
    """Ends what was to last until now."""

    def __init__(self, state: "ClusterState") -> None:
        self.state = state

    def time_passed(self, event: ev.TimePassed) -> None:
        """It is `now`."""
        self._believe_no_future(event.now)
        self.state.population.await_no_longer(event.now)
        for gang in self.state.gangs.values():
            if gang.phantoms and _is_awaited_in_vain(gang, event.now):
                self._give_back(gang)
            _watch(gang, event.now)
        for key in [key for key in self.state.set_aside if self._is_over(key, event.now)]:
            self.state.set_aside.discard(key)
            self._release(key)

    def _believe_no_future(self, now: float) -> None:
        """Bring times that lie ahead, though they tell of what has happened, to the present."""
        running = self.state.running.flush()
        size = running.size
        for row in np.flatnonzero(running.used[:size] & (running.started[:size] > now)).tolist():
            running.started[row] = now
            pod = running.pods[row]
            if pod is not None:
                pod.started = now
        for gang in self.state.gangs.values():
            gang.held_since = min(gang.held_since, now)
            gang.cut_since = None if gang.cut_since is None else min(gang.cut_since, now)
        for key in self.state.set_aside:
            pod = self.state.pods.get(key)
            aside = pod.set_aside if pod is not None else None
            if pod is not None and aside is not None and aside.since > now:
                pod.set_aside = replace(aside, until=now + (aside.until - aside.since), since=now)

    def _give_back(self, gang: Gang) -> None:
        self.state.population.give_back(gang, gang.phantoms)
        self.state.demand_version += 1
        self.state.lineup.regang(gang)

    def _is_over(self, key: tuple[str, str], now: float) -> bool:
        pod = self.state.pods.get(key)
        return pod is None or pod.set_aside is None or pod.set_aside.until <= now

    def _release(self, key: tuple[str, str]) -> None:
        pod = self.state.pods.get(key)
        if pod is not None:
            pod.set_aside = None
            self.state.own_version += 1
            self.state.lineup.reconsider(pod)


def _is_awaited_in_vain(gang: Gang, now: float) -> bool:
    """Whether announced members have not come in time, or nobody is left to make them."""
    return not gang.running or (gang.spec is not None and now - gang.held_since >= gang.spec.expected_timeout)


def _watch(gang: Gang, now: float) -> None:
    """Note when a gang that was whole is cut, when it is whole again, and with how many done its last member went."""
    if gang.members:
        gang.succeeded = 0
    elif gang.finished:
        gang.succeeded = max(gang.succeeded, len(gang.finished))
    if gang.spec is None or not _may_go_on(gang):
        gang.whole, gang.cut_since = False, None
        if not gang.members:
            gang.finished.clear()
    elif gang.running >= gang.min_member:
        gang.whole, gang.cut_since = True, None
    elif _is_kept_back(gang):
        gang.cut_since = None
    elif gang.whole and gang.running and gang.cut_since is None:
        gang.cut_since = now


def _may_go_on(gang: Gang) -> bool:
    """Whether some of a gang runs, or stands there still and may yet stay: its eviction may come to nothing."""
    if gang.running or not gang.whole:
        return gang.running > 0
    return any(pod.leaving and pod.node is not None for pod in gang.members.values())


def _is_kept_back(gang: Gang) -> bool:
    """Whether nothing of a gang may start, so that it cannot be brought back up."""
    leaf = next((pod.leaf for pod in gang.members.values()), None)
    return (gang.spec is not None and gang.spec.paused) or (leaf is not None and leaf.suspended)
