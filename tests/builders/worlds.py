"""Random small clusters: trees, weights, limits, guarantees, gangs (elastic, of unlike pods), priorities.

Rich ones may also have two pools with prices and with bounds of their own, a taint, disruption budgets, neighbours that
repel each other or spread, and pods that never preempt.
"""

from dataclasses import replace
from fractions import Fraction

from hypothesis import strategies as st

from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.nodes import PoolSpec
from allotment_scheduler.core.objects.pods import PodAffinityTerm, SchedulingSpec, SpreadConstraint
from allotment_scheduler.core.objects.selectors import LabelSelector, Requirement, Taint
from builders.scheduling import World

POOLS = ("p", "q")
CROWD = LabelSelector((Requirement("app", "In", ("crowd",)),))
NEIGHBOURS = {
    "": SchedulingSpec(()),
    "repels": SchedulingSpec((), anti_affinity=(PodAffinityTerm("name", CROWD),)),
    "spreads": SchedulingSpec((), spread=(SpreadConstraint("name", 1, hard=True, selector=CROWD),)),
    "joins": SchedulingSpec((), affinity=(PodAffinityTerm("pool", CROWD),)),
}


@st.composite
def worlds(draw: st.DrawFn, *, rich: bool = False) -> World:
    world = World()
    nodes = draw(st.integers(1, 4))
    pooled = rich and draw(st.booleans())
    for number in range(nodes):
        labels = {"name": f"n{number}", **({"pool": draw(st.sampled_from(POOLS))} if pooled else {})}
        sizes = {"cpu": st.integers(1, 8), "memory": st.integers(1, 8), "gpu": st.integers(0, 3)}
        world.node(f"n{number}", labels=labels, **{name: draw(size) for name, size in sizes.items()})
    if rich:
        _surroundings(draw, world, pooled=pooled)
    parents = [f"d{number}" for number in range(draw(st.integers(0, 2)))]
    bounds = st.fixed_dictionaries(
        {}, optional={"cpu": st.integers(0, 8), "memory": st.integers(0, 8), "gpu": st.integers(0, 3)}
    )
    for name in parents:
        world.inner(
            name,
            weight=draw(st.sampled_from(["1", "2", "0.5", "0"])),
            limits=draw(st.one_of(st.just({}), bounds)),
            guaranteed=draw(st.one_of(st.just({}), bounds)),
        )
    leaves = []
    for number in range(draw(st.integers(1, 4))):
        name = f"t{number}"
        leaves.append(name)
        world.tenant(
            name,
            draw(st.sampled_from(["", *parents])),
            weight=draw(st.sampled_from(["1", "1", "2", "0.3", "0"])),
            limits=draw(st.one_of(st.just({}), st.just({}), bounds)),
            guaranteed=draw(st.one_of(st.just({}), bounds)),
            suspended=draw(st.sampled_from([False] * 9 + [True])),
            highest_priority=draw(st.sampled_from([1000, 1000, 1])),
            limits_in=draw(_in_pools(bounds)) if pooled else None,
            guaranteed_in=draw(_in_pools(bounds)) if pooled else None,
        )
    gangs: dict[str, list[str]] = {name: [] for name in leaves}
    for number in range(draw(st.integers(0, 3))):
        leaf = draw(st.sampled_from(leaves))
        world.gang(leaf, f"g{number}", draw(st.integers(1, 3)), priority=draw(st.sampled_from([None, None, 0, 1, 3])))
        gangs[leaf].append(f"g{number}")
    for number in range(draw(st.integers(1, 14))):
        leaf = draw(st.sampled_from(leaves))
        group = draw(st.sampled_from([None, None, *gangs[leaf]]))
        neighbour = draw(st.sampled_from(["", "", "", *NEIGHBOURS])) if rich else ""
        meek = rich and draw(st.sampled_from([False] * 5 + [True]))
        world.pod(
            leaf,
            f"p{number}",
            on=draw(st.sampled_from([None, None, *(f"n{n}" for n in range(nodes))])),
            group=group,
            priority=draw(st.sampled_from([0, 0, 1, 2])),
            cpu=draw(st.integers(0, 3)),
            memory=draw(st.integers(0, 3)),
            gpu=draw(st.sampled_from([0, 0, 0, 1, 2])),
            labels={"app": "crowd"} if neighbour else None,
            spec=NEIGHBOURS[neighbour],
            more={"preemptible": draw(st.sampled_from([True, True, True, False])), "never_preempts": meek},
        )
    return world


def _in_pools(bounds: st.SearchStrategy[dict[str, int]]) -> st.SearchStrategy[dict[str, dict[str, int]]]:
    return st.one_of(st.just({}), st.dictionaries(st.sampled_from(POOLS), bounds))


def _surroundings(draw: st.DrawFn, world: World, *, pooled: bool) -> None:
    """Pools, maybe a taint, and maybe a budget."""
    for pool in POOLS if pooled else ():
        price = draw(st.sampled_from(["1", "1", "0.5"]))
        selector = LabelSelector((Requirement("pool", "In", (pool,)),))
        world.pool(PoolSpec(pool, selector, cost={"cpu": Fraction(price)}))
    if draw(st.sampled_from([False, False, True])):
        first = world.events[0]
        assert isinstance(first, ev.NodeSeen)
        world.events[0] = ev.NodeSeen(replace(first.spec, taints=(Taint("dedicated", "NoSchedule"),)))
    for number in range(draw(st.sampled_from([0, 0, 1, 2]))):
        allowed = draw(st.sampled_from([None, 0, 1]))
        budget = ev.BudgetSpec(f"t{number}", "pdb", CROWD, allowed=allowed, max_unavailable=1)
        world.events.append(ev.BudgetSeen(budget))
