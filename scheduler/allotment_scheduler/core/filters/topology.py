"""Filters that depend on other pods: inter-pod affinity and anti-affinity, topology spread, host ports.

A `Neighbourhood` is what one class of pods, seen by certain counters, demands of the pods around it. It is made once
per class and layout and then evaluated from the counters' arrays: one gather over nodes per term.

Semantics as kube-scheduler's plugins `InterPodAffinity`, `PodTopologySpread` and `NodePorts`:

- required affinity: every term needs a pod that matches *all* terms in the node's domain; if no such pod runs anywhere
  and the newcomer matches its own terms, any node that has the keys will do;
- anti-affinity works both ways: the newcomer's terms against running pods, and running pods' terms against it;
- spread: count in the domain + 1 (if it counts itself) - the smallest count over eligible domains ≤ maxSkew; fewer
  domains than minDomains make the smallest count 0; nodes without the key fail; pools that are closed to the tenant are
  treated as nodes that the node affinity leaves out;
- preferences work both ways too, and a running pod's required affinity counts as one;
- a host port on the wildcard address conflicts with the same port on every address.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from allotment_scheduler.core.filters.counters import Counter, CounterKey, Counters, Match, merged, pack, with_keys
from allotment_scheduler.core.filters.devices import DeviceDemand
from allotment_scheduler.core.filters.nodes import REFUSING_EFFECTS, selected, tolerated_taints
from allotment_scheduler.core.filters.volumes import VolumeDemand
from allotment_scheduler.core.objects.nodes import BoolVector, IntVector, Nodes
from allotment_scheduler.core.objects.pods import LabelSet, PodClass, SpreadConstraint

_FEW_VERDICTS: Final = 16
"""So many masks a spread rule remembers: few domains fill up in few patterns."""
DEVICES_LACKING: Final = "have too few of the devices that it asks for left"


@dataclass(slots=True, eq=False)
class SpreadRule:
    """A spread constraint with its counter. `domains` are the eligible domains' codes."""

    counter: Counter
    judged: npt.NDArray[np.int32]
    """Domain of every node, also of those that do not count."""
    constraint: SpreadConstraint
    counts_itself: int
    domains: IntVector
    _verdicts: dict[bytes, BoolVector] = field(default_factory=dict)
    """By the domains that keep the skew: the nodes in them."""

    def allowed(self) -> BoolVector:
        """Nodes where one more pod keeps the skew."""
        if not len(self.domains):
            return np.zeros(len(self.judged), dtype=np.bool_)
        eligible = self.counter.counts[self.domains]
        least = 0 if len(self.domains) < self.constraint.min_domains else int(eligible.min())
        limit = self.constraint.max_skew + least - self.counts_itself
        good = self.counter.counts <= limit
        pattern = good.tobytes()
        verdict = self._verdicts.get(pattern)
        if verdict is None:
            if len(self._verdicts) >= _FEW_VERDICTS:
                self._verdicts.clear()
            verdict = self._verdicts[pattern] = (self.judged >= 0) & good[self.judged]
            verdict.flags.writeable = False
        return verdict


