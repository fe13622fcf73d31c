from collections.abc import Iterator
from typing import Any

import pytest

from allotment_api.crd import document
from allotment_api.registry import KINDS
from builders.api_objects import manifest

BOUNDED = {"string": "maxLength", "array": "maxItems"}


def walk(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema below, but the root, with its path."""
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}.{name}", inner
        yield from walk(inner, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", ".*")):
        if key in schema:
            yield f"{path}{mark}", schema[key]
            yield from walk(schema[key], f"{path}{mark}")


def root(kind: str) -> dict[str, Any]:
    schema: dict[str, Any] = document(KINDS[kind])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


@pytest.mark.parametrize("kind", KINDS)
def test_explain_has_a_text_for_every_field(api: Any, kind: str) -> None:
    answer = api.request("GET", "/openapi/v3/apis/allotment.dev/v1alpha1")
    served = answer.body["components"]["schemas"][f"dev.allotment.v1alpha1.{kind}"]

    assert served["description"]
    fields = [
        (path, inner)
        for path, inner in walk(served, kind)
        if not path.endswith(("[]", ".*")) and not path.startswith(f"{kind}.metadata")
    ]
    assert len(fields) > 5
    assert [path for path, inner in fields if not inner.get("description")] == []


def test_kubectl_explain_shows_those_texts(cluster: Any, api: Any) -> None:
    assert api.namespace
    said = cluster.kubectl("explain", "kafkacluster.spec.pools.storage.size").stdout

    assert "It can grow, never shrink" in " ".join(said.split())


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_in_a_spec_is_without_bounds(kind: str) -> None:
    """The API server estimates the cost of rules from these, and an object stays far below etcd's limit."""
    open_ended = [
        path
        for path, inner in walk(root(kind)["properties"]["spec"], "spec")
        if inner.get("type") in BOUNDED
        and not any(word in inner for word in (BOUNDED[inner["type"]], "enum", "format"))
    ]
    loose_maps = [
        path
        for path, inner in walk(root(kind)["properties"]["spec"], "spec")
        if "additionalProperties" in inner and "maxProperties" not in inner
    ]

    assert open_ended == []
    assert loose_maps == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_part_of_a_schema_is_free_form(kind: str) -> None:
    assert [p for p, inner in walk(root(kind), kind) if inner.get("x-kubernetes-preserve-unknown-fields")] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_message_says_what_to_do_or_what_is_right(kind: str) -> None:
    rules = [rule for _, inner in walk(root(kind), kind) for rule in inner.get("x-kubernetes-validations", [])]
    rules += root(kind).get("x-kubernetes-validations", [])

    assert all(len(rule["message"]) > 15 for rule in rules)
    assert all(not rule["message"].startswith("failed") for rule in rules)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"TenantPolicy"}))
def test_every_kind_that_does_something_can_be_paused_and_reports(kind: str) -> None:
    schema = root(kind)["properties"]

    assert schema["spec"]["properties"]["paused"]["default"] is False
    assert schema["status"]["properties"]["observedGeneration"]["type"] == "integer"
    assert schema["status"]["properties"]["conditions"]["x-kubernetes-list-map-keys"] == ["type"]
    assert document(KINDS[kind])["spec"]["versions"][0]["subresources"]["status"] == {}


def test_names_are_unique_and_in_the_category() -> None:
    definitions = [kind.definition for kind in KINDS.values()]
    names = [name for d in definitions for name in (d.plural, d.singular, *d.short_names)]

    assert len(names) == len(set(names))
    for kind in KINDS.values():
        assert document(kind)["spec"]["names"]["categories"] == ["allotment"]


def test_one_word_lists_everything(cluster: Any, api: Any) -> None:
    topic = manifest("KafkaTopic", "listed")
    assert api.create(topic, keep=True).accepted
    try:
        said = cluster.kubectl("get", "allotment", "--namespace", api.namespace).stdout
    finally:
        api.delete(topic)

    assert "kafkatopic.allotment.dev/listed" in said


@pytest.mark.parametrize("kind", KINDS)
def test_every_column_points_at_a_field(kind: str) -> None:
    known = {path.removeprefix(kind) for path, _ in walk(root(kind), kind)} | {".metadata.creationTimestamp"}
    for column in KINDS[kind].definition.columns:
        bare = column.json_path.replace(r"\.", "/").split("[?")[0]
        holder = bare if bare in known else bare.rsplit(".", 1)[0] + ".*"
        assert holder in known, column


@pytest.mark.parametrize(("kind", "field"), [("CassandraCluster", "size"), ("SparkCluster", "workers.replicas")])
def test_kubectl_scale_and_autoscalers_reach_the_number_of_pods(api: Any, kind: str, field: str) -> None:
    cluster = manifest(kind, "scaled")
    assert api.create(cluster, keep=True).accepted
    path = api.path(cluster, name=True)
    try:
        scale = api.request("GET", f"{path}/scale").body
        scale["spec"]["replicas"] = 7
        answer = api.request("PUT", f"{path}/scale", scale)
        assert answer.accepted, answer.message
        spec = api.request("GET", path).body["spec"]
    finally:
        api.delete(cluster)

    for part in field.split("."):
        spec = spec[part]
    assert spec == 7


def test_status_is_written_apart_by_its_owners(api: Any) -> None:
    """Operator and scheduler each apply their own part of a Tenant's status, and neither takes the other's away."""
    tenant = manifest("Tenant", api.namespace)
    assert api.create(tenant, keep=True).accepted
    path = f"{api.path(tenant, name=True)}/status"
    head = {"apiVersion": tenant["apiVersion"], "kind": "Tenant", "metadata": {"name": api.namespace}}

    def condition(type_: str) -> dict[str, str]:
        return {
            "type": type_,
            "status": "True",
            "reason": "AsExpected",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }

    try:
        for owner, status in (
            (
                "allotment-operator",
                {"namespaces": [{"name": "a", "phase": "Ready"}], "conditions": [condition("Ready")]},
            ),
            (
                "allotment-scheduler",
                {"usage": {"cpu": "3"}, "dominantShare": 0.25, "conditions": [condition("GuaranteeIncomplete")]},
            ),
        ):
            answer = api.request(
                "PATCH", path, {**head, "status": status}, as_type="application/apply-patch+yaml", fieldManager=owner
            )
            assert answer.accepted, answer.message
        status = api.request("GET", path).body["status"]
    finally:
        api.delete(tenant)

    assert status["namespaces"] == [{"name": "a", "phase": "Ready"}]
    assert status["usage"] == {"cpu": "3"}
    assert [each["type"] for each in status["conditions"]] == ["Ready", "GuaranteeIncomplete"]
