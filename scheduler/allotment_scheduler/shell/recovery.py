"""Recovery: what is done when the scheduler itself fails, so that one fault of ours does not stop everybody.

The core sets a unit aside by itself if looking at that unit fails. What reaches the loop all the same has left the
state half changed. Then the state is built anew from what the watches have told and from what the ledger has decided:
both are inputs, which no decision alters. The unit that was being looked at, if the traceback names one, is set aside.

A fault that comes back in every cycle must not become a busy loop: each one in a row doubles a pause, and after
`MOST_FAULTS` in a row the fault ends the program, for a standby or the supervisor to begin afresh.

It must never guess: what the watches told and cannot be applied is left out, and named in the log.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from msgspec.structs import replace

from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import Pod, PodKey, PodSpec
from allotment_scheduler.core.objects.units import Unit
from allotment_scheduler.core.state.cluster import ClusterState

_logger = logging.getLogger(__name__)
MOST_FAULTS: Final = 20
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 30.0
_CORE: Final = "allotment_scheduler.core"


class Decided(Protocol):
    """What was decided and the API server does not show yet."""

    def node_of(self, key: PodKey, uid: str) -> str | None:
        """The node on which this pod's start is under way."""

    def is_leaving(self, key: PodKey, uid: str) -> bool:
        """Whether we have evicted this pod."""


@dataclass(slots=True)
class Faults:
    """Counts cycles that failed in a row."""

    in_a_row: int = 0

    def happened(self, error: Exception) -> None:
        """Count one.

        Raises:
            Exception: `error` itself, if it was one too many.
        """
        self.in_a_row += 1
        if self.in_a_row >= MOST_FAULTS:
            raise error

    def over(self) -> None:
        """A cycle went well."""
        self.in_a_row = 0

    @property
    def pause(self) -> float:
        """Seconds to wait before the next cycle."""
        return min(_FIRST_PAUSE * 2**self.in_a_row, _LONGEST_PAUSE) if self.in_a_row else 0.0


def suspect(error: BaseException) -> list[Pod]:
    """The waiting pods that the innermost function of the core which knows any was busy with; empty if none did."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    for frame in reversed(frames):
        if not str(frame.f_globals.get("__name__", "")).startswith(_CORE):
            continue
        values = list(frame.f_locals.values())
        for value in values:
            if isinstance(value, Unit):
                return [pod for pod in value.pods if not pod.phantom]
        for value in values:
            if isinstance(value, Pod) and value.spec.ours and value.spec.node is None and not value.phantom:
                return [value]
    return []


def rebuilt(old: ClusterState, decided: Decided, seats: Mapping[PodKey, str]) -> ClusterState:
    """A state that knows what `old` was told, and nothing of what was decided in it, but for what is under way.

    Args:
        old: half changed by what failed.
        decided: what is under way.
        seats: every bound pod's node, as the watch shows it: `old` has unseated the victims of a plan.
    """
    fresh = ClusterState(share_policy=old.share_policy)
    for name in old.resources.names:  # what is kept beside the state names them by column
        fresh.resources.column(name)
    for event in _told(old, decided, seats):
        try:
            fresh.apply(event)
        except Exception:
            _logger.exception("this is left out of the new state: %.500s", event)
    _remember(old, fresh)
    return fresh


def _remember(old: ClusterState, fresh: ClusterState) -> None:
    """Keep what only `old` knows: places in queues, quarantines, spent claims, and what gangs have been through."""
    fresh.now, fresh.demand_version = old.now, old.demand_version
    fresh.disruptions.update(old.disruptions)
    fresh.population.turns = old.population.turns
    for key, pod in fresh.pods.items():
        before = old.pods[key]
        pod.arrival, pod.spent_at, pod.started = before.arrival, before.spent_at, before.started
        pod.set_aside, pod.times_set_aside = before.set_aside, before.times_set_aside
        if pod.set_aside is not None:
            fresh.set_aside.add(key)
    for name, gang in fresh.gangs.items():
        if (known := old.gangs.get(name)) is not None:
            gang.finished, gang.succeeded = known.finished, known.succeeded
            gang.whole, gang.cut_since = known.whole, known.cut_since


def _told(old: ClusterState, decided: Decided, seats: Mapping[PodKey, str]) -> Iterator[ev.Event]:
    yield from (ev.PoolSeen(pool) for pool in old.nodes.pools.values())
    in_force = old.forest.in_force  # first, so that the last good versions are remembered
    yield from (ev.TenantSeen(tenant) for tenant in in_force.values())
    yield from (ev.TenantSeen(tenant) for tenant in old.tenant_specs.values())
    yield from (ev.TenantGone(name) for name in in_force if name not in old.tenant_specs)
    for name, labels in old.namespaces.items():
        yield ev.NamespaceSeen(name, labels, old.namespace_tenants.get(name))
    yield from (ev.NodeSeen(node.spec) for node in old.nodes.by_name.values())
    attached = old.attachments
    for items in (attached.classes, attached.volumes, attached.claims, attached.slices, attached.holdings):
        yield from (ev.StorageSeen(item) for item in items.values())
    yield from (ev.BudgetSeen(budget) for budget in old.budgets.values())
    yield from (ev.GroupSeen(gang.spec) for gang in old.gangs.values() if gang.spec is not None)
    for pod in old.pods.values():
        yield from _as_decided(pod.spec, decided, seats.get(pod.key))


def _as_decided(spec: PodSpec, decided: Decided, seat: str | None) -> Iterator[ev.Event]:
    """A pod as the core is to see it: where it runs, where it is being started, or leaving by our decision."""
    node = seat or decided.node_of(spec.key, spec.uid)
    if node is not None and decided.is_leaving(spec.key, spec.uid):
        yield ev.PodSeen(replace(spec, node=None, deleting=False))
        yield ev.PodLeaving(spec.key, node)
    else:
        yield ev.PodSeen(replace(spec, node=node))
