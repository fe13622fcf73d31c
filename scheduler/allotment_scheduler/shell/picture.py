"""The picture of the cluster: what the watches tell, turned into events for the core.

Watches know no order among each other, so what belongs together is put together here, whichever comes first. The
picture has a part for each concept: the `ground` (nodes, tenants, storage), `groups`, `jobs`, and the `hardware` that
pods claim. Pods, which draw on all of these, are this module's own.

The picture also knows what the API server does not know yet: pods we have decided to start (`starts`) are shown to the
core on their node whatever a late watch says, pods we are evicting as leaving, pods in quarantine as gated, pods whose
plan was refused as such that preempt nobody.

What is told twice unchanged is told to the core once.
"""

import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from allotment_api.quantities import QuantityError
from allotment_kube import pods as kube
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import PodKey, PodSpec
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.shell.ground import Ground
from allotment_scheduler.shell.groups import Groups
from allotment_scheduler.shell.hardware import Hardware
from allotment_scheduler.shell.jobs import Gate, Jobs
from allotment_scheduler.shell.settings import LEAST_LONGEST_GRACE
from allotment_scheduler.shell.teller import Key, Teller, in_words
from allotment_scheduler.translation.bindings import bound_spec
from allotment_scheduler.translation.pods import has_finished, owner_kind, pod_gone, pod_spec, unreadable_spec
from allotment_scheduler.translation.scalars import seconds

_logger = logging.getLogger(__name__)


class Decided(Protocol):
    """What we have decided about pods and the API server does not show yet."""

    def node_of(self, key: PodKey, uid: str) -> str | None:
        """The node on which this pod's start is under way."""

    def is_leaving(self, key: PodKey, uid: str) -> bool:
        """Whether we have evicted this pod."""

    def quarantined(self, key: PodKey, uid: str) -> bool:
        """Whether this pod is set aside after refusals."""

    def is_barred(self, key: PodKey, uid: str) -> bool:
        """Whether this pod's plan was refused a short while ago."""

    def is_spared(self, key: PodKey, uid: str) -> bool:
        """Whether this pod's eviction was refused a short while ago."""

    def seen_bound(self, key: PodKey, uid: str, node: str) -> None:
        """The watch shows this pod on a node."""

    def seen_gone(self, key: PodKey) -> None:
        """The pod of this name has finished or is gone."""


class Said(NamedTuple):
    """What a waiting pod's condition PodScheduled says."""

    uid: str
    code: str
    message: str
    at: float
    reason: str


