"""Victims: what may be evicted as one step, and which of them goes next.

A victim is one preemptible pod, or, where its gang would fall below `min_member`, the whole gang (only if all of it is
preemptible), with the rooms that are held for its announced members: once a plan has taken a gang down to its minimum,
what is left of it is offered as one victim. Every leaf offers one: those that somebody recreates first, then the lowest
priority, then the one that takes its side Y least below e(Y), then the youngest: the one that started last, then the
one created last. Among the offers those that somebody recreates go first, then those that leave Y at or above e(Y);
then the tree is descended by the highest weighted share, ties in the reverse of serving order.
"""

from bisect import insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from allotment_scheduler.core.eviction.budgets import Budgets
from allotment_scheduler.core.eviction.rules import Claim, rule, sides
from allotment_scheduler.core.objects.nodes import BoolVector
from allotment_scheduler.core.objects.pods import Pod, PodKey
from allotment_scheduler.core.objects.resources import Amounts, Column, without_pods
from allotment_scheduler.core.objects.tenants import Tenant
from allotment_scheduler.core.objects.units import Gang, total
from allotment_scheduler.core.state.cluster import ClusterState

ZERO = Fraction(0)

Cost = tuple[int, int]
"""Pods that go: those of the last choice, and all."""
Age = tuple[float, float, PodKey]
"""The larger goes first: who started last, of these who was created last, then by name."""
LaneKey = tuple[bool, int, Amounts, frozenset[str]]
"""What victims have in common among which only age decides: (last choice, priority, what they hold, where)."""


@dataclass(slots=True, eq=False)
class Victim:
    """One step of a plan: pods, the youngest first.

    Work is what would be lost: seconds times dominant share, summed over pods.
    """

    pods: list[Pod]
    leaf: Tenant
    priority: int
    asks: Amounts
    held: frozenset[Column]
    pools: frozenset[str]
    last_choice: bool
    work: float
    rooms: list[Pod] = field(default_factory=list)
    """Those held for announced members of a gang that goes as a whole: they make room, and cost nobody anything."""

    @property
    def places(self) -> list[Pod]:
        """What makes room by its going."""
        return self.pods + self.rooms if self.rooms else self.pods

    @property
    def lane(self) -> LaneKey:
        """Its lane; the first two decide before everything else."""
        return (self.last_choice, self.priority, self.asks, self.pools)

    @property
    def age(self) -> Age:
        """That of its youngest pod."""
        return age_of(self.pods[0])

    @property
    def gang(self) -> Gang | None:
        """The gang that it is of, or is."""
        return self.pods[0].gang


@dataclass(slots=True, eq=False)
class Step:
    """A victim with the rule it goes by."""

    victim: Victim
    rule: str
    nodes: list[str] = field(default_factory=list)
    """Where the victim's pods, and its rooms, were."""


def pods_of(steps: Iterable[Step]) -> Cost:
    """How many pods some steps take: those of the last choice, and all."""
    pods = [pod for step in steps for pod in step.victim.pods]
    return (sum(pod.spec.last_choice for pod in pods), len(pods))


def victim_of(pod: Pod, state: ClusterState) -> Victim | None:
    """The victim a running pod would be, or a held room with its gang; None if it may not be one."""
    leaf, gang = pod.leaf, pod.gang
    if leaf is None or pod.node is None or not (pod.phantom or _evictable(pod)):
        return None
    if gang is None or gang.running > gang.min_member:
        if pod.phantom:
            return None
        node, asks = state.nodes.by_name.get(pod.node), pod.klass.asks
        return Victim(
            [pod], leaf, pod.priority, asks, frozenset(column for column, _ in asks),
            frozenset() if node is None else frozenset((node.pool,)), pod.spec.last_choice, work_of(pod, state),
        )  # fmt: skip
    pods = sorted(gang.standing(), key=age_of, reverse=True)
    if not pods or not all(_evictable(member) for member in pods):
        return None
    places = pods + gang.phantoms
    asks = pod.klass.asks if len(places) == 1 else without_pods(total(places))
    return Victim(
        pods, leaf, max(member.priority for member in pods), asks, frozenset(column for column, _ in asks),
        frozenset(node.pool for place in places if (node := state.nodes.by_name.get(place.node or "")) is not None),
        any(member.spec.last_choice for member in pods),
        sum(work_of(member, state) for member in pods),
        list(gang.phantoms),
    )  # fmt: skip


def age_of(pod: Pod) -> Age:
    """Sorts pods the same way in whatever order they came."""
    return (pod.started, pod.spec.created, pod.key)


def _evictable(pod: Pod) -> bool:
    spec = pod.spec
    return spec.preemptible and spec.ours and not spec.deleting and not spec.spared and not pod.phantom


def work_of(pod: Pod, state: ClusterState) -> float:
    """What is lost with a pod: seconds since its start or last checkpoint, times its dominant share."""
    since = max(pod.started, pod.spec.checkpointed or pod.started)
    scale = state.measure.scale
    share = max((amount * scale[column] for column, amount in pod.klass.asks), default=0) / state.measure.denominator
    return max(state.now - since, 0.0) * share


