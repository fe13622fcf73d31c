"""Who has which devices: starts, departures, trials, evictions, shared claims, and what the API server says of them."""

from dataclasses import dataclass, replace

import pytest
from msgspec import structs

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.explanation.explain import Explainer, Why
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.attachments import Slice, device_resource
from allotment_scheduler.core.objects.devices import (
    Alike,
    ClaimKey,
    Device,
    DeviceClaim,
    DeviceFacts,
    Holding,
    NodeDevices,
    Wish,
)
from allotment_scheduler.core.objects.nodes import NodeSpec
from allotment_scheduler.core.objects.pods import PodKey, PodSpec, SchedulingSpec
from allotment_scheduler.core.objects.tenants import TenantSpec
from allotment_scheduler.core.objects.units import GroupSpec
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.core.state.invariants import check
from builders.scheduling import start_as_decided

DRIVER = "gpu.example.com"
GPU = device_resource("gpu")
SIDE = (DRIVER, "side")


@dataclass(frozen=True)
class Every:
    """Selects every device."""

    def selects(self, facts: DeviceFacts) -> bool:
        return facts.driver == DRIVER


def devices(node: str, count: int) -> Slice:
    """Devices of a node, alternately on its left and right side."""
    listed = tuple(
        Device((DRIVER, node, f"d{number}"), DeviceFacts(DRIVER, {SIDE: "lr"[number % 2]})) for number in range(count)
    )
    return Slice(node, node, (("gpu", count),), NodeDevices(listed))


def asking(count: int | None = 1, *, key: ClaimKey | None = None, alike: bool = False) -> DeviceClaim:
    rules = (Alike(SIDE),) if alike else ()
    return DeviceClaim("gpu", ((Wish("r", Every(), count),),), rules, key)


def pod(name: str, claim: DeviceClaim | None, *, tenant: str = "a", counted: int = 1, **more: object) -> PodSpec:
    requests = (("cpu", 1000),) if claim is None else (("cpu", 1000), (GPU, counted))
    scheduling = SchedulingSpec(tuple(sorted(requests)), devices=() if claim is None else (claim,))
    return PodSpec(tenant, name, scheduling, uid=f"uid-{name}", **more)  # type: ignore[arg-type]


def cluster(*pods: PodSpec, tenants: tuple[TenantSpec, ...] = (), **nodes: int) -> Engine:
    state = ClusterState()
    for name, count in nodes.items():
        state.apply(ev.NodeSeen(NodeSpec(name, {"cpu": 64_000, "memory": 2**40, "pods": 110})))
        state.apply(ev.StorageSeen(devices(name, count)))
    for tenant in tenants or (TenantSpec("a", namespaces=("a",)),):
        state.apply(ev.TenantSeen(tenant))
        for space in tenant.namespaces:
            state.apply(ev.NamespaceSeen(space, {}, tenant.name))
    for each in pods:
        state.apply(ev.PodSeen(each))
    return Engine(state)


def started(engine: Engine) -> dict[str, str]:
    """Where pods are after as many cycles as anything happens in."""
    while engine.cycle(1.0):
        check(engine.state)
    return {key[1]: found.node for key, found in engine.state.pods.items() if found.node is not None}


def given(engine: Engine, name: str) -> list[str]:
    chosen = engine.state.counters.devices.chosen(f"uid-{name}")
    return [grant.device[2] for grants in chosen.values() for grant in grants]


def why(engine: Engine, name: str) -> Why:
    return Explainer(engine).why(engine.state.pods["a", name])


def holding(name: str, node: str, *numbers: int, consumers: tuple[str, ...] = ()) -> Holding:
    ids = tuple((DRIVER, node, f"d{number}") for number in numbers)
    return Holding(("a", name), ids, tuple(f"uid-{each}" for each in consumers))


def test_who_starts_is_given_devices_that_nobody_has() -> None:
    engine = cluster(*(pod(f"p{number}", asking()) for number in range(3)), n=2)

    assert started(engine) == {"p0": "n", "p1": "n"}
    assert [given(engine, name) for name in ("p0", "p1", "p2")] == [["d0"], ["d1"], []]


