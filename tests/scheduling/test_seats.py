"""Seats: what a pod that its owner recreates took up is kept for its successor, on its node and of what its tenant may
have."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.explanation.explain import Explainer
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.nodes import PoolSpec
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.placement.holds import Hold
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.invariants import check
from builders.scheduling import World

STATEFUL: dict[str, Any] = {"owner": "sts", "owner_kind": "StatefulSet"}


def timed(world: World, **given: Any) -> Engine:
    return Engine(world.state(), Settings(least_runtime=1e9, **given))


def started(engine: Engine, now: float) -> dict[str, str]:
    done = {start.pod[1]: start.node for start in engine.cycle(now).starts}
    check(engine.state)
    return done


def leave(engine: Engine, *names: str) -> list[ev.PodSeen]:
    """Pods of tenant a go; returns what brings their successors."""
    specs = [engine.state.pods["a", name].spec for name in names]
    engine.state.apply_all([ev.PodGone(("a", name)) for name in names])
    return [ev.PodSeen(msgspec.structs.replace(spec, node=None, started=None, uid="new")) for spec in specs]


@pytest.mark.parametrize("kind", ["guarantee", "limit"])
@pytest.mark.parametrize("level", ["own", "above"])
def test_no_other_pod_takes_up_what_a_seat_has_of_a_bound(kind: str, level: str) -> None:
    bound: dict[str, Any] = {"guaranteed": {"cpu": 1}} if kind == "guarantee" else {"limits": {"cpu": 1}}
    fixed = {"preemptible": kind != "guarantee"}
    world = World().node("n", cpu=1).node("m", cpu=1)
    if level == "own":
        world.tenant("a", **bound)
    else:
        world.inner("up", **bound).tenant("a", "up")
    world.pod("a", "db-0", on="n", cpu=1, more=STATEFUL | fixed).pod("a", "other", cpu=1, more=fixed)
    engine = timed(world)

    assert started(engine, 10) == {}
    successor = leave(engine, "db-0")
    assert started(engine, 20) == {}
    why = Explainer(engine).why(engine.state.pods["a", "other"])
    assert why.code == ("BeyondGuarantee" if kind == "guarantee" else "AboveLimit")
    engine.state.apply_all(successor)
    assert started(engine, 30) == {"db-0": "n"}
    assert started(engine, 40) == {}


def test_a_seat_takes_up_no_bound_when_its_time_is_over() -> None:
    world = World().node("n", cpu=1).node("m", cpu=1).tenant("a", limits={"cpu": 1})
    engine = timed(world.pod("a", "db-0", on="n", cpu=1, more=STATEFUL).pod("a", "other", cpu=1), successor_hold=60)
    started(engine, 10)
    leave(engine, "db-0")

    assert [started(engine, now) for now in (20, 79)] == [{}, {}]
    assert len(started(engine, 80)) == 1


def test_a_seat_outlasts_a_node_that_is_not_ready_for_a_while() -> None:
    world = World().node("n", cpu=1).tenant("b").tenant("a")
    engine = timed(world.pod("a", "db-0", on="n", cpu=1, more=STATEFUL).pod("b", "other", cpu=1))
    started(engine, 10)
    node = engine.state.nodes.by_name["n"].spec
    engine.state.apply_all([ev.NodeSeen(replace(node, ready=False)), *leave(engine, "db-0")])

    assert started(engine, 20) == {}
    engine.state.apply(ev.NodeSeen(node))
    assert started(engine, 30) == {"db-0": "n"}


def test_a_successor_that_its_node_cannot_take_starts_elsewhere_and_gives_up_its_seat() -> None:
    world = World().node("n", cpu=1).node("m", cpu=1).tenant("a", limits={"cpu": 1}).tenant("b")
    engine = timed(world.pod("a", "db-0", on="n", cpu=1, more=STATEFUL))
    started(engine, 10)
    node = engine.state.nodes.by_name["n"].spec
    engine.state.apply_all([ev.NodeSeen(replace(node, ready=False)), *leave(engine, "db-0")])

    assert started(engine, 20) == {"db-0": "m"}
    world.pod("b", "next", cpu=1)
    engine.state.apply_all([ev.NodeSeen(node), world.events[-1]])
    assert started(engine, 30) == {"next": "n"}


def test_what_a_gang_lost_comes_back_together_to_its_seats() -> None:
    """Two members are missing at once: they are one unit, and their rooms are theirs."""
    job: dict[str, Any] = {"owner": "job", "owner_kind": "Job"}
    world = World().node("n", cpu=2).node("m", cpu=1).tenant("b").tenant("a").gang("a", "g", 3)
    world.pods("a", 2, "n", on="n", group="g", cpu=1, more=job).pod("a", "m0", on="m", group="g", cpu=1, more=job)
    engine = timed(world.pods("b", 3, "others", cpu=1))
    started(engine, 10)
    successors = leave(engine, "n1", "m0")

    assert started(engine, 20) == {}
    engine.state.apply_all(successors)
    back = started(engine, 30)
    assert set(back) == {"n1", "m0"}
    assert set(back.values()) == {"n", "m"}
    assert started(engine, 40) == {}


def test_a_seat_makes_nobody_a_victim() -> None:
    """It counts in no share: what its tenant runs beside it is not taken for it."""
    world = World().node("n", cpu=4).tenant("a").tenant("b")
    world.pods("a", 2, "db-", on="n", cpu=1, more=STATEFUL).pods("b", 2, "b", on="n", cpu=1).pod("b", "more", cpu=1)
    engine = Engine(world.state(), Settings(least_runtime=0, hysteresis=False))
    engine.cycle(10)
    leave(engine, "db-0")

    assert not engine.cycle(20).evictions


def test_no_seat_is_kept_for_pods_that_another_scheduler_places() -> None:
    theirs = STATEFUL | {"ours": False}
    world = World().node("n", cpu=4).tenant("a").pod("kube", "db-0", on="n", cpu=2, more=theirs)
    engine = timed(world.pods("a", 4, cpu=1))
    assert len(started(engine, 10)) == 2
    engine.state.apply(ev.PodGone(("kube", "db-0")))

    assert len(started(engine, 20)) == 2


def test_a_seat_ends_when_its_successor_is_seen_to_run_already() -> None:
    world = World().node("n", cpu=2).tenant("a").tenant("b").pod("a", "db-0", on="n", cpu=1, more=STATEFUL)
    engine = timed(world)
    started(engine, 10)
    back = msgspec.structs.replace(engine.state.pods["a", "db-0"].spec, uid="new")
    world.pod("b", "next", cpu=1)
    engine.state.apply_all([ev.PodGone(("a", "db-0")), ev.PodSeen(back), world.events[-1]])

    assert started(engine, 20) == {"next": "n"}
    assert not engine.holds.holds


def test_seats_cost_by_the_successors_that_have_come_not_by_all_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiting pod is compared with the seats of its own owner alone."""
    world = World().nodes(20, cpu=1).tenant("a").tenant("b")
    for number in range(20):
        world.pod("a", f"db-{number}", on=f"n{number:02}", cpu=1, more=STATEFUL | {"owner": f"sts-{number}"})
    engine = timed(world.pods("b", 50, cpu=1))
    started(engine, 10)
    leave(engine, *(f"db-{number}" for number in range(1, 20)))
    successor = leave(engine, "db-0")
    engine.state.apply_all(successor)
    asked: list[Pod] = []
    is_for = Hold.is_for

    def noted(hold: Hold, pod: Pod) -> bool:
        asked.append(pod)
        return is_for(hold, pod)

    monkeypatch.setattr(Hold, "is_for", noted)

    assert started(engine, 20) == {"db-0": "n00"}
    assert len(asked) == 1


