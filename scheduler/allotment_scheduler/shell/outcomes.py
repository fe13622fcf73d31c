"""Outcomes: what follows from the answers to Bindings and evictions, and from starts and plans that come to nothing.

A start that comes to nothing is forgotten: its pod waits again, set aside for a while if the API server refused it. A
pod that we wanted to evict and did not stays where it runs. A plan is given up as a whole: its starts are forgotten,
and the victims that were not asked yet stay. The mark on a claimant (`status.nominatedNodeName`) is then taken off,
because a successor would hold room by it.

Where the API server has refused, the same plan would be made and refused again at once: so the victim is spared, and
the claimant barred from making plans, for doubling times. It starts meanwhile wherever room is free.

What it must never do: forget a start while nobody knows whether its Binding took effect. Room and limits would be given
away twice.
"""

import logging
from collections.abc import Callable
from math import inf
from typing import Final

from msgspec.structs import replace

from allotment_kube.program import logs
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import Pod, PodKey
from allotment_scheduler.shell import succession
from allotment_scheduler.shell.binder import Outcome
from allotment_scheduler.shell.errands import Errands
from allotment_scheduler.shell.evictor import Fate, Prospect
from allotment_scheduler.shell.knowledge import Knowledge
from allotment_scheduler.shell.ledger import Departure, Phase, Start, Undertaking
from allotment_scheduler.shell.permission import is_open
from allotment_scheduler.shell.succession import PatchingClient

_logger = logging.getLogger(__name__)
_UNMARK_AGAIN: Final = 5.0


