"""Permission: whether a unit that has waited may still start where it was decided, at the moment its Bindings are due.

Minutes may lie between a decision and its Bindings: victims have grace periods, and volumes take their time. Meanwhile
a tenant is suspended, a gang paused, a node tainted, a pool closed to the tenant, a host port taken by a foreign pod, a
volume made elsewhere. What a cycle would not decide now is not sent; where it is only pods on their way out that are in
the way, it is waited for them.

Room and limits are `headroom`'s. Devices are not looked at here: claims say by themselves where theirs can be used.
"""

from collections.abc import Sequence

from allotment_scheduler.core.filters.topology import DEVICES_LACKING
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.placement.placer import Placer
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.shell.ledger import Start


def minds_others(state: ClusterState, placer: Placer, unit: list[Start]) -> bool:
    """Whether who stands where decides where some of a unit's pods may start."""
    return any(placer.row(state.lineup.row_key(state.pods[start.key])).blocks for start in unit)


def may_still_start(state: ClusterState, placer: Placer, unit: list[Start]) -> bool | None:
    """Whether every filter passes: yes, not before those have gone who are on their way out, or (None) not at all.

    The unit's pods are put on their nodes one after the other. The state must be settled.
    """
    pods = [state.pods[start.key] for start in unit]
    if not all(_may_start(pod) and pod.node == start.node for start, pod in zip(unit, pods, strict=True)):
        return None
    if _fit(state, placer, unit, pods):
        return True
    leaving = [pod for pod in state.running.pods if pod is not None and pod.spec.deleting]
    return False if leaving and _fit(state, placer, unit, pods, leaving) else None


def _fit(state: ClusterState, placer: Placer, unit: list[Start], pods: list[Pod], without: Sequence[Pod] = ()) -> bool:
    """Whether a unit's pods pass all filters on their nodes, without certain others."""
    with state.trial() as trial:
        for pod in (*pods, *without):
            trial.evict(pod)
        for start, pod in zip(unit, pods, strict=True):
            index = state.nodes.by_name[start.node].index
            if not _passes(state, placer, pod, index):
                return False
            trial.start(pod, index)
    return True


def _may_start(pod: Pod) -> bool:
    """Whether its tenant and its gang let it start at all."""
    if pod.leaf is None or pod.leaf.suspended:
        return False
    gang = pod.gang
    return gang is None or (gang.spec is not None and not gang.spec.paused)


def _passes(state: ClusterState, placer: Placer, pod: Pod, index: int) -> bool:
    row = placer.row(state.lineup.row_key(pod))
    if not row.allowed[index]:
        return False
    mask = row.neighbours.mask(but_for=DEVICES_LACKING)
    return mask is None or bool(mask[index])
