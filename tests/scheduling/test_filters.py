"""Feasible nodes, with kube-scheduler's semantics."""

from dataclasses import replace
from typing import Any

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.explanation.explain import Explainer
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.attachments import Claim, StorageClass, Volume
from allotment_scheduler.core.objects.nodes import PoolSpec
from allotment_scheduler.core.objects.pods import PodAffinityTerm, SchedulingSpec, SpreadConstraint
from allotment_scheduler.core.objects.selectors import LabelSelector, NodeSelectorTerm, Requirement, Taint, Toleration
from allotment_scheduler.core.state.invariants import check
from builders.scheduling import World

ZONE = "topology.kubernetes.io/zone"
HOST = "kubernetes.io/hostname"


def zones(*counts: int) -> World:
    """Nodes za0, za1, zb0, … in zones za, zb, …"""
    world = World()
    for zone, count in zip("abc", counts, strict=False):
        for number in range(count):
            name = f"z{zone}{number}"
            world.node(name, cpu=8, labels={ZONE: f"z{zone}", HOST: name})
    return world.tenant("t")


def app(name: str) -> LabelSelector:
    return LabelSelector((Requirement("app", "In", (name,)),))


def spec(**given: object) -> SchedulingSpec:
    return replace(SchedulingSpec(()), **given)  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize(
    ("requirement", "want"),
    [
        (Requirement("size", "In", ("5", "9")), {"n5", "n9"}),
        (Requirement("size", "NotIn", ("5",)), {"n9", "none"}),
        (Requirement("size", "Exists"), {"n5", "n9"}),
        (Requirement("size", "DoesNotExist"), {"none"}),
        (Requirement("size", "Gt", ("5",)), {"n9"}),
        (Requirement("size", "Lt", ("9",)), {"n5"}),
    ],
)
def test_node_affinity_operators(requirement: Requirement, want: set[str]) -> None:
    world = World().node("n5", cpu=1, labels={"size": "5"}).node("n9", cpu=1, labels={"size": "9"}).node("none", cpu=1)
    world.tenant("t")
    wanted = spec(required_nodes=(NodeSelectorTerm((requirement,)),))
    world.pods("t", 3, cpu=1, spec=wanted)

    done = world.run()

    assert {done.node_of("t", name) for name in done.running("t")} == want


def test_terms_are_alternatives_and_an_empty_one_matches_nothing() -> None:
    world = World().node("n", cpu=1).tenant("t")
    world.pod("t", "p", cpu=1, spec=spec(required_nodes=(NodeSelectorTerm(),)))

    assert world.run().waiting("t") == {"p"}


@pytest.mark.parametrize(
    ("declared", "starts"), [(("A", "B"), True), (("A",), False), ((), False)], ids=["both", "one", "none"]
)
def test_a_node_declares_every_feature_that_a_pod_needs(declared: tuple[str, ...], starts: bool) -> None:
    world = World().node("n", cpu=1).tenant("t").pod("t", "p", cpu=1, spec=spec(features=("A", "B")))
    seen = world.events[0]
    assert isinstance(seen, ev.NodeSeen)
    state = world.state()
    engine = Engine(state)
    engine.cycle(0.0)
    assert state.pods["t", "p"].node is None

    state.apply(ev.NodeSeen(replace(seen.spec, features=declared)))
    engine.cycle(1.0)

    assert state.pods["t", "p"].node == ("n" if starts else None)
    check(state)


@pytest.mark.parametrize(
    ("toleration", "starts"),
    [
        (Toleration("gpu", "Equal", "yes", "NoSchedule"), True),
        (Toleration("gpu", "Equal", "no", "NoSchedule"), False),
        (Toleration("gpu", "Exists"), True),
        (Toleration("gpu", "Exists", effect="NoExecute"), False),
        (Toleration("", "Exists"), True),
    ],
)
def test_taints_and_tolerations(toleration: Toleration, starts: bool) -> None:
    world = World().node("n", cpu=1).tenant("t")
    seen = world.events[0]
    assert isinstance(seen, ev.NodeSeen)
    world.events[0] = ev.NodeSeen(replace(seen.spec, taints=(Taint("gpu", "NoSchedule", "yes"),)))
    world.pod("t", "p", cpu=1, spec=spec(tolerations=(toleration,)))

    assert bool(world.run().running("t")) is starts


