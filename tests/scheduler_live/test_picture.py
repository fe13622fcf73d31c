"""What belongs together is put together, whichever comes first; what makes no sense leaves the last good in force."""

import asyncio
from typing import Any

import pytest

from allotment_kube.resources import (
    JOBS,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    PRIORITY_CLASSES,
    Resource,
)
from allotment_scheduler.core.state import cluster as core_state
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.core.state.invariants import check
from allotment_scheduler.core.state.layout import lay_out
from allotment_scheduler.shell.reporter import Reporter
from allotment_scheduler.shell.statuses import Statuses
from allotment_scheduler.shell.watches import NODE_POOLS, POD_GROUPS, TENANTS
from builders.live_world import EPOCH, World, until
from fakes.faults import FaultPlan

pytestmark = pytest.mark.looptime


def code(world: World, namespace: str, name: str) -> str:
    """The code by which a pod would be told why it waits."""
    scheduler = world.scheduler
    loop = asyncio.get_running_loop()
    reporter = Reporter(
        scheduler, lambda: world.settings, now=lambda: EPOCH + loop.time(), publish=lambda _: None, failed=lambda: None
    )
    why = reporter.explain((namespace, name))
    return why.code if why is not None else ""


def statuses(world: World) -> dict[tuple[str, str], dict[str, Any]]:
    """What would be written on Tenants, NodePools and PodGroups, by kind and name."""
    loop = asyncio.get_running_loop()
    found = Statuses(
        world.scheduler, lambda: world.settings, now=lambda: EPOCH + loop.time(), publish=lambda _: None
    ).due()
    return {(resource.kind, key[1]): dict(status) for resource, key, status in found}


def scheduled(status: dict[str, Any]) -> tuple[str, str]:
    """Status and message of the condition Scheduled."""
    return next((each["status"], each["message"]) for each in status["conditions"] if each["type"] == "Scheduled")


async def test_a_pod_whose_job_never_shows_up_is_adopted_once_and_for_all() -> None:
    world = World(FaultPlan())
    async with world.running() as scheduler:
        world.pod("a", "p", owner=("Job", "unknown"))
        await until(lambda: code(world, "a", "p") == "GangIncomplete")
        await until(lambda: code(world, "a", "p") != "GangIncomplete")
        pod = world.server.get(PODS, "p", "a")
        world.server.put(PODS, {**(pod or {}), "status": {"phase": "Pending", "message": "touched"}})
        await asyncio.sleep(5)
        assert not scheduler.picture.jobs.awaited
        world.node("n")
        await until(lambda: world.bound() == {"p": "n"})
    check(scheduler.state)


async def test_a_pod_of_another_groups_job_waits_for_no_job() -> None:
    world = World(FaultPlan())
    world.node("n")
    world.pod("a", "p", owner=("Job", "elsewhere"))
    pod = world.server.get(PODS, "p", "a") or {}
    [owner] = pod["metadata"]["ownerReferences"]
    foreign = {**owner, "apiVersion": "batch.volcano.sh/v1alpha1"}
    world.server.put(PODS, {**pod, "metadata": {**pod["metadata"], "ownerReferences": [foreign]}})
    async with world.running() as scheduler:
        await until(lambda: world.bound() == {"p": "n"}, seconds=5)
        await until(lambda: not scheduler.ledger.starts)
        assert scheduler.state.pods["a", "p"].spec.owner_kind == "Job.batch.volcano.sh"
    check(scheduler.state)


@pytest.mark.parametrize("gang", [False, True], ids=["simple", "gang"])
async def test_pods_of_a_deleted_job_start_no_more_and_say_so(*, gang: bool) -> None:
    world = World(FaultPlan())
    async with world.running() as scheduler:
        job = world.job("a", "j", gang=gang)
        world.pod("a", "p", owner=("Job", job))
        await until(lambda: code(world, "a", "p") not in ("", "GangIncomplete"))
        found = world.server.get(JOBS, "j", "a") or {}
        going = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["foregroundDeletion"]}
        world.server.put(JOBS, {**found, "metadata": {**found["metadata"], **going}})
        await until(lambda: code(world, "a", "p") == "OwnerGone")
        world.node("n")
        await asyncio.sleep(60)
        assert world.bound() == {}
        assert code(world, "a", "p") == "OwnerGone"
        world.server.remove(PODS, "p", "a")
        world.pod("a", "q")
        await until(lambda: world.bound() == {"q": "n"})
    check(scheduler.state)


async def test_a_namespace_that_two_tenants_list_belongs_to_the_older_one() -> None:
    world = World(FaultPlan())
    world.server.put(NAMESPACES, {"metadata": {"name": "shared"}})
    for name, second in (("aaa", 2), ("older", 1)):
        manifest = {
            "kind": "Tenant",
            "apiVersion": "allotment.dev/v1alpha1",
            "metadata": {"name": name, "creationTimestamp": f"2026-01-01T00:00:0{second}Z"},
            "spec": {"namespaces": ["shared"]},
        }
        world.server.put(TENANTS, manifest)
    async with world.running() as scheduler:
        scheduler.state.settle()
        assert scheduler.state.forest.leaf_of_namespace["shared"].name == "older"
        found = statuses(world)
        assert scheduled(found["Tenant", "older"])[0] == "True"
        assert scheduled(found["Tenant", "aaa"]) == (
            "False",
            "namespace 'shared' belongs to 'older' already: list it under one tenant only",
        )