@dataclass(slots=True, eq=False)
class Neighbourhood:
    """What a class of pods demands of its neighbours."""

    affinity: list[Counter]
    joins_itself: bool
    """It matches its own affinity terms: the first of its kind may start anywhere."""
    repelled_by: list[Counter]
    """Counters that must be zero in the node's domain: own anti-affinity, others' terms, ports."""
    port_conflicts: list[Counter]
    spread: list[SpreadRule]
    preferences: list[tuple[int, Counter]]
    """Preferred terms, its own and running pods' for it, as (weight, counter): negative weights repel."""
    soft_spread: list[SpreadRule]
    volumes: VolumeDemand | None
    """Claims to have alone, and limits on volumes of a driver."""
    devices: DeviceDemand | None
    """What its claims ask of the devices that nobody holds."""
    _watched: list[Counter | VolumeDemand | DeviceDemand] = field(init=False)

    def __bool__(self) -> bool:
        return bool(
            self.affinity or self.repelled_by or self.spread or self.port_conflicts or self.volumes or self.devices
        )

    def __post_init__(self) -> None:
        counters = [*self.affinity, *self.repelled_by, *self.port_conflicts]
        counters += [rule.counter for rule in (*self.spread, *self.soft_spread)]
        counters += [counter for _, counter in self.preferences]
        self._watched = [*counters, *(each for each in (self.volumes, self.devices) if each is not None)]

    @property
    def version(self) -> int:
        """Moves whenever an answer may have changed."""
        version = 0
        for each in self._watched:
            version += each.version
        return version

    def filters(self) -> Iterator[tuple[str, BoolVector]]:
        """Each filter's name, in words that follow "n nodes", with the nodes that pass it."""
        if self.port_conflicts:
            yield "have its host port in use", _none_of(self.port_conflicts)
        if self.volumes is not None:
            yield from self.volumes.filters()
        if self.devices is not None:
            yield DEVICES_LACKING, self.devices.fits()
        for rule in self.spread:
            yield f"would break its topology spread by {rule.constraint.topology_key}", rule.allowed()
        if self.affinity:
            yield "do not satisfy its pod affinity", self._near()
        if self.repelled_by:
            yield "are refused by pod anti-affinity", _none_of(self.repelled_by)

    def mask(self, *, but_for: str | None = None) -> BoolVector | None:
        """Nodes that pass every filter, None if there is none to pass; one filter, by its name, may be left out."""
        result: BoolVector | None = None
        for name, passing in self.filters():
            if name != but_for:
                result = passing if result is None else result & passing
        return result

    def _near(self) -> BoolVector:
        mask = np.ones(len(self.affinity[0].domain), dtype=np.bool_)
        alone = self.joins_itself and all(counter.total == 0 for counter in self.affinity)
        for counter in self.affinity:
            mask &= (counter.domain >= 0) if alone else (counter.at_nodes() > 0)
        return mask

    def _is_even(self, counter: Counter) -> bool:
        """Whether a counter says the same of every node that passes: told from few domains, without a look at nodes."""
        for near in self.affinity:
            if near.total and near.key.topology_key == counter.key.topology_key:
                inside = counter.counts[near.counts > 0]
                return bool((inside == inside[0]).all())
        return not counter.counts.any()

    def score(self, feasible: BoolVector) -> IntVector | None:
        """Preferred inter-pod terms and soft spread, each from 0 to 100 and weighted by 2, as kube-scheduler.

        None where no feasible node is better than another.
        """
        told = [(weight, counter) for weight, counter in self.preferences if not self._is_even(counter)]
        if not told and not self.soft_spread:
            return None
        where = np.flatnonzero(feasible)
        if not len(where):
            return None
        points = np.zeros(len(where), dtype=np.int64)
        if told:
            raw = np.zeros(len(where), dtype=np.int64)
            for weight, counter in told:
                raw += weight * counter.by_domain()[counter.domain[where]]
            points += 2 * stretched(raw)
        if self.soft_spread:
            points += 2 * self._evenness(where)
        if (points == points[0]).all():
            return None
        total = np.zeros(len(feasible), dtype=np.int64)
        total[where] = points
        return total

    def _evenness(self, where: npt.NDArray[np.intp]) -> IntVector:
        """How well nodes keep soft spread, as the plugin's scores: 0 for nodes that lack the key of any constraint."""
        codes = [rule.judged[where] for rule in self.soft_spread]
        keyed = np.logical_and.reduce([each >= 0 for each in codes])
        crowd = np.zeros(int(keyed.sum()), dtype=np.float64)
        if not len(crowd):
            return np.zeros(len(where), dtype=np.int64)
        for rule, each in zip(self.soft_spread, codes, strict=True):
            here = each[keyed]
            domains = np.count_nonzero(np.bincount(here))
            crowd += rule.counter.counts[here] * np.log(domains + 2) + (rule.constraint.max_skew - 1)
        rounded = np.rint(crowd).astype(np.int64)
        low, high = int(rounded.min()), int(rounded.max())
        out = np.zeros(len(where), dtype=np.int64)
        out[keyed] = 100 * (high + low - rounded) // high if high else 100
        return out


def stretched(raw: IntVector) -> IntVector:
    """Scores such that the smallest is 0 and the largest 100, as kube-scheduler normalises inter-pod terms.

    In floats and cut off, as there: 29 of 100 is 28.
    """
    low, high = int(raw.min()), int(raw.max())
    if high == low:
        return np.zeros(len(raw), dtype=np.int64)
    scores: IntVector = (100.0 * ((raw - low) / (high - low))).astype(np.int64)
    return scores


