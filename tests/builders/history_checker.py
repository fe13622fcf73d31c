"""What must never be in the history of pods, whatever happened to the scheduler: a checker of events, in their order.

- a pod, that is a uid, is bound once: its node never changes, and no second Binding of it is accepted;
- no Binding overfills its node, in any resource or in pods, or takes a tenant above it beyond its limit;
- whoever the scheduler evicts goes for somebody: when a pod is marked as evicted, a waiting pod has been promised its
  node; for a member of a gang it may be another member's node, since a gang goes as a whole;
- a gang that an eviction of the scheduler has cut, or of which a Binding has started a part, is whole or gone as a
  whole soon after;
- in peace everybody who may run does, and nobody else.

Others act, too. What they do counts against the scheduler only once it has had time to hear of it: a foreign pod's
room, and what a pod has grown by. Evictions of theirs need nobody who gains by them.

Time is an argument, and there is no input or output here.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from allotment_api.labels import SCHEDULER_NAME
from allotment_kube.pods import Pod
from allotment_kube.reflector import Added, Deleted, Event, Modified
from allotment_scheduler.translation.pods import has_finished, pod_spec

Key = tuple[str, str]
Amounts = Mapping[str, int]
"""By resource, in the units of requests: milli-CPU, bytes, counts. A pod is one of `pods`."""


@dataclass(frozen=True)
class Limit:
    """A tenant's limit: it binds the pods of all namespaces below the tenant together."""

    namespaces: frozenset[str]
    most: Amounts


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
    asks: dict[str, int]
    holds: bool
    """It occupies its node."""
    gang: str
    evicted: bool
    leaving: bool
    heard_of: dict[str, int] = field(default_factory=dict)
    """What the scheduler cannot but know."""
    grown_at: float = 0.0
    """When it came to be more than that."""

    def charge(self, now: float) -> dict[str, int]:
        """What counts against a Binding."""
        if now - self.grown_at >= NEWS_TAKES:
            return self.asks
        return {name: min(self.heard_of.get(name, 0), amount) for name, amount in self.asks.items()}


@dataclass
class HistoryChecker:
    """Takes pods' events and keeps what was wrong with them.

    Args:
        rooms: what each node has.
        limits: of tenants, at every level.
        gang_size: pods in every gang.
    """

    rooms: Mapping[str, Amounts] = field(default_factory=dict)
    limits: Sequence[Limit] = ()
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
    _begun: dict[str, float] = field(default_factory=dict)
    """The same of gangs of which a Binding has started a part."""
    _stood: dict[str, set[str]] = field(default_factory=dict)
    """Where the members of a gang stood when it was last whole."""
    _short: set[str] = field(default_factory=set)
    """Gangs that others have left too little of: what is left may be let go for nobody."""
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
        """Find gangs that have stayed cut, or a part: no event says so."""
        for what, gangs in (
            ("was cut to {} of {} by an eviction", self._cut),
            ("was started as {} of {}", self._begun),
        ):
            for gang, since in [*gangs.items()]:
                running = self._running(gang)
                if now - self._leaderless - since > CUT_FOR and 0 < running < self.gang_size:
                    self._violated(f"gang {gang} {what.format(running, self.gang_size)}, and stays so")
                    del gangs[gang]

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
            if found.gang and 0 < self._running(found.gang) < self.gang_size:
                self._begun.setdefault(found.gang, now - self._leaderless)
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
            asks={**dict(pod_spec(pod).scheduling.requests), "pods": 1},
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
        if over := _over(used, self.rooms.get(pod.node, {}), pod.asks):
            self._violated(f"{key} overfills {pod.node}: {over}")
        for limit in self.limits:
            if key[0] in limit.namespaces:
                below = self._sum(partial(_lies_in, limit.namespaces), now)
                if over := _over(below, limit.most, pod.asks):
                    self._violated(f"{key} takes its tenant beyond its limit: {over}")

    def _sum(self, counts: Callable[[Key, _Known], bool], now: float) -> Counter[str]:
        total: Counter[str] = Counter()
        for key, pod in self._pods.items():
            if pod.holds and counts(key, pod):
                total.update(pod.charge(now))
        return total

    def _check_promise(self, key: Key, pod: _Known, now: float) -> None:
        where = {pod.node}
        if pod.gang:
            if pod.gang in self._short:
                return  # for nobody: others had left too little of it
            where |= self._stood.get(pod.gang, set())
        lately = any(now - self._withdrawn.get(node, -PROMISE_LASTS) < PROMISE_LASTS for node in where)
        if not lately and where.isdisjoint(self._promised.values()):
            self._violated(f"{key} was evicted from {pod.node}, which nobody was promised")

    def _running(self, gang: str) -> int:
        return sum(pod.gang == gang and pod.holds and not pod.leaving for pod in self._pods.values())

    def _cuts(self, evicted: _Known, now: float) -> None:
        """An evicted pod goes: not when it is marked, which the API server does a moment before."""
        if evicted.gang:
            self._cut.setdefault(evicted.gang, now - self._leaderless)

    def _gang_changed(self, pod: _Known) -> None:
        if not pod.gang:
            return
        running = self._running(pod.gang)
        if not 0 < running < self.gang_size:
            self._cut.pop(pod.gang, None)
            self._begun.pop(pod.gang, None)
        if running >= self.gang_size:
            self._short.discard(pod.gang)
            mates = [it for it in self._pods.values() if it.gang == pod.gang and it.holds and not it.leaving]
            self._stood[pod.gang] = {it.node for it in mates}
        elif not pod.evicted and running and pod.gang not in self._cut:
            self._short.add(pod.gang)


def _lies_in(namespaces: frozenset[str], key: Key, _: _Known) -> bool:
    return key[0] in namespaces


def _over(used: Mapping[str, int], most: Amounts, asks: Amounts) -> str:
    """What of a request is beyond what there may be, in words; empty if nothing is."""
    over = [name for name, amount in most.items() if asks.get(name) and used.get(name, 0) > amount]
    return ", ".join(f"{used.get(name, 0)} of {most[name]} {name}" for name in sorted(over))


def _grow(before: _Known | None, found: _Known, now: float, *, ours: bool) -> None:
    """Note what of a pod's size is news to the scheduler."""
    if before is not None and before.holds:
        charged = before.charge(now)
        found.heard_of = {name: min(charged.get(name, 0), amount) for name, amount in found.asks.items()}
        grew = any(amount > before.asks.get(name, 0) for name, amount in found.asks.items())
        found.grown_at = now if grew else before.grown_at
    else:
        found.heard_of = found.asks if ours else {}
        found.grown_at = now


def bound_twice(uids: Iterable[str]) -> list[str]:
    """Of accepted Bindings, the uids that more than one was accepted for; one that names no uid counts, too."""
    return sorted(uid for uid, times in Counter(uids).items() if times > 1 or not uid)
