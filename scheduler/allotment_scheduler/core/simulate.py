"""Simulation without time: cycles until nothing more is decided.

What is evicted waits again, as its successor would live; a pod without a controller is gone for good.

Time does not pass: running pods count as older than any minimum runtime, and demand never changes. The rules of
eviction guarantee a fixpoint; `MOST_ROUNDS` only turns a bug into an error instead of an endless loop.
"""

from dataclasses import dataclass, field
from typing import Final

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.decisions import Round
from allotment_scheduler.core.objects.events import PodGone

MOST_ROUNDS: Final = 10_000


@dataclass(slots=True)
class Outcome:
    """The rounds in which anything was decided."""

    rounds: list[Round] = field(default_factory=list)


def run_to_fixpoint(engine: Engine, now: float) -> Outcome:
    """Run cycles until one decides nothing."""
    outcome = Outcome()
    for _ in range(MOST_ROUNDS):
        done = engine.cycle(now)
        if not done:
            return outcome
        outcome.rounds.append(done)
        evicted = [engine.state.pods[each.pod] for each in done.evictions if each.pod in engine.state.pods]
        engine.state.apply_all(PodGone(pod.key) for pod in evicted if not pod.spec.recreated)
    raise AssertionError(f"no fixpoint after {MOST_ROUNDS} rounds: the eviction rules do not terminate; this is a bug")
