"""Rooms held for somebody in particular: successors of pods that their owner recreates, and units with a reservation.

Holds live outside the state: during a cycle the room is taken from the nodes, afterwards it is given back, so the
state's sums never contain anything but pods. Whoever a room is held for is served before the holds close.
"""

from dataclasses import dataclass, field

from allotment_scheduler.core.placement import Placer
from allotment_scheduler.core.pods import Pod
from allotment_scheduler.core.resources import Amounts
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state import ClusterState
from allotment_scheduler.core.units import Gang, Unit

RECREATING: frozenset[str] = frozenset({"StatefulSet"})
"""Controllers whose pods come back under the same name."""


@dataclass(slots=True)
class Hold:
    """Room on one node for the next pod of an owner, by name where its pods keep their names.

    Only for pods that did not end well: what has succeeded has no successor.
    """

    node: str
    amounts: Amounts
    namespace: str
    owner: str
    name: str | None
    until: float
    gang: Gang | None = None
    """The Job's gang: with it goes the hold."""

    def is_for(self, pod: Pod) -> bool:
        """Whether a waiting pod is the successor."""
        spec = pod.spec
        if spec.namespace != self.namespace or spec.owner != self.owner:
            return False
        return self.name is None or spec.name == self.name


@dataclass(slots=True)
class Holds:
    """All successor holds, and the rooms that are closed for this cycle."""

    state: ClusterState
    placer: Placer
    settings: Settings
    holds: list[Hold] = field(default_factory=list)
    closed: list[tuple[int, Amounts]] = field(default_factory=list)

    def collect(self, now: float) -> None:
        """Hold the rooms of pods that have gone since the last cycle, and drop what is over."""
        departed, self.state.departed = self.state.departed, []
        if not self.settings.timed:
            return
        for pod, node in departed:
            spec = pod.spec
            gang_of_job = spec.owner_kind == "Job" and pod.gang is not None
            if spec.owner and (spec.owner_kind in RECREATING or gang_of_job):
                name = spec.name if spec.owner_kind in RECREATING else None
                until = now + self.settings.successor_hold
                gang = pod.gang if gang_of_job else None
                self.holds.append(Hold(node, pod.klass.amounts, spec.namespace, spec.owner, name, until, gang))
        for hold in self.holds:  # a clock that was set back makes none of them longer
            hold.until = min(hold.until, now + self.settings.successor_hold)
        self.holds = [hold for hold in self.holds if self._stands(hold, now)]

    def _stands(self, hold: Hold, now: float) -> bool:
        gone = hold.gang is not None and hold.gang.spec is None
        return hold.until > now and hold.node in self.state.nodes.by_name and not gone

    def successors(self) -> list[tuple[Unit, int]]:
        """Waiting units of one pod whose room is held, with the node's index; their holds are used up."""
        if not self.holds:
            return []
        out: list[tuple[Unit, int]] = []
        for pod in self.state.waiting():
            unit = pod.unit
            if not isinstance(unit, Unit) or not unit.live or len(unit.pods) != 1:
                continue
            hold = next((hold for hold in self.holds if hold.is_for(pod)), None)
            if hold is not None:
                self.holds.remove(hold)
                out.append((unit, self.state.nodes.by_name[hold.node].index))
        return out

    def seats(self) -> list[tuple[int, Amounts]]:
        """The rooms that are held for successors which have not come yet."""
        return [(self.state.nodes.by_name[hold.node].index, hold.amounts) for hold in self.holds]

    def close(self, rooms: list[tuple[int, Amounts]]) -> int:
        """Take rooms off their nodes for a while; returns the mark to open them by."""
        nodes, mark = self.state.nodes, len(self.closed)
        for index, amounts in rooms:
            room = tuple((c, min(a, int(nodes.free[c, index]))) for c, a in amounts if nodes.free[c, index] > 0)
            nodes.take(index, room, 1)
            self.closed.append((index, room))
        return mark

    def open(self, mark: int = 0) -> None:
        """Give back every room that was closed since a mark."""
        for index, room in self.closed[mark:]:
            self.state.nodes.take(index, room, -1)
        del self.closed[mark:]
