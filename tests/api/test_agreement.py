"""The models and the API server judge alike, and fill in the same defaults.

Objects are drawn from the schemas themselves: mostly sensible values, now and then a wrong one, fields left out at
random. Whatever the server says about one, the model must say too.
"""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allotment_api.crd import root_schema
from allotment_api.errors import InvalidManifestError
from allotment_api.registry import KINDS, parse
from builders.api_objects import manifest

GOOD_TEXT = ["a", "r1", "pool-x", "nvidia.com/gpu", "1.2.3", "4g", "512m", "https://h/", "/etc/x", "10.0.0.0/8", "A_b"]
BAD_TEXT = [
    "",
    "-a",
    "a b",
    "A",
    "a.b",
    "kube-x",
    "default",
    "x" * 70,
    "4Gi",
    "é",
    "a/b/c",
    "http://",
    "10.0.0.1/8",
    "*",
]
GOOD_QUANTITIES: list[Any] = ["500m", "1", 4, "2Gi", "16Gi", "1e3", "0", "100G"]
BAD_QUANTITIES: list[Any] = ["1GB", "-1", -2, "", "4 Gi", "9Ei", "abc", True, 1.5]
KEYS = [
    "cpu",
    "memory",
    "nvidia.com/gpu",
    "gpu",
    "a",
    "A b",
    "log.dirs",
    "num.io.threads",
    "spark.master",
    "rpc_address",
]


def text(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return often(st.sampled_from(schema["enum"]), st.just("nonsense"))
    if schema.get("format") == "date-time":
        return st.just("2026-01-31T12:00:00Z")
    return often(st.sampled_from(GOOD_TEXT), st.sampled_from(BAD_TEXT))


def often(good: st.SearchStrategy[Any], bad: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 19).flatmap(lambda dice: bad if dice == 19 else good)


def numbers(schema: dict[str, Any], *, whole: bool) -> st.SearchStrategy[Any]:
    low, high = int(schema.get("minimum", 0)), int(min(schema.get("maximum", 10**6), 10**6))
    near = st.integers(low, min(high, low + 6))
    good = near if whole else st.one_of(near, st.sampled_from([low + 0.5, low + 0.1]))
    outside = [low - 1, int(schema["maximum"]) + 1] if "maximum" in schema else [low - 1]
    return often(good, st.sampled_from([*outside, "3", True, 1.5]) if whole else st.sampled_from([*outside, "x", True]))


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if schema.get("x-kubernetes-int-or-string"):
        if schema.get("maxLength") == 32:
            return often(st.sampled_from(GOOD_QUANTITIES), st.sampled_from(BAD_QUANTITIES))
        return often(st.sampled_from(["x", 3, "2"]), st.sampled_from([True, 1.5]))
    match schema["type"]:
        case "boolean":
            return often(st.booleans(), st.sampled_from(["true", 1]))
        case "integer":
            return numbers(schema, whole=True)
        case "number":
            return numbers(schema, whole=False)
        case "string":
            return text(schema)
        case "array":
            return st.lists(values(schema["items"]), max_size=3)
        case _ if "additionalProperties" in schema:
            return st.dictionaries(st.sampled_from(KEYS), values(schema["additionalProperties"]), max_size=2)
        case _:
            return objects(schema)


def objects(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    required = set(schema.get("required", ()))
    fields = {name: values(inner) for name, inner in schema["properties"].items()}

    @st.composite
    def build(draw: st.DrawFn) -> dict[str, Any]:
        chosen = draw(st.sets(st.sampled_from(sorted(fields)), max_size=3)) if fields else set()
        missing = draw(st.integers(0, 59)) == 59
        return {name: draw(fields[name]) for name in sorted(chosen | (set() if missing else required))}

    return build()


SPECS = {kind: values(root_schema(model)["properties"]["spec"]) for kind, model in KINDS.items()}


def judged(drawn: dict[str, Any]) -> Any:
    try:
        return parse(drawn)
    except InvalidManifestError as refusal:
        return refusal


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_models_and_server_judge_alike(api: Any, kind: str, data: st.DataObject) -> None:
    bare = manifest(kind)
    drawn = {**bare, "spec": {**bare["spec"], **data.draw(SPECS[kind])}}

    ours, theirs = judged(drawn), api.create(drawn)

    assert theirs.status in (201, 400, 422), theirs.message
    if theirs.accepted:
        assert not isinstance(ours, InvalidManifestError), f"the server accepts, the model says {ours}"
        assert parse(theirs.body).manifest()["spec"] == ours.manifest()["spec"]
        again = api.create(ours.manifest())
        assert again.accepted, f"the model writes what the server refuses: {again.message}"
    else:
        assert isinstance(ours, InvalidManifestError), f"the model accepts, the server says {theirs.message}"
