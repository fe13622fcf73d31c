"""What the scheduler knows and has decided, shared by the parts of its loop.

One state of the core, the engine that decides over it, the ledger of what was decided and the API server does not show
yet, and the picture that the watches feed. State and engine are replaced when they can be trusted no more; ledger and
picture never are. So nobody keeps the state or the engine for longer than a turn.

Everything here is used on one event loop; whoever changes something that may let somebody start wakes the loop.
"""

import asyncio
from collections.abc import Callable

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.objects.units import member_of
from allotment_scheduler.core.placement.holds import Hold
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.shell import recovery, succession
from allotment_scheduler.shell.ledger import Ledger, Start
from allotment_scheduler.shell.metrics import Metrics
from allotment_scheduler.shell.picture import Picture
from allotment_scheduler.shell.settings import Settings


class Knowledge:
    """State, engine, ledger and picture.

    Args:
        settings: those in force.
        metrics: told of faults.
        clock: seconds since the epoch.
    """

    def __init__(self, settings: Callable[[], Settings], metrics: Metrics, *, clock: Callable[[], float]) -> None:
        self.settings = settings
        self.metrics = metrics
        self.clock = clock
        self.state = ClusterState(share_policy=settings().share_policy)
        self.engine = Engine(self.state, settings().core)
        self.ledger = Ledger()
        self.ledger.on_bound = self._on_bound
        self.woken = asyncio.Event()
        """Set when a turn may find something to do."""
        self.picture = Picture(self.state, self.ledger, self.woken.set, self.doubt, lambda: metrics.fault("picture"))
        self.doubtful = False
        """Whether something failed that may have left the state half changed."""

    def wake(self) -> None:
        """Something has happened that may let somebody start."""
        self.woken.set()

    def configure(self) -> None:
        """New settings are in force."""
        engine, core = self.engine, self.settings().core
        for part in (engine, engine.brakes, engine.leaving, engine.holds, engine.reservations, engine.quarantine):
            part.settings = core
        self.wake()

    def rebuild(self) -> None:
        """Replace the state and the engine by new ones that know the same."""
        self.doubtful = False
        old, broken = self.engine, self.state
        self.state = recovery.rebuilt(broken, self.ledger, self.picture.seats)
        self.engine = Engine(self.state, self.settings().core)
        self.engine.brakes.backoffs, self.engine.brakes.windows = old.brakes.backoffs, old.brakes.windows
        self._keep_seats(old, broken)
        kept, before = self.engine.reservations, old.reservations
        kept.by_unit, kept.misfits = before.by_unit, before.misfits
        self.picture.state = self.state
        self.state.settle()
        for key, gang in broken.gangs.items():
            rooms = [(member_of(room), room.node or "") for room in gang.phantoms]
            succession.hold_rooms(self.state, key, rooms, since=gang.held_since)

    def _keep_seats(self, old: Engine, broken: ClusterState) -> None:
        """Go on holding room for successors, also of pods that have just gone: for as long as their Jobs exist."""
        keepers: list[Hold | Pod] = [*old.holds.holds, *(pod for pod, _ in broken.departed)]
        for keeper in keepers:
            if keeper.gang is not None:
                keeper.gang = self.state.gangs.get(keeper.gang.key, keeper.gang)
        self.engine.holds.holds, self.state.departed = old.holds.holds, broken.departed

    def _on_bound(self, start: Start) -> None:
        pod = self.state.pods.get(start.key)
        if pod is not None and pod.spec.uid == start.uid:
            self.metrics.started(self.clock() - pod.spec.created)

    def doubt(self) -> None:
        """Something failed that may have left the state half changed: it is built anew before the next cycle."""
        self.doubtful = True
        self.wake()