def test_required_affinity_follows_a_matching_pod_and_the_first_may_go_anywhere() -> None:
    near = spec(affinity=(PodAffinityTerm(ZONE, app("web")),))
    world = zones(1, 1).pod("t", "there", on="zb0", cpu=1, labels={"app": "web"})
    world.pods("t", 3, cpu=1, spec=near, labels={"app": "client"})
    alone = zones(1, 1).pods("t", 3, cpu=1, spec=near, labels={"app": "web"})
    strangers = zones(1, 1).pods("t", 1, cpu=1, spec=near, labels={"app": "other"})

    done, together = world.run(), alone.run()

    assert {done.node_of("t", f"p{n}") for n in range(3)} == {"zb0"}
    assert len({together.node_of("t", f"p{n}") for n in range(3)}) == 1
    assert strangers.run().running("t") == set()


def test_anti_affinity_binds_both_ways() -> None:
    apart = spec(anti_affinity=(PodAffinityTerm(HOST, app("db")),))
    world = zones(2).pod("t", "holder", on="za0", cpu=1, spec=apart, labels={"app": "cache"})
    world.pod("t", "db", cpu=1, labels={"app": "db"}).pods("t", 3, "own", cpu=1, spec=apart, labels={"app": "db"})

    done = world.run()

    assert done.node_of("t", "db") == "za1", "the running pod's term keeps it off za0"
    assert done.running("t") == {"holder", "db"}, "no node is left without a db or a holder"


def test_affinity_sees_other_namespaces_only_where_it_says_so() -> None:
    term = PodAffinityTerm(ZONE, app("web"), namespaces=frozenset({"other"}))
    world = zones(1, 1).tenant("other").pod("other", "there", on="zb0", cpu=1, labels={"app": "web"})
    world.pod("t", "p", cpu=1, spec=spec(affinity=(term,)))
    world.pod("t", "q", cpu=1, spec=spec(affinity=(PodAffinityTerm(ZONE, app("web")),)))

    done = world.run()

    assert done.node_of("t", "p") == "zb0"
    assert done.waiting("t") == {"q"}


def test_hard_spread_keeps_the_skew() -> None:
    rule = SpreadConstraint(ZONE, 1, hard=True, selector=app("web"))
    world = zones(3, 1, 1).pods("t", 7, cpu=1, spec=spec(spread=(rule,)), labels={"app": "web"})

    done = world.run()

    placed = [done.node_of("t", f"p{n}") or "" for n in range(7)]
    counts = [sum(name.startswith(f"z{zone}") for name in placed) for zone in "abc"]
    assert sum(counts) == 7
    assert max(counts) - min(counts) <= 1


def test_min_domains_counts_missing_domains_as_empty() -> None:
    rule = SpreadConstraint(ZONE, 1, hard=True, selector=app("web"), min_domains=3)
    world = zones(1, 1).pods("t", 4, cpu=1, spec=spec(spread=(rule,)), labels={"app": "web"})

    assert len(world.run().running("t")) == 2


@pytest.mark.parametrize(("honor", "want"), [(True, 4), (False, 2)])
def test_zones_that_only_closed_pools_reach_do_not_count_for_spread(honor: bool, want: int) -> None:
    world = World().tenant("t", node_pools=("gold",))
    for pool, reach in (("gold", "ab"), ("tin", "abc")):
        world.pool(PoolSpec(pool, LabelSelector((Requirement("pool", "In", (pool,)),))))
        for zone in reach:
            world.node(f"{pool}-{zone}", cpu=8, labels={ZONE: zone, "pool": pool})
    rule = SpreadConstraint(ZONE, 1, hard=True, selector=app("web"), honor_affinity=honor)

    world.pods("t", 4, cpu=1, spec=spec(spread=(rule,)), labels={"app": "web"})

    assert len(world.run().running("t")) == want


