"""Those who ask: the pods that may be demand, as columns gathered from the tables where they have their rows.

They stand in no order. Whether each one is demand, and what for, is for `Demand` to find.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from allotment_scheduler.core.objects.nodes import BoolVector
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.state.table import PodTable

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Asking:
    """Pods by their place in these columns."""

    picked: tuple[tuple[PodTable, Rows], ...]
    """The tables, with the rows that were taken from each, one behind the other."""
    leaf: Ints
    """The rank of the pod's tenant."""
    klass: Ints
    priority: Ints
    created: npt.NDArray[np.float64]
    sight: Ints
    node: Ints
    """Its index; -1 for those that do not run, and where the node is gone."""
    fixed: BoolVector

    @classmethod
    def of(cls, *picked: tuple[PodTable, Rows]) -> "Asking":
        """From rows of tables."""
        return cls(
            picked,
            _joined([table.leaf[rows] for table, rows in picked]),
            _joined([table.klass[rows] for table, rows in picked]),
            _joined([table.priority[rows] for table, rows in picked]),
            np.concatenate([table.created[rows] for table, rows in picked]),
            _joined([table.sight[rows] for table, rows in picked]),
            _joined([table.node[rows] for table, rows in picked]),
            np.concatenate([table.fixed[rows] for table, rows in picked]),
        )

    def pod(self, place: int) -> Pod:
        """The pod at a place."""
        for table, rows in self.picked:
            if place < len(rows):
                pod: Pod | None = table.pods[rows[place]]
                assert pod is not None, "only rows in use are picked"  # noqa: S101 - invariant
                return pod
            place -= len(rows)
        raise IndexError(place)


def _joined(columns: Sequence[npt.NDArray[np.signedinteger]]) -> Ints:
    return np.concatenate(columns, dtype=np.int64)
