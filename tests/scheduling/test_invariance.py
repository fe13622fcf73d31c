"""What decisions do not depend on: names, the order in which events came, the units that amounts are counted in.

Ties are broken by names: nodes, tenants and pools come in the order of theirs. So renaming keeps every decision as long
as it keeps that order; for pods, whose names decide nothing, any new names will do.
"""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.decisions import Evict
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.tenants import Bounds
from allotment_scheduler.core.simulate import run_to_fixpoint
from allotment_scheduler.core.state.cluster import ClusterState
from builders.scheduling import World
from builders.worlds import worlds

SETTINGS = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LONG = settings(SETTINGS, max_examples=150)
SCALED = ("cpu", "memory", "nvidia.com/gpu")
FACTORS = st.fixed_dictionaries({name: st.sampled_from([1, 2, 3, 1000, 1024]) for name in SCALED})
RATIOS = st.sampled_from(["0.5", "3", "7"])


def decided(events: list[ev.Event]) -> list[tuple[str, ...]]:
    """Every decision to the end, as plain names."""
    state = ClusterState()
    state.apply_all(events)
    state.settle()
    decisions = [it for done in run_to_fixpoint(Engine(state), 100.0).rounds for it in done.decisions]
    return [(*it.pod, it.node, *((it.rule, *it.claimant) if isinstance(it, Evict) else ())) for it in decisions]


def renamed(name: str) -> str:
    """Another name in the same order."""
    return f"the-{name}-of-old" if name else name


def with_other_names(event: ev.Event, pods: dict[str, str]) -> ev.Event:
    match event:
        case ev.NodeSeen(spec=node):
            return ev.NodeSeen(replace(node, name=renamed(node.name)))
        case ev.TenantSeen(spec=tenant):
            owned = tuple(map(renamed, tenant.namespaces))
            return ev.TenantSeen(
                replace(tenant, name=renamed(tenant.name), parent=renamed(tenant.parent), namespaces=owned)
            )
        case ev.GroupSeen(spec=group):
            return ev.GroupSeen(replace(group, namespace=renamed(group.namespace), name=pods[group.name]))
        case ev.PodSeen(spec=pod):
            return ev.PodSeen(
                structs.replace(
                    pod, namespace=renamed(pod.namespace), name=pods[pod.name],
                    node=pod.node and renamed(pod.node), group=pod.group and pods[pod.group],
                )
            )  # fmt: skip
    return event


def scaled(amounts: dict[str, int], factor: dict[str, int]) -> dict[str, int]:
    return {name: amount * factor.get(name, 1) for name, amount in amounts.items()}


def in_other_units(event: ev.Event, factor: dict[str, int]) -> ev.Event:
    match event:
        case ev.NodeSeen(spec=node):
            return ev.NodeSeen(replace(node, allocatable=scaled(dict(node.allocatable), factor)))
        case ev.TenantSeen(spec=tenant):
            guaranteed, limits = (
                Bounds(scaled(dict(bounds.total), factor)) for bounds in (tenant.guaranteed, tenant.limits)
            )
            return ev.TenantSeen(replace(tenant, guaranteed=guaranteed, limits=limits))
        case ev.PodSeen(spec=pod):
            requests = tuple(scaled(dict(pod.scheduling.requests), factor).items())
            return ev.PodSeen(structs.replace(pod, scheduling=replace(pod.scheduling, requests=requests)))
    return event


@SETTINGS
@given(worlds(), st.integers(0, 2**32))
def test_names_decide_nothing_but_ties(world: World, seed: int) -> None:
    names = sorted({it.spec.name for it in world.events if isinstance(it, ev.PodSeen | ev.GroupSeen)})
    others = [f"x{number}" for number in range(len(names))]
    Random(seed).shuffle(others)
    pods = dict(zip(names, others, strict=True))
    places = {it.spec.name for it in world.events if isinstance(it, ev.NodeSeen | ev.TenantSeen)}
    back = {other: name for name, other in pods.items()} | {renamed(name): name for name in places}

    found = decided([with_other_names(event, pods) for event in world.events])

    assert [tuple(back.get(word, word) for word in line) for line in found] == decided(world.events)


@SETTINGS
@given(worlds(), st.integers(0, 2**32))
def test_the_order_of_events_decides_nothing_but_ties_of_age(world: World, seed: int) -> None:
    """Each pod of these worlds is a second younger than the one before, so there are none."""
    shuffled = list(world.events)
    Random(seed).shuffle(shuffled)

    assert decided(shuffled) == decided(world.events)


@SETTINGS
@given(worlds(), FACTORS)
def test_the_units_of_a_resource_decide_nothing(world: World, factor: dict[str, int]) -> None:
    assert decided([in_other_units(event, factor) for event in world.events]) == decided(world.events)


@SETTINGS
@given(worlds(), RATIOS)
def test_only_the_ratio_of_weights_counts(world: World, by: str) -> None:
    heavier = [
        ev.TenantSeen(replace(it.spec, weight=it.spec.weight * type(it.spec.weight)(by)))
        if isinstance(it, ev.TenantSeen) else it
        for it in world.events
    ]  # fmt: skip

    assert decided(heavier) == decided(world.events)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@LONG
@given(worlds(), st.integers(0, 2**32), FACTORS, RATIOS)
def test_nothing_of_this_decides_in_many_worlds(world: World, seed: int, factor: dict[str, int], by: str) -> None:
    for test, drawn in (
        (test_names_decide_nothing_but_ties, seed),
        (test_the_order_of_events_decides_nothing_but_ties_of_age, seed),
        (test_the_units_of_a_resource_decide_nothing, factor),
        (test_only_the_ratio_of_weights_counts, by),
    ):
        test.hypothesis.inner_test(world, drawn)  # type: ignore[attr-defined]  # hypothesis' own way to the bare test


@pytest.mark.parametrize("many", [1, 2, 5])
def test_tenants_without_demand_change_nothing_for_the_others(many: int) -> None:
    def shared(idle: int) -> World:
        world = World().node("n", cpu=8).tenant("a").tenant("b", weight=3).pods("a", 8, "a", cpu=1)
        for number in range(idle):
            world.tenant(f"idle{number}", weight=9)
        return world.pods("b", 8, "b", cpu=1)

    assert decided(shared(many).events) == decided(shared(0).events)
