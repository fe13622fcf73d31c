"""A large gang behind small jobs that never stop coming: what peers let starve for ever.

Known from NVIDIA/KAI-Scheduler #1969 and #1987, volcano-sh/volcano #13, #748, #3095 and #4690, kubernetes-sigs/kueue
#8309. A slot that a small job leaves is taken by the next one at once, so no two nodes are ever empty at the same time,
unless somebody keeps them free.
"""

import heapq
from math import inf

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import PodKey
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.invariants import check
from builders.scheduling import World

AGE, DRAIN, STEP = 300.0, 600.0, 20.0
SLOTS = 16


class Stream:
    """Four nodes of four slots, sixteen small jobs that end in turn, and always as many more that wait."""

    def __init__(self, *, runtime: float, declared: bool, reservations: int) -> None:
        self.runtime = runtime
        self.declared = declared
        self.world = World().nodes(4, cpu=4).tenant("t").gang("t", "gang", 2)
        self.engine = Engine(
            self.world.state(), Settings(age=AGE, drain=DRAIN, reservations_per_pool=reservations, timed=True)
        )
        self.now, self.created = 1000.0, 0
        self.ends: list[tuple[float, PodKey]] = []
        self.small: set[PodKey] = set()
        for number in range(SLOTS):
            self._come()
            self._go_on(first=self.now - runtime * number / SLOTS)
        self.world.events.clear()
        self.world.pods("t", 2, "large", group="gang", cpu=4)
        self.engine.state.apply_all(self.world.events)

    def _come(self) -> None:
        self.world.events.clear()
        more = {"max_runtime": self.runtime} if self.declared else {}
        self.world.pod("t", f"small-{self.created}", cpu=1, more=more)
        self.small.add(("t", f"small-{self.created}"))
        self.created += 1
        self.engine.state.apply_all(self.world.events)

    def _go_on(self, first: float | None = None) -> set[str]:
        """Decide; what starts ends after its time."""
        done = self.engine.cycle(self.now)
        assert not done.evictions
        for start in done.starts:
            if start.pod in self.small:
                heapq.heappush(self.ends, ((self.now if first is None else first) + self.runtime, start.pod))
        return {start.pod[1] for start in done.starts}

    def until_the_gang_starts(self, most: float) -> float:
        """How long the gang waits; infinite if longer than `most`."""
        begin = self.now
        while self.now - begin <= most:
            while self.ends and self.ends[0][0] <= self.now:
                self.engine.state.apply(ev.PodGone(heapq.heappop(self.ends)[1], succeeded=True))
            while sum(1 for _ in self.engine.state.waiting()) < SLOTS:
                self._come()
            if "large0" in self._go_on():
                check(self.engine.state)
                return self.now - begin
            self.now += STEP
        return inf


@pytest.mark.parametrize(
    ("declared", "bound"),
    [(True, AGE + 400.0 + 2 * STEP), (False, AGE + DRAIN + 400.0 + 2 * STEP)],
    ids=["declared runtimes", "drained"],
)
def test_a_large_gang_starts_in_bounded_time_however_many_small_jobs_come(declared: bool, bound: float) -> None:
    """By then it is old enough, its nodes are drained if no end is declared, and what ran on them has ended."""
    assert Stream(runtime=400.0, declared=declared, reservations=1).until_the_gang_starts(bound) <= bound


def test_without_reservations_it_waits_for_ever() -> None:
    """So that the scenario is one in which it would."""
    assert Stream(runtime=400.0, declared=True, reservations=0).until_the_gang_starts(2500.0) == inf


def test_small_jobs_go_on_beside_the_reservation() -> None:
    """The two nodes that are not reserved stay full."""
    stream = Stream(runtime=400.0, declared=True, reservations=1)
    waited = stream.until_the_gang_starts(2000.0)

    running = [pod for pod in stream.engine.state.pods.values() if pod.node is not None]
    assert waited < inf
    assert sum(pod.klass.asks[0][1] for pod in running) == SLOTS * 1000
