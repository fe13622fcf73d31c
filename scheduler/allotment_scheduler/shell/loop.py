"""The loop: decides when something has happened, and carries out what was decided.

    watches ──► picture ──► core state ──► cycle ──► ledger ──► binder, evictor ──► API server
                   ▲                                   ▲                               │
                   └───────── watch events ────────────┴────────── outcomes ◄──────────┘

Everything here runs on one event loop and never waits inside a turn, so a turn sees one state. A turn is bounded by
the number of pods it starts; after it, watches, renewals of the Lease and answers get their turn. Cycles are at least
as far apart as the last one was long, so that deciding never takes more than half of the processor.

A start is issued only where its node has the room at that moment. Where it has not, it waits while pods of ours are
leaving the node; otherwise somebody else took the room, and the start is forgotten.

A fault of ours, wherever it happens, costs at most what it happened to: the state is built anew (`recovery`), the unit
in question set aside, and everybody else goes on.
"""

import asyncio
import gc
import logging
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from allotment_kube.errors import KubernetesError, LeadershipLostError, NotFoundError
from allotment_kube.program import logs
from allotment_kube.resources import PODS
from allotment_scheduler.core import decisions as core
from allotment_scheduler.core import events as ev
from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.pods import Pod, PodKey
from allotment_scheduler.core.state import ClusterState
from allotment_scheduler.shell import recovery, succession
from allotment_scheduler.shell.binder import Binder, BindingClient, Outcome, jitter_with
from allotment_scheduler.shell.claims import Claims
from allotment_scheduler.shell.evictor import EvictionClient, Evictor, Fate, Prospect
from allotment_scheduler.shell.ledger import Departure, Ledger, Phase, Start, Undertaking
from allotment_scheduler.shell.metrics import Metrics
from allotment_scheduler.shell.picture import Picture
from allotment_scheduler.shell.settings import Settings
from allotment_scheduler.shell.volumes import Choices, unbound_claims
from allotment_scheduler.translation.devices import DeviceError

_logger = logging.getLogger(__name__)
_HOUSEKEEPING: Final = 1.0
_ORPHANS_AFTER: Final = 30.0
_BACKLOG: Final = 4
"""Cycles' worth of Bindings that may wait for a connection before deciding pauses."""
_BUSY: Final = 0.9
"""Seconds of the housekeeping period that must have passed for it to be due again."""


class Writer(BindingClient, EvictionClient, Protocol):
    """What the loop needs of a client."""


@dataclass(slots=True)
class Progress:
    """How the loop is doing, for health, metrics and those who report."""

    leading: bool = False
    cycles: int = 0
    complete: int = 0
    """Cycles after which nothing more could be decided."""
    last_cycle_seconds: float = 0.0
    last_decision: float = 0.0
    evictions: dict[str, int] = field(default_factory=dict)


