"""Placing the pods of one unit together: all of them or none.

A gang whose pods are all alike and do not mind their neighbours fits exactly if enough slots are free, which is a
count. Any other gang is placed in a trial, largest pods first, then in its given order, and counts as fitting if one
of these orders succeeds. So is a gang that not every pool would take whole, for a limit there: each of its pods stands
in a pool whose limits take it beside those that stand already. A gang with a `topology_key` is tried in one domain
after the other, and at last, unless one domain is required, over all of them.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from allotment_scheduler.core.limits import limits_divide, open_pools
from allotment_scheduler.core.nodes import BoolVector
from allotment_scheduler.core.placement import Placer, Row
from allotment_scheduler.core.pods import Pod
from allotment_scheduler.core.state import ClusterState
from allotment_scheduler.core.trial import Trial
from allotment_scheduler.core.units import Unit


class GangPlacer:
    """Places units in trials, and remembers for which shapes that failed since room last grew."""

    def __init__(self, state: ClusterState, placer: Placer) -> None:
        self.state = state
        self.placer = placer

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
        if len(unit.shape.parts) > 1 or self._topology(unit) is not None:
            return None
        if unit.leaf.limited_path and limits_divide(unit.leaf, unit.shape.amounts, pools):
            return None
        (klass_id, seen, _), count = unit.shape.parts[0]
        row = self.placer.row((klass_id, seen, pools))
        return None if row.blocks else (row, count)

    def place(self, unit: Unit, pools: tuple[str, ...], trial: Trial, within: BoolVector | None = None) -> bool:
        """Start every pod of the unit within a trial, on some nodes only; on failure the trial is as before."""
        mark = trial.mark()
        for domain in self._domains(unit):
            only = within if domain is None else domain if within is None else domain & within
            for pods in self._orders(unit):
                if self._place_in_order(pods, pools, trial, only):
                    return True
                trial.rollback(mark)
        return False

    def _place_in_order(
        self, pods: Sequence[Pod], pools: tuple[str, ...], trial: Trial, only: BoolVector | None
    ) -> bool:
        for pod in pods:
            klass_id, seen, _ = self.state.lineup.row_key(pod)
            there = pools if pod.leaf is None else open_pools(pod.leaf, pod.klass.amounts, pools)
            index = self.placer.best(self.placer.row((klass_id, seen, there)), only)
            if index < 0:
                return False
            trial.start(pod, index)
        return True

    def _orders(self, unit: Unit) -> Iterator[Sequence[Pod]]:
        if len(unit.shape.parts) == 1:
            yield unit.pods
            return
        scale = self.state.measure.scale
        yield sorted(unit.pods, key=lambda pod: -max((a * scale[c] for c, a in pod.klass.asks), default=0))
        yield unit.pods

    def _topology(self, unit: Unit) -> str | None:
        return unit.gang.spec.topology_key if unit.gang and unit.gang.spec and len(unit.pods) > 1 else None

    def _domains(self, unit: Unit) -> Iterator[BoolVector | None]:
        key = self._topology(unit)
        if key is None:
            yield None
            return
        codes, values = self.state.nodes.label_codes(key)
        fullest = np.zeros(len(values), dtype=np.float64)
        columns = [column for column, _ in unit.asks]
        for column in columns:
            np.add.at(fullest, codes[codes >= 0], self.state.nodes.free[column][codes >= 0].astype(np.float64))
        for domain in np.argsort(fullest, kind="stable"):
            yield codes == domain
        if unit.gang is None or unit.gang.spec is None or not unit.gang.spec.topology_required:
            yield None
