"""Who is served, in which order, and what does not hold others up."""

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.units import Lane, Unit
from builders.scheduling import World, names


def test_the_smallest_weighted_share_is_served_next() -> None:
    world = World().node("n", cpu=9, memory=18).tenant("a").tenant("b")
    world.pods("a", 9, "a", cpu=1, memory=4).pods("b", 9, "b", cpu=3, memory=1)

    done = world.run()

    assert done.started == ["a0", "b0", "a1", "b1", "a2"], "NSDI'11, figure 3: three tasks of A, two of B"


def test_priority_comes_before_arrival_within_a_tenant() -> None:
    world = World().node("n", cpu=1).tenant("a").pod("a", "old", cpu=1).pod("a", "urgent", cpu=1, priority=5)

    assert world.run().started == ["urgent"]


def test_priority_plays_no_part_between_tenants() -> None:
    world = World().node("n", cpu=1).tenant("a").tenant("b")
    world.pod("b", "urgent", cpu=1, priority=9).pod("a", "plain", cpu=1)

    assert world.run().started == ["plain"], "equal shares: the first by name"


def test_a_misfit_does_not_hold_up_what_comes_after_it() -> None:
    world = World().node("n", cpu=2).tenant("a").pod("a", "giant", cpu=5).pod("a", "small", cpu=2)

    assert world.run().running("a") == {"small"}


def test_what_is_above_a_limit_does_not_hold_up_others() -> None:
    world = World().node("n", cpu=8, gpu=2).inner("d", limits={"gpu": 1}).tenant("a", "d").tenant("b")
    world.pod("a", "two", cpu=1, gpu=2).pod("a", "one", cpu=1, gpu=1).pod("a", "none", cpu=1)

    assert world.run().running("a") == {"one", "none"}


def test_leaves_below_one_limit_share_it_within_a_cycle() -> None:
    world = World().node("n", cpu=9).inner("d", limits={"cpu": 3}).tenant("a", "d").tenant("b", "d").tenant("c")
    world.pods("a", 3, "a", cpu=1).pods("b", 3, "b", cpu=2).pods("c", 3, "c", cpu=1)

    done = world.run()

    assert len(done.running("a")) + 2 * len(done.running("b")) == 3
    assert done.running("c") == {"c0", "c1", "c2"}


def test_leaves_below_one_guarantee_share_it_for_what_may_not_be_preempted() -> None:
    world = World().node("n", cpu=9).inner("d", guaranteed={"cpu": 3}).tenant("a", "d").tenant("b", "d")
    for name in ("a", "b"):
        world.pod(name, f"{name}0", cpu=2, more={"preemptible": False})

    done = world.run()

    assert len(done.running("a") | done.running("b")) == 1


def test_a_suspended_tenant_starts_nothing_but_keeps_counting() -> None:
    world = World().node("n", cpu=4).tenant("a", suspended=True).tenant("b")
    world.pod("a", "runs", on="n", cpu=2).pod("a", "waits", cpu=1).pods("b", 3, cpu=1)

    done = world.run()

    assert done.running("a") == {"runs"}
    assert len(done.running("b")) == 2


def test_weight_zero_borrows_idle_room_and_is_served_last() -> None:
    world = World().node("n", cpu=3).tenant("a", weight=0).tenant("b")
    world.pods("a", 3, "a", cpu=1).pods("b", 2, "b", cpu=1)

    assert world.run().started == ["b0", "b1", "a0"]


def test_complementary_children_do_not_starve_each_other() -> None:
    """H-DRF, section 3: a GPU-only child beside a CPU-saturated sibling keeps being served."""
    world = World().node("n", cpu=30, gpu=30).inner("d").tenant("x", "d").tenant("y", "d").tenant("z")
    world.pods("x", 30, "x", cpu=1).pods("y", 30, "y", gpu=1).pods("z", 30, "z", cpu=1)

    done = world.run()

    assert len(done.running("x")) == 15
    assert len(done.running("y")) == 30


def test_a_guarantee_is_served_before_shares() -> None:
    world = World().node("n", cpu=4).tenant("a").tenant("b", guaranteed={"cpu": 3})
    world.pods("a", 4, "a", cpu=1).pods("b", 4, "b", cpu=1)

    assert world.run().started == ["b0", "b1", "b2", "a0"]


