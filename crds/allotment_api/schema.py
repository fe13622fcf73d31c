"""From a pydantic model to a structural OpenAPI v3 schema as a CustomResourceDefinition wants it.

How it thinks: it walks the annotations itself instead of rewriting pydantic's JSON Schema, for that one is built on
``$ref`` and ``anyOf``, which structural schemas forbid. Every annotation that the API may use has one translation
here; anything else is an error at generation time, not a surprise in the cluster.

Invariants: every object and every field has a description; every list says how it merges; every default is the one
the model fills in.

Source of the rules: Kubernetes' documentation on structural schemas and `x-kubernetes-*` extensions.
"""

import types
import typing
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import annotated_types
from pydantic import BaseModel, Strict
from pydantic.fields import FieldInfo

from allotment_api.docstrings import texts
from allotment_api.model import KeyedBy, MaxText, Model, Rule, Unique
from allotment_api.quantities import MAX_LENGTH, Quantity

Schema = dict[str, Any]


def object_schema(model: type[Model], *, where: str = "", leave_out: frozenset[str] = frozenset()) -> Schema:
    """The schema of a model, with everything below it but the fields (by outside name) in `leave_out`."""
    properties: Schema = {}
    required = []
    described = texts(model)
    for name, field in model.model_fields.items():
        alias = field.alias or name
        if alias in leave_out:
            continue
        schema = _schema(field.annotation, list(field.metadata), f"{where}.{alias}")
        if not described.get(name):
            raise TypeError(f"{where}.{alias}: every field needs a docstring")
        default = _default(field, shows_empty=model.shows_empty)
        if default is not None:
            schema["default"] = default
        if field.is_required():
            required.append(alias)
        properties[alias] = {"description": prose(described[name]), **schema}
    out: Schema = {"type": "object", "properties": properties}
    if required:
        out["required"] = required
    if model.rules:
        out["x-kubernetes-validations"] = [rule.document() for rule in model.rules]
    return out


def _schema(annotation: object, metadata: list[Any], where: str) -> Schema:
    annotation, inner = _unwrap(annotation)
    metadata = [*inner, *metadata]
    schema = _bare(annotation, where)
    strict = False
    for item in _flat(metadata):
        if isinstance(item, Strict):
            strict = True
        _constrain(schema, item)
    if annotation in (int, bool) and not strict:
        raise TypeError(f"{where}: use Int and Bool, which never coerce")
    if schema["type" if "type" in schema else "x-kubernetes-int-or-string"] == "array":
        schema.setdefault("x-kubernetes-list-type", "atomic")
    return schema


def _unwrap(annotation: object) -> tuple[Any, list[Any]]:
    """Strip Annotated and ``| None``, collecting the metadata on the way from the inside out."""
    metadata: list[Any] = []
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation, *found = typing.get_args(annotation)
            metadata = [*found, *metadata]
        elif origin in (typing.Union, types.UnionType):
            options = [option for option in typing.get_args(annotation) if option is not types.NoneType]
            if len(options) != 1:
                return annotation, metadata
            annotation = options[0]
        else:
            return annotation, metadata


def _flat(metadata: list[Any]) -> Iterator[Any]:
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from item.metadata
        else:
            yield item


def _bare(annotation: object, where: str) -> Schema:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return {"type": "string", "enum": list(arguments)}
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return {"type": "array", "items": _schema(arguments[0], [], f"{where}[]")}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1], [], f"{where}.*")}
    if isinstance(annotation, type):
        if issubclass(annotation, Model):
            return object_schema(annotation, where=where)
        if annotation in _SCALARS:
            return dict(_SCALARS[annotation])
    if annotation in (int | str, str | int):
        return dict(_INT_OR_STRING)
    raise TypeError(f"{where}: {annotation} has no translation into a structural schema")


_INT_OR_STRING: Mapping[str, Any] = {
    "anyOf": [{"type": "integer"}, {"type": "string"}],
    "x-kubernetes-int-or-string": True,
}
_QUANTITY_RULE = Rule(
    cel="type(self) == int ? self >= 0 && self < 9223372036854775807 : self.matches('[0-9]') && isQuantity(self) && "
    "!quantity(self).isLessThan(quantity('0')) && quantity(self).isLessThan(quantity('8Ei'))",
    message="must be a quantity of 0 or more, such as 500m, 4 or 16Gi: no space, and Gi or G where you mean GB",
)
_SCALARS: Mapping[type, Mapping[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer", "format": "int64"},
    bool: {"type": "boolean"},
    Decimal: {"type": "number"},
    datetime: {"type": "string", "format": "date-time"},
    Quantity: {
        **_INT_OR_STRING,
        "maxLength": MAX_LENGTH,
        "x-kubernetes-validations": [_QUANTITY_RULE.document()],
    },
}


def _constrain(schema: Schema, item: object) -> None:
    match item:
        case annotated_types.Ge(ge=bound):
            schema["minimum"] = bound
        case annotated_types.Le(le=bound):
            schema["maximum"] = bound
        case annotated_types.MinLen(min_length=bound):
            schema[_bound(schema, "min")] = bound
        case annotated_types.MaxLen(max_length=bound):
            schema[_bound(schema, "max")] = bound
        case Rule():
            schema.setdefault("x-kubernetes-validations", [])
            schema["x-kubernetes-validations"] = [*schema["x-kubernetes-validations"], item.document()]
        case KeyedBy(keys=keys):
            schema["x-kubernetes-list-type"] = "map"
            schema["x-kubernetes-list-map-keys"] = [_outside_name(schema, key) for key in keys]
        case MaxText(characters=bound):
            schema["maxLength"] = bound
        case Unique():
            schema["x-kubernetes-list-type"] = "set"
        case _:
            pass  # validators and serializers of Python's side


def _outside_name(schema: Schema, key: str) -> str:
    properties: Schema = schema["items"]["properties"]
    return next(name for name in properties if name.lower() == key.replace("_", ""))


def _bound(schema: Schema, end: str) -> str:
    kind = schema.get("type", "string")
    return end + {"string": "Length", "array": "Items", "object": "Properties"}[kind]


def _default(field: FieldInfo, *, shows_empty: bool) -> Any:  # noqa: ANN401 - JSON is what it is
    """The default as JSON, or None where the field has none or it is not worth writing out.

    Whole objects are written out in full: the API server judges a default by the rules before it fills in what is
    below.
    """
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return None
    written = _json(value)
    if written in ([], {}) and not isinstance(value, BaseModel) and not shows_empty:
        return None
    return written


def _json(value: object) -> Any:  # noqa: ANN401 - JSON is what it is
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, Quantity):
        return value.text
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, tuple):
        return [_json(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _json(entry) for key, entry in value.items()}
    return value


def prose(docstring: str) -> str:
    """Docstrings are wrapped for the source; explain wraps for itself. Blank lines stay."""
    paragraphs = docstring.strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def without_rules(schema: Schema) -> Schema:
    """The same schema without CEL rules, for what only our own programs write, and write often."""
    return {
        key: without_rules(value) if isinstance(value, dict) else value
        for key, value in schema.items()
        if key != "x-kubernetes-validations"
    }
