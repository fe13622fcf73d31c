"""What must always hold in a state, whatever happened before: tests check it after whatever they do.

Everything is recomputed from the pods alone and compared with what the state keeps incrementally.
"""

import numpy as np
import numpy.typing as npt

from allotment_scheduler.core.filters.volumes import VolumeUse
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.objects.resources import PODS
from allotment_scheduler.core.objects.units import Unit
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.core.state.table import PodTable

Use = dict[tuple[str, str], list[int]]
"""By tenant and pool ("": in all): an amount of every resource."""


class InvariantError(AssertionError):
    """The state contradicts itself: a bug, never the user's fault."""


def check(state: ClusterState) -> None:
    """Compare everything the state keeps with what its pods say.

    Raises:
        InvariantError: naming the first contradiction found.
    """
    state.settle()
    _check_tables(state)
    _check_nodes(state)
    _check_tenants(state)
    _check_queues(state)
    _check_gangs(state)


def _check_tables(state: ClusterState) -> None:
    """Who has a row among the pending pods, and what the rows of both tables say."""
    waiting = {id(pod) for pod in state.waiting() if pod.ready}
    if waiting != {id(pod) for pod in state.pending.pods if pod is not None}:
        raise InvariantError("the table of pending pods differs from those that wait and are ready")
    for table in (state.running.flush(), state.pending.flush()):
        for row, pod in enumerate(table.pods):
            if (pod is not None) != bool(table.used[row]) or (pod is not None and pod.slot != row):
                raise InvariantError(f"{pod} has row {row} of a table by half")
            if pod is not None and _said_by(pod) != tuple(column[row] for column in _columns(table)):
                raise InvariantError(f"{pod} differs from its row in a table")


def _said_by(pod: Pod) -> tuple[object, ...]:
    leaf = -1 if pod.leaf is None else pod.leaf.rank
    return leaf, pod.klass.id, pod.priority, pod.spec.created, pod.arrival[2], not pod.spec.preemptible


def _columns(table: PodTable) -> tuple[npt.NDArray[np.generic], ...]:
    return table.leaf, table.klass, table.priority, table.created, table.sight, table.fixed


def _check_nodes(state: ClusterState) -> None:
    free = state.nodes.allocatable.copy()
    for pod in state.running.pods:
        if pod is None:
            continue
        node = state.nodes.by_name.get(pod.node or "")
        if node is None:
            continue
        if node.pods.get(pod.slot) is not pod:
            raise InvariantError(f"{pod} runs on {pod.node}, but the node does not know it")
        for column, amount in pod.klass.amounts:
            free[column, node.index] -= amount
    if (free != state.nodes.free).any():
        raise InvariantError("free room differs from allocatable minus what runs")
    for counter in list(state.counters.all.values()):
        kept, total = counter.counts.copy(), counter.total
        state.counters.recount(counter)
        if (kept != counter.counts).any() or total != counter.total:
            raise InvariantError(f"the count of {counter.key} has drifted")
    if (drifted := state.counters.devices.drifted()) is not None:
        raise InvariantError(f"whether device {'/'.join(drifted)} is taken has drifted")
    _check_volumes(state)


def _check_volumes(state: ClusterState) -> None:
    """Who has which claim in use, and what is attached where, counted from those that run."""
    kept, anew = state.counters.volumes, VolumeUse(state.attachments, state.nodes)
    for pod in state.running.pods:
        node = state.nodes.by_name.get(pod.node or "") if pod is not None else None
        if pod is not None and node is not None and pod.klass.spec.claims:
            anew.count(pod.klass, node.index, 1)
    if kept.users != anew.users or kept.holders != anew.holders:
        raise InvariantError("the use of claims and volumes has drifted")
    nothing = np.zeros(len(state.nodes.ordered), dtype=np.int64)
    for driver in kept.attached.keys() | anew.attached.keys():
        if (kept.attached.get(driver, nothing) != anew.attached.get(driver, nothing)).any():
            raise InvariantError(f"how many volumes of {driver} are attached has drifted")


def _check_tenants(state: ClusterState) -> None:
    used, fixed = _use_by_pool(state)
    nothing = [0] * state.resources.width
    for name, tenant in state.forest.by_name.items():
        if tenant.used != used.get((name, ""), nothing) or tenant.fixed != fixed.get((name, ""), nothing):
            raise InvariantError(f"use of tenant {name} differs from the sum of its pods")
        for kept, sums in ((tenant.used_in, used), (tenant.fixed_in, fixed)) if state.multi_pool else ():
            for pool in state.nodes.pool_names:
                if kept.get(pool, nothing) != sums.get((name, pool), nothing):
                    raise InvariantError(f"use of tenant {name} differs from the sum of its pods in pool {pool}")


def _use_by_pool(state: ClusterState) -> tuple[Use, Use]:
    """What pods use, and what of it may not be preempted. A pod whose node is gone stands in no pool."""
    used: Use = {}
    fixed: Use = {}
    for pod in state.running.pods:
        if pod is None or pod.leaf is None:
            continue
        node = state.nodes.by_name.get(pod.node or "")
        for sums in (used,) if pod.spec.preemptible else (used, fixed):
            for tenant in pod.leaf.path:
                for pool in ("",) if node is None else ("", node.pool):
                    part = sums.setdefault((tenant.name, pool), [0] * state.resources.width)
                    for column, amount in pod.klass.amounts:
                        part[column] += amount
    return used, fixed


def _check_queues(state: ClusterState) -> None:
    queued: set[int] = set()
    for queue in state.queues.values():
        for unit in queue.waiting():
            queued.add(id(unit))
            for pod in unit.pods:
                if pod.node is not None:
                    raise InvariantError(f"{pod} runs and waits at once")
                if pod.unit is not unit:
                    raise InvariantError(f"{pod} waits in two units")
    evicted = set(map(id, state.evicted))
    for pod in state.waiting():
        ready = state.lineup.waits(pod) and id(pod) not in evicted
        waits = isinstance(pod.unit, Unit) and pod.unit.live
        if ready and pod.gang is None and not waits:
            raise InvariantError(f"{pod} could start, but waits nowhere")
        if waits and id(pod.unit) not in queued:
            raise InvariantError(f"{pod} waits in a unit that is in no queue")


def _check_gangs(state: ClusterState) -> None:
    for gang in state.gangs.values():
        running = len(gang.standing())
        if running != gang.running:
            raise InvariantError(f"gang {gang.key} counts {gang.running} running pods, but has {running}")


def overcommitted(state: ClusterState) -> list[str]:
    """Nodes that hold more than they have."""
    short = np.flatnonzero((state.nodes.free < 0).any(axis=0)).tolist()
    return [node.spec.name for node in state.nodes.ordered if node.index in short]


def above_limits(state: ClusterState) -> list[str]:
    """Tenants that use more than a limit of theirs."""
    return [
        tenant.name for tenant in state.forest.by_name.values()
        if any(tenant.used[column] > cap for column, cap in tenant.limits.items())
        or any(tenant.used_at(pool)[c] > cap for pool, caps in tenant.limits_in.items() for c, cap in caps.items())
    ]  # fmt: skip


def pods_running(state: ClusterState) -> int:
    """How many pods run below any tenant."""
    return state.forest.root.used[PODS]
