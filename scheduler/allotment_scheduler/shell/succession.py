"""Succession: how a new leader goes on from what its predecessor left in the API server.

A pod with `status.nominatedNodeName` was promised a node: its victims have been asked to go, and may be gone already.
The promise is kept where it can be: every pod of the unit is promised a node, every filter passes, and the nodes have
the room once all that is leaving them has left. A promise that cannot be kept is withdrawn from the pod, and the unit
waits like any other.

Eviction budgets and back-offs come from the tenants' statuses; rooms held for announced members, how many members are
done, and which runs are, from the PodGroups'.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

import numpy as np
from msgspec.structs import replace

from allotment_api.pod_group import PodGroup
from allotment_api.tenant import Evictions
from allotment_kube.errors import ApiError, ConflictError, LeadershipLostError, NotFoundError
from allotment_kube.patches import MergePatch, Patch
from allotment_kube.resources import PODS, Resource
from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.eviction.brakes import Backoff, Brakes, Window
from allotment_scheduler.core.fairness.limits import open_pools
from allotment_scheduler.core.filters.nodes import takes_new
from allotment_scheduler.core.objects.nodes import BoolVector
from allotment_scheduler.core.objects.pods import Pod, PodKey
from allotment_scheduler.core.objects.units import EXPECTED, Unit, total
from allotment_scheduler.core.placement.eligibility import beyond_guarantee, limits_met
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.core.state.trial import Trial

_UNSEEN: Final = "/"
"""Before the numbers of members whose names nobody knows: no pod's name has it."""
_logger = logging.getLogger(__name__)


class PatchingClient(Protocol):
    """What is needed of a client."""

    async def patch(
        self, resource: Resource[Any], name: str, patch: Patch, *, namespace: str = "", subresource: str = ""
    ) -> Any:  # noqa: ANN401 - the patched object, which nobody reads
        """Change part of an object."""


def seats(engine: Engine, heirs: Iterable[Pod]) -> dict[PodKey, list[tuple[Pod, str]]]:
    """Units whose every waiting pod can keep the node that it was promised, by their first pod, best priority first.

    With each pod comes its node. Rooms for announced members are among them, wherever there is one: they bear no mark.
    """
    units: dict[int, Unit] = {}
    for pod in heirs:
        if isinstance(pod.unit, Unit) and pod.unit.live:
            units[id(pod.unit)] = pod.unit
    state, kept = engine.state, {}
    with state.trial() as trial:
        for running in [pod for pod in state.running.pods if pod is not None and pod.spec.deleting]:
            trial.evict(running)
        for unit in sorted(units.values(), key=lambda unit: unit.order):
            mark = trial.mark()
            if _fits(engine, unit, trial):
                kept[unit.first.key] = [(pod, node) for pod, node, started in trial.log[mark:] if started]
            else:
                trial.rollback(mark)
    return kept


def _fits(engine: Engine, unit: Unit, trial: Trial) -> bool:
    """Put every pod of a unit on its promised node, rooms for announced members anywhere; false if one does not fit."""
    if unit.shape.fixed and beyond_guarantee(unit.leaf, unit.shape) is not None:
        return False
    blocked, pools = limits_met(unit.leaf, unit.shape)
    if blocked is not None:
        return False
    state = engine.state
    for pod in sorted(unit.pods, key=lambda pod: pod.phantom):  # promised nodes first
        only = None if pod.phantom else _promised(state, pod)
        if only is None and not pod.phantom:
            return False
        klass_id, seen, _ = state.lineup.row_key(pod)
        there = open_pools(unit.leaf, pod.klass.amounts, pools)
        index = engine.placer.best(engine.placer.row((klass_id, seen, there)), only)
        if index < 0:
            return False
        trial.start(pod, index)
    return True


def _promised(state: ClusterState, pod: Pod) -> BoolVector | None:
    """The node that a pod was promised, as a vector; None where it is no node to start on."""
    node = state.nodes.by_name.get(pod.spec.nominated or "")
    if node is None or not takes_new(node, pod.klass.spec) or node.index < 0:
        return None
    only = np.zeros(len(state.nodes.ordered), dtype=np.bool_)
    only[node.index] = True
    return only


