"""From pydantic's findings to lines a person can act on: which field, what is wrong, what to write.

How it thinks: the reader has a YAML file open. So a fault names the path as it stands in that file
(``spec.pools[0].storage.size``), and the message ends with the remedy wherever one is known.

It must never show Python: no type names, no class paths, no links to another project's documentation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

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
    """One fault per finding, in the order of the fields."""
    return tuple(Fault(_path(details["loc"]), _message(details)) for details in error.errors(include_url=False))


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


def _message(details: ErrorDetails) -> str:
    context: dict[str, Any] = details.get("ctx", {})
    match details["type"]:
        case "value_error":
            return str(context["error"])
        case "missing":
            return "is required: add it"
        case "extra_forbidden":
            return "is no field of this kind: remove it, or check its spelling"
        case "literal_error":
            return f"{details['input']!r} is not one of {context['expected']}: write one of these"
        case "int_type" | "int_parsing" | "int_from_float":
            return f"{details['input']!r} is no whole number: write a number without quotes"
        case "bool_type" | "bool_parsing":
            return f"{details['input']!r} is no boolean: write true or false without quotes"
        case "string_type":
            return f"{details['input']!r} is no text: put it in quotes"
        case "tuple_type":
            return "must be a list: write each entry on a line of its own, beginning with '- '"
        case "dict_type" | "model_type" | "model_attributes_type":
            return "must be a mapping of fields, not a single value or a list"
        case "greater_than_equal":
            return f"{details['input']} is too small: write {context['ge']} or more"
        case "less_than_equal":
            return f"{details['input']} is too large: write {context['le']} or less"
        case "too_short":
            return f"has too few entries: give {context['min_length']} or more"
        case "too_long":
            return f"has too many entries: give {context['max_length']} or fewer"
        case "string_too_short":
            return f"is too short: write {context['min_length']} or more characters"
        case "string_too_long":
            return f"is too long: write {context['max_length']} or fewer characters"
        case _:
            return details["msg"]
