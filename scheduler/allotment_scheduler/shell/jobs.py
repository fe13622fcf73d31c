"""Jobs: what they make of their pods, and why they keep them out of the queues.

A Job decides whether its pods are a gang and whether one of them would end it by being evicted. So its pods wait until
it is known, whichever comes first; where there is none (`orphans`), they are pods like any other. What waits of a Job
that is deleted starts no more: the garbage collector takes it away.

A Job changes its mind while its pods run: with every failure, for one, it comes closer to its end. So running pods are
known here as well as waiting ones, whoever bound them and whenever we came.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from msgspec.structs import replace

from allotment_kube.workloads import Job
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import PodKey
from allotment_scheduler.shell.teller import Key, Teller
from allotment_scheduler.translation import cluster


class Gate(NamedTuple):
    """Why a pod is kept out of the queues: a code of `core.explain` or `OwnerGone`, and a sentence."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class KnownJob:
    """What a Job makes of its pods."""

    gang: str | None
    fragile: bool


_NO_JOB: Final = KnownJob(None, fragile=False)


@dataclass(slots=True)
class _Gates:
    """Why Jobs keep pods out of the queues."""

    jobless: dict[str, set[PodKey]] = field(default_factory=dict)
    """Their Job, by uid, is not known yet."""
    adopted: set[str] = field(default_factory=set)
    """Jobs, by uid, that do not exist: their pods are pods like any other."""
    ended: set[str] = field(default_factory=set)
    """Jobs, by uid, that are gone or going while pods of theirs are still there."""


class Jobs:
    """Every Job, and the pods of each.

    Args:
        teller: tells the core.
        reconsider: shows a waiting pod to the core anew.
    """

    def __init__(self, teller: Teller, reconsider: Callable[[PodKey], None]) -> None:
        self._teller = teller
        self._reconsider = reconsider
        self._jobs: dict[str, KnownJob] = {}
        self._keys: dict[Key, str] = {}
        self._pods: dict[str, set[PodKey]] = {}
        self._owners: dict[PodKey, str] = {}
        self._gates = _Gates()

    def job(self, key: Key, job: Job) -> None:
        """A Job exists and looks like this."""
        uid = job.metadata.uid
        gang = cluster.gang_of_job(job)
        known = KnownJob(gang.name if gang else None, cluster.dies_of_eviction(job))
        before = self._jobs.get(uid)
        self._jobs[uid] = known
        self._keys[key] = uid
        if gang is not None:
            self._teller.apply(ev.GroupSeen(gang))
        elif before is not None and before.gang is not None:
            self._teller.apply(ev.GroupGone((key[0], before.gang)))
        waited = self._gates.jobless.pop(uid, set())
        self._gates.adopted.discard(uid)
        if known != before:
            for pod in [*self._pods.get(uid, ())]:
                self._of_job(pod, known)
        if job.metadata.deletion_timestamp is not None:
            self._end(uid)
        for pod in waited:
            self._reconsider(pod)

    def job_gone(self, key: Key) -> None:
        """A Job is gone; its pods follow, or become orphans."""
        uid = self._keys.pop(key, "")
        known = self._jobs.pop(uid, None)
        self._end(uid)
        if known is not None and known.gang is not None:
            self._teller.apply(ev.GroupGone((key[0], known.gang)))
            for pod in [*self._pods.get(uid, ())]:  # they are no members of the next Job's gang of this name
                self._of_job(pod, _NO_JOB)

    def adopt(self, uids: Iterable[str]) -> None:
        """These Jobs do not exist: pods that wait for them are pods like any other."""
        for uid in uids:
            waited = self._gates.jobless.pop(uid, set())
            if waited:
                self._gates.adopted.add(uid)
            for key in waited:
                self._reconsider(key)

    @property
    def awaited(self) -> list[str]:
        """Jobs, by uid, that pods wait for."""
        return [*self._gates.jobless]

    def known(self, uid: str) -> KnownJob | None:
        """A Job by its uid."""
        return self._jobs.get(uid)

    def pods_of(self, key: Key) -> frozenset[PodKey] | None:
        """The pods of the Job of this name that have not finished; None where there is no such Job."""
        uid = self._keys.get(key)
        return None if uid is None else frozenset(self._pods.get(uid, ()))

    # --- pods ---------------------------------------------------------------------------------------------------

    def pod(self, key: PodKey, owner: str, *, waits: bool) -> None:
        """A pod exists, of this Job or, where `owner` is empty, of none; `waits` tells whether it may start."""
        before = self._owners.get(key, "")
        if owner != before:
            self.pod_gone(key)
            if owner:
                self._owners[key] = owner
                self._pods.setdefault(owner, set()).add(key)
        if not owner:
            return
        known = owner in self._jobs or owner in self._gates.adopted or owner in self._gates.ended
        if waits and not known:
            self._gates.jobless.setdefault(owner, set()).add(key)
        elif not waits:
            _discard(self._gates.jobless, owner, key)

    def pod_gone(self, key: PodKey) -> None:
        """A pod has finished or is gone, or is its Job's no longer."""
        owner = self._owners.pop(key, "")
        for index in (self._pods, self._gates.jobless):
            _discard(index, owner, key)
        if owner not in self._pods:
            self._gates.adopted.discard(owner)
            self._gates.ended.discard(owner)

    def keeps_out(self, key: PodKey, owner: str) -> bool:
        """Whether a pod of this owner must wait for its Job, or for the garbage collector."""
        return key in self._gates.jobless.get(owner, ()) or owner in self._gates.ended

    def gate(self, key: PodKey, owner: str) -> Gate | None:
        """The same in words."""
        if owner in self._gates.ended:
            return Gate("OwnerGone", "its Job is deleted: the garbage collector takes this pod away")
        if key in self._gates.jobless.get(owner, ()):
            return Gate("GangIncomplete", "its Job is not known yet")
        return None

    def _end(self, uid: str) -> None:
        """A Job is deleted: what waits of it starts no more."""
        if uid in self._pods and uid not in self._gates.ended:
            self._gates.ended.add(uid)
            for pod in [*self._pods[uid]]:
                self._reconsider(pod)

    def _of_job(self, key: PodKey, job: KnownJob) -> None:
        pod = self._teller.state.pods.get(key)
        if pod is None:
            return
        own = pod.spec.group if pod.spec.group is not None and not pod.spec.group.startswith("job/") else None
        spec = replace(pod.spec, group=own or job.gang, fragile=job.fragile)
        if pod.node is not None and spec.node is None:
            spec = replace(spec, node=pod.node)
        if spec != pod.spec:
            self._teller.apply(ev.PodSeen(spec))


def _discard(index: dict[str, set[PodKey]], owner: str, key: PodKey) -> None:
    """Take a pod out of an index, and its owner with the last one."""
    if owner in index:
        index[owner].discard(key)
        if not index[owner]:
            del index[owner]