class Outcomes:
    """Tells the ledger and the core what became of starts and departures."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._known = knowledge
        self.evictions: dict[str, int] = {}
        """Accepted evictions by rule."""
        self.on_evicted: Callable[[Departure], None] = lambda _: None
        """Told of every eviction that the API server accepted."""
        self._marked: dict[PodKey, tuple[str, float]] = {}
        """Pods whose status.nominatedNodeName speaks of a plan that was given up: their uid, and when to see to it."""

    # --- starts -------------------------------------------------------------------------------------------------

    def bound(self, start: Start, outcome: Outcome, message: str, seconds: float) -> None:
        """A Binding has been answered, or given up."""
        self._known.metrics.bound(outcome.value, seconds)
        if outcome is Outcome.BOUND:
            start.phase = Phase.BOUND
            return
        if self._known.ledger.starts.get(start.key) is not start:
            return  # the watch was faster, or its pod is gone
        if outcome is Outcome.DOUBTFUL:
            start.phase, start.doubt, start.since = Phase.BOUND, message, self._known.clock()
            return
        self.came_to_nothing(start, outcome, message)

    def came_to_nothing(self, start: Start, outcome: Outcome, message: str) -> None:
        """A Binding was certainly not carried out: its pod waits, set aside for a while."""
        now, first = self._known.clock(), self._known.settings().quarantine_seconds
        if outcome is not Outcome.REFUSED:
            first = min(first, 1.0)
        said = f"its binding came to nothing: {message}"
        self._known.ledger.refuse(start.key, start.uid, said, now=now, first=first)
        logs.event(
            _logger,
            "a binding came to nothing",
            level=logging.WARNING if outcome is Outcome.REFUSED else logging.INFO,
            namespace=start.key[0],
            name=start.key[1],
            node=start.node,
            outcome=outcome.value,
            reason=message,
        )
        self.forget(start)
        self._known.picture.reconsider(start.key)

    def withdraw(self, start: Start) -> None:
        """A start is over that was never sent to its node."""
        self._known.ledger.close(start)
        if start.nominated:
            self.mark_is_over(start)

    def forget(self, start: Start) -> None:
        """A start comes to nothing: its pod waits again."""
        self.withdraw(start)
        known = self._known
        departure = known.ledger.departures.get(start.key)
        if departure is not None and departure.uid == start.uid and not departure.accepted:
            self.evicted(departure, Fate.ABSENT, "its own Binding came to nothing")
            return
        pod = known.state.pods.get(start.key)
        if pod is None or pod.spec.uid != start.uid:
            return
        if pod.spec.node is not None and pod.node == start.node and not pod.spec.deleting:
            # It was shown to the core as if the API server said so.
            known.state.apply(ev.PodSeen(replace(pod.spec, node=None, started=None, gated=True)))
            known.picture.reconsider(start.key)
        else:
            known.state.apply(ev.StartForgotten(start.key))
        known.wake()

    # --- departures ---------------------------------------------------------------------------------------------

    def prospect(self, departure: Departure) -> Fate | Prospect:
        """What there is to do about an eviction now."""
        known = self._known
        if not known.ledger.is_wanted(departure) or not is_open(known.state, self._claimants(departure)):
            return Fate.NEEDLESS
        if known.ledger.node_of(departure.key, departure.uid) is not None:
            return Prospect.LATER
        return Prospect.ASK if departure.key in known.picture.seats else Fate.ABSENT

    def grace(self, departure: Departure) -> int | None:
        """Seconds that a pod has to end: its own, which None stands for, or the longest that there is."""
        longest, own = self._known.settings().longest_grace_seconds, self._known.picture.graces.get(departure.key, 0)
        return longest if own > longest else None

    def _claimants(self, departure: Departure) -> list[Start]:
        """Who waits for the room that an eviction is to free."""
        return self._known.ledger.undertakings[departure.claimant].waiting()

    def evicted(self, departure: Departure, fate: Fate, message: str) -> None:
        """An eviction has been answered, or given up."""
        self._known.metrics.evicted(departure.rule, fate.value)
        namespace, name = departure.key
        logs.event(
            _logger,
            f"eviction {fate.value}",
            namespace=namespace,
            name=name,
            rule=departure.rule,
            claimant="/".join(departure.claimant),
            reason=message or None,
        )
        if fate is Fate.ACCEPTED:
            departure.accepted = True
            self.evictions[departure.rule] = self.evictions.get(departure.rule, 0) + 1
            self.on_evicted(departure)
        elif fate is Fate.GONE:
            departure.accepted = True  # by somebody else's doing; until the watch shows it, it is on its way out
        elif fate is Fate.NEEDLESS:
            undertaking = self._wanting(departure)
            self.keep(departure)
            if undertaking is not None:
                self.give_up(undertaking, "its claimant may not start there any more")
        elif fate is Fate.ABSENT:
            self._absent(departure)
        elif fate is Fate.REFUSED:
            undertaking = self._wanting(departure)
            self.keep(departure)
            self._spare(departure, message)
            if undertaking is not None:
                own = departure.claimant[0] == namespace  # whoever reads it need not know what others run
                whose = f"{namespace}/{name} is refused: {message}" if own else "a pod in another namespace is refused"
                self._fall_back(undertaking, f"the eviction of {whose}")

    def _wanting(self, departure: Departure) -> Undertaking | None:
        """The plan that an eviction is of; None where that was given up, though its claimant may have another."""
        ledger = self._known.ledger
        return ledger.undertakings.get(departure.claimant) if ledger.is_wanted(departure) else None

    def keep(self, departure: Departure) -> None:
        """A pod that we wanted to evict stays."""
        known = self._known
        if known.ledger.departures.get(departure.key) is not departure:
            return
        known.ledger.stay(departure)
        self.stays(departure)
        pod = known.state.pods.get(departure.key)
        if pod is not None and self._only_we_end(pod, departure):
            known.state.apply(ev.PodSeen(replace(pod.spec, deleting=False)))
        known.wake()

    def stays(self, departure: Departure) -> None:
        """An eviction that was decided is not made: it counts in no budget, and is nobody's setback."""
        pod = self._known.state.pods.get(departure.key)
        if pod is not None and pod.spec.uid == departure.uid:
            self._known.state.apply(ev.PodStays(departure.key))
            self._known.engine.brakes.stayed(pod, departure.rule, departure.since)

    def _only_we_end(self, pod: Pod, departure: Departure) -> bool:
        """Whether a pod is shown to the core as being deleted for no other reason than our eviction."""
        ends = pod.spec.deleting and departure.key not in self._known.picture.ending
        return ends and pod.spec.uid == departure.uid

    def _spare(self, departure: Departure, message: str) -> None:
        """A pod cannot be evicted: it is left out of plans for a while."""
        known, first = self._known, self._known.settings().quarantine_seconds
        pod = known.state.pods.get(departure.key)
        if departure.key in known.picture.seats and pod is not None and pod.spec.uid == departure.uid:
            known.ledger.spared.refused(departure.key, departure.uid, message, now=known.clock(), first=first)
            known.picture.spare(departure.key, spared=True)

    def _absent(self, departure: Departure) -> None:
        """A pod that we wanted to evict never came to its node: it waits, and its room is free."""
        known = self._known
        if known.ledger.departures.get(departure.key) is not departure:
            return
        known.ledger.stay(departure)
        self.stays(departure)
        pod = known.state.pods.get(departure.key)
        if pod is not None and self._only_we_end(pod, departure):
            known.state.apply(ev.PodSeen(replace(pod.spec, node=None, deleting=False)))
            known.picture.reconsider(departure.key)
        known.wake()

    # --- plans --------------------------------------------------------------------------------------------------

    def give_up(self, undertaking: Undertaking, why: str) -> None:
        """A plan fails: its claimant waits again; victims that were not asked yet stay."""
        logs.event(_logger, "a plan is given up", claimant="/".join(undertaking.unit), reason=why)
        for start in undertaking.waiting():
            self.forget(start)
        ledger = self._known.ledger
        ledger.dissolve(undertaking)
        for key in undertaking.departures:
            departure = ledger.departures.get(key)
            if departure is not None and not departure.accepted:
                self.keep(departure)

    def unattachable(self, undertaking: Undertaking, starts: list[Start], message: str) -> None:
        """Volumes or devices cannot be had for some of a plan's pods: it is given up, and these are set aside."""
        known, first = self._known, self._known.settings().quarantine_seconds
        for start in starts:
            known.ledger.refuse(start.key, start.uid, message, now=known.clock(), first=first)
        self.give_up(undertaking, message)
        for start in starts:
            known.picture.reconsider(start.key)

    def abandoned(self, start: Start, message: str) -> None:
        """Room cannot be held for a claimant."""
        undertaking = self._known.ledger.undertakings.get(start.unit)
        if undertaking is not None and self._known.ledger.starts.get(start.key) is start:
            self._fall_back(undertaking, message)

    def _fall_back(self, undertaking: Undertaking, message: str) -> None:
        """A plan is refused: its claimant makes another only after a while, which doubles."""
        known, first = self._known, min(self._known.settings().quarantine_seconds, 1.0)
        starts = undertaking.waiting()
        self.give_up(undertaking, message)
        for start in starts:
            pod = known.state.pods.get(start.key)
            if pod is not None and pod.spec.uid == start.uid:
                known.ledger.barred.refused(start.key, start.uid, message, now=known.clock(), first=first)
                known.picture.reconsider(start.key)

    # --- marks --------------------------------------------------------------------------------------------------

    def mark_is_over(self, start: Start) -> None:
        """A pod carries the mark of a plan that is no more."""
        pod = self._known.state.pods.get(start.key)
        if pod is not None and pod.spec.uid == start.uid:
            self.marked(start.key, start.uid)

    def marked(self, key: PodKey, uid: str) -> None:
        """A pod's mark is to be taken off."""
        self._marked[key] = (uid, -inf)

    def unmark(self, client: PatchingClient, errands: Errands) -> None:
        """Take the marks of plans that were given up off their pods."""
        now = self._known.clock()
        for key, (uid, due) in [*self._marked.items()]:
            if now < due <= now + _UNMARK_AGAIN:
                continue
            del self._marked[key]
            if not self._bears_again(key, uid):
                errands.send(self._unmark(client, key, uid), "mark", key)

    def _bears_again(self, key: PodKey, uid: str) -> bool:
        """Whether a pod has a place again: then the mark does no harm, and goes if that comes to nothing, too."""
        start = self._known.ledger.starts.get(key)
        if start is None or start.uid != uid:
            return False
        start.nominated = True
        return True

    async def _unmark(self, client: PatchingClient, key: PodKey, uid: str) -> None:
        if self._bears_again(key, uid):  # since this errand was sent
            return
        if not await succession.unmark(client, key, uid):
            self._marked.setdefault(key, (uid, self._known.clock() + _UNMARK_AGAIN))
