"""Who makes room for whom: the rules, the order of victims, and that nobody is evicted in vain."""

from dataclasses import replace
from itertools import permutations

import pytest

from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.nodes import PoolSpec
from allotment_scheduler.core.objects.pods import PodAffinityTerm, SchedulingSpec
from allotment_scheduler.core.objects.selectors import LabelSelector, Requirement
from allotment_scheduler.core.objects.tenants import Bounds
from builders.scheduling import World


def full(count: int = 4, **victims: int) -> World:
    """One node full of tenant a's pods, a tenant b beside it."""
    world = World().node("n", cpu=count).tenant("a").tenant("b")
    return world.pods("a", count, "a", on="n", cpu=1, **victims)


def test_by_priority_the_lowest_of_the_same_tenant_goes() -> None:
    world = World().node("n", cpu=3).tenant("a")
    for name, priority in (("mid", 2), ("low", 1), ("high", 3)):
        world.pod("a", name, on="n", cpu=1, priority=priority)
    world.pod("a", "urgent", cpu=1, priority=9)

    done = world.run()

    assert done.evicted == ["low"]
    assert done.rules == ["P"]


def test_the_youngest_of_equals_goes() -> None:
    done = full().pod("b", "claims", cpu=1).run()

    assert done.evicted == ["a3"]
    assert done.rules == ["R2"]


def test_a_guarantee_takes_back_what_was_lent() -> None:
    world = World().node("n", cpu=4).tenant("a").tenant("b", weight=0, guaranteed={"cpu": 2})
    world.pods("a", 4, "a", on="n", cpu=1).pods("b", 3, "b", cpu=1)

    done = world.run()

    assert done.rules == ["R1", "R1"]
    assert len(done.running("b")) == 2, "not a pod more than guaranteed"


def test_guaranteed_use_is_not_taken() -> None:
    world = World().node("n", cpu=4).tenant("a", guaranteed={"cpu": 4}).tenant("b").pods("a", 4, "a", on="n", cpu=1)

    assert world.pod("b", "claims", cpu=1).run().evicted == []


def test_the_tenant_with_the_highest_share_gives() -> None:
    world = World().node("n", cpu=9).tenant("a").tenant("b").tenant("c")
    world.pods("a", 4, "a", on="n", cpu=1).pods("b", 5, "b", on="n", cpu=1).pod("c", "claims", cpu=1)

    assert world.run().evicted == ["b4"]


def test_needless_victims_are_spared() -> None:
    """The small young pod is chosen first, but only the large one makes room: the small one stays."""
    world = World().node("n", cpu=5).tenant("a").tenant("b")
    world.pod("a", "large", on="n", cpu=4).pod("a", "small", on="n", cpu=1).pod("b", "claims", cpu=2)

    done = world.run()

    assert done.running("b") == {"claims"}
    assert done.evicted == ["large"]


def test_nobody_is_evicted_for_a_claimant_that_still_would_not_fit() -> None:
    """Kueue#5243, Volcano#4926: victims killed, the preemptor still pending."""
    world = World().node("n1", cpu=2).node("n2", cpu=2).tenant("a").tenant("b", guaranteed={"cpu": 4})
    world.pod("a", "a0", on="n1", cpu=1).pod("a", "a1", on="n2", cpu=1).pod("b", "wide", cpu=3)

    assert world.run().evicted == []


def test_a_gang_goes_whole_or_not_at_all() -> None:
    world = World().node("n", cpu=4).tenant("a").tenant("b").gang("a", "g", 4)
    world.pods("a", 4, "a", on="n", group="g", cpu=1).pod("b", "claims", cpu=2)

    done = world.run()

    assert sorted(done.evicted) == ["a0", "a1", "a2", "a3"]