def test_pods_that_may_not_be_preempted_start_only_within_the_guarantee() -> None:
    world = World().node("n", cpu=8).tenant("a", guaranteed={"cpu": 2}).tenant("b")
    fixed = {"preemptible": False}
    world.pods("a", 3, "a", cpu=1, more=fixed).pods("b", 1, "b", cpu=1, more=fixed)

    done = world.run()

    assert len(done.running("a")) == 2
    assert done.waiting("b") == {"b0"}


@pytest.mark.parametrize(("members", "want"), [(2, set()), (3, names("p", range(3))), (5, names("p", range(4)))])
def test_a_gang_starts_only_whole_and_grows_pod_by_pod(members: int, want: set[str]) -> None:
    world = World().node("n", cpu=4).tenant("a").gang("a", "g", 3).pods("a", members, group="g", cpu=1)

    assert world.run().running("a") == want


def test_heterogeneous_nodes_are_matched_by_shape() -> None:
    """DRFH's example: both tenants reach 5/7 of their dominant resource; shape-blind filling does not."""
    world = World().node("n1", cpu=10, memory=60).node("n2", cpu=60, memory=10).tenant("a").tenant("b")
    world.pods("a", 20, "a", cpu=5, memory=1).pods("b", 20, "b", cpu=1, memory=5)

    done = world.run()

    assert (len(done.running("a")), len(done.running("b"))) == (10, 10)


def test_pods_without_a_gpu_keep_off_gpu_nodes_while_others_have_room() -> None:
    world = World().node("a-gpu", cpu=8, gpu=2).node("b-cpu", cpu=2).tenant("a").pods("a", 3, cpu=1)

    done = world.run()

    assert [done.node_of("a", f"p{n}") for n in range(3)] == ["b-cpu", "b-cpu", "a-gpu"]


def test_gpu_pods_are_packed() -> None:
    world = World().nodes(3, cpu=8, gpu=4).tenant("a").pods("a", 4, cpu=1, gpu=1)

    done = world.run()

    assert {done.node_of("a", f"p{n}") for n in range(4)} == {"n00"}


@pytest.mark.parametrize(("required", "runs"), [(False, 4), (True, 0)])
def test_a_gang_stays_in_one_domain_where_it_can(required: bool, runs: int) -> None:
    world = World().tenant("a")
    for number in range(4):
        world.node(f"n{number}", cpu=1, labels={"rack": f"r{number % 2}"})
    world.gang("a", "g", 4, topology_key="rack", topology_required=required).pods("a", 4, group="g", cpu=1)
    near = World().tenant("a").node("far", cpu=1, labels={"rack": "r0"}).node("n1", cpu=2, labels={"rack": "r1"})
    near.gang("a", "g", 2, topology_key="rack", topology_required=required).pods("a", 2, group="g", cpu=1)

    assert len(world.run().running("a")) == runs
    done = near.run()
    assert {done.node_of("a", "p0"), done.node_of("a", "p1")} == {"n1"}


def test_a_full_cluster_costs_by_what_changes_not_by_what_waits() -> None:
    """Lanes that lack nothing but a node stay parked until one has room, and then are served in their order."""
    world = World().nodes(2, cpu=4)
    for name in ("a", "b"):
        world.tenant(name).pod(name, "runs", on=f"n0{int(name == 'b')}", cpu=4)
        for number in range(20):
            world.pod(name, f"p{number}", cpu=1).pod(name, f"q{number}", cpu=3)
    engine = Engine(world.state())
    engine.cycle(world.clock, claims=False)
    judged: list[Lane] = []
    can_start = engine.eligibility._can_start

    def counted(lane: Lane, unit: Unit) -> bool:
        judged.append(lane)
        return can_start(lane, unit)

    setattr(engine.eligibility, "_can_start", counted)  # noqa: B010 - a counter that mypy need not know

    assert not engine.cycle(world.clock, claims=False)
    assert not judged, "nothing has changed"

    engine.state.apply(ev.PodGone(("a", "runs")))
    done = engine.cycle(world.clock, claims=False)

    assert [start.pod for start in done.starts] == [("a", "p0"), ("a", "q0")]
    assert not engine.cycle(world.clock, claims=False)