def _age(victim: Victim) -> Age:
    return victim.age


class Offers:
    """The victims of one plan, by leaf, and the choice among them."""

    def __init__(
        self, state: ClusterState, claim: Claim, victims: Iterable[Victim], budgets: Budgets,
        may_go: Callable[[Victim], bool],
    ) -> None:  # fmt: skip
        self.state = state
        self.claim = claim
        self.budgets = budgets
        self.may_go = may_go
        """Whether the brakes let a victim go that is formed in the course of the plan."""
        self.lanes: dict[Tenant, dict[LaneKey, list[Victim]]] = {}
        self._whole: set[int] = set()
        """Gangs, by id, the rest of which has been offered."""
        for victim in victims:
            self.lanes.setdefault(victim.leaf, {}).setdefault(victim.lane, []).append(victim)
        for lanes in self.lanes.values():
            for lane in lanes.values():
                lane.sort(key=_age)

    def choose(self) -> Step | None:
        """The next victim by the rules as things stand now; it is taken out of its lane."""
        offers: dict[Tenant, tuple[Step, Fraction]] = {}
        for leaf, lanes in self.lanes.items():
            offer = self._offer(leaf, lanes)
            if offer is not None:
                offers[leaf] = offer
        if not offers:
            return None
        lasting = {leaf: offer for leaf, offer in offers.items() if not offer[0].victim.last_choice} or offers
        gentle = {leaf: offer for leaf, offer in lasting.items() if offer[1] <= 0}
        leaf = self._descend(gentle or lasting)
        step = offers[leaf][0]
        self.lanes[leaf][step.victim.lane].pop()
        return step

    def choose_by_size(self, only: BoolVector | None, sign: int) -> Step | None:
        """The victim that may go now and frees most (1) or least (-1) of what the claimant asks for, on some nodes."""
        found: tuple[tuple[int, Age], Step] | None = None
        for lanes in self.lanes.values():
            for lane in list(lanes.values()):
                while lane and not self._possible(lane[-1]):
                    if self._offer_rest(lane.pop(), lanes):
                        return self.choose_by_size(only, sign)
                by = self._rule(lane[-1]) if lane else None
                if by is not None:
                    order = (sign * self._size(lane[-1], only), lane[-1].age)
                    if found is None or found[0] < order:
                        found = order, Step(lane[-1], by)
        if found is None:
            return None
        step = found[1]
        self.lanes[step.victim.leaf][step.victim.lane].pop()
        return step

    def _size(self, victim: Victim, only: BoolVector | None) -> int:
        """The largest share of a resource asked for that a victim holds, on some nodes; comparable, in no unit."""
        asked, scale = dict(self.claim.asks), self.state.measure.scale
        held: dict[Column, int] = {}
        for pod in victim.places:
            node = self.state.nodes.by_name.get(pod.node or "")
            if only is None or (node is not None and only[node.index]):
                for column, amount in pod.klass.asks:
                    if column in asked:
                        held[column] = held.get(column, 0) + amount * scale[column]
        return max(held.values(), default=0)

    def _offer(self, leaf: Tenant, lanes: dict[LaneKey, list[Victim]]) -> tuple[Step, Fraction] | None:
        sole = len(self.lanes) == 1 and len(lanes) == 1
        best: tuple[Step, Fraction] | None = None
        best_order: tuple[bool, int] | None = None
        for key in sorted(lanes, key=lambda key: key[:2]):
            if best_order is not None and key[:2] != best_order:
                break
            lane = lanes[key]
            while lane and not self._possible(lane[-1]):
                if self._offer_rest(lane.pop(), lanes):
                    return self._offer(leaf, lanes)
            if not lane:
                continue
            victim = lane[-1]
            by = self._rule(victim)
            if by is None:
                continue
            below = ZERO if sole else self._below(leaf, victim)
            if best is None or below < best[1] or (below == best[1] and victim.age > best[0].victim.age):
                best, best_order = (Step(victim, by), below), key[:2]
        return best

    def _possible(self, victim: Victim) -> bool:
        if not all(pod.node is not None for pod in victim.pods):
            return False
        gang = victim.gang
        if gang is not None and 0 < gang.running - len(victim.pods) < gang.min_member:
            return False  # other members have left in this plan: one more would cut the gang
        return self.budgets.allows(victim.pods)

    def _rule(self, victim: Victim) -> str | None:
        """The rule by which a victim may go now, None if there is none, or the brakes allow no more by it."""
        by = rule(self.claim, victim)
        return by if by is None or self.budgets.allowance.allows(victim.pods, by) else None

    def _offer_rest(self, victim: Victim, lanes: dict[LaneKey, list[Victim]]) -> bool:
        """Offer what is left of a gang that has come to its minimum in this plan, in place of its single pods."""
        gang = victim.gang
        if gang is None or not 0 < gang.running <= gang.min_member or id(gang) in self._whole:
            return False
        self._whole.add(id(gang))
        rest = victim_of(gang.standing()[0], self.state)
        if rest is None or not self.may_go(rest):
            return False
        insort(lanes.setdefault(rest.lane, []), rest, key=_age)
        return True

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
