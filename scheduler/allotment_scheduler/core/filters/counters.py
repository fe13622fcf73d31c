"""Counts of pods per topology domain, kept up to date by every start and eviction.

Inter-pod affinity, topology spread and host ports all ask the same question: how many pods of a kind stand in this
node's domain? A `Counter` answers it for one kind and one topology key with an array over domains, so that a filter is
one gather over nodes. Four kinds of pods are counted:

- *seen*: pods whose namespace and labels match a conjunction of terms (affinity, spread);
- *holders*: pods that themselves carry a given anti-affinity term, which then binds newcomers that match it;
- *drawn*: pods that would like, or not like, a newcomer near them, by the weight of their preferred terms; a required
  affinity counts as a wish of weight 1 (kube-scheduler's `hardPodAffinityWeight`);
- *ports*: pods that hold a host port.

Counters are interned: equal terms of different pods share one. A label set knows which counters see it (`seen_by`).
A counter lives as long as anybody needs it: a row of nodes whose choice depends on it, or a class of pods that feed it
by what they hold. So a Job's own terms go with the Job.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NewType
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
import numpy.typing as npt

from allotment_scheduler.core.filters.devices import DeviceUse
from allotment_scheduler.core.filters.volumes import VolumeUse
from allotment_scheduler.core.objects.nodes import BoolVector, IntVector, Nodes
from allotment_scheduler.core.objects.pods import LabelSet, Pod, PodAffinityTerm, PodClass
from allotment_scheduler.core.objects.selectors import LabelSelector, Requirement
from allotment_scheduler.core.state.table import PodTable

CounterId = NewType("CounterId", int)
NODE: str = "\0node"
"""The topology key of counters that count node by node."""
WILDCARD: Final = "0.0.0.0"  # noqa: S104 - the address a host port without hostIP is bound to, nothing is bound here
HARD_WEIGHT: Final = 1
"""The weight of a required affinity as a wish for newcomers: kube-scheduler's default."""


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
    """What a counter counts. One of `matches`, `held`, `drawn` and `port` says which pods; `nodes` restricts where."""

    topology_key: str
    matches: tuple[Match, ...] = ()
    held: Match | None = None
    port: tuple[str, str, int] | None = None
    nodes: bytes | None = None
    """Packed mask of the nodes that count, None: all that have the key."""
    drawn: Match | None = None

    @property
    def binds(self) -> bool:
        """Whether it says of newcomers where they may, or should, stand."""
        return self.held is not None or self.drawn is not None


@dataclass(slots=True, eq=False, weakref_slot=True)
class Counter:
    """One kind of pods, counted per domain. `domain` maps nodes to domains, -1 where the key is absent."""

    id: CounterId
    key: CounterKey
    domain: npt.NDArray[np.intp]
    counts: IntVector
    total: int = 0
    version: int = 0

    def at_nodes(self) -> IntVector:
        """The count in each node's domain; 0 where the node has none."""
        values: IntVector = self.by_domain()[self.domain]
        return values

    def by_domain(self) -> IntVector:
        """The count of each domain, and at the end, where -1 points to, 0 for nodes without any."""
        out: IntVector = np.zeros(len(self.counts) + 1, dtype=np.int64)
        out[:-1] = self.counts
        return out


Fed = tuple[tuple[Counter, int], ...]
"""Counters that pods feed by what they hold, each with by how much."""


