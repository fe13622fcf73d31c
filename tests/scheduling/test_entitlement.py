"""Entitlement against a naive filling, and the properties that the papers promise of it."""

from collections.abc import Mapping
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.entitlement.filling import Entitlement, Filling, fill
from allotment_scheduler.core.objects.nodes import PoolSpec
from allotment_scheduler.core.objects.pods import SchedulingSpec
from allotment_scheduler.core.objects.resources import Column
from allotment_scheduler.core.objects.selectors import LabelSelector, Requirement
from allotment_scheduler.core.state.invariants import overcommitted
from builders import filling_oracle
from builders.scheduling import World
from builders.worlds import worlds

SETTINGS = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)


def entitlement_of(world: World) -> tuple[Engine, Entitlement]:
    state = world.state()
    engine = Engine(state)
    return engine, engine.demand.entitlement()


def nonzero(
    cells: Mapping[str, Mapping[tuple[str, Column], Fraction]],
) -> dict[str, dict[tuple[str, Column], Fraction]]:
    kept = {name: {cell: x for cell, x in inside.items() if x} for name, inside in cells.items()}
    return {name: inside for name, inside in kept.items() if inside}


def assert_naive(world: World) -> None:
    """Entitlement is what the naive filling finds."""
    state = world.state()
    portions = Engine(state).demand.portions()

    want = filling_oracle.fill(state.forest.root, portions, state.measure)

    assert nonzero(fill(state.forest.root, portions, state.measure).cells) == nonzero(want.cells)


@SETTINGS
@given(worlds())
def test_the_filling_by_clocks_equals_the_naive_one(world: World) -> None:
    assert_naive(world)


FREE = {"cpu": Fraction(0), "memory": Fraction(0), "nvidia.com/gpu": Fraction(0)}


@st.composite
def orchards(draw: st.DrawFn) -> World:
    """Deep trees over two pools of different cost, with long rows of pods: what a filling leaps over."""
    world = World()
    for pool in ("a", "b"):
        gpu = draw(st.integers(0, 4))
        world.node(pool, labels={"pool": pool}, cpu=draw(st.integers(5, 30)), memory=draw(st.integers(5, 30)), gpu=gpu)
        cost = draw(st.sampled_from([{}, {}, {"cpu": Fraction(1, 3)}, FREE]))
        world.pool(PoolSpec(pool, LabelSelector((Requirement("pool", "In", (pool,)),)), cost=cost))
    caps = st.dictionaries(st.sampled_from(["cpu", "memory"]), st.integers(1, 25), min_size=1)
    some = st.one_of(st.none(), st.none(), caps)
    weights = st.sampled_from(["1", "1", "2", "0.3"])
    gpus = draw(st.booleans())
    for top in range(draw(st.integers(1, 3))):
        pooled = {pool: bound for pool in ("a", "b") if (bound := draw(some))}
        world.inner(
            f"d{top}", weight=draw(weights), limits=draw(some), guaranteed=draw(some), guaranteed_in=pooled or None
        )
        for leaf in range(draw(st.integers(1, 4))):
            inside = draw(st.one_of(st.none(), st.none(), caps))
            name = f"d{top}-{leaf}"
            world.tenant(
                name, f"d{top}", weight=draw(weights), limits=draw(some), guaranteed=draw(some),
                guaranteed_in={"b": inside} if inside else None,
            )  # fmt: skip
            only = draw(st.sampled_from([(), (), (("pool", "b"),)]))
            sizes = draw(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=3))
            for number in range(draw(st.integers(0, 14))):
                cpu, memory = sizes[number % len(sizes)]
                gpu = int(gpus and draw(st.booleans()))
                spec = SchedulingSpec((), node_selector=only)
                world.pod(name, f"p{number}", spec=spec, cpu=cpu, memory=memory, gpu=gpu)
    return world


@settings(SETTINGS, max_examples=10)
@given(orchards())
def test_a_leap_over_deep_trees_and_pools_equals_the_naive_filling(world: World) -> None:
    assert_naive(world)


def test_a_limit_that_is_met_together_with_the_guarantee_ends_all_demand_below() -> None:
    world = World().node("n", cpu=10, memory=10)
    world.inner("d0", guaranteed={"cpu": 7, "memory": 1}, limits={"cpu": 1}).tenant("d0-0", "d0")
    world.inner("d1").tenant("d1-0", "d1")
    world.pods("d0-0", 2, cpu=1, memory=1).pods("d1-0", 1, cpu=1, memory=1)

    assert_naive(world)