def test_a_pool_whose_limit_is_reached_still_counts_for_spread() -> None:
    world = World().tenant("t", limits_in={"b": {"cpu": 1}})
    for zone in "ab":
        world.pool(PoolSpec(zone, LabelSelector((Requirement(ZONE, "In", (zone,)),))))
        world.node(zone, cpu=8, labels={ZONE: zone})
    rule = SpreadConstraint(ZONE, 1, hard=True, selector=app("web"))

    world.pods("t", 5, cpu=1, spec=spec(spread=(rule,)), labels={"app": "web"})

    assert len(world.run().running("t")) == 3, "two in zone a, one in zone b"


def test_a_node_without_the_topology_key_is_no_place_for_spread() -> None:
    rule = SpreadConstraint("rack", 1, hard=True, selector=app("web"))
    world = World().node("n", cpu=1).tenant("t").pod("t", "p", cpu=1, spec=spec(spread=(rule,)))

    assert world.run().running("t") == set()


@pytest.mark.parametrize(
    ("taken", "wanted", "conflict"),
    [
        (("0.0.0.0", "TCP", 80), ("10.0.0.1", "TCP", 80), True),
        (("10.0.0.1", "TCP", 80), ("10.0.0.2", "TCP", 80), False),
        (("0.0.0.0", "TCP", 80), ("0.0.0.0", "UDP", 80), False),
    ],
)
def test_host_ports(taken: tuple[str, str, int], wanted: tuple[str, str, int], conflict: bool) -> None:
    world = World().node("n", cpu=4).tenant("t").pod("t", "has", on="n", cpu=1, spec=spec(host_ports=(taken,)))
    world.pod("t", "wants", cpu=1, spec=spec(host_ports=(wanted,)))

    assert ("wants" in world.run().waiting("t")) is conflict


def test_volumes_pin_and_wait() -> None:
    world = zones(1, 1)
    inside = NodeSelectorTerm((Requirement(ZONE, "In", ("zb",)),))
    for item in (
        Claim("t", "bound", "fast", volume="pv"),
        Volume("pv", "fast", claimed_by=("t", "bound"), nodes=(inside,)),
        Claim("t", "later", "late"),
        StorageClass("late", waits=True, topologies=(NodeSelectorTerm((Requirement(ZONE, "In", ("za",)),)),)),
        Claim("t", "unbound", "fast"),
        StorageClass("fast"),
    ):
        world.events.append(ev.StorageSeen(item))
    for claim in ("bound", "later", "unbound", "missing"):
        world.pod("t", claim, cpu=1, spec=spec(claims=(claim,)))

    done = world.run()

    assert done.node_of("t", "bound") == "zb0"
    assert done.node_of("t", "later") == "za0"
    assert done.waiting("t") == {"unbound", "missing"}


@pytest.mark.parametrize(("asked", "has", "want"), [("", "", True), ("gold", "gold", True), ("gold", "", False),
                                                    ("", "gold", False)])  # fmt: skip
def test_a_claim_takes_a_volume_of_its_attributes_class_only(asked: str, has: str, want: bool) -> None:
    world = World().node("n", cpu=1).tenant("t").pod("t", "p", cpu=1, spec=spec(claims=("data",)))
    for item in (
        StorageClass("static", waits=True, provisions=False),
        Volume("v", "static", attributes=has),
        Claim("t", "data", "static", attributes=asked),
    ):
        world.events.append(ev.StorageSeen(item))

    assert (world.run().waiting("t") == set()) is want


@pytest.mark.parametrize(
    ("volume", "want"),
    [
        (Volume("v", "static", claimed_by=("u", "other")), "and that is another claim's: create the claim anew"),
        (Volume("v", "static", claimed_by=("t", "data"), claimed_by_uid="before"), "and that is another claim's"),
        (Volume("v", "static", mode="Block"), "and that has another class or mode, or too small a size"),
        (Volume("v", "static", claimed_by=("t", "data")), "wait for claim data, which is not bound"),
        (Volume("v", "static"), "wait for claim data, which is not bound"),
        (Volume("w", "static"), "wait for claim data, which is not bound"),
    ],
    ids=["another's", "its forerunner's", "unlike", "its own", "free", "not there yet"],
)
def test_why_a_claim_that_names_its_volume_is_waited_for(volume: Volume, want: str) -> None:
    world = World().node("n", cpu=1).tenant("t").pod("t", "p", cpu=1, spec=spec(claims=("data",)))
    claim = Claim("t", "data", "static", awaits="v", uid="now")
    for item in (StorageClass("static", waits=True, provisions=False), volume, claim):
        world.events.append(ev.StorageSeen(item))
    state = world.state()
    engine = Engine(state)
    engine.cycle(1.0)

    assert want in Explainer(engine).why(state.pods["t", "p"]).message


