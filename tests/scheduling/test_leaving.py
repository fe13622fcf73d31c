"""Those on their way out: claims reckon with the world without them, starts with the one in which they stand."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.decisions import Round
from allotment_scheduler.core.eviction.fruitless import Looked
from allotment_scheduler.core.eviction.plans import Plan
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.selectors import LabelSelector
from allotment_scheduler.core.objects.units import Unit
from allotment_scheduler.core.placement.seat_invariants import check_holds
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.invariants import check
from builders.scheduling import World

BRISK = Settings(least_runtime=0.0, age=1e9)
FIRM = Settings(least_runtime=0.0, age=1e9, hysteresis=False)


class Live:
    """An engine whose evicted pods take their time."""

    def __init__(self, world: World, settings: Settings = BRISK) -> None:
        self.world = world
        self.now = 1000.0
        self.engine = Engine(world.state(), settings)
        self.state = self.engine.state
        self.told = len(world.events)
        self.leaving: list[tuple[str, str]] = []

    def cycle(self, passes: float = 1.0) -> Round:
        """What has come since is told; then it decides, and whom it evicts begins to leave."""
        self.world.clock = self.now
        self.state.apply_all(self.world.events[self.told :])
        self.told = len(self.world.events)
        self.now += passes
        done = self.engine.cycle(self.now)
        assert not done.troubles
        for evict in done.evictions:
            self.state.apply(ev.PodLeaving(evict.pod, evict.node))
            self.leaving.append(evict.pod)
        check(self.state)
        check_holds(self.engine.holds)
        return done

    def rest(self) -> tuple[list[str], list[str]]:
        """Cycles until nothing more is decided: who was evicted, and who has started."""
        evicted, started = list[str](), list[str]()
        for _ in range(50):
            done = self.cycle()
            if not done:
                return evicted, started
            evicted += [it.pod[1] for it in done.evictions]
            started += [it.pod[1] for it in done.starts]
        raise AssertionError("it does not come to rest")

    def delete(self, tenant: str, name: str, *, ends: float | None = None) -> None:
        """Somebody deletes a pod."""
        spec = self.state.pods[tenant, name].spec
        self.state.apply(ev.PodSeen(replace(spec, deleting=True, ends=self.now + 30 if ends is None else ends)))

    def gone(self, pods: Iterable[tuple[str, str]] | None = None) -> None:
        """Those on their way out have ended."""
        gone = [*(self.leaving if pods is None else pods)]
        for key in gone:
            self.state.apply(ev.PodGone(key))
        self.leaving = [key for key in self.leaving if key not in gone]

    def staying(self, tenant: str) -> int:
        """How many of a tenant's pods occupy a node and stay."""
        pods = self.state.pods.values()
        return sum(it.node is not None and not it.spec.deleting for it in pods if it.spec.namespace == tenant)


# --- guarantees and entitlements over several cycles --------------------------------------------------------------


@pytest.mark.parametrize("at_once", [True, False], ids=["all at once", "one in a cycle"])
@pytest.mark.parametrize("right", ["R1", "R2"])
def test_no_side_gives_more_than_it_has_above_its_guarantee_however_slowly_it_leaves(right: str, at_once: bool) -> None:
    world = World().nodes(10, cpu=2).tenant("x", guaranteed={"cpu": 7} if right == "R1" else {})
    world.tenant("y", guaranteed={"cpu": 8} if right == "R1" else {}).tenant("z")
    for number in range(20):
        world.pod("yz"[number % 2], f"p{number}", on=f"n{number // 2:02}", cpu=1)
    world.pods("y", 20, "more", cpu=1).pods("z", 20, "more", cpu=1)
    live = Live(world)
    live.cycle()
    evicted = 0
    for number in range(7):
        world.pod("x", f"c{number}", cpu=1)
        if not at_once:
            evicted += len(live.cycle().evictions)
    evicted += len(live.rest()[0])
    want = 7 if right == "R1" else 6
    assert evicted == want
    assert live.staying("x") == want
    assert live.staying("y") >= (8 if right == "R1" else 6)
    live.gone()
    assert live.rest() == ([], [])


