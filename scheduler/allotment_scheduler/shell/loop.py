"""The loop: decides when something has happened, and carries out what was decided.

    watches ──► picture ──► core state ──► cycle ──► plans ──► issuing, evictor ──► binder ──► API server
                   ▲                                   ▲                                          │
                   └───────── watch events ────────────┴────────────── outcomes ◄─────────────────┘

Everything here runs on one event loop and never waits inside a turn, so a turn sees one state. A turn is bounded by
the number of pods it starts; after it, watches, renewals of the Lease and answers get their turn. Cycles are at least
as far apart as the last one was long, so that deciding never takes more than half of the processor.

A fault of ours, wherever it happens, costs at most what it happened to: the state is built anew (`recovery`), the unit
in question set aside, and everybody else goes on.
"""

import asyncio
import gc
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from allotment_kube.program import logs
from allotment_scheduler.core import decisions as core
from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.shell import recovery
from allotment_scheduler.shell.binder import Binder, BindingClient, Outcome, jitter_with
from allotment_scheduler.shell.errands import Errands
from allotment_scheduler.shell.evictor import EvictionClient, Evictor
from allotment_scheduler.shell.housekeeping import PERIOD, Housekeeping
from allotment_scheduler.shell.issuing import Issuing
from allotment_scheduler.shell.knowledge import Knowledge
from allotment_scheduler.shell.ledger import Departure, Ledger, Phase, Start
from allotment_scheduler.shell.metrics import Metrics
from allotment_scheduler.shell.outcomes import Outcomes
from allotment_scheduler.shell.picture import Picture
from allotment_scheduler.shell.plans import Plans
from allotment_scheduler.shell.settings import Settings
from allotment_scheduler.shell.takeover import take_over

