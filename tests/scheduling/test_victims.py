"""Who may be a victim at all."""

from typing import Any

import pytest

from allotment_scheduler.core.eviction.victims import victim_of
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.state.cluster import ClusterState
from builders.scheduling import World


def running(name: str = "p", tenant: str = "a", **more: Any) -> World:
    return World().node("n", cpu=9).tenant("a").pod(tenant, name, on="n", cpu=1, more=more)


def test_a_running_pod_of_a_tenant_is_one() -> None:
    state = running().state()
    victim = victim_of(state.pods["a", "p"], state)

    assert victim is not None
    assert (victim.pods, victim.leaf.name) == ([state.pods["a", "p"]], "a")


def test_a_pod_of_no_tenant_is_none() -> None:
    state = running(tenant="nobody").state()

    assert state.pods["nobody", "p"].node == "n"
    assert victim_of(state.pods["nobody", "p"], state) is None


def test_a_pod_that_waits_is_none() -> None:
    state = World().node("n", cpu=9).tenant("a").pod("a", "p", cpu=1).state()

    assert victim_of(state.pods["a", "p"], state) is None


@pytest.mark.parametrize(
    "nature",
    [{"preemptible": False}, {"ours": False}, {"spared": True}],
    ids=["not preemptible", "another scheduler's", "spared"],
)
def test_what_may_not_be_evicted_is_none_nor_is_its_gang_at_its_minimum(nature: dict[str, Any]) -> None:
    state = running(**nature).state()
    assert victim_of(state.pods["a", "p"], state) is None

    def gang(minimum: int) -> ClusterState:
        world = World().node("n", cpu=9).tenant("a").gang("a", "g", minimum)
        world.pod("a", "plain", on="n", cpu=1, group="g").pod("a", "kept", on="n", cpu=1, group="g", more=nature)
        return world.state()

    whole, elastic = gang(2), gang(1)
    assert victim_of(whole.pods["a", "plain"], whole) is None
    single = victim_of(elastic.pods["a", "plain"], elastic)
    assert single is not None
    assert [pod.spec.name for pod in single.pods] == ["plain"]


def test_a_pod_on_its_way_out_is_none() -> None:
    state = running(deleting=True).state()
    assert victim_of(state.pods["a", "p"], state) is None


@pytest.mark.parametrize(("minimum", "go"), [(1, 1), (2, 2), (3, 2)])
def test_a_gang_of_which_one_is_on_its_way_out_goes_as_those_that_stay(minimum: int, go: int) -> None:
    """One of them is as many as it can do without only while enough others stay."""
    world = World().node("n", cpu=9).tenant("a").gang("a", "g", minimum).pods("a", 2, "stays", on="n", cpu=1, group="g")
    state = world.pod("a", "leaves", on="n", cpu=1, group="g", more={"deleting": True}).state()

    victim = victim_of(state.pods["a", "stays0"], state)
    assert victim is not None
    assert sorted(pod.spec.name for pod in victim.pods) == ["stays0", "stays1"][:go]


def test_of_a_gang_only_those_that_run_go() -> None:
    world = World().node("n", cpu=2).tenant("a").gang("a", "g", 2)
    state = world.pods("a", 2, "r", on="n", cpu=1, group="g").pod("a", "w", cpu=1, group="g").state()
    victim = victim_of(state.pods["a", "r0"], state)

    assert victim is not None
    assert [pod.spec.name for pod in victim.pods] == ["r1", "r0"]
    assert dict(victim.asks) == {state.resources.column("cpu"): 2000}


def test_a_room_that_is_held_for_an_expected_member_is_none() -> None:
    state = running().state()
    pod = state.pods["a", "p"]
    pod.phantom = True

    assert victim_of(pod, state) is None


def test_nor_is_a_pod_whose_tenant_has_gone() -> None:
    state = running().state()
    state.apply(ev.TenantGone("a"))
    state.settle()

    assert victim_of(state.pods["a", "p"], state) is None