# --- the k-th claim evicts no more than it needs ---------------------------------------------------------------------


def test_claims_that_come_one_by_one_make_their_room_once() -> None:
    world = World().node("n", cpu=4).tenant("t").pods("t", 4, "low", on="n", cpu=1)
    live = Live(world)
    for number in range(3):
        world.pod("t", f"high{number}", cpu=1, priority=5)
        done = live.cycle()
        assert (len(done.evictions), len(done.starts)) == (1, 1)
    live.gone()
    assert live.staying("t") == 4


@pytest.mark.parametrize("limit", [{"limits": {"cpu": 10}}, {"limits_in": {"default": {"cpu": 10}}}])
def test_claims_that_come_one_by_one_make_room_under_a_limit_once(limit: dict[str, Any]) -> None:
    world = World().nodes(10, cpu=4).tenant("t", **limit)
    for number in range(10):
        world.pod("t", f"low{number}", on=f"n{number:02}", cpu=1)
    live = Live(world)
    for number in range(4):
        world.pod("t", f"high{number}", cpu=1, priority=5)
        assert len(live.cycle().evictions) == 1
    assert live.staying("t") == 10


def test_many_claims_under_a_limit_evict_as_many_over_all_cycles() -> None:
    world = World().nodes(10, cpu=8).tenant("t", limits={"cpu": 20})
    for number in range(20):
        world.pod("t", f"low{number}", on=f"n{number % 10:02}", cpu=1)
    live = Live(world, Settings(least_runtime=0.0, claim_effort=30))
    world.pods("t", 12, "high", cpu=1, priority=5)
    assert len(live.rest()[0]) == 12
    assert live.staying("t") == 20


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), min_size=1, max_size=3),
    st.integers(1, 3), st.sets(st.integers(0, 5)),
)  # fmt: skip
def test_whoever_leaves_when_each_claim_takes_one_pod_and_no_side_falls_below_its_guarantee(
    sides: list[tuple[int, int]], claims: int, pauses: set[int]
) -> None:
    count = max(sum(runs for _, runs in sides), 1)
    world = World().nodes(count, cpu=1).tenant("x", guaranteed={"cpu": 3})
    free = iter(range(count))
    for number, (guaranteed, runs) in enumerate(sides):
        world.tenant(f"y{number}", guaranteed={"cpu": guaranteed})
        for place in range(runs):
            world.pod(f"y{number}", f"p{place}", on=f"n{next(free):02}", cpu=1)
    for place in free:
        world.pod("x", f"f{place}", on=f"n{place:02}", cpu=1)
    live = Live(world, FIRM)
    before = {f"y{number}": runs for number, (_, runs) in enumerate(sides)}
    for number in range(claims + 3):
        if number < claims:
            world.pod("x", f"c{number}", cpu=1)
        done = live.cycle()
        assert len(done.evictions) == len(done.starts)
        if number in pauses:
            live.gone(live.leaving[:1])
        for place, (guaranteed, _) in enumerate(sides):
            assert live.staying(f"y{place}") >= min(guaranteed, before[f"y{place}"])
    live.gone()
    assert live.rest() == ([], [])
    at_once = Live(world, FIRM)
    at_once.rest()
    assert live.staying("x") == at_once.staying("x")


# --- room that comes anyway ------------------------------------------------------------------------------------------


def replaced(settings: Settings = BRISK) -> Live:
    """A pod is deleted and its controller has made another one, beside one of lower priority."""
    world = World().nodes(2, cpu=1).tenant("t").pod("t", "low", on="n00", cpu=1)
    world.pod("t", "z1", on="n01", cpu=1, priority=5, more={"owner": "rs", "owner_kind": "ReplicaSet"})
    live = Live(world, settings)
    live.cycle()
    live.delete("t", "z1", ends=live.now + 30)
    world.pod("t", "z2", cpu=1, priority=5, more={"owner": "rs", "owner_kind": "ReplicaSet"})
    return live


