"""Gangs larger than a budget of evictions: each goes alone, where nothing of the budget is spent."""

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.settings import Settings
from builders.scheduling import World


def gangs(count: int, right: str) -> World:
    """Gangs of three that fill their nodes, and a claimant for each node."""
    world = World().tenant("a", weight=0).tenant("b", guaranteed={"cpu": 3 * count} if right == "R1" else {})
    for number in range(count):
        world.node(f"n{number}", cpu=3).gang("a", f"g{number}", 3)
        world.pods("a", 3, f"g{number}-", on=f"n{number}", group=f"g{number}", cpu=1)
    for number in range(count):
        world.pod("b", f"c{number}", cpu=3)
    return world


@pytest.mark.parametrize("right", ["R1", "R2"])
def test_a_gang_larger_than_a_cycles_budget_goes_alone(right: str) -> None:
    engine = Engine(gangs(2, right).state(), Settings(least_runtime=0.0, evictions_per_cycle=2, hysteresis=False))
    assert [len(engine.cycle(1000.0 + number).evictions) for number in range(3)] == [3, 3, 0]


def test_a_gang_larger_than_an_hours_budget_goes_alone_in_its_hour() -> None:
    engine = Engine(gangs(2, "R2").state(), Settings(least_runtime=0.0, evictions_per_hour=2, hysteresis=False))
    assert [len(engine.cycle(now).evictions) for now in (1000.0, 1001.0, 4601.0)] == [3, 0, 3]


def test_an_untouched_budget_is_exceeded_by_single_pods_for_nobody() -> None:
    world = World().node("n", cpu=3).tenant("a").tenant("b", guaranteed={"cpu": 3})
    world.pods("a", 3, on="n", cpu=1).pod("b", "c", cpu=3)
    assert not Engine(world.state(), Settings(evictions_per_cycle=2)).cycle(1000.0)