@pytest.mark.parametrize("where", ["everywhere", "pool"])
def test_why_a_guarantee_does_not_suffice_counts_seats_too(where: str) -> None:
    fixed = {"preemptible": False}
    bound: dict[str, Any] = {"guaranteed": {"cpu": 2}}
    if where == "pool":
        bound = {"guaranteed_in": {"p": {"cpu": 2}}}
    world = World().pool(PoolSpec("p")).node("n", cpu=4).node("m", cpu=4).tenant("a", **bound)
    world.pods("a", 2, "db-", on="n", cpu=1, more=STATEFUL | fixed).pod("a", "other", cpu=1, more=fixed)
    engine = timed(world)
    started(engine, 10)
    leave(engine, "db-0")
    started(engine, 20)

    why = Explainer(engine).why(engine.state.pods["a", "other"])
    assert why.code == "BeyondGuarantee"
    assert ("uses 2 cpu" if where == "everywhere" else "2 are in use") in why.message


def test_a_cycle_that_fails_gives_the_rooms_of_seats_back(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World().node("n", cpu=4).tenant("a").pod("a", "db-0", on="n", cpu=4, more=STATEFUL)
    engine = timed(world)
    started(engine, 10)
    leave(engine, "db-0")
    with monkeypatch.context() as patched:
        patched.setattr(Engine, "_serve", fail)
        with pytest.raises(ZeroDivisionError):
            engine.cycle(20)
    free = engine.state.nodes.free[0, 0]
    engine.state.apply(ev.NodeSeen(replace(engine.state.nodes.by_name["n"].spec, labels={"x": "y"})))
    started(engine, 5000)

    assert (free, engine.state.nodes.free[0, 0]) == (4000, 4000)


def fail(*_given: object) -> None:
    raise ZeroDivisionError("a fault of ours")


@pytest.mark.parametrize(
    ("change", "begin"),
    [({"suspended": True}, {}), ({"limits": {"cpu": 0}}, {}), ({"limits": {"cpu": 1}}, {"db-0": "n"})],
    ids=["suspended", "limited", "within its limit"],
)
def test_a_successor_starts_in_its_seat_only_as_its_tenant_may_now(
    change: dict[str, Any], begin: dict[str, str]
) -> None:
    """Also where the tenant has changed since its successor came."""
    world = World().node("n", cpu=1).tenant("a").pod("a", "db-0", on="n", cpu=1, more=STATEFUL)
    engine = timed(world)
    successor = leave(engine, "db-0")
    assert started(engine, 10) == {}

    engine.state.apply_all(successor)
    engine.state.apply(world.tenant("a", **change).events[-1])

    assert started(engine, 20) == begin
