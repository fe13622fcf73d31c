"""Issuing: sends the Bindings of a unit once everything they need is there, all of them together.

A start is issued only where its node has the room at that moment, and its tenants' limits too (`headroom`). Where its
node has not, or its limits, it waits while that is due to pods on their way out; otherwise somebody else took the room,
and the start is forgotten. What has waited, for whatever it was, must pass all filters once more (`permission`).

Devices and volumes are asked for when the room is there, and not before: a claim with a volume binds its pod to the
node, whatever becomes of the room. Devices come first, because they can be taken back.
"""

import logging
from typing import Protocol

from allotment_kube.program import logs
from allotment_scheduler.core.objects.pods import Pod, PodKey
from allotment_scheduler.shell import claims, volumes
from allotment_scheduler.shell.binder import Binder
from allotment_scheduler.shell.errands import Errands
from allotment_scheduler.shell.headroom import Headroom
from allotment_scheduler.shell.knowledge import Knowledge
from allotment_scheduler.shell.ledger import Phase, Start, Undertaking
from allotment_scheduler.shell.outcomes import Outcomes
from allotment_scheduler.shell.permission import fits_still, is_open, minds_others, wait_for_leavers
from allotment_scheduler.translation.allocations import Chosen
from allotment_scheduler.translation.devices import DeviceError

_logger = logging.getLogger(__name__)


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
            decided=self._decided,
            patience=lambda: knowledge.settings().quarantine_seconds,
        )

    def _chosen(self, uid: str) -> Chosen:
        return self._known.state.counters.devices.chosen(uid)

    def _decided(self, key: PodKey) -> Pod | None:
        return self._known.state.pods.get(key)

    def issue(self, client: ClaimClient, binder: Binder, errands: Errands) -> None:
        """Send the Bindings of every unit whose room is there."""
        self._choices.look()
        self._claims.look(client, errands)
        anyone_leaves = self._known.engine.leaving.anyone_goes()
        blocked: list[tuple[Undertaking, list[Start]]] = []
        for undertaking in self._known.ledger.waiting():
            has_waited, undertaking.has_waited = undertaking.has_waited, True
            waiting = undertaking.waiting()
            if undertaking.departures or self._known.state.stale:
                continue  # the next cycle lays out what has changed; then we look again
            room, reason = self._room(waiting)
            attached = bool(room) and self._is_attached(waiting)
            in_doubt = room and (has_waited or (anyone_leaves and self._minds_others(waiting)))
            if in_doubt and (attached or not undertaking.attaching) and not self._fits_still(waiting):
                blocked.append((undertaking, waiting))
                continue
            if room is None:
                self._forget(waiting, reason)
            elif not room:
                self._await_room(undertaking)
            elif not attached:
                self._attach(undertaking, waiting, client, errands)
            else:
                for start in waiting:
                    start.phase = Phase.ISSUED
                binder.send(waiting)
        if not self._known.state.stale:
            self._await_neighbours(blocked)

    def _room(self, waiting: list[Start]) -> tuple[bool | None, str]:
        """Whether all may start, room, limits and devices are there: yes, not yet, or (None) no, with the reason."""
        if not is_open(self._known.state, waiting):
            return None, "NotAllowed"
        headroom = Headroom(self._known.state, self._known.ledger, waiting)
        room = headroom.on_nodes()
        limits = headroom.within_limits() if room else True
        if not limits:
            return limits, "LimitTaken"
        if room and any(self._claims.awaits_leavers(start) for start in waiting):
            return False, ""
        return room, "RoomTaken"

    def _fits_still(self, waiting: list[Start]) -> bool:
        return fits_still(self._known.state, self._known.engine.placer, waiting)

    def _minds_others(self, waiting: list[Start]) -> bool:
        return minds_others(self._known.state, self._known.engine.placer, waiting)

    def _is_attached(self, waiting: list[Start]) -> bool:
        """Whether the claims of all these pods have their volumes and devices."""
        state = self._known.state
        return not any(volumes.unbound_claims(state, start) or self._claims.missing(start) for start in waiting)

    def _await_room(self, undertaking: Undertaking) -> None:
        """What leaves there goes for another's plan, or a predecessor's, and may never end."""
        if undertaking.attaching or undertaking.deadline is None:
            undertaking.attaching = False
            undertaking.deadline = self._known.clock() + 2 * self._known.settings().eviction_seconds

    def _await_neighbours(self, blocked: list[tuple[Undertaking, list[Start]]]) -> None:
        """Units that others are in the way of wait where these are leaving, and are forgotten where they stay."""
        if not blocked:
            return
        leaving, units = self._known.state.running.leaving(), [waiting for _, waiting in blocked]
        neighbours = frozenset(pod.key for pod in leaving)
        verdicts = wait_for_leavers(self._known.state, self._known.engine.placer, units, leaving)
        for (undertaking, waiting), comes in zip(blocked, verdicts, strict=True):
            if comes:
                undertaking.neighbours = undertaking.neighbours or neighbours
                self._await_room(undertaking)
            else:
                self._forget(waiting, "NotAllowed")

    def _attach(self, undertaking: Undertaking, waiting: list[Start], client: ClaimClient, errands: Errands) -> None:
        """Have volumes and devices given to the claims of these pods, or forget who cannot have them."""
        if not undertaking.attaching:
            undertaking.attaching = True
            undertaking.deadline = self._known.clock() + self._known.settings().volume_seconds
        if not self._devices_missing(undertaking, waiting, client, errands):
            self._tell_volumes(undertaking, waiting, client, errands)

    def _forget(self, waiting: list[Start], reason: str) -> None:
        self._known.metrics.forgotten(reason, len(waiting))
        (namespace, name), node = waiting[0].key, waiting[0].node
        logs.event(
            _logger, "a start is forgotten",
            namespace=namespace, name=name, node=node, pods=len(waiting), reason=reason,
        )  # fmt: skip
        for start in waiting:
            self._outcomes.forget(start)

    def _tell_volumes(
        self, undertaking: Undertaking, waiting: list[Start], client: ClaimClient, errands: Errands
    ) -> None:
        """Tell claims their volumes, or forget who cannot have them."""
        for start in waiting:
            unbound = volumes.unbound_claims(self._known.state, start)
            trouble = self._choices.trouble(unbound)
            if trouble is not None:
                self._outcomes.unattachable(undertaking, [start], trouble)
                return
            failed = self._choices.failed(unbound, start.node)
            due = None if failed else self._choices.due(unbound, start.node)
            if due is None:
                self._forget(waiting, "VolumeFailed" if failed else "VolumeTaken")
                return
            for key, volume in due.items():
                errands.send(self._choices.tell(client, start, key, volume), "volume", key)

    def _devices_missing(
        self, undertaking: Undertaking, waiting: list[Start], client: ClaimClient, errands: Errands
    ) -> bool:
        """Whether devices are still to be given to claims of any of these pods; has them given."""
        missing = False
        for start in waiting:
            if not self._claims.missing(start):
                continue
            missing = True
            try:
                orders = self._claims.orders(start)
            except DeviceError as error:
                self._outcomes.unattachable(undertaking, [start], str(error))
                return True
            for order in orders:
                self._claims.begin(order)
                errands.send(self._claims.carry_out(client, order), "devices", order.key)
        return missing
