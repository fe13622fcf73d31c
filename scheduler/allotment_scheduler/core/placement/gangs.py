"""Placing the pods of one unit together: all of them or none.

A gang whose pods are all alike and do not mind their neighbours fits exactly if enough slots are free, which is a
count. Any other gang is placed in a trial: each pod on its best node, those first that the fewest nodes would take;
then the largest first; then in its given order. Where none of these orders succeeds, a search goes back on its choices,
the last one first; and where pods mind their neighbours, the first of them is tried elsewhere, for where it stands may
decide where the others can. The search is bounded: a gang that it does not place may still fit.

A gang that not every pool would take whole, for a limit there, is placed in a trial, too: each of its pods stands in a
pool whose limits take it beside those that stand already. A gang with a `topology_key` is tried in one domain after the
other that has the slots, first where the rest of it stands, and at last, unless one domain is required, over all of
them.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from allotment_scheduler.core.fairness.limits import limits_divide, open_pools
from allotment_scheduler.core.objects.nodes import BoolVector, IntMatrix, IntVector
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.objects.units import Unit
from allotment_scheduler.core.placement.placer import Placer, Row
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.core.state.trial import Trial

Kinds = list[tuple[Row, int]]
"""The different pods of a unit, as rows, with their number."""

MOST_STEPS: Final = 256
"""Seats that one search for a gang may try, beside one for each of its pods."""
MOST_RETRIES: Final = 8
"""Nodes, each with those that its choice led to, on which the first of a gang's pods may be tried."""


