"""Portions: everybody's demand in order, as a few kinds of portions and rows of their numbers.

Tens of thousands of pods that wait come in a few hundred kinds. So leaf by leaf only the numbers of kinds are kept, in
one array; a leaf's portions are looked up in it when they are asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from allotment_scheduler.core.objects.resources import Amounts

Ints = npt.NDArray[np.int64]
Want = tuple[Amounts, tuple[str, ...]]
"""What a pod asks for, and the pools where it may run, the cheapest first."""


@dataclass(frozen=True, slots=True)
class Portion:
    """Demand of `count` equal pods in a row. `pools`: where they may run, the cheapest first."""

    asks: Amounts
    pools: tuple[str, ...]
    count: int


def distinct(numbers: Ints) -> tuple[Ints, Ints]:
    """The numbers that occur, none below 0, in ascending order; and for each place which of them stands there.

    Where they are small this takes no sorting.
    """
    size = int(numbers.max(initial=0)) + 1
    if size > 4 * len(numbers) + 1024:
        values, which = np.unique(numbers, return_inverse=True)
        return values, which.reshape(-1)
    occurs = np.zeros(size, dtype=np.bool_)
    occurs[numbers] = True
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1).take(numbers)


def begins(owner: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where groups of equal neighbours begin; numpy's `diff` takes several times as long."""
    found: npt.NDArray[np.bool_] = np.ones(len(owner), dtype=np.bool_)
    np.not_equal(owner[1:], owner[:-1], out=found[1:])
    return found


class Row(Sequence[Portion]):
    """One leaf's portions, in order: a view of what is kept for all of them."""

    __slots__ = ("_begin", "_demand", "_end")

    def __init__(self, demand: "Portions", begin: int, end: int) -> None:
        self._demand = demand
        self._begin = begin
        self._end = end

    def __len__(self) -> int:
        return self._end - self._begin

    @overload
    def __getitem__(self, index: int) -> Portion: ...
    @overload
    def __getitem__(self, index: slice) -> list[Portion]: ...
    def __getitem__(self, index: int | slice) -> Portion | list[Portion]:
        kinds, kind = self._demand.kinds, self._demand.kind
        where = range(self._begin, self._end)[index]
        return [kinds[int(kind[i])] for i in where] if isinstance(where, range) else kinds[int(kind[where])]


class Portions(Mapping[str, Row]):
    """Everybody's portions, by the leaf's name."""

    def __init__(self, kinds: Sequence[Portion], kind: Ints, leaves: Sequence[str], firsts: Ints) -> None:
        self.kinds = kinds
        self.kind = kind
        """By portion, leaf by leaf."""
        bounds = [*firsts.tolist(), len(kind)]
        self.span = {name: (bounds[index], bounds[index + 1]) for index, name in enumerate(leaves)}
        """Where each leaf's begin and end."""

    @classmethod
    def of(cls, leaf: Ints, want: Ints, wants: Sequence[Want], names: Sequence[str]) -> "Portions":
        """From pods in order, leaf by leaf: each one's leaf, and what it wants; neighbours that want the same merge."""
        starts = np.flatnonzero(begins(leaf) | begins(want))
        counts = np.diff(starts, append=len(leaf))
        most = int(counts.max(initial=0)) + 1
        numbers, kind = distinct(want.take(starts) * most + counts)
        pairs = [(wants[number // most], number % most) for number in numbers.tolist()]
        kinds = [Portion(asks, pools, count) for (asks, pools), count in pairs]
        of = leaf.take(starts)
        firsts = np.flatnonzero(begins(of))
        return cls(kinds, kind, [names[number] for number in of[firsts].tolist()], firsts)

    def in_order(self, names: Sequence[str]) -> tuple[Ints, Ints]:
        """The kinds of these tenants' portions in one row, and where each tenant's begin and end in it."""
        spans = np.array([self.span.get(name, (0, 0)) for name in names], dtype=np.int64).reshape(-1, 2)
        first = np.concatenate([[0], np.cumsum(spans[:, 1] - spans[:, 0])])
        rows = np.arange(first[-1]) + np.repeat(spans[:, 0] - first[:-1], np.diff(first))
        return self.kind[rows], first

    def same_as(self, other: "Portions") -> bool:
        """Whether everybody wants the same in the same order."""
        return self.kinds == other.kinds and self.span == other.span and np.array_equal(self.kind, other.kind)

    def __getitem__(self, name: str) -> Row:
        return Row(self, *self.span[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.span)

    def __len__(self) -> int:
        return len(self.span)