class Scheduler:
    """One state, one engine, one ledger: warm from the first list on, acting while it leads."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        self.state = ClusterState(share_policy=settings().share_policy)
        self.engine = Engine(self.state, settings().core)
        self.ledger = Ledger()
        self._wake = asyncio.Event()
        self.picture = Picture(self.state, self.ledger, self._wake.set, self._doubt)
        self.progress = Progress()
        self.on_evicted: Callable[[Departure], None] = lambda _: None
        """Told of every eviction that the API server accepted."""
        self._choices = Choices(self.state)
        self._claims = Claims(self.picture.devices, self.picture.claimants, self._wake.set)
        self._plans: dict[PodKey, asyncio.Task[None]] = {}
        """Plans being carried out, by claimant."""
        self._marked: dict[PodKey, str] = {}
        """Pods, with their uid, whose status.nominatedNodeName speaks of a plan that was given up."""
        self._faults = recovery.Faults()
        self._doubtful = False
        """Whether taking in something failed, so that the state cannot be trusted."""
        self._housekept = 0.0
        self._orphans_since: float | None = None

    def configure(self) -> None:
        """New settings are in force."""
        engine, core = self.engine, self._settings().core
        for part in (engine, engine.brakes, engine.holds, engine.reservations, engine.quarantine):
            part.settings = core
        self._wake.set()

    async def stay_warm(self) -> None:
        """Keep the state in order while somebody else leads, until cancelled."""
        while True:
            await asyncio.sleep(_HOUSEKEEPING)
            if not self.progress.leading:
                try:
                    if self._doubtful:
                        self._rebuild()
                    self.picture.offer_devices()
                    self.state.settle()
                except Exception as error:  # noqa: BLE001 - counted, told, and raised again if it does not end
                    self._mend(error)
                    await asyncio.sleep(self._faults.pause)
                else:
                    self._faults.over()
                self.state.departed.clear()  # who leads holds their room

    # --- leading ------------------------------------------------------------------------------------------------

    async def lead(self, client: Writer) -> None:
        """Decide and carry out until cancelled.

        Raises:
            LeadershipLostError: a write was refused because the Lease is lost.
        """
        settings = self._settings()
        binder = Binder(
            client,
            connections=max(1, settings.connections - 16),
            report=self._bound,
            jitter=jitter_with(self._rng.random),
        )
        evictor = Evictor(client, report=self._evicted, abandon=self._abandoned, prospect=self._prospect)
        self.recover()
        self.progress.leading = True
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(binder.run(), name="binder")
                group.create_task(self._turns(client, binder, evictor, group), name="turns")
        finally:
            self.progress.leading = False

    async def _turns(self, client: Writer, binder: Binder, evictor: Evictor, group: asyncio.TaskGroup) -> None:
        self._wake.set()
        while True:
            try:
                async with asyncio.timeout(self._until_timer()):
                    await self._wake.wait()
            except TimeoutError:
                pass
            # What comes together is decided together; and a slow cycle leaves as much time to others as it took.
            await asyncio.sleep(max(self._settings().coalesce_seconds, min(self.progress.last_cycle_seconds, 1.0)))
            self._wake.clear()
            try:
                self._housekeep(client, group)
                self.turn(client, binder, evictor, group)
            except Exception as error:  # noqa: BLE001 - counted, told, and raised again if it does not end
                self._mend(error)
                await asyncio.sleep(self._faults.pause)
                continue
            self._faults.over()
            # Deciding is faster than binding: what is not decided yet can still be decided better.
            await binder.drained(below=_BACKLOG * self._settings().starts_per_cycle)
            await asyncio.sleep(0)

    def turn(self, client: Writer, binder: Binder, evictor: Evictor, group: asyncio.TaskGroup) -> None:
        """One cycle, and everything that follows from it."""
        if self._doubtful:
            self._rebuild()
        self.picture.offer_devices()
        most = self._settings().starts_per_cycle
        began = time.perf_counter()
        done = self.engine.cycle(self._clock(), most_starts=most)
        seconds = time.perf_counter() - began
        self.progress.cycles += 1
        self.progress.last_cycle_seconds = seconds
        self._metrics.cycle(seconds, starts=len(done.starts), evictions=len(done.evictions))
        if len(done.decisions) >= most:
            self._wake.set()
        else:
            self.progress.complete += 1
        for key, trouble in done.troubles:
            self._metrics.fault("unit")
            logs.event(
                _logger,
                "a unit cannot be decided about and is set aside",
                level=logging.ERROR,
                namespace=key[0],
                name=key[1],
                reason=trouble,
            )
        if done:
            self.progress.last_decision = self._clock()
            self._take_down(done, evictor, group)
        self._issue(client, binder, group)
        self._unmark(client, group)

    def _until_timer(self) -> float:
        release = self.ledger.next_release()
        return _HOUSEKEEPING if release is None else min(_HOUSEKEEPING, max(0.0, release - self._clock()))

    # --- taking decisions down ----------------------------------------------------------------------------------

    def _take_down(self, done: core.Round, evictor: Evictor, group: asyncio.TaskGroup) -> None:
        """Enter a round into the ledger, and set evictions going."""
        now = self._clock()
        claimants: dict[PodKey, list[Start]] = {}
        plans: dict[PodKey, list[Departure]] = {}
        starters = {decided.unit for decided in done.starts}
        for evict in done.evictions:
            start = self.ledger.starts.get(evict.pod)
            if start is not None and start.phase is Phase.WAITING:
                self._withdraw(start)  # it was never sent there: nobody need be asked
                continue
            pod = self.state.pods[evict.pod]
            departure = Departure(evict.pod, pod.spec.uid, evict.node, evict.claimant, evict.rule, now)
            departure.for_nobody = evict.claimant not in starters
            plans.setdefault(evict.claimant, []).append(departure)
            self.ledger.depart(departure)
            self.state.apply(ev.PodLeaving(evict.pod, evict.node))
        for decided in done.starts:
            if decided.phantom:
                continue  # room held for a member that does not exist yet: the core and the PodGroup's status keep it
            start = Start(decided.pod, self.state.pods[decided.pod].spec.uid, decided.node, decided.unit, now)
            self.ledger.open(start)
            if decided.unit in plans:
                claimants.setdefault(decided.unit, []).append(start)
        for claimant, victims in plans.items():
            self.ledger.undertakings[claimant].deadline = now + 2 * self._settings().eviction_seconds
            work = self._carry_out(evictor, claimant, claimants.get(claimant, []), victims)
            self._plans[claimant] = self._spawn(group, work, f"plan of {claimant}")

    async def _carry_out(
        self, evictor: Evictor, claimant: PodKey, starts: list[Start], victims: list[Departure]
    ) -> None:
        """Carry out one plan, to its end or until it is given up."""
        try:
            await evictor.carry_out(starts, victims, patience=self._settings().eviction_seconds)
        finally:
            self._plans.pop(claimant, None)
            for start in starts:  # the plan may have been given up while the mark was being made
                if start.nominated and self.ledger.starts.get(start.key) is not start:
                    self._mark_is_over(start)
            for departure in victims:
                if self.ledger.departures.get(departure.key) is departure and not departure.accepted:
                    self._keep(departure)

    def _assume(self, pod: Pod, node: str, *, unit: PodKey | None = None) -> Start:
        """Show a pod to the core on a node where nobody but us has put it yet."""
        start = Start(pod.key, pod.spec.uid, node, unit or pod.key, self._clock())
        self.ledger.open(start)
        self.state.apply(ev.PodSeen(replace(pod.spec, node=node)))
        return start

    # --- issuing ------------------------------------------------------------------------------------------------

    def _issue(self, client: Writer, binder: Binder, group: asyncio.TaskGroup) -> None:
        """Send the Bindings of every unit whose room is there."""
        for undertaking in self.ledger.waiting():
            waiting = [start for start in undertaking.starts if start.phase is Phase.WAITING]
            if undertaking.departures:
                continue
            if self._volumes_missing(waiting, client, group) or self._devices_missing(waiting, client, group):
                continue
            verdicts = [None] if self._cut_short(waiting) else [self._room(start) for start in waiting]
            if all(verdicts):
                for start in waiting:
                    start.phase = Phase.ISSUED
                binder.send(waiting)
            elif None in verdicts:
                self._metrics.forgotten("RoomTaken", len(waiting))
                for start in waiting:
                    self._forget(start)

    def _volumes_missing(self, waiting: list[Start], client: Writer, group: asyncio.TaskGroup) -> bool:
        """Whether volumes are still to be had for any of these pods; sees to it, or forgets who cannot have them."""
        missing = False
        for start in waiting:
            claims = unbound_claims(self.state, start)
            if not claims:
                continue
            missing = True
            undertaking = self.ledger.undertakings[start.unit]
            if undertaking.deadline is None:
                undertaking.deadline = self._clock() + self._settings().volume_seconds
            due = self._choices.due(claims, start.node)
            if due is None:
                self._metrics.forgotten("VolumeTaken", len(waiting))
                for each in waiting:
                    self._forget(each)
                return True
            for key, volume in due.items():
                self._spawn(group, self._choices.tell(client, key, start.node, volume), f"claim {key}")
        return missing

    def _devices_missing(self, waiting: list[Start], client: Writer, group: asyncio.TaskGroup) -> bool:
        """Whether devices are still to be given to claims of any of these pods; has them given."""
        missing = False
        for start in waiting:
            if not self._claims.missing(start):
                continue
            missing = True
            undertaking = self.ledger.undertakings[start.unit]
            if undertaking.deadline is None:
                undertaking.deadline = self._clock() + self._settings().volume_seconds
            try:
                orders = self._claims.orders(start)
            except DeviceError as error:
                now, first = self._clock(), self._settings().quarantine_seconds
                self.ledger.refuse(start.key, start.uid, str(error), now=now, first=first)
                self._give_up(undertaking, str(error))
                self.picture.reconsider(start.key)
                return True
            for order in orders:
                self._claims.begin(order)
                self._spawn(group, self._claims.carry_out(client, order), f"devices of {order.key}")
        return missing

    def _cut_short(self, waiting: list[Start]) -> bool:
        """Whether a gang has lost members since it was decided: then none of the rest is bound."""
        pod = self.state.pods.get(waiting[0].key)
        gang = pod.gang if pod is not None else None
        return gang is not None and gang.running + len(gang.phantoms) < gang.min_member

    def _room(self, start: Start) -> bool | None:
        """Whether a node has room for a start now: yes, not yet, or (None) not at all."""
        node = self.state.nodes.by_name.get(start.node)
        pod = self.state.pods.get(start.key)
        if node is None or pod is None or not node.usable:
            return None
        if self.state.nodes.stale or node.index < 0:
            return False  # the next cycle lays it out; then we look again
        free, index = self.state.nodes.free, node.index
        if all(free[column, index] >= 0 for column, _ in pod.klass.amounts):
            return True
        held = {column: int(free[column, index]) for column, _ in pod.klass.amounts}
        for other in self.ledger.starts.values():
            if other.node == start.node and other.phase is Phase.WAITING:
                for column, amount in self.state.pods[other.key].klass.amounts:
                    if column in held:
                        held[column] += amount
        if all(held[column] >= amount for column, amount in pod.klass.amounts):
            return True
        return False if any(each.spec.deleting for each in node.pods.values()) else None

    def _withdraw(self, start: Start) -> None:
        self.ledger.close(start)
        if start.nominated:
            self._mark_is_over(start)

    def _forget(self, start: Start) -> None:
        """A start comes to nothing: its pod waits again."""
        self._withdraw(start)
        departure = self.ledger.departures.get(start.key)
        if departure is not None and departure.uid == start.uid and not departure.accepted:
            self._evicted(departure, Fate.ABSENT, "its own Binding came to nothing")
            return
        pod = self.state.pods.get(start.key)
        if pod is None or pod.spec.uid != start.uid:
            return
        if pod.spec.node is not None and pod.node == start.node and not pod.spec.deleting:
            # It was shown to the core as if the API server said so.
            self.state.apply(ev.PodSeen(replace(pod.spec, node=None, gated=True)))
            self.picture.reconsider(start.key)
        else:
            self.state.apply(ev.StartForgotten(start.key))
        self._wake.set()

    # --- outcomes -----------------------------------------------------------------------------------------------

    def _bound(self, start: Start, outcome: Outcome, message: str, seconds: float) -> None:
        self._metrics.bound(outcome.value, seconds)
        if outcome is Outcome.BOUND:
            start.phase = Phase.BOUND
            return
        if self.ledger.starts.get(start.key) is not start:
            return  # the watch was faster, or its pod is gone
        if outcome is Outcome.DOUBTFUL:
            start.phase, start.doubt, start.since = Phase.BOUND, message, 0.0  # read at the next look
            return
        self._came_to_nothing(start, outcome, message)

    def _came_to_nothing(self, start: Start, outcome: Outcome, message: str) -> None:
        """A Binding was certainly not carried out: its pod waits, set aside for a while."""
        now, first = self._clock(), self._settings().quarantine_seconds
        if outcome is not Outcome.REFUSED:
            first = min(first, 1.0)
        self.ledger.refuse(start.key, start.uid, f"its binding came to nothing: {message}", now=now, first=first)
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
        self._forget(start)
        self.picture.reconsider(start.key)

    def _evicted(self, departure: Departure, fate: Fate, message: str) -> None:
        self._metrics.evicted(departure.rule, fate.value)
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
            self.progress.evictions[departure.rule] = self.progress.evictions.get(departure.rule, 0) + 1
            self.on_evicted(departure)
        elif fate is Fate.NEEDLESS:
            self._keep(departure)
        elif fate is Fate.ABSENT:
            self._absent(departure)
        elif fate is Fate.REFUSED:
            self._keep(departure)
            undertaking = self.ledger.undertakings.get(departure.claimant)
            if undertaking is not None:
                self._give_up(undertaking, message)

    def _keep(self, departure: Departure) -> None:
        """A pod that we wanted to evict stays."""
        if self.ledger.departures.get(departure.key) is not departure:
            return
        self.ledger.stay(departure)
        pod = self.state.pods.get(departure.key)
        if pod is not None and pod.spec.uid == departure.uid and pod.leaving:
            self.state.apply(ev.PodSeen(replace(pod.spec, deleting=False)))
        self._wake.set()

    def _absent(self, departure: Departure) -> None:
        """A pod that we wanted to evict never came to its node: it waits, and its room is free."""
        if self.ledger.departures.get(departure.key) is not departure:
            return
        self.ledger.stay(departure)
        pod = self.state.pods.get(departure.key)
        if pod is not None and pod.spec.uid == departure.uid and pod.leaving:
            self.state.apply(ev.PodSeen(replace(pod.spec, node=None, deleting=False)))
            self.picture.reconsider(departure.key)
        self._wake.set()

    def _prospect(self, departure: Departure) -> Fate | Prospect:
        """What there is to do about an eviction now."""
        if not self.ledger.is_wanted(departure):
            return Fate.NEEDLESS
        if self.ledger.node_of(departure.key, departure.uid) is not None:
            return Prospect.LATER
        return Prospect.ASK if departure.key in self.picture.seats else Fate.ABSENT

    def _give_up(self, undertaking: Undertaking, why: str) -> None:
        """A plan fails: its claimant waits again; victims that were not asked yet stay."""
        logs.event(_logger, "a plan is given up", claimant="/".join(undertaking.unit), reason=why)
        for start in [*undertaking.starts]:
            if start.phase is Phase.WAITING:
                self._forget(start)
        self.ledger.dissolve(undertaking)
        for key in undertaking.departures:
            departure = self.ledger.departures.get(key)
            if departure is not None and not departure.accepted:
                self._keep(departure)

    def _abandoned(self, start: Start, message: str) -> None:
        undertaking = self.ledger.undertakings.get(start.unit)
        if undertaking is not None:
            self._give_up(undertaking, message)

    # --- housekeeping -------------------------------------------------------------------------------------------

    def _housekeep(self, client: Writer, group: asyncio.TaskGroup) -> None:
        """What time alone brings about; looked at once a second."""
        now = self._clock()
        for key in self.ledger.releasable(now):
            self.picture.reconsider(key)
        if 0 <= now - self._housekept < _HOUSEKEEPING * _BUSY:
            return
        self._housekept = now
        self._release_orphans(now)
        longest = max(2 * self._settings().eviction_seconds, self._settings().volume_seconds)
        for undertaking in [*self.ledger.undertakings.values()]:
            if undertaking.deadline is not None:  # the clock may have been set back
                undertaking.deadline = min(undertaking.deadline, now + longest)
            if undertaking.deadline is not None and undertaking.deadline <= now and undertaking.waits:
                self._give_up(undertaking, "the room did not become free in time")
        late = now - self._settings().confirm_seconds
        for start in [*self.ledger.starts.values()]:
            start.since = min(start.since, now)
            if start.phase is Phase.BOUND and start.since < late:
                start.since = now
                self._spawn(group, self._confirm(client, start), f"confirm {start.key}")

    def _release_orphans(self, now: float) -> None:
        if not self.picture.waits_for_jobs:
            self._orphans_since = None
        elif self._orphans_since is None:
            self._orphans_since = now
        elif now - self._orphans_since > _ORPHANS_AFTER:
            self.picture.adopt_orphans()
            self._orphans_since = None

    async def _confirm(self, client: Writer, start: Start) -> None:
        """Read a pod whose Binding was accepted and never came back, or of which nobody knows."""
        namespace, name = start.key
        try:
            pod = await client.get(PODS, name, namespace=namespace)
        except NotFoundError:
            pod = None
        except LeadershipLostError:
            raise
        except KubernetesError as error:
            _logger.warning("%s/%s cannot be read: %s", namespace, name, error)
            return
        if self.ledger.starts.get(start.key) is not start:
            return
        if pod is None or pod.metadata.uid != start.uid or not pod.spec.node_name:
            if start.doubt:
                self._came_to_nothing(start, Outcome.DOUBTFUL, start.doubt)
            else:
                self._forget(start)

    # --- marks --------------------------------------------------------------------------------------------------

    def _mark_is_over(self, start: Start) -> None:
        pod = self.state.pods.get(start.key)
        if pod is not None and pod.spec.uid == start.uid:
            self._marked[start.key] = start.uid

    def _unmark(self, client: Writer, group: asyncio.TaskGroup) -> None:
        """Take the marks of plans that were given up off their pods: a successor would hold room by them."""
        for key, uid in self._marked.items():
            start = self.ledger.starts.get(key)
            if start is None or start.uid != uid:  # otherwise it has a place again, and no harm is in the mark
                self._spawn(group, succession.unmark(client, key, uid), f"mark of {key}")
        self._marked.clear()

    # --- faults of ours -----------------------------------------------------------------------------------------

    def _spawn(self, group: asyncio.TaskGroup, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run something beside the turns; a fault in it is told and ends nothing else."""

        async def run() -> None:
            try:
                await work
            except LeadershipLostError:
                raise
            except Exception:
                self._metrics.fault("task")
                _logger.exception("%s failed", name)
                self._wake.set()

        return group.create_task(run(), name=name)

    def _doubt(self) -> None:
        """Taking something in failed: the state may be half changed."""
        self._metrics.fault("picture")
        self._doubtful = True
        self._wake.set()

    def _mend(self, error: Exception) -> None:
        """A turn failed: begin with a new state, without the unit that it failed over.

        Raises:
            Exception: `error`, if turns keep failing.
        """
        self._metrics.fault("cycle")
        suspects = recovery.suspect(error)
        _logger.error("a cycle failed; the state is built anew", exc_info=error)
        self._faults.happened(error)
        self._rebuild()
        now, first = self._clock(), self._settings().quarantine_seconds
        for pod in suspects:
            said = f"deciding about it failed, which is a fault of the scheduler: {type(error).__name__}: {error}"
            seconds = self.ledger.refuse(pod.key, pod.spec.uid, said, now=now, first=first)
            self.picture.reconsider(pod.key)
            namespace, name = pod.key
            logs.event(
                _logger, "a pod is set aside", level=logging.ERROR, namespace=namespace, name=name, seconds=seconds
            )
        self._wake.set()

    def _rebuild(self) -> None:
        """Replace the state and the engine by new ones that know the same."""
        self._doubtful = False
        old, broken = self.engine, self.state
        self.state = recovery.rebuilt(broken, self.ledger, self.picture.seats)
        self.engine = Engine(self.state, self._settings().core)
        self.engine.brakes.backoffs, self.engine.brakes.windows = old.brakes.backoffs, old.brakes.windows
        self.engine.holds.holds = old.holds.holds
        self.picture.state = self.state
        self._choices = Choices(self.state)
        self.state.settle()
        for key, gang in broken.gangs.items():
            rooms = [(succession.member_of(room), room.node or "") for room in gang.phantoms]
            succession.hold_rooms(self.state, key, rooms, since=gang.held_since)
        for departure in [*self.ledger.departures.values()]:
            if not departure.accepted and departure.claimant not in self._plans:
                self._keep(departure)  # it was decided in the turn that failed, and nobody carries it out

    # --- taking over --------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Go on from what a predecessor left: eviction budgets, back-offs, and room held by nominated nodes."""
        self.picture.offer_devices()
        self.state.settle()
        succession.remember_evictions(self.engine.brakes, self.picture.evictions)
        succession.remember_rooms(self.state, self.picture.groups(), now=self._clock())
        heirs = [pod for pod in self.state.waiting() if pod.spec.nominated and pod.key not in self.ledger.starts]
        seated = succession.seats(self.engine, heirs)
        for unit, pods in seated.items():
            for pod in pods:
                start = self._assume(pod, pod.spec.nominated or "", unit=unit)
                start.nominated = True
                logs.event(_logger, "room is held as before", namespace=pod.key[0], name=pod.key[1], node=start.node)
            self.ledger.undertakings[unit].deadline = self._clock() + 2 * self._settings().eviction_seconds
        for pod in heirs:
            if pod.key not in self.ledger.starts:
                self._marked[pod.key] = pod.spec.uid


def tame_collector() -> None:
    """Call after the first lists: what is there now stays, and need not be looked at by the collector again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
