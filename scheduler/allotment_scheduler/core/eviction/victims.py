"""Victims: what may be evicted as one step, and which of them goes next.

A victim is one preemptible pod, or, where its gang would fall below `min_member`, the whole gang (only if all of it is
preemptible). Every leaf offers one: those that somebody recreates first, then the lowest priority, then the one that
takes its side Y least below e(Y), then the youngest. Among the offers those that leave Y at or above e(Y) go first;
then the tree is descended by the highest weighted share, ties in the reverse of serving order.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from allotment_scheduler.core.eviction.budgets import Budgets
from allotment_scheduler.core.eviction.rules import Claim, rule, sides
from allotment_scheduler.core.pods import Pod
from allotment_scheduler.core.resources import Amounts, Column, without_pods
from allotment_scheduler.core.state import ClusterState
from allotment_scheduler.core.tenants import Tenant
from allotment_scheduler.core.units import total

ZERO = Fraction(0)


@dataclass(slots=True, eq=False)
class Victim:
    """One step of a plan. Work is what would be lost: seconds times dominant share, summed over pods."""

    pods: list[Pod]
    leaf: Tenant
    priority: int
    started: float
    asks: Amounts
    held: frozenset[Column]
    pools: frozenset[str]
    last_choice: bool
    work: float

    @property
    def order(self) -> tuple[bool, int]:
        """What comes before everything else in the choice."""
        return (self.last_choice, self.priority)


@dataclass(slots=True, eq=False)
class Step:
    """A victim with the rule it goes by."""

    victim: Victim
    rule: str
    nodes: list[str] = field(default_factory=list)
    """Where the victim's pods stood."""


def victim_of(pod: Pod, state: ClusterState) -> Victim | None:
    """The victim a running pod would be, None if it may not be one."""
    leaf, gang = pod.leaf, pod.gang
    if leaf is None or pod.node is None or not _evictable(pod):
        return None
    pods = [pod]
    if gang is not None and gang.running <= gang.min_member:
        pods = [member for member in gang.members.values() if member.node is not None]
        if not all(_evictable(member) for member in pods):
            return None
    asks = pod.klass.asks if len(pods) == 1 else without_pods(total(pods))
    return Victim(
        pods, leaf, max(member.spec.priority for member in pods), max(member.started for member in pods), asks,
        frozenset(column for column, _ in asks),
        frozenset(node.pool for member in pods if (node := state.nodes.by_name.get(member.node or "")) is not None),
        any(member.spec.fragile or not member.spec.recreated for member in pods),
        sum(work_of(member, state) for member in pods),
    )  # fmt: skip


def _evictable(pod: Pod) -> bool:
    spec = pod.spec
    return spec.preemptible and spec.ours and not spec.deleting and not spec.spared and not pod.phantom


def work_of(pod: Pod, state: ClusterState) -> float:
    """What is lost with a pod: seconds since its start or last checkpoint, times its dominant share."""
    since = max(pod.started, pod.spec.checkpointed or pod.started)
    scale = state.measure.scale
    share = max((amount * scale[column] for column, amount in pod.klass.asks), default=0) / state.measure.denominator
    return max(state.now - since, 0.0) * share


class Offers:
    """The victims of one plan, by leaf, and the choice among them."""

    def __init__(self, state: ClusterState, claim: Claim, victims: Iterable[Victim], budgets: Budgets) -> None:
        self.state = state
        self.claim = claim
        self.budgets = budgets
        self.lanes: dict[Tenant, dict[tuple[bool, int, Amounts], list[Victim]]] = {}
        for victim in victims:
            lanes = self.lanes.setdefault(victim.leaf, {})
            lanes.setdefault((*victim.order, victim.asks), []).append(victim)
        for lanes in self.lanes.values():
            for lane in lanes.values():
                lane.sort(key=lambda victim: (victim.started, victim.pods[0].key))

    def choose(self) -> Step | None:
        """The next victim by the rules as things stand now; it is taken out of its lane."""
        offers: dict[Tenant, tuple[Step, Fraction]] = {}
        for leaf, lanes in self.lanes.items():
            offer = self._offer(leaf, lanes)
            if offer is not None:
                offers[leaf] = offer
        if not offers:
            return None
        gentle = {leaf: offer for leaf, offer in offers.items() if offer[1] <= 0}
        leaf = self._descend(gentle or offers)
        step = offers[leaf][0]
        lane = self.lanes[leaf][(*step.victim.order, step.victim.asks)]
        lane.pop()
        return step

    def _offer(
        self, leaf: Tenant, lanes: dict[tuple[bool, int, Amounts], list[Victim]]
    ) -> tuple[Step, Fraction] | None:
        sole = len(self.lanes) == 1 and len(lanes) == 1
        best: tuple[Step, Fraction] | None = None
        best_order: tuple[bool, int] | None = None
        for key in sorted(lanes, key=lambda key: key[:2]):
            if best_order is not None and key[:2] != best_order:
                break
            lane = lanes[key]
            while lane and not self._possible(lane[-1]):
                lane.pop()
            if not lane:
                continue
            victim = lane[-1]
            by = rule(self.claim, victim)
            if by is None:
                continue
            below = ZERO if sole else self._below(leaf, victim)
            if best is None or (below, -victim.started) < (best[1], -best[0].victim.started):
                best, best_order = (Step(victim, by), below), key[:2]
        return best

    def _possible(self, victim: Victim) -> bool:
        if not all(pod.node is not None for pod in victim.pods):
            return False
        gang = victim.pods[0].gang
        if gang is not None and 0 < gang.running - len(victim.pods) < gang.min_member:
            return False  # other members have left in this plan: one more would cut the gang
        return self.budgets.allows(victim.pods)

    def _below(self, leaf: Tenant, victim: Victim) -> Fraction:
        """How far the victim would take its side below e, as a share; 0 if it stays at or above."""
        claim, measure = self.claim, self.state.measure
        pair = sides(claim.leaf, leaf)
        theirs = leaf if pair is None else pair[1]
        worst = ZERO
        for column, amount in victim.asks:
            left = claim.used(theirs, column) - amount
            entitled = claim.entitled(theirs, column)
            if left <= entitled and column in measure.totals:
                exact = claim.entitlement().of(theirs, column, claim.scope if claim.several_pools else None)
                worst = max(worst, (exact - left) / measure.totals[column])
        return worst

    def _descend(self, offers: Iterable[Tenant]) -> Tenant:
        """From the root down to the leaf whose offer is taken, by the highest weighted share."""
        candidates = list(offers)
        depth = 1
        while len(candidates) > 1 or not candidates[0].is_leaf:
            branches: dict[Tenant, list[Tenant]] = {}
            for leaf in candidates:
                branches.setdefault(leaf.path[-depth], []).append(leaf)
            top = max(branches, key=self._height)
            candidates = branches[top]
            if top.is_leaf:
                return top
            depth += 1
        return candidates[0]

    def _height(self, tenant: Tenant) -> tuple[bool, int, int, str]:
        measure = self.state.measure
        columns = measure.columns if tenant.is_leaf else tuple(
            column for column, _ in self.claim.asks if column in measure.totals
        )  # fmt: skip
        points = measure.points(tenant, columns) * tenant.multiplier
        return (tenant.weightless, points, tenant.running, tenant.name)
