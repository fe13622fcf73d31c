"""Against the fault-injecting API server, on virtual time: whatever the network does, nothing is bound twice, no node
holds more than it has, gangs start whole, and in the end everybody runs who can."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from allotment_kube import Client
from allotment_kube.resources import (
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    STORAGE_CLASSES,
)
from allotment_scheduler.core.invariants import check
from allotment_scheduler.shell.loop import Scheduler
from allotment_scheduler.shell.metrics import Metrics
from allotment_scheduler.shell.settings import Settings
from allotment_scheduler.shell.watches import NODE_POOLS, POD_GROUPS, TENANTS, Watches
from fakes.api_server import FakeApiServer
from fakes.faults import Fault, FaultPlan, Verb
from fakes.in_process import InProcessTransport

pytestmark = pytest.mark.looptime

EPOCH = 1_750_000_000.0


class World:
    """A fake cluster with two tenants, a and b, and a scheduler of it."""

    def __init__(self, plan: FaultPlan, *, graceful: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self.plan = plan
        self.server = FakeApiServer(clock=loop.time, graceful_pods=graceful)
        for resource in (TENANTS, NODE_POOLS, POD_GROUPS):
            self.server.register(resource)
        for name in "ab":
            self.server.put(NAMESPACES, {"metadata": {"name": name, "labels": {"allotment.dev/tenant": name}}})
            spec = {"weight": 1, "namespaces": [name]}
            self.server.put(TENANTS, {"kind": "Tenant", "apiVersion": "allotment.dev/v1alpha1",
                                      "metadata": {"name": name}, "spec": spec})  # fmt: skip
        self.transport = InProcessTransport(self.server, plan, latency=0.01)
        self.client = Client(self.transport, rng=random.Random(plan.seed))
        self.settings = Settings(minimum_runtime_seconds=0)
        self.scheduler = self.new_scheduler()

    def new_scheduler(self) -> Scheduler:
        loop = asyncio.get_running_loop()
        return Scheduler(
            lambda: self.settings, Metrics(), clock=lambda: EPOCH + loop.time(), rng=random.Random(self.plan.seed)
        )

    def node(self, name: str, *, cpu: str = "4") -> None:
        room = {"cpu": cpu, "memory": "16Gi", "pods": "110"}
        self.server.put(NODES, {"metadata": {"name": name}, "spec": {}, "status": {"allocatable": room}})

    def pod(
        self, namespace: str, name: str, *, cpu: str = "1", group: str = "", priority: int = 0, claim: str = ""
    ) -> None:
        labels = {"allotment.dev/pod-group": group} if group else {}
        container = {"name": "main", "resources": {"requests": {"cpu": cpu}}}
        self.server.put(
            PODS,
            {
                "metadata": {"name": name, "namespace": namespace, "labels": labels},
                "spec": {
                    "schedulerName": "allotment",
                    "priority": priority,
                    "containers": [container],
                    "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}] if claim else [],
                },
                "status": {},
            },
        )

    def group(self, namespace: str, name: str, minimum: int) -> None:
        self.server.put(
            POD_GROUPS,
            {
                "kind": "PodGroup",
                "apiVersion": "allotment.dev/v1alpha1",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"minMember": minimum},
            },
        )

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

    def condition(self, namespace: str, name: str) -> dict[str, Any]:
        found = self.server.get(PODS, name, namespace)
        return next((dict(each) for each in (found or {})["status"].get("conditions", [])), {})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Scheduler]:
        """The scheduler at work."""
        scheduler = self.scheduler
        watches = Watches(self.client, scheduler.picture)
        tasks = [asyncio.create_task(watches.run())]
        await watches.synced()
        tasks.append(asyncio.create_task(scheduler.lead(self.client)))
        try:
            yield scheduler
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def until(holds: Callable[[], Any], *, seconds: float = 120) -> None:
    """Wait, on virtual time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, "not in time"
        await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    "faults",
    [
        (Fault.DROP_AFTER,),
        (Fault.DROP_BEFORE, Fault.ERROR_AFTER),
        (Fault.THROTTLED, Fault.ERROR, Fault.UNAVAILABLE),
        (Fault.CONFLICT,),
        (Fault.REFUSED, Fault.DELAY),
    ],
)
async def test_a_binding_that_went_wrong_ends_well(faults: tuple[Fault, ...]) -> None:
    world = World(FaultPlan())
    world.node("n")
    async with world.running():
        world.plan.script(Verb.BIND, *faults)
        world.pod("a", "p")
        await until(lambda: world.bound() == {"p": "n"})
        await until(lambda: not world.scheduler.ledger.starts)
    check(world.scheduler.state)


async def test_a_refused_pod_is_set_aside_and_others_go_on() -> None:
    world = World(FaultPlan())
    world.node("n", cpu="1")
    async with world.running() as scheduler:
        world.server.put(NAMESPACES, {"metadata": {"name": "a", "labels": {"allotment.dev/tenant": "a"}}})
        world.plan.script(Verb.BIND, Fault.CONFLICT)
        world.pod("a", "first", priority=5)
        await until(lambda: scheduler.ledger.in_quarantine == 1)
        world.pod("a", "second")
        await until(world.bound)
    check(scheduler.state)


async def test_what_others_take_meanwhile_is_never_given_twice() -> None:
    world = World(FaultPlan())
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        foreign = {
            "metadata": {"name": "foreign", "namespace": "kube-system"},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]},
            "status": {"phase": "Running"},
        }
        world.server.put(PODS, foreign)
        await until(lambda: ("kube-system", "foreign") in scheduler.state.pods)
        world.pod("a", "p")
        await asyncio.sleep(5)
        assert world.bound() == {"foreign": "n"}
        world.server.remove(PODS, "foreign", "kube-system")
        await until(lambda: world.bound() == {"p": "n"})


