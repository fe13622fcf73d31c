"""Gangs whose pods differ, or mind each other: they start whenever they fit, whatever was tried first."""

import random
from itertools import product
from typing import Any

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects.pods import Pod, PodAffinityTerm, SchedulingSpec
from allotment_scheduler.core.objects.selectors import LabelSelector, Requirement
from allotment_scheduler.core.state.trial import Trial
from builders.scheduling import World


def only_on(**labels: str) -> SchedulingSpec:
    return SchedulingSpec((), node_selector=tuple(sorted(labels.items())))


@pytest.mark.parametrize("names", [("choosy", "any"), ("any", "choosy")])
def test_who_may_stand_on_few_nodes_gets_them(names: tuple[str, str]) -> None:
    world = World().node("n1", cpu=1, labels={"k": "1"}).node("n2", cpu=1).tenant("a").gang("a", "g", 2)
    for name in names:
        world.pod("a", name, group="g", cpu=1, spec=only_on(k="1") if name == "choosy" else None)

    done = world.run()

    assert (done.node_of("a", "choosy"), done.node_of("a", "any")) == ("n1", "n2")


def test_sizes_that_only_one_division_fits_find_it() -> None:
    """4 and 3 fill one node, 3 and 3 the other: wherever the largest goes first, it is the wrong or the right one."""
    world = World().node("n1", cpu=7).node("n2", cpu=6).tenant("a").gang("a", "g", 4)
    for number, cpu in enumerate((4, 3, 3, 3)):
        world.pod("a", f"p{number}", group="g", cpu=cpu)

    assert len(world.run().running("a")) == 4


def fits_somehow(nodes: list[tuple[int, str]], pods: list[tuple[int, str]]) -> bool:
    """Every way there is."""
    for places in product(range(len(nodes)), repeat=len(pods)):
        room = [cpu for cpu, _ in nodes]
        for (cpu, kind), place in zip(pods, places, strict=True):
            room[place] -= cpu if kind in ("", nodes[place][1]) else 99
        if min(room) >= 0:
            return True
    return False


@pytest.mark.parametrize("start", range(0, 60, 20))
def test_a_small_gang_starts_exactly_if_it_fits(start: int) -> None:
    for seed in range(start, start + 20):
        rng = random.Random(seed)
        nodes = [(rng.randint(1, 6), rng.choice("xyz")) for _ in range(rng.randint(2, 3))]
        pods = [(rng.randint(1, 4), rng.choice(["", "", "x", "y"])) for _ in range(rng.randint(2, 5))]
        world = World().tenant("a").gang("a", "g", len(pods))
        for number, (cpu, kind) in enumerate(nodes):
            world.node(f"n{number}", cpu=cpu, labels={"k": kind})
        for number, (cpu, kind) in enumerate(pods):
            world.pod("a", f"p{number}", group="g", cpu=cpu, spec=only_on(k=kind) if kind else None)

        started = len(world.run().running("a"))

        assert started == (len(pods) if fits_somehow(nodes, pods) else 0), (seed, nodes, pods)


def test_pods_that_must_stand_together_look_for_a_zone_that_takes_all() -> None:
    """The node with most room is where the first goes, and it is alone in its zone."""
    near = PodAffinityTerm("zone", LabelSelector((Requirement("app", "In", ("web",)),)))
    world = World().node("a", cpu=5, labels={"zone": "a"}).tenant("t").gang("t", "g", 7)
    for number in range(3):
        world.node(f"b{number}", cpu=3, labels={"zone": "b"})

    done = world.pods("t", 7, group="g", cpu=1, labels={"app": "web"}, spec=SchedulingSpec((), affinity=(near,))).run()

    assert {done.node_of("t", f"p{n}") for n in range(7)} == {"b0", "b1", "b2"}


@pytest.mark.parametrize("order", [("strict", "loose"), ("loose", "strict")])
def test_gangs_that_want_one_domain_hold_up_no_others(order: tuple[str, ...]) -> None:
    world = World().node("n1", cpu=1, labels={"z": "a"}).node("n2", cpu=1, labels={"z": "b"}).tenant("a")
    for name in order:
        more: dict[str, Any] = {"topology_key": "z", "topology_required": True} if name == "strict" else {}
        world.gang("a", name, 2, **more).pods("a", 2, f"{name}-", group=name, cpu=1)

    assert world.run().running("a") == {"loose-0", "loose-1"}


def test_gangs_alike_but_for_which_of_their_pods_may_not_be_preempted_are_told_apart() -> None:
    """Both have pods of 1, 1 and 8 CPUs and the third may not be preempted; the guarantee covers the small one only."""
    world = World().node("n", cpu=100).tenant("a", guaranteed={"cpu": 3}).gang("a", "g", 3).gang("a", "h", 3)
    for gang, sizes in (("g", (1, 8, 1)), ("h", (1, 1, 8))):
        for number, cpu in enumerate(sizes):
            world.pod("a", f"{gang}{number}", group=gang, cpu=cpu, more={"preemptible": number != 2})

    assert world.run().running("a") == {"g0", "g1", "g2"}


def test_a_gang_for_one_kind_of_whose_pods_there_are_too_few_slots_is_not_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A driver that announces more than fits would otherwise fill the cluster at every look, in every order."""
    world = World().nodes(3, cpu=10).tenant("a").gang("a", "g", 41)
    state = world.pod("a", "driver", group="g", cpu=2).pods("a", 40, "x", group="g", cpu=1).state()
    tried: list[Pod] = []
    monkeypatch.setattr(Trial, "start", lambda _, pod, __: tried.append(pod))

    assert not Engine(state).cycle(1.0).starts
    assert not tried