def test_who_takes_the_place_of_a_deleted_pod_evicts_nobody() -> None:
    live = replaced()
    done = live.cycle()
    assert not done.evictions
    assert [(it.pod[1], it.node) for it in done.starts] == [("z2", "n01")]
    live.gone([("t", "z1")])
    assert live.rest() == ([], [])


def test_nobody_waits_for_a_pod_that_has_outstayed_its_grace_period() -> None:
    live = replaced()
    live.now += 200
    assert [it.pod[1] for it in live.cycle().evictions] == ["low"]


def test_nobody_waits_for_a_pod_that_may_stay_for_hours() -> None:
    live = replaced()
    live.delete("t", "z1", ends=live.now + 7200)
    assert [it.pod[1] for it in live.cycle().evictions] == ["low"]


def test_room_that_comes_is_for_one_claimant_only() -> None:
    live = replaced()
    live.world.pod("t", "z3", cpu=1, priority=5)
    done = live.cycle()
    assert [it.pod[1] for it in done.evictions] == ["low"]
    assert sorted(it.node for it in done.starts) == ["n00", "n01"]


@pytest.mark.parametrize(("kind", "ours"), [("StatefulSet", True), ("DaemonSet", False), ("Node", False)])
def test_room_to_which_a_successor_comes_is_nobody_elses(kind: str, ours: bool) -> None:
    world = World().nodes(2, cpu=1).tenant("t").pod("t", "low", on="n00", cpu=1)
    world.pod("t", "db", on="n01", cpu=1, priority=9, more={"owner": "db", "owner_kind": kind, "ours": ours})
    live = Live(world)
    live.cycle()
    live.delete("t", "db")
    world.pod("t", "c", cpu=1, priority=5)
    done = live.cycle()
    assert [it.pod[1] for it in done.evictions] == ["low"]
    assert [it.node for it in done.starts] == ["n00"]


def test_what_an_overdrawn_node_owes_to_a_seat_is_not_given_to_a_claimant() -> None:
    database = {"owner": "web", "owner_kind": "StatefulSet"}
    world = World().node("m", cpu=4).node("n", cpu=8).tenant("t").pod("t", "low", on="m", cpu=4, priority=1)
    world.pod("t", "old", on="n", cpu=4).pod("t", "web-0", on="n", cpu=4, priority=9, more=database)
    world.pod("t", "c1", cpu=4, priority=5)
    live = Live(world)
    assert [it.pod[1] for it in live.cycle().evictions] == ["old"]
    live.delete("t", "web-0")
    live.gone([("t", "web-0")])
    world.pod("t", "c2", cpu=4, priority=5)
    done = live.cycle()
    assert [it.pod[1] for it in done.evictions] == ["low"]
    assert [it.node for it in done.starts] == ["m"]
    live.gone()
    world.pod("t", "web-0", cpu=4, priority=9, more={**database, "uid": "next"})
    assert [(it.pod[1], it.node) for it in live.cycle().starts] == [("web-0", "n")]


def test_a_jobs_next_member_takes_the_place_that_is_kept_for_it() -> None:
    owned = {"owner": "job", "owner_kind": "Job"}
    world = World().nodes(5, cpu=1).tenant("t", limits={"cpu": 6})
    world.pod("t", "low", on="n03", cpu=1).pod("t", "other", on="n04", cpu=1, priority=1)
    world.gang("t", "g", 3, counts_down=True)
    for number in range(3):
        world.pod("t", f"g{number}", on=f"n{number:02}", cpu=1, priority=5, group="g", more=owned)
    live = Live(world)
    live.cycle()
    live.delete("t", "g2")
    world.pod("t", "g3", cpu=1, priority=5, group="g", more=owned).pod("t", "c", cpu=1, priority=7)
    done = live.cycle()
    assert [it.pod[1] for it in done.evictions] == ["low"]
    assert sorted((it.pod[1], it.node) for it in done.starts) == [("c", "n03"), ("g3", "n02")]
    live.gone()
    live.gone([("t", "g2")])
    world.node("n05", cpu=1).pod("t", "late", cpu=1)
    assert live.rest() == ([], ["late"]), "the place is held no longer"


