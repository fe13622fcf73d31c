"""Who may claim, and from whom: each test tells one part of a rule from its opposite."""

from typing import Any

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.eviction.brakes import Backoff
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.nodes import PoolSpec
from allotment_scheduler.core.objects.pods import SchedulingSpec
from allotment_scheduler.core.objects.selectors import LabelSelector, Requirement
from allotment_scheduler.core.settings import Settings
from builders.scheduling import World


def on(**labels: str) -> SchedulingSpec:
    return SchedulingSpec((), node_selector=tuple(sorted(labels.items())))


def test_by_entitlement_a_claim_lies_within_it_on_every_resource() -> None:
    """The claimant's side is entitled to 5.8 processors and uses 2, but to 2.5 devices only, of which it has 2."""
    world = World().node("n", cpu=16, gpu=4).tenant("x").tenant("y")
    world.pool(PoolSpec("elsewhere", LabelSelector((Requirement("far", "Exists"),)))).node("m", labels={"far": "y"})
    world.pods("x", 2, "x", on="n", cpu=1, gpu=1).pods("y", 2, "y", on="n", cpu=7, gpu=1)
    world.pod("x", "more", cpu=1, gpu=1).pods("x", 6, "patient", cpu=1, more={"never_preempts": True})

    assert world.run().evicted == []


def test_entitlement_is_compared_on_the_pools_where_the_claimant_may_run() -> None:
    """Y holds all of the fast devices while slow ones idle, and in total no more than it is entitled to."""
    world = World().tenant("x").tenant("y")
    for pool in ("fast", "cheap"):
        world.pool(PoolSpec(pool, LabelSelector((Requirement("pool", "In", (pool,)),))))
        world.node(pool, cpu=8, gpu=4, labels={"pool": pool})
    world.pods("y", 4, "y", on="fast", cpu=1, gpu=1).pods("x", 2, "x", cpu=1, gpu=1, spec=on(pool="fast"))

    done = world.run()

    assert done.rules == ["R2", "R2"]
    assert done.running("x") == {"x0", "x1"}
    assert {done.node_of("y", name) for name in done.evicted} == {"cheap"}


@pytest.mark.parametrize("never", [0, 1])
def test_a_gang_claims_nothing_if_any_of_it_is_to_preempt_nobody(never: int) -> None:
    world = World().node("n", cpu=2).tenant("t").pods("t", 2, "low", on="n", cpu=1, priority=-1).gang("t", "g", 2)
    for number in range(2):
        more: dict[str, Any] = {"never_preempts": number == never}
        world.pod("t", f"g{number}", cpu=1, group="g", priority=5, more=more)

    assert world.run().evicted == []


@pytest.mark.parametrize("which", ["recreated", "fragile"])
def test_a_gang_is_a_last_choice_if_any_of_it_is(which: str) -> None:
    """One member that nobody recreates, or whose Job would die, makes the whole gang go after everybody else."""
    world = World().node("n", cpu=4).tenant("x").tenant("y").pods("y", 2, "old", on="n", cpu=1).gang("y", "g", 2)
    world.pod("y", "g0", on="n", cpu=1, group="g", more={which: which == "fragile"})
    world.pod("y", "g1", on="n", cpu=1, group="g")

    assert set(world.pod("x", "claims", cpu=2).run().evicted) == {"old0", "old1"}


def test_a_gang_under_a_limit_makes_room_where_it_can_use_it() -> None:
    """The youngest stand on another node: taking them would do for the limit, but not for the gang."""
    world = World().node("n", cpu=4, labels={"side": "n"}).node("m", cpu=4).tenant("t", limits={"cpu": 8})
    world.pods("t", 4, "n", on="n", cpu=1, priority=-1).pods("t", 4, "m", on="m", cpu=1, priority=-1)
    world.gang("t", "g", 2).pods("t", 2, "g", group="g", cpu=2, priority=5, spec=on(side="n"))

    done = world.run()

    assert set(done.evicted) == {"n0", "n1", "n2", "n3"}
    assert done.running("t") >= {"g0", "g1"}


@pytest.mark.parametrize(("small", "evicts"), [(2, 1), (1, 0)])
def test_a_side_may_fall_below_its_entitlement_by_its_own_smallest_pod(small: int, evicts: int) -> None:
    """It is entitled to 4, and would be left with its small one. Others' small pods do not make the step smaller."""
    world = World().node("n", cpu=9).tenant("x").tenant("y").tenant("z")
    world.pod("y", "large", on="n", cpu=4).pod("y", "small", on="n", cpu=small, more={"preemptible": False})
    engine = Engine(world.pod("z", "tiny", on="n", cpu=1).pod("x", "claims", cpu=4).state(), Settings())

    assert len(engine.cycle(10_000).evictions) == evicts


def test_gangs_are_given_up_though_they_are_larger_than_their_pods() -> None:
    """Y runs nothing but gangs of 8 devices: one of them takes it from 16 to 8, where it is entitled to 11."""
    world = World().node("n", cpu=32, gpu=16).tenant("x").tenant("y")
    for name in ("g", "h"):
        world.gang("y", name, 4).pods("y", 4, name, on="n", group=name, gpu=2)
    engine = Engine(world.pod("x", "claims", gpu=5).state(), Settings())

    assert {evict.pod[1] for evict in engine.cycle(10_000).evictions} == {"h0", "h1", "h2", "h3"}


