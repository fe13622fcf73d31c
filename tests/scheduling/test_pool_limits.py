"""Limits for single pools: they bind what stands there, pod by pod, and a gang may stand in several pools."""

from dataclasses import replace
from typing import Any

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.explanation.explain import Explainer
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.nodes import PoolSpec
from allotment_scheduler.core.objects.pods import SchedulingSpec
from allotment_scheduler.core.objects.selectors import LabelSelector, Requirement
from allotment_scheduler.core.objects.tenants import Bounds
from allotment_scheduler.core.settings import Settings
from builders.scheduling import World, amounts


def limited(limits: dict[str, int], *, to: str = "t", cpu: int = 8, world: World | None = None) -> World:
    """Pools a and b of one node each, and a tenant with a limit of CPUs in each pool that is named."""
    world = (world or World()).tenant("t").tenant("u")
    for pool in "ab":
        world.pool(PoolSpec(pool, LabelSelector((Requirement("pool", "In", (pool,)),))))
        world.node(f"n{pool}", labels={"pool": pool}, cpu=cpu)
    return with_limits(world, to, limits)


def with_limits(world: World, name: str, limits: dict[str, int]) -> World:
    made = next(it for it in world.events if isinstance(it, ev.TenantSeen) and it.spec.name == name)
    bounds = Bounds({}, {pool: amounts(cpu=cpu) for pool, cpu in limits.items()})
    world.events[world.events.index(made)] = ev.TenantSeen(replace(made.spec, limits=bounds))
    return world


def spread_of(world: World, tenant: str = "t") -> dict[str, int]:
    """How many of a tenant's pods run on each node in the end."""
    done = world.run()
    where = [done.node_of(tenant, name) or "" for name in done.running(tenant)]
    return {node: where.count(node) for node in sorted(set(where))}


@pytest.mark.parametrize(
    ("limits", "where"),
    [
        ({"a": 4, "b": 4}, {"na": 4}),
        ({"a": 3, "b": 1}, {"na": 3, "nb": 1}),
        ({"a": 2}, {"na": 2, "nb": 2}),
        ({"a": 0, "b": 4}, {"nb": 4}),
        ({"a": 2, "b": 1}, {}),
        ({"a": 3, "b": 0}, {}),
    ],
)
def test_a_gang_stands_where_the_limits_of_pools_take_its_pods(limits: dict[str, int], where: dict[str, int]) -> None:
    assert spread_of(limited(limits).gang("t", "g", 4).pods("t", 4, group="g", cpu=1)) == where


def test_a_gang_is_told_that_limits_of_pools_leave_too_little_together() -> None:
    done = limited({"a": 2, "b": 1}).gang("t", "g", 4).pods("t", 4, group="g", cpu=1).run()

    why = Explainer(done.engine).why(done.state.pods["t", "p0"])
    assert why.code == "AboveLimit"
    assert "for pools (a, b) leave too little for all 4 pods" in why.message


def test_pods_of_different_size_of_a_gang_are_limited_one_by_one() -> None:
    """Whole CPUs are left for all of it, but nowhere for the large one."""
    world = limited({"a": 2, "b": 2}).gang("t", "g", 2)
    world.pod("t", "large", group="g", cpu=3).pod("t", "small", group="g", cpu=1)
    assert spread_of(world) == {}

    world = limited({"a": 3, "b": 1}).gang("t", "g", 2)
    world.pod("t", "small", group="g", cpu=1).pod("t", "large", group="g", cpu=3)
    assert spread_of(world) == {"na": 1, "nb": 1}


def test_the_limit_of_a_pool_binds_gangs_at_every_level() -> None:
    world = limited({"a": 3, "b": 9}, world=World().inner("dep").tenant("x", "dep").tenant("y", "dep"))
    with_limits(world, "dep", {"a": 3})
    world.gang("x", "g", 2).pods("x", 2, group="g", cpu=1).gang("y", "g", 2).pods("y", 2, group="g", cpu=1)

    done = world.run()

    where = [done.node_of(it[0], it[1]) for it in done.state.pods]
    assert sorted(filter(None, where)) == ["na", "na", "na", "nb"]


def test_a_plan_divides_a_gang_among_pools_as_limits_take_it() -> None:
    """Every node is full: room is made in both pools, for no pool takes the gang whole."""
    world = limited({"a": 1, "b": 1}, cpu=2).pods("u", 2, "a", on="na", cpu=1).pods("u", 2, "b", on="nb", cpu=1)

    done = world.gang("t", "g", 2).pods("t", 2, group="g", cpu=1).run()

    assert {done.node_of("t", name) for name in ("p0", "p1")} == {"na", "nb"}
    assert len(done.evicted) == 2


