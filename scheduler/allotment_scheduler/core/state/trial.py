"""Trials: starts and evictions made in earnest, and taken back unless they are committed.

A trial keeps a log of what it did, not a copy of the state. All amounts are integers, so undoing in reverse restores
everything exactly. Trials nest by marks: `mark()` remembers a point, `rollback(mark)` returns to it.
"""

from types import TracebackType
from typing import TYPE_CHECKING, Self

from allotment_scheduler.core.objects.pods import Pod

if TYPE_CHECKING:
    from allotment_scheduler.core.state.cluster import ClusterState


class Trial:
    """A reversible excursion. As a context manager it rolls back on leaving, unless `commit` was called."""

    def __init__(self, state: "ClusterState") -> None:
        self.state = state
        self.log: list[tuple[Pod, str, bool]] = []

    def start(self, pod: Pod, index: int) -> None:
        """Let a pod occupy a node, by the node's index."""
        name = self.state.nodes.ordered[index].spec.name
        self.state.occupy(pod, name)
        self.log.append((pod, name, True))

    def evict(self, pod: Pod) -> None:
        """Let a pod leave its node."""
        name = pod.node
        assert name is not None, "only running pods can be evicted"  # noqa: S101 - invariant
        self.state.vacate(pod)
        self.log.append((pod, name, False))

    def mark(self) -> int:
        """A point to return to."""
        return len(self.log)

    def rollback(self, mark: int = 0) -> None:
        """Undo everything since a mark."""
        log = self.log
        while len(log) > mark:
            pod, name, started = log.pop()
            if started:
                self.state.vacate(pod)
                self.state.counters.devices.waits(pod)
            else:
                self.state.occupy(pod, name)

    def commit(self) -> list[tuple[Pod, str, bool]]:
        """Keep what was done; returns it as (pod, node, started)."""
        done, self.log = self.log, []
        return done

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.rollback()
