"""Against the fault-injecting API server, on virtual time: whatever the network does, nothing is bound twice, no node
holds more than it has, gangs start whole, and in the end everybody runs who can."""

import asyncio
import gc
import logging
import random
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from allotment_kube.resources import (
    JOBS,
    NAMESPACES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    STORAGE_CLASSES,
)
from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects.events import PodGone, PodSeen, PodSetAside
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.core.state.invariants import check
from allotment_scheduler.shell.evictor import Evictor
from allotment_scheduler.shell.loop import tame_collector
from allotment_scheduler.shell.recovery import rebuilt
from allotment_scheduler.shell.settings import Settings
from builders.live_world import EPOCH, World, until
from fakes.faults import Fault, FaultPlan, Verb

pytestmark = pytest.mark.looptime


def stumbling_over_pods() -> Callable[[Pod], None]:
    """A function that fails over the pod it is given, and passes for one of the core's."""
    scope: dict[str, Any] = {"__name__": "allotment_scheduler.core.cycle"}
    exec("def stumble(pod):\n    1 // 0\n", scope)
    found: Callable[[Pod], None] = scope["stumble"]
    return found


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


async def test_a_pod_whose_binding_is_in_doubt_counts_until_it_has_been_read() -> None:
    """Its answers are lost, then nobody is reached, and no watch tells: its tenant's limit is not given away twice."""
    world = World(FaultPlan())
    world.node("n")
    world.tenant("a", limits={"cpu": "1"})
    async with world.running() as scheduler:
        await until(lambda: "a" in scheduler.state.forest.by_name)
        silent, shown = True, scheduler.ledger.seen_bound
        scheduler.ledger.seen_bound = lambda *seen: None if silent else shown(*seen)  # type: ignore[method-assign]  # a watch that lags
        world.plan.script(Verb.BIND, Fault.CONFLICT)
        world.pod("a", "first")
        await until(lambda: any(start.doubt for start in scheduler.ledger.starts.values()))
        world.pod("a", "second")
        await asyncio.sleep(0.5)
        assert not world.bound()
        silent = False
        await until(lambda: len(world.bound()) == 1)
        await asyncio.sleep(60)
        assert len(world.bound()) == 1
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
        await world.claimed()
        await world.being_evicted()
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
        await world.claimed()
        await world.being_evicted()
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
        bound = {**claim["metadata"], "annotations": {"pv.kubernetes.io/bind-completed": "yes"}}
        spec = {**claim["spec"], "volumeName": "disk"}
        world.server.put(PERSISTENT_VOLUME_CLAIMS, {"metadata": bound, "spec": spec})
        await until(lambda: world.bound() == {"p": "n"})
    check(scheduler.state)


async def test_existing_volumes_go_to_claims_that_wait_each_to_one_and_within_reach() -> None:
    world = World(FaultPlan())
    for name in "nm":
        world.node(name)
    kind = {"provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"}
    world.server.put(STORAGE_CLASSES, {"metadata": {"name": "local"}, **kind})
    for name in "nm":
        term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}
        spec = {
            "storageClassName": "local",
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
        }
        volume = {"metadata": {"name": f"disk-{name}"}, "spec": spec, "status": {"phase": "Available"}}
        world.server.put(PERSISTENT_VOLUMES, volume)
    async with world.running() as scheduler:
        for number in range(3):
            spec = {
                "storageClassName": "local",
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "5Gi"}},
            }
            claim = {"metadata": {"name": f"data-{number}", "namespace": "a"}, "spec": spec}
            world.server.put(PERSISTENT_VOLUME_CLAIMS, claim)
            world.pod("a", f"p{number}", claim=f"data-{number}")

        def named() -> dict[str, str]:
            claims = world.server.objects(PERSISTENT_VOLUME_CLAIMS)
            return {each["metadata"]["name"]: each["spec"].get("volumeName", "") for each in claims}

        await until(lambda: sorted(filter(None, named().values())) == ["disk-m", "disk-n"])
        await asyncio.sleep(5)
        assert world.bound() == {}
        for found in world.server.objects(PERSISTENT_VOLUME_CLAIMS):  # as the controller manager does
            if found["spec"].get("volumeName"):
                done = {**found["metadata"], "annotations": {"pv.kubernetes.io/bind-completed": "yes"}}
                world.server.put(PERSISTENT_VOLUME_CLAIMS, {**found, "metadata": done})
        await until(lambda: len(world.bound()) == 2)
        await asyncio.sleep(5)
        volumes = named()
        bound = {pod: volumes[f"data-{pod[1]}"] for pod in world.bound()}
        assert all(bound[pod] == f"disk-{node}" for pod, node in world.bound().items())
    check(scheduler.state)


