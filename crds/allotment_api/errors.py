"""From pydantic's findings to lines a person can act on: which field, what is wrong, what to write.

How it thinks: the reader has a YAML file open. So a fault names the path as it stands in that file
(``spec.pools[0].storage.size``), and the message ends with the remedy wherever one is known.

It must never show Python: no type names, no class paths, no links to another project's documentation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from pydantic import ValidationError
from pydantic_core import ErrorDetails


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a manifest."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class InvalidManifestError(ValueError):
    """A manifest that the API server would refuse, with every fault found in it."""

    def __init__(self, subject: str, faults: tuple[Fault, ...]) -> None:
        self.subject = subject
        self.faults = faults
        super().__init__("\n".join([f"{subject} is invalid:", *(f"  {fault}" for fault in faults)]))

    @classmethod
    def of(cls, kind: str, manifest: object, error: ValidationError) -> Self:
        """Translate pydantic's findings about `manifest`."""
        return cls(_subject(kind, manifest), faults(error))


def faults(error: ValidationError) -> tuple[Fault, ...]:
    """One fault per finding, in the order of the fields.

    A list counts as too short when pydantic has dropped its faulty entries: that is a consequence, not a fault.
    """
    found = error.errors(include_url=False)
    return tuple(
        Fault(_path(details["loc"]), _message(details))
        for details in found
        if details["type"] != "too_short" or not any(_lies_below(other["loc"], details["loc"]) for other in found)
    )


def _lies_below(inner: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _subject(kind: str, manifest: object) -> str:
    metadata = manifest.get("metadata") if isinstance(manifest, Mapping) else None
    if not isinstance(metadata, Mapping):
        return kind
    name, namespace = metadata.get("name"), metadata.get("namespace")
    return f"{kind} {f'{namespace}/' if namespace else ''}{name or '(without a name)'}"


def _path(location: tuple[int | str, ...]) -> str:
    out = ""
    for part in location:
        if isinstance(part, int):
            out += f"[{part}]"
        elif part.isidentifier() or not out:
            out += f".{part}" if out else part
        else:
            out += f'["{part}"]'
    return out


_MESSAGES: Final[Mapping[str, str]] = {
    "value_error": "{error}",
    "missing": "is required: add it",
    "extra_forbidden": "is no field of this kind: remove it, or check its spelling",
    "literal_error": "{input!r} is not one of {expected}: write one of these",
    "int_type": "{input!r} is no whole number: write a number without quotes",
    "int_parsing": "{input!r} is no whole number: write a number without quotes",
    "int_from_float": "{input!r} is no whole number: write a number without quotes",
    "bool_type": "{input!r} is no boolean: write true or false without quotes",
    "bool_parsing": "{input!r} is no boolean: write true or false without quotes",
    "string_type": "{input!r} is no text: put it in quotes",
    "tuple_type": "must be a list: write each entry on a line of its own, beginning with '- '",
    "dict_type": "must be a mapping of fields, not a single value or a list",
    "model_type": "must be a mapping of fields, not a single value or a list",
    "model_attributes_type": "must be a mapping of fields, not a single value or a list",
    "greater_than_equal": "{input} is too small: write {ge} or more",
    "less_than_equal": "{input} is too large: write {le} or less",
    "too_short": "has too few entries: give {min_length} or more",
    "too_long": "has too many entries: give {max_length} or fewer",
    "string_too_short": "is too short: write {min_length} or more characters",
    "string_too_long": "is too long: write {max_length} or fewer characters",
}
"""Pydantic's type of error → our words, filled in with the input and pydantic's own context."""


def _message(details: ErrorDetails) -> str:
    known = _MESSAGES.get(details["type"])
    context: dict[str, Any] = details.get("ctx", {})
    return known.format(input=details["input"], **context) if known else details["msg"]
