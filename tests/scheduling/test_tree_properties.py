"""What a tree of tenants may rely on, and what every simulation leaves behind, on random small worlds."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.objects.resources import PODS
from allotment_scheduler.core.objects.tenants import Bounds
from allotment_scheduler.core.state.cluster import ClusterState
from builders.scheduling import NAMES, World
from builders.worlds import worlds

SETTINGS = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])

weights = st.sampled_from(["0.5", "1", "2", "3"])
leaves = st.lists(st.tuples(weights, st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=3)
trees = st.lists(st.tuples(weights, leaves), min_size=2, max_size=3)
"""Groups with their leaves; every leaf has endless demand of its own shape (cores, memory)."""

Tree = list[tuple[str, list[tuple[str, int, int]]]]


def grown(tree: Tree) -> World:
    """The tree as tenants g0, g0-0, g0-1, … on one large node."""
    world = World().node("n", cpu=60, memory=60, pods=10_000)
    for number, (weight, below) in enumerate(tree):
        world.inner(f"g{number}", weight=weight)
        for index, (own, cpu, memory) in enumerate(below):
            world.tenant(f"g{number}-{index}", f"g{number}", weight=own)
            world.pods(f"g{number}-{index}", 61, cpu=cpu, memory=memory)
    return world


def dominant(world: World) -> dict[str, Fraction]:
    """Every tenant's dominant share of its entitlement."""
    state = world.state()
    e = Engine(state).demand.entitlement()
    totals = state.measure.totals
    return {
        name: max(e.of(it, column) / totals[column] for column in totals) for name, it in state.forest.by_name.items()
    }


@SETTINGS
@given(trees)
def test_every_tenant_is_entitled_to_its_weighted_part_of_what_its_parent_has(tree: Tree) -> None:
    share = dominant(grown(tree))

    at_the_top = sum(Fraction(weight) for weight, _ in tree)
    for number, (weight, below) in enumerate(tree):
        assert share[f"g{number}"] >= Fraction(weight) / at_the_top
        inside = sum(Fraction(own) for own, _, _ in below)
        for index, (own, _, _) in enumerate(below):
            assert share[f"g{number}-{index}"] >= Fraction(own) / inside * share[f"g{number}"]


@SETTINGS
@given(trees)
def test_siblings_with_endless_demand_are_entitled_to_equal_weighted_shares(tree: Tree) -> None:
    share = dominant(grown(tree))

    for left, right in pairwise(range(len(tree))):
        assert share[f"g{left}"] / Fraction(tree[left][0]) == share[f"g{right}"] / Fraction(tree[right][0])


@SETTINGS
@given(trees, st.lists(weights, min_size=2, max_size=4))
def test_splitting_a_tenant_into_children_of_the_same_demand_gains_nothing(tree: Tree, parts: list[str]) -> None:
    (weight, below), *others = tree
    _, cpu, memory = below[0]
    whole = dominant(grown([(weight, [("1", cpu, memory)]), *others]))
    split = dominant(grown([(weight, [(own, cpu, memory) for own in parts]), *others]))

    assert split["g0"] == whole["g0"]