def remember_evictions(brakes: Brakes, said: Mapping[str, Evictions | None]) -> None:
    """Take over what tenants' statuses say of evictions; what this process knows itself stays."""
    for tenant, found in said.items():
        if found is None:
            continue
        if found.window_start is not None and tenant not in brakes.windows:
            brakes.windows[tenant] = Window(found.window_start.timestamp(), found.used)
        for each in found.backoff:
            brakes.backoffs.setdefault(each.workload, Backoff(each.evictions, each.until.timestamp()))


def remember_finished(state: ClusterState, groups: Mapping[PodKey, PodGroup]) -> None:
    """Count members that are done and exist no longer, as PodGroups' statuses say: they are not missing.

    What a status says of a run that is over by now is not believed: since it was written, members have only gone.
    """
    for key, group in groups.items():
        gang, said = state.gangs.get(key), group.status
        if gang is None or said is None or not 0 < gang.running <= (said.running or 0):
            continue
        gang.whole |= said.phase in ("Running", "Degraded")
        for number in range((said.finished or 0) - len(gang.finished)):
            gang.finished.add((key[0], f"{_UNSEEN}{number}"))
        state.lineup.regang(gang)


def remember_rooms(state: ClusterState, groups: Mapping[PodKey, PodGroup], *, now: float) -> None:
    """Hold room for announced members as PodGroups' statuses say, until it would have been given up."""
    for key, group in groups.items():
        held = group.status.reservation if group.status is not None else None
        if held is None or held.until.timestamp() <= now:
            continue
        rooms = [(each.member, each.node) for each in held.holds for _ in range(each.count)]
        hold_rooms(state, key, rooms, since=held.until.timestamp() - group.spec.expected_timeout_seconds)


def remember_runs(state: ClusterState, groups: Mapping[PodKey, PodGroup]) -> None:
    """Take over from PodGroups' statuses which of them are done: nobody tells of members that are deleted."""
    for key, group in groups.items():
        gang, said = state.gangs.get(key), group.status
        if gang is not None and not gang.members and said is not None and said.phase == "Finished":
            gang.succeeded = max(gang.succeeded, said.finished or 0)


def hold_rooms(state: ClusterState, key: PodKey, rooms: Iterable[tuple[str, str]], *, since: float) -> None:
    """Hold room for announced members of a gang, by their name and node, where it is free or about to be left."""
    gang, leaf = state.gangs.get(key), state.forest.leaf_of_namespace.get(key[0])
    if gang is None or gang.spec is None or leaf is None:
        return
    templates = {member.name: member.template for member in gang.spec.expected}
    for number, (member, name) in enumerate(rooms):
        node = state.nodes.by_name.get(name)
        if member not in templates or node is None or node.index < 0:
            continue
        spec = replace(templates[member], name=f"{member}{EXPECTED}{number}", group=key[1])
        klass = state.interning.klass(spec.scheduling, spec.namespace)
        if not takes_new(node, klass.spec):
            continue
        left = dict(total(each for each in node.pods.values() if each.spec.deleting))
        free = state.nodes.free
        if any(free[column, node.index] + left.get(column, 0) < amount for column, amount in klass.amounts):
            continue
        labels = state.interning.labelset(spec.namespace, spec.labels)
        room = Pod(spec, klass, labels, leaf, (0, spec.created, number), gang=gang, phantom=True)
        state.population.hold_room(room, gang, name, since)
    state.lineup.regang(gang)


async def unmark(client: PatchingClient, key: PodKey, uid: str) -> bool:
    """Take the promise off a pod; false where it may still stand there."""
    patch = MergePatch({"status": {"nominatedNodeName": None}}, uid=uid)
    try:
        await client.patch(PODS, key[1], patch, namespace=key[0], subresource="status")
    except LeadershipLostError:
        raise
    except (NotFoundError, ConflictError):
        return True
    except ApiError as error:
        _logger.info("%s/%s keeps a mark of a plan that was given up: %s", *key, error)
        return False
    return True
