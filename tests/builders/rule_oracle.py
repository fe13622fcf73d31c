"""Who may be evicted for whom, by the rules' own words, with books of its own: the judge of every plan.

Written from the definitions of P, R1 and R2 alone. It keeps its own sums over plain pods and tenants, and takes only
one thing from the engine: entitlement, which another oracle proves. Between claimant leaf x and victim leaf y, X and Y
are the children of their lowest common ancestor on each side, D is what the claimant requests, and u counts what has
been evicted and started so far.

- P, within one leaf: the victim's priority is lower.
- Otherwise Y is above its guarantee, before the step, on some resource of D that the victim holds, and
  R1: u(X) + request ≤ g(X) on all of D; or
  R2: u(X) + request ≤ e(X) on all of D, and u(Y) > e(Y), before the step, on some resource of D that the victim holds,
  and the weight of X is not 0.

With pools, u and e count on those where the claimant may run, and by R2 only those go who stand on one of them. A
guarantee may be for a pool, too: then X may also have its right within those for the pools where the claimant may run;
and where Y has such guarantees, what it uses within that for the pool where the victim stands is not above them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.nodes import NodeSpec, PoolSpec
from allotment_scheduler.core.objects.pods import PodKey, PodSpec
from allotment_scheduler.core.objects.tenants import TenantSpec
from allotment_scheduler.core.objects.units import GroupSpec

Entitled = Callable[[str, str, frozenset[str]], Fraction]
"""e of a tenant, a resource, on some pools."""
Request = dict[str, int]


@dataclass
class Books:
    """Tenants, nodes and pods as they were told, and where pods run by now."""

    entitled: Entitled
    tenants: dict[str, TenantSpec] = field(default_factory=dict)
    nodes: dict[str, NodeSpec] = field(default_factory=dict)
    pools: list[PoolSpec] = field(default_factory=list)
    groups: dict[PodKey, GroupSpec] = field(default_factory=dict)
    pods: dict[PodKey, PodSpec] = field(default_factory=dict)
    on: dict[PodKey, str] = field(default_factory=dict)

    @classmethod
    def of(cls, events: Iterable[ev.Event], entitled: Entitled) -> "Books":
        """Books of a world as it was built."""
        books = cls(entitled)
        for event in events:
            match event:
                case ev.TenantSeen(spec=tenant):
                    books.tenants[tenant.name] = tenant
                case ev.NodeSeen(spec=node):
                    books.nodes[node.name] = node
                case ev.PoolSeen(spec=pool):
                    books.pools.append(pool)
                case ev.GroupSeen(spec=group):
                    books.groups[group.namespace, group.name] = group
                case ev.PodSeen(spec=pod):
                    books.pods[pod.key] = pod
                    if pod.node is not None:
                        books.on[pod.key] = pod.node
        return books

    # --- sums ------------------------------------------------------------------------------------------------------

    def path(self, leaf: str) -> list[str]:
        """The leaf and whatever is above it, the root left out."""
        out = [leaf]
        while parent := self.tenants[out[-1]].parent:
            out.append(parent)
        return out

    def pool_of(self, node: str) -> str:
        """The first pool, by name, that selects the node; "" where none does."""
        known = self.nodes.get(node)
        fitting = [it.name for it in self.pools if known is not None and it.selector.matches(dict(known.labels))]
        return min(fitting, default="")

    def used(self, tenant: str, resource: str, pools: frozenset[str] | None = None) -> int:
        """u of a tenant, in all or on some pools."""
        return sum(
            dict(self.pods[key].scheduling.requests).get(resource, 0)
            for key, node in self.on.items()
            if tenant in self.path(key[0]) and (pools is None or self.pool_of(node) in pools)
        )

    def priority(self, pods: Sequence[PodKey]) -> int:
        """The gang's, if it names one, within the tenant's bound; else the highest of the pods."""
        first = self.pods[pods[0]]
        group = self.groups.get((first.namespace, first.group or ""))
        if group is not None and group.priority is not None:
            return min(group.priority, self.tenants[first.namespace].highest_priority)
        return max(self.pods[key].priority for key in pods)

    def asked(self, pods: Iterable[PodKey]) -> Request:
        """The sum of what pods request."""
        total: Request = {}
        for key in pods:
            for resource, amount in self.pods[key].scheduling.requests:
                total[resource] = total.get(resource, 0) + amount
        return {resource: amount for resource, amount in total.items() if amount}

    # --- the rules ---------------------------------------------------------------------------------------------------

    def rules(self, claimants: Sequence[PodKey], victims: Sequence[PodKey], scope: frozenset[str]) -> set[str]:
        """The rules by which these victims may go now, in one step, for these claimants."""
        x, y = claimants[0][0], victims[0][0]
        if x == y:
            return {"P"} if self.priority(victims) < self.priority(claimants) else set()
        mine, theirs = self._sides(x, y)
        request, held = self.asked(claimants), self.asked(victims)
        shared = [resource for resource in request if resource in held]
        where = {self.pool_of(self.on[key]) for key in victims}
        if not any(self._above_guarantee(theirs, resource, where) for resource in shared):
            return set()
        found = set()
        if self._within_guarantee(mine, request, scope):
            found.add("R1")
        within = all(
            self.used(mine, resource, scope) + amount <= self.entitled(mine, resource, scope)
            for resource, amount in request.items()
        )
        above = any(
            self.used(theirs, resource, scope) > self.entitled(theirs, resource, scope) for resource in shared
        )  # fmt: skip
        if self.tenants[mine].weight and within and above and (where & scope or not scope):
            found.add("R2")
        return found

    def _sides(self, x: str, y: str) -> tuple[str, str]:
        """X and Y: the first on each side that the other side has not above it."""
        mine, theirs = self.path(x), self.path(y)
        return (
            next(name for name in reversed(mine) if name not in theirs),
            next(name for name in reversed(theirs) if name not in mine),
        )

    def _within_guarantee(self, mine: str, request: Mapping[str, int], scope: frozenset[str]) -> bool:
        bounds = self.tenants[mine].guaranteed
        if bounds.total and all(
            self.used(mine, resource) + amount <= bounds.total.get(resource, 0) for resource, amount in request.items()
        ):
            return True
        per_pool = [pool for pool in scope if pool in bounds.pools]
        if not per_pool:
            return False
        return all(
            self.used(mine, resource, scope) + amount <= sum(bounds.pools[pool].get(resource, 0) for pool in per_pool)
            for resource, amount in request.items()
        )

    def _above_guarantee(self, theirs: str, resource: str, where: Iterable[str]) -> bool:
        bounds = self.tenants[theirs].guaranteed
        if self.used(theirs, resource) <= bounds.total.get(resource, 0):
            return False
        return not any(bounds.pools.values()) or any(
            self.used(theirs, resource, frozenset((pool,))) > bounds.pools.get(pool, {}).get(resource, 0)
            for pool in where
        )

    # --- gangs ------------------------------------------------------------------------------------------------------

    def step(self, first: PodKey) -> list[PodKey]:
        """Whoever goes together with this pod: itself, or its whole gang where that is down to its minimum."""
        pod = self.pods[first]
        group = self.groups.get((pod.namespace, pod.group or ""))
        if pod.group is None or group is None:
            return [first]
        mates = [
            key for key in self.on if self.pods[key].group == pod.group and self.pods[key].namespace == pod.namespace
        ]  # fmt: skip
        return mates if len(mates) <= group.min_member else [first]
