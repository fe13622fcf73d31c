"""Issuing: sends the Bindings of a unit once everything they need is there, all of them together.

A start is issued only where its node has the room at that moment, and its tenants' limits too (`headroom`). Where they
have not, it waits while that is due to pods on their way out; otherwise somebody else took the room, and the start is
forgotten. Pods with volumes wait until their claims are bound, pods with devices until those are given to their
ResourceClaims; both are seen to from here, and devices of pods that wait again are given back. What has waited, for
whatever it was, must pass all filters once more (`permission`).
"""

from typing import Protocol

from allotment_scheduler.core.objects.pods import PodKey
from allotment_scheduler.shell import claims, volumes
from allotment_scheduler.shell.binder import Binder
from allotment_scheduler.shell.errands import Errands
from allotment_scheduler.shell.headroom import Headroom
from allotment_scheduler.shell.knowledge import Knowledge
from allotment_scheduler.shell.ledger import Phase, Start, Undertaking
from allotment_scheduler.shell.outcomes import Outcomes
from allotment_scheduler.shell.permission import may_still_start, minds_others
from allotment_scheduler.translation.allocations import Chosen
from allotment_scheduler.translation.devices import DeviceError


class ClaimClient(volumes.ClaimClient, claims.ClaimClient, Protocol):
    """What is needed of a client."""


class Issuing:
    """Sends Bindings when their room, volumes and devices are there."""

    def __init__(self, knowledge: Knowledge, outcomes: Outcomes) -> None:
        self._known = knowledge
        self._outcomes = outcomes
        self._choices = volumes.Choices(knowledge)
        self._claims = claims.Claims(
            knowledge.picture.hardware.devices,
            knowledge.picture.hardware.claimants,
            knowledge.clock,
            knowledge.wake,
            chosen=self._chosen,
            told=knowledge.picture.hardware.resource_claim_written,
            waits=self._waits,
        )

    def _chosen(self, uid: str) -> Chosen:
        return self._known.state.counters.devices.chosen(uid)

    def _waits(self, key: PodKey, uid: str) -> bool:
        """Whether a pod of ours waits with nothing decided about it."""
        pod = self._known.state.pods.get(key)
        waits = pod is not None and pod.spec.uid == uid and pod.spec.ours and pod.node is None
        return waits and key not in self._known.ledger.starts

    def issue(self, client: ClaimClient, binder: Binder, errands: Errands) -> None:
        """Send the Bindings of every unit whose room is there."""
        self._choices.look()
        self._carry_out(self._claims.surplus(), client, errands)
        anyone_leaves = bool(self._known.engine.leaving.pods())
        for undertaking in self._known.ledger.waiting():
            has_waited, undertaking.has_waited = undertaking.has_waited, True
            waiting = [start for start in undertaking.starts if start.phase is Phase.WAITING]
            if undertaking.departures:
                continue
            if self._volumes_missing(waiting, client, errands) or self._devices_missing(waiting, client, errands):
                continue
            headroom = Headroom(self._known.state, self._known.ledger, waiting)
            room = None if self._cut_short(waiting) else headroom.on_nodes()
            limits = headroom.within_limits() if room else True
            in_doubt = has_waited or (anyone_leaves and self._minds_others(waiting))
            allowed = self._may_still_start(waiting) if room and limits and in_doubt else True
            verdicts = {"RoomTaken": room, "LimitTaken": limits, "NotAllowed": allowed}
            lost = next((reason for reason, verdict in verdicts.items() if verdict is None), None)
            if lost is not None:
                self._forget(waiting, lost)
            elif all(verdicts.values()):
                for start in waiting:
                    start.phase = Phase.ISSUED
                binder.send(waiting)
            elif undertaking.deadline is None:  # what leaves there goes for another's plan, and may never end
                undertaking.deadline = self._known.clock() + 2 * self._known.settings().eviction_seconds

    def _may_still_start(self, waiting: list[Start]) -> bool | None:
        return may_still_start(self._known.state, self._known.engine.placer, waiting)

    def _minds_others(self, waiting: list[Start]) -> bool:
        return minds_others(self._known.state, self._known.engine.placer, waiting)

    def _forget(self, waiting: list[Start], reason: str) -> None:
        self._known.metrics.forgotten(reason, len(waiting))
        for start in waiting:
            self._outcomes.forget(start)

    def _attaching(self, undertaking: Undertaking) -> None:
        """From now on an undertaking waits for volumes and devices."""
        if not undertaking.attaching:
            undertaking.attaching = True
            undertaking.deadline = self._known.clock() + self._known.settings().volume_seconds

    def _volumes_missing(self, waiting: list[Start], client: ClaimClient, errands: Errands) -> bool:
        """Whether volumes are still to be had for any of these pods; sees to it, or forgets who cannot have them."""
        missing = False
        for start in waiting:
            unbound = volumes.unbound_claims(self._known.state, start)
            if not unbound:
                continue
            missing = True
            undertaking = self._known.ledger.undertakings[start.unit]
            self._attaching(undertaking)
            trouble = self._choices.trouble(unbound)
            if trouble is not None:
                self._outcomes.unattachable(undertaking, [start], trouble)
                return True
            failed = self._choices.failed(unbound, start.node)
            due = None if failed else self._choices.due(unbound, start.node)
            if due is None:
                self._forget(waiting, "VolumeFailed" if failed else "VolumeTaken")
                return True
            for key, volume in due.items():
                errands.send(self._choices.tell(client, start, key, volume), "volume", key)
        return missing

    def _devices_missing(self, waiting: list[Start], client: ClaimClient, errands: Errands) -> bool:
        """Whether devices are still to be given to claims of any of these pods; has them given."""
        missing = False
        for start in waiting:
            if not self._claims.missing(start):
                continue
            missing = True
            undertaking = self._known.ledger.undertakings[start.unit]
            self._attaching(undertaking)
            try:
                orders = self._claims.orders(start)
            except DeviceError as error:
                self._outcomes.unattachable(undertaking, [start], str(error))
                return True
            self._carry_out(orders, client, errands)
        return missing

    def _carry_out(self, orders: list[claims.Order], client: ClaimClient, errands: Errands) -> None:
        for order in orders:
            self._claims.begin(order)
            errands.send(self._claims.carry_out(client, order), "devices", order.key)

    def _cut_short(self, waiting: list[Start]) -> bool:
        """Whether a gang has lost members since it was decided: then none of the rest is bound."""
        pod = self._known.state.pods.get(waiting[0].key)
        gang = pod.gang if pod is not None else None
        return gang is not None and gang.running + len(gang.phantoms) < gang.min_member
