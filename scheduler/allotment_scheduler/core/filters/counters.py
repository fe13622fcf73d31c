"""Counts of pods per topology domain, kept up to date by every start and eviction.

Inter-pod affinity, topology spread and host ports all ask the same question: how many pods of a kind stand in this
node's domain? A `Counter` answers it for one kind and one topology key with an array over domains, so that a filter is
one gather over nodes. Three kinds of pods are counted:

- *seen*: pods whose namespace and labels match a conjunction of terms (affinity, spread);
- *holders*: pods that themselves carry a given anti-affinity term, which then binds newcomers that match it;
- *ports*: pods that hold a host port.

Counters are interned: equal terms of different pods share one. A label set knows which counters see it (`seen_by`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NewType

import numpy as np
import numpy.typing as npt

from allotment_scheduler.core.filters.volumes import VolumeUse
from allotment_scheduler.core.nodes import BoolVector, IntVector, Nodes
from allotment_scheduler.core.pods import LabelSet, Pod, PodAffinityTerm, PodClass
from allotment_scheduler.core.running import RunningTable
from allotment_scheduler.core.selectors import LabelSelector, Requirement

CounterId = NewType("CounterId", int)
NODE: str = "\0node"
"""The topology key of counters that count node by node."""


@dataclass(frozen=True, slots=True)
class Match:
    """Pods of certain namespaces with certain labels. `selector` None matches nothing."""

    namespaces: frozenset[str]
    namespace_selector: LabelSelector | None
    selector: LabelSelector | None

    @classmethod
    def of(cls, term: PodAffinityTerm, namespace: str) -> "Match":
        """The pods that a term in a pod of this namespace means."""
        own = not term.namespaces and term.namespace_selector is None
        namespaces = frozenset({namespace}) if own else term.namespaces
        return cls(namespaces, term.namespace_selector, term.selector)

    def sees(self, labels: LabelSet, namespaces: Mapping[str, Mapping[str, str]]) -> bool:
        """Whether a pod with these labels is meant; `namespaces` are the namespaces' own labels."""
        if self.selector is None:
            return False
        inside = labels.namespace in self.namespaces or (
            self.namespace_selector is not None
            and self.namespace_selector.matches(namespaces.get(labels.namespace, {}))
        )
        return inside and self.selector.matches(labels.labels)


@dataclass(frozen=True, slots=True)
class CounterKey:
    """What a counter counts. Exactly one of `matches`, `held` and `port` says which pods; `nodes` restricts where."""

    topology_key: str
    matches: tuple[Match, ...] = ()
    held: Match | None = None
    port: tuple[str, str, int] | None = None
    nodes: bytes | None = None
    """Packed mask of the nodes that count, None: all that have the key."""


@dataclass(slots=True, eq=False)
class Counter:
    """One kind of pods, counted per domain. `domain` maps nodes to domains, -1 where the key is absent."""

    id: CounterId
    key: CounterKey
    domain: npt.NDArray[np.int32]
    counts: IntVector
    total: int = 0
    version: int = 0

    def at_nodes(self) -> IntVector:
        """The count in each node's domain; 0 where the node has none."""
        if not len(self.counts):
            return np.zeros(len(self.domain), dtype=np.int64)
        values: IntVector = np.where(self.domain >= 0, self.counts[self.domain], 0)
        return values


