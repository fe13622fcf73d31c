"""One bad object never stops the others: impossible requests, faults in deciding, paused pools."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from msgspec import structs

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.explanation.explain import Explainer
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.nodes import PoolSpec
from allotment_scheduler.core.objects.pods import PodSpec, SchedulingSpec
from allotment_scheduler.core.objects.resources import LARGEST
from allotment_scheduler.core.objects.selectors import LabelSelector, Requirement
from allotment_scheduler.core.objects.units import ExpectedMember, Unit
from allotment_scheduler.core.report import tenants_report
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.invariants import check
from builders.scheduling import World


def test_a_request_beyond_all_sense_waits_alone() -> None:
    world = World().node("n", cpu=2).tenant("t").pod("t", "poison", priority=9, memory=LARGEST + 1, cpu=1)
    world.gang("t", "g", 2).pods("t", 2, "g", group="g", memory=LARGEST + 1).pod("t", "p", cpu=1)

    done = world.run()

    assert done.running("t") == {"p"}
    why = Explainer(done.engine).why(done.state.pods["t", "poison"])
    assert (why.code, why.never) == ("InvalidRequest", True)


def test_a_node_of_any_size_can_be_counted() -> None:
    world = World().node("n", memory=2**70).node("m", memory=2**70).tenant("t").pod("t", "p", memory=5)

    assert world.run().running("t") == {"p"}


def test_what_is_wrong_with_a_request_is_said() -> None:
    world = World().node("n", cpu=2).tenant("t").pod("t", "p", cpu=1, more={"invalid": "claim x: no such class"})

    done = world.run()

    why = Explainer(done.engine).why(done.state.pods["t", "p"])
    assert (why.code, why.message) == ("InvalidRequest", "claim x: no such class")
    entitled = done.engine.demand.entitlement()
    assert entitled.whole(done.state.forest.by_name["t"], done.state.resources.column("cpu")) == 0


class Failing:
    """Stands before a method and fails over one pod's unit."""

    def __init__(self, method: Any, name: str) -> None:
        self.method, self.name, self.times = method, name, 0

    def __call__(self, *given: Any, **named: Any) -> Any:
        unit = next((each for each in given if isinstance(each, Unit)), None)
        if unit is not None and unit.first.spec.name == self.name:
            self.times += 1
            raise ZeroDivisionError("a fault of ours")
        return self.method(*given, **named)


def failing_engine(world: World, where: str) -> Engine:
    engine = Engine(world.state(), Settings(quarantine=60))
    holder, name = {"fits": (engine.gangs, "fits"), "place": (engine.gangs, "place"), "plan": (engine.planner, "plan")}[
        where
    ]
    setattr(holder, name, Failing(getattr(holder, name), "poison"))
    return engine


@pytest.mark.parametrize("where", ["fits", "place", "plan"])
def test_a_fault_over_one_unit_sets_it_aside_and_nobody_else(where: str) -> None:
    world = World().nodes(4, cpu=1).tenant("t").gang("t", "g", 2)
    big = 9 if where == "plan" else 1
    world.pod("t", "poison", group="g", priority=9, cpu=big).pod("t", "twin", group="g", priority=8, cpu=1)
    world.pods("t", 2, cpu=1)
    engine = failing_engine(world, where)

    done = engine.cycle(100)

    assert {start.pod[1] for start in done.starts} == {"p0", "p1"}
    assert done.troubles == [(("t", "poison"), "ZeroDivisionError: a fault of ours")]
    why = Explainer(engine).why(engine.state.pods["t", "poison"])
    assert why.code == "Quarantined"
    assert "next try in 60 s: ZeroDivisionError: a fault of ours" in why.message
    check(engine.state)