class Counted(dict[Any, Any]):
    """Counts how often all of it is gone through."""

    times = 0

    def values(self) -> Any:
        self.times += 1
        return super().values()

    items = __iter__ = values


def test_all_volumes_are_gone_through_once_for_all_pods_that_wait_for_one() -> None:
    world = World().node("n", cpu=1).tenant("t")
    for item in (StorageClass("static", waits=True, provisions=False), Volume("v", "static", claimed_by=("t", "x"))):
        world.events.append(ev.StorageSeen(item))
    for number in range(20):
        world.events.append(ev.StorageSeen(Claim("t", f"c{number}", "static")))
        world.pod("t", f"p{number}", cpu=1, spec=spec(claims=(f"c{number}",)))
    state = world.state()
    storage = state.attachments
    storage.volumes = volumes = Counted(storage.volumes)
    engine = Engine(state)
    for cycle in range(3):
        state.apply(ev.StorageSeen(Claim("t", "another", "static", request=cycle)))
        engine.cycle(1.0 + cycle)

    assert volumes.times <= 3
    state.apply(ev.StorageSeen(Volume("v", "static")))
    assert len(engine.cycle(9.0).starts) == 1


def test_an_overcommitted_node_takes_nothing_more_and_breaks_nothing() -> None:
    world = World().node("n", cpu=1).tenant("t").pods("t", 3, "r", on="n", cpu=1).pod("t", "p", cpu=1)

    done = world.run()

    assert done.waiting("t") == {"p"}
    assert len(done.running("t")) == 3


def wish(weight: int, key: str = HOST, name: str = "web") -> PodAffinityTerm:
    return PodAffinityTerm(key, app(name), weight=weight)


@pytest.mark.parametrize(
    ("held", "want"),
    [
        (spec(preferred_affinity=(wish(10),)), "za1"),
        (spec(preferred_anti_affinity=(wish(10),)), "za0"),
        (spec(affinity=(PodAffinityTerm(HOST, app("web")),)), "za1"),
        (spec(preferred_affinity=(wish(10, name="other"),)), "za0"),
    ],
    ids=["draws", "repels", "requires", "means others"],
)
def test_running_pods_preferences_concern_newcomers(held: SchedulingSpec, want: str) -> None:
    # Without a preference, za0 is first by name: za1 is as empty, for the pod that holds the term asks for nothing.
    world = zones(2).pod("t", "holder", on="za1", spec=held, labels={"app": "web"})
    world.pod("t", "same", on="za0", labels={"app": "none"}).pod("t", "p", cpu=1, labels={"app": "web"})

    assert world.run().node_of("t", "p") == want


def test_opposite_preferences_add_up_by_weight() -> None:
    world = zones(3).pod("t", "likes", on="za1", spec=spec(preferred_affinity=(wish(10),)))
    world.pod("t", "dislikes", on="za1", spec=spec(preferred_anti_affinity=(wish(30),)))
    world.pod("t", "lukewarm", on="za2", spec=spec(preferred_affinity=(wish(1),)))
    for name in ("likes0", "likes1"):
        world.pod("t", name, on="za0", spec=spec(preferred_affinity=(wish(1),)))
    world.pod("t", "p", cpu=1, labels={"app": "web"})

    assert world.run().node_of("t", "p") == "za0"


def test_a_preference_ends_with_its_pod() -> None:
    world = zones(2).pod("t", "holder", on="za1", spec=spec(preferred_affinity=(wish(10),)))
    world.pod("t", "p", cpu=1, labels={"app": "web"})
    state = world.state()
    state.apply(ev.PodGone(("t", "holder")))
    engine = Engine(state)

    assert [start.node for start in engine.cycle(1).starts] == ["za0"]
    check(state)
