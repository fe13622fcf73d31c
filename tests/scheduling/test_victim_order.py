"""Which of several possible victims goes first: each test tells one rule of the order from its opposite."""

import pytest

from builders.scheduling import World


@pytest.mark.parametrize("last", ["plain", "with-memory"])
def test_the_youngest_goes_whatever_the_shapes_of_its_peers(last: str) -> None:
    world = World().node("n", cpu=4, memory=10).tenant("a").tenant("b")
    for name in sorted(("plain", "with-memory"), key=lambda name: name == last):
        for number in range(2):
            world.pod("a", f"{name}-{number}", on="n", cpu=1, memory=int(name == "with-memory"))
    world.pod("b", "claims", cpu=1)

    assert world.run().evicted == [f"{last}-1"]


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
