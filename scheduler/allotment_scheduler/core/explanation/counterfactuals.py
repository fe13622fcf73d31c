"""Counterfactuals: the smallest smaller request with which a unit that waits would start now.

How it thinks: limits first, they say what each pod may ask for at most; then the nodes. A single pod goes where the
sum of its reductions, each relative to what it asks for, is the least. Of a gang of equal pods so many slots must be
free as it has pods: one resource is reduced if that suffices, else those it asks for in proportion, and each of them is
then raised again as far as it goes.

Invariants: with the reduction applied, and everything else as it is, the unit fits within all limits and on the nodes.
Nothing is named where that cannot be said by counting: gangs of unlike pods, with members that are only announced,
that mind their neighbours, or under limits of single pools.

It must never change anything. Rooms that are held or reserved for others are not looked at.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from allotment_api.quantities import format_units
from allotment_scheduler.core.objects.nodes import BoolVector, IntVector
from allotment_scheduler.core.objects.resources import PODS, Amounts, Column, without_pods
from allotment_scheduler.core.objects.units import Shape, Unit
from allotment_scheduler.core.placement.eligibility import limits_met
from allotment_scheduler.core.placement.gangs import GangPlacer
from allotment_scheduler.core.placement.placer import Placer
from allotment_scheduler.core.state.cluster import ClusterState

_STEPS: Final = 2**20
"""Parts of a request that a proportional reduction is searched in."""
Request = dict[Column, int]


@dataclass(frozen=True, slots=True)
class Reduction:
    """What each pod of a unit would ask for less.

    Attributes:
        fewer: by resource; what it asks for less, more than 0.
        most: by the same resources; what it would then ask for.
        node: where it would go; empty for a gang, and its pool.
    """

    fewer: Amounts
    most: Amounts
    node: str = ""
    pool: str = ""
    size: int = field(default=1)

    def by_nodes(self, names: list[str]) -> str:
        """The change in words, where nodes are in the way."""
        less = " and ".join(f"{format_units(names[column], amount)} {names[column]}" for column, amount in self.fewer)
        where = f"node {self.node} of pool {self.pool}" if self.size == 1 else f"all {self.size} of them"
        return f"{less} fewer per pod fits {where}"

    def by_limit(self, names: list[str]) -> str:
        """The change in words, where a limit is in the way."""
        most = " and ".join(f"{format_units(names[column], amount)} {names[column]}" for column, amount in self.most)
        return f"ask for at most {most}" + (" per pod" if self.size > 1 else "")


def smaller_request(state: ClusterState, placer: Placer, unit: Unit) -> Reduction | None:
    """The smallest reduction that would start a unit now; None where there is none, or none that can be counted."""
    shape = unit.shape
    if len(shape.parts) > 1 or any(pod.phantom for pod in unit.pods):
        return None
    size = shape.size
    if size > 1 and any(tenant.limits_in for tenant in unit.leaf.limited_path):
        return None
    klass = unit.first.klass
    asked: Request = dict(klass.amounts)
    request = _within_limits(unit, asked)
    blocker, pools = limits_met(unit.leaf, _asking(shape, request)) if request is not None else (unit.leaf, ())
    if request is None or blocker is not None:
        return None
    (klass_id, seen, _), _ = shape.parts[0]
    row = placer.row((klass_id, seen, pools))
    if row.blocks and size > 1:
        return None
    around = row.neighbours.mask()
    allowed: BoolVector = row.allowed if around is None else row.allowed & around
    roomy = {column for column, _ in klass.room}
    found: tuple[float, Request, int] | None = None
    for domain in _domains(state, unit, allowed):
        here = _Ground(state, domain, request, roomy)
        better = here.for_one() if size == 1 else here.for_many(size)
        if better is not None and (found is None or better[0] < found[0]):
            found = better
    if found is None:
        return None
    new, index = found[1], found[2]
    less = tuple((column, amount - new[column]) for column, amount in asked.items() if new[column] < amount)
    node = state.nodes.ordered[index] if size == 1 else None
    if not less or any(column == PODS for column, _ in less):
        return None
    return Reduction(less, tuple((column, new[column]) for column, _ in less),
                     node.spec.name if node else "", node.pool if node else "", size)  # fmt: skip


def _within_limits(unit: Unit, asked: Request) -> Request | None:
    """The most that each pod may ask for under the limits for the whole cluster; None where nothing is left."""
    request, size = dict(asked), unit.shape.size
    for tenant in unit.leaf.limited_path:
        for column, cap in tenant.limits.items():
            if column in request:
                request[column] = min(request[column], (cap - tenant.taken(column)) // size)
    return request if all(request[column] > 0 for column in request) else None


def _asking(shape: Shape, request: Request) -> Shape:
    """The shape with another request per pod."""
    each = tuple(request.items())
    total = tuple((column, amount * shape.size) for column, amount in each)
    fixed = tuple((column, min(amount, dict(total)[column])) for column, amount in shape.fixed_asks)
    return Shape(shape.parts, total, without_pods(total), shape.fixed, fixed, shape.size, shape.asked,
                 ((each, shape.size),))  # fmt: skip


def _domains(state: ClusterState, unit: Unit, allowed: BoolVector) -> Iterator[BoolVector]:
    """The nodes that are open to all pods of a unit together."""
    spec = unit.gang.spec if unit.gang is not None and unit.shape.size > 1 else None
    if spec is None or spec.topology_key is None or not spec.topology_required:
        yield allowed
        return
    codes, values = state.nodes.label_codes(spec.topology_key)
    for domain in range(len(values)):
        yield allowed & (codes == domain)


class _Ground:
    """Some nodes, and a request that is to be made smaller until it fits there."""

    def __init__(self, state: ClusterState, allowed: BoolVector, request: Request, roomy: set[Column]) -> None:
        self.free = np.maximum(state.nodes.free, 0)
        self.allowed = allowed
        self.request = request
        self.roomy = roomy
        self.scalable = [column for column in request if column in roomy and column != PODS]

    def for_one(self) -> tuple[float, Request, int] | None:
        """The node where one pod would have to ask for the least less, and how much that is."""
        lacking = np.zeros(self.free.shape[1], dtype=np.float64)
        fits = self.allowed.copy()
        for column in self.roomy:
            amount = self.request[column]
            fits &= self.free[column] >= (amount if column == PODS else 1)
            lacking += np.maximum(amount - self.free[column], 0) / amount
        if not fits.any():
            return None
        index = int(np.where(fits, lacking, np.inf).argmin())
        new = {column: min(amount, int(self.free[column, index])) if column in self.roomy else amount
               for column, amount in self.request.items()}  # fmt: skip
        return float(lacking[index]), new, index

    def for_many(self, size: int) -> tuple[float, Request, int] | None:
        """What each of some equal pods may ask for so that all of them fit."""
        if self._slots(self.request) >= size:
            return 0.0, self.request, -1
        found: list[tuple[float, Request, int]] = []
        for column in self.scalable:
            new = self._raised(self.request | {column: 1}, column, size)
            if new is not None:
                found.append((1 - new[column] / self.request[column], new, -1))
        if found:
            return min(found, key=lambda it: it[0])
        best = _most(_STEPS, lambda step: self._slots(self._scaled(step)) >= size)
        if best is None:
            return None
        new = self._scaled(best)
        for column in self.scalable:
            new = self._raised(new, column, size) or new
        return sum(1 - new[column] / self.request[column] for column in self.scalable), new, -1

    def _scaled(self, step: int) -> Request:
        scaled = {column: max(1, self.request[column] * step // _STEPS) for column in self.scalable}
        return self.request | scaled

    def _raised(self, request: Request, column: Column, size: int) -> Request | None:
        """A request with as much of one resource as still fits; None where it does not fit as it is."""
        if self._slots(request) < size:
            return None
        low, high = request[column], self.request[column]
        more = _most(high - low, lambda step: self._slots(request | {column: low + step}) >= size)
        return request | {column: low + (more or 0)}

    def _slots(self, request: Mapping[Column, int]) -> int:
        return int(slots(self.free, self.allowed, {column: request[column] for column in self.roomy}).sum())


def slots(free: np.ndarray[tuple[int, int], np.dtype[np.int64]], allowed: BoolVector, room: Request) -> IntVector:
    """How many pods that take so much room fit on each node."""
    found: IntVector = np.where(allowed, np.int64(2**31), 0)
    for column, amount in room.items():
        found = np.minimum(found, np.maximum(free[column], 0) // amount)
    return found


def _most(high: int, holds: Callable[[int], bool]) -> int | None:
    """The largest number up to `high` for which something holds that ceases to hold as numbers grow."""
    if not holds(0):
        return None
    low = 0
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def would_start(gangs: GangPlacer, unit: Unit, *, preemptible: bool) -> bool:
    """Whether a unit would start now if its pods might be preempted."""
    shape = unit.shape
    if preemptible:
        shape = Shape(shape.parts, shape.amounts, shape.asks, False, (), shape.size, shape.asked, shape.pieces)
    blocker, pools = limits_met(unit.leaf, shape)
    return blocker is None and gangs.fits(Unit(unit.leaf, unit.pods, shape, unit.order, unit.gang), pools)
