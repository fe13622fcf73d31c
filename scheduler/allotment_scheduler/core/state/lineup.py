"""The line-up: which units wait, formed from the pods that wait.

A pod of no gang is a unit; a gang's missing pods with the room for its expected members are one; every pod of a gang
beyond its minimum is one. The line-up is formed anew, wholly or gang by gang, whenever what it follows from changes; it
is never the home of a fact: pods, gangs and tenants are.
"""

from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from allotment_scheduler.core.objects.nodes import DEFAULT_POOL
from allotment_scheduler.core.objects.pods import LabelSet, Pod, PodClass
from allotment_scheduler.core.objects.resources import Amounts, without_pods
from allotment_scheduler.core.objects.tenants import Tenant
from allotment_scheduler.core.objects.units import (
    EXPECTED,
    ExpectedMember,
    Gang,
    GroupSpec,
    Home,
    LeafQueue,
    RowKey,
    Shape,
    Unit,
    member_of,
    order_of,
    total,
)

if TYPE_CHECKING:
    from allotment_scheduler.core.state.cluster import ClusterState

_FEW_SHAPES: Final = 512
"""So many shapes may be kept, whether or not anybody waits in them."""
_HOMES: Final = -(2**62)
"""Numbers of homes of gangs go down from here: they are never given out a second time."""