async def test_a_refused_eviction_gives_the_plan_up_and_loses_nothing() -> None:
    world = World(FaultPlan())
    world.settings = Settings(minimum_runtime_seconds=0, eviction_seconds=2)
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        await world.claimed(*[Fault.ERROR] * 8)
        await asyncio.sleep(4)
        assert world.bound() == {"victim": "n"}
        await until(lambda: world.bound() == {"claimant": "n"}, seconds=300)
    check(scheduler.state)


async def test_a_plan_that_is_given_up_leaves_no_mark_behind() -> None:
    world = World(FaultPlan())
    world.settings = Settings(minimum_runtime_seconds=0, eviction_seconds=2)
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        await world.claimed(*[Fault.ERROR] * 4000)
        await until(lambda: world.status("a", "claimant").get("nominatedNodeName") == "n")
        world.tenant("a", suspended=True)  # or the next plan would be the same
        await until(lambda: "nominatedNodeName" not in world.status("a", "claimant"))
        assert world.bound() == {"victim": "n"}
    check(scheduler.state)


async def test_nobody_is_evicted_for_a_claimant_that_is_gone() -> None:
    world = World(FaultPlan())
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        await world.claimed(*[Fault.UNAVAILABLE] * 5)
        await until(lambda: world.plan.injected[Verb.EVICT, Fault.UNAVAILABLE] > 0)
        world.server.remove(PODS, "claimant", "a")
        await until(lambda: not scheduler.ledger.departures)
        await asyncio.sleep(60)
        assert world.bound() == {"victim": "n"}
    check(scheduler.state)


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (lambda _: None, True),
        (lambda world: world.node("n", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}]), False),
        (lambda world: world.node("n", unschedulable=True), False),
        (lambda world: world.tenant("a", limits={"cpu": "1"}), False),
        (lambda world: world.tenant("a", suspended=True), False),
        (lambda world: world.node("n", cpu="1"), False),
    ],
    ids=["nothing changed", "the node was tainted", "the node was cordoned", "the tenant was limited",
         "the tenant was suspended", "the node has shrunk"],
)  # fmt: skip
async def test_a_successor_keeps_a_promise_only_where_it_still_can(
    change: Callable[[World], None], *, kept: bool
) -> None:
    world = World(FaultPlan(), graceful=True)
    world.node("n", cpu="2")
    async with world.running():
        await world.claimed()
        await world.being_evicted()
    change(world)
    world.scheduler = world.new_scheduler()
    async with world.running() as successor:
        await asyncio.sleep(5)
        assert (("a", "claimant") in successor.ledger.starts) == kept
        assert ("nominatedNodeName" in world.status("a", "claimant")) == kept
        world.server.remove(PODS, "victim", "a")
        await asyncio.sleep(5)
        assert (world.bound() == {"claimant": "n"}) == kept
    check(successor.state)


async def test_a_fault_in_deciding_sets_its_unit_aside_and_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(FaultPlan())
    world.node("n", cpu="8")
    cycle = Engine.cycle

    def faulty(engine: Engine, now: float, **given: Any) -> Any:
        for pod in engine.state.waiting():
            if pod.spec.name == "poison" and not pod.spec.gated:
                stumble(pod)
        return cycle(engine, now, **given)

    stumble = stumbling_over_pods()
    async with world.running() as scheduler:
        world.pod("a", "before")
        await until(lambda: "before" in world.bound())
        monkeypatch.setattr(Engine, "cycle", faulty)
        world.pod("a", "poison")
        world.pod("a", "after")
        await until(lambda: "after" in world.bound())
        assert "poison" not in world.bound()
        assert scheduler.ledger.in_quarantine == 1
        refusal = scheduler.ledger.refusal(("a", "poison"))
        assert refusal is not None
        assert "ZeroDivisionError" in refusal[0]
        await asyncio.sleep(600)
        refusal = scheduler.ledger.refusal(("a", "poison"))
        assert refusal is None or refusal[1] < 10  # doubling times, no busy loop
        assert scheduler.progress.leading
        monkeypatch.undo()
        await until(lambda: "poison" in world.bound(), seconds=700)
    check(scheduler.state)