@dataclass(slots=True)
class Counters:
    """All counters of a cluster."""

    nodes: Nodes
    running: PodTable
    labelsets: WeakValueDictionary[int, LabelSet]
    namespaces: dict[str, dict[str, str]]
    volumes: VolumeUse
    devices: DeviceUse
    by_key: WeakValueDictionary[CounterKey, Counter] = field(default_factory=WeakValueDictionary)
    all: WeakValueDictionary[int, Counter] = field(default_factory=WeakValueDictionary)
    """By id; ids are never given out a second time."""
    holders: WeakKeyDictionary[PodClass, WeakKeyDictionary[PodClass | LabelSet, Fed]] = field(
        default_factory=WeakKeyDictionary
    )
    """Counters that pods feed by the terms and ports they hold, and by how much: by class and, where it matters, label
    set. What runs is entered here before it is counted."""
    made: int = 0
    """How many counters there have been."""
    version: int = 0
    """Moves when a counter is added: label sets may be seen by more."""
    held_version: int = 0
    """Moves when a counter of what running pods hold against, or for, others is added: it concerns those that wait."""
    ports: dict[tuple[str, int], WeakValueDictionary[str, Counter]] = field(default_factory=dict)
    """Counters of host ports, by protocol and number, then by address."""

    def counter(self, key: CounterKey) -> Counter:
        """The counter of a key, made on first use by counting what runs."""
        found = self.by_key.get(key)
        if found is None:
            domain, size = self._domains(key)
            self.made += 1
            found = Counter(CounterId(self.made), key, domain, np.zeros(size, dtype=np.int64))
            self.by_key[key] = found
            self.all[found.id] = found
            self.version += 1
            self.held_version += key.binds
            if key.port is not None:
                self._note_port(found, *key.port)
            if key.matches:
                self.recount(found)
        return found

    def _note_port(self, counter: Counter, address: str, protocol: str, number: int) -> None:
        taken = self.ports.setdefault((protocol, number), WeakValueDictionary())
        taken[address] = counter
        self.held_version += len(taken) > 1  # those who ask for it at another address could not know

    def binding(self, klass: PodClass, labels: LabelSet) -> list[Counter]:
        """The counters of what pods hold that bind, or draw, newcomers of a class with these labels; ports included."""
        held = [counter for counter in self.those(self.seen_by(labels)) if counter.key.binds] if self.all else []
        return held + self.conflicts(klass.spec.host_ports) if klass.spec.host_ports else held

    def conflicts(self, wanted: tuple[tuple[str, str, int], ...]) -> list[Counter]:
        """The counters of ports that pods which want these cannot have beside them."""
        found: dict[Counter, None] = {}
        for address, protocol, number in wanted:
            for taken, counter in sorted(self.ports.get((protocol, number), {}).items()):
                if address == taken or WILDCARD in (address, taken):
                    found[counter] = None
        return list(found)

    def seen_by(self, labels: LabelSet) -> tuple[int, ...]:
        """The counters that count pods with these labels, or bind or draw them (holders' terms)."""
        if labels.version != self.version:
            labels.seen_by = tuple(sorted(c.id for c in self.all.values() if self._sees(c.key, labels)))
            labels.version = self.version
        return labels.seen_by

    def fed_by(self, klass: PodClass, labels: LabelSet) -> Fed:
        """The counters that a running pod feeds by what it holds, its terms and its host ports, with by how much."""
        if not klass.holds:
            return ()
        known = self.holders.get(klass)
        if known is None:
            known = self.holders[klass] = WeakKeyDictionary()
        kind = labels if klass.holds_by_labels else klass
        found = known.get(kind)
        if found is None:
            holdings = _holdings(klass, labels).items()
            found = known[kind] = tuple((self.counter(key), weight) for key, weight in holdings)
        return found

    def those(self, numbers: Iterable[int]) -> list[Counter]:
        """Counters by id, but for those that nobody needs any more."""
        known = self.all.get
        return [counter for number in numbers if (counter := known(number)) is not None]

    def count(self, pod: Pod, node: int, sign: int) -> None:
        """A pod started (1) or left (-1) a node."""
        if pod.klass.spec.claims:
            self.volumes.count(pod.klass, node, sign)
        if pod.klass.spec.devices:
            self.devices.count(pod, sign)
        for counter, weight in self.fed_by(pod.klass, pod.labels):
            self._add(counter, node, sign * weight)
        for counter in self.those(self.seen_by(pod.labels)):
            if counter.key.matches and not (pod.spec.deleting and counter.key.nodes is not None):
                self._add(counter, node, sign)

    def rebuild(self) -> None:
        """Count everything anew after nodes were laid out. Counters tied to a node mask retire; rows remake them."""
        for counter in list(self.all.values()):
            if counter.key.nodes is not None:
                self.by_key.pop(counter.key, None)
                counter.key = CounterKey(NODE)
            counter.domain, size = self._domains(counter.key)
            counter.counts, counter.total = np.zeros(size, dtype=np.int64), 0
            if counter.key.matches:
                self.recount(counter)
        self._recount_holders()
        self.version += 1
        self.volumes.reset()
        for row, pod in enumerate(self.running.pods):
            if pod is not None and pod.klass.spec.claims and self.running.node[row] >= 0:
                self.volumes.count(pod.klass, int(self.running.node[row]), 1)
        self.devices.reset(pod for pod in self.running.pods if pod is not None and pod.klass.spec.devices)

    def refit(self, klass: PodClass) -> None:
        """The claims of a class, or what they are bound to, have changed: its volumes are counted anew."""
        self.volumes.refit(klass, lambda: self._nodes_of(klass))

    def _nodes_of(self, klass: PodClass) -> list[int]:
        running, size = self.running.flush(), self.running.size
        rows = running.used[:size] & (running.klass[:size] == klass.id) & (running.node[:size] >= 0)
        nodes: list[int] = running.node[:size][rows].tolist()
        return nodes

    def _sees(self, key: CounterKey, labels: LabelSet) -> bool:
        term = key.held or key.drawn
        if term is not None:
            return term.sees(labels, self.namespaces)
        return bool(key.matches) and all(match.sees(labels, self.namespaces) for match in key.matches)

    def _add(self, counter: Counter, node: int, sign: int) -> None:
        domain = counter.domain[node]
        if domain >= 0:
            counter.counts[domain] += sign
            counter.total += sign
            counter.version += 1

    def _domains(self, key: CounterKey) -> tuple[npt.NDArray[np.intp], int]:
        if key.topology_key == NODE:
            count = len(self.nodes.ordered)
            domain = np.arange(count, dtype=np.intp)
            size = count
        else:
            codes, values = self.nodes.label_codes(key.topology_key)
            domain, size = codes.astype(np.intp), len(values)
        if key.nodes is not None and len(domain):
            mask = unpack(key.nodes, len(domain))
            domain = np.where(mask, domain, np.intp(-1))
        return domain, size

    def recount(self, counter: Counter) -> None:
        """Count what runs, by distinct label set where labels decide, else by what holds the same."""
        if not counter.key.matches:
            counter.counts[:], counter.total = 0, 0
            self._recount_holders(counter)
            return
        running, size, key = self.running.flush(), self.running.size, counter.key
        live = running.used[:size] & (running.node[:size] >= 0)
        if key.nodes is not None:
            live &= ~running.deleting[:size]  # spread looks past pods that are on their way out
        labelsets = list(self.labelsets.values())
        numbers = np.array([labels.id for labels in labelsets], dtype=np.int32)
        good = np.array([self._sees(key, labels) for labels in labelsets], dtype=np.bool_)
        rows = np.flatnonzero(live)
        rows = rows[good[np.searchsorted(numbers, running.labels[rows])]]
        counter.counts[:], counter.total = 0, 0
        self._enter(counter, running.node[rows], 1)

    def _recount_holders(self, only: Counter | None = None) -> None:
        """Enter what all running pods hold into empty counters, kind by kind of pods."""
        running = self.running.flush()
        holders = [row for row, pod in enumerate(running.pods) if pod is not None and pod.klass.holds]
        rows = np.array(holders, dtype=np.intp)
        rows = rows[running.node[rows] >= 0]
        labels = running.labels[rows].astype(np.int64)
        kinds = running.klass[rows] * (labels.max(initial=0) + 1) + labels
        _, first, kind = np.unique(kinds, return_index=True, return_inverse=True)
        order = np.argsort(kind, kind="stable")
        ends = np.cumsum(np.bincount(kind, minlength=len(first)))
        for number, row in enumerate(rows[first].tolist()):
            pod = running.pods[row]
            fed = self.fed_by(pod.klass, pod.labels) if pod is not None else ()
            if fed:
                members = rows[order[(ends[number - 1] if number else 0) : ends[number]]]
                for counter, weight in fed:
                    if only is None or only is counter:
                        self._enter(counter, running.node[members], weight)

    def _enter(self, counter: Counter, nodes: npt.NDArray[np.int32], weight: int) -> None:
        domains = counter.domain[nodes]
        domains = domains[domains >= 0]
        counter.counts += weight * np.bincount(domains, minlength=len(counter.counts))[: len(counter.counts)]
        counter.total += weight * len(domains)
        counter.version += 1


def _holdings(klass: PodClass, labels: LabelSet) -> dict[CounterKey, int]:
    """What pods of a class hold against and for others, with its weight."""
    spec, out = klass.spec, dict[CounterKey, int]()
    for term in spec.anti_affinity:
        out[CounterKey(term.topology_key, held=Match.of(merged(term, labels), klass.namespace))] = 1
    for port in spec.host_ports:
        out[CounterKey(NODE, port=port)] = 1
    wishes = [(HARD_WEIGHT, term) for term in spec.affinity]
    wishes += [(term.weight, term) for term in spec.preferred_affinity]
    wishes += [(-term.weight, term) for term in spec.preferred_anti_affinity]
    for weight, term in wishes:
        key = CounterKey(term.topology_key, drawn=Match.of(merged(term, labels), klass.namespace))
        out[key] = out.get(key, 0) + weight
    return out


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
