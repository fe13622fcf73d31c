"""A new leader has seen everything that was written before it took over, of every kind that it decides by."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from multidict import CIMultiDict

from allotment_kube import Client
from allotment_kube.errors import NotFoundError
from allotment_kube.models import Object
from allotment_kube.resources import (
    CSI_NODES,
    DEVICE_CLASSES,
    JOBS,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    POD_DISRUPTION_BUDGETS,
    PRIORITY_CLASSES,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    STORAGE_CLASSES,
    Resource,
)
from allotment_kube.transport import Request, Stream
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.core.state.invariants import check
from allotment_scheduler.shell import freshness
from allotment_scheduler.shell.loop import Scheduler
from allotment_scheduler.shell.watches import NODE_POOLS, POD_GROUPS, TENANTS
from builders.live_world import Standby, World, until
from fakes.faults import FaultPlan
from fakes.in_process import InProcessTransport

pytestmark = pytest.mark.looptime

NODE = {"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "4", "memory": "16Gi", "pods": "110"}}}


@dataclass(frozen=True)
class Late:
    """A write that a standby has not seen, and what it must know by it before it decides anything."""

    resource: Resource[Any]
    before: Object
    after: Object
    known: Callable[[ClusterState, Scheduler], object]


def ours(kind: str, name: str, namespace: str = "", **spec: Any) -> Object:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"kind": kind, "apiVersion": "allotment.dev/v1alpha1", "metadata": metadata, "spec": spec}


def claim(*devices: str) -> Object:
    results = [{"request": "r", "driver": "gpu.example.com", "pool": "n", "device": each} for each in devices]
    requests = [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]
    return {
        "metadata": {"name": "c", "namespace": "a"},
        "spec": {"devices": {"requests": requests}},
        "status": {"allocation": {"devices": {"results": results}}} if devices else {},
    }


def devices(*names: str) -> Object:
    pool = {"name": "n", "generation": 1, "resourceSliceCount": 1}
    each = [{"name": name} for name in names]
    return {
        "metadata": {"name": "s"},
        "spec": {"driver": "gpu.example.com", "nodeName": "n", "pool": pool, "devices": each},
    }


def budget(least: int) -> Object:
    spec = {"selector": {"matchLabels": {"app": "x"}}, "minAvailable": least}
    return {"metadata": {"name": "b", "namespace": "a"}, "spec": spec}


def csi_node(count: int) -> Object:
    driver = {"name": "disk.example.com", "nodeID": "n", "allocatable": {"count": count}}
    return {"metadata": {"name": "n"}, "spec": {"drivers": [driver]}}


LATE = [
    Late(
        TENANTS,
        ours("Tenant", "a", weight=1, namespaces=["a"], limits={"cpu": "4"}),
        ours("Tenant", "a", weight=1, namespaces=["a"], limits={"cpu": "1"}),
        lambda state, _: state.tenant_specs["a"].limits.total == {"cpu": 1000},
    ),
    Late(
        NODE_POOLS,
        ours("NodePool", "p", selector={"matchLabels": {"x": "y"}}),
        ours("NodePool", "p", selector={"matchLabels": {"x": "y"}}, paused=True),
        lambda state, _: state.nodes.pools["p"].paused,
    ),
    Late(
        POD_GROUPS,
        ours("PodGroup", "g", "a", minMember=2),
        ours("PodGroup", "g", "a", minMember=5),
        lambda state, _: state.gangs["a", "g"].min_member == 5,
    ),
    Late(
        RESOURCE_CLAIMS,
        claim(),
        claim("d0"),
        lambda state, _: [each[2] for it in state.attachments.holdings.values() for each in it.devices] == ["d0"],
    ),
    Late(
        RESOURCE_SLICES,
        devices("d0", "d1"),
        devices("d0"),
        lambda _, live: len(live.picture.hardware.devices.slices["s"].spec.devices) == 1,
    ),
    Late(
        DEVICE_CLASSES,
        {"metadata": {"name": "gpu"}, "spec": {}},
        {"metadata": {"name": "gpu"}, "spec": {"selectors": [{"cel": {"expression": "false"}}]}},
        lambda _, live: live.picture.hardware.devices.classes["gpu"].spec.selectors,
    ),
    Late(
        NODES,
        NODE,
        {**NODE, "spec": {"unschedulable": True}},
        lambda state, _: not state.nodes.by_name["n"].usable,
    ),
    Late(
        NAMESPACES,
        {"metadata": {"name": "a", "labels": {"allotment.dev/tenant": "a"}}},
        {"metadata": {"name": "a", "labels": {"allotment.dev/tenant": "b"}}},
        lambda state, _: state.namespace_tenants["a"] == "b",
    ),
    Late(
        PRIORITY_CLASSES,
        {"metadata": {"name": "high"}, "value": 1},
        {"metadata": {"name": "high"}, "value": 2},
        lambda state, _: [gang.spec.priority for gang in state.gangs.values() if gang.spec] == [2],
    ),
    Late(
        CSI_NODES,
        csi_node(8),
        csi_node(2),
        lambda state, _: state.nodes.by_name["n"].spec.volume_limits == {"disk.example.com": 2},
    ),
    Late(
        STORAGE_CLASSES,
        {"metadata": {"name": "fast"}, "provisioner": "disk.example.com", "volumeBindingMode": "Immediate"},
        {"metadata": {"name": "fast"}, "provisioner": "disk.example.com", "volumeBindingMode": "WaitForFirstConsumer"},
        lambda state, _: state.attachments.classes["fast"].waits,
    ),
    Late(
        PERSISTENT_VOLUMES,
        {"metadata": {"name": "v"}, "spec": {}},
        {"metadata": {"name": "v"}, "spec": {"claimRef": {"namespace": "a", "name": "c"}}},
        lambda state, _: state.attachments.volumes["v"].claimed_by,
    ),
    Late(
        PERSISTENT_VOLUME_CLAIMS,
        {"metadata": {"name": "c", "namespace": "a"}, "spec": {}},
        {"metadata": {"name": "c", "namespace": "a"}, "spec": {"volumeName": "v"}},
        lambda state, _: state.attachments.claims["a", "c"].awaits,
    ),
    Late(POD_DISRUPTION_BUDGETS, budget(1), budget(3), lambda state, _: state.budgets["a", "b"].min_available == 3),
    Late(
        JOBS,
        {"metadata": {"name": "j", "namespace": "a", "uid": "j"}, "spec": {"parallelism": 1, "completions": 1}},
        {
            "metadata": {"name": "j", "namespace": "a", "uid": "j", "labels": {"allotment.dev/gang": "true"}},
            "spec": {"parallelism": 3, "completions": 3},
        },
        lambda state, _: state.gangs,
    ),
]


@pytest.mark.parametrize("late", LATE, ids=lambda late: late.resource.kind)
async def test_what_was_written_while_a_watch_was_dead_is_known_before_anything_is_decided(late: Late) -> None:
    world = World(FaultPlan())
    if late.resource is not NODES:
        world.server.put(NODES, NODE)
    if late.resource is PRIORITY_CLASSES:
        world.group("a", "g", 1, priorityClassName="high")
    world.server.put(late.resource, late.before)
    async with world.standing_by(world.new_scheduler()) as standby:
        await asyncio.sleep(5)
        standby.transport.partitioned = True
        world.server.put(late.resource, late.after)
        await asyncio.sleep(1)
        standby.transport.partitioned = False
        scheduler = standby.scheduler
        scheduler.state.settle()
        assert not late.known(scheduler.state, scheduler), "its watch is dead"

        standby.lead()
        await until(lambda: scheduler.progress.leading, seconds=15)

        scheduler.state.settle()
        assert late.known(scheduler.state, scheduler)
    check(standby.scheduler.state)


class Through:
    """Stands before a transport's `stream`, and ends the short watches of some kinds before they have said anything."""

    def __init__(self, standby: Standby, silent: str) -> None:
        self.stream, self.silent, self.probes = standby.transport.stream, silent, 0

    @asynccontextmanager
    async def __call__(self, request: Request) -> AsyncIterator[Stream]:
        if "timeoutSeconds=3&" in f"{request.query}&" and request.path.endswith(self.silent):
            self.probes += 1
            yield Nothing()
            return
        async with self.stream(request) as stream:
            yield stream