async def test_a_victim_that_takes_its_time_is_waited_for() -> None:
    world = World(FaultPlan(), graceful=True)
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        world.pod("a", "victim", cpu="2")
        await until(lambda: world.bound() == {"victim": "n"})
        world.pod("a", "claimant", cpu="2", priority=9)
        await until(lambda: (world.server.get(PODS, "victim", "a") or {})["metadata"].get("deletionTimestamp"))
        await asyncio.sleep(20)
        assert world.bound() == {"victim": "n"}
        claimant = world.server.get(PODS, "claimant", "a")
        assert claimant is not None
        assert claimant["status"]["nominatedNodeName"] == "n"
        world.server.remove(PODS, "victim", "a")
        await until(lambda: world.bound() == {"claimant": "n"})
    check(scheduler.state)


async def test_a_successor_finishes_what_a_dead_leader_began() -> None:
    world = World(FaultPlan(), graceful=True)
    world.node("n", cpu="2")
    async with world.running():
        world.pod("a", "victim", cpu="2")
        await until(lambda: world.bound() == {"victim": "n"})
        world.pod("a", "claimant", cpu="2", priority=9)
        await until(lambda: (world.server.get(PODS, "victim", "a") or {})["metadata"].get("deletionTimestamp"))
    world.pod("a", "thief", cpu="2", priority=9)
    world.scheduler = world.new_scheduler()
    async with world.running() as successor:
        await asyncio.sleep(2)
        world.server.remove(PODS, "victim", "a")
        await until(lambda: world.bound() == {"claimant": "n"})
    check(successor.state)


async def test_a_claim_that_waits_is_told_its_node_and_the_pod_waits_for_the_volume() -> None:
    world = World(FaultPlan())
    world.node("n")
    world.server.put(
        STORAGE_CLASSES,
        {"metadata": {"name": "fast"}, "provisioner": "example.org/disk", "volumeBindingMode": "WaitForFirstConsumer"},
    )
    claim = {"metadata": {"name": "data", "namespace": "a"}, "spec": {"storageClassName": "fast"}}
    world.server.put(PERSISTENT_VOLUME_CLAIMS, claim)
    async with world.running() as scheduler:
        world.plan.script(Verb.PATCH, Fault.ERROR)
        world.pod("a", "p", claim="data")

        def told() -> object:
            found = world.server.get(PERSISTENT_VOLUME_CLAIMS, "data", "a") or {}
            return found["metadata"].get("annotations", {}).get("volume.kubernetes.io/selected-node")

        await until(lambda: told() == "n")
        await asyncio.sleep(5)
        assert world.bound() == {}
        world.server.put(PERSISTENT_VOLUMES, {"metadata": {"name": "disk"}, "spec": {}})
        world.server.put(PERSISTENT_VOLUME_CLAIMS, {**claim, "spec": {**claim["spec"], "volumeName": "disk"}})
        await until(lambda: world.bound() == {"p": "n"})
    check(scheduler.state)


async def test_a_refused_eviction_gives_the_plan_up_and_loses_nothing() -> None:
    world = World(FaultPlan())
    world.settings = Settings(minimum_runtime_seconds=0, eviction_seconds=2)
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        world.pod("a", "victim", cpu="2")
        await until(lambda: world.bound() == {"victim": "n"})
        world.plan.script(Verb.EVICT, *[Fault.ERROR] * 40)
        world.pod("a", "claimant", cpu="2", priority=9)
        await asyncio.sleep(4)
        assert world.bound() == {"victim": "n"}
        await until(lambda: world.bound() == {"claimant": "n"}, seconds=300)
    check(scheduler.state)


@pytest.mark.parametrize("seed", range(6))
async def test_any_history_ends_well(seed: int) -> None:
    """Random work under random faults; the server's own store is checked after every step."""
    rates = {Verb.BIND: 0.5, Verb.EVICT: 0.5, Verb.PATCH: 0.4, Verb.WATCH: 0.8, Verb.LIST: 0.3, Verb.GET: 0.3}
    world = World(FaultPlan(seed, rates=rates))
    rng = random.Random(seed)
    for number in range(4):
        world.node(f"n{number}")
    async with world.running() as scheduler:
        for step in range(60):
            name = f"p{step}"
            match rng.randrange(8):
                case 0:
                    for pod in rng.sample(world.server.objects(PODS), k=min(3, len(world.server.objects(PODS)))):
                        world.server.remove(PODS, pod["metadata"]["name"], pod["metadata"]["namespace"])
                case 1:
                    world.group("b", f"g{step}", 3)
                    for member in range(3):
                        world.pod("b", f"g{step}-{member}", group=f"g{step}")
                case 2:
                    world.pod(rng.choice("ab"), name, cpu="2", priority=rng.choice([0, 5]))
                case _:
                    world.pod(rng.choice("ab"), name)
            await asyncio.sleep(rng.uniform(0.0, 2.0))
            assert not world.overcommitted(), world.plan.describe()
        world.plan.stop()
        assert sum(world.plan.injected.values()) > 20, world.plan.describe()
        await asyncio.sleep(700)  # the longest quarantine
        assert not world.overcommitted(), world.plan.describe()
        known = {key[1]: pod.spec.node for key, pod in scheduler.state.pods.items() if pod.spec.node}
        assert known == world.bound(), world.plan.describe()
        assert not scheduler.ledger.starts, world.plan.describe()
        assert not scheduler.engine.cycle(EPOCH + 10_000), world.plan.describe()
    check(scheduler.state)
