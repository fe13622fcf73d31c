"""Scores: which of the feasible nodes is best, as one float per class and node, the largest first.

Lexicographic, by weights far apart:

1. a pod that asks for no GPU keeps off nodes that have one;
2. the cheaper pool first (by the cost of what the pod asks for), then pools by name, as entitlement fills them;
3. the domain where the rest of its gang stands, if the gang has a topology;
4. preferred node affinity and PreferNoSchedule taints, normalised and weighted as kube-scheduler does (2 and 3; in
   proportion to the largest score); preferred inter-pod terms and soft spread (2 each; filters/topology.py) are added
   where a class has them;
5. the shape of the request against the shape of what is free: both as fractions of the cluster's totals, scaled to
   maximum 1, sum of absolute differences (the best-fit heuristic of DRFH, Wang et al. 2014, section V). Differences are
   taken in steps of a half: within a step, packing matters more. GPU pods skip this point, for a node whose last GPU
   is free has a shape unlike any request, and would never be filled up;
6. Pack: least left free; Spread: most left free. Ties go to the first node by name.

Floats decide only between nodes that could both take the pod; whether one can is decided in integers.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from allotment_scheduler.core.fairness.shares import Measure
from allotment_scheduler.core.filters.nodes import term_mask
from allotment_scheduler.core.filters.topology import in_proportion
from allotment_scheduler.core.objects.attachments import DEVICES
from allotment_scheduler.core.objects.nodes import BoolVector, IntMatrix, Nodes
from allotment_scheduler.core.objects.pods import PodClass
from allotment_scheduler.core.objects.resources import Amounts, Column
from allotment_scheduler.core.objects.selectors import untolerated

Floats = npt.NDArray[np.float64]

TIER: Final = 32.0
"""Distance between tiers: above the range of shape and room."""
HOME: Final = 1e3
"""What it is worth to stand where the rest of the gang does: above all preferences."""
POOL: Final = 1e4
GPU: Final = 1e7
STEPS: Final = 2.0
"""Steps per unit of difference in shape."""


@dataclass(slots=True)
class ScoreBasis:
    """What scores need of the cluster, for one version of its capacity."""

    columns: npt.NDArray[np.intp]
    inverse: Floats
    """1/T(r) for the shared resources."""
    direction: Floats
    """Per node: -1 packs, +1 spreads."""
    directions: list[float]
    weighed: list[tuple[int, float]]
    """The shared columns with 1/T(r), as plain numbers."""
    has_gpu: BoolVector
    gpu_columns: frozenset[Column]

    @classmethod
    def of(cls, nodes: Nodes, measure: Measure) -> "ScoreBasis":
        """Read totals, GPUs and the pools' placement."""
        columns = np.array(measure.columns, dtype=np.intp)
        totals = [float(measure.totals[column]) for column in measure.columns]
        # Before the first layout resources may be known that nodes have no column for yet.
        names = nodes.resources.names[: len(nodes.allocatable)]
        gpu_columns = frozenset(Column(column) for column, name in enumerate(names) if is_gpu(name))
        has_gpu = np.zeros(len(nodes.ordered), dtype=np.bool_)
        for column in gpu_columns:
            has_gpu |= nodes.allocatable[column] > 0
        direction = np.where(has_gpu, -1.0, 1.0)
        for index, name in enumerate(nodes.pool_names):
            pool = nodes.pools.get(name)
            if pool is not None and pool.placement is not None:
                direction[nodes.pool_index == index] = -1.0 if pool.placement == "Pack" else 1.0
        inverse = 1.0 / np.array(totals) if totals else np.zeros(0)
        weighed = [(int(column), float(x)) for column, x in zip(columns, inverse, strict=True)]
        return cls(columns, inverse, direction, direction.tolist(), weighed, has_gpu, gpu_columns)

    def request_shape(self, amounts: Amounts) -> Floats:
        """A request as fractions of the totals, scaled to maximum 1."""
        asked = dict(amounts)
        parts = np.array([asked.get(Column(int(column)), 0) for column in self.columns], dtype=np.float64)
        return scaled(parts * self.inverse)

    def static(self, klass: PodClass, feasible: BoolVector, nodes: Nodes, measure: Measure) -> Floats:
        """Points 1, 2 and 4: the part of a class's score that room does not change."""
        score = np.zeros(len(nodes.ordered), dtype=np.float64)
        if not any(column in self.gpu_columns for column, _ in klass.asks):
            score -= GPU * self.has_gpu
        ranks = np.zeros(len(nodes.pool_names), dtype=np.float64)
        for rank, name in enumerate(pools_by_price(nodes, klass.asks, measure)):
            ranks[nodes.pool_names.index(name)] = rank
        score -= POOL * ranks[nodes.pool_index]
        preference = np.zeros(len(nodes.ordered), dtype=np.int64)
        for weight, term in klass.spec.preferred_nodes:
            preference += weight * term_mask(term, nodes)
        disliked = _disliked_taints(klass, nodes)
        score += 2 * in_proportion(preference, feasible)
        if disliked.any():
            score -= 3 * in_proportion(disliked, feasible)
        return score

    def steps(self, asks: Amounts) -> float:
        """Steps per unit of difference in shape; none for GPU pods, for which packing alone decides."""
        return 0.0 if any(column in self.gpu_columns for column, _ in asks) else STEPS

    def room(self, shape: Floats, steps: float, free: IntMatrix) -> Floats:
        """The part that changes with every start, for one request over all nodes.

        `shape` is by shared resource, `free` [resource x node] by column.
        """
        fractions = [np.maximum(free[column], 0) * inverse for column, inverse in self.weighed]
        top = np.zeros(free.shape[1])
        for fraction in fractions:
            np.maximum(top, fraction, out=top)
        top[top == 0] = 1.0
        left, distance = np.zeros(free.shape[1]), np.zeros(free.shape[1])
        for part, fraction in zip(shape.tolist(), fractions, strict=True):
            left += fraction
            distance += np.abs(part - fraction / top)
        score: Floats = self.direction * (left / max(len(fractions), 1)) - np.floor(distance * steps)
        return score

    def rooms(self, shapes: Floats, steps: Floats, room: list[int], direction: float) -> Floats:
        """The same for many requests on one node: the same numbers, added up in the same order.

        `shapes` is [shared resource x request], `room` the node's by column, `direction` the node's.
        """
        fractions = [room[column] * inverse if room[column] > 0 else 0.0 for column, inverse in self.weighed]
        top = max(fractions, default=0.0) or 1.0
        left, distance = 0.0, np.zeros(len(steps))
        for parts, fraction in zip(shapes, fractions, strict=True):
            left += fraction
            distance += np.abs(parts - fraction / top)
        distance *= steps
        np.floor(distance, out=distance)
        score: Floats = direction * (left / max(len(fractions), 1)) - distance
        return score


