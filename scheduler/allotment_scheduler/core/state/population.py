"""The population: how pods come, change, run, leave and return.

Order of arrival is kept here: (evictions suffered, creation, order of first sight). A pod that takes the place of one
we evicted (same owner) comes behind its peers and alters no demand; all else that comes or goes from outside does.
What of ours nobody recreates, or not in good time, is demand no longer: our own doing, so `own_version` tells of it.

While the layout is stale, pods are only noted on their nodes: the layout counts everything anew.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING

from msgspec.structs import fields, replace

from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import Pod, PodSpec, SetAside
from allotment_scheduler.core.objects.resources import LARGEST
from allotment_scheduler.core.objects.units import Gang, Unit

if TYPE_CHECKING:
    from allotment_scheduler.core.state.cluster import ClusterState

_LASTING = attrgetter(
    *(each.name for each in fields(PodSpec) if each.name not in {"node", "started", "nominated", "labels", "ends"})
)
"""What of a pod its binding leaves alone, and our own eviction."""
_OURS_TO_SAY = frozenset({"spared", "never_preempts", "deleting", "ends"})
_FROM_OUTSIDE = attrgetter(*(each.name for each in fields(PodSpec) if each.name not in _OURS_TO_SAY))
"""What of a pod we never change: whom we spare or bar, and whose eviction we give up, is our own doing."""
_REPLACED_WITHIN = 3600.0
"""Seconds after which a new pod of an owner is no replacement of one that we evicted."""
_AWAITED_FOR = 60.0
"""Seconds for which one that we evicted and that has gone counts as demand still, if its owner is to recreate it."""
_MANY_OWNERS = 4096


@dataclass(slots=True)
class Turns:
    """Who comes behind whom: the counters behind `Pod.arrival`."""

    seen: int = 0
    requeues: int = 0
    owners_evicted: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Owners whose evicted pods have not been replaced yet: how many, and when the last one was evicted."""
    awaited: dict[str, float] = field(default_factory=dict)
    """Owners whose evicted pods have gone and have not been replaced yet, with when the last one went."""


