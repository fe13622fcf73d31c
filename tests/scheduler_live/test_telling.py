"""What the scheduler tells: statuses and conditions, each only where something is new, and none for another's fault."""

import asyncio
import random
from typing import Any

import pytest

from allotment_kube import Client
from allotment_kube.models import Object
from allotment_kube.resources import NODES, PODS, Resource
from allotment_scheduler.core.eviction.brakes import Backoff
from allotment_scheduler.core.explanation.explain import Explainer, Why
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.placement.reservations import OVERDUE
from allotment_scheduler.shell.metrics import Metrics
from allotment_scheduler.shell.reporter import LONGEST_SILENCE, NOT_SEEN, STARTING, Reporter
from allotment_scheduler.shell.settings import Settings
from allotment_scheduler.shell.statuses import Statuses, stamp
from allotment_scheduler.shell.watches import NODE_POOLS, POD_GROUPS, TENANTS
from builders.live_world import EPOCH, World, until
from fakes.faults import FaultPlan
from fakes.in_process import InProcessTransport

pytestmark = pytest.mark.looptime


def now() -> float:
    return EPOCH + asyncio.get_running_loop().time()


class Teller:
    """Statuses and reports of one world, to be written by hand or by their own loops."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.metrics = Metrics()
        self.statuses = Statuses(
            world.scheduler,
            lambda: world.settings,
            now=now,
            publish=self.metrics.tenants,
            failed=lambda: self.metrics.fault("status"),
        )
        self.reporter = Reporter(
            world.scheduler,
            lambda: world.settings,
            now=now,
            publish=self.metrics.waiting,
            failed=lambda: self.metrics.fault("report"),
        )
        self.client = Client(InProcessTransport(world.server, FaultPlan()), rng=random.Random(1))

    def due(self) -> dict[tuple[str, str], Object]:
        return {(resource.kind, key[1]): status for resource, key, status in self.statuses.due()}

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"allotment_scheduler_{name}", labels)


class Recorded:
    """A client that takes note of what is applied and patched."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.applied: list[tuple[str, str]] = []
        self.patched: list[tuple[str, float]] = []

    async def apply(self, resource: Resource[Any], body: Object, **given: Any) -> Any:
        self.applied.append((resource.kind, body["metadata"]["name"]))
        return await self._client.apply(resource, body, **given)

    async def patch(self, resource: Resource[Any], name: str, patch: Any, **given: Any) -> Any:
        self.patched.append((name, asyncio.get_running_loop().time()))
        return await self._client.patch(resource, name, patch, **given)


def condition(found: Object | None, type_: str) -> Object:
    conditions: list[Object] = (found or {})["status"]["conditions"]
    return next(each for each in conditions if each["type"] == type_)


async def test_a_status_is_written_once_and_again_only_when_it_changes() -> None:
    world = World(FaultPlan())
    world.node("n")
    async with world.running():
        teller = Teller(world)
        client = Recorded(teller.client)
        writing = asyncio.create_task(teller.statuses.run(client))
        try:
            await until(lambda: len(client.applied) == 2)
            await asyncio.sleep(3 * world.settings.status_seconds)
            assert client.applied == [("Tenant", "a"), ("Tenant", "b")]
            world.pod("a", "p")
            await until(world.bound)
            await until(lambda: len(client.applied) > 2)
            await asyncio.sleep(3 * world.settings.status_seconds)
            assert client.applied[2:] == [("Tenant", "a")]
        finally:
            writing.cancel()


async def test_the_status_of_a_group_whose_room_is_overdue_is_not_written_anew_with_each_look() -> None:
    world = World(FaultPlan())
    world.settings = Settings(minimum_runtime_seconds=0, reserve_after_seconds=1)
    world.scheduler = world.new_scheduler()
    world.tenant("a", policy={"defaultRuntimeSeconds": 30})
    world.node("n")
    async with world.running() as scheduler:
        world.pod("a", "overdue", cpu="1")
        await until(world.bound)
        world.group("a", "g", 2)
        for name in ("g-0", "g-1"):
            world.pod("a", name, cpu="2", group="g")
        teller = Teller(world)
        client = Recorded(teller.client)
        writing = asyncio.create_task(teller.statuses.run(client))

        async def looked(times: int) -> None:
            for _ in range(times):
                world.node(f"small-{len(world.server.objects(NODES))}", cpu="1")  # so the scheduler looks again
                await asyncio.sleep(world.settings.status_seconds)

        try:
            await looked(10)
            status = (world.server.get(POD_GROUPS, "g", "a") or {})["status"]
            assert f"1 node is reserved for it; {OVERDUE}" in status["message"]
            cycles = scheduler.progress.cycles
            client.applied.clear()
            await looked(4)
            assert scheduler.progress.cycles >= cycles + 4
            assert ("PodGroup", "g") not in client.applied
        finally:
            writing.cancel()


