"""Foresight: when and where a unit will fit, as what runs ends.

What runs ends at the latest when its declared maximum runtime is over; what is overdue ends any moment; what declares
none ends last of all, at no known time. Nothing is evicted, and rooms held for announced members stay.

How it thinks: while pods end, free slots only become more. So the first end after which there are slots enough is found
by halving the ends that are left, in arrays, and nothing is moved for it. Equal pods that do not mind their neighbours
then fit; the nodes are those that preferences, pools and GPUs speak for, and of these the ones where least must end.
For other units slots are necessary, not sufficient: they are placed in a trial from which some nodes' pods have gone,
first on about as many nodes as the slots say, then on as many as the trial may clear; where that fails, a later end is
tried, further and further away. So their time may be later than it need be.

Bounded: a search looks once at every running pod that stands on nodes in question, and moves no more than `MOST_MOVED`
of them, in no more than `MOST_TRIES` trials. A unit for which it finds nothing may still fit one day.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import Final

import numpy as np
import numpy.typing as npt

from allotment_scheduler.core.objects.nodes import BoolVector, IntMatrix, IntVector
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.objects.resources import PODS, Column
from allotment_scheduler.core.objects.units import Unit
from allotment_scheduler.core.placement.gangs import GangPlacer, Kinds
from allotment_scheduler.core.placement.placer import Placer
from allotment_scheduler.core.state.cluster import ClusterState

Ends = npt.NDArray[np.float64]
MOST_MOVED: Final = 8192
"""Running pods that trials for one unit may move in all."""
MOST_TRIES: Final = 12
"""Trials for one unit."""
_A_TRY: Final = 64
"""Pods that could be moved in the time that a trial takes beside its own."""
_LOOKS: Final = 16
"""Running pods that arrays go through in the time in which one is moved."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """The nodes where a unit will fit, and when at the latest: infinite while that is unknown."""

    nodes: tuple[str, ...]
    eta: float


@dataclass(frozen=True, slots=True)
class Departures:
    """Running pods on the nodes in question, in the order in which they end."""

    pods: list[Pod]
    node: npt.NDArray[np.intp]
    end: Ends
    held: dict[Column, IntVector]
    """What each holds, of the resources in question."""
    steps: list[int]
    """How many have gone after each distinct end; at first none."""
    now: float

    def eta(self, step: int) -> float:
        """When those up to a step have gone."""
        return float(self.end[self.steps[step] - 1]) if step else self.now

    def foreseeable(self) -> "Departures":
        """Without the step of those that end at no known time."""
        last = len(self.steps) - 1
        return replace(self, steps=self.steps[:last]) if last and self.eta(last) == inf else self

    def freed(self, free: IntMatrix, start: int, stop: int) -> IntMatrix:
        """The free room once those from `start` up to `stop` have gone, too."""
        later = free.copy()
        for column, held in self.held.items():
            np.add.at(later[column], self.node[start:stop], held[start:stop])
        return later


@dataclass(frozen=True, slots=True)
class Outlook:
    """What slots say of a unit: after which step there are enough, and on which nodes."""

    unit: Unit
    pools: tuple[str, ...]
    departures: Departures
    step: int
    order: IntVector
    """Nodes that have slots then, the best first."""
    count: int
    """How many of them have enough."""


class Foresight:
    """Finds when and where units will fit. It never changes anything."""

    def __init__(self, state: ClusterState, placer: Placer, gangs: GangPlacer) -> None:
        self.state = state
        self.placer = placer
        self.gangs = gangs
        self.effort = 0
        """What searching has cost since the caller last set it to 0: as pods that could have been moved in a trial."""

    def find(
        self, unit: Unit, pools: tuple[str, ...], now: float, within: tuple[str, ...] | None = None
    ) -> Prospect | None:
        """When and where a unit will fit in some pools, on certain nodes if they are named; None if that is not found.

        The free room of nodes counts as it is now: rooms that are closed for others stay so.
        """
        kinds = self.gangs.kinds(unit, pools)
        inside = np.logical_or.reduce([row.allowed for row, _ in kinds])
        if within is not None:
            inside = inside & self.state.nodes.named(within)
        departures = self._departures(kinds, inside, now, within)
        self.effort += 1 + len(departures.pods) // _LOOKS
        found = self._first_with_slots(unit, kinds, departures, inside)
        if found is None:
            return None
        step, free = found
        order, count = self._order(unit, kinds, departures.node[: departures.steps[step]], free, inside)
        if self.gangs.is_counted(unit, pools):
            return self._prospect(order[:count], departures.eta(step))
        if step == 0 and len(kinds) == 1:
            # It has room, and only neighbours in its way. To keep others off until these have gone would bring nothing
            # if nobody knows when that is: a replica too many of a service whose pods repel each other would close a
            # node for good.
            departures = departures.foreseeable()
        return self._tried(Outlook(unit, pools, departures, step, order, count))

    def _prospect(self, indexes: IntVector, eta: float) -> Prospect:
        ordered = self.state.nodes.ordered
        return Prospect(tuple(ordered[index].spec.name for index in indexes.tolist()), eta)

    def _departures(self, kinds: Kinds, inside: BoolVector, now: float, within: tuple[str, ...] | None) -> Departures:
        running, by_name = self.state.running.flush(), self.state.nodes.by_name
        if within is None:
            node = running.node[: running.size]
            rows = np.flatnonzero(running.used[: running.size] & (node >= 0) & inside[node])
        else:
            there = [by_name[name] for name in within if name in by_name]
            rows = np.array([slot for node in there if inside[node.index] for slot in node.pods], dtype=np.intp)
        standing = [(row, pod) for row in rows.tolist() if (pod := running.pods[row]) is not None and not pod.phantom]
        ends = np.array([end_of(pod, now) for _, pod in standing], dtype=np.float64)
        order = np.argsort(ends, kind="stable")
        rows = np.array([row for row, _ in standing], dtype=np.intp)[order]
        ends = ends[order]
        steps = [0, *(np.flatnonzero(ends[1:] > ends[:-1]) + 1).tolist(), len(ends)] if len(ends) else [0]
        amounts = self.state.interning.amounts_of(running.klass[rows])
        held = {column: amounts(column) for column in {column for row, _ in kinds for column, _ in row.klass.room}}
        pods = [standing[place][1] for place in order.tolist()]
        return Departures(pods, running.node[rows].astype(np.intp), ends, held, steps, now)

    # --- slots ---------------------------------------------------------------------------------------------------

    def _first_with_slots(
        self, unit: Unit, kinds: Kinds, departures: Departures, inside: BoolVector
    ) -> tuple[int, IntMatrix] | None:
        """The first step after which there are slots enough, with the free room there is then."""
        steps, free = departures.steps, self.state.nodes.free

        def enough(room: IntMatrix) -> bool:
            return self.gangs.has_slots(unit, kinds, room, inside)

        if enough(free):
            return 0, free
        low, high = 0, len(steps) - 1
        best = departures.freed(free, 0, steps[high])
        if not enough(best):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            later = departures.freed(free, steps[low], steps[middle])
            if enough(later):
                high, best = middle, later
            else:
                low, free = middle, later
        return high, best

    def _order(
        self, unit: Unit, kinds: Kinds, gone: npt.NDArray[np.intp], free: IntMatrix, inside: BoolVector
    ) -> tuple[IntVector, int]:
        """Nodes with slots, the best first, and how many of them have slots enough.

        Best are those that preferences, pools and GPUs speak for; then those where the least is missing now; then those
        that the fewest pods must leave. Of several domains with slots enough the one comes first where that holds of
        its worst node.
        """
        row = kinds[0][0]
        missing = np.zeros(len(inside), dtype=np.float64)
        for column, asked in row.klass.room:
            if column != PODS:
                missing += np.maximum(asked - self.state.nodes.free[column], 0) / asked
        leaving = np.bincount(gone, minlength=len(inside))
        slots = [np.where(inside, self.placer.slots_by_node(kind, free), 0) for kind, _ in kinds]
        some = np.logical_or.reduce([each > 0 for each in slots])
        best_first = np.lexsort((leaving, missing, -row.static))
        best_first = best_first[some[best_first]]
        rank = np.empty(len(inside), dtype=np.int64)
        rank[best_first] = np.arange(len(best_first))

        def needed(order: IntVector) -> int:
            return max(
                int(np.searchsorted(np.cumsum(each[order]), count)) + 1
                for each, (_, count) in zip(slots, kinds, strict=True)
            )

        inward: list[tuple[int, int, IntVector]] = []
        roomy = np.flatnonzero(self.gangs.roomy_domains(unit, kinds, free, inside))
        of_node = self.gangs.domains_of(unit) if len(roomy) else rank
        for domain in roomy.tolist():
            order = best_first[of_node[best_first] == domain]
            inward.append((int(rank[order[needed(order) - 1]]), domain, order))
        if not inward:
            return best_first, needed(best_first)
        inward.sort(key=lambda it: it[:2])
        first = inward[0][2]
        rest = best_first[~np.isin(best_first, first)]
        return np.concatenate([first, rest]), needed(first)

    # --- trials --------------------------------------------------------------------------------------------------

    def _tried(self, outlook: Outlook) -> Prospect | None:
        """Where a unit fits that slots alone do not decide about."""
        departures, step, order = outlook.departures, outlook.step, outlook.order
        tries, moved, stride, last = 0, 0, 1, len(departures.steps) - 1
        while tries < MOST_TRIES:
            for many in dict.fromkeys((min(2 * outlook.count, len(order)), len(order))):
                going = self._going(departures, departures.steps[step], order[:many], MOST_MOVED - moved)
                moved, tries = moved + len(going), tries + 1
                self.effort += len(going) + _A_TRY
                found = self._placed(outlook, going, order[:many])
                if found is not None:
                    return self._prospect(found, departures.eta(step))
            if step == last:
                break
            step, stride = min(step + stride, last), 2 * stride
        return None

    def _going(self, departures: Departures, stop: int, order: IntVector, most: int) -> list[Pod]:
        """Those that have gone by then from some nodes, from the first ones if that would move too many."""
        place = np.full(len(self.state.nodes.ordered), len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        places = place[departures.node[:stop]]
        by_place = np.cumsum(np.bincount(places, minlength=len(order) + 1)[: len(order)])
        cleared = int(np.searchsorted(by_place, most, side="right"))
        return [departures.pods[number] for number in np.flatnonzero(places < cleared).tolist()]

    def _placed(self, outlook: Outlook, going: list[Pod], order: IntVector) -> IntVector | None:
        """Where a unit's pods stand once some pods have gone."""
        inside = self.state.nodes.only(order)
        with self.state.trial() as trial:
            for pod in going:
                trial.evict(pod)
            mark = trial.mark()
            if not self.gangs.place(outlook.unit, outlook.pools, trial, inside):
                return None
            by_name = self.state.nodes.by_name
            return np.array(list(dict.fromkeys(by_name[name].index for _, name, _ in trial.log[mark:])), dtype=np.int64)


def runtime_of(pod: Pod) -> float | None:
    """The declared maximum runtime of a pod, its gang, or its tenant's default; None if nobody declared any."""
    if pod.spec.max_runtime is not None:
        return pod.spec.max_runtime
    if pod.gang is not None and pod.gang.spec is not None and pod.gang.spec.max_runtime is not None:
        return pod.gang.spec.max_runtime
    path = pod.leaf.path if pod.leaf is not None else ()
    return next((t.spec.default_runtime for t in path if t.spec.default_runtime is not None), None)


def end_of(pod: Pod, now: float) -> float:
    """When a running pod ends at the latest; what is overdue ends any moment."""
    runtime = runtime_of(pod)
    return inf if runtime is None else max(now, pod.started + runtime)
