"""Arrays of rational numbers, exact and without bounds.

Numerators and denominators are Python's integers in numpy's object arrays: several times as fast as arrays of
`Fraction`, because nothing is reduced to lowest terms unless it is asked for (`reduced`), and no object is made per
number. Denominators are never 0; they are negative where something negative was divided by.

It must never round.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Self

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Exact = npt.NDArray[np.object_]
"""Python's integers."""
Where = int | Ints
"""Places along the last axis."""


class Ratios:
    """Rational numbers: `top` over `bottom`, of one shape."""

    __slots__ = ("bottom", "top")

    def __init__(self, top: Exact, bottom: Exact) -> None:
        self.top = top
        self.bottom = bottom

    @classmethod
    def zeros(cls, *shape: int) -> Self:
        """All 0."""
        return cls(np.zeros(shape, dtype=np.object_), np.ones(shape, dtype=np.object_))

    @classmethod
    def of(cls, numbers: Iterable[int | Fraction]) -> Self:
        """Some numbers in a row."""
        return cls.of_pairs([number.as_integer_ratio() for number in numbers])

    @classmethod
    def of_pairs(cls, pairs: Sequence[tuple[int, int]]) -> Self:
        """Numerators and denominators in a row."""
        table = np.array(pairs, dtype=np.object_).reshape(-1, 2)
        return cls(table[:, 0], table[:, 1])

    @classmethod
    def whole(cls, numbers: Ints | Exact) -> Self:
        """Whole numbers."""
        return cls(numbers.astype(np.object_), np.ones(numbers.shape, dtype=np.object_))

    def take(self, where: Where) -> Self:
        """Those at some places."""
        return type(self)(self.top[..., where], self.bottom[..., where])

    def put(self, where: Where, numbers: "Ratios") -> None:
        """Replace those at some places."""
        self.top[..., where], self.bottom[..., where] = numbers.top, numbers.bottom

    def fractions(self) -> list[Fraction]:
        """A row of numbers as a list."""
        return [Fraction(top, bottom) for top, bottom in zip(self.top.tolist(), self.bottom.tolist(), strict=True)]

    def __neg__(self) -> Self:
        return type(self)(-self.top, self.bottom)

    def __add__(self, other: "Ratios") -> Self:
        return type(self)(self.top * other.bottom + other.top * self.bottom, self.bottom * other.bottom)

    def __mul__(self, other: "Ratios") -> Self:
        return type(self)(self.top * other.top, self.bottom * other.bottom)

    def __truediv__(self, other: "Ratios") -> Self:
        if not other.top.all():
            raise ZeroDivisionError
        return type(self)(self.top * other.bottom, self.bottom * other.top)

    def reduced(self) -> Self:
        """In lowest terms."""
        common = np.gcd(self.top, self.bottom)
        return type(self)(self.top // common, self.bottom // common)

    def total(self) -> Self:
        """The sum of each column of a table."""
        bottom = self._plain_bottom()
        common = np.lcm.reduce(bottom, axis=0)
        return type(self)((self.top * (common // bottom)).sum(axis=0), common)

    def sums(self, starts: Ints) -> Self:
        """Along the last axis, the sums of the groups that begin at `starts`."""
        bottom = self._plain_bottom()
        common = np.lcm.reduceat(bottom, starts, axis=-1)
        every = np.repeat(common, np.diff(starts, append=bottom.shape[-1]), axis=-1)
        return type(self)(np.add.reduceat(self.top * (every // bottom), starts, axis=-1), common)

    def _plain_bottom(self) -> Exact:
        """Denominators, 1 where the number is 0: they would only make sums longer."""
        return np.where(self.top == 0, 1, self.bottom)