def test_what_is_left_must_suit() -> None:
    # d0 and d2 are on one side; with d0 gone no two alike are left among three.
    engine = cluster(pod("p", asking(2, alike=True), counted=2), n=3)
    engine.state.apply(ev.StorageSeen(holding("held", "n", 0)))

    assert started(engine) == {}
    assert why(engine, "p").code == "Fragmented"
    assert "1 have too few of the devices that it asks for left" in why(engine, "p").message

    engine.state.apply(ev.StorageGone(holding("held", "n", 0)))

    assert started(engine) == {"p": "n"}
    assert given(engine, "p") == ["d0", "d2"]


def test_what_no_node_has_even_when_all_is_free_is_said() -> None:
    engine = cluster(pod("p", asking(3, alike=True), counted=3), n=4)

    assert started(engine) == {}
    assert (why(engine, "p").code, why(engine, "p").never) == ("NoNodeFits", True)
    assert "1 do not have the devices that it asks for" in why(engine, "p").message


def test_a_pod_counts_for_more_than_it_may_get_and_starts_all_the_same() -> None:
    # Of alternatives each class counts; the node need not have them all.
    engine = cluster(pod("p", asking(1), counted=5), n=1)

    assert started(engine) == {"p": "n"}
    assert engine.state.forest.by_name["a"].used[engine.state.resources.columns[GPU]] == 5


def test_the_api_servers_word_takes_the_place_of_what_was_assumed() -> None:
    engine = cluster(pod("p", asking()), pod("q", asking()), n=2)
    started(engine)

    engine.state.apply(ev.StorageSeen(holding("of-p", "n", 0, consumers=("p",))))
    engine.state.apply(ev.StorageSeen(holding("of-q", "n", 1, consumers=("q",))))

    assert (given(engine, "p"), given(engine, "q")) == ([], [])
    engine.state.apply(ev.PodSeen(pod("r", asking())))
    assert "r" not in started(engine)
    engine.state.apply(ev.PodGone(("a", "p")))
    assert started(engine)["r"] == "n"
    assert given(engine, "r") == ["d0"], "who has gone leaves its devices, before the claim is told"


def test_devices_are_another_pods_only_when_the_last_of_their_claim_has_left() -> None:
    engine = cluster(pod("p", DeviceClaim()), pod("q", DeviceClaim()), pod("r", asking()), n=1)
    for name in ("p", "q"):
        known = engine.state.pods["a", name].spec
        engine.state.apply(ev.PodSeen(structs.replace(known, node="n")))
    engine.state.apply(ev.StorageSeen(holding("shared", "n", 0, consumers=("p", "q"))))

    assert "r" not in started(engine)
    engine.state.apply(ev.PodGone(("a", "p")))
    assert "r" not in started(engine)
    engine.state.apply(ev.PodGone(("a", "q")))
    assert started(engine) == {"r": "n"}


def test_pods_of_one_claim_share_its_devices_and_go_where_they_are() -> None:
    shared = asking(2, key=("a", "c"))
    engine = cluster(*(pod(f"p{number}", shared, counted=2) for number in range(3)), m=2, n=2)

    nodes = started(engine)

    assert len(nodes) == 3
    assert len(set(nodes.values())) == 1
    assert {tuple(given(engine, name)) for name in nodes} == {("d0", "d1")}
    engine.state.apply(ev.PodSeen(pod("other", asking(2), counted=2)))
    assert started(engine)["other"] != nodes["p0"]


def test_what_pods_share_is_free_when_the_last_has_left() -> None:
    shared = asking(1, key=("a", "c"))
    engine = cluster(pod("p", shared), pod("q", shared), n=1)
    started(engine)
    engine.state.apply(ev.PodSeen(pod("r", asking())))

    engine.state.apply(ev.PodGone(("a", "p")))
    assert "r" not in started(engine)
    engine.state.apply(ev.PodGone(("a", "q")))
    assert started(engine) == {"r": "n"}


