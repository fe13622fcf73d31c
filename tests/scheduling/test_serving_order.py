"""Who of two is served next: each test tells one part of the serving key from its opposite."""

from builders.scheduling import World


def test_of_equal_shares_the_one_with_fewer_pods_is_served_first() -> None:
    """Of the names `many` comes first, so the name cannot have decided."""
    world = World().node("n", cpu=5).tenant("many").tenant("one")
    world.pods("many", 2, "many", on="n", cpu=1).pod("one", "large", on="n", cpu=2)
    world.pod("many", "next-of-many", cpu=1).pod("one", "next-of-one", cpu=1)

    assert world.run().started == ["next-of-one"]


def test_a_child_does_not_starve_beside_a_sibling_that_uses_other_resources() -> None:
    """By plain sums `both` would stand at 8/10 for its processors, and `rival` would get most of the devices."""
    world = World().node("n", cpu=10, gpu=8).inner("both").tenant("processors", "both").tenant("devices", "both")
    world.tenant("rival").pods("processors", 8, "c", on="n", cpu=1)
    world.pods("devices", 8, "d", gpu=1).pods("rival", 8, "r", gpu=1)

    done = world.run()

    assert (len(done.running("devices")), len(done.running("rival"))) == (4, 4)
    assert done.evicted == []