@dataclass(slots=True)
class Counters:
    """All counters of a cluster."""

    nodes: Nodes
    running: RunningTable
    labelsets: list[LabelSet]
    namespaces: dict[str, dict[str, str]]
    volumes: VolumeUse
    by_key: dict[CounterKey, Counter] = field(default_factory=dict)
    all: list[Counter] = field(default_factory=list)
    holders: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)
    """Counters that pods feed by the terms and ports they hold, by class and, where it matters, label set."""
    version: int = 0
    """Moves when a counter is added: label sets may be seen by more."""
    held_version: int = 0
    """Moves when a counter of anti-affinity holders is added: waiting pods may be bound by more."""

    def counter(self, key: CounterKey) -> Counter:
        """The counter of a key, made on first use by counting what runs."""
        found = self.by_key.get(key)
        if found is None:
            domain, size = self._domains(key)
            found = Counter(CounterId(len(self.all)), key, domain, np.zeros(size, dtype=np.int64))
            self.by_key[key] = found
            self.all.append(found)
            self.version += 1
            self.held_version += key.held is not None
            self.recount(found)
        return found

    def seen_by(self, labels: LabelSet) -> tuple[int, ...]:
        """The counters that count pods with these labels, or bind them (holders' terms)."""
        if labels.version != self.version:
            labels.seen_by = tuple(c.id for c in self.all if self._sees(c.key, labels))
            labels.version = self.version
        return labels.seen_by

    def fed_by(self, klass: PodClass, labels: LabelSet) -> tuple[int, ...]:
        """The counters that a running pod feeds by what it holds: its anti-affinity terms and its host ports."""
        spec = klass.spec
        if not spec.anti_affinity and not spec.host_ports:
            return ()
        by_labels = any(term.match_label_keys or term.mismatch_label_keys for term in spec.anti_affinity)
        cached = (klass.id, labels.id if by_labels else -1)
        found = self.holders.get(cached)
        if found is None:
            keys = [
                CounterKey(term.topology_key, held=Match.of(merged(term, labels), klass.namespace))
                for term in spec.anti_affinity
            ]
            keys += [CounterKey(NODE, port=port) for port in spec.host_ports]
            found = self.holders[cached] = tuple(dict.fromkeys(self.counter(key).id for key in keys))
        return found

    def count(self, pod: Pod, node: int, sign: int) -> None:
        """A pod started (1) or left (-1) a node."""
        if pod.klass.spec.claims:
            self.volumes.count(pod.klass, node, sign)
        for counter_id in self.fed_by(pod.klass, pod.labels):
            self._add(self.all[counter_id], node, sign)
        for counter_id in self.seen_by(pod.labels):
            counter = self.all[counter_id]
            if counter.key.matches and not (pod.spec.deleting and counter.key.nodes is not None):
                self._add(counter, node, sign)

    def rebuild(self) -> None:
        """Count everything anew after nodes were laid out. Counters tied to a node mask retire; rows remake them."""
        for counter in self.all:
            if counter.key.nodes is not None:
                self.by_key.pop(counter.key, None)
                counter.key = CounterKey(NODE)
            counter.domain, size = self._domains(counter.key)
            counter.counts = np.zeros(size, dtype=np.int64)
            if counter.key != CounterKey(NODE):
                self.recount(counter)
        self.version += 1
        self.volumes.reset()
        for row, pod in enumerate(self.running.pods):
            if pod is not None and pod.klass.spec.claims and self.running.node[row] >= 0:
                self.volumes.count(pod.klass, int(self.running.node[row]), 1)

    def _sees(self, key: CounterKey, labels: LabelSet) -> bool:
        if key.held is not None:
            return key.held.sees(labels, self.namespaces)
        return bool(key.matches) and all(match.sees(labels, self.namespaces) for match in key.matches)

    def _add(self, counter: Counter, node: int, sign: int) -> None:
        domain = counter.domain[node]
        if domain >= 0:
            counter.counts[domain] += sign
            counter.total += sign
            counter.version += 1

    def _domains(self, key: CounterKey) -> tuple[npt.NDArray[np.int32], int]:
        if key.topology_key == NODE:
            count = len(self.nodes.ordered)
            domain = np.arange(count, dtype=np.int32)
            size = count
        else:
            codes, values = self.nodes.label_codes(key.topology_key)
            domain, size = codes, len(values)
        if key.nodes is not None and len(domain):
            mask = unpack(key.nodes, len(domain))
            domain = np.where(mask, domain, np.int32(-1)).astype(np.int32)
        return domain, size

    def recount(self, counter: Counter) -> None:
        """Count what runs, by distinct label set where labels decide, else by distinct class."""
        running, size, key = self.running.flush(), self.running.size, counter.key
        live = running.used[:size] & (running.node[:size] >= 0)
        if key.matches:
            if key.nodes is not None:
                live &= ~running.deleting[:size]  # spread looks past pods that are on their way out
            good = np.array([self._sees(key, labels) for labels in self.labelsets], dtype=np.bool_)
            rows = np.flatnonzero(live & good[running.labels[:size]]) if len(good) else np.zeros(0, dtype=np.int64)
        else:
            rows = np.array([row for row in np.flatnonzero(live).tolist() if self._feeds(counter, row)], dtype=np.int64)
        domains = counter.domain[running.node[:size][rows]]
        domains = domains[domains >= 0]
        counter.counts[:] = np.bincount(domains, minlength=len(counter.counts))[: len(counter.counts)]
        counter.total = int(counter.counts.sum())
        counter.version += 1

    def _feeds(self, counter: Counter, row: int) -> bool:
        pod = self.running.pods[row]
        if pod is None:
            return False
        key, klass = counter.key, pod.klass
        if key.port is not None:
            return key.port in klass.spec.host_ports
        return any(
            term.topology_key == key.topology_key and Match.of(merged(term, pod.labels), klass.namespace) == key.held
            for term in klass.spec.anti_affinity
        )


def merged(term: PodAffinityTerm, labels: LabelSet) -> PodAffinityTerm:
    """The term with `matchLabelKeys` and `mismatchLabelKeys` turned into requirements (KEP-3633)."""
    if term.selector is None or not (term.match_label_keys or term.mismatch_label_keys):
        return term
    return replace(term, selector=with_keys(term.selector, labels, term.match_label_keys, term.mismatch_label_keys))


def with_keys(
    selector: LabelSelector, labels: LabelSet, same: tuple[str, ...], different: tuple[str, ...] = ()
) -> LabelSelector:
    """A selector with requirements added: the pod's own value of some labels, or anything but it."""
    extra = [Requirement(key, "In", (labels.labels[key],)) for key in same if key in labels.labels]
    extra += [Requirement(key, "NotIn", (labels.labels[key],)) for key in different if key in labels.labels]
    return LabelSelector((*selector.requirements, *extra))


def pack(mask: BoolVector) -> bytes:
    """A node mask as a key."""
    return np.packbits(mask).tobytes()


def unpack(packed: bytes, count: int) -> BoolVector:
    """The node mask of a key; after a change of nodes it no longer fits, and everything counts until it is remade."""
    bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8))
    if len(bits) < count:
        return np.ones(count, dtype=np.bool_)
    mask: BoolVector = bits[:count].astype(np.bool_)
    return mask
