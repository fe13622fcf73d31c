"""The order that is shown is the order that is used, whatever the share policy; and who is ahead is named."""

import random

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.explanation.explain import Explainer
from allotment_scheduler.core.explanation.rivals import ahead_of
from allotment_scheduler.core.fairness.serving import Serving, listing
from allotment_scheduler.core.objects.units import Unit
from allotment_scheduler.core.placement.eligibility import Eligibility
from allotment_scheduler.core.report import tenants_report
from allotment_scheduler.core.simulate import run_to_fixpoint
from allotment_scheduler.core.state.cluster import ClusterState
from builders.scheduling import World


def state_of(world: World, policy: str) -> ClusterState:
    state = ClusterState(share_policy=policy)
    state.apply_all(world.events)
    state.settle()
    return state


def random_tree(seed: int) -> World:
    """Two levels of tenants that use and ask for this and that; some have nothing that waits."""
    rng = random.Random(seed)
    world = World().node("n", cpu=60, gpu=60, memory=60)
    for inner in "abc":
        world.inner(inner, weight=rng.choice(["1", "1", "2", "0.5"]))
        for number in range(rng.randint(1, 3)):
            leaf = f"{inner}{number}"
            world.tenant(leaf, inner, weight=rng.choice(["1", "2"]))
            for name, on in (("r", "n"), ("w", None)):
                for each in range(rng.randint(0, 2)):
                    asks = {it: rng.randint(0, 6) for it in ("cpu", "gpu", "memory")}
                    world.pod(leaf, f"{leaf}{name}{each}", on=on, **asks)  # type: ignore[arg-type]  # fields by name
    return world


@pytest.mark.parametrize("policy", ["drf", "hdrf"])
def test_the_first_leaf_listed_is_the_one_that_is_served(policy: str) -> None:
    for seed in range(150):
        engine = Engine(state_of(random_tree(seed), policy))
        eligibility = Eligibility(engine.state, engine.placer, engine.gangs, engine.demand.scope_of)
        propose, where = eligibility.propose, eligibility.where
        serving = Serving(engine.state, propose, where)
        serving.refresh_all(engine.state.forest.leaves)
        served = serving.next()
        listed = [leaf for leaf in listing(engine.state, propose, where) if propose(leaf) is not None]

        assert (listed[0] if listed else None) is (served.leaf if served else None), f"seed {seed}"


def test_the_share_policies_list_in_different_orders() -> None:
    def order(seed: int, policy: str) -> list[str]:
        return [row["name"] for row in tenants_report(Engine(state_of(random_tree(seed), policy)))]

    assert any(order(seed, "drf") != order(seed, "hdrf") for seed in range(20))


def behind(world: World, tenant: str, policy: str = "drf") -> str:
    engine = Engine(state_of(world, policy))
    run_to_fixpoint(engine, world.clock)
    return Explainer(engine).why(engine.state.pods[tenant, "p"]).message


def full() -> World:
    return World().node("n", cpu=8).tenant("a").tenant("b")


def test_who_is_ahead_is_named_with_both_shares() -> None:
    world = full().pod("a", "r", on="n", cpu=5).pod("b", "s", on="n", cpu=3).pod("b", "w", cpu=2).pod("a", "p", cpu=1)

    said = behind(world, "a")

    assert "1 cpu asked for, 0 free; tenant a has 62.5% of all cpu, and is entitled to 4 cpu" in said
    assert said.endswith("b is ahead with a weighted share of 37.5%, a has 62.5%")


def test_nobody_is_ahead_of_the_first() -> None:
    world = full().pod("a", "r", on="n", cpu=3, more={"preemptible": False})
    world.pod("b", "s", on="n", cpu=5, more={"preemptible": False}).pod("b", "w", cpu=2).pod("a", "p", cpu=1)

    assert "ahead" not in behind(world, "a")


def test_a_department_is_named_where_it_is_ahead_of_the_own_one() -> None:
    world = World().node("n", cpu=8).inner("x", weight=2).inner("y").tenant("a", "x").tenant("b", "y").tenant("c", "y")
    fixed = {"preemptible": False}
    world.pod("a", "r", on="n", cpu=2, more=fixed).pod("b", "s", on="n", cpu=6, more=fixed)
    world.pod("a", "w", cpu=1).pod("b", "p", cpu=1).pod("c", "w", cpu=1)

    assert behind(world, "b").endswith("x is ahead with a weighted share of 12.5%, y has 75.0%")


@pytest.mark.parametrize(
    ("weight", "guaranteed", "said"),
    [
        (1, {"cpu": 8}, "b is ahead: it is within its guarantee, a is not"),
        (0, {}, "b is ahead: a has weight 0 and is served last"),
    ],
)
def test_other_reasons_to_be_ahead_are_named(weight: int, guaranteed: dict[str, int], said: str) -> None:
    world = World().node("n", cpu=8).tenant("a", weight=weight).tenant("b", guaranteed=guaranteed)
    fixed = {"preemptible": False}
    world.pod("a", "r", on="n", cpu=1, more=fixed).pod("b", "s", on="n", cpu=7, more=fixed)

    assert behind(world.pod("b", "w", cpu=1).pod("a", "p", cpu=1), "a").endswith(said)


def test_what_a_limit_keeps_back_is_ahead_of_nobody() -> None:
    world = World().node("n", cpu=8).tenant("a").tenant("b", limits={"cpu": 3})
    world.pod("a", "r", on="n", cpu=5).pod("b", "s", on="n", cpu=3).pod("b", "w", cpu=1).pod("a", "p", cpu=1)

    assert "ahead" not in behind(world, "a")


def test_a_level_with_very_many_leaves_is_left_out() -> None:
    world = World().node("n", cpu=8)
    for number in range(300):
        world.tenant(f"t{number}").pod(f"t{number}", "p", cpu=9)
    state = world.state()
    run_to_fixpoint(Engine(state), 0.0)
    unit = state.pods["t7", "p"].unit

    assert isinstance(unit, Unit)
    assert ahead_of(state, unit, lambda unit: unit.shape.pools) is None