def test_a_claim_is_made_again_only_after_demand_has_changed() -> None:
    """What is evicted by R1 waits until something comes or goes that is not of our doing."""
    world = World().node("n", cpu=2).tenant("a").tenant("b", guaranteed={"cpu": 1})
    world.pods("a", 2, "a", on="n", cpu=1).pod("b", "claims", cpu=1)
    engine = Engine(world.state(), Settings(backoff=10, least_runtime=0))
    assert len(engine.cycle(1000).evictions) == 1
    victim = next(pod for pod in engine.state.pods.values() if pod.spec.namespace == "a" and pod.node is None)

    engine.cycle(1100)
    assert engine.state.is_spent(victim)
    engine.state.apply(ev.NodeSeen(engine.state.node("n").spec))
    assert engine.state.is_spent(victim), "nothing is new"
    engine.state.apply(World().node("m", cpu=0).events[0])

    assert not engine.state.is_spent(victim)


def test_who_is_in_backoff_holds_up_no_other_workload_of_its_shape() -> None:
    """The first of the lane may not claim for a long time yet: the next one, of another workload, may."""
    world = World().node("n", cpu=4).tenant("y").tenant("x").pods("y", 4, "y", on="n", cpu=1)
    for name, priority in (("evicted", 10), ("other", 0)):
        world.pod("x", name, cpu=1, priority=priority, more={"owner": name, "owner_kind": "ReplicaSet"})
    engine = Engine(world.state(), Settings())
    engine.brakes.backoffs["evicted"] = Backoff(evictions=3, until=100_000.0)

    done = engine.cycle(10_000.0)

    assert [start.pod[1] for start in done.starts] == ["other"]


def test_a_claimant_behind_a_limit_makes_room_on_the_node_it_needs() -> None:
    """The youngest stands on another node; once it has gone, y is down to its guarantee, and nobody else may go."""
    world = World().node("n0", cpu=2).node("n1", cpu=2, labels={"side": "n1"}).inner("d", limits={"cpu": 4})
    world.tenant("y", "d", guaranteed={"cpu": 2}).tenant("x", "d", guaranteed={"cpu": 2})
    world.pod("y", "older", on="n1", cpu=2).pod("y", "younger", on="n0", cpu=2)

    done = world.pod("x", "claims", cpu=2, spec=on(side="n1")).run()

    assert done.evicted == ["older"]
    assert done.running("x") == {"claims"}


def test_a_gang_behind_a_limit_makes_room_on_whole_nodes() -> None:
    """Who is youngest stands scattered over the nodes, and the right ends before one of them is empty."""
    world = World().nodes(10, cpu=8).inner("d", limits={"cpu": 80})
    world.tenant("y", "d", guaranteed={"cpu": 64}).tenant("x", "d", guaranteed={"cpu": 16}).gang("x", "g", 2)
    for number in range(80):
        world.pod("y", f"y{number}", on=f"n{number % 10:02}", cpu=1)

    done = world.pods("x", 2, "x", group="g", cpu=8).run()

    assert done.running("x") == {"x0", "x1"}
    assert len(done.evicted) == 16


@pytest.mark.parametrize("group", [None, "other"], ids=["pod", "gang"])
def test_who_may_not_evict_its_own_gang_holds_up_no_other_unit_of_its_shape(group: str | None) -> None:
    """The first of the lane finds nobody but a member of its own gang: the next one, of its shape, may evict it."""
    world = World().node("n", cpu=4).tenant("t").gang("t", "g", 1).gang("t", "other", 1)
    world.pod("t", "m0", on="n", group="g", cpu=1, priority=2).pod("t", "m2", on="n", group="g", cpu=3)
    world.pod("t", "m1", group="g", cpu=3, priority=1).pod("t", "u", group=group, cpu=3, priority=1)

    done = world.run()

    assert done.evicted == ["m2"]
    assert done.running("t") == {"m0", "u"}


def test_a_successor_whose_seat_helps_is_not_passed_over_for_an_equal_pod_that_has_none() -> None:
    owned = {"owner": "db", "owner_kind": "StatefulSet"}
    world = World().node("n", cpu=8).tenant("t").pod("t", "db-0", on="n", cpu=4, priority=1, more=owned)
    world.pods("t", 4, "low", on="n", cpu=1)
    engine = Engine(world.state(), Settings(least_runtime=0.0))
    told = len(world.events)
    engine.cycle(1000.0)
    engine.state.apply(ev.PodGone(("t", "db-0")))
    world.pod("t", "older", cpu=5, priority=1).pod("t", "db-0", cpu=5, priority=1, more=owned)
    engine.state.apply_all(world.events[told:])
    done = engine.cycle(1001.0)
    assert [it.pod[1] for it in done.starts] == ["db-0"]
    assert len(done.evictions) == 1


@pytest.mark.parametrize("others", [True, False])
def test_who_evicts_keeps_off_reserved_nodes_where_others_will_do(others: bool) -> None:
    world = World().node("n0", cpu=4).tenant("t")
    if others:
        world.node("n1", cpu=4).pods("t", 4, "older", on="n1", cpu=1)
    world.pods("t", 4, "ends", on="n0", cpu=1, more={"max_runtime": 3600.0}).pod("t", "large", cpu=4)
    engine = Engine(world.state(), Settings(least_runtime=0.0, age=10.0))
    engine.cycle(1000.0)
    engine.cycle(1020.0)
    [reservation] = engine.reservations.by_unit.values()
    assert reservation.nodes == ("n0",)
    told = len(world.events)
    engine.state.apply_all(world.pod("t", "c", cpu=1, priority=9).events[told:])
    done = engine.cycle(1021.0)
    assert [it.node for it in done.starts] == (["n1"] if others else ["n0"])
