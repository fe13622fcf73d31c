"""Gangs that want to be together: what they lost, and what they grow by, stands where the rest of them does."""

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.explanation.explain import Explainer
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.nodes import NodeSpec
from allotment_scheduler.core.objects.pods import PodSpec, SchedulingSpec
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.invariants import check
from builders.scheduling import World

MODES = pytest.mark.parametrize("required", [True, False], ids=["Required", "Preferred"])


def racks(required: bool, *, minimum: int = 4) -> World:
    """A gang of four in rack a, and an empty rack b, which is larger."""
    world = World().tenant("t").gang("t", "g", minimum, topology_key="rack", topology_required=required)
    for number in range(4):
        world.node(f"a{number}", cpu=1, labels={"rack": "a"})
    world.node("b0", cpu=4, labels={"rack": "b"}).node("b1", cpu=4, labels={"rack": "b"})
    for number in range(4):
        world.pod("t", f"g{number}", on=f"a{number}", group="g", cpu=1)
    return world


def lose(engine: Engine, world: World, *numbers: int) -> None:
    """Members end with their nodes, and come back as new pods."""
    world.events.clear()
    for number in numbers:
        engine.state.apply_all([ev.PodGone(("t", f"g{number}")), ev.NodeGone(f"a{number}")])
        world.pod("t", f"new{number}", group="g", cpu=1)
    engine.state.apply_all(world.events)


def where(engine: Engine) -> dict[str, str | None]:
    return {pod.spec.name: pod.node for pod in engine.state.pods.values() if pod.spec.name.startswith("new")}


@MODES
@pytest.mark.parametrize("lost", [(3,), (2, 3)], ids=["one", "two"])
@pytest.mark.parametrize("minimum", [4, 1], ids=["cut", "elastic"])
def test_what_a_gang_lost_comes_back_to_its_domain(required: bool, lost: tuple[int, ...], minimum: int) -> None:
    """Required waits for room there, Preferred takes what there is."""
    world = racks(required, minimum=minimum)
    engine = Engine(world.state(), Settings())
    lose(engine, world, *lost)

    engine.cycle(10)

    assert {str(node)[0] for node in where(engine).values()} == ({"N"} if required else {"b"})
    engine.state.apply(ev.NodeSeen(NodeSpec("aa", {"cpu": 2000, "pods": 10}, {"rack": "a"})))
    engine.cycle(20)
    assert set(where(engine).values()) <= ({"aa"} if required else {"b0", "b1"})
    check(engine.state)


@MODES
@pytest.mark.parametrize("lost", [(3,), (2, 3)], ids=["one", "two"])
@pytest.mark.parametrize("minimum", [4, 1], ids=["cut", "elastic"])
def test_its_domain_comes_first_while_it_has_room(required: bool, lost: tuple[int, ...], minimum: int) -> None:
    world = racks(required, minimum=minimum)
    engine = Engine(world.node("a-spare", cpu=2, labels={"rack": "a"}).state(), Settings())
    lose(engine, world, *lost)

    engine.cycle(10)

    assert set(where(engine).values()) == {"a-spare"}
    check(engine.state)


def test_gangs_of_one_kind_that_run_in_different_domains_do_not_wait_for_each_other() -> None:
    """The lane of the one that waits for rack a must not keep the other, whose rack has room."""
    world = World().tenant("t").node("a0", cpu=1, labels={"rack": "a"}).node("b0", cpu=2, labels={"rack": "b"})
    for name, node in (("g", "a0"), ("h", "b0")):
        world.gang("t", name, 2, topology_key="rack", topology_required=True)
        world.pod("t", f"{name}0", on=node, group=name, cpu=1).pod("t", f"{name}1", group=name, cpu=1)

    done = world.run()

    assert (done.node_of("t", "g1"), done.node_of("t", "h1")) == (None, "b0")


def test_the_first_of_a_gang_whose_domain_is_required_stands_on_a_node_that_is_in_one() -> None:
    world = World().tenant("t").node("a", cpu=9).node("b", cpu=1, labels={"rack": "b"})
    world.gang("t", "g", 1, topology_key="rack", topology_required=True).pods("t", 2, "g", group="g", cpu=1)

    done = world.run()

    assert [done.node_of("t", "g0"), done.node_of("t", "g1")] == ["b", None]


def test_room_is_made_in_the_domain_where_the_gang_runs() -> None:
    """Two victims in rack a are better than one in rack b, where the gang may not go."""
    world = World().tenant("t").gang("t", "g", 2, topology_key="rack", topology_required=True, priority=5)
    world.node("a0", cpu=3, labels={"rack": "a"}).node("b0", cpu=2, labels={"rack": "b"})
    world.pod("t", "g0", on="a0", group="g", cpu=1).pods("t", 2, "low-a", on="a0", cpu=1).pod(
        "t", "low-b", on="b0", cpu=2
    )

    done = world.pod("t", "g1", group="g", cpu=2).run()

    assert set(done.evicted) == {"low-a0", "low-a1"}
    assert done.node_of("t", "g1") == "a0"


@pytest.mark.parametrize(
    ("cpu", "want"),
    [
        (1, "1 cpu asked for, 0 free in the domain of rack where its group runs; tenant t has"),
        (2, "0 of 5 nodes fit: 2 are not in the domain of rack where its group runs, 3 lack cpu"),
    ],
)
def test_it_is_told_that_the_domain_has_no_room(cpu: int, want: str) -> None:
    engine = Engine(racks(required=True).state(), Settings())
    engine.state.apply_all([ev.PodGone(("t", "g3")), ev.NodeGone("a3")])
    engine.state.apply_all(World().pod("t", "new3", group="g", cpu=cpu).events)
    engine.cycle(10)

    assert Explainer(engine).why(engine.state.pods["t", "new3"]).message.startswith(want)


@MODES
def test_a_gang_that_is_gone_but_for_what_is_being_deleted_may_go_anywhere(required: bool) -> None:
    world = racks(required)
    engine = Engine(world.state(), Settings())
    for number in range(4):
        name = f"g{number}"
        going = PodSpec("t", name, SchedulingSpec((("cpu", 1000),)), node=f"a{number}", group="g", deleting=True)
        engine.state.apply(ev.PodSeen(going))
    world.events.clear()
    engine.state.apply_all(world.pods("t", 3, "new", group="g", cpu=2).events)
    engine.cycle(10)
    assert set(where(engine).values()) == {None}, "not in pieces"
    world.events.clear()
    engine.state.apply_all(world.pod("t", "last", group="g", cpu=2).events)

    engine.cycle(20)

    assert set(where(engine).values()) == {"b0", "b1"}