class Lineup:
    """The queues of all leaves, and what tells waiting pods apart for placement."""

    def __init__(self, state: "ClusterState") -> None:
        self.state = state
        self.nodes = state.nodes
        self.counters = state.counters
        self.interning = state.interning
        self.gangs = state.gangs
        self.queues: dict[str, LeafQueue] = {}
        self.dirty: set[Tenant] = set()
        """Leaves whose queue changed since someone last looked."""
        self.parked_by: object = None
        """Who parked the lanes that are parked, and knows when to let them compete again; None for new queues."""
        self._shapes: dict[tuple[object, ...], Shape] = {}
        self._representatives: dict[tuple[int, tuple[int, ...]], tuple[PodClass, LabelSet]] = {}
        self._pools_of: dict[str, tuple[str, ...]] = {}
        self._units: dict[tuple[str, str], list[Unit]] = {}
        self._homes: dict[Home, int] = {}
        self._home_of: dict[int, Home] = {}
        self._numbers = count(_HOMES, -1)
        self._most_shapes = _FEW_SHAPES

    def queue(self, leaf: Tenant) -> LeafQueue:
        """The waiting units of a leaf."""
        found = self.queues.get(leaf.name)
        if found is None:
            found = self.queues[leaf.name] = LeafQueue(leaf)
        return found

    def thin_out(self) -> None:
        """Form the line-up anew when most of its shapes may be of units that wait no longer.

        So what it keeps, and what a cycle looks at, follows what waits, not what has ever waited.
        """
        if len(self._shapes) > self._most_shapes:
            self.requeue_all()
            self._most_shapes = max(_FEW_SHAPES, 2 * len(self._shapes))

    def row_keys(self) -> set[RowKey]:
        """What decides where pods may stand, of every shape there is."""
        return {key for shape in self._shapes.values() for key, _ in shape.parts}

    def requeue_all(self) -> None:
        """Form every waiting unit anew."""
        for queue in self.queues.values():
            for unit in queue.waiting():
                unit.live = False  # its pods may wait no longer, and would still be taken for it
        for shape in self._shapes.values():
            shape.lanes.clear()  # or what waited would live in cycles until these are collected
        for queue in self.queues.values():
            for unit in queue.waiting():
                unit.live = False  # not all of them are formed again
        self.queues.clear()
        self.parked_by = None
        self._shapes.clear()
        self._representatives.clear()
        self._pools_of.clear()
        self._units.clear()
        self._homes.clear()
        self._home_of.clear()
        for gang in self.gangs.values():
            self.regang(gang)
        for pod in self.state.pods.values():
            if pod.gang is None and pod.node is None:
                self.enqueue(pod)

    def enqueue(self, pod: Pod) -> None:
        """Let a pod of no gang wait, if it may."""
        if self.waits(pod):
            self._push((pod,), None)

    def seated(self, pod: Pod, room: Pod, gang: Gang) -> None:
        """A member of a gang has started in the room that was held for its like: the rest is formed anew."""
        gang.phantoms.remove(room)
        self.state.own_version += 1
        pod.started = self.state.now
        pod.unit = None
        self.regang(gang)

    def reconsider(self, pod: Pod) -> None:
        """Whether a pod may wait has changed."""
        if isinstance(pod.unit, Unit):
            pod.unit.live = False
            self.note(pod)
        if self.state.stale:
            return
        if pod.gang is not None:
            self.regang(pod.gang)
        elif pod.node is None:
            self.enqueue(pod)

    def unit_started(self, unit: Unit) -> None:
        """A unit's pods occupy their nodes: take them out of the queue; a gang's further pods become units."""
        for pod in unit.pods:
            pod.started = self.state.now
            if pod.phantom and unit.gang is not None:
                unit.gang.phantoms.append(pod)
                unit.gang.held_since = self.state.now
            pod.unit = None
        unit.live = False
        self.dirty.add(unit.leaf)
        if unit.gang is not None:
            unit.gang.whole |= unit.gang.running >= unit.gang.min_member
            self.regang(unit.gang)

    def waits(self, pod: Pod) -> bool:
        """Whether a pod waits in a queue: it may start as far as it and its tenant are concerned."""
        leaf = pod.leaf
        if leaf is None or leaf.suspended or not pod.ready or pod.set_aside is not None:
            return False
        return pod.node is None and pod.evicted_in < 0

    def regang(self, gang: Gang) -> None:
        """Form the units of a gang anew: one for what is missing, or one for each pod beyond."""
        for unit in self._units.pop(gang.key, ()):
            unit.live = False
            self.note(unit.first)
        if gang.spec is None or gang.spec.paused:
            return
        gang.home = self._home(gang, gang.spec) if gang.spec.topology_key is not None else None
        waiting = [pod for pod in gang.waiting() if self.waits(pod)]
        missing = gang.min_member - gang.running
        if missing <= 0:
            self._units[gang.key] = [self._push((pod,), gang) for pod in waiting]
        elif waiting:
            expected = self.expected(gang, waiting)
            present = missing - len(gang.phantoms) - len(expected)
            if 0 < present <= len(waiting):
                self._units[gang.key] = [self._push((*waiting[:present], *expected), gang)]
            elif present <= 0:
                self._units[gang.key] = [self._push((pod,), gang) for pod in waiting]

    def _home(self, gang: Gang, spec: GroupSpec) -> Home | None:
        """Where a gang stands, but for members that are being deleted; None if that does not matter."""
        key, by_name = spec.topology_key or "", self.nodes.by_name
        members = (pod for pod in gang.members.values() if not pod.spec.deleting)
        stand = (by_name.get(pod.node) for pod in (*members, *gang.phantoms) if pod.node is not None)
        domains = {node.spec.labels[key] for node in stand if node is not None and key in node.spec.labels}
        return Home(key, tuple(sorted(domains)), spec.topology_required) if domains or spec.topology_required else None

    def home(self, seen: tuple[int, ...]) -> Home | None:
        """The home of a gang for whose pods a row key stands, by the second part of the key."""
        return self._home_of.get(seen[-1]) if seen and seen[-1] <= _HOMES else None

    def _at_home(self, pod: Pod, seen: tuple[int, ...], home: Home) -> tuple[int, ...]:
        number = self._homes.get(home)
        if number is None:
            number = self._homes[home] = next(self._numbers)
            self._home_of[number] = home
        self._representatives.setdefault((pod.klass.id, (*seen, number)), (pod.klass, pod.labels))
        return (*seen, number)

    def expected(self, gang: Gang, waiting: list[Pod]) -> list[Pod]:
        """Phantoms for expected members that neither exist nor have their room held."""
        assert gang.spec is not None, "only described gangs expect anyone"  # noqa: S101 - for the type checker
        out = []
        come = Counter(pod.klass.amounts for pod in self._come(gang, gang.spec.expected))
        held = Counter(member_of(phantom) for phantom in gang.phantoms)
        for member in gang.spec.expected:
            template = member.template
            klass = self.interning.klass(template.scheduling, template.namespace)
            there = held[member.name]
            here = min(come[klass.amounts], max(member.count - there, 0))
            come[klass.amounts] -= here  # each counts once, among entries that request the same
            for number in range(there + here, member.count):
                spec = replace(template, name=f"{member.name}{EXPECTED}{number}", group=gang.key[1])
                labels = self.interning.labelset(spec.namespace, spec.labels)
                phantom = Pod(spec, klass, labels, waiting[0].leaf, waiting[0].arrival, gang=gang, phantom=True)
                out.append(phantom)
        return out

    def undescribed(self, gang: Gang) -> list[Pod]:
        """Rooms that are held for members whom the gang's description does not expect, or not so many of."""
        expected = gang.spec.expected if gang.spec is not None else ()
        wanted, left = Counter[tuple[str, PodClass]](), Counter[Amounts]()
        for member in expected:
            klass = self.interning.klass(member.template.scheduling, member.template.namespace)
            wanted[member.name, klass] += member.count
            left[klass.amounts] += member.count
        left.subtract(pod.klass.amounts for pod in self._come(gang, expected) if pod.node is not None)
        out = []
        for room in gang.phantoms:
            entry, amounts = (member_of(room), room.klass), room.klass.amounts
            if wanted[entry] > 0 and left[amounts] > 0:
                wanted[entry] -= 1
                left[amounts] -= 1
            else:
                out.append(room)
        return out

    def _come(self, gang: Gang, expected: tuple[ExpectedMember, ...]) -> list[Pod]:
        """Members that may be expected ones, told by what they request.

        As many as the gang needs beside the expected ones are not: those that look like none, then the earliest.
        """
        kinds = {self.interning.klass(each.template.scheduling, each.template.namespace).amounts for each in expected}
        alike = sorted(
            (pod for pod in gang.members.values() if pod.klass.amounts in kinds), key=lambda pod: pod.arrival
        )
        beside = gang.min_member - sum(each.count for each in expected) - (len(gang.members) - len(alike))
        return alike[max(beside, 0) :]

    def _push(self, pods: tuple[Pod, ...], gang: Gang | None) -> Unit:
        leaf = pods[0].leaf
        assert leaf is not None, "only pods with a tenant wait in queues"  # noqa: S101 - invariant
        order = order_of(pods[0]) if len(pods) == 1 else min(order_of(pod) for pod in pods if not pod.phantom)
        for pod in pods:
            self.counters.fed_by(pod.klass, pod.labels)
        unit = Unit(leaf, pods, self._shape(pods, gang), order, gang)
        for pod in pods:
            pod.unit = unit
        self.queue(leaf).push(unit)
        self.dirty.add(leaf)
        return unit

    def note(self, pod: Pod) -> None:
        """The queue of a pod's leaf has changed."""
        if pod.leaf is not None:
            self.dirty.add(pod.leaf)

    def _shape(self, pods: tuple[Pod, ...], gang: Gang | None) -> Shape:
        key: tuple[object, ...]
        together = None
        if len(pods) == 1:
            parts: tuple[tuple[RowKey, int], ...] = ((self.row_key(pods[0]), 1),)
            key = (parts, not pods[0].spec.preemptible)
        else:
            counts: dict[RowKey, int] = {}
            kept: dict[RowKey, int] = {}
            for pod in pods:
                row = self.row_key(pod)
                counts[row] = counts.get(row, 0) + 1
                kept[row] = kept.get(row, 0) + (not pod.spec.preemptible)
            parts = tuple(counts.items())
            spec = gang.spec if gang is not None else None
            together = (spec.topology_key, spec.topology_required) if spec is not None else None
            key = (parts, together, tuple(kept.values()))
        found = self._shapes.get(key)
        if found is None:
            amounts = total(pods)
            fixed = [pod for pod in pods if not pod.spec.preemptible]
            asks = without_pods(amounts)
            fixed_asks = without_pods(total(fixed))
            asked = frozenset(column for column, _ in asks)
            pieces: dict[Amounts, int] = {}
            for pod in pods:
                pieces[pod.klass.amounts] = pieces.get(pod.klass.amounts, 0) + 1
            found = self._shapes[key] = Shape(
                parts, amounts, asks, bool(fixed), fixed_asks, len(pods), asked, tuple(pieces.items()),
                together,
            )  # fmt: skip
        return found

    def _signature(self, pod: Pod) -> tuple[int, ...]:
        """What tells pods of one class apart for placement: nothing, mostly."""
        klass = pod.klass
        signature: tuple[int, ...] = ()
        if self.counters.all:
            signature = tuple(counter.id for counter in self.counters.binding(klass, pod.labels))
        if klass.minds:
            signature = (-1 - pod.labels.id, *signature)
        self._representatives.setdefault((klass.id, signature), (klass, pod.labels))
        return signature

    def row_key(self, pod: Pod) -> RowKey:
        """What decides where a waiting pod may stand."""
        seen = self._signature(pod)
        if pod.gang is not None and pod.gang.home is not None:
            seen = self._at_home(pod, seen, pod.gang.home)
        return (pod.klass.id, seen, self.pools_of(pod.leaf) if pod.leaf else ())

    def pools_of(self, leaf: Tenant) -> tuple[str, ...]:
        """The pools a leaf may use: the intersection down its path, and the pools open to it.

        The pool of nodes that no NodePool selects is none while there are only others.
        """
        found = self._pools_of.get(leaf.name)
        if found is None:
            names = {tenant.shown_name for tenant in leaf.path}
            pools = self.nodes.pool_names
            if self.nodes.pools and not (self.nodes.pool_index == pools.index(DEFAULT_POOL)).any():
                pools = [pool for pool in pools if pool != DEFAULT_POOL]
            found = tuple(
                pool for pool in pools
                if all(not t.spec.node_pools or pool in t.spec.node_pools for t in leaf.path)
                and (pool not in self.nodes.pools or not self.nodes.pools[pool].tenants
                     or not names.isdisjoint(self.nodes.pools[pool].tenants))
            )  # fmt: skip
            self._pools_of[leaf.name] = found
        return found

    def represented(self, klass_id: int, signature: tuple[int, ...]) -> tuple[PodClass, LabelSet]:
        """A class, and a label set that stands for all of its pods with this signature."""
        return self._representatives[klass_id, signature]

    def is_represented(self, klass_id: int, signature: tuple[int, ...]) -> bool:
        """Whether any pod that waits, or has waited since queues were last formed, is of this class and signature."""
        return (klass_id, signature) in self._representatives