class Nothing:
    """A stream that has ended."""

    code = 200
    headers: CIMultiDict[str] = CIMultiDict()

    async def read(self) -> bytes:
        return b""


async def test_where_short_watches_tell_nothing_it_is_said_and_everything_is_listed_anew(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    world = World(FaultPlan())
    async with world.standing_by(world.new_scheduler()) as standby:
        through = Through(standby, "/resourceclaims")
        monkeypatch.setattr(standby.transport, "stream", through)
        world.node("n")
        standby.lead()
        await until(lambda: standby.readiness.missing)
        [missing] = standby.readiness.missing
        assert missing == (
            "what was written to resourceclaims.resource.k8s.io last (whether its watch has missed anything is open "
            "after 1 short watches beside it)"
        )
        await until(lambda: standby.scheduler.progress.leading, seconds=15)
        assert through.probes == 2
        assert len(standby.readiness.missing) == 0
        lists = {kind: found.lists for kind, found in standby.watches.statistics()}
        assert lists["resourceclaims.resource.k8s.io"] == 2
        assert lists["pods"] == 1
    said = [record.getMessage() for record in caplog.records if "short watches" in record.getMessage()]
    assert len(said) == 2


async def test_a_dead_watch_whose_version_is_not_kept_any_more_is_listed_anew_at_once() -> None:
    world = World(FaultPlan())
    async with world.standing_by(world.new_scheduler()) as standby:
        await asyncio.sleep(5)
        standby.transport.partitioned = True
        world.node("n")
        world.server.store.compact()
        await asyncio.sleep(1)
        standby.transport.partitioned = False
        standby.lead()
        await until(lambda: standby.scheduler.progress.leading, seconds=15)
        assert "n" in standby.scheduler.state.nodes.by_name


class Blind:
    """A watch that has no version before it is told to list anew."""

    resource: Resource[Any] = RESOURCE_CLAIMS

    def __init__(self, listed: str) -> None:
        self.resource_version, self.listed = "", listed

    def relist(self) -> None:
        self.resource_version = self.listed


async def test_a_cluster_restored_from_a_backup_meanwhile_is_caught_up_with(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [10**9, 10**9]

    async def present(*_: Any) -> int:
        return answers.pop() if answers else 5

    monkeypatch.setattr(freshness, "present", present)
    client = Client(InProcessTransport(World(FaultPlan()).server))
    async with asyncio.timeout(60):
        await freshness.caught_up(client, Blind("5"), lambda _: None, optional=False)


async def test_an_optional_kind_that_vanishes_while_a_list_is_due_is_waited_for_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = [100, 100]

    async def present(*_: Any) -> int:
        if answers:
            return answers.pop()
        raise NotFoundError("no such kind", code=404)

    monkeypatch.setattr(freshness, "present", present)
    client = Client(InProcessTransport(World(FaultPlan()).server))
    async with asyncio.timeout(60):
        await freshness.caught_up(client, Blind(""), lambda _: None, optional=True)
