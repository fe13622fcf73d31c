"""What users of other schedulers complain of most, each played once: it must not happen here.

That one bad queue stops everybody is played where bad objects are: in test_tenant_versions.py and test_isolation.py,
and for what the API server sends in scheduler_live/test_picture.py.
"""

from collections.abc import Callable

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import PodAffinityTerm, SchedulingSpec, SpreadConstraint
from allotment_scheduler.core.objects.selectors import LabelSelector, Requirement
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.core.state.invariants import check
from builders.promises import Promises
from builders.scheduling import World

CROWD = LabelSelector((Requirement("app", "In", ("crowd",)),))


# --- two tenants take turns for ever (Kueue#14543, #3779, #2821; Volcano#4947, #4949, #561) -------------------------


def ring() -> World:
    """By R1 or R2 from a tenant that then evicts its own pods of low priority by P, so that R1 gives the room back."""
    world = World().node("n", cpu=3, memory=5)
    world.tenant("a", guaranteed={"cpu": 2, "memory": 1}).tenant("b", guaranteed={"cpu": 2, "memory": 5})
    world.pod("b", "small", on="n", cpu=1, memory=1).pod("a", "wide", cpu=2, memory=3, priority=2)
    world.pod("a", "bare", cpu=2, priority=1).pod("a", "low", on="n", cpu=2, memory=1)
    return world.pod("b", "large", cpu=2, memory=3, priority=2)


def rounds(world: World, most: int) -> int:
    """Cycles until nothing more is decided."""
    engine = Engine(world.state())
    return next((number for number in range(most) if not engine.cycle(world.clock)), most)


def test_evictions_come_to_an_end_where_tenants_could_take_turns() -> None:
    assert rounds(ring(), 40) <= 5


