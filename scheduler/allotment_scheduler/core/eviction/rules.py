"""Who may go for whom: the rules P, R1 and R2.

Between claimant leaf x and victim leaf y, X and Y are the children of their lowest common ancestor on each side. D is
what the claimant requests. u counts the evictions planned so far.

- P (same leaf): the victim's priority is lower than the claimant's.
- otherwise Y must be above its guarantee, before this step, on some resource of D that the victim holds; and
  - R1: u(X) + request ≤ g(X) on all of D; or
  - R2: u(X) + request ≤ e(X) on all of D, and u(Y) > e(Y), before this step, on some resource of D that the victim
    holds. A claimant side of weight 0 has no R2.

With several pools, R2 (and R1 for guarantees per pool) compare on the pools where the claimant may run, and R2 takes
nobody who stands in none of them: that Y is above e there is not lessened by his going. What a victim
uses within its side's guarantee for the pool where it stands is not above the guarantee.

Entitlement is by plain sums under either share policy. So where serving compares rescaled shares (`hdrf`), R2 asks for
one thing more: that serving puts X before Y. Else Y would be given, at every pod's end, what X then takes.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

from allotment_scheduler.core.entitlement.filling import Entitlement
from allotment_scheduler.core.fairness.shares import within_together
from allotment_scheduler.core.objects.resources import Amounts, Column
from allotment_scheduler.core.objects.tenants import Tenant

P, R1, R2 = "P", "R1", "R2"
GANG = "Gang"
"""No rule of claimants: the rest of a gang that was cut from outside, and not brought back up in time, goes."""


class Held(Protocol):
    """What the rules look at in a victim."""

    @property
    def leaf(self) -> Tenant:
        """Whose it is."""

    @property
    def priority(self) -> int:
        """The highest of its pods."""

    @property
    def asks(self) -> Amounts:
        """What it holds."""

    @property
    def held(self) -> frozenset[Column]:
        """The resources among that."""

    @property
    def pools(self) -> Collection[str]:
        """Where it stands."""


@dataclass(slots=True)
class Claim:
    """A claimant before its rules: whose it is, what it requests, and where it may run."""

    leaf: Tenant
    asks: Amounts
    priority: int
    scope: tuple[str, ...]
    several_pools: bool
    entitlement: Callable[[], Entitlement]
    """Asked only when R2 is: it may have to be computed."""
    only_p: bool = False
    """It was evicted before and demand has not changed: no R1, no R2."""
    smallest: Callable[[Tenant, Column], int] | None = None
    """With hysteresis: the smallest unit of a side, by which its use may fall below its entitlement."""
    is_before: Callable[[Tenant, Tenant], bool] | None = None
    """Where shares are rescaled: whether the first tenant is served before the second, guarantees aside."""
    seated: dict[Column, int] = field(default_factory=dict)
    """What of the request is part of u already, while a plan seats the claimant's pods one by one."""

    def used(self, tenant: Tenant, column: Column) -> int:
        """Use on the pools where the claimant may run."""
        if not self.several_pools:
            return tenant.used[column]
        return sum(inside[column] for pool, inside in tenant.used_in.items() if pool in self.scope)

    def entitled(self, tenant: Tenant, column: Column) -> int:
        """Entitlement on the pools where the claimant may run, in whole units: use compares with it as with e."""
        return self.entitlement().whole(tenant, column, self.scope if self.several_pools else None)

    def _left(self) -> list[tuple[Column, int]]:
        """What of the request is not part of u yet."""
        return [(column, amount - self.seated.get(column, 0)) for column, amount in self.asks]

    def side(self, mine: Tenant) -> tuple[bool, bool]:
        """Whether the claimant's side X has a right by R1, and by R2, before it is asked from whom."""
        if self.only_p:
            return False, False
        return self.guaranteed(mine), self.is_entitled(mine)

    def guaranteed(self, mine: Tenant) -> bool:
        """R1's half of the claimant: use plus request within the guarantee, for the cluster or for these pools."""
        caps = mine.guaranteed
        if caps is not None and all(mine.used[c] + amount <= caps.get(c, 0) for c, amount in self._left()):
            return True
        return bool(mine.guaranteed_in) and within_together(mine, self._left(), self.scope)

    def is_entitled(self, mine: Tenant) -> bool:
        """R2's half of the claimant: use plus request within the entitlement."""
        if mine.weightless:
            return False
        return all(self.used(mine, column) + amount <= self.entitled(mine, column) for column, amount in self._left())

    def above_guarantee(self, theirs: Tenant, held: frozenset[Column], pools: Collection[str]) -> bool:
        """Whether Y is above its guarantees, in all and on one of these pools, on some resource of D that is held."""
        total, inside = theirs.guaranteed or {}, theirs.guaranteed_in
        return any(
            theirs.used[column] > total.get(column, 0)
            and (
                not inside
                or any(theirs.used_at(pool)[column] > inside.get(pool, {}).get(column, 0) for pool in pools)
            )
            for column, _ in self.asks if column in held
        )  # fmt: skip

    def gentle(self, theirs: Tenant, asks: Amounts) -> bool:
        """Hysteresis: the victim leaves Y at or above e(Y) less its smallest unit, on every resource it holds."""
        if self.smallest is None:
            return True
        return all(
            self.used(theirs, column) - amount >= self.entitled(theirs, column) - self.smallest(theirs, column)
            for column, amount in asks
        )

    def above_entitlement(self, theirs: Tenant, held: frozenset[Column]) -> bool:
        """Whether Y is above its entitlement on some resource of D that the victim holds."""
        return any(c in held and self.used(theirs, c) > self.entitled(theirs, c) for c, _ in self.asks)

    def compares(self, pools: Collection[str]) -> bool:
        """With several pools: whether something that stands in these is part of what R2 compares."""
        return not self.scope or not frozenset(pools).isdisjoint(self.scope)


def sides(claimant: Tenant, victim: Tenant) -> tuple[Tenant, Tenant] | None:
    """X and Y: the children of the lowest common ancestor on either side; None within one leaf."""
    if claimant is victim:
        return None
    ours, theirs = claimant.path[::-1], victim.path[::-1]
    for mine, other in zip(ours, theirs, strict=False):
        if mine is not other:
            return mine, other
    raise ValueError(f"{claimant} and {victim}: one is above the other, but pods belong to leaves only")


def rule(claim: Claim, victim: Held) -> str | None:
    """The rule by which a victim may go now, None if there is none."""
    pair = sides(claim.leaf, victim.leaf)
    if pair is None:
        return P if victim.priority < claim.priority else None
    mine, theirs = pair
    by_guarantee, by_entitlement = claim.side(mine)
    if not (by_guarantee or by_entitlement) or not claim.above_guarantee(theirs, victim.held, victim.pools):
        return None
    if by_guarantee:
        return R1
    if (claim.several_pools and not claim.compares(victim.pools)) or not claim.above_entitlement(theirs, victim.held):
        return None
    if claim.is_before is not None and not claim.is_before(mine, theirs):
        return None
    return R2 if claim.gentle(theirs, victim.asks) else None