def test_who_was_evicted_claims_no_room_that_others_leave() -> None:
    world = World().node("n", cpu=2).node("m", cpu=1).tenant("x").tenant("y").tenant("z")
    world.pod("x", "low", on="m", cpu=1).pod("y", "old", on="n", cpu=2)
    live = Live(world)
    live.cycle()
    live.delete("y", "old")
    world.pod("x", "again", cpu=2, priority=5)
    live.state.apply_all(world.events[live.told :])
    live.told = len(world.events)
    live.state.pods["x", "again"].spent_at = live.state.demand_version
    assert not live.cycle()
    live.gone([("y", "old")])
    assert [it.pod[1] for it in live.cycle().starts] == ["again"]


def test_nobody_waits_for_longer_than_any_pod_may_take_to_end() -> None:
    live = replaced(Settings(least_runtime=0.0, age=1e9, longest=300.0))
    live.delete("t", "z1", ends=live.now + 1800)
    assert [it.pod[1] for it in live.cycle().evictions] == ["low"]


def test_who_starts_without_evicting_waits_until_the_room_is_there() -> None:
    world = World().node("n", cpu=1).tenant("t").pod("t", "old", on="n", cpu=1)
    live = Live(world)
    live.delete("t", "old")
    world.pod("t", "new", cpu=1)
    assert not live.cycle()
    live.gone([("t", "old")])
    assert [it.pod[1] for it in live.cycle().starts] == ["new"]


def test_what_a_guarantee_covers_is_not_given_twice_while_somebody_leaves() -> None:
    kept = {"preemptible": False}
    world = World().nodes(2, cpu=1).tenant("t", guaranteed={"cpu": 1}).pod("t", "old", on="n00", cpu=1, more=kept)
    world.pod("t", "low", on="n01", cpu=1)
    live = Live(world)
    live.delete("t", "old")
    world.pod("t", "new", cpu=1, priority=5, more=kept)
    assert not live.cycle()
    live.gone([("t", "old")])
    assert [it.pod[1] for it in live.cycle().starts] == ["new"]


def test_a_claimant_whose_plan_came_to_nothing_takes_the_room_that_its_victims_leave() -> None:
    world = World().nodes(2, cpu=1).tenant("t").pod("t", "low0", on="n00", cpu=1).pod("t", "low1", on="n01", cpu=1)
    live = Live(world)
    world.pod("t", "high", cpu=1, priority=5)
    first = live.cycle()
    live.state.apply(ev.StartForgotten(("t", "high")))
    again = live.cycle()
    assert not again.evictions
    assert [it.node for it in again.starts] == [it.node for it in first.starts]


def test_a_claimant_by_priority_alone_whose_plan_came_to_nothing_evicts_nobody_else() -> None:
    world = World().nodes(2, cpu=1).tenant("t").pod("t", "low0", on="n00", cpu=1).pod("t", "low1", on="n01", cpu=1)
    live = Live(world)
    world.pod("t", "high", cpu=1, priority=5)
    live.state.apply_all(world.events[live.told :])
    live.told = len(world.events)
    live.state.pods["t", "high"].spent_at = live.state.demand_version
    assert [it.pod[1] for it in live.cycle().evictions] == ["low1"]
    live.state.apply(ev.StartForgotten(("t", "high")))

    assert not live.cycle()
    live.gone()
    assert [(it.pod[1], it.node) for it in live.cycle().starts] == [("high", "n01")]


# --- demand --------------------------------------------------------------------------------------------------------


def entitled(live: Live, name: str) -> int:
    """CPUs that a tenant is entitled to."""
    tenant, cpu = live.state.forest.by_name[name], live.state.resources.column("cpu")
    return live.engine.demand.entitlement().whole(tenant, cpu) // 1000


def test_a_deleted_pod_and_the_one_in_its_place_are_demand_once() -> None:
    owned = {"owner": "rs", "owner_kind": "ReplicaSet"}
    world = World().node("n", cpu=20).tenant("y").tenant("z", weight=3)
    world.pods("y", 10, on="n", cpu=1).pods("z", 10, on="n", cpu=1, more=owned).pods("y", 10, "more", cpu=1)
    live = Live(world)
    assert not live.cycle()
    live.delete("z", "p0")
    world.pod("z", "again", cpu=1, more=owned)
    assert not live.cycle().evictions
    assert (entitled(live, "y"), entitled(live, "z")) == (10, 10)


