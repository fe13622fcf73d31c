"""What must never be in the history of pods, whatever happened to the scheduler: a checker of events, in their order.

- a pod, that is a uid, is bound once: its node never changes, and no second Binding of it is accepted;
- no Binding overfills its node or takes its tenant beyond its limit;
- whoever the scheduler evicts goes for somebody: when a pod is marked as evicted, a waiting pod has been promised its
  node;
- a gang that an eviction of the scheduler has cut is gone as a whole, or whole again, soon after;
- in peace everybody who may run does, and nobody else.

Others act, too. What they do counts against the scheduler only once it has had time to hear of it: a foreign pod's
room, and what a pod has grown by. Evictions of theirs need nobody who gains by them.

Time is an argument, and there is no input or output here.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from allotment_api.labels import SCHEDULER_NAME
from allotment_kube.pods import Pod
from allotment_kube.reflector import Added, Deleted, Event, Modified
from allotment_scheduler.translation.pods import has_finished, pod_spec

Key = tuple[str, str]

NEWS_TAKES: Final = 30.0
"""Seconds in which the scheduler must have heard of what others did, and its requests under way have ended."""
PROMISE_LASTS: Final = 20.0
"""Seconds for which a promise that was withdrawn explains evictions: requests under way may take so long."""
CUT_FOR: Final = 90.0
"""Seconds with a leader in which the rest of a gang must have followed, whatever the network does to its requests."""


@dataclass(slots=True)
class _Known:
    uid: str
    node: str
    cpu: int
    holds: bool
    """It occupies its node."""
    gang: str
    evicted: bool
    leaving: bool
    heard_of: int = 0
    """Milli-CPU that the scheduler cannot but know."""
    grown_at: float = 0.0
    """When it came to be more than that."""

    def charge(self, now: float) -> int:
        """Milli-CPU that count against a Binding."""
        return self.cpu if now - self.grown_at >= NEWS_TAKES else min(self.heard_of, self.cpu)


@dataclass
class HistoryChecker:
    """Takes pods' events and keeps what was wrong with them.

    Args:
        rooms: milli-CPU by node.
        limits: milli-CPU by namespace, where its tenant has a limit.
        gang_size: pods in every gang.
    """

    rooms: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    gang_size: int = 0
    violations: list[str] = field(default_factory=list)
    binds: int = 0
    evictions: int = 0
    evicted_by_others: set[str] = field(default_factory=set)
    """Uids of pods that others evict: told before they do."""
    _pods: dict[Key, _Known] = field(default_factory=dict)
    _promised: dict[Key, str] = field(default_factory=dict)
    """Nodes that waiting pods are promised."""
    _withdrawn: dict[str, float] = field(default_factory=dict)
    """When a promise of a node last ended."""
    _cut: dict[str, float] = field(default_factory=dict)
    """Gangs that an eviction has cut, with the time at which it did, had there been a leader ever since."""
    _leaderless: float = 0.0

    def take(self, event: Event[Pod], now: float) -> None:
        """One event, at a time in seconds."""
        if isinstance(event, Deleted):
            self._gone(event.key, now)
        elif isinstance(event, Added | Modified):
            before = self._pods.get(event.key)
            if before is not None and before.uid != event.new.metadata.uid:
                self._gone(event.key, now)  # another pod of the same name: a list has left its end out
            self._seen(event.key, event.new, now)

    def look_at_gangs(self, now: float) -> None:
        """Find gangs that have stayed cut: no event says so."""
        for gang, since in [*self._cut.items()]:
            running = self._running(gang)
            if now - self._leaderless - since > CUT_FOR and 0 < running < self.gang_size:
                self._violated(f"gang {gang} was cut to {running} of {self.gang_size} by an eviction, and stays so")
                del self._cut[gang]

    def nobody_leads(self, seconds: float) -> None:
        """For so long there was nobody to end what had begun."""
        self._leaderless += seconds

    def bound(self, namespace: str) -> int:
        """How many pods of a namespace occupy a node."""
        return sum(pod.holds and not pod.leaving for key, pod in [*self._pods.items()] if key[0] == namespace)

    def waiting(self) -> list[str]:
        """Pods that have no node."""
        return sorted("/".join(key) for key, pod in [*self._pods.items()] if not pod.node)

    def unsettled(self, wanted: Mapping[str, int]) -> str:
        """What still differs from a number of bound pods by namespace with nobody waiting; empty if nothing."""
        waiting = self.waiting()
        found = {namespace: self.bound(namespace) for namespace in wanted}
        wrong = [f"{name}: {found[name]} of {number} bound" for name, number in wanted.items() if found[name] != number]
        return "; ".join([*wrong, *([f"waiting: {', '.join(waiting)}"] if waiting else [])])

    # --- taking in ------------------------------------------------------------------------------------------------

    def _gone(self, key: Key, now: float) -> None:
        known = self._pods.pop(key, None)
        self._promise(key, "", now)
        if known is not None:
            if known.evicted and not known.leaving:
                self._cuts(known, now)
            self._gang_changed(known)

    def _seen(self, key: Key, pod: Pod, now: float) -> None:
        before = self._pods.get(key)
        found = self._known(key, pod)
        ours = pod.spec.scheduler_name == SCHEDULER_NAME
        _grow(before, found, now, ours=ours)
        self._pods[key] = found
        self._promise(key, pod.status.nominated_node_name if not found.node else "", now)
        if before is not None and before.node and before.node != found.node:
            self._violated(f"{key} moved from {before.node} to {found.node}")
        if found.node and (before is None or not before.node) and ours:
            self.binds += 1
            self._check_room(key, found, now)
        if found.evicted and (before is None or not before.evicted):
            self.evictions += 1
            self._check_promise(key, found, now)
        if found.evicted and found.leaving and (before is None or not (before.evicted and before.leaving)):
            self._cuts(found, now)
        self._gang_changed(found)

    def _known(self, key: Key, pod: Pod) -> _Known:
        # Others mark pods, too: the garbage collector and the taint manager, with reasons of their own.
        marked = any(
            each.type == "DisruptionTarget" and each.reason == "EvictionByEvictionAPI" for each in pod.status.conditions
        )
        labels = pod.metadata.labels
        return _Known(
            uid=pod.metadata.uid,
            node=pod.spec.node_name,
            cpu=dict(pod_spec(pod).scheduling.requests).get("cpu", 0),
            holds=bool(pod.spec.node_name) and not has_finished(pod),
            gang=f"{key[0]}/{labels['job-name']}" if "job-name" in labels else "",
            evicted=marked and pod.metadata.uid not in self.evicted_by_others,
            leaving=pod.metadata.deletion_timestamp is not None,
        )

    def _promise(self, key: Key, node: str, now: float) -> None:
        before = self._promised.pop(key, "")
        if node:
            self._promised[key] = node
        if before and before != node:
            self._withdrawn[before] = now

    # --- checking -------------------------------------------------------------------------------------------------

    def _violated(self, what: str) -> None:
        self.violations.append(what)

    def _check_room(self, key: Key, pod: _Known, now: float) -> None:
        used = self._sum(lambda _, other: other.node == pod.node, now)
        if pod.node in self.rooms and used > self.rooms[pod.node]:
            self._violated(f"{key} overfills {pod.node}: {used} of {self.rooms[pod.node]} milli-CPU")
        limit = self.limits.get(key[0])
        of_tenant = self._sum(lambda other, _: other[0] == key[0], now)
        if limit is not None and of_tenant > limit:
            self._violated(f"{key} takes its tenant beyond its limit: {of_tenant} of {limit} milli-CPU")

    def _sum(self, counts: Callable[[Key, _Known], bool], now: float) -> int:
        return sum(pod.charge(now) for key, pod in self._pods.items() if pod.holds and counts(key, pod))

    def _check_promise(self, key: Key, pod: _Known, now: float) -> None:
        if pod.gang:
            return  # it goes as a whole, wherever its pods stand; for nobody, if others had left too little of it
        lately = now - self._withdrawn.get(pod.node, -PROMISE_LASTS) < PROMISE_LASTS
        if not lately and pod.node not in self._promised.values():
            self._violated(f"{key} was evicted from {pod.node}, which nobody was promised")

    def _running(self, gang: str) -> int:
        return sum(pod.gang == gang and pod.holds and not pod.leaving for pod in self._pods.values())

    def _cuts(self, evicted: _Known, now: float) -> None:
        """An evicted pod goes: not when it is marked, which the API server does a moment before."""
        if evicted.gang:
            self._cut.setdefault(evicted.gang, now - self._leaderless)

    def _gang_changed(self, pod: _Known) -> None:
        if pod.gang in self._cut and not 0 < self._running(pod.gang) < self.gang_size:
            del self._cut[pod.gang]


def _grow(before: _Known | None, found: _Known, now: float, *, ours: bool) -> None:
    """Note what of a pod's size is news to the scheduler."""
    if before is not None and before.holds:
        found.heard_of = min(before.charge(now), found.cpu)
        found.grown_at = now if found.cpu > before.cpu else before.grown_at
    else:
        found.heard_of = found.cpu if ours else 0
        found.grown_at = now


def bound_twice(uids: Iterable[str]) -> list[str]:
    """Of accepted Bindings, the uids that more than one was accepted for; one that names no uid counts, too."""
    return sorted(uid for uid, times in Counter(uids).items() if times > 1 or not uid)
