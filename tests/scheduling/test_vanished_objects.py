"""What has gone leaves nothing behind that decisions stumble over: nodes, tenants and the pods that were theirs."""

from dataclasses import replace
from fractions import Fraction

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import PodSpec, SchedulingSpec
from allotment_scheduler.core.objects.units import ExpectedMember
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.invariants import above_limits, check
from builders.scheduling import World, amounts

CORE = SchedulingSpec(tuple(sorted(amounts(cpu=1).items())))


def engine_over(world: World) -> Engine:
    return Engine(world.state(), Settings())


def test_a_claimant_finds_its_victim_after_a_node_has_gone_with_its_pod() -> None:
    world = World().node("n0", cpu=4).node("n1", cpu=4).tenant("t", limits={"cpu": 4})
    world.pod("t", "low", on="n0", cpu=4).pod("t", "gone", on="n1", cpu=4).pod("t", "high", cpu=4, priority=5)
    engine = engine_over(world)
    engine.state.apply_all([ev.PodGone(("t", "gone")), ev.NodeGone("n1")])

    done = engine.cycle(1000.0)

    assert ([it.pod[1] for it in done.evictions], done.troubles) == (["low"], [])


def test_a_claimant_finds_its_victim_after_tenants_have_gone() -> None:
    world = World().node("n", cpu=4).tenant("a").tenant("x").tenant("y").tenant("z")
    world.pod("a", "low", on="n", cpu=4).pod("z", "gone", on="n", cpu=0).pod("a", "high", cpu=4, priority=5)
    engine = engine_over(world)
    engine.state.apply_all([ev.PodGone(("z", "gone")), *map(ev.TenantGone, "xyz")])

    done = engine.cycle(1000.0)

    assert ([it.pod[1] for it in done.evictions], done.troubles) == (["low"], [])


@pytest.mark.parametrize("gang", [False, True])
def test_a_claimant_waits_where_the_last_node_has_gone(gang: bool) -> None:
    world = World().node("n", cpu=2).tenant("t").gang("t", "g", 2)
    world.pods("t", 2, "low", on="n", group="g" if gang else None, cpu=1).pod("t", "high", cpu=1, priority=5)
    engine = engine_over(world)
    engine.state.apply(ev.NodeGone("n"))

    done = engine.cycle(1000.0)

    assert (done.decisions, done.troubles) == ([], [])


def test_a_gang_that_stands_partly_on_a_node_that_has_gone_is_a_victim_like_others() -> None:
    world = World().node("n0", cpu=6).node("n1", cpu=4)
    world.tenant("a", guaranteed={"cpu": 8}).tenant("b", guaranteed={"cpu": 4}).gang("a", "g", 2)
    world.pod("a", "g0", group="g", on="n0", cpu=4, priority=2).pod("a", "g1", group="g", on="n1", cpu=4, priority=2)
    world.pods("a", 2, on="n0", cpu=1).pod("b", "claimant", cpu=4)
    engine = engine_over(world)
    engine.state.apply(ev.NodeGone("n1"))

    assert engine.cycle(1000.0).troubles == []


def announced(world: World, tenant: str) -> World:
    """A gang of three of which two are announced, and one that has come."""
    template = PodSpec(tenant, "g/x", CORE, group="g")
    return world.gang(tenant, "g", 3, expected=(ExpectedMember("x", 2, template),)).pod(tenant, "d", group="g", cpu=1)


def test_announced_members_count_after_another_tenant_has_changed() -> None:
    engine = engine_over(announced(World().node("n", cpu=8).tenant("a", limits={"cpu": 4}).tenant("b"), "a"))
    state = engine.state
    engine.cycle(1000.0)

    state.apply(ev.TenantSeen(replace(state.tenant_specs["b"], weight=Fraction(2))))
    state.apply_all(ev.PodSeen(PodSpec("a", f"p{i}", CORE, created=1001.0)) for i in range(4))
    engine.cycle(1001.0)
    state.apply_all(ev.PodSeen(PodSpec("a", f"x{i}", CORE, created=1002.0, group="g")) for i in range(2))
    engine.cycle(1002.0)

    assert state.forest.by_name["a"].used[state.resources.column("cpu")] == 4000
    assert above_limits(state) == []
    check(state)


def test_announced_members_of_one_tenant_outlive_another_tenant() -> None:
    world = World().node("n", cpu=8).tenant("a").tenant("b").tenant("z")
    engine = engine_over(announced(world, "z").pods("b", 5, on="n", cpu=1))
    engine.cycle(1000.0)

    engine.state.apply_all([ev.TenantGone("a"), ev.PodSeen(PodSpec("z", "w", CORE, created=1001.0))])

    assert engine.cycle(1001.0).troubles == []
    check(engine.state)