async def test_a_namespace_goes_to_its_heir_when_its_tenant_is_being_deleted() -> None:
    world = World(FaultPlan())
    world.server.put(NAMESPACES, {"metadata": {"name": "shared", "labels": {"allotment.dev/tenant": "older"}}})
    manifests = {
        name: {
            "kind": "Tenant",
            "apiVersion": "allotment.dev/v1alpha1",
            "metadata": {"name": name, "creationTimestamp": f"2026-01-01T00:00:0{second}Z"},
            "spec": {"namespaces": ["shared"]},
        }
        for name, second in (("heir", 2), ("older", 1))
    }
    for manifest in manifests.values():
        world.server.put(TENANTS, manifest)
    async with world.running() as scheduler:
        scheduler.state.settle()
        assert scheduler.state.forest.leaf_of_namespace["shared"].name == "older"
        leaving = {**manifests["older"]["metadata"], "deletionTimestamp": "2026-01-02T00:00:00Z"}  # type: ignore[dict-item]  # a literal above
        world.server.put(TENANTS, {**manifests["older"], "metadata": leaving})
        await until(lambda: scheduler.state.tenant_specs["older"].leaving)
        scheduler.state.settle()
        assert scheduler.state.forest.leaf_of_namespace["shared"].name == "heir"


async def test_a_priority_class_lifts_no_gang_above_what_its_tenant_may_use() -> None:
    world = World(FaultPlan())
    world.server.put(PRIORITY_CLASSES, {"metadata": {"name": "huge"}, "value": 900_000_000})
    world.tenant("a", policy={"maxPriority": 10})
    async with world.running() as scheduler:
        world.group("a", "g", 1, priorityClassName="huge")
        world.pod("a", "member", group="g")
        world.pod("a", "urgent", priority=11)
        await until(lambda: len(list(scheduler.state.waiting())) == 2)
        world.node("n", cpu="1")
        await until(lambda: world.bound() == {"urgent": "n"})
        conditions = statuses(world)["PodGroup", "g"]["conditions"]
        said = next(each for each in conditions if each["type"] == "PriorityBounded")
        assert said["message"] == ("its priority class says 900000000, tenant a may use up to 10: it is served with 10")
    check(scheduler.state)


async def test_room_for_announced_members_is_shown_and_outlives_the_leader() -> None:
    world = World(FaultPlan())
    world.node("n", cpu="4")
    expected = [{"name": "executor", "count": 2, "requests": {"cpu": "1"}}]
    async with world.running():
        world.group("a", "app", 3, expected=expected, expectedTimeoutSeconds=300)
        world.pod("a", "driver", group="app")
        await until(lambda: world.bound() == {"driver": "n"})
        status = statuses(world)["PodGroup", "app"]
        assert status["phase"] == "Reserved"
        assert status["reservation"]["holds"] == [{"member": "executor", "node": "n", "count": 2}]
    group = world.server.get(POD_GROUPS, "app", "a")
    world.server.put(POD_GROUPS, {**(group or {}), "status": status})
    world.scheduler = world.new_scheduler()
    world.pod("a", "thief", cpu="2")
    async with world.running() as successor:
        await asyncio.sleep(5)
        assert world.bound() == {"driver": "n"}
        for number in range(2):
            world.pod("a", f"executor-{number}", group="app")
        await until(lambda: {"executor-0", "executor-1"} <= set(world.bound()))
        assert "thief" not in world.bound()
    check(successor.state)


async def test_a_group_that_was_stored_when_more_was_allowed_is_served() -> None:
    world = World(FaultPlan())
    world.node("n", cpu="4")
    expected = [{"name": "executor", "count": 2, "requests": {"cpu": "1"}}]
    async with world.running():
        world.group("a", "app", 3, expected=expected, expectedTimeoutSeconds=7200)
        world.pod("a", "driver", group="app")
        await until(lambda: world.bound() == {"driver": "n"})
        assert statuses(world)["PodGroup", "app"]["phase"] == "Reserved"


async def test_room_that_nobody_came_for_is_given_back_by_the_successor_too() -> None:
    world = World(FaultPlan())
    world.node("n", cpu="4")
    expected = [{"name": "executor", "count": 2, "requests": {"cpu": "1"}}]
    async with world.running():
        world.group("a", "app", 3, expected=expected, expectedTimeoutSeconds=60)
        world.pod("a", "driver", group="app")
        await until(lambda: world.bound() == {"driver": "n"})
        status = statuses(world)["PodGroup", "app"]
    group = world.server.get(POD_GROUPS, "app", "a")
    world.server.put(POD_GROUPS, {**(group or {}), "status": status})
    world.scheduler = world.new_scheduler()
    async with world.running() as successor:
        world.pod("a", "patient", cpu="3")
        await until(lambda: "patient" in world.bound(), seconds=90)
    check(successor.state)