async def test_an_object_made_anew_under_its_name_is_told_anew() -> None:
    world = World(FaultPlan())
    pool = {"kind": "NodePool", "apiVersion": "allotment.dev/v1alpha1", "metadata": {"name": "p"}, "spec": {}}
    world.server.put(NODE_POOLS, pool)
    world.group("a", "g", 2)
    async with world.running():
        teller = Teller(world)
        writing = asyncio.create_task(teller.statuses.run(teller.client))
        try:
            objects = {(TENANTS, "", "b"), (NODE_POOLS, "", "p"), (POD_GROUPS, "a", "g")}
            before = {}
            for resource, namespace, name in objects:
                await until(lambda: (world.server.get(resource, name, namespace) or {}).get("status"))  # noqa: B023 - it is over before the next
                before[resource] = world.server.get(resource, name, namespace) or {}
            await asyncio.sleep(world.settings.status_seconds)
            for resource, namespace, name in objects:
                world.server.remove(resource, name, namespace)
                metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
                world.server.put(resource, {**before[resource], "metadata": metadata, "status": {}})
            await asyncio.sleep(2 * world.settings.status_seconds)
            for resource, namespace, name in objects:
                after = world.server.get(resource, name, namespace) or {}
                assert after["metadata"]["uid"] != before[resource]["metadata"]["uid"]
                was, now_ = condition(before[resource], "Scheduled"), condition(after, "Scheduled")
                assert now_["status"] == was["status"]
                assert now_["lastTransitionTime"] > was["lastTransitionTime"], "it says so of this object"
        finally:
            writing.cancel()


