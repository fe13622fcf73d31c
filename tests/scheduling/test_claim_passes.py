"""Claimants are tried in passes, so that a full cluster cannot hold a cycle up."""

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.decisions import Round
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import Pod, SchedulingSpec
from allotment_scheduler.core.objects.selectors import LabelSelector, Requirement
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.invariants import check
from allotment_scheduler.core.state.trial import Trial
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


@pytest.mark.parametrize("budget", ["x", "y"])
def test_nodes_that_are_alike_are_tried_once_where_there_is_no_plan(budget: str) -> None:
    """Whoever stands there is one pod above its guarantee, and eight would have to go."""
    world = World().nodes(100, cpu=8).tenant("y", guaranteed={"cpu": 799}).tenant("x", guaranteed={"cpu": 8})
    for number in range(800):
        world.pod("y", f"r{number}", on=f"n{number % 100:02}", cpu=1)
    only_leaders = LabelSelector((Requirement("leader", "Exists"),))
    world.events.append(ev.BudgetSeen(ev.BudgetSpec(budget, "leaders", only_leaders, allowed=0)))
    engine = Engine(world.pod("x", "whole", cpu=8).state(), Settings())

    assert not engine.cycle(OLD).evictions
    assert engine.planner.effort < 1.5 * (100 + 800), (
        "a look at every node, and one at every pod for all nodes together"
    )


@pytest.mark.parametrize("members", [1, 2], ids=["pod", "gang"])
def test_a_long_search_goes_on_in_the_next_cycle_on_other_nodes(members: int) -> None:
    """Only on the last nodes there is a plan, and no two nodes are alike."""
    world = World().tenant("y", guaranteed={"cpu": 119}).tenant("z").tenant("x", guaranteed={"cpu": 8})
    for number in range(30 + members):
        world.node(f"n{number:02}", cpu=4, memory=100)
        world.pods("y" if number < 30 else "z", 2, f"r{number}-", on=f"n{number:02}", cpu=2, memory=1 + number)
    world.gang("x", "g", members).pods("x", members, "x", group="g", cpu=4)
    engine = Engine(world.state(), Settings(claim_effort=50))
    cycles: list[Round] = []
    efforts: list[float] = []
    while not cycles or cycles[-1].cut_short:
        cycles.append(engine.cycle(OLD))
        efforts.append(engine.planner.effort)

    assert {evict.pod[0] for done in cycles for evict in done.evictions} == {"z"}
    assert sum(len(done.evictions) for done in cycles) == 2 * members
    assert len(cycles) > 5
    assert max(efforts) < 150
    check(engine.state)


@pytest.mark.parametrize("limit", [1000, 48], ids=["far away", "in the way"])
def test_needless_victims_are_found_as_quickly_under_a_limit(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def evictions_tried(limits: dict[str, int]) -> int:
        world = World().nodes(12, cpu=4).tenant("a", limits=limits).gang("a", "g", 10)
        for number in range(48):
            world.pod("a", f"low{number}", on=f"n{number % 12:02}", cpu=1)
        engine = Engine(world.pods("a", 10, "g", group="g", cpu=4, priority=5).state(), Settings())
        tried: list[Pod] = []
        evict = Trial.evict

        def counted(trial: Trial, pod: Pod) -> None:
            tried.append(pod)
            evict(trial, pod)

        with monkeypatch.context() as patch:
            patch.setattr(Trial, "evict", counted)
            assert len(engine.cycle(OLD).evictions) == 40
        return len(tried)

    assert evictions_tried({"cpu": limit}) <= 2 * evictions_tried({})


def test_a_gang_that_fits_only_where_more_must_go_than_the_least_gets_its_plan() -> None:
    """On every node one large pod would do, but the rules take the youngest first: each costs more than its bound."""
    world = World().tenant("greedy").tenant("big")
    for number in range(30):
        world.node(f"n{number:02}", cpu=8).pod("greedy", f"large{number}", on=f"n{number:02}", cpu=4)
    for number in range(60):
        world.pod("greedy", f"small{number}", on=f"n{number % 30:02}", cpu=2)
    world.gang("big", "g", 2).pods("big", 2, group="g", cpu=4)
    engine = Engine(world.state(), Settings(least_runtime=0, claim_effort=50))

    assert any(engine.cycle(OLD + number).evictions for number in range(5))
