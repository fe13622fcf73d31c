"""The search for room against brute force on tiny clusters of several nodes and tenants, by P, R1 and R2."""

import random
from collections.abc import Sequence

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.eviction.plans import Plan
from allotment_scheduler.core.eviction.rules import rule
from allotment_scheduler.core.simulate import run_to_fixpoint
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.core.state.invariants import check
from builders.eviction_oracle import Search, fits, state_of, waiting
from builders.scheduling import World

FEW = [
    pytest.param(range(25), id="few"),
    pytest.param((1175,), id="a victim too many of the wrong size ends the right"),
    pytest.param((311, 395, 2797), id="a gang that goes makes room on other nodes, too"),
    pytest.param(range(5000), id="many", marks=pytest.mark.soak),
]


ROOMS = pytest.mark.parametrize("rooms", [False, True], ids=["", "with rooms for announced members"])
NOW = 1000.0


def at_rest(state: ClusterState) -> Engine:
    """The engine when nothing more is decided."""
    engine = Engine(state)
    outcome = run_to_fixpoint(engine, NOW)
    check(engine.state)
    assert not any(done.troubles for done in outcome.rounds)
    return engine


@ROOMS
@pytest.mark.parametrize("seeds", FEW)
def test_at_rest_nobody_fits_and_nobody_could_make_room(seeds: Sequence[int], rooms: bool) -> None:
    for seed in seeds:
        engine = at_rest(state_of(seed, rooms=rooms))
        for unit in waiting(engine):
            with engine.state.trial() as trial:
                assert not fits(engine, unit, trial), f"world {seed}: {unit.first} fits and does not start"
            assert Search(engine, unit).run() is None, f"world {seed}: {unit.first} has a plan and does not claim"


def needless(engine: Engine, plan: Plan) -> list[str]:
    """Victims without whom the plan would do as well, every other step still obeying its rule."""
    claim, out = engine.planner._claim(plan.unit), []
    for spared in plan.steps:
        with engine.state.trial() as trial:
            lawful = True
            for step in plan.steps:
                if step is not spared and lawful:
                    lawful = rule(claim, step.victim) is not None
                    for pod in step.victim.places:
                        trial.evict(pod)
            gangs = {pod.gang for step in plan.steps for pod in step.victim.pods if pod.gang is not None}
            cut = any(0 < gang.running < gang.min_member for gang in gangs)
            if lawful and not cut and fits(engine, plan.unit, trial):
                out.append(spared.victim.pods[0].spec.name)
    return out


@ROOMS
@pytest.mark.parametrize("seeds", FEW)
def test_no_victim_of_a_plan_could_be_spared(seeds: Sequence[int], rooms: bool) -> None:
    for seed in seeds:
        engine = Engine(state_of(seed, rooms=rooms))
        engine.cycle(NOW, claims=False)
        for unit in waiting(engine):
            plan = engine.planner.plan(unit)
            if plan is not None:
                assert needless(engine, plan) == [], f"world {seed}: {unit.first}"


def of_equal_pods(seed: int) -> World:
    """Nodes full of pods of one processor, each for itself; claimants of several."""
    rng = random.Random(seed)
    world = World()
    leaves = [f"t{number}" for number in range(rng.randint(1, 3))]
    for name in leaves:
        world.tenant(name, weight=rng.choice(["1", "2", "0"]), guaranteed=rng.choice([{}, {"cpu": rng.randint(1, 4)}]))
    for node in ("n0", "n1", "n2"):
        size = rng.randint(1, 4)
        world.node(node, cpu=size)
        for number in range(size):
            more = {"recreated": rng.random() < 0.6, "preemptible": rng.random() < 0.9}
            world.pod(rng.choice(leaves), f"{node}-{number}", on=node, cpu=1, priority=rng.randint(0, 2), more=more)
    for number in range(3):
        world.pod(rng.choice(leaves), f"c{number}", cpu=rng.randint(1, 3), priority=rng.randint(0, 3))
    return world


@pytest.mark.parametrize("seeds", FEW)
def test_among_equal_pods_a_plan_is_as_cheap_as_any_on_one_node(seeds: Sequence[int]) -> None:
    for seed in seeds:
        world = of_equal_pods(seed)
        engine = Engine(world.state())
        engine.cycle(world.clock, claims=False)
        for unit in waiting(engine):
            plan = engine.planner.plan(unit)
            found = (Search(engine, unit, node.spec.name).run() for node in engine.state.nodes.ordered)
            cheapest = min((cost for cost in found if cost is not None), default=None)
            if cheapest is None:
                assert (plan is None) == (Search(engine, unit).run() is None), f"world {seed}: {unit.first}"
            else:
                assert plan is not None
                assert plan.pods == cheapest, f"world {seed}: {unit.first}"
