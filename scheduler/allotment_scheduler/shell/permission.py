"""Permission: whether a unit that has waited may still start where it was decided, at the moment its Bindings are due.

Minutes may lie between a decision and its Bindings: victims have grace periods, and volumes take their time. Meanwhile
a tenant is suspended, its guarantee lowered, a gang paused, a node tainted, a pool closed to the tenant, a host port
taken by a foreign pod, a volume made elsewhere. What a cycle would not decide now is not sent.

What is in the way may be leaving: claims reckon with room that comes, and after a change of leader nobody knows whose
victims are on their way out. Then the unit waits. That is looked at for all units together: there may be many, and many
who leave.

Room and limits are `headroom`'s. Devices are not looked at here: claims say by themselves where theirs can be used.
"""

from allotment_scheduler.core.filters.nodes import takes_new
from allotment_scheduler.core.filters.topology import DEVICES_LACKING
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.placement.eligibility import is_covered
from allotment_scheduler.core.placement.placer import Placer
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.core.state.trial import Trial
from allotment_scheduler.shell.ledger import Start


def is_open(state: ClusterState, unit: list[Start]) -> bool:
    """Whether a unit may start at all, whatever room there is: its pods, tenant, gang and nodes let it.

    It is asked for before anybody is asked to go for it, and before its Bindings are sent.
    """
    return all(_is_open(state, start) for start in unit) and not (unit and _is_cut_short(state, unit[0]))


def _is_open(state: ClusterState, start: Start) -> bool:
    """Whether one pod is there and to stay, its tenant and its gang let it start, and its node takes new pods."""
    pod, node = state.pods.get(start.key), state.nodes.by_name.get(start.node)
    if pod is None or pod.node != start.node or pod.spec.deleting or pod.leaf is None or pod.leaf.suspended:
        return False
    if pod.gang is not None and (pod.gang.spec is None or pod.gang.spec.paused):
        return False
    return node is not None and takes_new(node, pod.klass.spec)


def _is_cut_short(state: ClusterState, first: Start) -> bool:
    """Whether a gang has lost members since it was decided: then none of the rest starts."""
    gang = state.pods[first.key].gang
    return gang is not None and gang.running + len(gang.phantoms) < gang.min_member


def minds_others(state: ClusterState, placer: Placer, unit: list[Start]) -> bool:
    """Whether who stands where decides where some of a unit's pods may start."""
    return any(placer.row(state.lineup.row_key(state.pods[start.key])).blocks for start in unit)


def fits_still(state: ClusterState, placer: Placer, unit: list[Start]) -> bool:
    """Whether guarantees cover a unit that is open, and every filter still passes as things stand.

    The unit's pods are put on their nodes one after the other. The state must be settled.
    """
    with state.trial() as trial:
        return _fit(placer, unit, trial)


def wait_for_leavers(state: ClusterState, placer: Placer, units: list[list[Start]], leaving: list[Pod]) -> list[bool]:
    """For each of some units that may not start as things stand, whether it may once those who are leaving have gone.

    The state must be settled.
    """
    if not leaving:
        return [False] * len(units)
    found = []
    with state.trial() as trial:
        for pod in leaving:
            trial.evict(pod)
        mark = trial.mark()
        for unit in units:
            found.append(_fit(placer, unit, trial))
            trial.rollback(mark)
    return found


def _fit(placer: Placer, unit: list[Start], trial: Trial) -> bool:
    """Put a unit's pods on their nodes anew, one after the other; false where one of them may not stand there."""
    state = placer.state
    places = [(state.pods[start.key], state.nodes.by_name[start.node].index) for start in unit]
    for pod, _ in places:
        trial.evict(pod)
    for pod, index in places:
        if not _passes(placer, pod, index):
            return False
        trial.start(pod, index)
    return True


def _passes(placer: Placer, pod: Pod, index: int) -> bool:
    state = placer.state
    if not is_covered(pod, state.nodes.ordered[index].pool):
        return False
    row = placer.row(state.lineup.row_key(pod))
    if not row.allowed[index]:
        return False
    mask = row.neighbours.mask(but_for=DEVICES_LACKING)
    return mask is None or bool(mask[index])
