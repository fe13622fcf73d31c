"""The change that an explanation names is true: applied to the cluster as it stands, it starts what waits."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec import structs

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.explanation.counterfactuals import Reduction, smaller_request
from allotment_scheduler.core.explanation.explain import Explainer, Why
from allotment_scheduler.core.objects.events import PodSeen
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.objects.resources import Column
from allotment_scheduler.core.objects.units import Unit
from builders.scheduling import Result, World


@st.composite
def worlds(draw: Callable[..., Any]) -> World:
    """A small cluster with pods that run, and one unit, `p…` of tenant a, that may wait."""
    world = World()
    whole = st.integers(0, 4)
    zones = draw(st.sampled_from([("x", "x", "x"), ("x", "y", "x")]))
    for number in range(draw(st.integers(1, 3))):
        labels = {"zone": zones[number]}
        world.node(f"n{number}", cpu=draw(st.integers(1, 6)), gpu=draw(whole), memory=draw(whole), labels=labels)
    world.inner("d", limits=draw(st.sampled_from([{}, {"cpu": 3}, {"gpu": 2, "cpu": 5}])))
    world.tenant("a", "d", limits=draw(st.sampled_from([{}, {}, {"cpu": 2}, {"memory": 3}]))).tenant("b")
    nodes = st.sampled_from([event.spec.name for event in world.events if hasattr(event.spec, "allocatable")])  # type: ignore[union-attr] # nodes have it
    for number in range(draw(st.integers(0, 3))):
        asks = {"cpu": draw(st.integers(0, 2)), "gpu": draw(st.integers(0, 1)), "memory": draw(st.integers(0, 2))}
        world.pod(draw(st.sampled_from("ab")), f"r{number}", on=draw(nodes), **asks)
    size = draw(st.integers(1, 3))
    asks = {"cpu": draw(st.integers(1, 6)), "gpu": draw(st.integers(0, 3)), "memory": draw(whole)}
    topology = {"topology_key": "zone", "topology_required": True} if draw(st.booleans()) else {}
    if size > 1:
        world.gang("a", "g", size, **topology)
    return world.pods("a", size, group="g" if size > 1 else None, **asks)


def waiting_unit(done: Result) -> Unit | None:
    pod = done.state.pods["a", "p0"]
    unit = pod.unit
    return unit if pod.node is None and isinstance(unit, Unit) and unit.live else None


def starts_with(world: World, done: Result, unit: Unit, change: dict[Column, int]) -> bool:
    """Whether the unit starts at once, each of its pods asking for so much less."""
    names = done.state.resources.names
    fewer = {names[column]: amount for column, amount in change.items()}
    now = World([event for event in world.events if not isinstance(event, PodSeen)], world.clock)

    def as_it_stands(pod: Pod) -> PodSeen:
        spec = structs.replace(pod.spec, node=pod.node, started=pod.spec.started if pod.node else None)
        if pod in unit.pods:
            less = tuple((name, amount - fewer.get(name, 0)) for name, amount in spec.scheduling.requests)
            spec = structs.replace(spec, scheduling=replace(spec.scheduling, requests=less))
        return PodSeen(spec)

    now.events += map(as_it_stands, done.state.pods.values())
    engine = Engine(now.state())
    return {pod.key for pod in unit.pods} <= {start.pod for start in engine.cycle(world.clock, claims=False).starts}


@settings(max_examples=40, deadline=None)
@given(worlds())
def test_the_named_change_starts_it_and_nothing_less_does(world: World) -> None:
    done = world.run()
    unit = waiting_unit(done)
    assume(unit is not None)
    assert unit is not None
    found = smaller_request(done.state, done.engine.placer, unit)
    assume(found is not None)
    assert isinstance(found, Reduction)

    assert starts_with(world, done, unit, dict(found.fewer))
    for column, amount in found.fewer:
        if unit.shape.size > 1:
            assert not starts_with(world, done, unit, dict(found.fewer) | {column: amount - 1})
        elif len(found.fewer) == 1:
            assert not starts_with(world, done, unit, {column: amount - 1})


def why(world: World) -> Why:
    done = world.run()
    return Explainer(done.engine).why(done.state.pods["a", "p0"])


def ground() -> World:
    return World().node("n", cpu=4, gpu=2).node("o", cpu=2).tenant("a")


@pytest.mark.parametrize(
    ("world", "code", "said", "change"),
    [
        pytest.param(
            World().node("n", cpu=6).node("o", cpu=1).tenant("a").pod("a", "r", on="n", cpu=1)
            .gang("a", "g", 3).pods("a", 3, cpu=2, group="g"),
            "Fragmented", "not for its 3 pods at once: 2 of them fit", "334m cpu fewer per pod fits all 3 of them",
            id="a gang",
        ),
        pytest.param(
            ground().gang("a", "g", 9).pods("a", 9, cpu=1, group="g"),
            "NoNodeFits", "its 9 pods start together, and even empty nodes have room for 6 of them",
            "334m cpu fewer per pod fits all 9 of them", id="a gang larger than the cluster",
        ),
        pytest.param(
            ground().pods("a", 1, cpu=5, gpu=3), "NoNodeFits", "0 of 2 nodes fit",
            "1 cpu and 1 nvidia.com/gpu fewer per pod fits node n of pool default", id="two resources lacking",
        ),
        pytest.param(
            World().node("n", cpu=9).tenant("a", limits={"cpu": 4}).gang("a", "g", 3).pods("a", 3, cpu=2, group="g"),
            "AboveLimit", "uses 0 of its limit of 4 cpu, and this asks for 6", "ask for at most 1333m cpu per pod",
            id="a gang above a limit",
        ),
        pytest.param(
            World().node("n", cpu=2).tenant("a", limits={"cpu": 4}).pods("a", 1, cpu=6), "AboveLimit", "",
            "ask for at most 2 cpu", id="a limit, and no node with as much",
        ),
    ],
)  # fmt: skip
def test_gangs_and_several_resources_are_told_truly(world: World, code: str, said: str, change: str) -> None:
    found = why(world)

    assert (found.code, found.change) == (code, change)
    assert said in found.message


@pytest.mark.parametrize(
    ("world", "never"),
    [
        (ground().gang("a", "g", 9).pods("a", 9, cpu=1, group="g"), True),
        (ground().gang("a", "g", 3).pods("a", 3, cpu=2, group="g").pod("a", "r", on="n", cpu=1), False),
        (ground().pods("a", 1, cpu=2, more={"preemptible": False}), True),
    ],
)  # fmt: skip
def test_what_no_change_of_load_would_start_can_never_run(world: World, never: bool) -> None:
    assert why(world).never is never
