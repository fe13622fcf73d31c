"""The worked examples of the papers that the policy rests on, played by the engine."""

from fractions import Fraction
from typing import Literal

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.settings import Settings
from builders.scheduling import World

Policy = Literal["drf", "hdrf"]


def entitled(world: World, tenant: str, resource: str) -> Fraction:
    """A tenant's entitlement to a resource, in whole units (cores, not milli-CPU)."""
    state = world.state()
    e = Engine(state).demand.entitlement()
    amount = e.of(state.forest.by_name[tenant], state.resources.column(resource))
    return amount / 1000 if resource == "cpu" else amount


# --- Ghodsi et al., "Dominant Resource Fairness", NSDI 2011 ---


@pytest.mark.parametrize(("weights", "running"), [((1, 1), (3, 2)), ((2, 1), (4, 1))])
def test_progressive_filling_of_section_4(weights: tuple[int, int], running: tuple[int, int]) -> None:
    """9 CPUs and 18 GB; A asks for (1 CPU, 4 GB), B for (3 CPU, 1 GB). The weighted case follows from section 4.3."""
    world = World().node("n", cpu=9, memory=18).tenant("a", weight=weights[0]).tenant("b", weight=weights[1])
    world.pods("a", 9, cpu=1, memory=4).pods("b", 9, cpu=3, memory=1)

    done = world.run()

    assert (len(done.running("a")), len(done.running("b"))) == running


def test_where_asset_fairness_leaves_a_user_less_than_its_half() -> None:
    """Section 5.1: 30 of each resource, demands (1, 3) and (1, 1). Asset fairness runs 6 and 12 tasks: the second user
    holds less than half of both. Equal dominant shares run 5 and 15: each holds half of one."""
    world = World().node("n", cpu=30, memory=30).tenant("one").tenant("two")
    world.pods("one", 30, cpu=1, memory=3).pods("two", 30, cpu=1, memory=1)

    done = world.run()

    assert (len(done.running("one")), len(done.running("two"))) == (5, 15)


def test_where_equal_incomes_reward_a_lie() -> None:
    """Section 5.2 and figure 5: 100 of each resource, demands (16, 1) and (1, 2). Under equal incomes the second user
    gains by claiming (1, 3); here the lie costs it tasks."""

    def tasks(claimed: int) -> Fraction:
        world = World().node("n", cpu=100, memory=100).tenant("one").tenant("two")
        world.pods("one", 20, cpu=16, memory=1).pods("two", 100, cpu=1, memory=claimed)
        return min(entitled(world, "two", "cpu"), entitled(world, "two", "memory") / 2)

    assert tasks(2) == Fraction(100, 3)
    assert tasks(3) < tasks(2)


def test_one_resource_is_shared_by_max_min_fairness() -> None:
    """Section 3: with a single resource the policy is max-min fairness: small demands are met, the rest is split."""
    world = World().node("n", cpu=12).tenant("small").tenant("large").tenant("larger")
    world.pods("small", 2, cpu=1).pods("large", 12, cpu=1).pods("larger", 12, cpu=1)

    assert [entitled(world, name, "cpu") for name in ("small", "large", "larger")] == [2, 5, 5]


def test_tenants_with_different_bottlenecks_share_each_by_max_min_fairness() -> None:
    """Section 3, bottleneck fairness: all three ask most for CPU, so CPU is divided evenly."""
    world = World().node("n", cpu=30, memory=300).tenant("a").tenant("b").tenant("c")
    for name, memory in (("a", 1), ("b", 4), ("c", 9)):
        world.pods(name, 30, cpu=1, memory=memory)

    assert [entitled(world, name, "cpu") for name in "abc"] == [10, 10, 10]


# --- Bhattacharya et al., "Hierarchical Scheduling for Diverse Datacenter Workloads", SoCC 2013 ---


@pytest.mark.parametrize("policy", ["drf", "hdrf"])
def test_a_child_whose_resource_is_idle_is_not_starved_by_its_sibling(policy: Policy) -> None:
    """Section 4: 10 CPUs and 10 GPUs; n1 has a child for CPUs and a child for GPUs, n2 wants CPUs. Summing the children
    naively stops the GPU child as soon as its sibling has n1's share of the CPUs."""
    world = World().node("n", cpu=10, gpu=10).inner("n1").tenant("n11", "n1").tenant("n12", "n1").tenant("n2")
    world.pods("n11", 10, cpu=1).pods("n12", 10, gpu=1).pods("n2", 10, cpu=1)

    done = world.run(policy)

    assert [len(done.running(name)) for name in ("n11", "n12", "n2")] == [5, 10, 5]