class Population:
    """Takes in what happens to pods, from outside and by our own decisions."""

    def __init__(self, state: "ClusterState") -> None:
        self.state = state
        self.pods = state.pods
        self.running = state.running
        self.interning = state.interning
        self.lineup = state.lineup
        self.turns = Turns()

    def pod_seen(self, event: ev.PodSeen) -> None:
        """A pod exists and looks like this."""
        spec = event.spec
        known = self.pods.get(spec.key)
        stood = known is not None and known.node is not None
        if known is not None:
            if known.spec == spec or self._only_confirms(known, spec):
                return
            self._forget(known)
        pod = self._record(spec, known, stood=stood)
        self.pods[spec.key] = pod
        if self._is_our_doing(spec, known.spec) if known is not None else self._replaces_evicted(pod):
            self.state.own_version += 1  # it may ask for something else than the one before it
        else:
            self.state.demand_version += 1
        if known is not None and known.gang is not None and known.gang is not pod.gang:
            self._left(known.gang)
        if spec.node is not None:
            self._take_place(pod, spec.node)
            if not stood:
                self._take_phantom(pod)
        else:
            self._take_no_place(pod)
        if self.state.stale:
            return
        if pod.gang is not None:
            self.lineup.regang(pod.gang)
        elif spec.node is None:
            self.lineup.enqueue(pod)

    def _take_place(self, pod: Pod, node: str) -> None:
        """Occupy a node; while the layout is stale only note it, for the layout counts everything anew."""
        if self.state.stale:
            pod.node = node
            self.running.add(pod, -1)
            if pod.gang is not None and pod.stays:
                pod.gang.running += 1
        else:
            self.state.occupy(pod, node)

    def _take_no_place(self, pod: Pod) -> None:
        self.state.counters.devices.waits(pod)
        if pod.ready:
            self.state.pending.add(pod, -1)

    def _is_our_doing(self, spec: PodSpec, known: PodSpec) -> bool:
        """Whether a pod differs only in what we have decided about it; that it is being deleted tells of others."""
        return _FROM_OUTSIDE(spec) == _FROM_OUTSIDE(known) and not (spec.deleting and not known.deleting)

    def _only_confirms(self, known: Pod, spec: PodSpec) -> bool:
        """Whether an event tells only what we did ourselves, or less."""
        if known.node is None or spec.node not in (None, known.node) or _LASTING(spec) != _LASTING(known.spec):
            return False
        if spec.labels != known.spec.labels and (spec.node is None or not self._relabelled(known, spec)):
            return False
        if spec.node is not None:
            known.spec = spec
            known.started = spec.started if spec.started is not None else known.started
            self.running.flush().started[known.slot] = known.started
        return True

    def _relabelled(self, pod: Pod, spec: PodSpec) -> bool:
        """Give a running pod other labels, provided that nobody's choice of nodes depends on the difference.

        The API server copies a node's zone and region to the labels of every pod that it binds (KEP-4742). Without
        this, each of our own bindings would be taken for another pod in the old one's place.
        """
        labels, counters = self.interning.labelset(spec.namespace, spec.labels), self.state.counters
        if pod.klass.holds_by_labels or counters.seen_by(labels) != counters.seen_by(pod.labels):
            return False
        pod.labels = labels
        self.running.flush().labels[pod.slot] = labels.id
        return True

    def _record(self, spec: PodSpec, known: Pod | None, *, stood: bool) -> Pod:
        klass = self.interning.klass(spec.scheduling, spec.namespace)
        labels = self.interning.labelset(spec.namespace, spec.labels)
        self.turns.seen += 1
        arrival = known.arrival if known is not None else (0, spec.created, self.turns.seen)
        pod = Pod(spec, klass, labels, self.state.forest.leaf_of_namespace.get(spec.namespace), arrival)
        pod.started = spec.started if spec.started is not None else spec.created
        pod.invalid = spec.invalid
        if any(amount > LARGEST for _, amount in klass.amounts):
            pod.invalid = f"it asks for more than {LARGEST} of a resource: ask for less"
        if known is not None:
            if stood and spec.node is not None and spec.started is None:
                pod.started = known.started  # what is known of its beginning; we may have taken that off its spec
            pod.leaving, pod.spent_at = known.leaving and spec.deleting, known.spent_at
            if spec.scheduling == known.spec.scheduling:
                pod.set_aside, pod.times_set_aside = known.set_aside, known.times_set_aside
        if spec.group is not None:
            gang = self.state.gang((spec.namespace, spec.group))
            gang.members[spec.key] = pod
            pod.gang = gang
        return pod

    def _replaces_evicted(self, pod: Pod) -> bool:
        """Whether a new pod takes the place of one we evicted: then it returns behind its peers, and alters nothing."""
        count, at = self.turns.owners_evicted.pop(pod.spec.owner, (0, 0.0)) if pod.spec.owner else (0, 0.0)
        if not count or self.state.now - at > _REPLACED_WITHIN:
            return False
        if count > 1:
            self.turns.owners_evicted[pod.spec.owner] = (count - 1, at)
        else:
            self.turns.awaited.pop(pod.spec.owner, None)
        self.turns.requeues += 1
        pod.arrival = (self.turns.requeues, pod.spec.created, self.turns.seen)
        pod.spent_at = self.state.demand_version
        return True

    def _take_phantom(self, pod: Pod) -> None:
        """A gang's expected member has come: it takes one of the rooms that are held for it."""
        if pod.gang is not None:
            for phantom in pod.gang.phantoms:
                if phantom.klass.amounts == pod.klass.amounts and phantom.node == pod.node:
                    self.give_back(pod.gang, [phantom])
                    break

    def hold_room(self, phantom: Pod, gang: Gang, node: str, since: float) -> None:
        """Hold room on a node for a gang's announced member."""
        self.state.occupy(phantom, node)
        gang.phantoms.append(phantom)
        gang.held_since = since

    def give_back(self, gang: Gang, rooms: Iterable[Pod]) -> None:
        """Hold some of the rooms for a gang's expected members no longer."""
        gone = dict.fromkeys(rooms)
        for room in gone:
            if room.node is not None:  # a start that failed may have taken it already
                self.leave_place(room)
        gang.phantoms = [room for room in gang.phantoms if room not in gone]
        self.state.own_version += bool(gone)

    def pod_gone(self, event: ev.PodGone) -> None:
        """A pod has finished or exists no longer."""
        pod = self.pods.pop(event.key, None)
        gang = pod.gang if pod is not None else None
        if event.succeeded and gang is None and event.group is not None:
            gang = self.state.gang((event.key[0], event.group))
        if pod is not None:
            if pod.evicted_in < 0 and not pod.leaving:
                self.state.demand_version += 1
                if pod.node is not None and pod.spec.owner and not event.succeeded:
                    self.state.departed.append((pod, pod.node))
            elif pod.spec.owner and pod.spec.recreated:
                self.turns.awaited[pod.spec.owner] = self.state.now
            else:
                self.state.own_version += 1
            self._forget(pod)
        if gang is not None:
            self._member_gone(gang, event)

    def await_no_longer(self, now: float) -> None:
        """Owners that have recreated nothing in good time: what we evicted of theirs is no demand any more."""
        awaited = {owner: min(since, now) for owner, since in self.turns.awaited.items()}
        self.turns.awaited = {owner: since for owner, since in awaited.items() if now - since < _AWAITED_FOR}
        if len(self.turns.awaited) < len(awaited):
            self.state.own_version += 1

    def _member_gone(self, gang: Gang, event: ev.PodGone) -> None:
        if event.succeeded:
            gang.finished.add(event.key)
        self._left(gang)

    def _left(self, gang: Gang) -> None:
        """A pod is a member of a gang no longer."""
        if not gang.members and gang.spec is None:
            self.state.gangs.pop(gang.key, None)
        elif not self.state.stale:
            self.lineup.regang(gang)

    def leave_place(self, pod: Pod) -> None:
        """The counterpart of `_take_place`."""
        if self.state.stale:
            self.running.remove(pod)
            pod.node = None
            if pod.gang is not None and pod.stays:
                pod.gang.running -= 1
        else:
            self.state.vacate(pod)

    def _forget(self, pod: Pod) -> None:
        if pod.node is not None:
            self.leave_place(pod)
        if pod.slot >= 0:
            self.state.pending.remove(pod)
        if pod.gang is not None:
            pod.gang.members.pop(pod.key, None)
        if isinstance(pod.unit, Unit):
            pod.unit.live = False
            self.lineup.note(pod)
        pod.unit = None
        if pod in self.state.evicted:
            self.state.evicted.remove(pod)

    def pod_evicted(self, event: ev.PodEvicted) -> None:
        """We evict a pod."""
        pod = self.pods[event.key]
        self.state.vacate(pod)
        if pod.gang is not None and not pod.gang.running:
            self.give_back(pod.gang, pod.gang.phantoms)
        self._disrupt(pod, 1)
        self.evicted_now(pod)

    def _disrupt(self, pod: Pod, sign: int) -> None:
        """Count an eviction under the budgets that cover a pod, or take it back."""
        counts = self.state.disruptions
        for key, budget in self.state.budgets.items():
            if budget.covers(pod.labels):
                counts[key] = max(counts.get(key, 0) + sign, 0)

    def pod_stays(self, event: ev.PodStays) -> None:
        """A pod that we decided to evict has not been evicted."""
        pod = self.pods.get(event.key)
        if pod is None:
            return
        self._disrupt(pod, -1)
        count, at = self.turns.owners_evicted.pop(pod.spec.owner, (0, 0.0))
        if count > 1:
            self.turns.owners_evicted[pod.spec.owner] = (count - 1, at)

    def evicted_now(self, pod: Pod) -> None:
        """Remember that a pod, which has left its node, was evicted by us."""
        self.turns.requeues += 1
        pod.arrival = (self.turns.requeues, pod.spec.created, pod.arrival[2])
        pod.evicted_in = self.turns.requeues
        pod.spent_at = self.state.demand_version
        if pod.spec.node is not None:
            pod.spec = replace(pod.spec, node=None, started=None)
        if pod.spec.owner:
            count = self.turns.owners_evicted.get(pod.spec.owner, (0, 0.0))[0]
            self.turns.owners_evicted[pod.spec.owner] = (count + 1, self.state.now)
        self.state.evicted.append(pod)
        if pod.gang is not None:
            self.lineup.regang(pod.gang)
            if not _could_gather(pod.gang):
                self.state.own_version += 1

    def round_ended(self, _event: ev.RoundEnded) -> None:
        """What this round evicted waits again."""
        if len(self.turns.owners_evicted) > _MANY_OWNERS:
            since = self.state.now - _REPLACED_WITHIN
            self.turns.owners_evicted = {
                key: each for key, each in self.turns.owners_evicted.items() if each[1] >= since
            }
        evicted, self.state.evicted = self.state.evicted, []
        for pod in evicted:
            pod.evicted_in = -1
        for gang in dict.fromkeys(pod.gang for pod in evicted if pod.gang is not None):
            self.lineup.regang(gang)
        for pod in evicted:
            if pod.gang is None:
                self.lineup.enqueue(pod)

    def pod_leaving(self, event: ev.PodLeaving) -> None:
        """A pod that we evicted still stands on its node."""
        pod = self.pods.get(event.key)
        if pod is None or pod.node is not None:
            return
        self._forget(pod)
        pod.spec = replace(pod.spec, node=event.node, deleting=True)
        pod.leaving, pod.evicted_in, pod.unit = True, -1, None
        if pod.gang is not None:
            pod.gang.members[pod.key] = pod
        self._take_place(pod, event.node)
        if pod.gang is not None and not self.state.stale:
            self.lineup.regang(pod.gang)

    def pod_set_aside(self, event: ev.PodSetAside) -> None:
        """Deciding about a pod failed."""
        pod = self.pods.get(event.key)
        if pod is None or pod.node is not None:
            return
        pod.set_aside = SetAside(event.until, event.message, self.state.now)
        pod.times_set_aside += 1
        self.state.set_aside.add(event.key)
        self.state.own_version += 1
        self.lineup.reconsider(pod)

    def start_forgotten(self, event: ev.StartForgotten) -> None:
        """A start of ours came to nothing."""
        pod = self.pods.get(event.key)
        if pod is None or pod.node is None or pod.spec.node is not None:
            return
        self._forget(pod)
        self._take_no_place(pod)
        if pod.gang is not None:
            pod.gang.members[pod.key] = pod
        if self.state.stale:
            return
        if pod.gang is not None:
            self.lineup.regang(pod.gang)
        else:
            self.lineup.enqueue(pod)


def _could_gather(gang: Gang) -> bool:
    """Whether a gang that has lost a pod by our doing has members enough to start again, be they announced or not."""
    members = sum(
        not (pod.spec.gated or pod.spec.deleting or pod.invalid or pod.set_aside) for pod in gang.members.values()
    )
    return members + len(gang.phantoms) >= gang.min_member
