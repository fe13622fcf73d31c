"""Nodes and pools: what there is, what of it is free, and who may stand where.

Nodes are rows of objects for names, labels and taints, and columns of int64 matrices [resource x node] for amounts, in
the order of names, so that the first of equal scores is the first by name. Free room may be negative on a node that
others have overcommitted: then nothing more fits, and nothing breaks.

A node that comes, goes or changes only marks the layout as stale: it is rebuilt once, when it is next needed. What is
kept up in place is the room that pods take and give back.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Final, NewType

import numpy as np
import numpy.typing as npt

from allotment_scheduler.core.objects.resources import LARGEST, PODS, Amounts, Resources
from allotment_scheduler.core.objects.selectors import LabelSelector, Requirement, Taint

if TYPE_CHECKING:
    from allotment_scheduler.core.objects.pods import Pod

NodeIdx = NewType("NodeIdx", int)
IntMatrix = npt.NDArray[np.int64]
IntVector = npt.NDArray[np.int64]
BoolVector = npt.NDArray[np.bool_]

DEFAULT_POOL: Final = "default"
DEFAULT_PODS: Final = 110
"""What a node without ``pods`` among its allocatable resources takes, as the kubelet does."""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A node from outside. `allocatable` in units."""

    name: str
    allocatable: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    ready: bool = True
    volume_limits: Mapping[str, int] = field(default_factory=dict)
    """How many volumes of each CSI driver it may attach."""
    features: tuple[str, ...] = ()
    """What its kubelet can do that not every one can."""


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """A node pool from outside. `placement` is Pack, Spread or None (Pack where there is a GPU)."""

    name: str
    selector: LabelSelector = field(default_factory=LabelSelector)
    placement: str | None = None
    cost: Mapping[str, Fraction] = field(default_factory=dict)
    tenants: tuple[str, ...] = ()
    paused: bool = False
    """Its nodes take no new pods, and their room does not count, as on nodes that are cordoned."""


@dataclass(slots=True, eq=False)
class Node:
    """The core's record of a node."""

    spec: NodeSpec
    index: int = -1
    pool: str = DEFAULT_POOL
    paused: bool = False
    """Its pool is paused."""
    devices: Mapping[str, int] = field(default_factory=dict)
    """What it offers beside its allocatable resources: devices, by resource name."""
    pods: dict[int, "Pod"] = field(default_factory=dict)
    """Pods that occupy it, by their row in the table of running pods."""

    @property
    def usable(self) -> bool:
        """Whether its room counts and new pods may start on it."""
        return self.spec.ready and not self.spec.unschedulable and not self.paused