def test_a_gang_goes_whole_also_from_a_node_that_is_no_more() -> None:
    """Its pod there is still to be found by the garbage collector."""
    world = World().node("n", cpu=2).node("m", cpu=2).tenant("a").tenant("b", guaranteed={"cpu": 2}).gang("a", "g", 3)
    for name, node in (("a0", "n"), ("a1", "m"), ("a2", "gone")):
        world.pod("a", name, on=node, group="g", cpu=1)
    world.pod("a", "other", on="n", cpu=1).pod("a", "another", on="m", cpu=1).pod("b", "claims", cpu=2)

    done = world.run()

    assert done.running("b") == {"claims"}
    assert not any(each.troubles for each in done.outcome.rounds)


def test_pods_beyond_the_minimum_go_first() -> None:
    world = World().node("n", cpu=4).tenant("a").tenant("b").gang("a", "g", 2)
    world.pods("a", 4, "a", on="n", group="g", cpu=1).pods("b", 2, "b", cpu=1)

    assert sorted(world.run().evicted) == ["a2", "a3"]


@pytest.mark.parametrize(("claims", "go"), [(2, ["a1", "a2"]), (3, [])])
def test_a_gang_with_a_member_that_may_not_go_loses_those_beyond_its_minimum_alone(claims: int, go: list[str]) -> None:
    world = World().node("n", cpu=4).tenant("a", guaranteed={"cpu": 1}).tenant("b").gang("a", "g", 2)
    world.pod("a", "stays", on="n", group="g", cpu=1, more={"preemptible": False})
    world.pods("a", 3, "a", on="n", group="g", cpu=1).pod("b", "claims", cpu=claims)

    assert sorted(world.run().evicted) == go


def test_a_plan_takes_a_gang_down_to_its_minimum_and_no_further() -> None:
    world = World().node("n", cpu=4).node("m", cpu=1).tenant("t").gang("t", "g", 3)
    world.pods("t", 4, "g", on="n", cpu=1, group="g").pod("t", "urgent", cpu=2, priority=9)

    done = world.run()

    assert done.node_of("t", "urgent") == "n"
    assert set(done.evicted) == {"g0", "g1", "g2", "g3"}
    assert len(done.running("t") - {"urgent"}) == 3, "it starts again where it can run whole"


def test_who_stands_in_the_way_from_another_node_makes_room() -> None:
    """In one zone with it the claimant may not stand, and on its node there is no room beside whoever may not go."""
    crowd = PodAffinityTerm("zone", LabelSelector((Requirement("app", "In", ("crowd",)),)))
    world = World().node("n", cpu=2, labels={"zone": "z"}).node("m", cpu=2, labels={"zone": "z"}).tenant("t")
    world.pod("t", "fixed", on="m", cpu=1, more={"preemptible": False})
    world.pod("t", "crowd", on="m", cpu=1, labels={"app": "crowd"})

    done = world.pod("t", "urgent", cpu=2, priority=1, spec=SchedulingSpec((), anti_affinity=(crowd,))).run()

    assert done.node_of("t", "urgent") == "n"
    assert done.evicted == ["crowd"]


def test_what_is_left_of_an_elastic_gang_goes_whole_when_its_single_pods_are_not_enough() -> None:
    world = World().node("n", cpu=3).tenant("a").tenant("b", guaranteed={"cpu": 3}).gang("a", "g", 2)
    world.pods("a", 3, "a", on="n", group="g", cpu=1).pod("b", "claims", cpu=3)

    done = world.run()

    assert done.running("b") == {"claims"}
    assert done.evicted == ["a2", "a1", "a0"], "the pod beyond the minimum first, then the rest at once"


def test_an_elastic_gang_on_two_nodes_makes_way_for_a_gang() -> None:
    world = World().node("n", cpu=3).node("m", cpu=3).tenant("a").tenant("b", guaranteed={"cpu": 6})
    world.gang("a", "g", 5).gang("b", "h", 2).pods("a", 3, "n", on="n", group="g", cpu=1)
    world.pods("a", 3, "m", on="m", group="g", cpu=1).pods("b", 2, "h", group="h", cpu=3)

    assert world.run().running("b") == {"h0", "h1"}


