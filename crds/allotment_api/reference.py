"""Reference pages from the models: one per kind, one for labels and other names, and an index.

How it thinks: the page of a kind shows what the definition says and nothing else: the fields with type, default and
text, the rules in words, the columns of `kubectl get`. So it can never disagree with the cluster.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from allotment_api.crd import root_schema
from allotment_api.labels import API_VERSION, NAMES
from allotment_api.outputs import OUTPUTS
from allotment_api.registry import KINDS
from allotment_api.resource import Resource

_NOTICE = "<!-- Generated from the models in crds/allotment_api by `make generate`; do not edit. -->\n"
_LONGEST_DEFAULT = 60


def pages() -> dict[str, str]:
    """File name → Markdown."""
    out = {f"{kind.definition.plural}.md": kind_page(kind) for kind in KINDS.values()}
    return {"README.md": index_page(), **out, "labels.md": names_page(), "outputs.md": outputs_page()}


_INTRODUCTION = f"""\
All kinds are of `{API_VERSION}`. `kubectl get allotment -A` lists those in namespaces; `kubectl explain KIND.spec`
shows the same texts as these pages.
"""

_CLOSING = """
Names that objects carry are in [labels, annotations and other names](labels.md), and what the commands print for
programs in [JSON of the commands](outputs.md).

Wherever a quantity is asked for, write it as in pods: `500m`, `4`, `16Gi`. Fractions need quotes (`"0.5"`). Weights and
costs are plain decimals (`0.5`), read exactly. Manifests to begin with are under `examples/`: a bare and a full one of
each kind, and a whole bank.
"""


def index_page() -> str:
    """What there is."""
    rows = [
        (
            f"[{kind.definition.kind}]({kind.definition.plural}.md)",
            ", ".join(f"`{name}`" for name in kind.definition.short_names),
            kind.definition.scope,
            _summary(kind),
        )
        for kind in KINDS.values()
    ]
    table = _table(("Kind", "Short", "Scope", "What it is"), rows)
    return "\n".join([_NOTICE, "# API reference", "", _INTRODUCTION, *table, _CLOSING])


def kind_page(kind: type[Resource]) -> str:
    """Everything about one kind."""
    definition = kind.definition
    schema = root_schema(kind)
    parts = [
        _NOTICE,
        f"# {definition.kind}",
        "",
        schema["description"],
        "",
        f"{definition.scope} · `{definition.plural}.allotment.dev` · short "
        + ", ".join(f"`{name}`" for name in definition.short_names),
        "",
        "## Fields",
        "",
        *_fields(schema["properties"]["spec"], "spec"),
        "",
        "## Rules",
        "",
        *_rules(schema, definition.longest_name),
        "",
        "## What `kubectl get` shows",
        "",
        *_table(
            ("Column", "Meaning"),
            [
                (column.name + (" (with `-o wide`)" if column.wide else ""), column.description)
                for column in definition.columns
            ],
        ),
        "",
    ]
    if definition.scale:
        parts += [f"`kubectl scale` and autoscalers set `{definition.scale.spec_path.removeprefix('.')}`.", ""]
    if "status" in schema["properties"]:
        parts += ["## Status", "", *_fields(schema["properties"]["status"], "status"), ""]
    return "\n".join(parts)


def names_page() -> str:
    """Labels, annotations and the rest."""
    parts = [_NOTICE, "# Labels, annotations and other names", ""]
    sorts = list(dict.fromkeys(each.sort for each in NAMES))
    for sort, names in groupby(sorted(NAMES, key=lambda each: sorts.index(each.sort)), key=lambda each: each.sort):
        rows = [(f"`{each.name}`", each.carried_by, each.set_by, each.meaning) for each in names]
        parts += [f"## {sort.capitalize()}s", "", *_table(("Name", "On", "Set by", "Meaning"), rows), ""]
    return "\n".join(parts)


def outputs_page() -> str:
    """What the commands print as JSON."""
    parts = [_NOTICE, "# JSON of the commands", "", _OUTPUTS]
    for output in OUTPUTS:
        rows = [(f"`{each.path}`", _nullable(each.type), each.meaning) for each in output.fields]
        parts += [f"## `{output.command}`", "", output.about, "", *_table(("Field", "Type", "Meaning"), rows), ""]
    return "\n".join(parts)


_OUTPUTS = """\
A stable interface: fields keep their names, types and meanings, and new ones may come. `[]` stands for the entries of a
list, `.*` for the values of a map. `-o yaml` prints the same. Exit codes are in each command's `--help`.
"""


def _nullable(written: str) -> str:
    return f"{written.removesuffix('?')} or null" if written.endswith("?") else written


def _summary(kind: type[Resource]) -> str:
    description: str = root_schema(kind)["description"]
    return description


def _fields(schema: Mapping[str, Any], path: str) -> list[str]:
    rows = [
        (f"`{where}`", _type(inner) + (", required" if required else ""), _default(inner), inner["description"])
        for where, inner, required in _walk(schema, path)
    ]
    return _table(("Field", "Type", "Default", "Meaning"), rows)


def _walk(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    for name, inner in schema.get("properties", {}).items():
        where = f"{path}.{name}"
        yield where, inner, name in schema.get("required", ())
        yield from _walk(inner, where)
        if "items" in inner:
            yield from _walk(inner["items"], f"{where}[]")
        if "additionalProperties" in inner:
            yield from _walk(inner["additionalProperties"], f"{where}.*")


def _type(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return (
            "quantity" if "x-kubernetes-validations" in schema or schema.get("maxLength") == 32 else "text or integer"
        )
    match schema["type"]:
        case "array":
            return f"list of {_plural(_type(schema['items']))}"
        case "object" if "additionalProperties" in schema:
            return f"map to {_type(schema['additionalProperties'])}"
        case "integer" | "number":
            return f"{schema['type']}{_range(schema)}"
        case "string":
            return "time" if schema.get("format") == "date-time" else "text"
        case other:
            return str(other)


def _plural(kind: str) -> str:
    return (
        kind
        if kind.startswith(("one of", "text"))
        else kind.replace("integer", "integers").replace("object", "objects")
    )


def _range(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None and high < 2**31 - 1:
        return f" {low} … {high}"
    return f" ≥ {low}" if low is not None else ""


def _default(schema: Mapping[str, Any]) -> str:
    if "default" not in schema:
        return ""
    written = json.dumps(schema["default"])
    return f"`{written}`" if len(written) <= _LONGEST_DEFAULT else "see the fields below"


def _rules(schema: Mapping[str, Any], longest_name: int) -> list[str]:
    spec = schema["properties"]["spec"]
    places = [("", schema), ("spec", spec)]
    places += [(where, inner) for where, inner, _ in _walk(spec, "spec")]
    places += [(f"{where}[]", inner["items"]) for where, inner, _ in _walk(spec, "spec") if "items" in inner]
    lines = [f"- `metadata.name`: at most {longest_name} characters."]
    for where, inner in places:
        for rule in inner.get("x-kubernetes-validations", ()):
            place = where + rule.get("fieldPath", "") or "metadata.name"  # such rules are about the object's name
            lines.append(f"- `{place.removeprefix('.')}`: {rule['message'].replace('<', '&lt;')}.")
    return list(dict.fromkeys(lines))


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    lines = [head, tuple("---" for _ in head), *rows]
    return [
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;") for cell in line) + " |"
        for line in lines
    ]