class Nodes:
    """All nodes, as objects by name and as matrices by index."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.by_name: dict[str, Node] = {}
        self.ordered: list[Node] = []
        self.pools: dict[str, PoolSpec] = {}
        self.allocatable: IntMatrix = np.zeros((resources.width, 0), dtype=np.int64)
        self.free: IntMatrix = np.zeros((resources.width, 0), dtype=np.int64)
        self._room = self.free.data
        """The same memory: single numbers are read and written in it at half of numpy's cost."""
        self.pool_names: list[str] = []
        self.pool_index: npt.NDArray[np.int32] = np.zeros(0, dtype=np.int32)
        self.layout_version = 0
        """Moves when indexes, labels, taints or sizes change: whatever was computed per node is stale."""
        self.touched: list[int] = []
        """Indexes whose free room changed, in order; readers keep a cursor into it."""
        self.released = 0
        """How often room was given back: while it stands still, room has only shrunk."""
        self.ready: BoolVector = np.zeros(0, dtype=np.bool_)
        self.schedulable: BoolVector = np.zeros(0, dtype=np.bool_)
        self.resumed: BoolVector = np.zeros(0, dtype=np.bool_)
        """Nodes whose pool is not paused."""
        self.tainted: list[tuple[int, tuple[Taint, ...]]] = []
        """Nodes with taints, by index."""
        self._stale = True
        self._label_codes: dict[str, tuple[npt.NDArray[np.int32], dict[str, int]]] = {}
        self._label_keys: set[str] | None = None
        """Every key of a label of some node; None until somebody asks."""

    def upsert(self, spec: NodeSpec) -> Node:
        """Add a node or replace what is known of it."""
        node = self.by_name.get(spec.name)
        if node is None:
            node = self.by_name[spec.name] = Node(spec)
        node.spec = spec
        self._stale = True
        return node

    def remove(self, name: str) -> None:
        """Forget a node; its pods must have gone before."""
        self.by_name.pop(name, None)
        self._stale = True

    def mark_stale(self) -> None:
        """Pools or resources have changed: lay out anew."""
        self._stale = True

    @property
    def stale(self) -> bool:
        """Whether `lay_out` has anything to do."""
        return self._stale or self.allocatable.shape[0] != self.resources.width

    def lay_out(self, held: Iterable[tuple[str, Amounts]]) -> None:
        """Rebuild indexes and matrices; `held` gives (node name, amounts) of everything that occupies room."""
        self.ordered = [self.by_name[name] for name in sorted(self.by_name)]
        width, count = self.resources.width, len(self.ordered)
        allocatable: IntMatrix = np.zeros((width, count), dtype=np.int64)
        for index, node in enumerate(self.ordered):
            node.index = index
            node.pool = self._pool_of(node.spec)
            node.paused = node.pool in self.pools and self.pools[node.pool].paused
            for name, amount in (*node.spec.allocatable.items(), *node.devices.items()):
                column = self.resources.columns.get(name)
                if column is not None:
                    allocatable[column, index] = min(amount, LARGEST)
            if "pods" not in node.spec.allocatable:
                allocatable[PODS, index] = DEFAULT_PODS
        self.allocatable = allocatable
        self.free = allocatable.copy()
        self._room = room = self.free.data
        for name, amounts in held:
            node_here = self.by_name.get(name)
            if node_here is not None:
                index = node_here.index
                for column, amount in amounts:
                    room[column, index] -= amount
        self.pool_names = sorted({node.pool for node in self.ordered} | set(self.pools) | {DEFAULT_POOL})
        order = {name: i for i, name in enumerate(self.pool_names)}
        self.pool_index = np.array([order[node.pool] for node in self.ordered], dtype=np.int32)
        self._label_codes.clear()
        self._label_keys = None
        self.ready = np.array([node.spec.ready for node in self.ordered], dtype=np.bool_)
        self.schedulable = np.array([not node.spec.unschedulable for node in self.ordered], dtype=np.bool_)
        self.resumed = np.array([not node.paused for node in self.ordered], dtype=np.bool_)
        self.tainted = [(index, node.spec.taints) for index, node in enumerate(self.ordered) if node.spec.taints]
        self.layout_version += 1
        self.touched.clear()
        self._stale = False

    def members(self, pool: str) -> list[Node]:
        """The nodes of a pool, in order, as they were laid out; at the cost of these, not of all."""
        if pool not in self.pool_names:
            return []
        there = self.pool_index == self.pool_names.index(pool)
        return [self.ordered[index] for index in np.flatnonzero(there).tolist()]

    def take(self, index: int, amounts: Amounts, sign: int) -> None:
        """Take room from a node (sign 1) or give it back (-1)."""
        room = self._room
        for column, amount in amounts:
            room[column, index] -= sign * amount
        self.touched.append(index)
        if sign < 0:
            self.released += 1

    def _pool_of(self, spec: NodeSpec) -> str:
        for name in sorted(self.pools):
            if self.pools[name].selector.matches(spec.labels):
                return name
        return DEFAULT_POOL

    def usable_mask(self) -> BoolVector:
        """Nodes whose room counts."""
        return self.ready & self.schedulable & self.resumed

    def only(self, indexes: "list[int] | IntVector") -> BoolVector:
        """Some nodes and no other, by index."""
        mask = np.zeros(len(self.ordered), dtype=np.bool_)
        mask[indexes] = True
        return mask

    def named(self, names: Iterable[str]) -> BoolVector:
        """The nodes with these names, as far as there are such."""
        return self.only([self.by_name[name].index for name in names if name in self.by_name])

    def label_codes(self, key: str) -> tuple[npt.NDArray[np.int32], dict[str, int]]:
        """The values of one label over all nodes as codes (-1: absent), and the code of each value.

        Pods may name any keys, and many: nothing is kept of one that no node has, and no node is looked at for it.
        """
        if self._label_keys is None:
            self._label_keys = set().union(*(node.spec.labels for node in self.ordered))
        if key not in self._label_keys:
            return np.full(len(self.ordered), -1, dtype=np.int32), {}
        found = self._label_codes.get(key)
        if found is None:
            values: dict[str, int] = {}
            codes = np.full(len(self.ordered), -1, dtype=np.int32)
            for index, node in enumerate(self.ordered):
                value = node.spec.labels.get(key)
                if value is not None:
                    codes[index] = values.setdefault(value, len(values))
            found = self._label_codes[key] = (codes, values)
        return found

    def matching(self, requirement: Requirement) -> BoolVector:
        """Which nodes meet a requirement on their labels."""
        codes, values = self.label_codes(requirement.key)
        good = np.zeros(len(values) + 1, dtype=np.bool_)
        for value, code in values.items():
            good[code] = requirement.holds({requirement.key: value})
        good[-1] = requirement.holds({})
        matched: BoolVector = good[codes]
        return matched
