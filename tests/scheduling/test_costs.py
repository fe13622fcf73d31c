"""What the cost of a pool does to shares, to the order of serving, to entitlement and to the choice of pools."""

from fractions import Fraction
from typing import NoReturn

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects.nodes import PoolSpec
from allotment_scheduler.core.objects.selectors import LabelSelector, Requirement
from allotment_scheduler.core.report import tenants_report
from builders.scheduling import World


def pool(name: str, **cost: str) -> PoolSpec:
    """A pool of the nodes that carry its name."""
    selector = LabelSelector((Requirement("pool", "In", (name,)),))
    return PoolSpec(name, selector, cost={resource: Fraction(price) for resource, price in cost.items()})


@pytest.mark.parametrize(
    "pools",
    [[pool("base"), pool("spot", cpu="0.5")], [pool("base", cpu="3")], [pool("base", memory="2")]],
    ids=["the cheap pool is empty", "the only pool has its price", "it has a price for something else"],
)
def test_shares_count_although_all_nodes_are_in_one_pool(pools: list[PoolSpec]) -> None:
    """a runs fewer pods, but uses most: b is served next."""
    world = World().node("n", labels={"pool": "base"}, cpu=40, memory=40).tenant("a").tenant("b")
    for spec in pools:
        world.pool(spec)
    world.pods("a", 2, "r", on="n", cpu=8, memory=1).pods("b", 3, "r", on="n", cpu=1, memory=1)
    world.pod("a", "next", cpu=1).pod("b", "next", cpu=1)

    engine = Engine(world.state())
    a, b = (engine.state.forest.by_name[name] for name in "ab")

    assert [tenant.name for tenant in engine.serving_order()] == ["b", "a"]
    assert engine.state.measure.dominant_share(a) == (Fraction(16, 40), engine.state.resources.column("cpu"))
    assert engine.state.measure.dominant_share(b)[0] == Fraction(3, 40)
    assert [start.pod for start in engine.cycle(0.0).starts] == [("b", "next"), ("a", "next")]


def test_what_is_used_elsewhere_is_not_used_in_an_empty_pool() -> None:
    world = World().pool(pool("base")).pool(pool("spot")).node("n", labels={"pool": "base"}, cpu=8).tenant("a")
    tenant = world.pod("a", "r", on="n", cpu=3).state().forest.by_name["a"]

    assert tenant.used_at("base")[: len(tenant.used)] == tenant.used
    assert not any(tenant.used_at("spot"))


def test_the_cheapest_pool_is_filled_first_whatever_its_name() -> None:
    world = World().pool(pool("a")).pool(pool("z", cpu="0.5")).tenant("t")
    for name in "az":
        world.node(f"n{name}", labels={"pool": name}, cpu=4)

    done = world.pods("t", 5, cpu=1).run()

    assert [start.node for start in done.outcome.rounds[0].starts] == ["nz"] * 4 + ["na"]
    cpu = done.state.resources.column("cpu")
    cells = done.engine.demand.entitlement().cells["t"]
    assert cells == {("z", cpu): Fraction(4000), ("a", cpu): Fraction(1000)}


def test_what_costs_nothing_is_shared_out_too() -> None:
    """GPUs are only in a pool that is free of charge: they make no share, and whoever asks gets some."""
    world = World().pool(pool("cpu")).tenant("a").tenant("b").node("c", labels={"pool": "cpu"}, cpu=4)
    world.pool(pool("free", cpu="0", **{"nvidia.com/gpu": "0"})).node("f", labels={"pool": "free"}, cpu=8, gpu=4)
    world.pods("a", 6, "a", cpu=1, gpu=1).pods("b", 9, "b", cpu=1)

    done = world.run()

    e, gpu, cpu = (done.engine.demand.entitlement(), *map(done.state.resources.column, ("nvidia.com/gpu", "cpu")))
    a, b = (done.state.forest.by_name[name] for name in "ab")
    assert e.of(a, gpu) == 4
    assert e.of(a, cpu) + e.of(b, cpu) == 12_000
    assert len(done.running("a")) == 4
    assert len(done.running("b")) == 8
    assert [row["dominantShare"] for row in tenants_report(done.engine)] != [0.0, 0.0]


def test_an_entitlement_that_could_not_be_found_is_sought_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> NoReturn:
        raise ArithmeticError("no")

    demand = Engine(World().node("n", cpu=4).tenant("a").pod("a", "p", cpu=1).state()).demand
    with monkeypatch.context() as patched:
        patched.setattr("allotment_scheduler.core.entitlement.demand.fill", broken)
        for _ in range(2):
            with pytest.raises(ArithmeticError):
                demand.entitlement()

    assert demand.entitlement().cells["a"]
