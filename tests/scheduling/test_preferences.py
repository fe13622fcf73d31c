"""Where pods stand when several nodes would take them: packing or spreading, and preferences as kube-scheduler's.

Expected points are reckoned by hand from the formulas of its plugins NodeAffinity, TaintToleration, InterPodAffinity
and PodTopologySpread (weights 2, 3, 2, 2).
"""

from dataclasses import replace

import numpy as np
import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.filters.topology import in_proportion, stretched
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.nodes import PoolSpec
from allotment_scheduler.core.objects.pods import PodAffinityTerm, SchedulingSpec, SpreadConstraint
from allotment_scheduler.core.objects.selectors import LabelSelector, NodeSelectorTerm, Requirement, Taint, Toleration
from builders.scheduling import Result, World

WEB = LabelSelector((Requirement("app", "In", ("web",)),))
LABELS = {"app": "web"}


def called(*names: str) -> NodeSelectorTerm:
    return NodeSelectorTerm((Requirement("name", "In", names),))


def named(*names: str, cpu: int = 8, **labels: str) -> World:
    world = World().tenant("t")
    for name in names:
        world.node(name, cpu=cpu, labels={"name": name, **labels})
    return world


def taint(world: World, name: str, *keys: str) -> None:
    """Let a node be one that pods had better avoid."""
    for at, event in enumerate(world.events):
        if isinstance(event, ev.NodeSeen) and event.spec.name == name:
            taints = tuple(Taint(key, "PreferNoSchedule") for key in keys)
            world.events[at] = ev.NodeSeen(replace(event.spec, taints=taints))


def places(done: Result, *names: str) -> list[str | None]:
    return [done.node_of("t", name) for name in names]


# --- packing and spreading -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("placement", "gpu", "nodes"),
    [(None, 0, 2), ("Spread", 0, 2), ("Pack", 0, 1), (None, 4, 1), ("Pack", 4, 1), ("Spread", 4, 2)],
)
def test_a_pool_packs_or_spreads(placement: str | None, gpu: int, nodes: int) -> None:
    """By default what has GPUs packs, and everything else spreads; where a pod runs already decides."""
    world = World().tenant("t").pool(PoolSpec("all", LabelSelector(), placement=placement)).nodes(2, cpu=8, gpu=gpu)
    world.pod("t", "there", on="n01", cpu=1, gpu=min(gpu, 1)).pod("t", "comes", cpu=1, gpu=min(gpu, 1))

    done = world.run()

    assert len(set(places(done, "there", "comes"))) == nodes


# --- preferred node affinity and taints ------------------------------------------------------------------------------


def test_normalisation_is_proportional_for_nodes_and_stretched_between_pods() -> None:
    all_of_them = np.ones(4, dtype=np.bool_)
    assert in_proportion(np.array([100, 90, 33, 0]), all_of_them).tolist() == [100, 90, 33, 0]
    assert in_proportion(np.array([2, 1, 0, 9]), np.array([True, True, True, False]))[:3].tolist() == [100, 50, 0]
    assert in_proportion(np.zeros(4, dtype=np.int64), all_of_them).tolist() == [0, 0, 0, 0]
    assert stretched(np.array([129, 229, 100, 200])).tolist() == [22, 100, 0, 77]
    assert stretched(np.array([29, 100, 0])).tolist() == [28, 100, 0], "in floats and cut off"
    assert stretched(np.array([7, 7])).tolist() == [0, 0]


def test_the_node_that_most_of_the_weight_speaks_for_is_taken() -> None:
    """a: 30; b: 30 + 40; c: 60."""
    wishes = ((30, called("a", "b")), (40, called("b")), (60, called("c")))
    world = named("a", "b", "c").pod("t", "p", cpu=1, spec=SchedulingSpec((), preferred_nodes=wishes))

    assert places(world.run(), "p") == ["b"]


def test_preferences_win_over_spreading_and_yield_to_room() -> None:
    wish = SchedulingSpec((), preferred_nodes=((1, called("a")),))
    world = named("a", "b", cpu=3).pods("t", 4, cpu=1, spec=wish)

    assert places(world.run(), "p0", "p1", "p2", "p3") == ["a", "a", "a", "b"]


def test_a_nearly_equal_node_preference_yields_to_a_preferred_neighbour() -> None:
    """a: 2 * 100; b: 2 * 90 + 2 * 100."""
    wishes = ((100, called("a")), (90, called("b")))
    near = (PodAffinityTerm("name", WEB, weight=1),)
    spec = SchedulingSpec((), preferred_nodes=wishes, preferred_affinity=near)
    world = named("a", "b").pod("t", "web", on="b", cpu=1, labels=LABELS).pod("t", "p", cpu=1, spec=spec)

    assert places(world.run(), "p") == ["b"]


@pytest.mark.parametrize(
    ("avoided", "tolerated", "want"),
    [
        ({}, (), "a"),
        ({"a": ("x",)}, (), "b"),  # 200 against 300
        ({"a": ("x", "y"), "b": ("x",)}, (), "a"),  # 200 + 0 against 300 - 150
        ({"a": ("x", "y", "z"), "b": ("x",)}, (), "b"),  # 200 + 0 against 300 - 99
        ({"a": ("x",)}, (Toleration("x", "Exists"),), "a"),
        ({"a": ("x",)}, (Toleration("x", "Exists", effect="NoSchedule"),), "b"),
    ],
)
def test_taints_that_ask_to_prefer_others_count_three_where_node_affinity_counts_two(
    avoided: dict[str, tuple[str, ...]], tolerated: tuple[Toleration, ...], want: str
) -> None:
    world = named("a", "b")
    for name, keys in avoided.items():
        taint(world, name, *keys)
    spec = SchedulingSpec((), preferred_nodes=((1, called("a")),), tolerations=tolerated)

    assert places(world.pod("t", "p", cpu=1, spec=spec).run(), "p") == [want]