async def test_one_status_that_cannot_be_made_keeps_no_other_from_being_told(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(FaultPlan())
    async with world.running():
        world.group("a", "g", 2)
        await until(lambda: world.scheduler.picture.known("PodGroup"))
        teller = Teller(world)

        def fail(gang: object) -> tuple[str, str]:
            raise OverflowError(gang)

        monkeypatch.setattr(teller.statuses, "_phase", fail)

        assert set(teller.due()) == {("Tenant", "a"), ("Tenant", "b")}
        assert teller.value("faults_total", where="status") == 1


async def test_many_statuses_are_made_in_batches_between_which_the_cluster_may_change() -> None:
    world = World(FaultPlan())
    for number in range(3):
        world.node(f"n{number}")
        pool = {"kind": "NodePool", "apiVersion": "allotment.dev/v1alpha1", "metadata": {"name": f"p{number}"}}
        world.server.put(NODE_POOLS, {**pool, "spec": {"selector": {"matchLabels": {"pool": "x"}}}})
    for number in range(600):
        world.group("a", f"g{number:03}", 2)
    async with world.running() as scheduler:
        await until(lambda: len([*scheduler.picture.known("PodGroup")]) == 600)
        teller = Teller(world)
        told = list[tuple[str, str]]()
        for number, batch in enumerate(teller.statuses.batches()):
            assert len(batch) <= 256
            told += [(resource.kind, key[1]) for resource, key, _ in batch]
            if number == 0:
                world.server.remove(NODES, "n0")
                world.server.remove(POD_GROUPS, "g599", "a")
                world.tenant("b", weight=2)
                await until(lambda: "n0" not in scheduler.state.nodes.by_name)
                await until(lambda: ("a", "g599") not in scheduler.picture.groups.in_force)

        assert len(told) == len(set(told)) == 2 + 3 + 599
        assert teller.value("faults_total", where="status") == 0
        assert teller.due().keys() == set(told), "nothing was written yet"


async def test_pools_that_share_nodes_say_so_from_when_they_do() -> None:
    world = World(FaultPlan())
    world.node("n")
    pool = {"kind": "NodePool", "apiVersion": "allotment.dev/v1alpha1"}
    for name in ("p", "q"):
        spec = {"selector": {"matchExpressions": [{"key": name, "operator": "Exists"}]}}
        world.server.put(NODE_POOLS, {**pool, "metadata": {"name": name}, "spec": spec})
    async with world.running() as scheduler:
        await until(lambda: len(scheduler.state.nodes.pools) == 2)
        teller = Teller(world)

        def overlapping() -> dict[str, str]:
            due = teller.due()
            return {name: condition({"status": due["NodePool", name]}, "Overlapping")["status"] for name in ("p", "q")}

        assert overlapping() == {"p": "False", "q": "False"}
        node = world.server.get(NODES, "n") or {}
        world.server.put(NODES, {**node, "metadata": {**node["metadata"], "labels": {"p": "", "q": ""}}})
        await until(lambda: scheduler.state.nodes.by_name["n"].spec.labels)
        assert overlapping() == {"p": "True", "q": "True"}
        scheduler._known.doubt()
        before = scheduler.state
        await until(lambda: scheduler.state is not before)
        assert overlapping() == {"p": "True", "q": "True"}


@pytest.mark.parametrize(
    ("seconds", "want"),
    [
        (0.0, "1970-01-01T00:00:00Z"),
        (-1e18, "1970-01-01T00:00:00Z"),
        (1e18, "9999-12-31T23:59:59Z"),
        (float("inf"), "9999-12-31T23:59:59Z"),
    ],
)
def test_a_time_that_no_calendar_has_can_be_written_all_the_same(seconds: float, want: str) -> None:
    assert stamp(seconds) == want


async def test_backoffs_are_told_by_their_owners_tenant_in_one_look_at_all_pods() -> None:
    world = World(FaultPlan())
    async with world.running() as scheduler:
        for namespace in "ab":
            for number in range(3):
                world.pod(namespace, f"p{number}", owner=("ReplicaSet", f"set-of-{namespace}"))
        await until(lambda: len(scheduler.state.pods) == 6)
        for name in ("set-of-a", "set-of-nobody"):
            scheduler.engine.brakes.backoffs[name] = Backoff(2, EPOCH)

        told = Teller(world).due()

    record = {"workload": "set-of-a", "evictions": 2, "until": stamp(EPOCH)}
    assert told["Tenant", "a"]["evictions"] == {"backoff": [record]}
    assert "evictions" not in told["Tenant", "b"]


async def test_a_group_whose_members_have_all_succeeded_is_finished() -> None:
    world = World(FaultPlan())
    world.node("n")
    async with world.running():
        world.group("a", "g", 2)
        for name in ("g-0", "g-1"):
            world.pod("a", name, group="g")
        await until(lambda: len(world.bound()) == 2)
        assert Teller(world).due()["PodGroup", "g"]["phase"] == "Running"
        for done, name in enumerate(("g-0", "g-1")):
            assert Teller(world).due()["PodGroup", "g"]["finished"] == done
            found = world.server.get(PODS, name, "a") or {}
            world.server.put(PODS, {**found, "status": {"phase": "Succeeded"}})
            await until(lambda: len(world.scheduler.state.pods) == 1 - done)  # noqa: B023 - it is over before the next
        await until(lambda: not world.scheduler.state.pods)
        await asyncio.sleep(5)

        status = Teller(world).due()["PodGroup", "g"]

    assert (status["phase"], status["finished"], status.get("message")) == ("Finished", 2, None)
    assert condition({"status": status}, "Scheduled")["status"] == "True"


async def test_a_new_leader_leaves_the_times_of_conditions_as_they_are() -> None:
    world = World(FaultPlan())
    async with world.running() as scheduler:
        world.group("a", "g", 1)
        world.pod("a", "waits")
        await until(lambda: scheduler.picture.known("PodGroup") and scheduler.state.pods)
        writing = asyncio.create_task(Teller(world).statuses.run(Teller(world).client))
        telling = asyncio.create_task(Teller(world).reporter.run(Teller(world).client))
        await until(lambda: (world.server.get(POD_GROUPS, "g", "a") or {}).get("status"))
        await until(lambda: scheduler.picture.said(("a", "waits")))
        for task in (writing, telling):
            task.cancel()
        before = condition(world.server.get(POD_GROUPS, "g", "a"), "Scheduled")["lastTransitionTime"]
        since = condition(world.server.get(PODS, "waits", "a"), "PodScheduled")["lastTransitionTime"]
        await asyncio.sleep(20)
        world.tenant("a", suspended=True)
        await until(lambda: scheduler.state.forest.by_name["a"].spec.suspended)
        later = Teller(world)
        await later.reporter._write_all(later.client, later.reporter.pass_over())

        told = condition({"status": later.due()["PodGroup", "g"]}, "Scheduled")
        said = condition(world.server.get(PODS, "waits", "a"), "PodScheduled")
        assert (told["lastTransitionTime"], said["lastTransitionTime"]) == (before, since)
        assert said["message"].startswith("TenantSuspended")


async def test_which_version_a_tenants_condition_speaks_of_is_told() -> None:
    world = World(FaultPlan())
    async with world.running() as scheduler:
        generation = scheduler.picture.generations["Tenant", ("", "a")]

        told = Teller(world).due()

    assert condition({"status": told["Tenant", "a"]}, "Scheduled")["observedGeneration"] == generation


async def test_a_pod_is_told_again_at_once_for_another_reason_and_each_minute_for_new_numbers() -> None:
    world = World(FaultPlan())
    world.node("n", cpu="4")
    world.tenant("a", limits={"cpu": "1"})
    world.settings = world.settings.model_copy(update={"numbers_seconds": 10.0})
    async with world.running():
        world.pod("a", "runs")
        await until(world.bound)
        world.pod("a", "waits", cpu="3")
        teller = Teller(world)
        client = Recorded(teller.client)
        telling = asyncio.create_task(teller.reporter.run(client))
        try:
            await until(lambda: client.patched)
            first = client.patched[0][1]
            world.tenant("a", limits={"cpu": "2"})
            await until(lambda: len(client.patched) == 2)
            assert client.patched[1][1] - first >= world.settings.numbers_seconds
            world.tenant("a", limits={"cpu": "2"}, suspended=True)
            await until(lambda: len(client.patched) == 3)
            assert client.patched[2][1] - client.patched[1][1] < world.settings.numbers_seconds
        finally:
            telling.cancel()


async def test_each_pass_explains_so_many_pods_and_all_have_their_turn_also_after_another_leader() -> None:
    world = World(FaultPlan())
    world.settings = world.settings.model_copy(update={"explained_per_pass": 10})
    async with world.running() as scheduler:
        for number in range(35):
            world.pod("a", f"p{number}")
        await until(lambda: len(scheduler.state.pods) == 35)
        first = Teller(world)
        for want in (10, 20, 30, 35):
            await first.reporter._write_all(first.client, first.reporter.pass_over())
            assert first.value("pending_pods", reason="NoNodeFits") == want
            assert (first.value("pending_pods", reason=NOT_SEEN) or 0) == 35 - want
        await until(lambda: all(scheduler.picture.said(key) for key in scheduler.state.pods))

        second = Teller(world)
        written = [second.reporter.pass_over() for _ in range(4)]

    assert written == [[], [], [], []]
    assert second.value("pending_pods", reason="NoNodeFits") == 35


async def test_pods_are_told_even_where_no_cycle_decides_all_it_could() -> None:
    world = World(FaultPlan())
    async with world.running() as scheduler:
        world.pod("a", "p")
        await until(lambda: scheduler.state.pods)
        teller = Teller(world)
        telling = asyncio.create_task(teller.reporter.run(Recorded(teller.client)))
        try:
            await until(lambda: scheduler.picture.said(("a", "p")))
            complete = scheduler.progress.complete
            world.tenant("a", suspended=True)
            for _ in range(int(3 * LONGEST_SILENCE)):
                scheduler.progress.complete = complete  # as if every cycle were cut short
                await asyncio.sleep(1)
        finally:
            telling.cancel()

        assert condition(world.server.get(PODS, "p", "a"), "PodScheduled")["reason"] == "TenantSuspended"


async def test_a_pod_that_only_nodes_are_missing_for_is_unschedulable_and_no_other() -> None:
    """By the reason Unschedulable a cluster autoscaler buys nodes."""
    world = World(FaultPlan())
    for name in "nm":
        world.node(name, cpu="2")
    world.tenant("b", limits={"cpu": "1"})
    async with world.running():
        for name in ("runs-0", "runs-1"):
            world.pod("a", name)
        await until(lambda: len(world.bound()) == 2)
        world.pod("a", "too-large", cpu="3")
        world.pod("a", "fragmented", cpu="2")
        world.pod("b", "above-limit", cpu="2")
        teller = Teller(world)
        telling = asyncio.create_task(teller.reporter.run(teller.client))
        try:
            names = ("too-large", "fragmented", "above-limit")
            pods = {name: "b" if name == "above-limit" else "a" for name in names}
            await until(lambda: all(world.scheduler.picture.said((pods[name], name)) for name in names))
        finally:
            telling.cancel()
        told = {name: condition(world.server.get(PODS, name, pods[name]), "PodScheduled") for name in names}

    assert {name: each["reason"] for name, each in told.items()} == {
        "too-large": "Unschedulable", "fragmented": "Unschedulable", "above-limit": "AboveLimit",
    }  # fmt: skip
    assert told["fragmented"]["message"].startswith("Fragmented: ")


async def reasons(world: World, **pods: str) -> dict[str, str]:
    """The reasons in the conditions of some pods of these namespaces, by name, once each has been told something."""
    teller = Teller(world)
    telling = asyncio.create_task(teller.reporter.run(teller.client))
    try:
        await until(lambda: all(world.scheduler.picture.said((pods[name], name)) for name in pods))
        await asyncio.sleep(2 * world.settings.numbers_seconds)  # whatever it was told first
    finally:
        telling.cancel()
    told = {name: world.server.get(PODS, name, pods[name]) for name in pods}
    return {name: condition(each, "PodScheduled")["reason"] for name, each in told.items()}


async def test_no_node_is_bought_for_a_tenant_above_its_share() -> None:
    world = World(FaultPlan())
    world.settings = world.settings.model_copy(update={"minimum_runtime_seconds": 3600})
    world.scheduler.configure()
    for name in "nm":
        world.node(name, cpu="4")
    async with world.running():
        for name in ("runs-0", "runs-1"):
            world.pod("a", name, cpu="3")
        await until(lambda: len(world.bound()) == 2)
        for name, namespace, cpu in (("third", "a", "2"), ("huge", "a", "5"), ("claims", "b", "4")):
            world.pod(namespace, name, cpu=cpu)
        told = await reasons(world, third="a", huge="a", claims="b")
        assert told == {"third": "Fragmented", "huge": "NoNodeFits", "claims": "BehindFairShare"}, "half of it is b's"

        world.server.remove(PODS, "claims", "b")
        assert await reasons(world, third="a", huge="a") == {"third": "Unschedulable", "huge": "Unschedulable"}


async def test_on_a_full_cluster_nodes_are_bought_for_what_a_guarantee_covers_and_for_nothing_else() -> None:
    world = World(FaultPlan())
    world.node("n", cpu="2")
    world.tenant("a", guaranteed={"cpu": "3"})
    async with world.running():
        for name in ("runs-0", "runs-1"):
            world.pod("a", name)
        await until(lambda: len(world.bound()) == 2)
        world.pod("a", "covered")
        world.pod("a", "beyond", cpu="2")
        world.pod("b", "without")
        assert await reasons(world, covered="a", beyond="a", without="b") == {
            "covered": "Unschedulable", "beyond": "BehindFairShare", "without": "BehindFairShare",
        }  # fmt: skip


async def test_nodes_are_bought_for_resources_that_the_cluster_does_not_have_yet() -> None:
    world = World(FaultPlan())
    world.node("n")
    async with world.running():
        world.pod("a", "trains")
        pod = world.server.get(PODS, "trains", "a") or {}
        [container] = pod["spec"]["containers"]
        asks = [{**container, "resources": {"requests": {"cpu": "1", "nvidia.com/gpu": "1"}}}]
        world.server.put(PODS, {**pod, "spec": {**pod["spec"], "containers": asks}})
        world.pod("a", "stays")
        pod = world.server.get(PODS, "stays", "a") or {}
        labels = {"allotment.dev/preemptible": "false"}
        world.server.put(PODS, {**pod, "metadata": {**pod["metadata"], "labels": labels}})
        assert await reasons(world, trains="a", stays="a") == {"trains": "Unschedulable", "stays": "BeyondGuarantee"}


async def test_from_creation_to_binding_is_measured_when_the_watch_shows_our_own_start() -> None:
    world = World(FaultPlan())
    world.node("n")
    async with world.running() as scheduler:
        world.pod("a", "p")
        await until(world.bound)
        await until(lambda: not scheduler.ledger.starts)
        found = scheduler._metrics.registry.get_sample_value("allotment_scheduler_start_seconds_count")

    assert found == 1


async def test_a_pod_whose_request_cannot_be_counted_waits_and_says_so() -> None:
    world = World(FaultPlan())
    world.node("n")
    async with world.running():
        world.pod("a", "endless", cpu="9223372036854775807")
        world.pod("a", "plain")
        await until(lambda: world.bound() == {"plain": "n"})
        teller = Teller(world)
        await teller.reporter._write_all(teller.client, teller.reporter.pass_over())

        said = condition(world.server.get(PODS, "endless", "a"), "PodScheduled")
        assert said["message"].startswith("InvalidRequest: ")
        assert teller.value("pending_pods", reason="InvalidRequest") == 1


async def test_a_pod_that_names_more_resources_than_anybody_means_waits_alone_and_says_so() -> None:
    world = World(FaultPlan())
    world.node("n")
    async with world.running() as scheduler:
        width = scheduler.state.resources.width
        asks = {"cpu": "1", **{f"x.example/r{number}": "1" for number in range(20_000)}}
        world.pod("a", "hostile", containers=[{"name": "main", "resources": {"requests": asks}}])
        world.pod("a", "plain")
        await until(lambda: world.bound() == {"plain": "n"})
        teller = Teller(world)
        await teller.reporter._write_all(teller.client, teller.reporter.pass_over())

        said = condition(world.server.get(PODS, "hostile", "a"), "PodScheduled")
        assert said["message"] == "InvalidRequest: it asks for 20001 different resources: ask for at most 64"
        assert scheduler.state.resources.width == width


async def test_a_pod_whose_room_is_being_made_says_so_and_no_other_tenants_pod() -> None:
    world = World(FaultPlan(), graceful=True)
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        await world.claimed()
        await world.being_evicted()
        teller = Teller(world)
        telling = asyncio.create_task(teller.reporter.run(teller.client))
        try:
            await until(lambda: world.status("a", "claimant").get("conditions"))
            said = condition(world.server.get(PODS, "claimant", "a"), "PodScheduled")
            assert (said["status"], said["reason"]) == ("False", STARTING)
            assert said["message"] == f"{STARTING}: room is being made for it on node n: one pod has still to end"
            assert teller.value("pending_pods", reason=STARTING) == 1
            why = teller.reporter.explain(("a", "claimant"))
            assert why is not None
            assert why.code == STARTING

            world.server.remove(PODS, "victim", "a")
            await until(lambda: world.bound() == {"claimant": "n"})
            await until(lambda: not scheduler.ledger.starts)
            await asyncio.sleep(2 * LONGEST_SILENCE)
            assert teller.reporter.explain(("a", "claimant")) is None
            assert not teller.value("pending_pods", reason=STARTING)
            assert condition(world.server.get(PODS, "claimant", "a"), "PodScheduled")["status"] == "True"
        finally:
            telling.cancel()


async def test_a_fault_over_one_pods_explanation_keeps_nobody_else_from_being_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    explained = Explainer.why

    def fails(explainer: Explainer, pod: Pod) -> Why:
        if pod.spec.name == "poison":
            raise KeyError("of ours")
        return explained(explainer, pod)

    monkeypatch.setattr(Explainer, "why", fails)
    world = World(FaultPlan())
    world.node("n")
    async with world.running() as scheduler:
        for name in ("poison", "huge"):
            world.pod("a", name, cpu="99")
        await until(lambda: len(scheduler.state.pods) == 2)
        teller = Teller(world)
        for _ in range(2):
            await teller.reporter._write_all(teller.client, teller.reporter.pass_over())

        assert condition(world.server.get(PODS, "huge", "a"), "PodScheduled")["reason"] == "Unschedulable"
        said = condition(world.server.get(PODS, "poison", "a"), "PodScheduled")
        assert said["message"] == "Unexplained: why it waits cannot be told, for a fault of the scheduler: KeyError"
        assert teller.value("pending_pods", reason="Unexplained") == 1
        assert teller.value("faults_total", where="report") == 2
        why = teller.reporter.explain(("a", "poison"))
        assert why is not None
        assert why.code == "Unexplained"
