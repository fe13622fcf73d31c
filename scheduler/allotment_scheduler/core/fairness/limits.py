"""Limits: what they leave of a tenant's room, in all and pool by pool.

A unit is within limits if every one of its pods can stand somewhere without any tenant on its path exceeding a limit.
A limit for the whole cluster binds the unit as a whole. A limit for a pool binds what stands there: a gang may stand in
several pools, so a pool stays open to it while one of its pods is within the limit, and where its pods go is decided
one by one (gangs.py).

Where no pool is open at all, no limit is in the way: there is nowhere to run.

What is said here of a gang in several pools is necessary, never sufficient: placing it in a trial decides.
"""

from collections.abc import Iterable

from allotment_scheduler.core.objects.resources import Amounts, Column
from allotment_scheduler.core.objects.tenants import Tenant
from allotment_scheduler.core.objects.units import Shape


def limit_in_the_way(leaf: Tenant, shape: Shape, pools: tuple[str, ...]) -> tuple[Tenant | None, tuple[str, ...]]:
    """The tenant whose limit is in the way of one more such unit, and which of these pools are open to it."""
    for tenant in leaf.limited_path:
        if tenant.limits and _exceeds(tenant, shape.amounts):
            return tenant, pools
        if tenant.limits_in and pools:
            left = tuple(
                pool for pool in pools
                if any(not _exceeds_in(tenant, pool, amounts) for amounts, _ in shape.pieces)
            )  # fmt: skip
            if not left or (shape.size > 1 and not _have_room(tenant, shape, left)):
                return tenant, left
            pools = left
    return None, pools


def open_pools(leaf: Tenant, amounts: Amounts, pools: tuple[str, ...]) -> tuple[str, ...]:
    """The pools whose limits, at every level, take one more pod."""
    for tenant in leaf.limited_path:
        if tenant.limits_in:
            pools = tuple(pool for pool in pools if not _exceeds_in(tenant, pool, amounts))
    return pools


def closed_by(leaf: Tenant, amounts: Amounts, pools: tuple[str, ...]) -> Tenant | None:
    """The tenant whose limits close the last of some pools to one more pod; None while one is open."""
    for tenant in leaf.limited_path:
        if tenant.limits_in and pools:
            pools = tuple(pool for pool in pools if not _exceeds_in(tenant, pool, amounts))
            if not pools:
                return tenant
    return None


def exceeded_in(leaf: Tenant, amounts: Amounts, pool: str) -> tuple[Tenant, Column, int] | None:
    """Whose limit for a pool one more pod would exceed, of which resource, and what it asks for of that.

    If it asks for more of anything than a limit ever allows, that is named.
    """
    for tenant in leaf.limited_path:
        caps = tenant.limits_in.get(pool, {})
        over = [(c, amount) for c, amount in amounts if c in caps and tenant.taken_at(pool, c) + amount > caps[c]]
        if over:
            return tenant, *max(over, key=lambda it: it[1] > caps[it[0]])
    return None


def limits_divide(leaf: Tenant, amounts: Amounts, pools: Iterable[str]) -> bool:
    """Whether some of these pools would not take all of a request: then its pods have to be looked at one by one."""
    return any(
        tenant.limits_in and any(_exceeds_in(tenant, pool, amounts) for pool in pools) for tenant in leaf.limited_path
    )


def _exceeds(tenant: Tenant, amounts: Amounts) -> bool:
    caps = tenant.limits
    return any(column in caps and tenant.taken(column) + amount > caps[column] for column, amount in amounts)


def _exceeds_in(tenant: Tenant, pool: str, amounts: Amounts) -> bool:
    caps = tenant.limits_in.get(pool)
    return caps is not None and any(
        column in caps and tenant.taken_at(pool, column) + amount > caps[column] for column, amount in amounts
    )


def _have_room(tenant: Tenant, shape: Shape, pools: tuple[str, ...]) -> bool:
    """Whether pools together leave enough for all of a unit, and for as many of each kind of its pods as there are."""
    rooms = [
        {column: max(cap - tenant.taken_at(pool, column), 0) for column, cap in tenant.limits_in.get(pool, {}).items()}
        for pool in pools
    ]
    for column, amount in shape.amounts:
        if all(column in room for room in rooms) and sum(room[column] for room in rooms) < amount:
            return False
    for amounts, count in shape.pieces:
        fit = (min((room[c] // amount for c, amount in amounts if c in room), default=count) for room in rooms)
        if sum(fit) < count:
            return False
    return True