def test_a_claim_of_one_pod_that_waits_is_given_other_devices_where_its_own_do_not_help() -> None:
    engine = cluster(pod("p", asking(1, key=("a", "of-p"))), m=1, n=1)
    engine.state.apply(ev.StorageSeen(holding("of-p", "n", 0, consumers=("p",))))
    engine.state.apply(ev.NodeSeen(NodeSpec("n", {"cpu": 0, "memory": 2**40, "pods": 110})))

    assert started(engine) == {"p": "m"}
    assert engine.state.counters.devices.chosen("uid-p")["gpu"][0].device == (DRIVER, "m", "d0")

    engine.state.apply(ev.StorageSeen(holding("of-p", "m", 0, consumers=("p",))))
    assert given(engine, "p") == []


def test_a_claim_of_one_pod_that_waits_keeps_its_devices_where_they_help() -> None:
    engine = cluster(pod("p", asking(1, key=("a", "of-p"))), n=1)
    engine.state.apply(ev.StorageSeen(holding("of-p", "n", 0, consumers=("p",))))

    assert started(engine) == {"p": "n"}
    assert given(engine, "p") == [], "it has what it needs"


def test_a_layout_anew_keeps_what_was_given() -> None:
    shared = asking(1, key=("a", "c"))
    engine = cluster(pod("p", asking()), pod("q", shared), pod("r", shared), n=4)
    started(engine)
    before = [given(engine, name) for name in ("p", "q", "r")]

    engine.state.apply(ev.NodeSeen(NodeSpec("a-new-one", {"cpu": 1000, "memory": 2**30, "pods": 110})))
    engine.state.settle()

    assert [given(engine, name) for name in ("p", "q", "r")] == before
    engine.state.apply(ev.PodSeen(pod("s", asking(2), counted=2)))
    assert started(engine)["s"] == "n"
    engine.state.apply(ev.PodSeen(pod("t", asking())))
    assert "t" not in started(engine)


def test_a_trial_leaves_no_trace() -> None:
    engine = cluster(pod("p", asking()), pod("q", asking(2), counted=2), n=2)
    started(engine)
    assert [key for key, found in engine.state.pods.items() if found.node] == [("a", "p")]
    use = engine.state.counters.devices
    before = use.chosen("uid-p")

    with engine.state.trial() as trial:
        trial.evict(engine.state.pods["a", "p"])
        trial.start(engine.state.pods["a", "q"], 0)
        assert len(given(engine, "q")) == 2

    assert use.chosen("uid-p") == before
    assert given(engine, "q") == []


@pytest.mark.parametrize("after", ["a trial", "a start that came to nothing", "a start shown as if it were bound"])
def test_the_devices_of_a_pod_that_waits_are_nobody_elses(after: str) -> None:
    waits = pod("p", asking(1, key=("a", "of-p")))
    engine = cluster(waits, n=1)
    state = engine.state
    state.apply(ev.StorageSeen(holding("of-p", "n", 0, consumers=("p",))))
    state.settle()
    if after == "a trial":
        with state.trial() as trial:
            trial.start(state.pods["a", "p"], 0)
    elif after == "a start that came to nothing":
        start_as_decided(state, {("a", "p"): "n"})
        state.apply(ev.StartForgotten(("a", "p")))
    else:
        state.apply(ev.PodSeen(structs.replace(waits, node="n")))
    state.apply(ev.PodSeen(structs.replace(waits, gated=True)))
    check(state)

    state.apply(ev.PodSeen(pod("q", asking())))

    assert started(engine) == {}
    state.apply(ev.StorageGone(holding("of-p", "n", 0, consumers=("p",))))
    assert started(engine) == {"q": "n"}


def test_parts_of_a_device_on_two_nodes_are_not_both_given_out() -> None:
    consumes = (("set", "memory", 60),)
    parts = {node: Device((DRIVER, "pool", node), DeviceFacts(DRIVER), (), consumes) for node in "mn"}
    engine = cluster(pod("p", asking()), pod("q", asking()), m=0, n=0)
    for node, other in ("mn", "nm"):
        counters = {(DRIVER, "pool", "set", "memory"): 80}
        offered = NodeDevices((parts[node],), counters, others=((parts[other].id, consumes),))
        engine.state.apply(ev.StorageSeen(Slice(node, node, (("gpu", 1),), offered)))

    [first] = started(engine)
    engine.state.apply(ev.PodGone(("a", first)))
    assert len(started(engine)) == 1


