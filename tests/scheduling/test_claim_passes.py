"""Claimants are tried in passes, so that a full cluster cannot hold a cycle up."""

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects.pods import SchedulingSpec
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.invariants import check
from builders.scheduling import World

OLD = 10_000.0


def crowded(claimants: int, shapes: int = 4) -> World:
    """A cluster full of one tenant's pods, and others that are entitled to a part of it, with pods of several sizes."""
    world = World().nodes(8, cpu=4, memory=64).tenant("greedy")
    for number in range(32):
        world.pod("greedy", f"r{number}", on=f"n{number % 8:02}", cpu=1)
    for number in range(claimants):
        world.tenant(f"c{number}")
        for size in range(shapes):
            world.pod(f"c{number}", f"w{number}-{size}", cpu=1, memory=size)
    return world


def hopeless(world: World, count: int) -> World:
    """Claimants that are entitled to room, but want it where nobody may be evicted."""
    world.node("vip", cpu=4, memory=64, labels={"vip": "yes"}).tenant("hopeless")
    world.pod("greedy", "stays", on="vip", cpu=4, more={"preemptible": False})
    for size in range(count):
        there = SchedulingSpec((), node_selector=(("vip", "yes"),))
        world.pod("hopeless", f"h{size}", cpu=1, memory=size, spec=there)
    return world


def to_the_end(engine: Engine, now: float) -> tuple[int, int, int]:
    """Cycles until one decides nothing and leaves nobody out; starts and evictions on the way."""
    starts = evictions = 0
    for cycles in range(1, 1000):
        done = engine.cycle(now)
        starts, evictions = starts + len(done.starts), evictions + len(done.evictions)
        if not done and not done.cut_short:
            return cycles, starts, evictions
    pytest.fail("cycles never come to an end")


def test_a_pass_that_was_cut_short_goes_on_in_the_next_cycle() -> None:
    at_once, bit_by_bit = (
        Engine(crowded(3).state(), Settings(claim_effort=effort, least_runtime=0)) for effort in (10**9, 1)
    )

    few, *in_one = to_the_end(at_once, OLD)
    many, *in_many = to_the_end(bit_by_bit, OLD)

    assert in_many == in_one
    assert in_one[1] > 0
    assert many > few
    check(bit_by_bit.state)


def test_whoever_comes_later_in_the_order_gets_its_turn_behind_those_without_a_plan() -> None:
    """The first claimants find no plan; by an effort of one they fill cycle after cycle, but each only once."""
    world = hopeless(crowded(0), 6).tenant("modest").pod("modest", "m", cpu=1)
    engine = Engine(world.state(), Settings(claim_effort=1, least_runtime=0))

    cycles, _, _ = to_the_end(engine, OLD)

    assert engine.state.pods["modest", "m"].node is not None
    assert 6 < cycles <= 20


def test_who_found_no_plan_is_tried_again_in_the_next_pass() -> None:
    engine = Engine(crowded(1, shapes=1).state(), Settings(least_runtime=300))

    assert not engine.cycle(100.0).evictions, "everybody is too young"
    assert engine.cycle(OLD).evictions


def test_an_eviction_lets_everybody_claim_anew() -> None:
    done = Engine(crowded(2).state(), Settings(least_runtime=0)).cycle(OLD)

    assert done.evictions
    assert done.cut_short, "what changed may give others a plan: the next cycle sees"


def test_those_too_young_to_go_are_not_looked_at_one_by_one() -> None:
    engine = Engine(crowded(4).state(), Settings(least_runtime=300))
    engine.cycle(100.0)

    assert 0 < engine.planner.effort <= 4 * 4, "one look per claimant, however many pods run"


def test_a_plan_on_one_node_looks_at_a_bounded_number_of_victims() -> None:
    few, many = (effort_for_a_whole_node(among=nodes) for nodes in (200, 600))

    assert many < 1.5 * few, "three times the nodes and pods, and no more to look at but in the arrays"


def effort_for_a_whole_node(*, among: int) -> float:
    world = World().nodes(among, cpu=8).tenant("greedy").tenant("big")
    for number in range(8 * among):
        world.pod("greedy", f"r{number}", on=f"n{number % among:02}", cpu=1)
    engine = Engine(world.pod("big", "whole", cpu=8).state(), Settings(least_runtime=0))

    done = engine.cycle(OLD)

    assert len({evict.node for evict in done.evictions}) == 1
    assert len(done.evictions) == 8
    return engine.planner.effort