class Picture:
    """Feeds one `ClusterState`.

    Args:
        state: the core's state.
        decided: our own decisions that are under way.
        changed: called after anything that may let somebody start.
        doubt: called when the state may be half changed.
        fault: called when something cannot be taken in for a fault of ours.
    """

    def __init__(
        self,
        state: ClusterState,
        decided: Decided,
        changed: Callable[[], None],
        doubt: Callable[[], None] = lambda: None,
        fault: Callable[[], None] = lambda: None,
    ) -> None:
        self._teller = teller = Teller(state, changed, doubt, fault)
        self.ground = Ground(teller)
        self.groups = Groups(teller)
        self.jobs = Jobs(teller, self.reconsider)
        self.hardware = Hardware(teller, self._read_again)
        self.problems = teller.problems
        self.generations = teller.generations
        self.conditions = teller.conditions
        self.uids = teller.uids
        self.invalid_pods: dict[PodKey, str] = {}
        """Pods of ours that cannot be understood, with the reason."""
        self.seats: dict[PodKey, str] = {}
        """Every bound pod's node, as the watch shows it."""
        self.ending: dict[PodKey, float] = {}
        """Pods that the watch shows as being deleted, whoever deleted them: when their grace period ends."""
        self.graces: dict[PodKey, int] = {}
        """Grace periods that an eviction may have to cut, in seconds."""
        self._decided = decided
        self._own_gates: set[PodKey] = set()
        """Pods with scheduling gates."""
        self._own_meekness: set[PodKey] = set()
        """Pods whose own policy is to preempt nobody."""
        self._said: dict[PodKey, Said] = {}
        self._done: dict[PodKey, str] = {}
        """Members of gangs that have succeeded and still exist, by uid: each of them is told once."""
        self._read: dict[PodKey, int] = {}
        """Every waiting pod of ours: the generation in which it was last translated."""

    @property
    def state(self) -> ClusterState:
        """The state that is fed."""
        return self._teller.state

    @state.setter
    def state(self, state: ClusterState) -> None:
        self._teller.state = state

    def known(self, kind: str) -> Iterable[Key]:
        """Names of all Tenants, NodePools or PodGroups that are in force."""
        return self._teller.known(kind)

    def once_more(self, kind: str, key: Key) -> None:
        """An object is about to be taken in, or is gone."""
        self._teller.once_more(kind, key)

    def failed(self, kind: str, key: Key, error: Exception) -> None:
        """Taking in an object failed, which is a fault of ours: it is left as it was known before, if at all."""
        if kind == "Pod":
            self._set_aside(key, error)
        else:
            self._teller.failed(kind, key, error)

    # --- pods ---------------------------------------------------------------------------------------------------

    def pod(self, key: Key, pod: kube.Pod) -> None:
        """A pod exists and looks like this."""
        if has_finished(pod):
            self.pod_gone(key, finished=pod)
            return
        uid = pod.metadata.uid
        known = self.state.pods.get(key)
        if known is not None and known.spec.uid != uid:
            self.pod_gone(key)  # another pod of the same name has taken its place
        self.hardware.pod(key, pod)
        try:
            spec = self._bound(key, pod) or self._translated(pod)
        except QuantityError as error:
            if pod.spec.node_name:
                self.pod_gone(key)
                self.invalid_pods[key] = str(error)
                return
            spec = unreadable_spec(pod, str(error))
        self.invalid_pods.pop(key, None)
        self._note_end(key, pod)
        waits = spec.ours and spec.node is None and not spec.deleting
        self.jobs.pod(key, spec.owner if spec.owner_kind == "Job" else "", waits=waits)
        if spec.node is not None:
            self.seats[key] = spec.node
            self._said.pop(key, None)
            self._decided.seen_bound(key, uid, spec.node)
            if not spec.deleting and self._decided.is_leaving(key, uid):
                spec = replace(spec, deleting=True)
            if self._decided.is_spared(key, uid):
                spec = replace(spec, spared=True)
        elif spec.ours:
            self._read[key] = pod.metadata.generation
            self._listen(key, pod)
            spec = self._undecided(key, spec)
        self._teller.apply(ev.PodSeen(spec))

    def pod_gone(self, key: Key, *, finished: kube.Pod | None = None) -> None:
        """A pod has finished or is gone."""
        event = ev.PodGone(key) if finished is None else pod_gone(finished)
        told = self._done.pop(key, None)
        if finished is not None and event.succeeded and event.group is not None:
            self._done[key] = finished.metadata.uid
        self.invalid_pods.pop(key, None)
        self.seats.pop(key, None)
        self.ending.pop(key, None)
        self.graces.pop(key, None)
        self._own_gates.discard(key)
        self._own_meekness.discard(key)
        self.hardware.pod_gone(key)
        self._said.pop(key, None)
        self._read.pop(key, None)
        self.jobs.pod_gone(key)
        known = self.state.pods.get(key)
        if known is None:
            if key in self._done and self._done[key] != told:
                self._teller.apply(event)  # a gang's member that was done before we came
            return
        self._teller.apply(event)
        self._decided.seen_gone(key)

    def _read_again(self, key: PodKey, pod: kube.Pod) -> None:
        """Something that a pod counts for has changed. One that cannot be read keeps nobody else from it."""
        try:
            self.pod(key, pod)
        except Exception as error:
            _logger.exception("Pod %s/%s cannot be taken in again", *key)
            self._set_aside(key, error)

    def _set_aside(self, key: PodKey, error: Exception) -> None:
        """A pod cannot be taken in for a fault of ours: it does not start as it was known, until it can."""
        self.invalid_pods[key] = in_words(error)
        self._teller.fault()
        try:
            self.reconsider(key)
        except Exception:
            _logger.exception("Pod %s/%s cannot be set aside", *key)

    def said(self, key: PodKey) -> Said | None:
        """What a waiting pod's condition says, as the watch showed it."""
        return self._said.get(key)

    def _note_end(self, key: PodKey, pod: kube.Pod) -> None:
        grace = pod.spec.termination_grace_period_seconds or 0
        if grace > LEAST_LONGEST_GRACE:
            self.graces[key] = grace
        else:
            self.graces.pop(key, None)
        if pod.metadata.deletion_timestamp is None:
            self.ending.pop(key, None)
        else:
            self.ending[key] = seconds(pod.metadata.deletion_timestamp)

    def _listen(self, key: PodKey, pod: kube.Pod) -> None:
        for each in pod.status.conditions:
            if each.type == "PodScheduled" and each.status == "False":
                at = seconds(each.last_transition_time)
                self._said[key] = Said(pod.metadata.uid, each.message.partition(":")[0], each.message, at, each.reason)

    def reconsider(self, key: PodKey) -> None:
        """Show a waiting pod to the core anew: its quarantine, its bar or its gates have changed."""
        pod = self.state.pods.get(key)
        if pod is not None and pod.node is None and pod.spec.ours:
            gated, meek = self._gated(key, pod.spec), self._meek(key, pod.spec)
            self._teller.apply(ev.PodSeen(replace(pod.spec, gated=gated, never_preempts=meek)))

    def spare(self, key: PodKey, *, spared: bool) -> None:
        """Show a running pod to the core as one that nobody plans with, or as a possible victim again."""
        pod = self.state.pods.get(key)
        if pod is not None and pod.spec.node is not None and pod.spec.spared != spared:
            self._teller.apply(ev.PodSeen(replace(pod.spec, spared=spared)))

    def gate(self, key: PodKey) -> Gate | None:
        """Why a pod is kept out of the queues; None where it is not, or by its own gates only."""
        pod = self.state.pods.get(key)
        if pod is not None and key in self.invalid_pods:
            return Gate("Quarantined", f"it is left aside: {self.invalid_pods[key]}")
        return None if pod is None else self.jobs.gate(key, pod.spec.owner)

    def has_own_gates(self, key: PodKey) -> bool:
        """Whether the pod has scheduling gates."""
        return key in self._own_gates

    def _bound(self, key: Key, pod: kube.Pod) -> PodSpec | None:
        """A pod that waited and is bound now, by the short way; None where there is none."""
        if not pod.spec.node_name or key not in self._read:
            return None
        generation, known = self._read.pop(key), self.state.pods.get(key)
        if known is None or not generation or generation != pod.metadata.generation:
            return None
        if known.spec.owner_kind == "Job" and self.jobs.known(known.spec.owner) is None:
            return None  # what its Job made of it may have changed
        return bound_spec(known.spec, pod)

    def _translated(self, pod: kube.Pod) -> PodSpec:
        controller = pod.metadata.controller
        if controller is None or owner_kind(controller) != "Job":
            return pod_spec(pod, devices=self.hardware.devices)
        job = self.jobs.known(controller.uid)
        if job is None:
            return pod_spec(pod, devices=self.hardware.devices)
        return pod_spec(pod, gang=job.gang, fragile=job.fragile, devices=self.hardware.devices)

    def _undecided(self, key: Key, spec: PodSpec) -> PodSpec:
        """A pod of ours that the API server shows unbound: what we know better about it."""
        (self._own_gates.add if spec.gated else self._own_gates.discard)(key)
        (self._own_meekness.add if spec.never_preempts else self._own_meekness.discard)(key)
        node = self._decided.node_of(key, spec.uid)
        if node is not None and not spec.deleting:
            decided = self.state.pods.get(key)
            if decided is not None and decided.node == node:  # what was decided on stays, also while claims are written
                scheduling, meek = decided.spec.scheduling, decided.spec.never_preempts
                return replace(spec, node=node, scheduling=scheduling, never_preempts=meek)
            return replace(spec, node=node)
        return replace(spec, gated=self._gated(key, spec), never_preempts=self._meek(key, spec))

    def _meek(self, key: PodKey, spec: PodSpec) -> bool:
        return key in self._own_meekness or self._decided.is_barred(key, spec.uid)

    def _gated(self, key: PodKey, spec: PodSpec) -> bool:
        return (
            key in self._own_gates
            or key in self.invalid_pods
            or self.jobs.keeps_out(key, spec.owner)
            or self._decided.quarantined(key, spec.uid)
        )
