"""R2 with several pools: nobody goes from pools that are not compared, not even under a limit for all of them."""

from msgspec.structs import replace

from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.nodes import PoolSpec
from allotment_scheduler.core.objects.pods import SchedulingSpec
from allotment_scheduler.core.objects.selectors import LabelSelector, Requirement
from builders.scheduling import World

ONLY = {pool: SchedulingSpec((), node_selector=(("pool", pool),)) for pool in "AB"}


def test_under_a_limit_for_all_pools_those_go_that_stand_where_their_tenant_is_above_its_entitlement() -> None:
    world = World().inner("d", limits={"cpu": 4}).tenant("x", "d").tenant("y", "d")
    for pool in "AB":
        world.node(pool.lower(), cpu=4, labels={"pool": pool})
        world.pool(PoolSpec(pool, LabelSelector((Requirement("pool", "In", (pool,)),))))
    world.pod("y", "b0", on="b", cpu=2, spec=ONLY["B"])
    oldest = world.events[-1]
    assert isinstance(oldest, ev.PodSeen)
    world.events[-1] = ev.PodSeen(replace(oldest.spec, started=100.0))  # it had to wait for long
    for name in ("a0", "a1"):
        world.pod("y", name, on="a", cpu=1, spec=ONLY["A"])
    result = world.pod("x", "p", cpu=2, spec=ONLY["A"]).run()

    assert sorted(result.evicted) == ["a0", "a1"]
    assert result.running("x") == {"p"}
