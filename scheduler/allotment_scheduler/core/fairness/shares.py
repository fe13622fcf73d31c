"""Exact dominant shares and the serving key.

The dominant share of a tenant is the largest fraction it uses of any resource (NSDI 2011, section 4). All shares are
kept over one common denominator L, the least common multiple of the totals: u/T becomes the integer u·(L/T), and a
tenant's weighted share among its siblings the integer u·(L/T)·multiplier. So comparing shares is comparing integers,
and a tie is a tie.

A pool's `cost` weighs what is used there, and what there is: with cost 1/4 four GPUs of the pool count as one, in use
and in the total. Guarantees and limits count plain units.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from allotment_scheduler.core.objects.resources import PODS, Amounts, Column
from allotment_scheduler.core.objects.tenants import Tenant

Where = Mapping[str, Amounts] | tuple[str, ...]
"""Of a candidate: what of its request would stand in each pool; while it fits nowhere, the pools where it may run."""
ServingKey = tuple[bool, bool, int | Fraction, int, str]
"""(beyond its guarantee, weight 0, weighted share, pods running, name): the smallest is served next."""


@dataclass(slots=True)
class Measure:
    """How use becomes share, for one version of the cluster's capacity."""

    totals: dict[Column, Fraction]
    """T(r), weighted by cost; resources with none are absent."""
    columns: tuple[Column, ...]
    denominator: int
    scale: list[int]
    """L/T(r) per column, 0 for what is not shared."""
    cost: dict[str, dict[Column, int]]
    """Per pool: integer cost of a resource there, where costs differ at all."""
    capacity: dict[str, dict[Column, int]]
    """Plain totals per pool."""

    @classmethod
    def of(
        cls, capacity: Mapping[str, Mapping[Column, int]], costs: Mapping[str, Mapping[Column, Fraction]], width: int
    ) -> "Measure":
        """Measure a cluster: plain totals per pool, and the pools' costs."""
        one = Fraction(1)
        unit = lcm(*(cost.denominator for table in costs.values() for cost in table.values()))
        totals: dict[Column, Fraction] = {}
        for pool, table in capacity.items():
            for column, amount in table.items():
                if column != PODS and amount > 0:
                    cost = costs.get(pool, {}).get(column, one)
                    totals[column] = totals.get(column, Fraction(0)) + amount * cost * unit
        totals = {column: total for column, total in totals.items() if total > 0}
        denominator = lcm(*(total.numerator for total in totals.values()))
        scale = [0] * width
        for column, total in totals.items():
            scale[column] = denominator // total.numerator
        uniform = all(cost == 1 for table in costs.values() for cost in table.values())
        weights = (
            {}
            if uniform
            else {
                pool: {column: (costs.get(pool, {}).get(column, one) * unit).numerator for column in totals}
                for pool in capacity
            }
        )
        return cls(
            {column: total / unit for column, total in totals.items()},
            tuple(sorted(totals)), denominator, scale, weights,
            {pool: dict(table) for pool, table in capacity.items()},
        )  # fmt: skip

    def weighed(self, tenant: Tenant, column: Column) -> int:
        """What a tenant uses of a resource, weighted by cost (in units of the finest cost)."""
        if not self.cost:
            return tenant.used[column]
        return sum(inside[column] * self.cost[pool][column] for pool, inside in tenant.used_in.items())

    def points(self, tenant: Tenant, columns: Iterable[Column]) -> int:
        """The dominant share over some resources, times the denominator."""
        best = 0
        scale = self.scale
        if self.cost:
            return max((self.weighed(tenant, column) * scale[column] for column in columns), default=0)
        used = tenant.used
        for column in columns:
            points = used[column] * scale[column]
            if points > best:  # noqa: PLR1730 - max() would cost twice the time here, in the innermost loop
                best = points
        return best

    def dominant_share(self, tenant: Tenant) -> tuple[Fraction, Column | None]:
        """The share and the resource that makes it, the first by column of equals; None while nothing is used."""
        best, dominant = 0, None
        for column in self.columns:
            points = self.weighed(tenant, column) * self.scale[column]
            if points > best:
                best, dominant = points, column
        return Fraction(best, self.denominator), dominant

    def rescaled(self, tenant: Tenant) -> dict[Column, int | Fraction]:
        """Use in points, as H-DRF counts it (SoCC'12, section 4.2): children scaled down to the least share among them.

        Shares times the denominator; what nobody uses is left out.
        """
        if tenant.is_leaf:
            scale = self.scale
            return {c: used * scale[c] for c in self.columns if (used := self.weighed(tenant, c))}
        vectors = [(child, vector) for child in tenant.children if (vector := self.rescaled(child))]
        shares = [max(vector.values()) / Fraction(child.spec.weight or 1) for child, vector in vectors]
        least, total = min(shares, default=Fraction(0)), dict[Column, int | Fraction]()
        for share, (_, vector) in zip(shares, vectors, strict=True):
            part = 1 if share == least else least / share
            for column, points in vector.items():
                total[column] = total.get(column, 0) + points * part
        return total

    def rescaled_points(self, tenant: Tenant) -> int | Fraction:
        """The dominant share of an inner tenant under H-DRF, times the denominator."""
        return max(self.rescaled(tenant).values(), default=0)

    def used_or_asked(self, leaf: Tenant, asked: frozenset[Column]) -> tuple[Column, ...]:
        """D of an inner tenant: what its own best leaf uses, and what that leaf's candidate requests."""
        used = leaf.used
        return tuple(column for column in self.columns if used[column] or column in asked)

    def key(self, tenant: Tenant, columns: Iterable[Column], asks: Amounts | None, where: Where) -> ServingKey:
        """The serving key of a tenant whose candidate asks for `asks` (None: it has none)."""
        beyond = asks is None or not tenant.has_guarantee or not within_guarantee(tenant, asks, where)
        points = self.points(tenant, columns) * tenant.multiplier
        return (beyond, tenant.weightless, points, tenant.used[PODS], tenant.name)


