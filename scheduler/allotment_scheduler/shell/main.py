"""`allotment-scheduler`: reads its settings, builds its picture, waits for its Lease, decides until told to stop.

Exit codes: 0 stopped as asked; 1 the Lease was lost or a part failed (start it again); 2 the settings or the
credentials cannot be used (change them first).
"""

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import uvloop

from allotment_kube.client import Client
from allotment_kube.configuration import Configuration, load_configuration
from allotment_kube.errors import ConfigurationError, LeadershipLostError
from allotment_kube.lease import Lease, unique_identity
from allotment_kube.program import logs
from allotment_kube.program.reign import install_signals, lease_times, reign_until
from allotment_kube.program.server import Readiness, serving
from allotment_kube.program.settings import SettingsError, Sources
from allotment_kube.retries import NEVER_REPEAT
from allotment_scheduler.shell.announcer import Announcer
from allotment_scheduler.shell.api import Api, utc_now
from allotment_scheduler.shell.api_access import Access
from allotment_scheduler.shell.api_callers import Callers
from allotment_scheduler.shell.api_certificate import Certificate, server_name
from allotment_scheduler.shell.api_pace import Pace
from allotment_scheduler.shell.api_views import Views
from allotment_scheduler.shell.loop import Scheduler, tame_collector
from allotment_scheduler.shell.metrics import Metrics
from allotment_scheduler.shell.reporter import Reporter
from allotment_scheduler.shell.settings import Settings, fixed_changes, in_force, sources_of
from allotment_scheduler.shell.statuses import Statuses
from allotment_scheduler.shell.watches import Watches

_logger = logging.getLogger(__name__)
LEASE: Final = "allotment-scheduler"
_LOOK_AT_SETTINGS: Final = 2.0
_AFTER_FAULT: Final = 5.0
_ASK_SECONDS: Final = 5.0


class LiveSettings:
    """The settings in force. A wrong new version is refused and the last good one stays."""

    def __init__(self, sources: Sources[Settings], metrics: Metrics) -> None:
        self._sources = sources
        self._metrics = metrics
        self._current = sources.read()
        self._seen = self._stamp()
        self.changed: Callable[[], None] = lambda: None
        """Called when new settings are in force."""

    def __call__(self) -> Settings:
        """The settings in force."""
        return self._current

    def look(self) -> None:
        """Read the file again if it has changed."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            read = self._sources.read()
        except SettingsError as error:
            self._metrics.settings_good.set(0)
            _logger.error("the last good settings stay in force: %s", error)  # noqa: TRY400 - no fault of ours
            return
        self._metrics.settings_good.set(1)
        later = fixed_changes(self._current, read)
        self._current = in_force(self._current, read)
        logging.getLogger().setLevel(read.log_level.upper())
        self.changed()
        logs.event(_logger, "new settings are in force", after_restart=", ".join(later) or None)

    async def run(self) -> None:
        """Look from time to time until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_AT_SETTINGS)
            self.look()

    def _stamp(self) -> tuple[int, int] | None:
        if self._sources.file is None:
            return None
        try:
            found = self._sources.file.stat()
        except OSError:
            return (0, 0)
        return (found.st_mtime_ns, found.st_ino)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    try:
        sources = sources_of(sys.argv[1:] if arguments is None else arguments)
        metrics = Metrics()
        live = LiveSettings(sources, metrics)
        logs.configure(live().log_level, live().log_format)
        configuration = load_configuration(live().kubeconfig)
    except (SettingsError, ConfigurationError) as error:
        print(f"allotment-scheduler: {error}", file=sys.stderr)  # noqa: T201 - logging may not be set up
        return 2
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(live, metrics, configuration))
    except LeadershipLostError as error:
        _logger.error("the Lease is lost, another scheduler may be at work: %s", error)  # noqa: TRY400 - no fault
        return 1
    except Exception:
        _logger.exception("a part of the scheduler failed; it must be started afresh")
        return 1
    return 0


async def run(live: LiveSettings, metrics: Metrics, configuration: Configuration) -> None:
    """Build the picture, wait for the Lease, decide while it is held.

    Raises:
        LeadershipLostError: the Lease was lost.
        Exception: a part failed.
    """
    settings, stop = live(), asyncio.Event()
    install_signals(stop)
    identity = unique_identity(settings.identity)
    scheduler = Scheduler(live, metrics)
    live.changed = scheduler.configure
    async with Client.connect(
        configuration, user_agent="allotment-scheduler", connections=settings.connections + 24, observer=metrics
    ) as client:
        program = Program(scheduler, client, live, metrics, identity)
        times = lease_times(settings.lease_seconds)
        lease = Lease(client, LEASE, namespace=settings.namespace, identity=identity, settings=times)
        async with serving(
            settings.http_host,
            settings.http_port,
            readiness=program.readiness,
            scrape=program.scrape,
            pages={"/statusz": program.status},
        ) as port:
            logs.event(_logger, "started", port=port, server=configuration.server, identity=identity)
            await program.run(stop, lease)