def tiers(points: Floats) -> Floats:
    """Points as tiers that shape and room cannot bridge: small numbers, so that room keeps its precision."""
    _, rank = np.unique(points, return_inverse=True)
    result: Floats = rank.astype(np.float64) * TIER
    return result


def is_gpu(name: str) -> bool:
    """Whether a resource is a GPU or the like: ``nvidia.com/gpu``, MIG slices, devices by claims."""
    return name.endswith(("/gpu", DEVICES)) or "/mig-" in name or name.startswith("gpu.")


def scaled(vector: Floats) -> Floats:
    """Scale to maximum 1 along the first axis; zeros stay zeros."""
    top = vector.max(axis=0, initial=0.0)
    divided: Floats = vector / np.where(top > 0, top, 1.0)
    return divided


def pools_by_price(nodes: Nodes, asks: Amounts, measure: Measure) -> list[str]:
    """Pools from the cheapest for this request, then by name."""
    totals = measure.totals

    def price(pool: str) -> float:
        spec = nodes.pools.get(pool)
        if spec is None or not spec.cost:
            return sum(amount / float(totals[column]) for column, amount in asks if column in totals)
        names = nodes.resources.names
        return sum(
            float(spec.cost.get(names[column], 1)) * amount / float(totals[column])
            for column, amount in asks if column in totals
        )  # fmt: skip

    if not measure.cost:
        return list(nodes.pool_names)
    return sorted(nodes.pool_names, key=lambda pool: (price(pool), pool))


def _disliked_taints(klass: PodClass, nodes: Nodes) -> npt.NDArray[np.int64]:
    counts = np.zeros(len(nodes.ordered), dtype=np.int64)
    for index, taints in nodes.tainted:
        for taint in taints:
            if untolerated((taint,), klass.spec.tolerations, ("PreferNoSchedule",)) is not None:
                counts[index] += 1
    return counts
