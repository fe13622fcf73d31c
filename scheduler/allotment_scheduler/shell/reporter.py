"""The reporter: tells each waiting pod why it waits, in its condition PodScheduled.

The code leads the message and is the condition's reason, except that a pod which its tenant's share admits and no node
fits says `Unschedulable`: that is what a cluster autoscaler buys nodes for, and it must buy none for those that merely
wait their turn, nor for a tenant that uses more than it is entitled to already. On a full cluster nodes are bought for
what a guarantee covers: nobody is left who would have to make room for it.

A condition is rewritten when its code changes, and at most once a minute when only its numbers or its reason do. What a
pod says already is learnt from the watch, so that a new leader does not write everything again. One pass explains a
bounded number of pods, in turn, and only after a cycle that decided all it could: a pod that is about to start is left
alone. Where pods come faster than they are decided there may be no such cycle for long; then those that have waited for
`LONGEST_SILENCE` are told all the same.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

from allotment_kube.errors import ApiError, ConflictError, LeadershipLostError, NotFoundError
from allotment_kube.models import Object
from allotment_kube.patches import Patch, StrategicMergePatch
from allotment_kube.resources import PODS, Resource
from allotment_scheduler.core.explanation.explain import Explainer, Why
from allotment_scheduler.core.objects.pods import Pod, PodKey
from allotment_scheduler.core.objects.units import Unit
from allotment_scheduler.shell.ledger import Phase, Start
from allotment_scheduler.shell.loop import Scheduler
from allotment_scheduler.shell.picture import Said
from allotment_scheduler.shell.settings import Settings

_logger = logging.getLogger(__name__)
ROOMLESS: Final = frozenset({"NoNodeFits", "Fragmented"})
"""Codes of pods that only nodes are missing for."""
UNSCHEDULABLE: Final = "Unschedulable"
"""The reason by which cluster autoscalers know pods to buy nodes for."""
LONGEST_SILENCE: Final = 10.0
"""Seconds after which pods are told even where no cycle decides all it could, and how old they are then at least."""
NOT_SEEN: Final = "NotSeenYet"
"""The code of pods that have not been explained yet."""
STARTING: Final = "Starting"
"""The code of pods that have a node, and wait for what must be there or gone before they are bound."""
UNEXPLAINED: Final = "Unexplained"
"""The code of pods over which explaining fails: it says nothing of what is decided about them."""
_AT_ONCE: Final = 8
_AT_A_TIME: Final = 8
"""Pods that are explained without a turn for anybody else: one may take milliseconds."""
_LONGEST: Final = 1024


class Told(NamedTuple):
    """What a pod has been told, by whom ever."""

    said: Said
    since: float
    """Since when it has been waiting, as its condition says."""


class Due(NamedTuple):
    """What is to be told to a pod."""

    pod: Pod
    why: Why
    reason: str


class PatchingClient(Protocol):
    """What the reporter needs of a client."""

    async def patch(
        self, resource: Resource[Any], name: str, patch: Patch, *, namespace: str = "", subresource: str = ""
    ) -> Any:  # noqa: ANN401 - of the resource's type
        """Change part of an object; returns it as it is then."""


class Reporter:
    """Writes PodScheduled=False on pods that wait.

    Args:
        scheduler: whose pods these are.
        settings: asked each time, because they change.
        now: seconds since the epoch.
        publish: told how many pods wait for which reason.
        failed: told of each pod whose explanation fails.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        settings: Callable[[], Settings],
        *,
        now: Callable[[], float],
        publish: Callable[[dict[str, int]], None],
        failed: Callable[[], None],
    ) -> None:
        self._scheduler = scheduler
        self._settings = settings
        self._now = now
        self._publish = publish
        self._failed = failed
        self._told: dict[PodKey, Told] = {}
        self._codes: dict[PodKey, str] = {}
        self._turn = 0
        self._began = now()

    async def run(self, client: PatchingClient) -> None:
        """Report until cancelled."""
        clock = asyncio.get_running_loop().time
        self._began = self._now()
        complete, looked = 0, clock()  # until a cycle has decided all it could, every pod may be about to start
        while True:
            await asyncio.sleep(self._settings().explain_seconds)
            if self._scheduler.progress.complete != complete:
                complete, looked = self._scheduler.progress.complete, clock()
                await self._pass_over(client)
            elif clock() - looked >= LONGEST_SILENCE:
                looked = clock()
                await self._pass_over(client, least_age=LONGEST_SILENCE)

    async def _pass_over(self, client: PatchingClient, *, least_age: float = 0.0) -> None:
        due = list[Due]()
        for batch in self.batches(least_age=least_age):
            due += batch
            await asyncio.sleep(0)
        await self._write_all(client, due)

    def pass_over(self, *, least_age: float = 0.0) -> list[Due]:
        """Explain the next waiting pods that are old enough; returns those whose condition is due."""
        return [each for batch in self.batches(least_age=least_age) for each in batch]

    def batches(self, *, least_age: float = 0.0) -> Iterator[list[Due]]:
        """The same, of some pods at a time: the state may change from one batch to the next."""
        settings, now = self._settings(), self._now()
        scheduler = self._scheduler
        scheduler.state.settle()
        waiting = {pod.key: pod for pod in scheduler.state.waiting() if not scheduler.picture.has_own_gates(pod.key)}
        waiting.update((pod.key, pod) for pod in self._unissued())
        for memory in (self._told, self._codes):
            for key in [key for key in memory if key not in waiting]:
                del memory[key]
        old = [pod for pod in waiting.values() if not least_age or now - pod.spec.created >= least_age]
        chosen = iter(self._next(old, settings.explained_per_pass))
        while batch := list(islice(chosen, _AT_A_TIME)):
            explained = [self._explained(pod) for pod in map(self._present, batch) if pod is not None]
            self._codes.update((told.pod.key, told.why.code) for told in explained)
            yield [told for told in explained if self._is_due(told, settings, now)]
            scheduler.state.settle()
        counts = Counter(self._codes.values())
        counts[NOT_SEEN] = len(waiting) - len(self._codes)
        self._publish({code: count for code, count in counts.items() if count})

    def _present(self, pod: Pod) -> Pod | None:
        """A pod as it is by now, if it waits still."""
        found = self._scheduler.state.pods.get(pod.key)
        return found if found is not None and not found.spec.deleting and self._waits(found) else None

    def explain(self, key: PodKey) -> Why | None:
        """Why one pod waits, be it for its own start; None if it does not."""
        pod = self._scheduler.state.pods.get(key)
        if pod is None or not pod.spec.ours or (pod.node is not None and key not in self._scheduler.ledger.starts):
            return None
        return self._explained(pod).why

    def code(self, key: PodKey) -> str:
        """Why a pod waits as last explained, in one word."""
        return self._codes.get(key, NOT_SEEN)

    def _next(self, waiting: list[Pod], most: int) -> list[Pod]:
        if len(waiting) <= most:
            return waiting
        # Pods that were never looked at come first; the others in turn.
        unseen = list(islice((pod for pod in waiting if pod.key not in self._codes), most))
        self._turn %= len(waiting)
        turn = waiting[self._turn : self._turn + most - len(unseen)]
        self._turn += len(turn)
        first = {pod.key for pod in unseen}
        return [*unseen, *(pod for pod in turn if pod.key not in first)]

    def _unissued(self) -> Iterator[Pod]:
        """Pods that have a node and cannot be bound yet."""
        for start in self._scheduler.ledger.starts.values():
            pod = self._scheduler.state.pods.get(start.key)
            if start.phase is Phase.WAITING and pod is not None and not pod.spec.deleting:
                yield pod

    def _starting(self, start: Start) -> Why:
        """What a pod that has a node waits for. Nobody is named: what has to end may be another tenant's."""
        if start.phase is not Phase.WAITING:
            return Why(STARTING, f"it is being bound to node {start.node}")
        undertaking = self._scheduler.ledger.undertakings[start.unit]
        count = len(undertaking.departures)
        if count:
            left = f"{count} pods have still to end" if count > 1 else "one pod has still to end"
            return Why(STARTING, f"room is being made for it on node {start.node}: {left}")
        lacking = "its volumes or devices are ready" if undertaking.attaching else "what is leaving there has ended"
        return Why(STARTING, f"it starts on node {start.node} as soon as {lacking}")

    def _explained(self, pod: Pod) -> Due:
        """Why a pod waits, and the condition's reason; a fault of ours over one pod is told to that one."""
        try:
            why = self._why(pod)
            return Due(pod, why, self._reason(pod, why))
        except Exception as error:
            self._failed()
            if self._codes.get(pod.key) != UNEXPLAINED:
                _logger.exception("why %s/%s waits cannot be told", *pod.key)
            said = f"why it waits cannot be told, for a fault of the scheduler: {type(error).__name__}"
            return Due(pod, Why(UNEXPLAINED, said), UNEXPLAINED)

    def _why(self, pod: Pod) -> Why:
        start = self._scheduler.ledger.starts.get(pod.key)
        if start is not None:
            return self._starting(start)
        refusal = self._scheduler.ledger.refusal(pod.key)
        if refusal is not None:
            message, times, until = refusal
            left = max(0, round(until - self._now()))
            return Why("Quarantined", f"set aside {times} time(s), next try in {left} s: {message}")
        gate = self._scheduler.picture.gate(pod.key)
        if gate is not None:
            return Why(gate.code, gate.message)
        why = Explainer(self._scheduler.engine).why(pod)
        barred = self._scheduler.ledger.barred.why(pod.key)
        if barred is None:
            return why
        message, times, until = barred
        left = max(0, round(until - self._now()))
        said = f"no room could be made for it {times} time(s), next try in {left} s: {message}"
        return replace(why, message=f"{why.message}; {said}")

    def _reason(self, pod: Pod, why: Why) -> str:
        """The condition's reason."""
        if why.code in ROOMLESS and isinstance(pod.unit, Unit):
            return UNSCHEDULABLE if self._scheduler.engine.demand.uses_no_more(pod.unit) else why.code
        return UNSCHEDULABLE if why.owed else why.code

    def _is_due(self, due: Due, settings: Settings, now: float) -> bool:
        told = self._last_told(due.pod.key, due.pod.spec.uid)
        if told is None or told.said.code != due.why.code:
            return True
        changed = (told.said.message, told.said.reason) != (text(due.why), due.reason)
        # What was told at a time to come was told before the clock was set back.
        return changed and not 0 <= now - told.said.at < settings.numbers_seconds

    def _last_told(self, key: PodKey, uid: str) -> Told | None:
        """What a pod was told last, by us, or, as the watch shows it, by a former leader."""
        told = self._told.get(key)
        if told is None and (said := self._scheduler.picture.said(key)) is not None:
            # When it was told is not known; as if it were when we came, or all numbers would be written anew at once.
            told = Told(said._replace(at=max(said.at, self._began)), said.at)
        return told if told is not None and told.said.uid == uid else None

    async def _write_all(self, client: PatchingClient, due: list[Due]) -> None:
        slots = asyncio.Semaphore(_AT_ONCE)

        async def write(each: Due) -> None:
            async with slots:
                if self._waits(each.pod):
                    await self._write(client, each.pod.key, each.pod.spec.uid, each.why, each.reason)

        await asyncio.gather(*map(write, due))

    def _waits(self, pod: Pod) -> bool:
        """Whether a pod that was explained has not been sent to a node meanwhile."""
        start = self._scheduler.ledger.starts.get(pod.key)
        return pod.node is None if start is None else start.phase is Phase.WAITING

    async def _write(self, client: PatchingClient, key: PodKey, uid: str, why: Why, reason: str) -> None:
        now = self._now()
        told = self._last_told(key, uid)
        since = now if told is None else told.since
        patch = StrategicMergePatch(_condition("False", reason, text(why), since), uid=uid)
        try:
            patched = await client.patch(PODS, key[1], patch, namespace=key[0], subresource="status")
            if patched.spec.node_name:
                # It was bound while this was under way. The binding had set the condition; nobody else would again.
                patch = StrategicMergePatch(_condition("True", None, None, self._now()), uid=uid)
                await client.patch(PODS, key[1], patch, namespace=key[0], subresource="status")
                return
        except (NotFoundError, ConflictError):
            return
        except LeadershipLostError:
            raise
        except ApiError as error:
            _logger.warning("%s/%s cannot be told why it waits: %s", *key, error)
            return
        self._told[key] = Told(Said(uid, why.code, text(why), now, reason), since)


def _condition(status: str, reason: str | None, message: str | None, since: float) -> Object:
    """The condition PodScheduled as a patch; None removes a field."""
    condition = {
        "type": "PodScheduled",
        "status": status,
        "reason": reason,
        "message": message,
        "lastProbeTime": None,
        "lastTransitionTime": datetime.fromtimestamp(int(since), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return {"status": {"conditions": [condition]}}


def text(why: Why) -> str:
    """A condition's message: the code, then the sentence, then what would start the pod now."""
    change = f"; it would start now with this change: {why.change}" if why.change else ""
    return f"{why.code}: {why.message}{change}"[:_LONGEST]
