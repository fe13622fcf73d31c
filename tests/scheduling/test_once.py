"""Who was evicted claims by priority alone until demand has changed: what follows from our own doing changes none."""

from typing import Any

import pytest
from msgspec.structs import replace

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.attachments import Claim, StorageClass, Volume
from allotment_scheduler.core.objects.devices import Holding
from allotment_scheduler.core.objects.pods import SchedulingSpec
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.cluster import ClusterState
from builders.scheduling import World


def replaced() -> ClusterState:
    """A pod was evicted, has gone, and waits again under another name."""
    world, claims = World().node("n", cpu=1).tenant("t"), SchedulingSpec((), claims=("data", "again-scratch"))
    world.events.append(ev.StorageSeen(Volume("v", capacity=1, claimed_by=("t", "data"))))
    world.pod("t", "low", on="n", cpu=1, spec=claims, more={"owner": "rs"})
    state = world.pod("t", "high", cpu=1, priority=5).pod("t", "meek", cpu=1).state()
    spec = state.pods["t", "low"].spec
    [evict] = Engine(state, Settings(least_runtime=0.0)).cycle(1000.0).evictions
    state.apply(ev.PodLeaving(evict.pod, evict.node))
    state.apply(ev.PodGone(evict.pod))
    state.apply(ev.PodSeen(replace(spec, name="again", uid="again", node=None, started=None)))
    assert state.is_spent(state.pods["t", "again"])
    return state


@pytest.mark.parametrize(
    "event",
    [
        ev.StorageSeen(Claim("t", "again-scratch", owner="again")),
        ev.StorageSeen(Claim("t", "data", selected_node="n")),
        ev.StorageSeen(Volume("v", claimed_by=("t", "data"))),
        ev.StorageGone(Volume("v", claimed_by=("t", "data"))),
        ev.StorageGone(Holding(("t", "gpu"), ())),
    ],
    ids=lambda event: f"{type(event).__name__} {type(event.item).__name__}",
)
def test_what_comes_and_goes_with_pods_changes_no_demand(event: Any) -> None:
    state = replaced()
    before = state.own_version
    state.apply(event)
    state.settle()
    assert state.is_spent(state.pods["t", "again"])
    assert state.own_version > before, "what could start may be another"


@pytest.mark.parametrize(
    ("name", "change"),
    [("high", {"spared": True}), ("meek", {"never_preempts": True})],
    ids=["a victim is spared", "a claimant is barred"],
)
def test_what_we_decide_about_a_pod_changes_no_demand(name: str, change: dict[str, Any]) -> None:
    state = replaced()
    state.apply(ev.PodSeen(replace(state.pods["t", name].spec, **change)))
    assert state.is_spent(state.pods["t", "again"])


def test_that_an_eviction_is_given_up_changes_no_demand_and_that_somebody_deletes_a_pod_does() -> None:
    world = World().nodes(2, cpu=1).tenant("t").pod("t", "a", on="n00", cpu=1).pod("t", "b", on="n01", cpu=1)
    state = world.state()
    spec, version = state.pods["t", "a"].spec, state.demand_version
    state.apply(ev.PodSeen(replace(spec, deleting=True)))
    assert state.demand_version > version
    version = state.demand_version
    state.apply(ev.PodSeen(replace(spec, deleting=False)))
    assert state.demand_version == version


def test_a_storage_class_changes_demand() -> None:
    state = replaced()
    state.apply(ev.StorageSeen(StorageClass("fast")))
    assert not state.is_spent(state.pods["t", "again"])
