"""Selectors of devices: the part of CEL in which DeviceClasses and ResourceClaims say which devices will do.

Understood: `device.driver`, `device.attributes["domain"].name`, `device.capacity["domain"].name`, literals, lists,
`quantity("…")`, `semver("…")`, `==  !=  <  <=  >  >=  in  !  &&  ||  ?:`, parentheses, `has(…)`, `cel.bind(…)`, and the
functions `startsWith`, `endsWith`, `contains`, `lowerAscii`, `size`, `compareTo`, `isGreaterThan` and `isLessThan`.
Anything else is refused with its place, never guessed.

Values are of a type, and never of two: `true` is not 1, and a comparison of a text with a number by `<` is an error. An
attribute that a device lacks is an error too. Errors are CEL's: `&&` and `||` pass over them where the other side
decides. A device whose selector ends in an error is not selected. (kube-scheduler then starts the pod nowhere.)
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from allotment_api.quantities import QuantityError
from allotment_api.quantities import parse as exact_quantity
from allotment_scheduler.core.objects.devices import DeviceFacts
from allotment_scheduler.translation.selector_values import (
    BINARY,
    COMPARISONS,
    UNARY,
    EvaluationError,
    Inside,
    Quantity,
    Value,
    truth,
)
from allotment_scheduler.translation.versions import Version, VersionError

Scope = Mapping[str, Value]
"""What `cel.bind` has named."""
Predicate = Callable[[DeviceFacts, Scope], Value]


class SelectorError(ValueError):
    """A selector that is not understood; the message says where."""


@dataclass(frozen=True, slots=True)
class Selectors:
    """Expressions all of which must hold. Made by `selectors`, which reads them first."""

    expressions: tuple[str, ...]

    def selects(self, facts: DeviceFacts) -> bool:
        """Whether a device will do."""
        try:
            return all(parse(expression)(facts, {}) is True for expression in self.expressions)
        except (EvaluationError, RecursionError):
            return False


def selectors(expressions: tuple[str, ...]) -> Selectors:
    """Selectors that are understood.

    Raises:
        SelectorError: one is not.
    """
    for expression in expressions:
        parse(expression)
    return Selectors(expressions)


@lru_cache(maxsize=4096)
def parse(expression: str) -> Predicate:
    """Read a selector.

    Raises:
        SelectorError: it is not understood.
    """
    try:
        return _Parser(expression).whole()
    except RecursionError as error:
        raise SelectorError("it is nested too deeply: write it with fewer parentheses") from error


_MOST_DIGITS: Final = 19
"""Of whole numbers in CEL, which have 64 bits."""
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<text>\"(?:[^\"\\\n]|\\[\\\"'])*\"|'(?:[^'\\\n]|\\[\\\"'])*')|(?P<number>-?\d+)(?![\w.])|"
    r"(?P<word>[A-Za-z_]\w*)|(?P<sign>&&|\|\||==|!=|<=|>=|[!<>()\[\],.?:]))"
)


class _Parser:
    """Recursive descent, one method per level of precedence."""

    def __init__(self, expression: str) -> None:
        self.tokens: list[tuple[str, str, int]] = []
        self.names: list[str] = []
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
        found = self._chosen()
        if self.tokens[self.at][0] != "end":
            self._refuse()
        return found

    def _refuse(self) -> None:
        _, text, place = self.tokens[self.at]
        raise SelectorError(f"{text or 'the end'!r} is not understood, at character {place}")

    def _take(self, *texts: str) -> bool:
        """Go past some tokens, if they come next."""
        for ahead, text in enumerate(texts):
            kind, found, _ = self.tokens[min(self.at + ahead, len(self.tokens) - 1)]
            if found != text or kind == "text":
                return False
        self.at += len(texts)
        return True

    def _need(self, *texts: str) -> None:
        for text in texts:
            if not self._take(text):
                self._refuse()

    def _chosen(self) -> Predicate:
        condition = self._either()
        if not self._take("?"):
            return condition
        then = self._either()
        self._need(":")
        otherwise = self._chosen()
        return lambda device, scope: (then if truth(condition(device, scope)) else otherwise)(device, scope)

    def _either(self) -> Predicate:
        parts = [self._both()]
        while self._take("||"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else _decided_by(parts, decisive=True)

    def _both(self) -> Predicate:
        parts = [self._compared()]
        while self._take("&&"):
            parts.append(self._compared())
        return parts[0] if len(parts) == 1 else _decided_by(parts, decisive=False)

    def _compared(self) -> Predicate:
        left = self._negated()
        for sign, compare in COMPARISONS.items():
            if self._take(sign):
                right = self._negated()
                if self.tokens[self.at][1] in COMPARISONS:
                    self._refuse()
                return _applied(compare, left, right)
        return left

    def _negated(self) -> Predicate:
        if self._take("!"):
            inner = self._negated()
            return lambda device, scope: not truth(inner(device, scope))
        return self._called(self._value())

    def _called(self, found: Predicate) -> Predicate:
        while self._take("."):
            name = self.tokens[self.at][1]
            if name in BINARY:
                self.at += 1
                self._need("(")
                found = _applied(BINARY[name], found, self._chosen())
            elif name in UNARY:
                self.at += 1
                self._need("(")
                found = _applied_alone(UNARY[name], found)
            else:
                self._refuse()
            self._need(")")
        return found

    def _value(self) -> Predicate:
        kind, text, _ = self.tokens[self.at]
        self.at += 1
        if kind == "text":
            return _constant(_unquoted(text))
        if kind == "number":
            if len(text) > _MOST_DIGITS:
                raise SelectorError(f"the number at character {self.tokens[self.at - 1][2]} is too large")
            return _constant(int(text))
        if text in ("true", "false"):
            return _constant(text == "true")
        if text == "(":
            found = self._chosen()
            self._need(")")
            return found
        if text == "[":
            return self._list()
        self.at -= 1
        return self._word(text)

    def _word(self, text: str) -> Predicate:
        if text in ("quantity", "semver"):
            return self._literal()
        if text in self.names:
            self.at += 1
            return self._member(lambda _, scope: scope[text])
        if self._take("has", "("):
            found = self._device(must_be_one=True)
            self._need(")")
            return _present(found)
        if self._take("cel", ".", "bind", "("):
            return self._bound()
        if self._take("size", "("):
            found = _applied_alone(UNARY["size"], self._chosen())
            self._need(")")
            return found
        return self._device()

    def _bound(self) -> Predicate:
        kind, name, _ = self.tokens[self.at]
        if kind != "word" or name in ("device", "true", "false"):
            self._refuse()
        self.at += 1
        self._need(",")
        value = self._chosen()
        self._need(",")
        self.names.append(name)
        body = self._chosen()
        self.names.pop()
        self._need(")")
        return lambda device, scope: body(device, {**scope, name: value(device, scope)})

    def _list(self) -> Predicate:
        items: list[Predicate] = []
        while not self._take("]"):
            items.append(self._chosen())
            if not self._take(",") and self.tokens[self.at][1] != "]":
                self._refuse()
        return lambda device, scope: [item(device, scope) for item in items]

    def _literal(self) -> Predicate:
        name = self.tokens[self.at][1]
        self.at += 1
        self._need("(")
        text = self._text()
        self._need(")")
        try:
            return _constant(Quantity(exact_quantity(text)) if name == "quantity" else Version.parse(text))
        except (QuantityError, VersionError) as error:
            raise SelectorError(str(error)) from error

    def _text(self) -> str:
        kind, text, _ = self.tokens[self.at]
        if kind != "text":
            self._refuse()
        self.at += 1
        return _unquoted(text)

    def _device(self, *, must_be_one: bool = False) -> Predicate:
        """`device.…`; as the argument of `has` it must come down to one attribute or capacity."""
        self._need("device", ".")
        if not must_be_one and self._take("driver"):
            return lambda device, _: device.driver
        table = "attributes" if self._take("attributes") else "capacity"
        if table == "capacity":
            self._need("capacity")
        if not self._take("["):
            if must_be_one:
                self._refuse()
            return lambda device, _: frozenset(domain for domain, _ in getattr(device, table))
        domain = self._text()
        self._need("]")
        return self._member(lambda device, _: Inside(domain, getattr(device, table)), must_be_one=must_be_one)

    def _member(self, found: Predicate, *, must_be_one: bool = False) -> Predicate:
        """One entry of a map, by `.name` or `["name"]`; or the map itself."""
        following = self.tokens[self.at + 1][1] if self.tokens[self.at][1] == "." else ""
        if following and following not in BINARY and following not in UNARY:
            self.at += 2
            return _entry(found, following)
        if self.tokens[self.at][1] == "[":
            self.at += 1
            name = self._text()
            self._need("]")
            return _entry(found, name)
        if must_be_one:
            self._refuse()
        return found


def _entry(found: Predicate, name: str) -> Predicate:
    def looked_up(device: DeviceFacts, scope: Scope) -> Value:
        inside = found(device, scope)
        if not isinstance(inside, Inside) or (inside.domain, name) not in inside.table:
            raise EvaluationError(f"there is no {name}")
        return inside.table[inside.domain, name]

    return looked_up


def _present(found: Predicate) -> Predicate:
    def present(device: DeviceFacts, scope: Scope) -> bool:
        try:
            found(device, scope)
        except EvaluationError:
            return False
        return True

    return present


def _decided_by(parts: list[Predicate], *, decisive: bool) -> Predicate:
    """`||` (decisive: true) and `&&` (decisive: false): one decisive part decides, whatever the others say."""

    def decided(device: DeviceFacts, scope: Scope) -> bool:
        trouble: EvaluationError | None = None
        for part in parts:
            try:
                if truth(part(device, scope)) is decisive:
                    return decisive
            except EvaluationError as error:
                trouble = error
        if trouble is not None:
            raise trouble
        return not decisive

    return decided


def _constant(value: Value) -> Predicate:
    return lambda _, __: value


def _applied(function: Callable[[Value, Value], Value], left: Predicate, right: Predicate) -> Predicate:
    return lambda device, scope: function(left(device, scope), right(device, scope))


def _applied_alone(function: Callable[[Value], Value], inner: Predicate) -> Predicate:
    return lambda device, scope: function(inner(device, scope))


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])