TWO = (TenantSpec("a", namespaces=("a",)), TenantSpec("b", namespaces=("b",)))


@pytest.mark.parametrize("alike", [False, True])
def test_who_holds_more_than_its_share_of_devices_gives_them_up_where_that_helps(alike: bool) -> None:
    greedy = [pod(f"p{number}", asking(), tenant="b") for number in range(4)]
    engine = cluster(*greedy, tenants=TWO, n=4)
    started(engine)
    for number in range(4):
        found = holding(f"c{number}", "n", number, consumers=(f"p{number}",))
        engine.state.apply(ev.StorageSeen(replace(found, key=("b", f"c{number}"))))

    engine.state.apply(ev.PodSeen(pod("late", asking(2, alike=alike), counted=2)))
    done = engine.cycle(2.0)

    # The youngest go first; a left and a right device are not two alike, so one of the older goes instead.
    assert {evict.pod[1] for evict in done.evictions} == ({"p0", "p2"} if alike else {"p2", "p3"})
    assert [start.pod for start in done.starts] == [("a", "late")]
    assert given(engine, "late") == (["d0", "d2"] if alike else ["d2", "d3"])
    check(engine.state)


@pytest.fixture
def gang() -> list[PodSpec]:
    return [pod(f"m{number}", asking(2, alike=True), counted=2, group="g") for number in range(3)]


@pytest.mark.parametrize(("sides", "count"), [(4, 0), (6, 0), (8, 3)])
def test_a_gang_starts_when_devices_suffice_for_all(gang: list[PodSpec], sides: int, count: int) -> None:
    # Six devices are enough in number, but three on each side make one pair each.
    engine = cluster(*gang, n=sides)
    engine.state.apply(ev.GroupSeen(GroupSpec("a", "g", 3)))

    assert len(started(engine)) == count


def test_pods_without_claims_never_ask_about_devices() -> None:
    engine = cluster(*(pod(f"p{number}", None) for number in range(5)), n=2)

    assert len(started(engine)) == 5
    keys: list[PodKey] = [*engine.state.pods]
    assert len(keys) == 5
    assert not any(row.neighbours.devices for row in engine.placer.rows.values())


def test_an_engine_may_be_made_before_the_first_layout() -> None:
    names = [f"example.com/thing-{number}" for number in range(8)] + ["nvidia.com/gpu"]
    state = ClusterState()
    state.apply(ev.NodeSeen(NodeSpec("n", {**dict.fromkeys(names, 1), "cpu": 1000, "memory": 2**30, "pods": 110})))

    engine = Engine(state)

    assert engine.cycle(1.0).starts == []


def test_a_device_that_somebody_leaves_is_promised_once() -> None:
    running = [pod("low", asking(), node="m", started=0.0), pod("old", asking(), node="n", started=0.0, priority=9)]
    engine = cluster(*running, m=1, n=1)
    engine = Engine(engine.state, Settings(least_runtime=0.0))
    engine.state.apply(ev.StorageSeen(holding("low", "m", 0, consumers=("low",))))
    engine.state.apply(ev.StorageSeen(holding("old", "n", 0, consumers=("old",))))
    engine.cycle(1000.0)
    old = engine.state.pods["a", "old"].spec
    engine.state.apply(ev.PodSeen(structs.replace(old, deleting=True, ends=1030.0)))
    for number in range(3):
        engine.state.apply(ev.PodSeen(pod(f"c{number}", asking(), priority=5)))

    done = engine.cycle(1001.0)

    assert [it.pod[1] for it in done.evictions] == ["low"]
    assert sorted(it.node for it in done.starts) == ["m", "n"]
    assert [given(engine, it.pod[1]) for it in done.starts] == [["d0"], ["d0"]]
    check(engine.state)