class Program:
    """The parts put together: what runs always, and what runs while the Lease is held."""

    def __init__(
        self, scheduler: Scheduler, client: Client, live: LiveSettings, metrics: Metrics, identity: str
    ) -> None:
        self.readiness = Readiness()
        self._scheduler = scheduler
        self._client = client
        self._live = live
        self._metrics = metrics
        self._identity = identity
        self._began = asyncio.get_running_loop().time()
        self._watches = Watches(client, scheduler.picture, self.readiness)
        self._reporter = Reporter(
            scheduler, live, now=time.time, publish=metrics.waiting, failed=lambda: metrics.fault("report")
        )
        self._statuses = Statuses(
            scheduler, live, now=time.time, publish=metrics.tenants, failed=lambda: metrics.fault("status")
        )
        self._announcer = Announcer(instance=identity, now=time.time)
        scheduler.tell_of_evictions(self._announcer.evicted)
        self._api = self._api_of(live()) if live().api_port >= 0 else None
        metrics.gauges(
            starts_under_way=lambda: len(scheduler.ledger.starts),
            quarantined_pods=lambda: scheduler.ledger.in_quarantine,
            pods=lambda: len(scheduler.state.pods),
            nodes=lambda: len(scheduler.state.nodes.by_name),
            events_dropped_total=lambda: self._announcer.dropped,
            starts_confirmed_total=lambda: scheduler.ledger.bound,
        )

    def _api_of(self, settings: Settings) -> Api:
        client = self._client.patiently(timeout=_ASK_SECONDS)
        certificate = Certificate(client, namespace=settings.namespace, given=settings.api_certificate, now=utc_now)
        pace = Pace(time.monotonic)
        # A free port is a developer's: then the API is at this machine, and at its Service otherwise.
        host = server_name(settings.namespace) if settings.api_port else "127.0.0.1"
        return Api(
            Views(self._scheduler, self._reporter, clock=time.monotonic, pace=pace),
            Access(client, clock=time.monotonic),
            certificate,
            Callers(client),
            host=settings.http_host,
            port=settings.api_port,
            url=lambda port: f"https://{host}:{port}",
            pace=pace,
            observe=self._metrics.served,
        )

    async def run(self, stop: asyncio.Event, lease: Lease) -> None:
        """Work until told to stop, or until a part fails."""
        always = asyncio.create_task(self._always(lease), name="picture")
        reigning = asyncio.create_task(self._reign(stop, lease), name="reign")
        try:
            await asyncio.wait({always, reigning}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reigning, always):
                task.cancel()
                await asyncio.wait({task})
        for task in (always, reigning):
            if not task.cancelled():
                task.result()

    async def _always(self, lease: Lease) -> None:
        await lease.look()  # before anything is listed
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watches.run(), name="watches")
            group.create_task(self._live.run(), name="settings")
            if self._api is not None:
                group.create_task(self._api.run(), name="api")
            await self._watches.synced()
            tame_collector()
            group.create_task(self._scheduler.stay_warm(), name="warm")
            state = self._scheduler.state
            logs.event(_logger, "the picture is complete", pods=len(state.pods), nodes=len(state.nodes.by_name))

    async def _reign(self, stop: asyncio.Event, lease: Lease) -> None:
        # Without a picture there is nothing to decide: who has one may lead meanwhile.
        ready, stopping = asyncio.create_task(self._watches.synced()), asyncio.create_task(stop.wait())
        await asyncio.wait({ready, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (ready, stopping):
            task.cancel()
        if stop.is_set():
            return
        client = self._client.guarded(lease)

        async def lead() -> None:
            if not lease.unheld:
                await self._watches.caught_up()
            self._metrics.leader.set(1)
            logs.event(_logger, "leading", identity=self._identity)
            try:
                async with asyncio.TaskGroup() as group:
                    # Whether a write is still wanted is asked before each attempt: its sender repeats it by itself.
                    deciding = self._scheduler.lead(client.patiently(retries=NEVER_REPEAT))
                    group.create_task(deciding, name="scheduler")
                    for name, part in (
                        ("reporter", self._reporter.run),
                        ("statuses", self._statuses.run),
                        ("announcer", self._announcer.run),
                    ):
                        group.create_task(_persistently(name, part, client), name=name)
            except* LeadershipLostError as lost:
                raise LeadershipLostError("a write was refused: the Lease is lost") from lost
            finally:
                self._metrics.leader.set(0)

        await reign_until(stop, lease, lead, grace=0.0)

    def scrape(self) -> bytes:
        """All metrics."""
        now = asyncio.get_running_loop().time()
        self._metrics.forget_watches()
        for kind, found in self._watches.statistics():
            self._metrics.watch(
                kind,
                events=found.events,
                relists=found.relists,
                silence=now - (found.last_heard or self._began),
                undecodable=found.unread,
            )
        return self._metrics.text()

    def status(self) -> dict[str, Any]:
        """What /statusz says."""
        scheduler = self._scheduler
        progress, ledger = scheduler.progress, scheduler.ledger
        return {
            "identity": self._identity,
            "leading": progress.leading,
            "apiPort": self._api.port if self._api is not None else None,
            "missing": list(self.readiness.missing),
            "without": list(self.readiness.without),
            "cycles": progress.cycles,
            "lastCycleSeconds": round(progress.last_cycle_seconds, 6),
            "nodes": len(scheduler.state.nodes.by_name),
            "pods": len(scheduler.state.pods),
            "startsUnderWay": len(ledger.starts),
            "departures": len(ledger.departures),
            "quarantined": ledger.in_quarantine,
            "problems": [
                {"kind": found.kind, "name": "/".join(found.key).strip("/"), "message": found.message}
                for found in scheduler.picture.problems.values()
            ],
            "watches": {
                kind: {"events": found.events, "lists": found.lists, "failures": found.failures}
                for kind, found in self._watches.statistics()
            },
        }


async def _persistently(name: str, part: Callable[[Client], Awaitable[None]], client: Client) -> None:
    """Keep a part going that only tells: a fault in telling must not keep pods from starting."""
    while True:
        try:
            await part(client)
        except LeadershipLostError:
            raise
        except Exception:
            _logger.exception("the %s failed; it goes on", name)
            await asyncio.sleep(_AFTER_FAULT)


if __name__ == "__main__":
    sys.exit(main())