def test_an_elastic_gang_makes_way_under_a_limit() -> None:
    world = World().node("n", cpu=10).tenant("a", limits={"cpu": 3}).gang("a", "g", 2)
    world.pods("a", 3, "a", on="n", group="g", cpu=1).pod("a", "urgent", cpu=3, priority=5)

    assert world.run().running("a") == {"urgent"}


@pytest.mark.parametrize("minimum", [1, 2, 3])
def test_nobody_makes_room_in_its_own_gang(minimum: int) -> None:
    world = World().node("n", cpu=2).tenant("a").gang("a", "g", minimum)
    world.pods("a", 2, "a", on="n", group="g", cpu=1).pod("a", "more", group="g", cpu=1, priority=5)

    assert world.run().evicted == []


@pytest.mark.parametrize("names", [*map("".join, permutations("abc"))])
def test_a_gang_goes_from_its_youngest_pod_to_its_oldest_however_they_are_named_and_came(names: str) -> None:
    world = World().node("n", cpu=3).tenant("a").tenant("b", guaranteed={"cpu": 3}).gang("a", "g", 3)
    for name in names:
        world.pod("a", name, on="n", group="g", cpu=1)
    *rest, first, second, third = world.events
    world.events = [*rest, third, first, second]

    assert world.pod("b", "claims", cpu=3).run().evicted == [*reversed(names)]


def test_a_gang_with_one_pod_that_may_not_be_preempted_stays() -> None:
    world = World().node("n", cpu=2).tenant("a").tenant("b").gang("a", "g", 2)
    world.pod("a", "free", on="n", group="g", cpu=1)
    world.pod("a", "fixed", on="n", group="g", cpu=1, more={"preemptible": False}).pod("b", "claims", cpu=1)

    assert world.run().evicted == []


def test_a_disruption_budget_binds_every_rule() -> None:
    world = full(labels={"app": "db"})  # type: ignore[arg-type]  # the builder passes labels on
    world.events.append(ev.BudgetSeen(ev.BudgetSpec("a", "pdb", LabelSelector(), allowed=1)))
    world.pods("b", 2, "b", cpu=1)

    assert world.run().evicted == ["a3"]


def test_a_plan_over_many_nodes_spends_a_disruption_budget_once() -> None:
    """The nodes of a plan share it, also when a pool comes to its limit half-way and nodes are looked at anew."""
    world = World()
    for pool, nodes in (("p", ("e",)), ("q", ("k", "m"))):
        world.pool(PoolSpec(pool, LabelSelector((Requirement("pool", "In", (pool,)),))))
        for name in nodes:
            world.node(name, cpu=8 if name == "m" else 4, labels={"pool": pool})
    world.tenant("a").tenant("b", guaranteed={"cpu": 16}).gang("a", "pair", 2).gang("b", "g", 4)
    at_most = Bounds({}, {"p": {"cpu": 4000}})
    world.events = [
        ev.TenantSeen(replace(it.spec, limits=at_most)) if isinstance(it, ev.TenantSeen) and it.spec.name == "b" else it
        for it in world.events
    ]
    world.pod("a", "pair-m", on="m", group="pair", cpu=4).pod("a", "pair-e", on="e", group="pair", cpu=4)
    for node in ("k", "m"):
        world.pods("a", 2, f"small-{node}", on=node, cpu=2, priority=1, labels={"app": "db"})
    selector = LabelSelector((Requirement("app", "In", ("db",)),))
    world.events.append(ev.BudgetSeen(ev.BudgetSpec("a", "pdb", selector, allowed=3)))

    assert world.pods("b", 4, "b", group="g", cpu=4).run().evicted == []


