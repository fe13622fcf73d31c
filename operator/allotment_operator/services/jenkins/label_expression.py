"""Jenkins' label expressions: which agents may run a build.

Grammar, weakest first, as the controller reads it (hudson.model.labels, LabelExpressionParser):
``a <-> b``, ``a -> b``, ``a || b``, ``a && b``, ``!a``, ``(a)``; an atom is a bare word or a quoted one.
A blank expression asks for nothing and matches every agent that takes any build; a pool's agents are exclusive, so
for them it matches none.
"""

import re
from collections.abc import Callable

_TOKEN = re.compile(
    r'\s*(?:(<->|->|\|\||&&|[!()])|"((?:[^"\\]|\\.)*)"|([^\s()!&|<>"-](?:[^\s()!&|<>"-]|-(?!>)|<(?!->))*))'
)

_BINARY: tuple[tuple[str, Callable[[bool, bool], bool]], ...] = (
    ("<->", lambda a, b: a == b),
    ("->", lambda a, b: not a or b),
    ("||", lambda a, b: a or b),
    ("&&", lambda a, b: a and b),
)


LONGEST = 1024
"""Characters of an expression that is read at all."""
DEEPEST = 32
"""Levels of parentheses and negations: expressions come from tenants' controllers, and each level costs stack."""


class LabelExpressionError(ValueError):
    """The text is no label expression; the message says where it went wrong."""


def matches(expression: str, labels: frozenset[str]) -> bool:
    """Say whether an agent with these labels satisfies the expression.

    Raises:
        LabelExpressionError: it cannot be parsed.
    """
    if len(expression) > LONGEST:
        raise LabelExpressionError(f"an expression of {len(expression)} characters is not read")
    tokens = _tokens(expression)
    if not tokens:
        return False
    reader = _Reader(tokens, labels)
    value = reader.binary(0)
    if reader.rest():
        raise LabelExpressionError(f"unexpected {reader.rest()[0]!r} in {expression!r}")
    return value


def _tokens(expression: str) -> list[str]:
    found, position = [], 0
    text = expression.strip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise LabelExpressionError(f"cannot read {text[position:]!r} in {expression!r}")
        operator, quoted, word = match.groups()
        # Atoms are told from operators by a mark that no token begins with.
        found.append(operator or "'" + (word if quoted is None else re.sub(r"\\(.)", r"\1", quoted)))
        position = match.end()
    return found


class _Reader:
    """Recursive descent over the tokens, evaluating on the way."""

    def __init__(self, tokens: list[str], labels: frozenset[str]) -> None:
        self._tokens, self._labels, self._next, self._depth = tokens, labels, 0, 0

    def rest(self) -> list[str]:
        return self._tokens[self._next :]

    def binary(self, level: int) -> bool:
        if level == len(_BINARY):
            return self._unary()
        operator, combine = _BINARY[level]
        value = self.binary(level + 1)
        while self._take(operator):
            other = self.binary(level + 1)
            value = combine(value, other)
        return value

    def _unary(self) -> bool:
        if self._take("!"):
            return not self._deeper(self._unary)
        if self._take("("):
            value = self._deeper(lambda: self.binary(0))
            if not self._take(")"):
                raise LabelExpressionError("a parenthesis is not closed")
            return value
        if self._next == len(self._tokens) or not self._tokens[self._next].startswith("'"):
            raise LabelExpressionError("a label is missing")
        self._next += 1
        return self._tokens[self._next - 1][1:] in self._labels

    def _deeper(self, read: Callable[[], bool]) -> bool:
        self._depth += 1
        if self._depth > DEEPEST:
            raise LabelExpressionError(f"it is nested more than {DEEPEST} levels deep")
        value = read()
        self._depth -= 1
        return value

    def _take(self, token: str) -> bool:
        if self._next < len(self._tokens) and self._tokens[self._next] == token:
            self._next += 1
            return True
        return False
