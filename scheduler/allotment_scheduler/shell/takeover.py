"""Takeover: what a new leader does before its first cycle.

It goes on from what its predecessor left in the API server: eviction budgets and back-offs, room held for announced
members, and room held for claimants by nominated nodes. A promise that cannot be kept is taken off its pod. How each is
read is in `succession`.
"""

import logging

from msgspec.structs import replace

from allotment_kube.program import logs
from allotment_scheduler.core import events as ev
from allotment_scheduler.core.pods import Pod, PodKey
from allotment_scheduler.shell import succession
from allotment_scheduler.shell.knowledge import Knowledge
from allotment_scheduler.shell.ledger import Start
from allotment_scheduler.shell.outcomes import Outcomes

_logger = logging.getLogger(__name__)


def take_over(known: Knowledge, outcomes: Outcomes) -> None:
    """Go on from what a predecessor left: eviction budgets, back-offs, and room held by nominated nodes."""
    known.picture.hardware.offer()
    known.state.settle()
    succession.remember_evictions(known.engine.brakes, known.picture.ground.evictions)
    succession.remember_rooms(known.state, known.picture.groups.in_force, now=known.clock())
    heirs = [pod for pod in known.state.waiting() if pod.spec.nominated and pod.key not in known.ledger.starts]
    seated = succession.seats(known.engine, heirs)
    for unit, pods in seated.items():
        for pod in pods:
            node = pod.spec.nominated or ""
            _assume(known, pod, node, unit=unit).nominated = True
            logs.event(_logger, "room is held as before", namespace=pod.key[0], name=pod.key[1], node=node)
        known.ledger.undertakings[unit].deadline = known.clock() + 2 * known.settings().eviction_seconds
    for pod in heirs:
        if pod.key not in known.ledger.starts:
            outcomes.marked(pod.key, pod.spec.uid)


def _assume(known: Knowledge, pod: Pod, node: str, *, unit: PodKey) -> Start:
    """Show a pod to the core on a node where nobody but us has put it yet."""
    start = Start(pod.key, pod.spec.uid, node, unit, known.clock())
    known.ledger.open(start)
    known.state.apply(ev.PodSeen(replace(pod.spec, node=node)))
    return start
