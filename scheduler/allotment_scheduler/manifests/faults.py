"""What is wrong with a manifest, told by file, document and field, each once.

The reader has a YAML file open: so a fault names the field as it stands there (`spec.containers[0].resources`), says
what is wrong with it, and where it is known what to write. Where a fault is found by reading on (a quantity, a time),
the field is looked for afterwards: that costs only those who made a mistake.

It must never show Python: no type names, no class paths.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

import msgspec

from allotment_api.errors import Fault, InvalidManifestError
from allotment_api.quantities import QuantityError, quantity

LONGEST: Final = 2000
"""Letters of a message; what quotes a whole file is cut."""
DEEPEST: Final = 100
"""Levels of an object that are looked at."""
QUANTITIES: Final = frozenset({"requests", "limits", "capacity", "allocatable", "overhead", "allocatedResources"})
"""Fields that map resources to quantities."""
TIMES: Final = frozenset({"creationTimestamp", "deletionTimestamp", "startTime", "completionTime"})
_MOST_LOOKS: Final = 100_000
_AT: Final = re.compile(r"(?P<what>.*?)(?: - at `(?P<key>key in )?\$?(?P<path>[^`]*)`)?", re.DOTALL)
_EXPECTED: Final = re.compile(r"Expected `([^`]+)`, got `([^`]+)`")
_MISSING: Final = re.compile(r"Object missing required field `([^`]+)`")
_PART: Final = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_WANTED: Final[Mapping[str, tuple[type, ...]]] = {
    "str": (str,), "int": (int,), "bool": (bool,), "array": (list, tuple), "object": (dict,), "float": (int, float),
    "null": (type(None),),
}  # fmt: skip
_WORDS: Final[Mapping[str, str]] = {
    "str": "text (in quotes)", "int": "a whole number", "bool": "true or false", "float": "a number",
    "array": "a list", "object": "a mapping of fields",
}  # fmt: skip


class ManifestError(ValueError):
    """A manifest cannot be read; the message says where and what to change."""

    def __init__(self, message: str) -> None:
        super().__init__(message if len(message) <= LONGEST else f"{message[:LONGEST]} …")


def typed_fault(content: object, error: msgspec.ValidationError) -> Fault:
    """A field that has the wrong type, or is missing."""
    match = _AT.fullmatch(str(error))
    what, path = (match["what"], match["path"] or "") if match else (str(error), "")
    missing, expected = _MISSING.search(what), _EXPECTED.search(what)
    where, value = _follow(content, path, expected[1] if expected else "")
    if path.endswith("[...]") and path.removesuffix("[...]").rpartition(".")[2] in QUANTITIES:
        return Fault(where, f"{_shown(value)} is no quantity: write one such as 500m, 4 or 16Gi")
    if missing:
        return Fault(f"{where}.{missing[1]}".lstrip("."), "is required: add it")
    if expected is None:
        return Fault(where, what[:1].lower() + what[1:])
    wanted = [_WORDS[each] for each in expected[1].split(" | ") if each in _WORDS]
    return Fault(where, f"{_shown(value)} is not {' or '.join(wanted)}")


def _follow(content: object, path: str, expected: str) -> tuple[str, object]:
    """The field that a path of msgspec's leads to, and its value: `[...]` stands for an entry that it does not name."""
    where, value = "", content
    types = tuple(each for name in expected.split(" | ") for each in _WANTED.get(name, ()))
    for name, index in _PART.findall(path):
        if name:
            where, value = f"{where}.{name}" if where else name, value.get(name) if isinstance(value, dict) else None
        elif index == "...":
            entries = list(value.items()) if isinstance(value, dict) else []
            key, value = next((it for it in entries if not _is(it[1], types)), entries[0] if entries else ("", None))
            where += _key(key)
        else:
            where += f"[{index}]"
            value = value[int(index)] if isinstance(value, list | tuple) and int(index) < len(value) else None
    return where, value


def _is(value: object, types: tuple[type, ...]) -> bool:
    return isinstance(value, types) and (not isinstance(value, bool) or bool in types)


def _key(key: object) -> str:
    return f".{key}" if isinstance(key, str) and key.isidentifier() else f'["{key}"]'


def _shown(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping of fields"
        case list() | tuple():
            return "a list"
        case _:
            text = repr(value)
            return text if len(text) <= 80 else f"{text[:80]}…"


def value_fault(content: object, error: ValueError) -> Fault:
    """A quantity or a time that is none: the first one in the object."""
    for path, sort, value in _scalars(content):
        try:
            if sort in QUANTITIES:
                quantity(value)
            elif value:
                instant(value)
        except QuantityError as wrong:
            return Fault(path, str(wrong))
        except ValueError:
            return Fault(path, f"{_shown(value)} is no time: write it as 2026-01-31T12:00:00Z")
    return Fault("", str(error))


def instant(text: object) -> float:
    """A time as RFC 3339 writes it, in seconds since the epoch.

    Raises:
        ValueError: it is none, or names no offset from UTC.
    """
    if not isinstance(text, str):
        raise ValueError("is no time")  # noqa: TRY004 - one error for whatever is no time
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("names no offset from UTC")
    return time.timestamp()


def _scalars(content: object) -> Iterator[tuple[str, str, object]]:
    """Quantities and times with their path, and the field that says which of them they are."""
    stack: list[tuple[str, str, object, int]] = [("", "", content, 0)]
    for _ in range(_MOST_LOOKS):
        if not stack:
            return
        path, sort, value, depth = stack.pop()
        if depth > DEEPEST:
            continue
        if isinstance(value, dict):
            inner = [
                (f"{path}{_key(key)}".lstrip("."), sort if sort in QUANTITIES else str(key), each, depth + 1)
                for key, each in value.items()
            ]
            stack += reversed(inner)
        elif isinstance(value, list | tuple):
            stack += reversed([(f"{path}[{number}]", "", each, depth + 1) for number, each in enumerate(value)])
        elif sort in QUANTITIES or sort in TIMES:
            yield path, sort, value


def of_model(prefix: str, error: InvalidManifestError) -> str:
    """The faults of one of our kinds: one on the line, several below it."""
    found = [str(fault) for fault in error.faults]
    return f"{prefix}: {found[0]}" if len(found) == 1 else "\n".join([f"{prefix}:", *(f"  {each}" for each in found)])
