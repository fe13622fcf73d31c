"""Foresight: reservations cost little, however much runs, and say when and where a unit fits at the latest."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import Pod, PodAffinityTerm, SchedulingSpec
from allotment_scheduler.core.objects.selectors import LabelSelector, Requirement
from allotment_scheduler.core.objects.units import Unit
from allotment_scheduler.core.placement import foresight
from allotment_scheduler.core.placement.foresight import Foresight, Prospect
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.invariants import check
from allotment_scheduler.core.state.trial import Trial
from builders.scheduling import World

AGE = 300.0


def timed(world: World, **settings: float) -> Engine:
    return Engine(world.state(), Settings(age=AGE, **settings))  # type: ignore[arg-type]  # fields by name


@dataclass
class Effort:
    """What searches did."""

    searches: int = 0
    moved: int = 0
    """Pods that trials took from their nodes."""


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Effort]:
    """Count searches, and pods that they take from their nodes, be it in trials."""
    effort, find, evict = Effort(), Foresight.find, Trial.evict
    searching = False

    def counted_find(*args: Any, **more: Any) -> Prospect | None:
        nonlocal searching
        effort.searches, searching = effort.searches + 1, True
        found = find(*args, **more)
        searching = False
        return found

    def counted_evict(trial: Trial, pod: Pod) -> None:
        effort.moved += searching
        evict(trial, pod)

    with monkeypatch.context() as patch:
        patch.setattr(Foresight, "find", counted_find)
        patch.setattr(Trial, "evict", counted_evict)
        yield effort


APART = PodAffinityTerm("rack", LabelSelector((Requirement("app", "In", ("g",)),)))
KINDS: dict[str, tuple[dict[str, Any], SchedulingSpec]] = {
    "no rack has room for it": ({"topology_key": "rack", "topology_required": True}, SchedulingSpec(())),
    "no two of its pods may share a rack": ({}, SchedulingSpec((), anti_affinity=(APART,))),
}


SIZES = [pytest.param(100, 500, id="2,000"), pytest.param(2500, 8192, id="50,000", marks=pytest.mark.soak)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("declared", [True, False], ids=["declared ends", "no ends declared"])
@pytest.mark.parametrize(("nodes", "most"), SIZES)
def test_a_gang_that_can_never_be_placed_costs_one_search_of_bounded_effort(
    kind: str, *, declared: bool, nodes: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that runs is moved for what counting refutes, and few pods for what only trials do."""
    monkeypatch.setattr(foresight, "MOST_MOVED", most)
    together, spec = KINDS[kind]
    world = World().tenant("a").tenant("b").gang("b", "g", 16, **together)
    for number in range(nodes):
        rack = number * 8 // nodes if spec.anti_affinity else number // 8
        world.node(f"n{number:04}", cpu=20, labels={"rack": f"r{rack}"})
        for place in range(20):
            end = {"max_runtime": 1e6 + 7 * number + place} if declared else {}
            world.pod("a", f"p{number}-{place}", on=f"n{number:04}", cpu=1, more=end)
    engine = timed(world.pods("b", 16, "g", group="g", cpu=20, spec=spec, labels={"app": "g"}), least_runtime=1e12)
    engine.cycle(100_000)

    with watched(monkeypatch) as effort:
        layout = engine.state.nodes.layout_version
        for now in (300, 310, 320, 599):
            engine.cycle(100_000 + now)

        assert not engine.reservations.by_unit
        assert effort.searches == 1, "it is not repeated before the age for a reservation has passed again"
        assert effort.moved <= (most if spec.anti_affinity else 0)
        assert engine.state.nodes.layout_version == layout, "nothing that is kept per node was thrown away"
        engine.cycle(100_600)
        assert effort.searches == 2
    check(engine.state)


def test_a_standing_reservation_costs_nothing_while_the_room_of_its_nodes_stands_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World().node("n", cpu=4).node("other", cpu=1, labels={"is": "other"}).tenant("a")
    for number in range(4):
        world.pod("a", f"r{number}", on="n", cpu=1, more={"max_runtime": 1000.0 * (number + 1)})
    engine = timed(world.pod("a", "large", cpu=3))
    engine.cycle(1000)
    engine.cycle(1300)
    kept = engine.reservations.by_unit["a", "large"]
    assert kept.eta == pytest.approx(3003)

    with watched(monkeypatch) as effort:
        engine.cycle(1310)
        world.pod("a", "elsewhere", cpu=1)
        engine.state.apply(world.events[-1])
        engine.cycle(1320)
        assert effort.searches == 0
        engine.state.apply(ev.PodGone(("a", "r2")))
        engine.cycle(1330)
        assert effort.searches == 1

    assert kept.eta == pytest.approx(2002), "two of the three that are left must have ended"
    engine.cycle(3200)
    assert kept.eta == 3200, "what is overdue may end any moment"