@pytest.mark.parametrize("more", [{}, {"topology_key": "pool"}])
def test_a_running_gang_grows_into_the_pools_that_are_left(more: dict[str, Any]) -> None:
    world = limited({"a": 2}).gang("t", "g", 2, **more).pods("t", 5, group="g", cpu=1)

    assert spread_of(world) == {"na": 2, "nb": 3}


ON_A = SchedulingSpec((), node_selector=(("pool", "a"),))


@pytest.mark.parametrize(
    ("running", "spec", "asks", "code", "said", "never"),
    [
        (4, ON_A, 1, "AboveLimit", "in pool a tenant t uses 4 of its limit of 4 cpu, and this asks for 1", False),
        (3, ON_A, 2, "AboveLimit", "tenant t uses 3 of its limit of 4 cpu, and this asks for 2", False),
        (0, ON_A, 5, "AboveLimit", "tenant t uses 0 of its limit of 4 cpu, and this asks for 5", True),
        (4, SchedulingSpec(()), 6, "AboveLimit", "in no pool where it could run: in pool a tenant t uses 4", True),
        (0, ON_A, 9, "NoNodeFits", "0 of 2 nodes fit", True),
    ],
    ids=["used up", "not enough left", "more than the limit", "only nodes there are large enough", "larger than nodes"],
)
def test_only_pools_where_a_pod_could_run_count_when_it_is_told_of_limits(
    running: int, spec: SchedulingSpec, asks: int, code: str, said: str, *, never: bool
) -> None:
    """Pool b is open to the tenant, but not to the pod: by its selector, or because its node is too small."""
    world = limited({"a": 4}).node("nb", labels={"pool": "b"}, cpu=5).pods("t", running, "r", on="na", cpu=1)
    done = world.pod("t", "p", spec=spec, cpu=asks).run()

    why = Explainer(done.engine).why(done.state.pods["t", "p"])

    assert (why.code, why.never) == (code, never), why.message
    assert said in why.message


def test_a_gang_is_told_of_the_limit_that_is_in_the_way_of_one_of_its_pods() -> None:
    world = limited({"a": 1}).pod("t", "r", on="na", cpu=1).gang("t", "g", 2)
    world.pod("t", "here", spec=ON_A, group="g", cpu=1).pod("t", "there", group="g", memory=0)
    done = world.run()

    why = Explainer(done.engine).why(done.state.pods["t", "here"])

    assert why.code == "AboveLimit"
    assert "pools (a)" in why.message


def test_every_pool_is_named_with_the_tenant_whose_limit_closes_it() -> None:
    world = limited({"b": 0}, to="x", world=World().inner("d").tenant("x", "d"))
    done = with_limits(world, "d", {"a": 0}).pod("x", "p", cpu=1).run()

    why = Explainer(done.engine).why(done.state.pods["x", "p"])

    assert "in pool a tenant d uses 0 of its limit of 0 cpu" in why.message
    assert "in pool b tenant x uses 0 of its limit of 0 cpu" in why.message


def test_what_waits_for_the_limit_of_a_pool_gets_no_reservation() -> None:
    """It does not age: no room that others could use is kept for it."""
    world = limited({"a": 4}).pods("t", 4, "r", on="na", cpu=1).pod("t", "p", spec=ON_A, cpu=1)
    engine = Engine(world.state(), Settings())
    for now in range(0, 3600, 300):
        engine.cycle(world.clock + now)

    assert not engine.reservations.misfits
    assert not engine.reservations.by_unit


def test_a_pod_that_may_not_be_preempted_is_told_of_the_guarantee_where_it_could_run() -> None:
    world = limited({})
    made = next(it for it in world.events if isinstance(it, ev.TenantSeen) and it.spec.name == "t")
    spec = replace(made.spec, guaranteed=Bounds({}, {"b": amounts(cpu=4)}))
    world.events[world.events.index(made)] = ev.TenantSeen(spec)
    done = world.pod("t", "p", spec=ON_A, cpu=1, more={"preemptible": False}).run()

    why = Explainer(done.engine).why(done.state.pods["t", "p"])

    assert (why.code, why.never) == ("BeyondGuarantee", False)
    assert "pool b has no node for it" in why.message


@pytest.mark.parametrize("count", [1, 3])
def test_no_limit_is_in_the_way_of_who_has_no_pool_to_run_in(count: int) -> None:
    """The tenant's only pool does not exist: a higher limit would not help."""
    world = World().node("n", cpu=8).tenant("t", node_pools=("gpu",), limits_in={"gpu": {"cpu": 4}})
    done = world.gang("t", "g", count).pods("t", count, group="g", cpu=1).run()

    why = Explainer(done.engine).why(done.state.pods["t", "p0"])
    assert (why.code, why.message) == ("NoNodeFits", "0 of 1 nodes fit: 1 are in pools it may not use")
