"""Values of selectors, and what can be done with them: types that are never mixed, and errors where CEL has errors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import total_ordering
from typing import Any, Final

from allotment_scheduler.translation.versions import Version

Value = Any


class EvaluationError(Exception):
    """A selector says nothing about a device: it asks for what the device lacks, or compares what cannot be."""


@total_ordering
@dataclass(frozen=True, slots=True)
class Quantity:
    """An amount, exact to a thousand-millionth."""

    amount: Any

    def __lt__(self, other: "Quantity") -> bool:
        return bool(self.amount < other.amount)


@dataclass(frozen=True, slots=True)
class Inside:
    """The attributes or capacities of one domain."""

    domain: str
    table: Mapping[tuple[str, str], Value]


def keys(value: Value) -> Value:
    """A map as what `in` and `size` look at: its keys."""
    if isinstance(value, Inside):
        return frozenset(name for domain, name in value.table if domain == value.domain)
    return value


_ORDERED: Final = (str, int, Quantity, Version)


def _comparable(left: Value, right: Value, kinds: tuple[type, ...] = _ORDERED) -> None:
    if type(left) is not type(right) or not isinstance(left, kinds):
        raise EvaluationError(f"{left!r} and {right!r} cannot be compared")


def _equal(left: Value, right: Value) -> bool:
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    return bool(left == right)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Value, Value], Value]:
    def compared(left: Value, right: Value) -> bool:
        if isinstance(left, Quantity | Version):
            raise EvaluationError("quantities and versions are compared by isLessThan, isGreaterThan and compareTo")
        _comparable(left, right)
        return compare(left, right)

    return compared


def _inside(left: Value, right: Value) -> bool:
    right = keys(right)
    if not isinstance(right, list | frozenset):
        raise EvaluationError("in needs a list or a map")
    return any(_equal(left, each) for each in right)


def _of_text(function: Callable[[str, str], Value]) -> Callable[[Value, Value], Value]:
    def applied(left: Value, right: Value) -> Value:
        _comparable(left, right, (str,))
        return function(left, right)

    return applied


def _of_amounts(function: Callable[[Any, Any], Value]) -> Callable[[Value, Value], Value]:
    def applied(left: Value, right: Value) -> Value:
        _comparable(left, right, (Quantity, Version))
        return function(left, right)

    return applied


def _size(value: Value) -> int:
    value = keys(value)
    if not isinstance(value, str | list | frozenset):
        raise EvaluationError("only texts, lists and maps have a size")
    return len(value)


def _lower(value: Value) -> str:
    if not isinstance(value, str):
        raise EvaluationError("only texts have letters")
    return "".join(each.lower() if each.isascii() else each for each in value)


BINARY: Final[dict[str, Callable[[Value, Value], Value]]] = {
    "startsWith": _of_text(str.startswith),
    "endsWith": _of_text(str.endswith),
    "contains": _of_text(lambda left, right: right in left),
    "compareTo": _of_amounts(lambda left, right: (left > right) - (left < right)),
    "isGreaterThan": _of_amounts(lambda left, right: left > right),
    "isLessThan": _of_amounts(lambda left, right: left < right),
}
UNARY: Final[dict[str, Callable[[Value], Value]]] = {"lowerAscii": _lower, "size": _size}
COMPARISONS: Final[dict[str, Callable[[Value, Value], Value]]] = {
    "==": _equal,
    "!=": lambda left, right: not _equal(left, right),
    "<": _ordered(lambda left, right: left < right),
    "<=": _ordered(lambda left, right: left <= right),
    ">": _ordered(lambda left, right: left > right),
    ">=": _ordered(lambda left, right: left >= right),
    "in": _inside,
}


def truth(value: Value) -> bool:
    """A value where only true or false will do.

    Raises:
        EvaluationError: it is neither.
    """
    if not isinstance(value, bool):
        raise EvaluationError(f"{value!r} is neither true nor false")
    return value