async def test_pools_that_share_nodes_say_so() -> None:
    world = World(FaultPlan())
    for name in ("first", "second"):
        pool = {"metadata": {"name": name, "generation": 1}, "spec": {"selector": {"matchLabels": {"disk": "ssd"}}}}
        world.server.put(NODE_POOLS, pool)
    async with world.running() as scheduler:
        await until(lambda: {"first", "second"} <= set(scheduler.state.nodes.pools))
        world.server.put(NODES, {"metadata": {"name": "n", "labels": {"disk": "ssd"}}})
        await until(lambda: "n" in scheduler.state.nodes.by_name)
        conditions = statuses(world)["NodePool", "second"]["conditions"]
        said = {each["type"]: (each["status"], each["reason"]) for each in conditions}
        assert said["Overlapping"] == ("True", "SharedNodes")
        assert said["Ready"] == ("False", "NoNodes")


@pytest.mark.parametrize(
    ("resource", "name", "namespace", "nonsense"),
    [
        (TENANTS, "a", "", {"weight": "much"}),
        (NODE_POOLS, "gpu", "", {"selector": {"matchLabels": 5}}),
        (POD_GROUPS, "g", "a", {"minMember": "several"}),
    ],
    ids=["Tenant", "NodePool", "PodGroup"],
)
async def test_a_version_that_makes_no_sense_leaves_the_last_good_one_in_force(
    resource: Any, name: str, namespace: str, nonsense: dict[str, Any]
) -> None:
    kind = resource.kind
    world = World(FaultPlan())
    world.tenant("a", limits={"cpu": "2"})
    world.group("a", "g", 2)
    pool = {"kind": "NodePool", "apiVersion": "allotment.dev/v1alpha1", "metadata": {"name": "gpu", "generation": 1},
            "spec": {"selector": {"matchLabels": {"gpu": "yes"}}}}  # fmt: skip
    world.server.put(NODE_POOLS, pool)
    async with world.running() as scheduler:
        good = world.server.get(resource, name, namespace) or {}
        world.server.put(resource, {**good, "metadata": {**good["metadata"], "generation": 7}, "spec": nonsense})
        await until(lambda: (kind, (namespace, name)) in scheduler.picture.problems)
        in_force = {
            "Tenant": lambda: scheduler.state.tenant_specs["a"].limits.total == {"cpu": 2000},
            "NodePool": lambda: scheduler.state.nodes.pools["gpu"].selector.matches({"gpu": "yes"}),
            "PodGroup": lambda: scheduler.state.gangs["a", "g"].min_member == 2,
        }
        assert in_force[kind]()
        good_or_bad, message = scheduled(statuses(world)[kind, name])
        assert good_or_bad == "False"
        assert "stays in force" in message
        world.server.put(resource, {**good, "metadata": {**good["metadata"], "generation": 8}})
        await until(lambda: (kind, (namespace, name)) not in scheduler.picture.problems)


@pytest.mark.parametrize("version", ["v1alpha2", "v1beta1"])
async def test_gangs_by_scheduling_group_are_read_where_they_are_served(version: str) -> None:
    world = World(FaultPlan())
    groups = Resource.custom(f"scheduling.k8s.io/{version}", "PodGroup", "podgroups")
    world.server.register(groups)
    manifest = {"metadata": {"name": "g", "namespace": "a"}, "spec": {"schedulingPolicy": {"gang": {"minCount": 2}}}}
    world.server.put(groups, manifest)
    async with world.running() as scheduler:
        for name in ("p", "q"):
            world.pod("a", name, cpu="2")
            pod = world.server.get(PODS, name, "a") or {}
            world.server.put(PODS, {**pod, "spec": {**pod["spec"], "schedulingGroup": {"podGroupName": "g"}}})
        world.node("small", cpu="3")
        await until(lambda: code(world, "a", "p") not in ("", "GangIncomplete"))
        assert not world.bound(), "there is room for one, but not for both"
        world.node("n")
        await until(lambda: set(world.bound()) == {"p", "q"})
        world.server.remove(groups, "g", "a")
        await until(lambda: scheduler.state.gangs["a", "scheduling.k8s.io/g"].spec is None)
    check(scheduler.state)


async def test_a_burst_of_storage_lays_nothing_out_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(FaultPlan())
    world.node("n")
    layouts = 0

    def counted(state: ClusterState) -> None:
        nonlocal layouts
        layouts += 1
        lay_out(state)

    monkeypatch.setattr(core_state, "lay_out", counted)
    async with world.running() as scheduler:
        await until(lambda: scheduler.progress.complete)
        await asyncio.sleep(5)
        layouts = 0
        for number in range(200):
            spec = {"storageClassName": "fast", "volumeName": f"disk-{number}"}
            metadata = {"name": f"data-{number}", "namespace": "a"}
            world.server.put(PERSISTENT_VOLUME_CLAIMS, {"metadata": metadata, "spec": spec})
        await until(lambda: len(scheduler.state.attachments.claims) == 200)
        assert layouts == 0
    check(scheduler.state)