@pytest.mark.parametrize("after", [False, True], ids=["before it is taken out of the queue", "after that"])
@pytest.mark.parametrize("gang", [False, True], ids=["pod", "gang"])
def test_a_start_that_fails_half_way_is_taken_back_and_not_tried_again_at_once(*, gang: bool, after: bool) -> None:
    world = World().nodes(4, cpu=1).tenant("t").gang("t", "g", 2)
    group = "g" if gang else None
    world.pod("t", "poison", priority=9, cpu=1, group=group)
    if gang:
        world.pod("t", "twin", priority=9, cpu=1, group=group)
    engine = Engine(world.pods("t", 2, cpu=1).state(), Settings(quarantine=60))
    started = engine.state.lineup.unit_started
    tries = 0

    def failing(unit: Unit) -> None:
        nonlocal tries
        tries += unit.first.spec.name == "poison"
        if tries > 5:
            pytest.fail("it is tried for ever")  # no Exception, so that nobody catches it
        if unit.first.spec.name != "poison" or after:
            started(unit)
        if unit.first.spec.name == "poison":
            raise ZeroDivisionError("a fault of ours")

    engine.state.lineup.unit_started = failing  # type: ignore[method-assign] # a fault of ours, as none is known

    done = engine.cycle(100)

    assert tries == 1
    assert {start.pod[1] for start in done.starts} == {"p0", "p1"}
    assert done.troubles == [(("t", "poison"), "ZeroDivisionError: a fault of ours")]
    assert all(pod.node is None for pod in engine.state.pods.values() if pod.spec.name in ("poison", "twin"))
    check(engine.state)
    engine.state.lineup.unit_started = started  # type: ignore[method-assign] # as above
    assert {start.pod[1] for start in engine.cycle(161).starts} == ({"poison", "twin"} if gang else {"poison"})
    check(engine.state)


def test_a_pod_that_is_counted_by_half_ends_the_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World().nodes(1, cpu=1).tenant("t").pod("t", "poison", cpu=1)
    engine = Engine(world.state(), Settings(quarantine=60))

    def failing(*_given: Any) -> int:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(engine.state.running, "add", failing)  # between a node's room and the list of what runs

    with pytest.raises(ZeroDivisionError):
        engine.cycle(100)


def test_quarantine_ends_and_doubles() -> None:
    world = World().nodes(2, cpu=1).tenant("t").gang("t", "g", 2).pod("t", "poison", group="g", cpu=1)
    world.pod("t", "twin", group="g", cpu=1)
    engine = failing_engine(world, "fits")
    tries = [now for now in range(0, 400, 10) if engine.cycle(float(now)).troubles]

    assert tries == [0, 60, 180]
    spec = engine.state.pods["t", "poison"].spec
    engine.state.apply(ev.PodSeen(structs.replace(spec, scheduling=replace(spec.scheduling, requests=(("cpu", 500),)))))
    assert engine.state.pods["t", "poison"].set_aside is None, "it is another request now"


def pooled(paused: bool) -> World:
    world = World().node("n", cpu=2, labels={"disk": "fast"}).node("m", cpu=2).tenant("t")
    selector = LabelSelector((Requirement("disk", "In", ("fast",)),))
    return world.pool(PoolSpec("fast", selector, cost={"cpu": Fraction(1, 2)}, paused=paused))


def test_a_paused_pool_takes_no_new_pods_and_keeps_what_runs() -> None:
    world = pooled(paused=True).pod("t", "runs", on="n", cpu=1).pods("t", 3, cpu=1)

    done = world.run()

    assert done.running("t") == {"runs", "p0", "p1"}
    assert {done.node_of("t", name) for name in ("p0", "p1")} == {"m"}
    assert not done.state.node("n").usable


def test_a_resumed_pool_takes_pods_again() -> None:
    engine = Engine(pooled(paused=True).pods("t", 4, cpu=1).state())
    engine.cycle(1)
    spec = engine.state.nodes.pools["fast"]

    engine.state.apply(ev.PoolSeen(replace(spec, paused=False)))

    assert {start.node for start in engine.cycle(2).starts} == {"n"}
    check(engine.state)


def test_without_nodes_nobody_is_entitled_to_anything_and_everybody_waits() -> None:
    done = World().inner("d", limits={"cpu": 1}).tenant("t", "d").pod("t", "p", cpu=1).run()

    assert Explainer(done.engine).why(done.state.pods["t", "p"]).code == "NoNodeFits"
    assert not done.engine.demand.entitlement().totals(done.state.forest.by_name["t"])


