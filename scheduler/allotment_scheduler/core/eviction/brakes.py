"""Brakes against thrash: minimum runtime, backoff of evicted workloads, eviction budgets.

A workload is what survives its pods: the controller's UID, the gang, or the pod itself. Its record and the tenants'
budgets are plain data, to be written to `Tenant.status` and read back by a new leader.

The budgets bind every plan as a whole (`Allowance`): a claimant that needs more than one leaves gets no plan. But a
gang larger than a whole budget goes where nothing of that is spent yet: otherwise it could never go.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from allotment_scheduler.core.eviction.rules import R2
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.objects.tenants import Tenant
from allotment_scheduler.core.objects.units import Unit
from allotment_scheduler.core.settings import Settings

HOUR = 3600.0


@dataclass(slots=True)
class Backoff:
    """A workload that was evicted: how often, and until when it may not claim."""

    evictions: int = 0
    until: float = 0.0
    pods: int = 1
    """How many pods went together the last time; at least one, where a predecessor counted them."""


@dataclass(slots=True)
class Window:
    """Evictions of one tenant within the hour that began at `start`."""

    start: float = 0.0
    used: int = 0


@dataclass(slots=True)
class Brakes:
    """What evictions have cost so far, and what they still may."""

    settings: Settings
    backoffs: dict[str, Backoff] = field(default_factory=dict)
    windows: dict[str, Window] = field(default_factory=dict)
    in_cycle: int = 0

    def may_go(self, pod: Pod, rule: str, now: float) -> bool:
        """Whether a pod may be a victim by a rule now."""
        return pod.leaf is None or pod.started <= self.latest_start(pod.leaf, rule, now)

    def latest_start(self, leaf: Tenant, rule: str, now: float) -> float:
        """Since when a leaf's pod must have run to be a victim by a rule now; `-inf`: none may be one."""
        settings = self.settings
        if not settings.timed:
            return inf
        if self.left_in_cycle <= 0:
            return -inf
        if rule != R2:
            return inf
        return now - settings.least_runtime if self.left_in_hour(leaf, now) > 0 else -inf

    @property
    def left_in_cycle(self) -> int:
        """How many more pods may go in this cycle."""
        return self.settings.evictions_per_cycle - self.in_cycle

    def left_in_hour(self, leaf: Tenant, now: float) -> int:
        """How many more of a leaf's pods may go by R2."""
        window = self.windows.get(leaf.shown_name)
        used = window.used if window is not None and now - window.start < HOUR else 0
        return self.settings.evictions_per_hour - used

    def may_claim(self, unit: Unit, now: float) -> bool:
        """Whether a unit's workload is out of its backoff."""
        if not self.settings.timed:
            return True
        return all(self.backoffs.get(workload(pod), _NONE).until <= now for pod in unit.pods)

    def evicted(self, pod: Pod, rule: str, now: float) -> None:
        """Count an eviction."""
        if not self.settings.timed:
            return
        self.in_cycle += 1
        backoff = self.backoffs.setdefault(workload(pod), Backoff(pods=0))
        if backoff.until <= now:  # whatever goes during a backoff is part of the setback that it is for
            backoff.evictions, backoff.pods = backoff.evictions + 1, 0
            backoff.until = now + self._length(backoff)
        backoff.pods += 1
        if rule == R2 and pod.leaf is not None:
            window = self.windows.setdefault(pod.leaf.shown_name, Window(now))
            if now - window.start >= HOUR:
                window.start, window.used = now, 0
            window.used += 1

    def stayed(self, pod: Pod, rule: str, since: float) -> None:
        """An eviction that was counted at a time has not been made: it costs nothing."""
        backoff = self.backoffs.get(workload(pod))
        if backoff is not None and backoff.pods > 0:
            backoff.pods -= 1
            if not backoff.pods:
                backoff.evictions, backoff.until = backoff.evictions - 1, min(backoff.until, since)
            if not backoff.evictions:
                del self.backoffs[workload(pod)]
        window = self.windows.get(pod.leaf.shown_name) if pod.leaf is not None else None
        if rule == R2 and window is not None and window.start <= since:
            window.used = max(window.used - 1, 0)

    def begin_cycle(self, now: float) -> None:
        """Forget what is over: backoffs are remembered for as long again as they lasted, so that they can double.

        After a clock was set back, or from a predecessor whose clock was fast, no backoff or hour lasts longer than
        one that begins now.
        """
        self.in_cycle = 0
        longest = self.settings.longest_backoff
        self.backoffs = {key: value for key, value in self.backoffs.items() if now - value.until < longest}
        for backoff in self.backoffs.values():
            backoff.until = min(backoff.until, now + self._length(backoff))
        self.windows = {name: window for name, window in self.windows.items() if now - window.start < HOUR}
        for window in self.windows.values():
            window.start = min(window.start, now)

    def _length(self, backoff: Backoff) -> float:
        """Seconds that a backoff lasts."""
        doublings = min(max(backoff.evictions - 1, 0), 60)  # a float overflows at 1024
        return min(self.settings.backoff * 2.0**doublings, self.settings.longest_backoff)


_NONE = Backoff()


@dataclass(slots=True)
class Allowance:
    """What the brakes leave to one plan, beside what it takes already."""

    brakes: Brakes
    now: float
    taken: int = 0
    taken_fairly: Counter[Tenant | None] = field(default_factory=Counter)
    """By R2, of each leaf."""

    def allows(self, pods: Sequence[Pod], rule: str) -> bool:
        """Whether these pods, all of one leaf, may go by a rule."""
        if not self.brakes.settings.timed:
            return True
        settings, most = self.brakes.settings, self.brakes.left_in_cycle
        if self.taken + len(pods) > most and (self.taken or most < settings.evictions_per_cycle):
            return False
        leaf = pods[0].leaf
        if rule != R2 or leaf is None:
            return True
        taken, most = self.taken_fairly[leaf], self.brakes.left_in_hour(leaf, self.now)
        return taken + len(pods) <= most or (not taken and most == settings.evictions_per_hour > 0)

    def spend(self, pods: Sequence[Pod], rule: str, sign: int = 1) -> None:
        """Count pods, all of one leaf, as gone (1) or back (-1)."""
        self.taken += sign * len(pods)
        if rule == R2:
            self.taken_fairly[pods[0].leaf] += sign * len(pods)


def workload(pod: Pod) -> str:
    """What a pod is part of, and what comes back when it is evicted."""
    if pod.gang is not None:
        return "/".join(pod.gang.key)
    return pod.spec.owner or "/".join(pod.key)
