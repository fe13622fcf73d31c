"""What must hold of seats after a cycle, whatever happened in it: checked in tests.

The part of limits and guarantees that seats take up is kept at the tenants. It is recomputed from the holds alone. It
may be less, never more: a seat whose successor has come, and does not fit there, keeps its room, but nothing of limits.
"""

from allotment_scheduler.core.objects.resources import Column
from allotment_scheduler.core.placement.holds import Hold, Holds
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.core.state.invariants import InvariantError

Part = dict[tuple[str, str, Column], int]
"""An amount by tenant, pool ("": in all) and resource."""


def check_holds(holds: Holds) -> None:
    """Compare what tenants say that seats take up with the seats; right after a cycle, before anything else happens.

    Raises:
        InvariantError: naming the first contradiction found.
    """
    if holds.closed:
        raise InvariantError("rooms are still closed after the cycle")
    for which in ("held", "held_fixed"):
        most = _parts(holds.state, [hold for hold in holds.holds if hold.fixed or which == "held"])
        for name, tenant in holds.state.forest.by_name.items():
            for (pool, column), amount in getattr(tenant, which).items():
                if not 0 <= amount <= most.get((name, pool, column), 0):
                    raise InvariantError(f"what is {which} by seats of tenant {name} differs from the sum of its seats")


def _parts(state: ClusterState, holds: list[Hold]) -> Part:
    parts: Part = {}
    for hold in holds:
        leaf = state.forest.leaf_of_namespace.get(hold.namespace)
        for tenant in leaf.path if leaf is not None else ():
            for column, amount in hold.amounts:
                for pool in ("", state.nodes.by_name[hold.node].pool):
                    key = (tenant.name, pool, column)
                    parts[key] = parts.get(key, 0) + amount
    return parts