class GangPlacer:
    """Places units in trials."""

    def __init__(self, state: ClusterState, placer: Placer) -> None:
        self.state = state
        self.placer = placer
        self._steps = 0
        """Seats that the search may still try."""

    def fits(self, unit: Unit, pools: tuple[str, ...]) -> bool:
        """Whether the whole unit fits now."""
        counted = self.counted(unit, pools)
        if counted is not None:
            row, count = counted
            return self.placer.slots(row) >= count
        with self.state.trial() as trial:
            return self.place(unit, pools, trial)

    def counted(self, unit: Unit, pools: tuple[str, ...]) -> tuple[Row, int] | None:
        """The row and the number of slots by which alone it is decided whether a unit fits, if it is."""
        return None if self._topology(unit) is not None else self._by_slots(unit, pools)

    def is_counted(self, unit: Unit, pools: tuple[str, ...]) -> bool:
        """Whether free slots, in one domain if it must be one, decide alone whether a unit fits."""
        return self._by_slots(unit, pools) is not None

    def _by_slots(self, unit: Unit, pools: tuple[str, ...]) -> tuple[Row, int] | None:
        if len(unit.shape.parts) > 1:
            return None
        if unit.leaf.limited_path and limits_divide(unit.leaf, unit.shape.amounts, pools):
            return None
        (klass_id, seen, _), count = unit.shape.parts[0]
        row = self.placer.row((klass_id, seen, pools))
        return None if row.blocks else (row, count)

    def kinds(self, unit: Unit, pools: tuple[str, ...]) -> Kinds:
        """The rows of a unit's pods in some pools, with the number of its pods in each."""
        return [(self.placer.row((klass_id, seen, pools)), count) for (klass_id, seen, _), count in unit.shape.parts]

    def has_slots(self, unit: Unit, kinds: Kinds, free: IntMatrix, inside: BoolVector) -> bool:
        """Whether some nodes with this free room have slots for every kind of a unit's pods: in one domain, if so."""
        if self._topology(unit) is not None and self._required(unit):
            return bool(self.roomy_domains(unit, kinds, free, inside).any())
        by_kind = ((self.placer.slots_by_node(row, free)[inside], count) for row, count in kinds)
        return all(int(slots.sum()) >= count for slots, count in by_kind)

    def roomy_domains(self, unit: Unit, kinds: Kinds, free: IntMatrix, inside: BoolVector) -> BoolVector:
        """Which domains of a unit's topology have slots for every kind of its pods; there are none without one."""
        key = self._topology(unit)
        if key is None:
            return np.zeros(0, dtype=np.bool_)
        codes, values = self.state.nodes.label_codes(key)
        nodes = np.flatnonzero(inside & (codes >= 0))
        good = np.ones(len(values), dtype=np.bool_)
        for row, count in kinds:
            slots = np.minimum(self.placer.slots_by_node(row, free)[nodes], count)
            good &= np.bincount(codes[nodes], weights=slots, minlength=len(values)) >= count
        return good

    def domains_of(self, unit: Unit) -> IntVector:
        """By node: the number of its domain in a unit's topology, -1 where it is in none."""
        codes: IntVector = self.state.nodes.label_codes(self._topology(unit) or "")[0].astype(np.int64)
        return codes

    def place(self, unit: Unit, pools: tuple[str, ...], trial: Trial, within: BoolVector | None = None) -> bool:
        """Start every pod of the unit within a trial, on some nodes only; on failure the trial is as before."""
        if len(unit.shape.parts) > 1 and not self._may_fit(unit, pools):
            return False
        mark = trial.mark()
        self._steps = len(unit.pods) + MOST_STEPS
        for domain in self._domains(unit, pools, within):
            only = within if domain is None else domain if within is None else domain & within
            for pods in self._orders(unit, pools):
                if self._place_in_order(pods, pools, trial, only):
                    return True
                trial.rollback(mark)
            if self._place_by_search(unit, pools, trial, only):
                return True
        return False

    def _may_fit(self, unit: Unit, pools: tuple[str, ...]) -> bool:
        """Whether there are slots enough for each kind of a unit's pods by itself: quick, and necessary everywhere."""
        return all(row.blocks or self.placer.slots(row) >= count for row, count in self.kinds(unit, pools))

    def _row(self, pod: Pod, pools: tuple[str, ...]) -> Row:
        """The row of a pod in the pools whose limits take it now."""
        klass_id, seen, _ = self.state.lineup.row_key(pod)
        there = pools if pod.leaf is None else open_pools(pod.leaf, pod.klass.amounts, pools)
        return self.placer.row((klass_id, seen, there))

    def _place_in_order(
        self, pods: Sequence[Pod], pools: tuple[str, ...], trial: Trial, only: BoolVector | None
    ) -> bool:
        for pod in pods:
            index = self.placer.best(self._row(pod, pools), only)
            if index < 0:
                return False
            trial.start(pod, index)
        return True

    def _size(self, pod: Pod) -> int:
        """The dominant share of a pod."""
        scale = self.state.measure.scale
        return max((amount * scale[column] for column, amount in pod.klass.asks), default=0)

    def _hardest_first(self, unit: Unit, pools: tuple[str, ...]) -> list[Pod]:
        """Pods that the fewest nodes would take, then the largest; equal pods stay together."""
        takes: dict[Row, tuple[int, int]] = {}
        rows = [(self._row(pod, pools), pod) for pod in unit.pods]
        for row, pod in rows:
            if row not in takes:
                takes[row] = (int((row.allowed & self.placer.fits(row)).sum()), -self._size(pod))
        return [pod for row, pod in sorted(rows, key=lambda it: (*takes[it[0]], it[0].index))]

    def _orders(self, unit: Unit, pools: tuple[str, ...]) -> Iterator[Sequence[Pod]]:
        if len(unit.shape.parts) > 1:
            yield self._hardest_first(unit, pools)
            yield sorted(unit.pods, key=lambda pod: -self._size(pod))
        yield unit.pods

    # --- going back on choices -----------------------------------------------------------------------------------

    def _place_by_search(self, unit: Unit, pools: tuple[str, ...], trial: Trial, only: BoolVector | None) -> bool:
        """Place every pod, going back on earlier choices; on failure the trial is as before."""
        rows = [self._row(pod, pools) for pod in unit.pods]
        blocks = any(row.blocks for row in rows)
        if self._steps <= 0 or (len(unit.shape.parts) == 1 and not blocks):
            return False
        counts: dict[Row, int] = {}
        for row in rows:
            counts[row] = counts.get(row, 0) + 1
        if any(not row.blocks and self.placer.slots(row) < count for row, count in counts.items()):
            return False
        pods = self._hardest_first(unit, pools)
        if blocks and self._place_elsewhere(pods, pools, trial, only):
            return True
        return len(unit.shape.parts) > 1 and self._place_going_back(pods, pools, trial, only)

    def _place_elsewhere(
        self, pods: Sequence[Pod], pools: tuple[str, ...], trial: Trial, only: BoolVector | None
    ) -> bool:
        """Place the first pod on none of the nodes that have led nowhere, and the others as they then fit."""
        mark = trial.mark()
        left = np.ones(len(self.state.nodes.ordered), dtype=np.bool_) if only is None else only.copy()
        for _ in range(MOST_RETRIES):
            self._steps -= len(pods) - 1
            index = self.placer.best(self._row(pods[0], pools), left)
            if index < 0 or self._steps <= 0:
                return False
            trial.start(pods[0], index)
            if self._place_in_order(pods[1:], pools, trial, only):
                return True
            left[[self.state.nodes.by_name[name].index for _, name, _ in trial.log[mark:]]] = False
            trial.rollback(mark)
        return False

    def _place_going_back(
        self, pods: Sequence[Pod], pools: tuple[str, ...], trial: Trial, only: BoolVector | None
    ) -> bool:
        """Where a pod finds no node, the one before it goes to its next best."""
        everywhere = np.ones(len(self.state.nodes.ordered), dtype=np.bool_) if only is None else only
        mark = trial.mark()
        left = [everywhere.copy()]
        """By pod: nodes that have not been tried for it beside those before it."""
        while self._steps > 0:
            self._steps -= 1
            place = len(left) - 1
            index = self.placer.best(self._row(pods[place], pools), left[place])
            if index < 0:
                left.pop()
                if not left:
                    break
                trial.rollback(mark + len(left) - 1)
                continue
            trial.start(pods[place], index)
            if place + 1 == len(pods):
                return True
            left[place][index] = False
            left.append(everywhere.copy())
            if self._alike(pods[place], pods[place + 1]):  # what failed for one fails for the other
                left[-1] &= left[place]
                left[-1][index] = True
        trial.rollback(mark)
        return False

    def _alike(self, one: Pod, other: Pod) -> bool:
        return self.state.lineup.row_key(one) == self.state.lineup.row_key(other) and not one.klass.minds

    def _topology(self, unit: Unit) -> str | None:
        return unit.gang.spec.topology_key if unit.gang and unit.gang.spec and len(unit.pods) > 1 else None

    def _required(self, unit: Unit) -> bool:
        return unit.gang is not None and unit.gang.spec is not None and unit.gang.spec.topology_required

    def _domains(self, unit: Unit, pools: tuple[str, ...], within: BoolVector | None) -> Iterator[BoolVector | None]:
        """Where a unit is tried: where the rest of its gang stands, then in the fullest domains that have the slots."""
        key = self._topology(unit)
        if key is None:
            yield None
            return
        nodes = self.state.nodes
        codes, values = nodes.label_codes(key)
        there = codes >= 0
        left = np.zeros(len(values), dtype=np.float64)
        for column, _ in unit.asks:
            np.add.at(left, codes[there], nodes.free[column][there].astype(np.float64))
        stands = unit.gang.home.domains if unit.gang is not None and unit.gang.home is not None else ()
        far = np.ones(len(values), dtype=np.bool_)
        far[[values[domain] for domain in stands if domain in values]] = False
        inside = np.ones(len(nodes.ordered), dtype=np.bool_) if within is None else within
        good = self.roomy_domains(unit, self.kinds(unit, pools), nodes.free, inside)
        for domain in np.lexsort((left, far)):
            if good[domain]:
                yield codes == domain
        if not self._required(unit):
            yield None