@pytest.mark.parametrize("claimant", [1, 2])
def test_a_pod_under_two_disruption_budgets_is_no_victim_nor_is_anybody_in_vain(claimant: int) -> None:
    """The Eviction API refuses to evict it, whatever the budgets allow."""
    world = World().node("n", cpu=2).tenant("a").tenant("b", guaranteed={"cpu": 2})
    world.pod("a", "plain", on="n", cpu=1).pod("a", "doubly", on="n", cpu=1, labels={"app": "db"})
    for name in ("one", "other"):
        app = LabelSelector((Requirement("app", "In", ("db",)),))
        world.events.append(ev.BudgetSeen(ev.BudgetSpec("a", name, app, allowed=1)))

    assert world.pod("b", "claims", cpu=claimant).run().evicted == (["plain"] if claimant == 1 else [])


def test_a_pod_that_never_preempts_claims_nothing() -> None:
    assert full().pod("b", "meek", cpu=1, more={"never_preempts": True}).run().evicted == []


def test_what_is_recreated_by_nobody_is_the_last_choice() -> None:
    world = World().node("n", cpu=2).tenant("a").tenant("b").pod("a", "kept", on="n", cpu=1)
    world.pod("a", "bare", on="n", cpu=1, more={"recreated": False}).pod("b", "claims", cpu=1)

    assert world.run().evicted == ["kept"]


def test_a_gang_gets_room_on_whole_nodes() -> None:
    """In the order of the rules alone room would be scattered; node by node it is enough for every member."""
    world = World().nodes(10, cpu=4).tenant("a").tenant("b").gang("b", "g", 3)
    for number in range(40):
        world.pod("a", f"a{number}", on=f"n{number % 10:02}", cpu=1)
    world.pods("b", 3, "b", group="g", cpu=4)

    done = world.run()

    assert len(done.running("b")) == 3
    assert len(done.evicted) == 12, "no pod more than needed"


def test_two_tenants_do_not_take_turns_for_ever() -> None:
    """Kueue#14543, #3779, Volcano#4947: own low-priority pods, a guarantee and an entitlement in a ring."""
    world = World().node("n", cpu=4).tenant("a", guaranteed={"cpu": 2}).tenant("b")
    world.pods("a", 2, "low", on="n", cpu=1, priority=-1).pods("b", 2, "b", on="n", cpu=1)
    world.pods("a", 2, "high", cpu=1, priority=5).pods("b", 3, "more", cpu=1)

    done = world.run()

    assert len(done.outcome.rounds) <= 3
    assert not done.engine.cycle(world.clock)


def test_one_bad_tenant_does_not_stop_the_others() -> None:
    """Volcano#4819, #4076: a broken queue aborts the cycle."""
    world = World().node("n", cpu=4).tenant("good").tenant("lost", "nowhere").tenant("x", "y").tenant("y", "x")
    world.pod("good", "p", cpu=1).pod("lost", "q", cpu=1).pod("x", "r", cpu=1)

    done = world.run()

    assert done.started == ["p"]
    assert "circle" in done.state.forest.problems["x"]
    assert "does not exist" in done.state.forest.problems["lost"]


@pytest.mark.parametrize(
    ("bounds", "want"),
    [
        ({"max_unavailable": 1}, 1),
        ({"max_unavailable": "50%"}, 2),
        ({"max_unavailable": "34%"}, 2),
        ({"min_available": 3}, 1),
        ({"min_available": "74%"}, 1),
        ({"min_available": "75%"}, 1),
        ({"min_available": "100%"}, 0),
        ({"max_unavailable": 0}, 0),
        ({}, 0),
    ],
    ids=str,
)
def test_a_budget_whose_status_nobody_has_written_is_reckoned_from_its_pods(
    bounds: dict[str, int | str], want: int
) -> None:
    """Of four that run; percentages are rounded up, as the controller does."""
    world = World().node("n", cpu=4).tenant("a").tenant("b", guaranteed={"cpu": 4}).pods("a", 4, "a", on="n", cpu=1)
    world.events.append(ev.BudgetSeen(ev.BudgetSpec("a", "pdb", LabelSelector(), **bounds)))  # type: ignore[arg-type]  # as in the table
    world.pods("b", 4, "b", cpu=1)

    assert len(world.run().evicted) == want
