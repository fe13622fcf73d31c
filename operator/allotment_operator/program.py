"""The operator put together: which part talks to which, and what runs while the Lease is held.

reflectors ──► register (tenants, pools, namespaces) ──┐
child watches ──► queue ◄── census ◄── kopf's events    ├──► engine ──► API server
                    └──► workers ───────────────────────┘
"""

import asyncio
import datetime as dt
import logging
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import kopf

from allotment_api.labels import FINALIZER
from allotment_kube.client import Client
from allotment_kube.configuration import Configuration
from allotment_kube.program.reign import install_signals
from allotment_kube.program.server import Readiness
from allotment_operator.api_server import ApiServer
from allotment_operator.audit import AuditLog
from allotment_operator.census import Census
from allotment_operator.drift import DriftWatches
from allotment_operator.events import Recorder
from allotment_operator.handlers import Handlers, kopf_settings
from allotment_operator.kind import Key, Kind
from allotment_operator.kinds import by_name, service_kinds
from allotment_operator.login import login_with
from allotment_operator.metrics import Metrics
from allotment_operator.reconcile.engine import Engine, Ports
from allotment_operator.reconcile.executor import Executor
from allotment_operator.reconcile.observer import Observer
from allotment_operator.reconcile.queue import WorkQueue
from allotment_operator.reconcile.status import StatusWriter
from allotment_operator.settings import Settings
from allotment_operator.surroundings import Surroundings
from allotment_operator.tenancy.estate import SERVICE_KINDS, ServiceFacts
from allotment_operator.tenancy.kind import TenantKind
from allotment_operator.tenancy.network import NameServers
from allotment_operator.tenancy.register import Register
from allotment_operator.tenancy.vacancy import Vacancy
from allotment_operator.watches import ChildWatches, Nodes
from allotment_operator.workers import Workers

_logger = logging.getLogger(__name__)


def now() -> dt.datetime:
    """Return the present time, with zone."""
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True, slots=True)
class Foundations:
    """What outlives one reign: it is there while the program waits for the Lease, too."""

    settings: Settings
    configuration: Configuration
    metrics: Metrics
    readiness: Readiness
    queue: WorkQueue[Key]