def test_a_reservation_moves_when_it_comes_earlier_elsewhere() -> None:
    """Looked for once in a while: draining nodes is worth nothing if they change all the time."""
    world = World().node("m", cpu=2).node("n", cpu=2).tenant("a")
    world.pod("a", "long", on="m", cpu=2, more={"max_runtime": 9000.0}).pod("a", "longer", on="n", cpu=2)
    engine = timed(world.pod("a", "large", cpu=2))
    engine.cycle(1000)
    engine.cycle(1300)
    assert engine.reservations.by_unit["a", "large"].nodes == ("m",)
    world.pod("a", "short", on="n", cpu=2, more={"max_runtime": 100.0})
    engine.state.apply_all([ev.PodGone(("a", "longer")), world.events[-1]])

    for now in (1310, 1599):
        engine.cycle(now)
        assert engine.reservations.by_unit["a", "large"].nodes == ("m",)
    engine.cycle(1600)

    kept = engine.reservations.by_unit["a", "large"]
    assert (kept.nodes, kept.eta) == (("n",), 1600)


def test_a_reservation_whose_node_is_taken_by_others_is_looked_for_again_at_once() -> None:
    world = World().node("m", cpu=2).node("n", cpu=2).tenant("a").tenant("b")
    world.pod("a", "short", on="m", cpu=2, more={"max_runtime": 2000.0})
    world.pod("a", "long", on="n", cpu=2, more={"max_runtime": 9000.0})
    engine = timed(world.pod("b", "large", cpu=2), least_runtime=1e9)
    engine.cycle(1000)
    engine.cycle(1300)
    assert engine.reservations.by_unit["b", "large"].nodes == ("m",)
    world.pod("b", "foreign", on="m", cpu=1, more={"ours": False})
    engine.state.apply(world.events[-1])

    engine.cycle(1310)

    kept = engine.reservations.by_unit["b", "large"]
    assert (kept.nodes, kept.eta) == (("n",), 9002)


def test_without_an_end_in_sight_the_nodes_are_those_where_least_must_end() -> None:
    world = World().node("l", cpu=4).node("m", cpu=4).node("n", cpu=4, gpu=1).tenant("a")
    world.pods("a", 3, "l", on="l", cpu=1).pods("a", 2, "m", on="m", cpu=1).pods("a", 1, "n", on="n", cpu=1)
    engine = timed(world.pod("a", "large", cpu=4))
    engine.cycle(1000)
    engine.cycle(1300)

    kept = engine.reservations.by_unit["a", "large"]
    assert (kept.nodes, kept.eta) == (("m",), inf), "a node with GPUs is kept for pods that need one"


def test_a_gang_that_must_be_together_gets_the_domain_that_is_whole_first() -> None:
    world = World().tenant("a").gang("a", "g", 2, topology_key="rack", topology_required=True)
    for number, rack in enumerate("xxyyz"):
        world.node(f"n{number}", cpu=2, labels={"rack": rack})
    for number, runtime in enumerate((1000.0, 9000.0, 3000.0, 4000.0, 10.0)):
        world.pod("a", f"r{number}", on=f"n{number}", cpu=2, more={"max_runtime": runtime})
    engine = timed(world.pods("a", 2, "g", group="g", cpu=2))
    engine.cycle(500)
    engine.cycle(800)

    kept = engine.reservations.by_unit["a", "g0"]
    assert (set(kept.nodes), kept.eta) == ({"n2", "n3"}, 4004)


