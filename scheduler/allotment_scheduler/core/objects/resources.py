"""The resource vocabulary: names such as ``cpu`` become columns of integer vectors.

Every amount in the core is an integer: milli-CPU for ``cpu``, bytes or pieces for everything else. A request is sparse,
a tuple of (column, amount) pairs in column order; what a tenant uses is dense, a list with one integer per column; what
nodes hold is a matrix [resource x node].

Columns 0, 1 and 2 are fixed. ``pods`` counts pods: it is a resource of nodes and of limits, never of shares. The other
columns are given out in order of first sight, and never taken back: each is a row of every matrix, and a place in every
dense vector. So only who offers, prices or bounds a resource gives it a column: nodes, pools and tenants. What pods ask
for beside these is one column for all, `NOWHERE`: anybody may name a thousand resources, and no node has any of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NewType

Column = NewType("Column", int)
Amounts = tuple[tuple[Column, int], ...]
"""A sparse vector: (column, amount) pairs in column order, amounts above zero."""

CPU: Final = Column(0)
MEMORY: Final = Column(1)
PODS: Final = Column(2)

LARGEST: Final = 2**60
"""The largest amount of anything: sums of a few of them still fit into 64 bits."""
NOWHERE: Final = "(offered nowhere)"
"""The column of everything that pods ask for and nobody else has named."""
_GROWTH: Final = 8


@dataclass(slots=True)
class Resources:
    """Names of resources and their columns. `width` is the length every dense vector has: a multiple of eight."""

    names: list[str] = field(default_factory=lambda: ["cpu", "memory", "pods"])
    columns: dict[str, Column] = field(default_factory=lambda: {"cpu": CPU, "memory": MEMORY, "pods": PODS})

    @property
    def width(self) -> int:
        """Length of dense vectors: room for every known column."""
        return -(-len(self.names) // _GROWTH) * _GROWTH

    def column(self, name: str) -> Column:
        """The column of a resource, given out on first sight."""
        found = self.columns.get(name)
        if found is None:
            found = Column(len(self.names))
            self.names.append(name)
            self.columns[name] = found
        return found

    def sparse(self, amounts: Iterable[tuple[str, int]]) -> Amounts:
        """What a pod asks for as (column, amount) pairs, zeros left out; of what nobody offers, the largest amount."""
        found: dict[Column, int] = {}
        for name, amount in amounts:
            if amount > 0:
                column = self.columns.get(name)
                if column is None:
                    column = self.column(NOWHERE)
                    amount = max(amount, found.get(column, 0))  # noqa: PLW2901 - a sum might not fit into 64 bits
                found[column] = amount
        return tuple(sorted(found.items()))

    def by_column(self, amounts: Mapping[str, int]) -> dict[Column, int]:
        """A named vector as a mapping of columns; zeros are kept, for a limit of zero means something."""
        return {self.column(name): amount for name, amount in amounts.items()}

    def by_name(self, amounts: Iterable[int]) -> dict[str, int]:
        """A dense vector by the names of resources, without zeros and without what has no name of its own."""
        pairs = zip(self.names, amounts, strict=False)
        return {name: amount for name, amount in pairs if amount and name != NOWHERE}

    def called(self, column: Column, asked: Iterable[tuple[str, int]]) -> str:
        """The name of a column where a pod's request is spoken of: what nobody offers has the pod's own names."""
        if self.names[column] != NOWHERE:
            return self.names[column]
        return " and ".join(name for name, amount in asked if amount > 0 and name not in self.columns)


def add(left: Amounts, right: Amounts) -> Amounts:
    """The sum of two sparse vectors."""
    if not left:
        return right
    total = dict(left)
    for column, amount in right:
        total[column] = total.get(column, 0) + amount
    return tuple(sorted(total.items()))


def times(amounts: Amounts, factor: int) -> Amounts:
    """A sparse vector, `factor` times."""
    return tuple((column, amount * factor) for column, amount in amounts)


def without_pods(amounts: Amounts) -> Amounts:
    """What counts in shares and guarantees: everything but the number of pods."""
    return tuple(pair for pair in amounts if pair[0] != PODS)
