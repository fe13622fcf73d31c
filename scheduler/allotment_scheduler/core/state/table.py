"""Tables of pods: one row per pod in parallel arrays, so that victims and demand are searched by numpy.

There are two. A pod has a row in that of the running pods while it occupies a node, and in that of the pending ones
while it occupies none and is ready (`Pod.ready`); never in both.

The arrays are written in batches (`flush`), because most pods start without anyone being evicted. Rows never move; what
refers to nodes or tenants by index is rewritten when those indexes change (`relabel`).
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from allotment_scheduler.core.objects.pods import Pod

_FIRST = 1024


class PodTable:
    """Parallel arrays over rows. `used` marks live rows; the others hold nonsense, but no index out of range."""

    def __init__(self) -> None:
        self.pods: list[Pod | None] = []
        self.vacant: list[int] = []
        self.fresh: list[tuple[int, int]] = []
        """Rows, with their node (-1: none), that are not in the arrays yet."""
        self.moves = 0
        """How often anybody has come or gone."""
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
        self.fixed: npt.NDArray[np.bool_] = np.zeros(_FIRST, dtype=np.bool_)
        """It may not be preempted."""
        self.evictable: npt.NDArray[np.bool_] = np.zeros(_FIRST, dtype=np.bool_)
        """Who may go for others, by itself or with its gang; rooms of announced members only with it."""
        self.last_choice: npt.NDArray[np.bool_] = np.zeros(_FIRST, dtype=np.bool_)
        self.deleting: npt.NDArray[np.bool_] = np.zeros(_FIRST, dtype=np.bool_)

    def __len__(self) -> int:
        return len(self.pods) - len(self.vacant)

    @property
    def size(self) -> int:
        """Rows in use or vacant: slice the arrays by it."""
        return len(self.pods)

    def add(self, pod: Pod, node: int) -> None:
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
        self.moves += 1
        pod.slot = row

    def flush(self) -> "PodTable":
        """Write what was added since the last time into the arrays; call it before reading them."""
        if not self.fresh:
            return self
        fresh, self.fresh = dict(self.fresh), []  # a row that was given back and taken again counts once
        standing = [(row, pod) for row in fresh if (pod := self.pods[row]) is not None and pod.slot == row]
        if standing:
            rows = [row for row, _ in standing]
            self._write(rows, [fresh[row] for row in rows], [pod for _, pod in standing])
        return self

    def _write(self, rows: list[int], nodes: list[int], pods: list[Pod]) -> None:
        specs = [pod.spec for pod in pods]
        self.used[rows] = True
        self.node[rows] = nodes
        self.leaf[rows] = [-1 if pod.leaf is None else pod.leaf.rank for pod in pods]
        self.priority[rows] = [pod.priority for pod in pods]
        self.started[rows] = [pod.started for pod in pods]
        self.klass[rows] = [pod.klass.id for pod in pods]
        self.labels[rows] = [pod.labels.id for pod in pods]
        self.created[rows] = [spec.created for spec in specs]
        self.sight[rows] = [pod.arrival[2] for pod in pods]
        self.fixed[rows] = [not spec.preemptible for spec in specs]
        self.last_choice[rows] = [spec.last_choice for spec in specs]
        self.deleting[rows] = [spec.deleting for spec in specs]
        self.evictable[rows] = [
            spec.preemptible and spec.ours and not spec.deleting and not spec.spared for spec in specs
        ]

    def leaving(self) -> list[Pod]:
        """Who occupies a node and is being deleted; cheap where nobody is."""
        self.flush()
        rows = np.flatnonzero(self.used[: self.size] & self.deleting[: self.size])
        return [pod for row in rows.tolist() if (pod := self.pods[row]) is not None]

    def reprioritise(self, pods: Iterable[Pod]) -> None:
        """Write the priorities anew of those that have a row here: that of their gang has changed."""
        ours = [pod for pod in pods if 0 <= pod.slot < self.size and self.pods[pod.slot] is pod]
        if ours:
            self.flush().priority[[pod.slot for pod in ours]] = [pod.priority for pod in ours]

    def remove(self, pod: Pod) -> None:
        """Give a pod's row back."""
        row, pod.slot = pod.slot, -1
        self.pods[row] = None
        self.used[row] = False
        self.vacant.append(row)
        self.moves += 1

    def relabel(self, node_index: dict[str, int]) -> None:
        """Write the indexes of nodes and tenants anew, and what follows from a tenant's bound on priorities."""
        self.flush()
        rows = [row for row, pod in enumerate(self.pods) if pod is not None]
        if rows:
            pods = [pod for pod in self.pods if pod is not None]
            self.node[rows] = [node_index.get(pod.node or "", -1) for pod in pods]
            self.leaf[rows] = [-1 if pod.leaf is None else pod.leaf.rank for pod in pods]
        self.reprioritise(pod for pod in self.pods if pod is not None and pod.gang is not None)
        self.node[self.vacant] = -1  # what they held may lie beyond the nodes and tenants that there are now
        self.leaf[self.vacant] = -1

    def _grow(self) -> None:
        for name, column in vars(self).items():
            if isinstance(column, np.ndarray):
                setattr(self, name, np.concatenate([column, np.zeros_like(column)]))
