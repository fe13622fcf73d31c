"""Watches the cluster and keeps one picture of it, and what passed by.

One reflector per kind turns events into facts as they come, so a picture costs no request. What can no longer be seen
later is noted at once: starts, evictions, how far apart the pods of a gang started, the most agents at once. Every
picture is checked (`checks`); a violation stays in the history for good.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from allotment_api.labels import API_VERSION
from allotment_api.registry import KINDS
from allotment_cli.demo import facts
from allotment_cli.demo.checks import violations
from allotment_cli.demo.facts import Builds, History, Observation, PodFact
from allotment_kube.client import Client
from allotment_kube.reflector import Deleted, Event, Key, Reflector, Synced
from allotment_kube.resources import JOBS, NODES, PERSISTENT_VOLUME_CLAIMS, PODS, Resource

GANG: Final = ("risk", "nightly-var", 8)
"""Namespace, name and size of the bank's gang."""

Object = dict[str, Any]
AskBuilds = Callable[[], Awaitable[Builds]]


class Witness:
    """Sees everything, changes nothing."""

    def __init__(self, client: Client, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.changed = asyncio.Event()
        self.refusals: dict[str, str] = {}
        self.restarts: dict[str, int] = {}
        self.builds = Builds()
        self._clock = clock
        self._tables: dict[str, dict[Key, Any]] = {}
        self._placed: dict[str, tuple[PodFact, float]] = {}
        self._evicted: set[str] = set()
        self._most_agents = 0
        self._shares: dict[str, float] = {}
        self._violations: dict[str, None] = {}
        self._reflectors = [
            self._reflect(client, _own("Tenant"), facts.tenant_fact),
            self._reflect(client, PODS.untyped, facts.pod_fact),
            self._reflect(client, NODES.untyped, facts.node_fact),
            self._reflect(client, JOBS.untyped, facts.job_fact),
            self._reflect(client, PERSISTENT_VOLUME_CLAIMS.untyped, _key),
            *(self._reflect(client, _own(kind), facts.service_fact) for kind in facts.SERVICE_KINDS),
        ]

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors:
                group.create_task(reflector.run())

    async def synced(self) -> None:
        """Wait until everything has been listed."""
        for reflector in self._reflectors:
            await reflector.synced()

    def observe(self) -> Observation:
        """The present picture, checked."""
        services = {
            (kind, *key): fact for kind in facts.SERVICE_KINDS for key, fact in self._tables.get(kind, {}).items()
        }
        pods = tuple(self._tables["Pod"].values())
        seen = Observation(
            tenants={fact.name: fact for fact in self._tables["Tenant"].values()},
            pods=pods,
            services=services,
            jobs=dict(self._tables["Job"]),
            nodes=tuple(self._tables["Node"].values()),
            claims=tuple(self._tables["PersistentVolumeClaim"].values()),
            refusals=dict(self.refusals),
            builds=self.builds,
        )
        agents = sum(1 for pod in pods if pod.kind == "JenkinsAgentPool" and pod.running)
        self._most_agents = max(self._most_agents, agents)
        for tenant in seen.tenants.values():
            self._shares[tenant.name] = max(self._shares.get(tenant.name, 0.0), tenant.share)
        self._violations.update(dict.fromkeys(violations(seen)))
        return Observation(
            tenants=seen.tenants,
            pods=seen.pods,
            services=seen.services,
            jobs=seen.jobs,
            nodes=seen.nodes,
            claims=seen.claims,
            refusals=seen.refusals,
            builds=seen.builds,
            history=self._history(),
        )

    def _history(self) -> History:
        namespace, name, size = GANG
        times = [at for pod, at in self._placed.values() if (pod.namespace, pod.owner) == (namespace, name)][:size]
        spread = {f"{namespace}/{name}": max(times) - min(times)} if len(times) == size else {}
        return History(
            starts=len(self._placed),
            evictions=len(self._evicted),
            most_agents=self._most_agents,
            gang_spread=spread,
            highest_share=dict(self._shares),
            violations=tuple(self._violations),
            restarts=dict(self.restarts),
        )

    def _reflect(self, client: Client, resource: Resource[Object], read: Callable[[Object], Any]) -> Reflector[Object]:
        table = self._tables.setdefault(resource.kind, {})

        def handle(event: Event[Object]) -> None:
            if isinstance(event, Synced):
                pass
            elif isinstance(event, Deleted):
                table.pop(event.key, None)
            else:
                fact = table[event.key] = read({"kind": resource.kind, **event.new})
                if isinstance(fact, PodFact):
                    self._note(fact)
            self.changed.set()

        return Reflector(client, resource, handle, keep_objects=False)

    def _note(self, pod: PodFact) -> None:
        if pod.node:
            self._placed.setdefault(pod.uid, (pod, self._clock()))
        if pod.evicted:
            self._evicted.add(pod.uid)


def _own(kind: str) -> Resource[Object]:
    definition = KINDS[kind].definition
    return Resource.custom(API_VERSION, kind, definition.plural, namespaced=definition.scope == "Namespaced")


def _key(manifest: Object) -> tuple[str, str]:
    return manifest["metadata"]["namespace"], manifest["metadata"]["name"]