def test_a_leap_ends_where_a_guarantee_counts_again_though_no_sibling_pours_on() -> None:
    world = World().node("n", cpu=2, memory=3)
    world.inner("d0").tenant("t0", "d0", guaranteed={"memory": 1}).tenant("t1")
    world.pod("t1", "p", memory=2).pod("t0", "first", cpu=1).pod("t0", "second", memory=2)

    assert_naive(world)


Caps = dict[str, int] | None


@pytest.mark.parametrize(("limits", "guaranteed"), [({"cpu": 3}, None), (None, {"cpu": 2, "memory": 2})])
def test_limits_and_guarantees_are_leapt_over(limits: Caps, guaranteed: Caps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Filling, "_follow", lambda *_: pytest.fail("the filling is followed event by event"))
    world = World().node("n", cpu=100, memory=100, pods=1000)
    for number in range(12):
        bounded = number % 3 > 0
        world.tenant(
            f"t{number}", weight=1 + number % 2,
            limits=limits if bounded else None, guaranteed=guaranteed if bounded else None,
        )  # fmt: skip
        for pod in range(20):
            world.pod(f"t{number}", f"p{pod}", cpu=1 + pod % 2, memory=1 + (pod + number) % 3)

    assert_naive(world)


def test_what_changes_nobodys_demand_leaves_entitlement_as_it_is() -> None:
    world = World().node("n", cpu=4).tenant("a").tenant("b").pods("a", 3, cpu=1).pods("b", 3, cpu=1)
    engine, before = entitlement_of(world)
    engine.state.demand_version += 1

    assert engine.demand.entitlement() is before
    world.pod("a", "late", cpu=1)
    engine.state.apply(world.events[-1])
    assert engine.demand.entitlement() is not before


@settings(SETTINGS, max_examples=8)
@given(worlds())
def test_starts_and_evictions_do_not_move_entitlement(world: World) -> None:
    state = world.state()
    assume(not overcommitted(state))  # an evicted pod that no node can take leaves demand for good
    leaves = {pod.leaf for pod in state.pods.values() if pod.node is not None}
    assume(not any(leaf is not None and leaf.suspended for leaf in leaves))  # whom it evicts asks for nothing any more
    assume(all(pod.spec.preemptible for pod in state.pods.values()))  # coverage by guarantees follows what runs
    gangs = state.gangs.values()  # the rest of one that is not complete asks for nothing once it is evicted
    assume(all(gang.spec is None or len(gang.members) >= gang.min_member for gang in gangs))
    before = Engine(state).demand.entitlement().cells
    engine = Engine(state)
    engine.cycle(world.clock)
    engine.state.demand_version += 1

    assert nonzero(engine.demand.entitlement().cells) == nonzero(before)


demands = st.lists(
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.sampled_from(["1", "2", "3", "0.5"])), min_size=2, max_size=5
)


