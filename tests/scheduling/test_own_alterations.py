"""What the engine decides itself may alter demand: entitlement follows, though nothing came from outside."""

from typing import Any

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.entitlement.demand import Demand
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.nodes import PoolSpec
from allotment_scheduler.core.objects.selectors import LabelSelector, Requirement
from allotment_scheduler.core.placement.seat_invariants import check_holds
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.invariants import InvariantError, check
from builders.scheduling import World


def entitled(engine: Engine) -> int:
    """CPU that tenant a is entitled to, by what is kept; it is what a look at everything says."""
    state = engine.state
    tenant, cpu = state.forest.by_name["a"], state.resources.column("cpu")
    kept = engine.demand.entitlement().whole(tenant, cpu)
    assert kept == Demand(state, engine.placer).entitlement().whole(tenant, cpu)
    return int(kept)


def test_a_pod_in_quarantine_is_no_demand_until_it_is_released() -> None:
    world = World().node("n", cpu=2).tenant("a").tenant("b").pods("b", 2, on="n", cpu=1).pod("a", "p", cpu=1)
    engine = Engine(world.state(), Settings(least_runtime=1e9))
    assert entitled(engine) == 1000

    engine.state.apply(ev.PodSetAside(("a", "p"), 50.0, "a fault"))
    assert entitled(engine) == 0

    engine.cycle(60.0)
    assert entitled(engine) == 1000


def test_a_gang_that_was_let_go_and_cannot_gather_is_no_demand() -> None:
    world = (
        World().node("n", cpu=3).tenant("a").tenant("b").gang("a", "g", 2).pods("a", 2, "g", on="n", group="g", cpu=1)
    )
    engine = Engine(world.state(), Settings(least_runtime=0.0, gang_recovery=10.0))
    engine.cycle(1000.0)
    engine.state.apply(ev.PodGone(("a", "g0")))
    engine.cycle(1001.0)
    assert entitled(engine) == 1000

    assert [it.pod[1] for it in engine.cycle(1020.0).evictions] == ["g1"]
    assert entitled(engine) == 0


def evicted(**more: Any) -> Engine:
    """A pod of 3 CPUs went for one of a higher priority, in the same tenant, that asks for as much; there are 5."""
    world = World().node("n", cpu=5).tenant("a").pod("a", "low", on="n", cpu=3, more=more)
    engine = Engine(world.pod("a", "high", cpu=3, priority=1).state(), Settings(least_runtime=0.0))
    [eviction] = engine.cycle(1000.0).evictions
    assert entitled(engine) == 5000
    engine.state.apply(ev.PodLeaving(eviction.pod, eviction.node))
    engine.cycle(1001.0)
    return engine


def kept(engine: Engine) -> int:
    """CPU that tenant a is entitled to, by what is kept."""
    return engine.demand.entitlement().whole(engine.state.forest.by_name["a"], engine.state.resources.column("cpu"))


@pytest.mark.parametrize(
    ("more", "at_once", "later"),
    [({}, 3000, 3000), ({"owner": "job", "recreated": False}, 3000, 3000), ({"owner": "rs"}, 5000, 3000)],
    ids=["it is nobody's", "its owner never recreates it", "its owner recreates none"],
)
def test_what_was_evicted_for_good_is_demand_no_longer(more: dict[str, Any], at_once: int, later: int) -> None:
    engine = evicted(**more)
    version = engine.state.demand_version
    assert kept(engine) == 5000, "it still runs"

    engine.state.apply(ev.PodGone(("a", "low")))
    engine.cycle(1002.0)
    assert kept(engine) == at_once

    engine.cycle(1002.0 + 60.0)
    assert entitled(engine) == later
    assert engine.state.demand_version == version, "nobody who was evicted may claim for it"


@pytest.mark.parametrize(("cpu", "want"), [(3, 5000), (1, 4000)], ids=["the same", "smaller"])
def test_what_takes_the_place_of_an_evicted_pod_is_demand_by_what_it_asks_for(cpu: int, want: int) -> None:
    engine = evicted(owner="rs")
    engine.state.apply(ev.PodGone(("a", "low")))
    engine.state.apply_all(World(clock=9.0).pod("a", "next", cpu=cpu, more={"owner": "rs"}).events)
    engine.cycle(1002.0)
    assert entitled(engine) == want

    own = engine.state.own_version
    engine.cycle(1002.0 + 60.0)
    assert engine.state.own_version == own, "nobody is awaited any longer"


def seated(fixed: dict[str, Any]) -> Engine:
    """A seat that takes up a guarantee, and a pod that waits for it."""
    world = World().node("n", cpu=1).node("m", cpu=1).tenant("a", guaranteed={"cpu": 1})
    world.pod("a", "db-0", on="n", cpu=1, more={"owner": "sts", "owner_kind": "StatefulSet", **fixed})
    engine = Engine(world.pod("a", "other", cpu=1, more=fixed).state(), Settings(successor_hold=100.0))
    engine.cycle(1000.0)
    engine.state.apply(ev.PodGone(("a", "db-0")))
    engine.cycle(1001.0)
    return engine


def test_a_seat_that_ends_leaves_its_part_of_the_guarantee_to_those_who_wait() -> None:
    engine = seated({"preemptible": False})
    assert entitled(engine) == 0

    assert [it.pod[1] for it in engine.cycle(1200.0).starts] == ["other"]
    assert entitled(engine) == 1000


def test_what_seats_take_up_is_checked() -> None:
    engine = seated({"preemptible": False})
    check_holds(engine.holds)
    held = engine.state.forest.by_name["a"].held

    held["", engine.state.resources.column("cpu")] += 1
    with pytest.raises(InvariantError, match="seats of tenant a"):
        check_holds(engine.holds)


def test_what_is_kept_of_pending_pods_is_checked() -> None:
    state = World().node("n", cpu=1).tenant("a").pod("a", "p", cpu=1).pod("a", "q", cpu=1).state()
    check(state)

    state.pending.priority[0] += 1
    with pytest.raises(InvariantError, match="differs from its row"):
        check(state)

    state.pending.priority[0] -= 1
    state.pending.remove(state.pods["a", "p"])
    with pytest.raises(InvariantError, match="table of pending pods"):
        check(state)


def test_a_pod_whose_node_has_gone_uses_its_tenants_part_in_no_pool() -> None:
    world = World().node("n", cpu=1, labels={"p": "x"}).node("m", cpu=1)
    world.pool(PoolSpec("x", LabelSelector((Requirement("p", "In", ("x",)),)))).tenant("a").pod("a", "p", on="n", cpu=1)
    world.node("k", cpu=1, labels={"p": "x"}).pod("a", "q", on="m", cpu=1)
    state = world.state()
    state.apply(ev.NodeGone("n"))

    check(state)
    state.forest.by_name["a"].used_in["x"] = [1] * state.resources.width
    with pytest.raises(InvariantError, match="in pool x"):
        check(state)