def test_whom_we_evict_is_demand_until_another_has_come_in_his_place() -> None:
    world = World().node("n", cpu=3).tenant("t").tenant("u", guaranteed={"cpu": 1})
    owned = {"owner": "rs", "owner_kind": "ReplicaSet"}
    world.pods("t", 3, "old", on="n", cpu=1, more=owned).pod("u", "c", cpu=1)
    live = Live(world)
    live.cycle()
    [gone] = live.leaving
    state = live.state
    world.node("m", cpu=8)
    live.cycle()
    assert entitled(live, "t") == 3
    state.apply(ev.PodSeen(replace(state.pods[gone].spec, name="new", uid="new", node=None, deleting=False)))
    live.cycle()
    assert entitled(live, "t") == 3
    live.gone()
    live.cycle()
    assert entitled(live, "t") == 3


def test_a_claimant_that_cannot_be_decided_about_alters_nobodys_entitlement(monkeypatch: pytest.MonkeyPatch) -> None:
    owned = {"owner": "rs", "owner_kind": "ReplicaSet"}
    world = World().node("n", cpu=3).tenant("t").tenant("u", guaranteed={"cpu": 2})
    world.tenant("v").tenant("w", weight="1/9").pods("t", 3, "old", on="n", cpu=1, more=owned).pod("u", "c", cpu=1)
    live = Live(world)
    assert live.cycle().evictions
    world.node("m", cpu=8).pods("w", 8, on="m", cpu=1, more={"spared": True}).pod("u", "wrong", cpu=1)
    world.pod("v", "right", cpu=1)
    plan = live.engine.planner.plan

    def fails(unit: Unit, looked: Looked | None = None) -> Plan | None:
        if unit.first.spec.name == "wrong":
            raise ValueError("nobody foresaw this")
        return plan(unit, looked)

    monkeypatch.setattr(live.engine.planner, "plan", fails)
    live.state.apply_all(world.events[live.told :])
    done = live.engine.cycle(live.now + 1)
    assert [key[1] for key, _ in done.troubles] == ["wrong"]
    assert entitled(live, "t") == 3


# --- reservations ----------------------------------------------------------------------------------------------------


def test_a_reservation_stands_while_others_of_the_same_tenant_leave() -> None:
    world = World().nodes(3, cpu=4).inner("d").tenant("x", "d").tenant("y", "d").tenant("z")
    for number in range(6):
        world.pod("y", f"y{number}", on=f"n{number % 3:02}", cpu=1)
    for number in range(3):
        world.pod("z", f"z{number}", on=f"n{number:02}", cpu=1)
    world.pod("x", "large", cpu=4)
    live = Live(world, Settings(least_runtime=1e9, age=10.0))
    live.cycle()
    live.cycle(20.0)
    assert ("x", "large") in live.engine.reservations.by_unit
    for number in range(6):
        live.delete("y", f"y{number}", ends=live.now + 60)
    live.cycle()
    assert ("x", "large") in live.engine.reservations.by_unit


def test_a_budgets_word_does_not_include_evictions_that_have_not_been_sent() -> None:
    """Its status is written for others' reasons too, while ours wait for their turn to be sent."""
    world = World().node("n", cpu=4).tenant("a").tenant("b", guaranteed={"cpu": 4})
    for number in range(4):
        world.pod("a", f"p{number}", on="n", cpu=1)
    budget = ev.BudgetSeen(ev.BudgetSpec("a", "pdb", LabelSelector(), allowed=2))
    world.events.append(budget)
    live = Live(world.pod("b", "first", cpu=2))
    assert len(live.cycle().evictions) == 2

    world.events.append(budget)
    world.pod("b", "second", cpu=2)
    assert not live.cycle().evictions

    for namespace, name in live.leaving:
        live.delete(namespace, name)
    world.events.append(budget)
    assert len(live.cycle().evictions) == 2, "those were sent, and are in its figure"