class Operator:
    """One reign: from taking the Lease to losing it.

    Args:
        client: guarded by the Lease, so that a deposed operator writes nothing.
        base: settings, metrics, readiness, queue.
        identity: who we are, in Events.
    """

    def __init__(self, client: Client, base: Foundations, *, identity: str) -> None:
        self._base = base
        self._client = client
        self._identity = identity
        settings = base.settings
        self._register = Register(
            client,
            namespace=settings.namespace,
            dns=NameServers(settings.dns_namespace, settings.dns_port),
            services=self._services,
            turnover=lambda: self.engine.turnover,
            changed=self._tenants_changed,
        )
        self._nodes = Nodes(client)
        self._api_server = ApiServer(client, changed=self._api_server_moved)
        surroundings = Surroundings(
            client,
            settings.namespace,
            self._nodes.simulated,
            now,
            api_server=self._api_server.places,
            resources=self._seen,
            allow_loopback_controllers=settings.allow_loopback_controllers,
        )
        tenants = TenantKind(self._register.estate, Vacancy(client))
        self.kinds: dict[str, Kind[Any]] = by_name([tenants, *service_kinds(surroundings)])
        self._events = Recorder(client, instance=identity, clock=now)
        self.engine = Engine(
            self.kinds,
            Ports(
                client=client,
                executor=Executor(client, clock=now, audit=AuditLog(base.metrics)),
                observer=Observer(client, namespace=settings.namespace),
                statuses=StatusWriter(client),
                tenants=self._register,
                allowances=self._register,
                clock=now,
                events=self._events,
                resync_seconds=settings.resync_seconds,
                probe_seconds=settings.probe_seconds,
                finalizer=FINALIZER,
            ),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop, or until a part fails: then the program must be started afresh."""
        settings, readiness = self._base.settings, self._base.readiness
        for name in ("tenants", "nodes", "census", "children", "watches"):
            readiness.await_(name)
        queue = self._base.queue
        children = ChildWatches(self._client, queue, known=self.engine.knows)
        walls = DriftWatches(self._client, queue, known=self.engine.knows)
        census = Census(self._client, self.engine, queue, kinds=self.kinds)
        workers = Workers(self.engine, queue, metrics=self._base.metrics, rng=random.Random())  # noqa: S311 - jitter
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._register.run(), name="register"),
                group.create_task(self._nodes.run(), name="nodes"),
                group.create_task(self._api_server.run(), name="API server"),
                group.create_task(self._events.run(), name="events"),
            ]
            await self._register.synced()
            readiness.done("tenants")
            await self._nodes.synced()
            await self._api_server.synced()
            readiness.done("nodes")
            found = await census.take()
            readiness.done("census")
            _logger.info("at work: %s resources of %s kinds", found, len(self.kinds))
            tasks += [
                group.create_task(children.run(), name="children"),
                group.create_task(walls.run(), name="walls"),
                group.create_task(census.run(settings.resync_seconds), name="census"),
                group.create_task(workers.run(settings.workers), name="workers"),
            ]
            # kopf ends every task that began after it: ours must have begun, their own tasks too.
            await children.synced()
            await walls.synced()
            readiness.done("children")
            try:
                await self._kopf(stop)
            finally:
                for task in tasks:
                    task.cancel()

    def publish(self) -> None:
        """Bring the metrics of resources up to date."""
        self._base.metrics.census(self._readiness_of_resources())

    async def _kopf(self, stop: asyncio.Event) -> None:
        handlers = Handlers(
            self.engine, self._base.queue, concurrency=self._base.settings.workers, changed=self._resource_changed
        )
        registry = handlers.register(
            (kind.model.definition for kind in self.kinds.values()), login=login_with(self._base.configuration)
        )
        ready = asyncio.Event()
        before = asyncio.all_tasks()
        tasks = await kopf.spawn_tasks(
            registry=registry,
            settings=kopf_settings(),
            standalone=True,
            clusterwide=True,
            # Otherwise kopf asks for the user's name, which an arbitrary uid in a container does not have.
            identity=self._identity,  # type: ignore[arg-type] # kopf exports no way to make its NewType
            stop_flag=stop,
            ready_flag=ready,
        )
        install_signals(stop)  # kopf has just put its own in their place
        self._base.readiness.done("watches")
        await kopf.run_tasks(tasks, ignored=before)

    def _seen(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        return self.engine.resources(kind, namespace)

    def _services(self) -> Iterator[ServiceFacts]:
        for kind in SERVICE_KINDS:
            for manifest in self.engine.resources(kind):
                metadata = manifest["metadata"]
                created = metadata.get("creationTimestamp", "")
                yield ServiceFacts(kind, metadata["namespace"], metadata["name"], created)

    def _resource_changed(self, key: Key) -> None:
        if key.kind in SERVICE_KINDS:
            self._register.services_changed(key.namespace)

    def _tenants_changed(self, names: Iterable[str]) -> None:
        """Queue tenants, and the services that live under their rules."""
        affected = frozenset(names)
        for name in affected:
            self._base.queue.add(Key("Tenant", "", name), after=0.05)
        for key in self.engine.known():
            if key.namespace and self.engine.tenant_of(key) in affected:
                self._base.queue.add(key, after=0.5)

    def _api_server_moved(self) -> None:
        """Queue what may talk to the API server, and nothing else."""
        for key in self.engine.known("SparkApplication"):
            self._base.queue.add(key, after=0.5)

    def _readiness_of_resources(self) -> Iterator[tuple[str, str]]:
        for kind in self.kinds:
            for manifest in self.engine.resources(kind):
                conditions = (manifest.get("status") or {}).get("conditions") or ()
                yield kind, next((each["status"] for each in conditions if each["type"] == "Ready"), "Unknown")
