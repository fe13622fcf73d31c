"""What every model of the API is made of: the base class, rules, list kinds and strict scalars.

How it thinks: a model is the single source of a kind. Its annotations carry types, bounds and defaults; its docstrings
carry the text of `kubectl explain`; its rules carry what a type cannot say. A `Rule` holds the CEL expression for the
API server and the same judgement in Python for manifests read offline; tests hold the two against each other.

Invariants: what a model accepts the API server accepts, and the reverse; both fill in the same defaults. Fields are
spelled in camelCase outside and snake_case inside. Models are frozen.

It must never coerce: ``"3"`` is no integer and ``1`` no boolean, as for the API server.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, ClassVar, Final, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    Strict,
    model_serializer,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, core_schema

STORED: Final = "stored"
"""Context in which an object is read that the API server has let pass, maybe by an older definition."""

Checked = TypeVar("Checked")
Entries = TypeVar("Entries", bound=tuple[Any, ...])


@dataclass(frozen=True, slots=True)
class Rule:
    """A judgement that a type cannot express, for the API server (CEL) and for Python alike.

    `holds` is None for rules that compare with the previous version of the object (`oldSelf`): only the server has it.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool] | None = None
    field_path: str | None = None
    """Field to report instead of the one the rule stands at, such as .spec.parent."""

    def check(self, value: Checked) -> Checked:
        """Give the value back, or raise ValueError with the rule's message."""
        if self.holds is not None and not self.holds(value):
            raise ValueError(self.message)
        return value

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def document(self) -> dict[str, str]:
        """The rule as an entry of x-kubernetes-validations."""
        out = {"rule": self.cel, "message": self.message}
        if self.field_path:
            out["fieldPath"] = self.field_path
        return out


def no_keys_like(pattern: str, message: str, *, but: tuple[str, ...] = ()) -> Rule:
    """A rule for maps: no key matches the regular expression (one that RE2 and Python read alike)."""
    compiled = re.compile(pattern)
    spared = f" && !(k in {list(but)})" if but else ""
    return Rule(
        f"!self.exists(k, k.matches('{pattern}'){spared})",
        message,
        lambda entries: not any(compiled.search(key) and key not in but for key in entries),
    )


@dataclass(frozen=True, slots=True)
class KeyedBy:
    """Marks a list as a map: entries are told apart by these fields, and merged by them in server-side apply."""

    keys: tuple[str, ...]

    def __init__(self, *keys: str) -> None:
        object.__setattr__(self, "keys", keys)

    def check(self, entries: Entries) -> Entries:
        """Refuse two entries with the same key, as the API server does."""
        seen = set()
        for entry in entries:
            key = tuple(getattr(entry, name) for name in self.keys)
            if key in seen:
                raise ValueError(f"Duplicate value: {', '.join(map(str, key))}")
            seen.add(key)
        return entries

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))


@dataclass(frozen=True, slots=True)
class Unique:
    """Marks a list of scalars as a set."""

    def check(self, entries: Entries) -> Entries:
        """Refuse duplicates, as the API server does."""
        for index, entry in enumerate(entries):
            if entry in entries[:index]:
                raise ValueError(f"Duplicate value: {entry}")
        return entries

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))


@dataclass(frozen=True, slots=True)
class MaxText:
    """Bounds the text of an integer-or-string in the schema; its validator does so in Python."""

    characters: int


class Model(BaseModel):
    """Base of every object in the API."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="forbid",
        frozen=True,
        validate_default=True,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()
    """Judgements over several fields of this object."""

    shows_empty: ClassVar[bool] = False
    """Whether empty lists and maps are written out as defaults, for readers that cannot ask whether a field is set."""

    @model_validator(mode="before")
    @classmethod
    def _null_means_absent(cls, data: object) -> object:
        if isinstance(data, Mapping):
            return {key: value for key, value in data.items() if value is not None}
        return data

    @model_validator(mode="after")
    def _judge(self) -> Self:
        for rule in self.rules:
            rule.check(self)
        return self

    @model_serializer(mode="wrap")
    def _leave_out_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        out: dict[str, Any] = handler(self)
        if not self.shows_empty:
            for name, field in type(self).model_fields.items():
                if getattr(self, name) in ((), {}) and field.default is not None:
                    out.pop(field.alias or name, None)
                    out.pop(name, None)
        return out

    def manifest(self) -> dict[str, Any]:
        """The object as it stands in a manifest: camelCase, JSON types, without what is unset."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def _decimal(written: object) -> object:
    """Read a JSON number by its shortest decimal, never by its binary value; text is read too."""
    if isinstance(written, bool) or not isinstance(written, int | float | str | Decimal):
        raise ValueError("must be a number such as 1 or 0.5")  # noqa: TRY004 - pydantic collects only ValueError
    try:
        value = Decimal(str(written))
    except InvalidOperation:
        raise ValueError(f"{written!r} must be a number such as 1 or 0.5") from None
    if not value.is_finite():
        raise ValueError(f"{written!r} must be a finite number")
    return value


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def _text(written: object) -> object:
    if not isinstance(written, str | datetime):
        raise ValueError("must be a time, as 2026-01-31T12:00:00Z")  # noqa: TRY004 - pydantic collects only ValueError
    return written


def _rfc3339(value: datetime) -> str:
    return (
        value.astimezone(UTC)
        .isoformat(timespec="microseconds" if value.microsecond else "seconds")
        .replace("+00:00", "Z")
    )


Int = Annotated[int, Strict()]
"""An integer, never text or a boolean."""

Bool = Annotated[bool, Strict()]
"""A boolean, never text or a number."""

Count = Annotated[int, Strict(), Field(ge=0, le=2**31 - 1)]
"""How many of something there are."""

Seconds = Annotated[int, Strict(), Field(ge=1, le=31_536_000)]
"""A duration in seconds, between one second and a year."""

Weight = Annotated[Decimal, BeforeValidator(_decimal), PlainSerializer(_number), Field(ge=0, le=1_000_000)]
"""A decimal of zero or more, read exactly: 0.1 is one tenth."""

Ratio = Annotated[Decimal, BeforeValidator(_decimal), PlainSerializer(_number)]
"""A decimal figure in a status."""

Timestamp = Annotated[datetime, BeforeValidator(_text), PlainSerializer(_rfc3339)]
"""A point in time, RFC 3339."""