# --- soft topology spread --------------------------------------------------------------------------------------------


def soft(*keys: str, skew: int = 1, **more: object) -> SchedulingSpec:
    rules = tuple(SpreadConstraint(key, skew, hard=False, selector=WEB) for key in keys)
    return replace(SchedulingSpec((), spread=rules), **more)  # type: ignore[arg-type]  # fields by name


def zoned(**zones: str) -> World:
    """One node of each name, in the zone given; without one where it is empty."""
    world = World().tenant("t")
    for name, zone in zones.items():
        labels = {"name": name, "host": name} | ({"zone": zone} if zone else {})
        world.node(name, cpu=200, labels=labels)
    return world


def points(world: World, spec: SchedulingSpec) -> list[int]:
    """What the neighbours are worth to one more pod, node by node."""
    engine = Engine(world.pod("t", "comes", cpu=1, spec=spec, labels=LABELS).state())
    row = engine.placer.row(engine.state.lineup.row_key(engine.state.pods["t", "comes"]))
    scores = row.neighbours.score(row.allowed)
    return [0] * len(row.allowed) if scores is None else scores.tolist()


def test_soft_spread_is_even_over_zones() -> None:
    world = zoned(a="x", b="y", c="z").pods("t", 7, cpu=1, spec=soft("zone"), labels=LABELS)

    done = world.run()

    stand = places(done, *(f"p{number}" for number in range(7)))
    assert sorted(stand.count(node) for node in "abc") == [2, 2, 3]


def test_nodes_without_the_key_come_last() -> None:
    """They are no domain of their own that is always empty."""
    world = zoned(a="x", b="y", odd="", odder="").pods("t", 50, cpu=5, spec=soft("zone"), labels=LABELS)

    done = world.run()

    stand = places(done, *(f"p{number}" for number in range(50)))
    assert (stand.count("a"), stand.count("b")) == (25, 25)


@pytest.mark.parametrize(
    ("skew", "counts", "want"),
    [
        (1, (0, 0, 0), [200, 200, 200, 0]),  # only the one without a zone is worse
        (1, (2, 1, 0), [0, 66, 200, 0]),  # 2 ln 5 = 3, ln 5 = 2, 0; 3 + 0 - it, of 3
        (1, (101, 100, 100), [196, 200, 200, 0]),  # 163, 161, 161; 163 + 161 - it, of 163
        (3, (2, 1, 0), [80, 120, 200, 0]),  # 5, 4, 2; 5 + 2 - it, of 5
    ],
)
def test_soft_spread_scores_as_the_plugin_does(skew: int, counts: tuple[int, ...], want: list[int]) -> None:
    world = zoned(a="x", b="y", c="z", odd="")
    for node, count in zip("abc", counts, strict=True):
        world.pods("t", count, node, on=node, cpu=1, labels=LABELS)

    assert points(world, soft("zone", skew=skew)) == want


def test_several_constraints_add_up_and_a_node_that_lacks_one_key_has_none() -> None:
    """a has 2 in its zone and 2 itself, b 2 and 0, c 1 and 1: by ln 4 for the zones, by ln 5 for the nodes.

    2 * 1.386 + 2 * 1.609 = 5.99, 2.77, 1.386 + 1.609 = 3.0: that is 6, 3 and 3, and 6 + 3 - it, of 6.
    """
    world = zoned(a="x", b="x", c="y", odd="")
    world.pods("t", 2, "a", on="a", cpu=1, labels=LABELS).pods("t", 1, "c", on="c", cpu=1, labels=LABELS)

    assert points(world, soft("zone", "host")) == [100, 200, 200, 0]


def test_a_small_difference_between_zones_yields_to_a_node_preference() -> None:
    """a: 2 * 100 + 2 * 97; b and c: 2 * 100."""
    world = zoned(a="x", b="y", c="z")
    for node, count in zip("abc", (30, 29, 29), strict=True):
        world.pods("t", count, node, on=node, cpu=1, labels=LABELS)
    wish = soft("zone", preferred_nodes=((1, called("a")),))

    done = world.pod("t", "comes", cpu=1, spec=wish, labels=LABELS).run()

    assert places(done, "comes") == ["a"]


def test_a_small_difference_between_zones_wins_over_the_shape_of_what_is_free() -> None:
    """Preferences come before shape and room, however small they are."""
    world = World().tenant("t").node("a", cpu=100, memory=100, labels={"zone": "x"})
    world.node("b", cpu=100, memory=900, labels={"zone": "y"})
    world.pods("t", 40, "a", on="a", cpu=1, memory=1, labels=LABELS)
    world.pods("t", 39, "b", on="b", cpu=1, memory=1, labels=LABELS)
    engine = Engine(world.pod("t", "comes", cpu=5, memory=5, spec=soft("zone"), labels=LABELS).state())

    engine.cycle(1.0)

    assert engine.state.pods["t", "comes"].node == "b"