_logger = logging.getLogger(__name__)
_BACKLOG: Final = 4
"""Cycles' worth of Bindings that may wait for a connection before deciding pauses."""


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
    """How long nobody else had a turn: the cycle, and what it led to."""
    evictions: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Reign:
    """What there is for as long as we lead."""

    client: Writer
    binder: Binder
    evictor: Evictor
    errands: Errands


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
        self._known = Knowledge(settings, metrics, clock=clock)
        self._outcomes = Outcomes(self._known)
        self._plans = Plans(self._known, self._outcomes)
        self._issuing = Issuing(self._known, self._outcomes)
        self._housekeeping = Housekeeping(self._known, self._outcomes)
        self.progress = Progress(evictions=self._outcomes.evictions)
        self._faults = recovery.Faults()
        self._rebuilt = False
        """Whether the state was built anew since all went well."""

    @property
    def state(self) -> ClusterState:
        """The core's state, as it is now."""
        return self._known.state

    @property
    def engine(self) -> Engine:
        """The core's engine, as it is now."""
        return self._known.engine

    @property
    def ledger(self) -> Ledger:
        """What is decided and the API server does not show yet."""
        return self._known.ledger

    @property
    def picture(self) -> Picture:
        """What the watches tell."""
        return self._known.picture

    def configure(self) -> None:
        """New settings are in force."""
        self._known.configure()

    def tell_of_evictions(self, listener: Callable[[Departure], None]) -> None:
        """Tell somebody of every eviction that the API server accepts."""
        self._outcomes.on_evicted = listener

    async def stay_warm(self) -> None:
        """Keep the state in order while somebody else leads, until cancelled."""
        while True:
            await asyncio.sleep(PERIOD)
            if not self.progress.leading:
                try:
                    if self._known.doubtful:
                        self._rebuild()
                    self.picture.hardware.offer()
                    self.state.settle()
                    # A gang that has run to its end begins anew: its next run must not find members done.
                    self.state.apply(ev.TimePassed(self._clock()))
                except Exception as error:  # noqa: BLE001 - counted, told, and raised again if it does not end
                    self._mend(error)
                    await asyncio.sleep(self._faults.pause)
                else:
                    self._went_well()
                self.state.departed.clear()  # who leads holds their room

    # --- leading ------------------------------------------------------------------------------------------------

    async def lead(self, client: Writer) -> None:
        """Decide and carry out until cancelled.

        Raises:
            LeadershipLostError: a write was refused because the Lease is lost.
        """
        settings, outcomes = self._settings(), self._outcomes
        binder = Binder(
            client,
            connections=max(1, settings.connections - 16),
            report=self._bound,
            jitter=jitter_with(self._rng),
        )
        evictor = Evictor(
            client,
            report=outcomes.evicted,
            abandon=outcomes.abandoned,
            prospect=outcomes.prospect,
            grace=outcomes.grace,
        )
        take_over(self._known, outcomes)
        self.progress.leading = True
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(binder.run(), name="binder")
                reign = _Reign(client, binder, evictor, Errands(group, self._errand_failed))
                group.create_task(self._turns(reign), name="turns")
        finally:
            self.progress.leading = False

    async def _turns(self, reign: _Reign) -> None:
        woken, clock = self._known.woken, asyncio.get_running_loop().time
        woken.set()
        rested = clock()
        while True:
            try:
                async with asyncio.timeout(self._housekeeping.until_next()):
                    await woken.wait()
            except TimeoutError:
                pass
            # Who comes after a pause is decided about at once, and what comes soon after that is decided together.
            await asyncio.sleep(max(0.0, rested - clock()))
            woken.clear()
            try:
                self._turn(reign)
            except Exception as error:  # noqa: BLE001 - counted, told, and raised again if it does not end
                self._mend(error)
                await asyncio.sleep(self._faults.pause)
                continue
            self._went_well()
            # A slow cycle leaves as much time to others as it took.
            rested = clock() + max(self._settings().coalesce_seconds, min(self.progress.last_cycle_seconds, 1.0))
            # Deciding is faster than binding: what is not decided yet can still be decided better.
            await reign.binder.drained(below=_BACKLOG * self._settings().starts_per_cycle)
            await asyncio.sleep(0)

    def _turn(self, reign: _Reign) -> None:
        """One cycle, with everything that comes before it and follows from it."""
        began = time.perf_counter()
        self._housekeeping.look(reign.client, reign.errands)
        if self._known.doubtful:
            self._rebuild()
        self.picture.hardware.offer()
        done = self._decide()
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
            self._plans.take_down(done, reign.evictor, reign.errands)
        self._issuing.issue(reign.client, reign.binder, reign.errands)
        self._outcomes.unmark(reign.client, reign.errands)
        self.progress.last_cycle_seconds = seconds = time.perf_counter() - began
        self._metrics.cycle(seconds, starts=len(done.starts), evictions=len(done.evictions))

    def _decide(self) -> core.Round:
        most = self._settings().starts_per_cycle
        done = self.engine.cycle(self._clock(), most_decisions=most)
        self.progress.cycles += 1
        if len(done.decisions) >= most or done.cut_short:
            self._known.wake()
        else:
            self.progress.complete += 1
        return done

    # --- faults of ours -----------------------------------------------------------------------------------------

    def _errand_failed(self) -> None:
        self._metrics.fault("task")
        self._known.doubt()

    def _bound(self, start: Start, outcome: Outcome, message: str, seconds: float) -> None:
        """A Binding has been answered; a fault of ours over one of them ends nothing else."""
        try:
            self._outcomes.bound(start, outcome, message, seconds)
        except Exception as error:
            _logger.exception("what became of the Binding of %s/%s cannot be taken in", *start.key)
            # It counts until it has been read.
            start.phase, start.doubt, start.since = Phase.BOUND, f"a fault of the scheduler: {error}", self._clock()
            self._errand_failed()

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
        self._known.wake()

    def _rebuild(self) -> None:
        self._known.rebuild()
        self._plans.abandon_strays()
        self._rebuilt = True

    def _went_well(self) -> None:
        """A turn is over without a fault: what earlier ones have left behind is let go of."""
        self._faults.over()
        if self._rebuilt:
            self._rebuilt = False
            if gc.get_freeze_count():  # the state that was replaced is frozen, the new one is not
                gc.unfreeze()
                tame_collector()


def tame_collector() -> None:
    """Call when the state is whole: what is there now stays, and need not be looked at by the collector again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
