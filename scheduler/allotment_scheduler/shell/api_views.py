"""What the scheduler's API shows: shares, waits and the present load, from the live state.

The rows are those of `allot tenants -f` and `allot why -f`: the same code over the same core. Nothing here changes the
state, and everything is bounded: a listing or a load is made at most once a second whoever asks, one answer explains at
most `MOST_EXPLAINED` pods, and the loop gets its turn after each of them.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.report import tenants_report
from allotment_scheduler.shell.loop import Scheduler
from allotment_scheduler.shell.reporter import Reporter

Data = dict[str, Any]
MOST_EXPLAINED: Final = 50
_LISTED_FOR: Final = 1.0


class Views:
    """Reads one scheduler.

    Args:
        scheduler: whose state is shown.
        reporter: explains pods as their conditions do.
        clock: seconds that only grow.
    """

    def __init__(self, scheduler: Scheduler, reporter: Reporter, *, clock: Callable[[], float]) -> None:
        self._scheduler = scheduler
        self._reporter = reporter
        self._clock = clock
        self._listing: tuple[float, list[Data]] = (float("-inf"), [])
        self._loads: dict[str | None, tuple[float, Data]] = {}

    @property
    def leading(self) -> bool:
        """Whether this scheduler decides: only then what it shows is in force."""
        return self._scheduler.progress.leading

    def tenant_of(self, namespace: str) -> str | None:
        """The tenant whose namespace this is."""
        leaf = self._scheduler.state.forest.leaf_of_namespace.get(namespace)
        return None if leaf is None else leaf.shown_name

    def tenants(self, only: str | None = None) -> list[Data]:
        """Every tenant, or one: use, rights, shares and what waits."""
        made, rows = self._listing
        now = self._clock()
        if now - made > _LISTED_FOR:
            self._scheduler.state.settle()
            rows = tenants_report(self._scheduler.engine)
            self._listing = (now, rows)
        return [row for row in rows if only is None or row["name"].partition("/")[0] == only]

    async def why(self, namespace: str, name: str) -> list[Data]:
        """Pods of this name, or of a Job of this name, each with why it waits or where it runs."""
        state = self._scheduler.state
        state.settle()
        exact = state.pods.get((namespace, name))
        if exact is not None:
            return [self._row(exact)]
        found = [pod for key, pod in state.pods.items() if key[0] == namespace and _of_controller(key[1], name)]
        rows = []
        for pod in found[:MOST_EXPLAINED]:
            rows.append(self._row(pod))
            await asyncio.sleep(0)
        return rows

    def top(self, only: str | None = None) -> Data:
        """The load: nodes and pods, what waits and why, the scheduler's pace, and the tenants by share."""
        now = self._clock()
        made, load = self._loads.get(only, (float("-inf"), {}))
        if now - made > _LISTED_FOR:
            self._loads = {asked: found for asked, found in self._loads.items() if now - found[0] <= _LISTED_FOR}
            load = self._load(only)
            self._loads[only] = (now, load)
        return load

    def _load(self, only: str | None) -> Data:
        scheduler = self._scheduler
        state, progress = scheduler.state, scheduler.progress
        mine = [pod for pod in state.pods.values() if only is None or (pod.leaf and pod.leaf.shown_name == only)]
        waiting = [pod for pod in mine if pod.node is None and pod.spec.ours and not pod.spec.deleting]
        reasons = Counter(self._reporter.code(pod.key) for pod in waiting)
        return {
            "nodes": len(state.nodes.by_name),
            "running": sum(pod.node is not None for pod in mine),
            "waiting": len(waiting),
            "waitingByReason": dict(reasons.most_common()),
            "starting": sum(pod.key in scheduler.ledger.starts for pod in mine),
            "leaving": sum(pod.leaving or pod.spec.deleting for pod in mine),
            "cycles": progress.cycles,
            "lastCycleSeconds": round(progress.last_cycle_seconds, 6),
            "evictions": dict(progress.evictions) if only is None else {},
            "tenants": self.tenants(only),
        }

    def _row(self, pod: Pod) -> Data:
        row: Data = {"namespace": pod.spec.namespace, "pod": pod.spec.name}
        if pod.node is not None:
            return {**row, "reason": "Running", "message": f"on node {pod.node}", "change": None}
        why = self._reporter.explain(pod.key)
        if why is None:
            text = "another scheduler is to place it" if not pod.spec.ours else "it is being deleted"
            return {**row, "reason": "NotOurs" if not pod.spec.ours else "Deleted", "message": text, "change": None}
        return {**row, "reason": why.code, "message": why.message, "change": why.change}


def _of_controller(pod: str, controller: str) -> bool:
    """Whether a pod's name is one that a Job of this name gives: NAME-xxxxx, or NAME-7-xxxxx where it is indexed."""
    if not pod.startswith(f"{controller}-"):
        return False
    index, dash, _ = pod[len(controller) + 1 :].rpartition("-")
    return not dash or index.isdecimal()