@SETTINGS
@given(
    st.lists(
        st.lists(st.tuples(weights, st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=3),
        min_size=2,
        max_size=3,
    )
)
def test_whoever_asks_for_something_is_entitled_to_some_of_it(groups: list[list[tuple[str, int, int]]]) -> None:
    world = World().node("n", cpu=12, gpu=12, memory=1, pods=10_000)
    for number, below in enumerate(groups):
        world.inner(f"g{number}")
        for index, (weight, cpu, gpu) in enumerate(below):
            world.tenant(f"g{number}-{index}", f"g{number}", weight=weight)
            if cpu or gpu:
                world.pods(f"g{number}-{index}", 13, cpu=cpu, gpu=gpu)
    share = dominant(world)

    for number, below in enumerate(groups):
        for index, (_, cpu, gpu) in enumerate(below):
            assert bool(share[f"g{number}-{index}"]) == bool(cpu or gpu)


def startable(state: ClusterState) -> Iterator[Pod]:
    """Waiting pods that may start alone: no gang, no suspension, nothing that only a guarantee would let in."""
    for pod in state.waiting():
        if pod.leaf is not None and not pod.leaf.suspended and pod.spec.preemptible and pod.spec.group is None:
            yield pod


@SETTINGS
@given(worlds())
def test_nothing_that_fits_is_left_waiting(world: World) -> None:
    state = world.run().state

    for pod in startable(state):
        amounts = dict(pod.klass.amounts)
        assert pod.leaf is not None
        limited = any(
            column in tenant.limits and tenant.used[column] + amount > tenant.limits[column]
            for tenant in pod.leaf.path for column, amount in amounts.items()
        )  # fmt: skip
        room = [
            node.spec.name for node in state.nodes.by_name.values()
            if all(state.nodes.free[column, node.index] >= amount for column, amount in amounts.items())
        ]  # fmt: skip
        assert limited or not room, f"{pod.spec.name} fits on {room} and waits"


victims = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2)), min_size=1, max_size=6)


@SETTINGS
@given(victims, st.integers(1, 8))
def test_no_victim_could_have_been_spared(sizes: list[tuple[int, int]], wanted: int) -> None:
    """Put back any one of the victims, and the claimant no longer fits."""
    total = sum(size for size, _ in sizes)
    world = World().node("n", cpu=total).tenant("a")
    for number, (size, priority) in enumerate(sizes):
        world.pod("a", f"v{number}", on="n", cpu=size, priority=priority)
    done = world.pod("a", "urgent", cpu=wanted, priority=3).run()

    freed = [sizes[int(name[1:])][0] for name in done.evicted]
    if wanted > total:
        assert not freed
    else:
        assert sum(freed) >= wanted
        assert all(sum(freed) - one < wanted for one in freed)


def scaled(world: World, resource: str, factor: int) -> World:
    """The same world with one resource counted in another unit."""

    def more(amounts: dict[str, int]) -> dict[str, int]:
        return {name: amount * factor if name == resource else amount for name, amount in amounts.items()}

    def bound(given: Bounds) -> Bounds:
        return Bounds(more(dict(given.total)), {pool: more(dict(it)) for pool, it in given.pools.items()})

    out = World(clock=world.clock)
    for event in world.events:
        match event:
            case ev.NodeSeen(spec):
                out.events.append(ev.NodeSeen(replace(spec, allocatable=more(dict(spec.allocatable)))))
            case ev.TenantSeen(spec):
                changed = replace(spec, guaranteed=bound(spec.guaranteed), limits=bound(spec.limits))
                out.events.append(ev.TenantSeen(changed))
            case ev.PodSeen(spec):
                requests = tuple(sorted(more(dict(spec.scheduling.requests)).items()))
                out.events.append(
                    ev.PodSeen(structs.replace(spec, scheduling=replace(spec.scheduling, requests=requests)))
                )
            case other:
                out.events.append(other)
    return out


@SETTINGS
@given(worlds(), st.sampled_from(["cpu", "memory", NAMES["gpu"]]), st.sampled_from([2, 7, 1024]))
def test_the_unit_in_which_a_resource_is_counted_changes_no_decision(world: World, resource: str, factor: int) -> None:
    first, second = world.run(), scaled(world, resource, factor).run()

    assert [done.decisions for done in first.outcome.rounds] == [done.decisions for done in second.outcome.rounds]


@SETTINGS
@given(worlds())
def test_a_tenant_that_asks_for_nothing_changes_no_decision(world: World) -> None:
    beside = World(list(world.events), world.clock).tenant("zz-idle", weight=5)

    assert [it.decisions for it in world.run().outcome.rounds] == [it.decisions for it in beside.run().outcome.rounds]


@SETTINGS
@given(worlds())
def test_use_is_the_sum_of_what_runs_at_every_level(world: World) -> None:
    state = world.run().state

    for tenant in state.forest.by_name.values():
        below = [pod for pod in state.pods.values() if pod.node and pod.leaf is not None and tenant in pod.leaf.path]
        assert tenant.used[PODS] == len(below)