def test_an_announced_member_beyond_all_sense_stops_nobodys_evictions() -> None:
    """Classes are never forgotten: what one of them asks for is met by every claimant's arrays."""
    absurd = PodSpec("b", "g/x", SchedulingSpec((("cpu", 9 * 10**21),)), group="g")
    world = (
        World().node("n", cpu=2).tenant("a").tenant("b").gang("b", "g", 3, expected=(ExpectedMember("x", 2, absurd),))
    )
    world.pod("b", "driver", group="g", cpu=1).pod("a", "low", on="n", cpu=2).pod("a", "high", cpu=1, priority=5)
    engine = Engine(world.state(), Settings())

    done = engine.cycle(1000)

    assert not done.troubles
    assert [evict.pod[1] for evict in done.evictions] == ["low"]
    assert [start.pod[1] for start in done.starts] == ["high"]


def test_a_pools_members_are_the_nodes_that_were_laid_out_to_it() -> None:
    world = World().node("a", cpu=1, labels={"disk": "ssd"}).node("b", cpu=1).node("c", cpu=1, labels={"disk": "ssd"})
    world.pool(PoolSpec("fast", LabelSelector((Requirement("disk", "In", ("ssd",)),)))).pool(
        PoolSpec("none", LabelSelector((Requirement("disk", "In", ("tape",)),)))
    )
    state = world.state()
    state.settle()

    found = {name: [node.spec.name for node in state.nodes.members(name)] for name in ("fast", "none", "default", "x")}

    assert found == {"fast": ["a", "c"], "none": [], "default": ["b"], "x": []}


def test_resources_that_nobody_offers_cost_the_others_nothing() -> None:
    world = World().node("n", cpu=4).tenant("t").pod("t", "plain", cpu=1)
    for number in range(100):
        asks: dict[str, Any] = {f"x.example/r{number}-{each}": 1 for each in range(8)}
        world.pod("t", f"p{number}", cpu=1, **asks)

    done = world.run()

    assert done.running("t") == {"plain"}
    assert done.state.resources.width == 8
    why = Explainer(done.engine).why(done.state.pods["t", "p7"])
    assert why.code == "NoNodeFits"
    assert "1 lack x.example/r7-0 and x.example/r7-1 and" in why.message


def test_a_node_may_come_with_what_pods_have_been_asking_for() -> None:
    world = World().node("n", cpu=8).tenant("t").pod("t", "waits", cpu=1, gpu=1).pod("t", "asks", cpu=1, fpga=1)
    world.pod("t", "runs", on="n", cpu=1, gpu=2).gang("t", "g", 2).pods("t", 2, "g", group="g", gpu=1)
    done = world.run()
    assert done.running("t") == {"runs"}

    done.state.apply_all(World().node("m", cpu=4, gpu=4).events)
    done.engine.cycle(100.0)
    check(done.state)

    assert done.running("t") == {"runs", "waits", "g0", "g1"}
    column = done.state.resources.columns["nvidia.com/gpu"]
    assert done.state.forest.by_name["t"].used[column] == 5


def test_a_limit_counts_what_no_node_offers_from_the_moment_that_it_is_set() -> None:
    world = World().node("n", cpu=8).tenant("t").pod("t", "runs", on="n", cpu=1, fpga=2).pod("t", "waits", fpga=1)
    done = world.run()

    done.state.apply_all(World().tenant("t", limits={"fpga": 2}).events)
    done.state.settle()
    check(done.state)

    assert done.state.forest.by_name["t"].used[done.state.resources.columns["fpga"]] == 2
    assert Explainer(done.engine).why(done.state.pods["t", "waits"]).code == "AboveLimit"


def test_what_runs_and_nobody_offers_is_in_no_report() -> None:
    """A node's device plug-in may have gone while its pods run on: there is no name that all of it goes by."""
    done = World().node("n", cpu=8).tenant("t").pod("t", "runs", on="n", cpu=1, fpga=2).run()

    [told] = tenants_report(done.engine)
    assert told["used"] == {"cpu": 1000, "pods": 1}