def within_guarantee(tenant: Tenant, asks: Amounts, where: Where) -> bool:
    """G: a guarantee is set, and use plus request stays within it on every requested resource.

    Guarantees for pools cover a candidate if each of them covers what of it would stand in its pool. Of a candidate
    that fits nowhere this cannot be told: then its request counts, with what is in use in all pools where it may run,
    against the sum of the guarantees for these, as by the rule R1.
    """
    guaranteed = tenant.guaranteed
    if guaranteed is not None:
        used = tenant.used
        for column, amount in asks:
            if used[column] + amount > guaranteed.get(column, 0):
                break
        else:
            return True
    inside = tenant.guaranteed_in
    if not inside:
        return False
    if isinstance(where, tuple):
        return within_together(tenant, asks, where)
    return all(pool in inside and within(inside[pool], tenant.used_at(pool), part) for pool, part in where.items())


def is_guaranteed(leaf: Tenant, asks: Amounts, pools: tuple[str, ...]) -> bool:
    """Whether a guarantee covers a leaf's request in these pools, at every level that has one, and any level has."""
    guarded = [tenant for tenant in leaf.path if tenant.has_guarantee]
    return bool(guarded) and all(within_guarantee(tenant, asks, pools) for tenant in guarded)


def within_together(tenant: Tenant, asks: Iterable[tuple[Column, int]], pools: Collection[str]) -> bool:
    """Whether use in some pools plus a request stays within the sum of the guarantees for these pools."""
    tables = [caps for pool, caps in tenant.guaranteed_in.items() if pool in pools]
    used = [tenant.used_at(pool) for pool in pools]
    return bool(tables) and all(
        sum(inside[column] for inside in used) + amount <= sum(caps.get(column, 0) for caps in tables)
        for column, amount in asks
    )


def within(caps: Mapping[Column, int], used: list[int], asks: Amounts) -> bool:
    """Whether use plus request stays within caps on every requested resource (an absent cap is 0)."""
    return all(used[column] + amount <= caps.get(column, 0) for column, amount in asks)
