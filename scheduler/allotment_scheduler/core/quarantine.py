"""Quarantine: a unit that cannot be decided about stops nobody else.

Whatever goes wrong while one unit is looked at (a bug of ours, a request nobody foresaw) is caught there, and its pods
are set aside for a while, doubled each time. The trial it happened in has been rolled back, and a start that had begun
is taken back here; the cycle goes on with the next unit. The error is part of the round: tests and simulations look at
it, a live scheduler logs it.

It must never leave the unit in its queue: the cycle would meet it again at once, for ever.
"""

from dataclasses import dataclass, field
from math import inf

from allotment_scheduler.core.objects.events import PodSetAside
from allotment_scheduler.core.objects.pods import PodKey
from allotment_scheduler.core.objects.units import Unit
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.cluster import ClusterState


@dataclass(slots=True)
class Quarantine:
    """Sets units aside, and keeps this round's errors."""

    state: ClusterState
    settings: Settings
    troubles: list[tuple[PodKey, str]] = field(default_factory=list)

    def isolate(self, unit: Unit, error: Exception) -> None:
        """Keep a unit out of the queues for a while.

        Raises:
            Exception: `error`, if a pod is counted on its node by half: no such state can be mended.
        """
        if any(pod.node is not None and pod.slot < 0 for pod in unit.pods):
            raise error
        message = f"{type(error).__name__}: {error}"
        self.troubles.append((unit.first.key, message))
        self._take_back(unit)
        for pod in unit.pods:
            if not pod.phantom:
                self.state.apply(PodSetAside(pod.key, self._until(pod.times_set_aside), message))

    def _take_back(self, unit: Unit) -> None:
        """Undo what a start that failed has done already."""
        unit.live = False
        self.state.lineup.note(unit.first)
        for pod in unit.pods:
            if unit.gang is not None and pod in unit.gang.phantoms:
                self.state.population.give_back(unit.gang, [pod])
            elif pod.node is not None:
                self.state.vacate(pod)

    def take(self) -> list[tuple[PodKey, str]]:
        """The errors since the last call."""
        taken, self.troubles = self.troubles, []
        return taken

    def _until(self, times: int) -> float:
        if not self.settings.timed:
            return inf
        seconds: float = min(self.settings.quarantine * 2 ** min(times, 60), self.settings.longest_backoff)
        return self.state.now + seconds  # a float overflows at 1024 doublings
