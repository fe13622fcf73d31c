"""Claimants: units that fit nowhere now, in serving order, each tried once until something changes.

Equal units of one leaf have equal prospects: when the first unit of a lane finds no plan, the lane is passed over,
except for what sets single units apart (evicted before, forbidden to preempt).
"""

from collections.abc import Iterator

from allotment_scheduler.core.state import ClusterState
from allotment_scheduler.core.tenants import Tenant
from allotment_scheduler.core.units import Lane, Unit


class Claimants:
    """Proposes each leaf's first unit that has not been tried."""

    def __init__(self, state: ClusterState) -> None:
        self.state = state
        self.tried: set[int] = set()
        self._sources: dict[str, dict[int, Iterator[Unit]]] = {}
        self._heads: dict[str, dict[int, Unit]] = {}

    def propose(self, leaf: Tenant) -> Unit | None:
        """The first unit of a leaf, in serving order, that has not been tried."""
        heads = self._heads.get(leaf.name)
        if heads is None:
            heads = self._heads[leaf.name] = {}
            queue = self.state.queues.get(leaf.name)
            for number, lane in enumerate(queue.lanes.values() if queue else ()):
                head = lane.head()
                if head is not None:
                    heads[number] = head
        return min(heads.values(), key=lambda unit: unit.order, default=None)

    def passed_over(self, unit: Unit) -> None:
        """A unit found no plan: on to the next of its leaf."""
        heads = self._heads[unit.leaf.name]
        number = next(number for number, head in heads.items() if head is unit)
        del heads[number]
        if _special(unit):
            sources = self._sources.setdefault(unit.leaf.name, {})
            source = sources.get(number)
            if source is None:
                source = sources[number] = _after(list(self.state.queue(unit.leaf).lanes.values())[number], unit)
            following = next(source, None)
            if following is not None:
                heads[number] = following


def _special(unit: Unit) -> bool:
    return any(pod.spent or pod.spec.never_preempts for pod in unit.pods)


def _after(lane: Lane, unit: Unit) -> Iterator[Unit]:
    return (other for other in lane.in_order() if other.order > unit.order)
