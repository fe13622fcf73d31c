"""Which of several possible victims goes first: each test tells one rule of the order from its opposite."""

from typing import Any

import pytest
from msgspec import structs

from allotment_scheduler.core.objects import events as ev
from builders.scheduling import World


def started_at(when: float, event: ev.Event) -> ev.Event:
    """A running pod that started at this time; everything else as it is."""
    if isinstance(event, ev.PodSeen) and event.spec.node is not None:
        return ev.PodSeen(structs.replace(event.spec, started=when))
    return event


@pytest.mark.parametrize("last", ["plain", "with-memory"])
def test_the_youngest_goes_whatever_the_shapes_of_its_peers(last: str) -> None:
    world = World().node("n", cpu=4, memory=10).tenant("a").tenant("b")
    for name in sorted(("plain", "with-memory"), key=lambda name: name == last):
        for number in range(2):
            world.pod("a", f"{name}-{number}", on="n", cpu=1, memory=int(name == "with-memory"))
    world.pod("b", "claims", cpu=1)

    assert world.run().evicted == [f"{last}-1"]


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_of_pods_that_started_in_one_second_the_one_created_last_goes(names: str) -> None:
    """A whole wave does: were it by name, somebody could name a pod so that it stays."""
    world = World().node("n", cpu=2).tenant("t")
    for name in names:
        world.pod("t", name, on="n", cpu=1)
    world.events = [started_at(2.0, event) for event in world.events]

    assert world.pod("t", "urgent", cpu=1, priority=1).run().evicted == [names[-1]]


def test_of_several_tenants_above_their_entitlement_the_highest_share_gives_first() -> None:
    world = World().node("n", cpu=9).tenant("a").tenant("b").tenant("c")
    world.pods("a", 4, "a", on="n", cpu=1).pods("b", 5, "b", on="n", cpu=1).pods("c", 3, "c", cpu=1)

    assert world.run().evicted == ["b4", "b3", "a3"], "the second is a tie: the reverse of serving order decides"


def test_the_highest_share_is_sought_level_by_level() -> None:
    """Group g holds more than leaf h, though each of its leaves holds less than h."""
    world = World().node("n", cpu=12).inner("g").tenant("g1", "g").tenant("g2", "g").tenant("h").tenant("c")
    world.pods("g1", 4, "g1-", on="n", cpu=1).pods("g2", 3, "g2-", on="n", cpu=1).pods("h", 5, "h", on="n", cpu=1)
    world.pods("c", 4, "c", cpu=1)

    assert world.run().evicted[0] == "g1-3"


def test_who_stays_at_its_entitlement_gives_before_who_falls_below() -> None:
    world = World().node("n", cpu=24).tenant("a").tenant("b").tenant("c")
    world.pods("a", 2, "large", on="n", cpu=7).pods("b", 10, "b", on="n", cpu=1).pods("c", 8, "c", cpu=1)

    assert world.run().evicted[0] == "b9", "a has the higher share, but would fall from 14 to 7 of its 8"


def test_of_unlike_pods_of_one_tenant_the_one_goes_that_leaves_it_its_entitlement() -> None:
    """The younger one is larger: without it a would run 1 of its 4 CPUs."""
    world = World().node("n", cpu=8).tenant("a").tenant("b").pods("b", 3, "b", on="n", cpu=1)
    world.pod("a", "small", on="n", cpu=1).pod("a", "large", on="n", cpu=4)

    assert world.pod("b", "claims", cpu=1).run().evicted == ["small"]


@pytest.mark.parametrize(("saved", "other"), [("n1", "n2"), ("n2", "n1")])
def test_the_least_work_is_lost_and_a_checkpoint_has_saved_some(saved: str, other: str) -> None:
    world = World().node("n1", cpu=1).node("n2", cpu=1).tenant("a").tenant("b")
    world.pod("a", "long-but-saved", on=saved, cpu=1, more={"checkpointed": 3.0}).pod("a", "short", on=other, cpu=1)
    world.pod("b", "claims", cpu=1)

    assert world.run().evicted == ["long-but-saved"]


def test_who_was_evicted_claims_from_nobody_else_until_demand_changes() -> None:
    """Without this, b would pay for its urgent pod with a's room: by priority first, then by its guarantee."""
    world = World().node("n", cpu=4).tenant("a").tenant("b", guaranteed={"cpu": 3})
    world.pod("a", "others", on="n", cpu=2, priority=1).pod("b", "own", on="n", cpu=2, priority=1)
    world.pod("b", "urgent", cpu=1, priority=5)

    done = world.run()

    assert done.evicted == ["own"]
    assert done.running("a") == {"others"}


