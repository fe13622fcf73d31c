"""Simulation without time: cycles until nothing more is decided.

What is evicted waits again, as its successor would live; a pod without a controller is gone for good. A free volume
goes to one claim, as the controllers of volumes have it.

Time does not pass: running pods count as older than any minimum runtime, and demand never changes. The rules of
eviction guarantee a fixpoint; `MOST_ROUNDS` only turns a bug into an error instead of an endless loop.
"""

from dataclasses import dataclass, field, replace
from typing import Final

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.decisions import Round
from allotment_scheduler.core.filters.volumes import existing_volumes
from allotment_scheduler.core.objects.events import PodGone, StartForgotten, StorageSeen
from allotment_scheduler.core.objects.pods import PodKey
from allotment_scheduler.core.state.cluster import ClusterState

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
        _bind_volumes(engine.state, done)
        outcome.rounds.append(done)
        evicted = [engine.state.pods[each.pod] for each in done.evictions if each.pod in engine.state.pods]
        engine.state.apply_all(PodGone(pod.key) for pod in evicted if not pod.spec.recreated)
    raise AssertionError(f"no fixpoint after {MOST_ROUNDS} rounds: the eviction rules do not terminate; this is a bug")


def _bind_volumes(state: ClusterState, done: Round) -> None:
    """Give the free volumes to the claims of the pods that start, in their order.

    Who finds none left waits again. Whoever comes first finds one, so that every round that is repeated gave one away.
    """
    static, given, lost = {name for name, free in state.attachments.supply.free.items() if free}, False, set[PodKey]()
    for start in done.starts if static else ():
        pod, node = state.pods.get(start.pod), state.nodes.by_name[start.node]
        known = (state.attachments.claims.get((start.pod[0], name)) for name in (pod.klass.spec.claims if pod else ()))
        claims = [claim for claim in known if claim is not None and claim.storage_class in static]
        claims = [claim for claim in claims if claim.volume is claim.awaits is claim.selected_node is None]
        found = existing_volumes(claims, state.attachments, state.nodes, node.index)
        if given and len(found) < len(claims):
            lost.add(start.pod)
            state.apply(StartForgotten(start.pod))
            continue
        for claim in claims:
            if (name := found.get(claim.name)) is not None:
                volume = state.attachments.volumes[name]
                taken = replace(volume, claimed_by=(claim.namespace, claim.name), claimed_by_uid=claim.uid)
                state.apply_all([StorageSeen(replace(claim, volume=name)), StorageSeen(taken)])
                given = True
    done.take_back(lost)