async def test_a_fault_of_every_cycle_ends_the_program_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(FaultPlan())

    def faulty(_engine: Engine, _now: float, **_given: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(Engine, "cycle", faulty)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(ExceptionGroup) as failed:
        async with world.running():
            await asyncio.sleep(3600)
    assert failed.group_contains(ZeroDivisionError)
    assert loop.time() - began > 100


async def test_an_object_that_cannot_be_taken_in_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(FaultPlan())
    world.node("n", cpu="8")
    apply = ClusterState.apply

    def faulty(state: ClusterState, event: Any) -> None:
        apply(state, event)
        if isinstance(event, PodSeen) and event.spec.name == "poison":
            raise ZeroDivisionError

    monkeypatch.setattr(ClusterState, "apply", faulty)
    async with world.running() as scheduler:
        world.pod("a", "poison")
        world.pod("a", "fine")
        await until(lambda: "fine" in world.bound())
        assert "ZeroDivisionError" in scheduler.picture.invalid_pods["a", "poison"]


async def test_a_state_built_anew_is_the_same_but_for_what_was_half_done() -> None:
    world = World(FaultPlan(), graceful=True)
    world.node("n", cpu="4")
    world.node("m", cpu="1")
    async with world.running() as scheduler:
        world.pod("a", "victim", cpu="4")
        await until(lambda: world.bound() == {"victim": "n"})
        world.pod("a", "claimant", cpu="4", priority=9)
        await world.being_evicted()
        world.pod("a", "small")
        await until(lambda: world.bound().get("small") == "m")
        old = scheduler.state
        fresh = rebuilt(old, scheduler.ledger, scheduler.picture.seats)
        for state in (old, fresh):
            state.settle()
        assert {key: (pod.node, pod.spec.deleting) for key, pod in fresh.pods.items()} == {
            key: (pod.node, pod.spec.deleting) for key, pod in old.pods.items()
        }
        assert (fresh.nodes.free == old.nodes.free).all()
        check(fresh)


async def test_a_state_built_anew_forgets_nothing_that_only_the_old_one_knew() -> None:
    world = World(FaultPlan(), graceful=True)
    world.settings = Settings(minimum_runtime_seconds=0, reserve_after_seconds=5)
    world.node("n", cpu="4")
    async with world.running() as scheduler:
        world.pod("a", "victim", cpu="4", owner=("ReplicaSet", "rs"))
        await until(lambda: world.bound() == {"victim": "n"})
        world.pod("a", "claimant", cpu="4", priority=9)
        await world.being_evicted()
        world.group("a", "g", 2)
        for number in range(2):
            world.pod("a", f"g-{number}", cpu="2", group="g")
        await until(lambda: scheduler.engine.reservations.misfits)
        old = scheduler.state
        old.gangs["a", "g"].finished.add(("a", "g-9"))
        old.apply(PodSetAside(("a", "g-1"), old.now + 100, "a fault"))
        old.disruptions["a", "budget"] = 3
        misfits = dict(scheduler.engine.reservations.misfits)

        scheduler._known.rebuild()

        fresh = scheduler.state
        assert scheduler.engine.reservations.misfits == misfits
        assert fresh.gangs["a", "g"].min_member == 1
        assert fresh.pods["a", "g-1"].set_aside == old.pods["a", "g-1"].set_aside
        assert fresh.pods["a", "g-1"].times_set_aside == 1
        assert fresh.set_aside == {("a", "g-1")}
        assert fresh.disruptions == {("a", "budget"): 3}
        assert {key: (pod.arrival, pod.leaving) for key, pod in fresh.pods.items()} == {
            key: (pod.arrival, pod.leaving) for key, pod in old.pods.items()
        }
        assert fresh.population.turns.owners_evicted == {"rs": (1, old.population.turns.owners_evicted["rs"][1])}
        check(fresh)


async def test_a_fault_over_an_answer_to_a_binding_ends_nothing_and_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(FaultPlan())
    world.node("n", cpu="8")
    failed = 0

    def faulty(*_given: Any, **_named: Any) -> Any:
        nonlocal failed
        failed += 1
        raise ZeroDivisionError

    async with world.running() as scheduler:
        monkeypatch.setattr(scheduler._outcomes, "bound", faulty)
        world.pod("a", "p")
        await until(lambda: world.bound() == {"p": "n"})
        await until(lambda: not scheduler.ledger.starts)
        monkeypatch.undo()
        world.pod("a", "q")
        await until(lambda: "q" in world.bound())
        await until(lambda: not scheduler.ledger.starts)
        assert scheduler.progress.leading
        assert not scheduler._known.doubtful
        assert failed == 1
    check(scheduler.state)


async def test_a_fault_in_an_errand_casts_doubt_on_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(FaultPlan())
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        before = scheduler.state

        async def faulty(*_given: Any, **_named: Any) -> None:
            await asyncio.sleep(0.1)
            raise ZeroDivisionError

        monkeypatch.setattr(Evictor, "carry_out", faulty)
        await world.claimed()
        await until(lambda: scheduler.state is not before)
        monkeypatch.undo()
        await until(lambda: world.bound() == {"claimant": "n"})
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


async def test_a_pod_whose_own_binding_is_under_way_is_not_evicted_before_it_stands() -> None:
    """An eviction of a pod without a node would delete it."""
    world = World(FaultPlan())
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        world.plan.script(Verb.BIND, *[Fault.UNAVAILABLE] * 3)
        world.pod("a", "victim", cpu="2")
        await until(lambda: world.plan.injected[Verb.BIND, Fault.UNAVAILABLE] > 0)
        world.pod("a", "claimant", cpu="2", priority=9)
        stood = False
        while world.bound() != {"claimant": "n"}:
            victim = world.server.get(PODS, "victim", "a")
            stood = stood or "victim" in world.bound()
            assert victim is not None or stood, "it was evicted from nowhere"
            await asyncio.sleep(0.02)
    check(scheduler.state)


async def test_a_new_state_knows_for_whom_room_is_held_and_until_when() -> None:
    """Also for the successor of a pod that had only just gone; the room is free with the end of the Job."""
    world = World(FaultPlan())
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        job = world.job("a", "j", gang=True)
        world.pod("a", "mine", cpu="2", owner=("Job", job))
        await until(lambda: world.bound() == {"mine": "n"})
        world.server.remove(PODS, "mine", "a")
        scheduler.state.apply(PodGone(("a", "mine")))
        scheduler._known.rebuild()
        world.pod("a", "stranger", cpu="2")
        await asyncio.sleep(10)
        assert world.bound() == {}, "the room is held for the Job's next pod"
        scheduler._known.rebuild()
        await asyncio.sleep(10)
        assert world.bound() == {}
        world.server.remove(JOBS, "j", "a")
        await until(lambda: world.bound() == {"stranger": "n"})
    check(scheduler.state)


async def test_a_new_state_numbers_resources_as_the_old_one_did() -> None:
    """What is kept beside the state, such as room held for a successor, names them by number."""
    world = World(FaultPlan())
    async with world.running() as scheduler:
        for name in ("b.example/first", "a.example/second"):
            scheduler.state.resources.column(name)
        old = scheduler.state.resources.columns

        scheduler._known.rebuild()

        assert old.items() <= scheduler.state.resources.columns.items()


@pytest.mark.parametrize("faults", [[], ["one"]], ids=["in doubt", "a cycle fails"])
async def test_a_state_that_was_replaced_is_let_go_of_though_it_was_frozen(
    faults: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is hundreds of megabytes in a large cluster, and the new one is not for the collector to look at either."""
    cycle, left = Engine.cycle, [*faults]

    def fails_once(engine: Engine, *given: Any, **named: Any) -> Any:
        if left:
            raise RuntimeError(left.pop())
        return cycle(engine, *given, **named)

    monkeypatch.setattr(logging.getLogger("allotment_scheduler.shell.loop"), "disabled", True)  # records are kept here
    world = World(FaultPlan())
    world.node("n")
    try:
        async with world.running() as scheduler:
            world.pod("a", "p")
            await until(lambda: world.bound() == {"p": "n"})
            tame_collector()
            old = weakref.ref(scheduler.state)
            monkeypatch.setattr(Engine, "cycle", fails_once)
            if not faults:
                scheduler._known.doubt()
            world.pod("a", "q")
            await until(lambda: old() is None)
            assert not left
            assert gc.get_freeze_count()
    finally:
        gc.unfreeze()