def lone(name: str, *, tenant: str = "y", cpu: int = 1, **more: Any) -> dict[str, Any]:
    """A running pod, as one line of a table."""
    return {"name": name, "tenant": tenant, "cpu": cpu, **more}


BARE = {"recreated": False}
LAST_JOB = {"fragile": True}


@pytest.mark.parametrize("claimant", ["y", "x"])
@pytest.mark.parametrize(
    ("pods", "goes"),
    [
        pytest.param([lone("kept"), lone("bare", more=BARE)], {"kept"}, id="last-choice"),
        pytest.param([lone("kept"), lone("fragile", more=LAST_JOB)], {"kept"}, id="last-of-its-job"),
        pytest.param([lone("low"), lone("mid", priority=4)], {"low"}, id="priority-before-work"),
        pytest.param([lone("old"), lone("young")], {"young"}, id="work"),
        pytest.param([lone("dear", priority=4, more=BARE), lone("mid", priority=4)], {"mid"}, id="both"),
    ],
)
def test_of_pods_on_different_nodes_the_same_go_first_as_on_one(
    claimant: str, pods: list[dict[str, Any]], goes: set[str]
) -> None:
    """By priority as well as by entitlement: a plan for one node does not win by work what it loses by the order."""
    world = World().tenant("y").tenant("x")
    for number, pod in enumerate(pods):
        world.clock = 1000.0 * number
        world.node(f"n{number}", cpu=1).pod(on=f"n{number}", **pod)
    world.clock = 9000.0

    done = world.pod(claimant, "claims", cpu=1, priority=9).run()

    assert set(done.evicted) == goes


def test_one_pod_nobody_recreates_is_dearer_than_two_that_are() -> None:
    world = World().node("n1", cpu=2).node("n2", cpu=2).tenant("a")
    world.pod("a", "bare", on="n1", cpu=2, more=BARE).pods("a", 2, "a", on="n2", cpu=1)

    assert set(world.pod("a", "urgent", cpu=2, priority=5).run().evicted) == {"a0", "a1"}


def test_between_tenants_work_decides_and_priority_does_not() -> None:
    """Else a tenant would be spared for giving all its pods a high priority."""
    world = World().node("n1", cpu=2).node("n2", cpu=2).tenant("modest").tenant("loud").tenant("x")
    world.pod("modest", "old", on="n1", cpu=2)
    world.clock = 5000.0
    world.pod("loud", "young", on="n2", cpu=2, priority=1000)
    world.clock = 9000.0

    assert world.pod("x", "claims", cpu=1).run().evicted == ["young"]


def test_the_lowest_priority_is_found_on_the_last_of_many_nodes() -> None:
    world = World().tenant("a")
    for number in range(100):
        world.node(f"n{number:02}", cpu=1).pod("a", f"a{number:02}", on=f"n{number:02}", cpu=1, priority=number < 99)

    assert world.pod("a", "urgent", cpu=1, priority=5).run().evicted == ["a99"]


def test_victims_that_use_a_right_up_in_vain_are_left_for_one_that_makes_the_room() -> None:
    """The small pod comes first by priority, but it takes its side down to its guarantee: then nobody else may go."""
    world = World().node("n", cpu=4).tenant("y", guaranteed={"cpu": 3}).tenant("x", guaranteed={"cpu": 3})
    world.pod("y", "small", on="n", cpu=1).pod("y", "large", on="n", cpu=3, priority=1)

    done = world.pod("x", "claims", cpu=3).run()

    assert done.evicted == ["large"]


def test_an_elastic_gang_gives_the_one_pod_that_is_enough() -> None:
    """Of what may not be preempted the gang keeps two, so that only one may go: the small one would not do."""
    world = World().node("n", cpu=4).tenant("a").gang("a", "g", 2)
    world.pod("a", "fixed", on="n", cpu=1, group="g", more={"preemptible": False})
    world.pod("a", "large", on="n", cpu=2, group="g").pod("a", "small", on="n", cpu=1, group="g")

    assert world.pod("a", "urgent", cpu=2, priority=5).run().evicted == ["large"]


def test_who_gets_a_right_by_its_own_sides_room_uses_it() -> None:
    """Side d may claim from y only after its own t1, above its entitlement, has given something."""
    world = World().node("n", cpu=6).inner("d").tenant("t0", "d").tenant("t1", "d", weight=0).tenant("y")
    world.pod("t1", "own", on="n", cpu=2).pod("y", "others", on="n", cpu=4)

    done = world.pod("t0", "claims", cpu=3).run()

    assert set(done.evicted) == {"own", "others"}