@pytest.mark.parametrize("policy", ["drf", "hdrf"])
def test_every_group_gets_its_half_whatever_its_children_ask_for(policy: Policy) -> None:
    """Group sharing guarantee (section 3): two groups with mixed children hold at least half of some resource each."""
    world = World().node("n", cpu=24, gpu=24).inner("n1").inner("n2")
    for group in ("n1", "n2"):
        world.tenant(f"{group}c", group).tenant(f"{group}g", group)
        world.pods(f"{group}c", 24, cpu=1).pods(f"{group}g", 24, gpu=1)

    done = world.run(policy)

    assert [len(done.running(name)) for name in ("n1c", "n1g", "n2c", "n2g")] == [12, 12, 12, 12]


@pytest.mark.parametrize(("policy", "served"), [("drf", "honest"), ("hdrf", "small")])
def test_use_behind_a_small_child_counts_in_full_unless_children_are_rescaled(policy: Policy, served: str) -> None:
    """Why rescaling is an option and not the rule: it scales the large child down to the small one, so the group that
    holds 61 of 72 CPUs looks poorer than the tenant that holds 10, and its small child is served first."""
    world = World().node("n", cpu=72).inner("group").tenant("large", "group").tenant("small", "group").tenant("honest")
    world.pods("large", 60, on="n", cpu=1).pod("small", "s0", on="n", cpu=1).pods("honest", 10, "h", on="n", cpu=1)
    world.pod("small", "next", cpu=1).pod("honest", "next", cpu=1)

    done = world.run(policy)

    assert done.outcome.rounds[0].starts[0].pod == (served, "next")


@pytest.mark.parametrize(("policy", "group", "honest"), [("drf", 61, 11), ("hdrf", 62, 10)])
def test_nobody_takes_by_fairness_what_serving_has_given(policy: Policy, group: int, honest: int) -> None:
    """Entitlement is by plain sums. That alone would give `honest` an eleventh CPU back from the group that rescaling
    puts before it: under `hdrf` he may take only from whom he is served before."""
    world = World().node("n", cpu=72).inner("group").tenant("large", "group").tenant("small", "group").tenant("honest")
    world.pods("large", 60, on="n", cpu=1).pod("small", "s0", on="n", cpu=1).pods("honest", 10, "h", on="n", cpu=1)
    world.pod("small", "next", cpu=1).pod("honest", "next", cpu=1)

    done = world.run(policy)

    assert len(done.running("large")) + len(done.running("small")) == group
    assert len(done.running("honest")) == honest


@pytest.mark.parametrize("policy", ["drf", "hdrf"])
def test_serving_and_reclaiming_do_not_work_against_each_other(policy: Policy) -> None:
    """Pods of `honest` end one by one, while both sides wait for more: nobody is evicted for the room they leave."""
    world = World().node("n", cpu=8).inner("group").tenant("large", "group").tenant("small", "group").tenant("honest")
    world.pods("large", 3, on="n", cpu=1).pod("small", "s0", on="n", cpu=1).pods("honest", 4, "h", on="n", cpu=1)
    world.pods("large", 8, "next", cpu=1).pods("honest", 8, "next", cpu=1)
    engine = Engine(world.state(policy), Settings())

    for turn in range(4):
        engine.state.apply(ev.PodGone(("honest", f"h{turn}")))
        done = engine.cycle(world.clock + 1000 + turn)

        assert done.starts
        assert not done.evictions


# --- Wang et al., "DRFH: Dominant Resource Fairness in Heterogeneous Environments", 2014 ---


def test_shares_count_the_whole_cluster_and_not_each_server() -> None:
    """Sections 2 and 3: servers of (2 CPU, 12 GB) and (12 CPU, 2 GB), demands of (1, 0.2) and (0.2, 1). Dividing each
    server by itself leaves both users 6 tasks; over the whole cluster both reach 10, a dominant share of 5/7."""
    world = World().node("wide", cpu=10, memory=60).node("tall", cpu=60, memory=10).tenant("one").tenant("two")
    world.pods("one", 20, cpu=5, memory=1).pods("two", 20, cpu=1, memory=5)

    done = world.run()

    assert (len(done.running("one")), len(done.running("two"))) == (10, 10)
    measure = done.state.measure
    assert {measure.dominant_share(done.state.forest.by_name[name])[0] for name in ("one", "two")} == {Fraction(5, 7)}