def test_they_would_not_if_the_evicted_could_claim_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the world above is one that needs the rule: whoever was evicted claims by P alone until demand changes."""
    monkeypatch.setattr(ClusterState, "is_spent", lambda *_: False)

    assert rounds(ring(), 40) == 40


# --- victims die, and the claimant cannot start after all (Volcano#4926, Kueue#5243) ---------------------------------

OBSTACLES = {
    "a pod that it repels stays": SchedulingSpec((), anti_affinity=(PodAffinityTerm("name", CROWD),)),
    "its like would be spread unevenly": SchedulingSpec(
        (), spread=(SpreadConstraint("zone", 1, hard=True, selector=CROWD),)
    ),
    "the port is taken by a pod that stays": SchedulingSpec((), host_ports=(("TCP", "0.0.0.0", 80),)),
    "the pod that it needs beside it is nowhere": SchedulingSpec(
        (), affinity=(PodAffinityTerm("name", LabelSelector((Requirement("app", "In", ("nobody",)),))),)
    ),
    "no node has the label that it selects": SchedulingSpec((), node_selector=(("disk", "fast"),)),
}


def full_nodes(claimant: SchedulingSpec) -> World:
    """Two pods may go from the first node, where one stays; nobody may go from the second, in another zone."""
    world = World().node("n", cpu=3, labels={"name": "n", "zone": "z1"})
    world.node("m", cpu=1, labels={"name": "m", "zone": "z2"}).tenant("a").tenant("b", guaranteed={"cpu": 2})
    stays = {"preemptible": False}
    port = SchedulingSpec((), host_ports=(("TCP", "0.0.0.0", 80),))
    world.pod("b", "stays", on="n", cpu=1, labels={"app": "crowd"}, spec=port, more=stays)
    world.pod("a", "alone", on="m", cpu=1, more=stays).pods("a", 2, "a", on="n", cpu=1)
    return world.pod("b", "claims", cpu=1, labels={"app": "crowd"}, spec=claimant)


@pytest.mark.parametrize("obstacle", OBSTACLES.values(), ids=list(OBSTACLES))
def test_nobody_dies_where_more_than_room_is_missing(obstacle: SchedulingSpec) -> None:
    done = full_nodes(obstacle).run()

    assert done.evicted == []
    assert done.waiting("b") == {"claims"}


def test_where_room_is_all_that_is_missing_one_goes() -> None:
    assert len(full_nodes(SchedulingSpec(())).run().evicted) == 1


# --- admitted by quota, fitting no node, and in everybody's way (Kueue#4329, #5243) ---------------------------------


def test_a_gang_within_its_guarantee_that_no_nodes_take_uses_nothing_and_holds_up_nobody() -> None:
    """Two pods of 3 CPUs, and 6 CPUs free: 2 on each of three nodes."""
    world = World().nodes(3, cpu=4).tenant("owner", guaranteed={"cpu": 6}).tenant("other")
    for node in ("n00", "n01", "n02"):
        world.pod("other", f"stays-{node}", on=node, cpu=2, more={"preemptible": False})
    world.gang("owner", "g", 2).pods("owner", 2, "g", group="g", cpu=3).pods("other", 3, "later", cpu=1)

    done = world.run()

    cpu = done.state.resources.column("cpu")
    assert done.running("owner") == set()
    assert done.state.forest.by_name["owner"].used[cpu] == 0
    assert done.evicted == []
    assert done.waiting("other") == set(), "what is free is not kept for whom it does not fit"


# --- big gangs starve behind small jobs (KAI#1969, Volcano#13, Kueue#8309) ------------------------------------------


@pytest.mark.parametrize(("reservations", "starts"), [(1, True), (0, False)])
def test_a_large_gang_starts_in_bounded_time_beside_an_endless_stream(reservations: int, starts: bool) -> None:
    """Small jobs of 100 s fill eight cores, two come every 25 s: there are never four cores free at once by chance."""
    world = World().nodes(4, cpu=2).tenant("small").tenant("large").gang("large", "g", 2)
    settings = Settings(age=60.0, reservations_per_pool=reservations, least_runtime=1e9)
    engine, running = Engine(world.state(), settings), dict[str, float]()
    for turn in range(40):
        now = world.clock = 1000.0 + 25 * turn
        told = len(world.events)
        for name in [name for name, end in running.items() if end <= now]:
            engine.state.apply(ev.PodGone(("small", name)))
            del running[name]
        world.pods("small", 2, f"s{turn}-", cpu=1, more={"max_runtime": 100.0})
        if turn == 6:
            world.pods("large", 2, "g", group="g", cpu=2)
        engine.state.apply_all(world.events[told:])
        done = engine.cycle(now)
        running |= {start.pod[1]: now + 100 for start in done.starts if start.pod[0] == "small"}
        if any(start.pod[0] == "large" for start in done.starts):
            break
    gang = engine.state.gangs["large", "g"]

    assert (gang.running == 2) is starts, f"after {turn} turns"


# --- poison: one job that wins every cycle and comes to nothing (KAI#2074, Volcano#2814, spark-operator#2512) -------


def test_who_is_refused_again_and_again_is_set_aside_and_the_others_start() -> None:
    """The API server rejects its binding each time; it is first in line, and takes the only free core each time."""
    world = World().node("n", cpu=2).tenant("t").pod("t", "poison", cpu=2, priority=9).pod("t", "good", cpu=1)
    engine = Engine(world.state(), Settings())
    assert started(engine, 1000.0) == ["poison"]

    for failure, now in enumerate((1000.0, 1100.0)):
        engine.state.apply(ev.StartForgotten(("t", "poison")))
        engine.state.apply(ev.PodSetAside(("t", "poison"), now + 50 * 2**failure, "403: no"))
        assert started(engine, now + 1) == (["good"] if failure == 0 else [])
        if failure == 0:
            engine.state.apply(ev.PodGone(("t", "good")))
            assert started(engine, now + 40) == []
            assert started(engine, now + 60) == ["poison"], "it is tried again in its time"
    assert started(engine, 1190.0) == []


@pytest.mark.parametrize(
    "crowd",
    [
        pytest.param(lambda world: world.pods("t", 300, "huge", cpu=9, priority=9), id="pods that fit no node"),
        pytest.param(
            lambda world: world.gang("t", "g", 3).pods("t", 3, "g", group="g", cpu=2, priority=9), id="a gang too large"
        ),
        pytest.param(
            lambda world: world.gang("t", "g", 3).pods("t", 2, "g", group="g", cpu=1, priority=9), id="half a gang"
        ),
        pytest.param(
            lambda world: world.pod("t", "odd", cpu=1, priority=9, more={"invalid": "its request makes no sense"}),
            id="a request that makes no sense",
        ),
    ],
)
def test_whoever_cannot_start_at_the_head_of_the_line_holds_up_nobody(crowd: Callable[[World], World]) -> None:
    """The least of all is tried in the same cycle, in its own tenant and in another."""
    world = World().node("n", cpu=2).node("m", cpu=2).tenant("t").tenant("u")
    crowd(world).pod("t", "low", cpu=1, priority=-5).pod("u", "low", cpu=1, priority=-5)
    engine = Engine(world.state(), Settings())

    assert started(engine, 1000.0) == ["low", "low"]


def started(engine: Engine, now: float) -> list[str]:
    """Names of the pods that a cycle starts; every promise holds."""
    promises = Promises.before(engine.state)
    done = engine.cycle(now)
    check(engine.state)
    promises.hold(done, engine.state)
    return [start.pod[1] for start in done.starts]
