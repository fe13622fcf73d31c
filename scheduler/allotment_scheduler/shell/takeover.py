"""Takeover: what a new leader does before its first cycle.

It goes on from what its predecessor left in the API server: eviction budgets and back-offs, members that are done, room
held for announced members, and room held for claimants by nominated nodes. A promise that cannot be kept is taken off
its pod, which claims anew: what is leaving already counts for it (ADR 0115). How each is read is in `succession`.

It must never keep a new leader from leading: both copies would meet the same fault, and nobody would decide. What
cannot be taken over for a fault of ours is named in the log and left.
"""

import logging

from msgspec.structs import replace

from allotment_kube.program import logs
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import Pod, PodKey
from allotment_scheduler.core.objects.units import member_of
from allotment_scheduler.shell import succession
from allotment_scheduler.shell.knowledge import Knowledge
from allotment_scheduler.shell.ledger import Start
from allotment_scheduler.shell.outcomes import Outcomes

_logger = logging.getLogger(__name__)


def take_over(known: Knowledge, outcomes: Outcomes) -> None:
    """Go on from what a predecessor left: eviction budgets, back-offs, and room held by nominated nodes."""
    for step in (_lay_out, _remember, _keep_promises):
        try:
            step(known)
        except Exception:
            _logger.exception("a part of what the predecessor left cannot be taken over")
            known.metrics.fault("takeover")
            known.rebuild()
    for pod in _heirs(known):
        outcomes.marked(pod.key, pod.spec.uid)


def _lay_out(known: Knowledge) -> None:
    known.picture.hardware.offer()
    known.state.settle()


def _remember(known: Knowledge) -> None:
    succession.remember_evictions(known.engine.brakes, known.picture.ground.evictions)
    succession.remember_finished(known.state, known.picture.groups.in_force)
    succession.remember_rooms(known.state, known.picture.groups.in_force, now=known.clock())
    succession.remember_runs(known.state, known.picture.groups.in_force)


def _keep_promises(known: Knowledge) -> None:
    seated = succession.seats(known.engine, _heirs(known))
    for unit, places in seated.items():
        for pod, node in places:
            if not pod.phantom:
                _assume(known, pod, node, unit=unit).nominated = True
                logs.event(_logger, "room is held as before", namespace=pod.key[0], name=pod.key[1], node=node)
        rooms = [(member_of(pod), node) for pod, node in places if pod.phantom]
        gang = places[0][0].gang
        if rooms and gang is not None:
            succession.hold_rooms(known.state, gang.key, rooms, since=known.clock())
        undertaking = known.ledger.undertakings[unit]
        undertaking.has_waited = True
        undertaking.deadline = known.clock() + 2 * known.settings().eviction_seconds


def _heirs(known: Knowledge) -> list[Pod]:
    """Pods that were promised a node and have none."""
    return [pod for pod in known.state.waiting() if pod.spec.nominated and pod.key not in known.ledger.starts]


def _assume(known: Knowledge, pod: Pod, node: str, *, unit: PodKey) -> Start:
    """Show a pod to the core on a node where nobody but us has put it yet."""
    start = Start(pod.key, pod.spec.uid, node, unit, known.clock())
    known.ledger.open(start)
    known.state.apply(ev.PodSeen(replace(pod.spec, node=node, started=start.since)))
    return start
