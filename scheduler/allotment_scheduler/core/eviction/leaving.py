"""Those on their way out: what their going leaves to claimants (ADR 0115).

A pod that is being deleted, by us or by anybody else, stands on its node until it has ended. To who starts without
evicting anybody it counts in full. Claims reckon with the world in which it has gone: otherwise its room would be made
a second time, and its tenant would pay for it twice. So the search for plans goes on within `gone`:

- in use, by which the rules compare, nobody counts who is on his way out;
- his room, and his part of limits, are free, where he can be believed to go soon and nobody in particular comes in his
  place. Otherwise both are held, as a seat holds them. That is the room of whom his controller makes anew there, or who
  keeps a seat for his successor (lent to the next members of his gang once they have come); of who has outstayed his
  grace period, or may stay for longer than anybody waits; and, where no time passes, of everybody;
- what he takes up of guarantees, if he may not be preempted, is not given a second time before he has gone.

Nothing is decided here, and the state is afterwards as it was before.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.objects.units import Unit
from allotment_scheduler.core.placement.holds import leaves_seat
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.cluster import ClusterState

STAY_PUT: Final[frozenset[str]] = frozenset({"DaemonSet", "Node"})
"""Owners whose next pod comes to the same node, whoever is there."""


class Leaving:
    """Shows the state without those who are on their way out, whenever it is asked."""

    def __init__(self, state: ClusterState, settings: Settings) -> None:
        self.state = state
        self.settings = settings
        self._kept: set[Pod] = set()
        """While the state is shown without those who leave: whose room is held all the same."""

    def anyone_goes(self) -> bool:
        """Whether claims reckon with anybody's going: not with that of pods which hang on their way out for good."""
        return any(map(self._goes_soon, self.state.running.leaving()))

    @contextmanager
    def gone(self, pods: list[Pod]) -> Iterator[None]:
        """The state as it will be once these pods have gone."""
        going = [pod for pod in pods if self._makes_room(pod)]
        self._kept = kept = set(pods).difference(going)
        try:
            for pod in pods:
                self._hold(pod, 1, room=pod in kept)
            with self.state.trial() as trial:
                for pod in going:
                    trial.evict(pod)
                yield
        finally:
            for pod in pods:
                self._hold(pod, -1, room=pod in kept)
            self._kept = set()

    @contextmanager
    def lent_to(self, unit: Unit) -> Iterator[None]:
        """Within `gone`: what is held for the next members of a Job's gang is free for them, once they have come."""
        mine = [pod for pod in self._kept if pod.gang is not None and pod.gang is unit.gang and self._goes_soon(pod)]
        try:
            for pod in mine:
                self._hold(pod, -1, room=True)
                self._hold(pod, 1, room=False)
            with self.state.trial() as trial:
                for pod in mine:
                    trial.evict(pod)
                yield
        finally:
            for pod in mine:
                self._hold(pod, -1, room=False)
                self._hold(pod, 1, room=True)

    def _makes_room(self, pod: Pod) -> bool:
        """Whether a pod's room will be free before long, for whoever comes."""
        return self._goes_soon(pod) and (pod.leaving or not leaves_seat(pod))

    def _goes_soon(self, pod: Pod) -> bool:
        """Whether a pod can be believed to leave its room before long, and not to one that comes there anyhow."""
        now, ends = self.state.now, pod.spec.ends
        if not self.settings.timed or pod.spec.owner_kind in STAY_PUT:
            return False
        return ends is None or (now < ends + self.settings.overstay and ends <= now + self.settings.longest)

    def _hold(self, pod: Pod, sign: int, *, room: bool) -> None:
        """Count what stays taken up until a pod has gone: its part of guarantees, and, with its room, of limits."""
        fixed, node = not pod.spec.preemptible, self.state.nodes.by_name.get(pod.node or "")
        if pod.leaf is None or not (fixed or room):
            return
        pool = None if node is None else node.pool
        if room:
            pod.leaf.add(pod.klass.amounts, pool if self.state.multi_pool else None, fixed=fixed, sign=-sign)
        for tenant in pod.leaf.path:
            tables = ([tenant.held_fixed] if fixed else []) + ([tenant.held] if room else [])
            for table in tables:
                for column, amount in pod.klass.amounts:
                    for where in {"", pool or ""}:
                        table[where, column] = table.get((where, column), 0) + sign * amount