def test_who_was_searched_for_in_vain_keeps_nobody_from_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """With effort for one search in a cycle, the one behind three hopeless gangs is reached in the fourth."""
    monkeypatch.setattr("allotment_scheduler.core.placement.reservations.MOST_EFFORT", 1)
    world = World().tenant("a").nodes(4, cpu=2, labels={"rack": "x", "0": "", "1": "", "2": ""})
    world.node("y", cpu=2, labels={"rack": "y", "0": "", "1": "", "2": ""})
    for number in range(4):
        world.pod("a", f"r{number}", on=f"n{number:02}", cpu=2)
    world.pod("a", "ry", on="y", cpu=2)
    for number in range(3):
        world.gang("a", f"g{number}", 5, topology_key="rack", topology_required=True)
        world.pods("a", 5, f"g{number}-", group=f"g{number}", cpu=2, spec=SchedulingSpec((), ((str(number), ""),)))
    engine = timed(world.pod("a", "late", cpu=2))
    engine.cycle(1000)
    found = []
    for now in range(1300, 1306):
        engine.cycle(now)
        found.append(sorted(key[1] for key in engine.reservations.by_unit))

    assert found == [[], [], [], ["late"], ["late"], ["late"]]


# --- against a plain reckoning ---------------------------------------------------------------------------------------


@st.composite
def crowds(draw: st.DrawFn) -> tuple[Engine, Unit]:
    """A few nodes in racks, pods that run with and without a declared end, and a gang or a pod that waits."""
    world = World().tenant("a").tenant("b")
    nodes = draw(st.integers(1, 6))
    for number in range(nodes):
        world.node(f"n{number}", cpu=draw(st.integers(1, 4)), memory=4, labels={"rack": f"r{draw(st.integers(0, 2))}"})
    runtimes = st.one_of(st.none(), st.sampled_from([100.0, 200.0, 5000.0, 7000.0, 9000.0]))
    for number in range(draw(st.integers(1, 12))):
        more = {"max_runtime": draw(runtimes), "ours": draw(st.booleans())}
        node = f"n{draw(st.integers(0, nodes - 1))}"
        world.pod("a", f"p{number}", on=node, cpu=draw(st.integers(0, 2)), memory=draw(st.integers(0, 2)), more=more)
    size, required = draw(st.integers(1, 4)), draw(st.booleans())
    world.gang("b", "g", size, topology_key=draw(st.sampled_from([None, "rack"])), topology_required=required)
    apart = SchedulingSpec((), anti_affinity=(PodAffinityTerm("rack", APART.selector),))
    spec = draw(st.sampled_from([SchedulingSpec(()), SchedulingSpec(()), apart]))
    for number in range(size):
        cpu = draw(st.integers(1, 2)) if draw(st.booleans()) else 1
        world.pod("b", f"g{number}", group="g", cpu=cpu, memory=1, spec=spec, labels={"app": "g"})
    engine = timed(world)
    unit = engine.state.pods["b", "g0"].unit
    assert isinstance(unit, Unit)
    return engine, unit


def by_end(engine: Engine, now: float) -> list[tuple[float, list[tuple[str, str]]]]:
    ends: dict[float, list[tuple[str, str]]] = {}
    for pod in engine.state.pods.values():
        if pod.node is not None:
            ends.setdefault(foresight.end_of(pod, now), []).append(pod.key)
    return sorted(ends.items())


def plainly(engine: Engine, unit: Unit, now: float) -> float | None:
    """When a unit fits, found by letting one after the other end."""
    if engine.gangs.fits(unit, unit.shape.pools):
        return now
    with engine.state.trial() as trial:
        for end, keys in by_end(engine, now):
            for key in keys:
                trial.evict(engine.state.pods[key])
            if engine.gangs.fits(unit, unit.shape.pools):
                return end
    return None


@settings(max_examples=60, deadline=None)
@given(crowds())
def test_a_unit_fits_on_the_nodes_and_at_the_time_that_are_foreseen(case: tuple[Engine, Unit]) -> None:
    engine, unit = case
    now, pools = 1000.0, unit.shape.pools
    want = plainly(engine, unit, now)

    found = engine.reservations.foresight.find(unit, pools, now)

    check(engine.state)
    if engine.gangs.is_counted(unit, pools):
        assert (found.eta if found is not None else None) == want, "where counting decides the time is exact"
    elif want is None:
        assert found is None
    if found is not None:
        assert want is not None
        assert want <= found.eta
        inside = engine.reservations.foresight.state.nodes.named(found.nodes)
        with engine.state.trial() as trial:
            for end, keys in by_end(engine, now):
                for key in keys:
                    pod = engine.state.pods[key]
                    if end <= found.eta and pod.node in found.nodes:
                        trial.evict(pod)
            assert engine.gangs.place(unit, pools, trial, inside)
