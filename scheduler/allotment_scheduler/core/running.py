"""The table of running pods: one row per pod in parallel arrays, so that victims are searched by numpy.

The arrays are written in batches (`flush`), because most pods start without anyone being evicted.

A row is taken when a pod occupies a node and given back when it leaves. Rows never move; what refers to nodes or
tenants by index is rewritten when those indexes change (`relabel`).
"""

import numpy as np
import numpy.typing as npt

from allotment_scheduler.core.pods import Pod

_FIRST = 1024


class RunningTable:
    """Parallel arrays over rows. `used` marks live rows; the others hold nonsense."""

    def __init__(self) -> None:
        self.pods: list[Pod | None] = []
        self.vacant: list[int] = []
        self.fresh: list[tuple[int, int]] = []
        """Rows, with their node, that are not in the arrays yet."""
        self.used: npt.NDArray[np.bool_] = np.zeros(_FIRST, dtype=np.bool_)
        self.node: npt.NDArray[np.int32] = np.zeros(_FIRST, dtype=np.int32)
        self.leaf: npt.NDArray[np.int32] = np.zeros(_FIRST, dtype=np.int32)
        self.priority: npt.NDArray[np.int64] = np.zeros(_FIRST, dtype=np.int64)
        self.started: npt.NDArray[np.float64] = np.zeros(_FIRST, dtype=np.float64)
        self.klass: npt.NDArray[np.int32] = np.zeros(_FIRST, dtype=np.int32)
        self.labels: npt.NDArray[np.int32] = np.zeros(_FIRST, dtype=np.int32)
        self.created: npt.NDArray[np.float64] = np.zeros(_FIRST, dtype=np.float64)
        self.sight: npt.NDArray[np.int64] = np.zeros(_FIRST, dtype=np.int64)
        """Order of first sight, which breaks ties of creation."""
        self.evictable: npt.NDArray[np.bool_] = np.zeros(_FIRST, dtype=np.bool_)
        self.deleting: npt.NDArray[np.bool_] = np.zeros(_FIRST, dtype=np.bool_)

    def __len__(self) -> int:
        return len(self.pods) - len(self.vacant)

    @property
    def size(self) -> int:
        """Rows in use or vacant: slice the arrays by it."""
        return len(self.pods)

    def add(self, pod: Pod, node: int) -> int:
        """Take a row for a pod."""
        if self.vacant:
            row = self.vacant.pop()
            self.pods[row] = pod
        else:
            row = len(self.pods)
            self.pods.append(pod)
            if row == len(self.used):
                self._grow()
        self.fresh.append((row, node))
        return row

    def flush(self) -> "RunningTable":
        """Write what was added since the last time into the arrays; call it before reading them."""
        fresh, self.fresh = self.fresh, []
        for row, node in fresh:
            pod = self.pods[row]
            if pod is not None and pod.slot == row:
                self._write(row, node, pod)
        return self

    def _write(self, row: int, node: int, pod: Pod) -> None:
        spec = pod.spec
        self.used[row] = True
        self.node[row] = node
        self.leaf[row] = -1 if pod.leaf is None else pod.leaf.rank
        self.priority[row] = spec.priority
        self.started[row] = pod.started
        self.klass[row] = pod.klass.id
        self.labels[row] = pod.labels.id
        self.created[row] = spec.created
        self.sight[row] = pod.arrival[2]
        self.deleting[row] = spec.deleting
        self.evictable[row] = spec.preemptible and spec.ours and not spec.deleting and not pod.phantom

    def remove(self, row: int) -> None:
        """Give a row back."""
        self.pods[row] = None
        self.used[row] = False
        self.vacant.append(row)

    def relabel(self, node_index: dict[str, int]) -> None:
        """Write the indexes of nodes and tenants anew."""
        self.flush()
        for row, pod in enumerate(self.pods):
            if pod is not None:
                self.node[row] = node_index.get(pod.node or "", -1)
                self.leaf[row] = -1 if pod.leaf is None else pod.leaf.rank

    def _grow(self) -> None:
        for name in (
            "used", "node", "leaf", "priority", "started", "klass", "labels", "created", "sight",
            "evictable", "deleting",
        ):  # fmt: skip
            old = getattr(self, name)
            new = np.zeros(2 * len(old), dtype=old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)
