"""A fake cluster with tenants, a scheduler of it, and a network that can be told to fail, on virtual time."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from allotment_kube import Client
from allotment_kube.program.server import Readiness
from allotment_kube.resources import JOBS, NAMESPACES, NODES, PODS
from allotment_kube.retries import NEVER_REPEAT
from allotment_scheduler.shell.loop import Scheduler
from allotment_scheduler.shell.metrics import Metrics
from allotment_scheduler.shell.settings import Settings
from allotment_scheduler.shell.watches import NODE_POOLS, POD_GROUPS, TENANTS, Watches
from fakes.api_server import FakeApiServer
from fakes.faults import Fault, FaultPlan, Verb
from fakes.in_process import InProcessTransport

EPOCH = 1_750_000_000.0


class World:
    """A fake cluster with two tenants, a and b, and a scheduler of it."""

    def __init__(self, plan: FaultPlan, *, graceful: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self.plan = plan
        self.server = FakeApiServer(clock=loop.time, graceful_pods=graceful, epoch=datetime.fromtimestamp(EPOCH, UTC))
        for resource in (TENANTS, NODE_POOLS, POD_GROUPS):
            self.server.register(resource)
        for name in "ab":
            self.server.put(NAMESPACES, {"metadata": {"name": name, "labels": {"allotment.dev/tenant": name}}})
            self.tenant(name)
        self.settings = Settings(minimum_runtime_seconds=0)
        self.scheduler = self.new_scheduler()

    def new_scheduler(self, *, clock: Callable[[], float] | None = None) -> Scheduler:
        """Another process; its clock is the loop's unless one is given."""
        loop = asyncio.get_running_loop()
        return Scheduler(
            lambda: self.settings,
            Metrics(),
            clock=clock or (lambda: EPOCH + loop.time()),
            rng=random.Random(self.plan.seed),
        )

    def node(self, name: str, *, cpu: str = "4", **spec: Any) -> None:
        room = {"cpu": cpu, "memory": "16Gi", "pods": "110"}
        self.server.put(NODES, {"metadata": {"name": name}, "spec": spec, "status": {"allocatable": room}})

    def tenant(self, name: str, **spec: Any) -> None:
        full = {"weight": 1, "namespaces": [name], **spec}
        self.server.put(TENANTS, {"kind": "Tenant", "apiVersion": "allotment.dev/v1alpha1",
                                  "metadata": {"name": name}, "spec": full})  # fmt: skip

    def pod(
        self,
        namespace: str,
        name: str,
        *,
        cpu: str = "1",
        group: str = "",
        priority: int = 0,
        claim: str = "",
        owner: tuple[str, str] = ("", ""),
        uid: str = "",
        preemptible: bool = True,
        **spec: Any,
    ) -> None:
        """A pod that waits; `owner` is its controller's kind and uid, `spec` whatever else its spec says."""
        labels = {"allotment.dev/pod-group": group} if group else {}
        if not preemptible:
            labels["allotment.dev/preemptible"] = "false"
        owners = [{"kind": owner[0], "name": "owner", "uid": owner[1], "controller": True, "apiVersion": "v1"}]
        container = {"name": "main", "resources": {"requests": {"cpu": cpu}}}
        self.server.put(
            PODS,
            {
                "metadata": {
                    "name": name,
                    "namespace": namespace,
                    "labels": labels,
                    "ownerReferences": owners if owner[0] else [],
                    **({"uid": uid} if uid else {}),
                },
                "spec": {
                    "schedulerName": "allotment",
                    "priority": priority,
                    "containers": [container],
                    "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}] if claim else [],
                    **spec,
                },
                "status": {},
            },
        )

    def job(self, namespace: str, name: str, *, gang: bool = False, parallelism: int = 1, **metadata: Any) -> str:
        """A Job; returns its uid."""
        labels = {"allotment.dev/gang": "true"} if gang else {}
        about = {"name": name, "namespace": namespace, "labels": labels, **metadata}
        spec = {"parallelism": parallelism, "completions": parallelism}
        self.server.put(JOBS, {"metadata": about, "spec": spec, "status": {}})
        return str((self.server.get(JOBS, name, namespace) or {})["metadata"]["uid"])

    def group(self, namespace: str, name: str, minimum: int, **spec: Any) -> None:
        self.server.put(
            POD_GROUPS,
            {
                "kind": "PodGroup",
                "apiVersion": "allotment.dev/v1alpha1",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"minMember": minimum, **spec},
            },
        )

    async def claimed(self, *faults: Fault) -> None:
        """A pod fills node n, and one of higher priority claims its room; evictions suffer these faults."""
        self.pod("a", "victim", cpu="2")
        await until(lambda: self.bound() == {"victim": "n"})
        self.plan.script(Verb.EVICT, *faults)
        self.pod("a", "claimant", cpu="2", priority=9)

    async def being_evicted(self) -> None:
        """The API server has accepted the victim's eviction."""
        await until(lambda: (self.server.get(PODS, "victim", "a") or {})["metadata"].get("deletionTimestamp"))

    def bound(self) -> dict[str, str]:
        """Every bound pod with its node, from the server's own store."""
        pods = self.server.objects(PODS)
        return {each["metadata"]["name"]: each["spec"]["nodeName"] for each in pods if each["spec"].get("nodeName")}

    def overcommitted(self) -> list[str]:
        """Nodes with more than their room."""
        used: dict[str, int] = {}
        for each in self.server.objects(PODS):
            if each["spec"].get("nodeName"):
                cpu = int(each["spec"]["containers"][0]["resources"]["requests"]["cpu"])
                used[each["spec"]["nodeName"]] = used.get(each["spec"]["nodeName"], 0) + cpu
        rooms = {
            each["metadata"]["name"]: int(each["status"]["allocatable"]["cpu"]) for each in self.server.objects(NODES)
        }
        return [name for name, cpu in used.items() if cpu > rooms.get(name, cpu)]

    def status(self, namespace: str, name: str) -> dict[str, Any]:
        found = self.server.get(PODS, name, namespace)
        assert found is not None
        return dict(found["status"])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Scheduler]:
        """The scheduler at work."""
        async with self.standing_by(self.scheduler) as standby:
            standby.lead()
            yield self.scheduler

    @asynccontextmanager
    async def standing_by(self, scheduler: Scheduler) -> AsyncIterator["Standby"]:
        """A scheduler that watches; connections of its own fail as the plan says."""
        standby = Standby(scheduler, InProcessTransport(self.server, self.plan, latency=0.01), self.plan.seed)
        standby.watch()
        await standby.watches.synced()
        try:
            yield standby
        finally:
            await standby.end()


class Standby:
    """One process: its connections, its watches, and a scheduler that may be told to lead."""

    def __init__(self, scheduler: Scheduler, transport: InProcessTransport, seed: int) -> None:
        self.scheduler = scheduler
        self.transport = transport
        self._client = Client(transport, rng=random.Random(seed))
        self.readiness = Readiness()
        self.watches = Watches(self._client, scheduler.picture, self.readiness)
        self._tasks: list[asyncio.Task[None]] = []

    def watch(self) -> None:
        self._tasks.append(asyncio.create_task(self.watches.run()))
        self._tasks.append(asyncio.create_task(self.scheduler.stay_warm()))

    def lead(self) -> None:
        """As after taking the Lease."""
        self._tasks.append(asyncio.create_task(self._lead()))

    async def _lead(self) -> None:
        await self.watches.caught_up()
        await self.scheduler.lead(self._client.patiently(retries=NEVER_REPEAT))

    async def end(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()  # its failure comes before whatever followed from it
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def until(holds: Callable[[], Any], *, seconds: float = 120) -> None:
    """Wait, on virtual time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, "not in time"
        await asyncio.sleep(0.1)
