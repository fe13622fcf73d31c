"""CustomResourceDefinition documents: names, version, printer columns, subresources, schema.

How it thinks: one version is served and stored. The schema's root holds the kind's own rules, for they see
`metadata.name` and `spec` together.
"""

from typing import Any, Final

from allotment_api.labels import API_VERSION, CATEGORY, GROUP, VERSION
from allotment_api.resource import Column, Resource, Scale
from allotment_api.schema import object_schema, prose, without_rules

_COMMON: Final = {
    "apiVersion": {
        "description": f"Group and version that this representation of the object follows: {API_VERSION}.",
        "type": "string",
    },
    "kind": {"description": "Kind of the object, in CamelCase.", "type": "string"},
    "metadata": {},  # the server describes it itself and admits only bounds on the name
}


def definition_name(kind: type[Resource]) -> str:
    """The CustomResourceDefinition's own name."""
    return f"{kind.definition.plural}.{GROUP}"


def document(kind: type[Resource]) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind, as a manifest."""
    definition = kind.definition
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [_column(column) for column in definition.columns],
        "subresources": {"status": {}, **({"scale": _scale(definition.scale)} if definition.scale else {})},
        "schema": {"openAPIV3Schema": root_schema(kind)},
    }
    if not _has_status(kind):
        del version["subresources"]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": definition_name(kind),
            "labels": {"app.kubernetes.io/name": "allotment", "app.kubernetes.io/part-of": "allotment"},
        },
        "spec": {
            "group": GROUP,
            "scope": definition.scope,
            "names": {
                "kind": definition.kind,
                "listKind": f"{definition.kind}List",
                "plural": definition.plural,
                "singular": definition.singular,
                "shortNames": list(definition.short_names),
                "categories": [CATEGORY],
            },
            "versions": [version],
        },
    }


def root_schema(kind: type[Resource]) -> dict[str, Any]:
    """The schema of a whole object of the kind."""
    schema = object_schema(kind, where=kind.definition.kind, leave_out=frozenset(_COMMON))
    properties: dict[str, Any] = {name: dict(common) for name, common in _COMMON.items()} | schema["properties"]
    properties["metadata"] = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": kind.definition.longest_name}},
    }
    if "status" in properties:
        properties["status"] = without_rules(properties["status"])
    return {
        "description": prose(kind.__doc__ or ""),
        **schema,
        "properties": properties,
    }


def _has_status(kind: type[Resource]) -> bool:
    return "status" in kind.model_fields


def _column(column: Column) -> dict[str, Any]:
    out: dict[str, Any] = {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.json_path,
        "description": column.description,
    }
    if column.wide:
        out["priority"] = 1
    return out


def _scale(scale: Scale) -> dict[str, str]:
    return {
        "specReplicasPath": scale.spec_path,
        "statusReplicasPath": scale.status_path,
        "labelSelectorPath": scale.selector_path,
    }