def flat(demand: list[tuple[int, int, str]], pods: int = 400) -> World:
    """Tenants with endless demand of one shape each, on 100 cores and 100 units of memory."""
    world = World().node("n", cpu=100, memory=100_000, pods=10_000)
    for number, (_, _, weight) in enumerate(demand):
        world.tenant(f"t{number}", weight=weight)
    for number, (cpu, memory, _) in enumerate(demand):
        world.pods(f"t{number}", pods // cpu, cpu=cpu, memory=memory * 1000)
    return world


def tasks(engine: Engine, e: Entitlement, demand: list[tuple[int, int, str]], holder: int, of: int) -> Fraction:
    """How many pods of tenant `of` the entitlement of tenant `holder` would carry."""
    tenant = engine.state.forest.by_name[f"t{holder}"]
    cpu, memory = (e.of(tenant, engine.state.resources.column(name)) for name in ("cpu", "memory"))
    return min(cpu / (1000 * demand[of][0]), memory / (1000 * demand[of][1]))


@settings(max_examples=15, deadline=None)
@given(demands)
def test_everyone_gets_at_least_its_weighted_part_of_the_cluster(demand: list[tuple[int, int, str]]) -> None:
    engine, e = entitlement_of(flat(demand))
    weights = [Fraction(weight) for _, _, weight in demand]
    for number, (cpu, memory, _) in enumerate(demand):
        alone = weights[number] / sum(weights) * min(Fraction(100, cpu), Fraction(100, memory))
        assert tasks(engine, e, demand, number, number) >= alone


@settings(max_examples=15, deadline=None)
@given(demands)
def test_nobody_envies_anybody(demand: list[tuple[int, int, str]]) -> None:
    engine, e = entitlement_of(flat(demand))
    weights = [Fraction(weight) for _, _, weight in demand]
    for me in range(len(demand)):
        for other in range(len(demand)):
            scaled = tasks(engine, e, demand, other, me) * weights[me] / weights[other]
            assert tasks(engine, e, demand, me, me) >= scaled


@settings(max_examples=15, deadline=None)
@given(demands)
def test_something_everyone_needs_is_used_up(demand: list[tuple[int, int, str]]) -> None:
    engine, e = entitlement_of(flat(demand))
    root = engine.state.forest.root
    totals = e.totals(root)
    assert (
        totals[engine.state.resources.column("cpu")] == 100_000
        or totals[engine.state.resources.column("memory")] == 100_000
    )


@settings(max_examples=15, deadline=None)
@given(demands, st.integers(1, 5), st.integers(1, 5))
def test_asking_for_more_than_one_needs_gains_nothing(
    demand: list[tuple[int, int, str]], cpu: int, memory: int
) -> None:
    honest_engine, honest = entitlement_of(flat(demand))
    true_needs = tasks(honest_engine, honest, demand, 0, 0)
    lie = [(max(cpu, demand[0][0]), max(memory, demand[0][1]), demand[0][2]), *demand[1:]]
    lying_engine, lied = entitlement_of(flat(lie))

    assert tasks(lying_engine, lied, demand, 0, 0) <= true_needs


def test_the_worked_example_of_the_paper() -> None:
    """NSDI'11 section 4.1: 9 CPUs, 18 GB; A asks for (1 CPU, 4 GB), B for (3 CPU, 1 GB): 3 and 2 tasks."""
    world = World().node("n", cpu=9, memory=18).tenant("a").tenant("b")
    world.pods("a", 9, cpu=1, memory=4).pods("b", 9, cpu=3, memory=1)
    engine, e = entitlement_of(world)
    cpu = engine.state.resources.column("cpu")

    assert e.of(engine.state.forest.by_name["a"], cpu) == 3000
    assert e.of(engine.state.forest.by_name["b"], cpu) == 6000


def test_a_guarantee_in_one_pool_is_no_claim_in_another() -> None:
    """A tenant that holds a guarantee of cards and uses none of them must not come first wherever it runs."""
    world = World().node("plain", labels={"pool": "plain"}, cpu=12).node("cards", labels={"pool": "cards"}, cpu=12)
    for name in ("plain", "cards"):
        world.pool(PoolSpec(name, LabelSelector((Requirement("pool", "In", (name,)),))))
    world.tenant("rich", guaranteed_in={"cards": {"cpu": 8}}).tenant("poor")
    plain = SchedulingSpec((), node_selector=(("pool", "plain"),))
    for name in ("rich", "poor"):
        world.pods(name, 12, cpu=1, spec=plain)
    engine, e = entitlement_of(world)
    cpu = engine.state.resources.column("cpu")

    assert [e.of(engine.state.forest.by_name[name], cpu) for name in ("rich", "poor")] == [6000, 6000]


def test_a_departments_guarantee_in_one_pool_gives_no_precedence_in_another() -> None:
    """Its tenants pour into both pools at once: it comes first only while guarantees cover all of that."""
    world = World().node("plain", labels={"pool": "plain"}, cpu=12).node("cards", labels={"pool": "cards"}, cpu=12)
    for name in ("plain", "cards"):
        world.pool(PoolSpec(name, LabelSelector((Requirement("pool", "In", (name,)),))))
    world.inner("dep", guaranteed_in={"cards": {"cpu": 8}}).tenant("x", "dep").tenant("y", "dep").tenant("other")
    for name, pool in (("x", "plain"), ("y", "cards"), ("other", "plain")):
        world.pods(name, 12, cpu=1, spec=SchedulingSpec((), node_selector=(("pool", pool),)))
    engine, e = entitlement_of(world)
    cpu = engine.state.resources.column("cpu")

    assert [e.of(engine.state.forest.by_name[name], cpu) for name in ("x", "y", "other")] == [4000, 12_000, 8000]


def test_a_member_that_fits_nowhere_does_not_hide_the_demand_of_a_gang_that_starts_without_it() -> None:
    world = World().node("n", cpu=2).tenant("a").gang("a", "g", 1)
    world.pod("a", "fits", group="g", cpu=1).pod("a", "never", group="g", cpu=1, gpu=1)
    engine, before = entitlement_of(world)
    cpu = engine.state.resources.column("cpu")
    engine.cycle(world.clock)
    engine.state.demand_version += 1

    assert before.of(engine.state.forest.by_name["a"], cpu) == 1000
    assert engine.demand.entitlement().of(engine.state.forest.by_name["a"], cpu) == 1000
