"""Members that were announced and come: which of the rooms that are held for them they may take."""

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import PodSpec, SchedulingSpec
from allotment_scheduler.core.objects.units import ExpectedMember
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.invariants import check
from builders.scheduling import World, amounts

CORE = SchedulingSpec(tuple(sorted(amounts(cpu=1).items())))


@pytest.mark.parametrize(("guaranteed", "start"), [(None, []), (1, ["x0"]), (2, ["x0", "x1"])])
def test_members_that_may_not_be_preempted_take_rooms_within_the_guarantee_only(
    guaranteed: int | None, start: list[str]
) -> None:
    world = World().node("n", cpu=3).tenant("t", guaranteed=None if guaranteed is None else {"cpu": guaranteed})
    world.gang("t", "g", 3, expected=(ExpectedMember("x", 2, PodSpec("t", "g/x", CORE, group="g")),))
    engine = Engine(world.pod("t", "d", group="g", cpu=1).state(), Settings())
    state = engine.state
    engine.cycle(1000.0)

    state.apply_all(
        ev.PodSeen(PodSpec("t", f"x{i}", CORE, created=1001.0, group="g", preemptible=False)) for i in range(2)
    )
    done = engine.cycle(1001.0)

    assert [it.pod[1] for it in done.starts] == start
    assert state.forest.by_name["t"].fixed[state.resources.column("cpu")] == 1000 * len(start)
    check(state)
