"""Selectors of device classes: the part of CEL that says which devices belong to a class.

Understood: `device.driver`, `device.attributes["domain"].name`, `device.capacity["domain"].name`, literals, lists,
`quantity("…")`, `==  !=  <  <=  >  >=  in  !  &&  ||`, parentheses, and the functions `startsWith`, `endsWith`,
`contains`, `compareTo`, `isGreaterThan` and `isLessThan`. Anything else is refused with its place, never guessed. An
attribute that a device lacks makes its comparison fail, as an error does in Kubernetes: such a device is not selected.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from allotment_api.quantities import QuantityError
from allotment_scheduler.translation.scalars import amount

Value = Any
Predicate = Callable[["DeviceFacts"], Value]


class SelectorError(ValueError):
    """A selector that is not understood; the message says where."""


class MissingError(Exception):
    """A device lacks what a selector asks of it."""


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """A device as selectors see it: attributes and capacities by (domain, name)."""

    driver: str
    attributes: Mapping[tuple[str, str], Value] = field(default_factory=dict)
    capacity: Mapping[tuple[str, str], int] = field(default_factory=dict)


_TOKEN: Final = re.compile(
    r"\s*(?:(?P<text>\"[^\"\\]*\"|'[^'\\]*')|(?P<number>-?\d+)|(?P<word>[A-Za-z_]\w*)|"
    r"(?P<sign>&&|\|\||==|!=|<=|>=|[!<>()\[\],.]))"
)
_FUNCTIONS: Final[dict[str, Callable[[Any, Any], Value]]] = {
    "startsWith": lambda left, right: left.startswith(right),
    "endsWith": lambda left, right: left.endswith(right),
    "contains": lambda left, right: right in left,
    "compareTo": lambda left, right: (left > right) - (left < right),
    "isGreaterThan": lambda left, right: left > right,
    "isLessThan": lambda left, right: left < right,
}
_COMPARISONS: Final[dict[str, Callable[[Any, Any], Value]]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
    "in": lambda left, right: left in right,
}


def selects(predicate: Predicate, device: DeviceFacts) -> bool:
    """Whether a device is selected."""
    try:
        return predicate(device) is True
    except (MissingError, TypeError, AttributeError):
        return False


def parse(expression: str) -> Predicate:
    """Read a selector.

    Raises:
        SelectorError: it is not understood.
    """
    return _Parser(expression).whole()


class _Parser:
    """Recursive descent, one method per level of precedence."""

    def __init__(self, expression: str) -> None:
        self.tokens: list[tuple[str, str, int]] = []
        place = 0
        while expression[place:].strip():
            found = _TOKEN.match(expression, place)
            if found is None:
                raise SelectorError(f"{expression[place : place + 20]!r} is not understood, at character {place}")
            self.tokens.append((found.lastgroup or "", found[found.lastgroup or 0], found.start(found.lastgroup or 0)))
            place = found.end()
        self.tokens.append(("end", "", len(expression)))
        self.at = 0

    def whole(self) -> Predicate:
        found = self._either()
        if self.tokens[self.at][0] != "end":
            self._refuse()
        return found

    def _refuse(self) -> None:
        _, text, place = self.tokens[self.at]
        raise SelectorError(f"{text or 'the end'!r} is not understood, at character {place}")

    def _take(self, text: str) -> bool:
        if self.tokens[self.at][1] != text or self.tokens[self.at][0] == "text":
            return False
        self.at += 1
        return True

    def _need(self, text: str) -> None:
        if not self._take(text):
            self._refuse()

    def _either(self) -> Predicate:
        parts = [self._both()]
        while self._take("||"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else lambda device: any(selects(part, device) for part in parts)

    def _both(self) -> Predicate:
        parts = [self._compared()]
        while self._take("&&"):
            parts.append(self._compared())
        return parts[0] if len(parts) == 1 else lambda device: all(selects(part, device) for part in parts)

    def _compared(self) -> Predicate:
        if self._take("!"):
            inner = self._compared()
            return lambda device: not inner(device)
        left = self._value()
        for sign, compare in _COMPARISONS.items():
            if self._take(sign):
                right = self._value()
                return lambda device: compare(left(device), right(device))
        return left

    def _value(self) -> Predicate:
        kind, text, _ = self.tokens[self.at]
        self.at += 1
        found: Predicate
        if kind == "text":
            found = _constant(text[1:-1])
        elif kind == "number":
            found = _constant(int(text))
        elif text in ("true", "false"):
            found = _constant(text == "true")
        elif text == "(":
            found = self._either()
            self._need(")")
        elif text == "[":
            found = self._list()
        elif text == "quantity":
            found = self._quantity()
        elif text == "device":
            found = self._device()
        else:
            self.at -= 1
            self._refuse()
        return self._called(found)

    def _called(self, found: Predicate) -> Predicate:
        while self.tokens[self.at][1] == "." and self.tokens[self.at + 1][1] in _FUNCTIONS:
            function = _FUNCTIONS[self.tokens[self.at + 1][1]]
            self.at += 2
            self._need("(")
            found = _applied(function, found, self._either())
            self._need(")")
        return found

    def _list(self) -> Predicate:
        items: list[Predicate] = []
        while not self._take("]"):
            items.append(self._either())
            if not self._take(",") and self.tokens[self.at][1] != "]":
                self._refuse()
        return lambda device: [item(device) for item in items]

    def _quantity(self) -> Predicate:
        self._need("(")
        text = self._text()
        self._need(")")
        try:
            return _constant(amount("memory", text))
        except QuantityError as error:
            raise SelectorError(str(error)) from error

    def _text(self) -> str:
        kind, text, _ = self.tokens[self.at]
        if kind != "text":
            self._refuse()
        self.at += 1
        return text[1:-1]

    def _device(self) -> Predicate:
        self._need(".")
        if self._take("driver"):
            return lambda device: device.driver
        if self._take("attributes"):
            return self._named(lambda device: device.attributes)
        self._need("capacity")
        return self._named(lambda device: device.capacity)

    def _named(self, table: Callable[[DeviceFacts], Mapping[tuple[str, str], Value]]) -> Predicate:
        if not self._take("["):
            return lambda device: {domain for domain, _ in table(device)}  # for `"domain" in device.attributes`
        domain = self._text()
        self._need("]")
        if self._take("["):
            name = self._text()
            self._need("]")
        elif self._take("."):
            name = self.tokens[self.at][1]
            self.at += 1
        else:
            return lambda device: {name for inside, name in table(device) if inside == domain}
        return lambda device: _looked_up(table(device), (domain, name))


def _constant(value: Value) -> Predicate:
    return lambda _: value


def _applied(function: Callable[[Any, Any], Value], left: Predicate, right: Predicate) -> Predicate:
    return lambda device: function(left(device), right(device))


def _looked_up(table: Mapping[tuple[str, str], Value], key: tuple[str, str]) -> Value:
    if key not in table:
        raise MissingError(key)
    return table[key]