def in_proportion(raw: IntVector, feasible: BoolVector) -> IntVector:
    """Scores such that the largest of feasible nodes is 100, and 0 stays 0: kube-scheduler's default normalisation.

    Scores are 0 or more.
    """
    high = int(raw[feasible].max(initial=0))
    scores: IntVector = 100 * raw // high if high else np.zeros(len(raw), dtype=np.int64)
    return scores


def neighbourhood(
    klass: PodClass, labels: LabelSet, counters: Counters, nodes: Nodes, *, open_to: BoolVector | None = None
) -> Neighbourhood:
    """What pods of a class with these labels demand of their neighbours, with every counter it takes.

    Args:
        klass: of the pods.
        labels: of the pods.
        counters: all there are.
        nodes: of the cluster.
        open_to: nodes of the pools that the pods' tenant may use, which count for topology spread as those that their
            node affinity allows; None for all.
    """
    spec, namespace = klass.spec, klass.namespace
    near = tuple(Match.of(merged(term, labels), namespace) for term in spec.affinity)
    affinity = [counters.counter(CounterKey(term.topology_key, near)) for term in spec.affinity]
    repelled = []
    for term in spec.anti_affinity:
        match = Match.of(merged(term, labels), namespace)
        repelled.append(counters.counter(CounterKey(term.topology_key, (match,))))
    counters.fed_by(klass, labels)  # its own kind may be bound, or drawn, by what it holds
    binding = counters.binding(klass, labels)
    repelled += [c for c in binding if c.key.held is not None]
    return Neighbourhood(
        affinity,
        all(match.sees(labels, counters.namespaces) for match in near),
        repelled,
        [c for c in binding if c.key.port is not None],
        [_spread_rule(c, klass, labels, counters, nodes, open_to=open_to) for c in spec.spread if c.hard],
        _preferences(klass, labels, counters) + [(1, c) for c in binding if c.key.drawn is not None],
        [_spread_rule(c, klass, labels, counters, nodes, open_to=open_to) for c in spec.spread if not c.hard],
        counters.volumes.demand(klass) if spec.claims else None,
        counters.devices.demand(klass) if spec.devices else None,
    )


def _none_of(counters: list[Counter]) -> BoolVector:
    mask: BoolVector = counters[0].at_nodes() == 0
    for counter in counters[1:]:
        mask &= counter.at_nodes() == 0
    return mask


def _spread_rule(
    constraint: SpreadConstraint,
    klass: PodClass,
    labels: LabelSet,
    counters: Counters,
    nodes: Nodes,
    *,
    open_to: BoolVector | None,
) -> SpreadRule:
    included = np.ones(len(nodes.ordered), dtype=np.bool_)
    if constraint.honor_affinity:
        included &= selected(klass.spec, nodes)
        if open_to is not None:
            included &= open_to
    if constraint.honor_taints:
        included &= tolerated_taints(klass.spec, nodes, REFUSING_EFFECTS)
    for other in klass.spec.spread:
        if other.hard == constraint.hard:
            included &= nodes.label_codes(other.topology_key)[0] >= 0
    selector = constraint.selector
    if selector is not None:
        selector = with_keys(selector, labels, constraint.match_label_keys)
    match = Match(frozenset({klass.namespace}), None, selector)
    # A selector without requirements selects the newcomer itself, yet of those that run it counts none.
    counted = match if selector is None or selector.requirements else replace(match, selector=None)
    counter = counters.counter(CounterKey(constraint.topology_key, (counted,), nodes=pack(included)))
    codes = nodes.label_codes(constraint.topology_key)[0]
    domains = np.unique(codes[included & (codes >= 0)]).astype(np.int64)
    # The counter counts on included nodes only, but every node that has the key is judged by its domain.
    return SpreadRule(counter, codes, constraint, int(match.sees(labels, counters.namespaces)), domains)


def _preferences(klass: PodClass, labels: LabelSet, counters: Counters) -> list[tuple[int, Counter]]:
    out = []
    for sign, terms in ((1, klass.spec.preferred_affinity), (-1, klass.spec.preferred_anti_affinity)):
        for term in terms:
            key = CounterKey(term.topology_key, (Match.of(merged(term, labels), klass.namespace),))
            out.append((sign * term.weight, counters.counter(key)))
    return out
