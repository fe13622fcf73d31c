"""What the scheduler's API shows: shares, waits and the present load, from the live state.

The rows are those of `allot tenants -f` and `allot why -f`: the same code over the same core. Nothing here changes the
state, and everything is bounded: all pods are gone through at most once a second for each of the views, whoever asks
and for whichever tenant; one answer explains at most `MOST_EXPLAINED` pods, those that wait before those that run, each
of them in its turn (`api_pace`), and counts the others.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from allotment_scheduler.core.objects.pods import Pod, PodKey
from allotment_scheduler.core.objects.tenants import Tenant
from allotment_scheduler.core.report import tenants_report
from allotment_scheduler.shell.api_pace import Pace
from allotment_scheduler.shell.loop import Scheduler
from allotment_scheduler.shell.reporter import Reporter

Data = dict[str, Any]
MOST_EXPLAINED: Final = 50
_LISTED_FOR: Final = 1.0


@dataclass(slots=True)
class _Load:
    """How many pods do what."""

    running: int = 0
    starting: int = 0
    leaving: int = 0
    waiting: Counter[str] = field(default_factory=Counter)
    """By reason."""

    def add(self, other: "_Load") -> None:
        """Count another's pods as well."""
        self.running += other.running
        self.starting += other.starting
        self.leaving += other.leaving
        self.waiting += other.waiting


class Views:
    """Reads one scheduler.

    Args:
        scheduler: whose state is shown.
        reporter: explains pods as their conditions do.
        clock: seconds that only grow.
        pace: takes note of what answering costs, and lets answers wait.
    """

    def __init__(self, scheduler: Scheduler, reporter: Reporter, *, clock: Callable[[], float], pace: Pace) -> None:
        self._scheduler = scheduler
        self._reporter = reporter
        self._clock = clock
        self._pace = pace
        self._listing: tuple[float, list[Data]] = (float("-inf"), [])
        self._loads: tuple[float, dict[str | None, _Load]] = (float("-inf"), {})
        self._keys: tuple[float, dict[str, list[PodKey]]] = (float("-inf"), {})

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
            with self._pace.taken_off():
                self._scheduler.state.settle()
                rows = tenants_report(self._scheduler.engine)
            self._listing = (now, rows)
        return [row for row in rows if only is None or row["name"].partition("/")[0] == only]

    async def why(self, namespace: str, name: str) -> list[Data]:
        """Pods of this name, or of a Job of this name, each with why it waits or where it runs."""
        if (namespace, name) in self._scheduler.state.pods:
            waiting, running = [(namespace, name)], list[PodKey]()
        else:
            with self._pace.taken_off():
                waiting, running = self._of_job(namespace, name)
        rows = []
        found = [*waiting, *running]
        for key in found[:MOST_EXPLAINED]:
            async with self._pace.turn():
                self._scheduler.state.settle()
                pod = self._scheduler.state.pods.get(key)
                if pod is not None:
                    rows.append(self._row(pod))
        if len(found) > MOST_EXPLAINED:
            rows.append(_left_out(namespace, len(found) - MOST_EXPLAINED, len(waiting[MOST_EXPLAINED:])))
        return rows

    def _of_job(self, namespace: str, name: str) -> tuple[list[PodKey], list[PodKey]]:
        """The pods of a Job: those that wait, and the others. Of what is no Job, they are known by their names."""
        found: Iterable[PodKey] | None = self._scheduler.picture.jobs.pods_of((namespace, name))
        if found is None:
            found = [key for key in self._in_namespace(namespace) if _of_controller(key[1], name)]
        pods, starts = self._scheduler.state.pods, self._scheduler.ledger.starts
        waiting, running = list[PodKey](), list[PodKey]()
        for key in sorted(found):
            pod = pods.get(key)
            if pod is not None:
                (waiting if pod.node is None or key in starts else running).append(key)
        return waiting, running

    def top(self, only: str | None = None) -> Data:
        """The load: nodes and pods, what waits and why, the scheduler's pace, and the tenants by share."""
        scheduler, load = self._scheduler, self._load(only)
        progress = scheduler.progress
        return {
            "nodes": len(scheduler.state.nodes.by_name),
            "running": load.running,
            "waiting": load.waiting.total(),
            "waitingByReason": dict(load.waiting.most_common()),
            "starting": load.starting,
            "leaving": load.leaving,
            "cycles": progress.cycles,
            "lastCycleSeconds": round(progress.last_cycle_seconds, 6),
            "evictions": dict(progress.evictions) if only is None else {},
            "tenants": self.tenants(only),
        }

    def _load(self, only: str | None) -> _Load:
        """What the pods of one tenant do, or all pods; of all tenants at once, at most so often."""
        made, loads = self._loads
        now = self._clock()
        if now - made > _LISTED_FOR:
            with self._pace.taken_off():
                loads = self._by_tenant()
            self._loads = (now, loads)
        return loads.get(only, _Load())

    def _by_tenant(self) -> dict[str | None, _Load]:
        """What the pods of every tenant do, and under None all pods, those of no tenant among them."""
        code, starts = self._reporter.code, self._scheduler.ledger.starts
        by_leaf: dict[Tenant | None, _Load] = {}
        for key, pod in self._scheduler.state.pods.items():
            load = by_leaf.get(pod.leaf)
            if load is None:
                load = by_leaf[pod.leaf] = _Load()
            if pod.node is not None:
                load.running += 1
            elif pod.spec.ours and not pod.spec.deleting:
                load.waiting[code(key)] += 1
            load.starting += key in starts
            load.leaving += pod.leaving or pod.spec.deleting
        found: dict[str | None, _Load] = {None: _Load()}
        for leaf, load in by_leaf.items():
            found[None].add(load)
            if leaf is not None:
                found.setdefault(leaf.shown_name, _Load()).add(load)
        return found

    def _in_namespace(self, namespace: str) -> list[PodKey]:
        """The pods of a namespace; those that came since the last look are not among them."""
        made, keys = self._keys
        now = self._clock()
        if now - made > _LISTED_FOR:
            keys = {}
            with self._pace.taken_off():
                for key in self._scheduler.state.pods:
                    keys.setdefault(key[0], []).append(key)
            self._keys = (now, keys)
        return keys.get(namespace, [])

    def _row(self, pod: Pod) -> Data:
        row: Data = {"namespace": pod.spec.namespace, "pod": pod.spec.name}
        why = self._reporter.explain(pod.key)
        if why is None and pod.node is not None:
            return {**row, "reason": "Running", "message": f"on node {pod.node}", "change": None}
        if why is None:
            text = "another scheduler is to place it" if not pod.spec.ours else "it is being deleted"
            return {**row, "reason": "NotOurs" if not pod.spec.ours else "Deleted", "message": text, "change": None}
        return {**row, "reason": why.code, "message": why.message, "change": why.change}


def _left_out(namespace: str, count: int, waiting: int) -> Data:
    """What is said of pods that one answer does not explain: how many there are, and how many of them wait."""
    text = f"{waiting} of them wait: ask for one by its name" if waiting else "on their nodes"
    reason = "NotShown" if waiting else "Running"
    return {"namespace": namespace, "pod": f"{count} more", "reason": reason, "message": text, "change": None}


def _of_controller(pod: str, controller: str) -> bool:
    """Whether a pod's name is one that a Job of this name gives: NAME-xxxxx, or NAME-7-xxxxx where it is indexed."""
    if not pod.startswith(f"{controller}-"):
        return False
    index, dash, _ = pod[len(controller) + 1 :].rpartition("-")
    return not dash or index.isdecimal()
