from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from allotment_api.errors import InvalidManifestError
from allotment_api.kafka import KafkaCluster
from allotment_api.labels import API_VERSION
from allotment_api.pod_group import PodGroup
from allotment_api.registry import KINDS, parse
from allotment_api.tenant import Tenant
from builders.api_objects import changed, manifest

DNS_LABEL = "must be a DNS label: lower-case letters, digits and '-', beginning and ending with a letter or digit"


@pytest.mark.parametrize(
    ("written", "wanted"),
    [(1, Fraction(1)), (0.1, Fraction(1, 10)), ("0.5", Fraction(1, 2)), (0, Fraction(0)), (2.75, Fraction(11, 4))],
)
def test_weights_are_read_exactly(written: Any, wanted: Fraction) -> None:
    tenant = Tenant.parse(manifest("Tenant", weight=written))

    assert Fraction(tenant.spec.weight) == wanted


@pytest.mark.parametrize("written", [True, "heavy", float("nan"), float("inf"), -0.1, None, [1]])
def test_what_is_no_weight_is_refused_or_absent(written: Any) -> None:
    if written is None:
        assert Tenant.parse(manifest("Tenant", weight=None)).spec.weight == Decimal(1)
        return
    with pytest.raises(InvalidManifestError, match="weight: "):
        Tenant.parse(manifest("Tenant", weight=written))


def test_all_faults_come_at_once_with_their_places() -> None:
    bad = manifest("KafkaCluster", pools=[{"name": "a", "replicas": "3"}, {"name": "B"}], paused="no", surprise=1)

    with pytest.raises(InvalidManifestError) as refusal:
        parse(changed(bad, "metadata.namespace", "pay"))

    assert str(refusal.value).splitlines() == [
        "KafkaCluster pay/x is invalid:",
        "  spec.paused: 'no' is no boolean: write true or false without quotes",
        "  spec.pools[0].replicas: '3' is no whole number: write a number without quotes",
        f"  spec.pools[1].name: {DNS_LABEL}",
        "  spec.surprise: is no field of this kind: remove it, or check its spelling",
    ]


@pytest.mark.parametrize(
    ("path", "value", "wanted"),
    [
        (
            "spec.limits",
            {"memory": "16GB"},
            "spec.limits.memory: '16GB' is no quantity: write 16G (or 16Gi for powers of",
        ),
        ("spec.pools", {"a100": {"limits": {"nvidia.com/gpu": "two"}}}, 'spec.pools.a100.limits["nvidia.com/gpu"]: '),
        ("spec.members", {"name": "x"}, "spec.members: must be a list"),
        ("spec", [], "spec: must be a mapping of fields"),
        ("spec.services", [{"kind": "Kafka"}], "spec.services[0].kind: 'Kafka' is not one of 'KafkaCluster'"),
        ("spec.parent", 5, "spec.parent: 5 is no text: put it in quotes"),
        ("spec.parent", "", "spec.parent: is too short: write 1 or more characters"),
        ("spec.namespaces", ["n"] * 65, "spec.namespaces: has too many entries: give 64 or fewer"),
        ("spec.policy", {"maxRuntimeSeconds": 0}, "0 is too small: write 1 or more"),
        ("spec.members", [{"name": "x"}], "spec.members[0].role: is required: add it"),
        ("metadata.name", "x" * 64, "metadata.name is too long: write 63 or fewer characters"),
    ],
)
def test_a_fault_names_its_field_and_the_remedy(path: str, value: Any, wanted: str) -> None:
    with pytest.raises(InvalidManifestError) as refusal:
        parse(changed(manifest("Tenant"), path, value))

    assert wanted in str(refusal.value)


def test_a_newer_servers_fields_are_no_reason_to_stop() -> None:
    newer = manifest("KafkaCluster", fromTheFuture={"a": 1}, pools=[{"name": "a", "alsoNew": 2}])

    assert KafkaCluster.parse(newer, strict=False).spec.pools[0].name == "a"
    with pytest.raises(InvalidManifestError, match="fromTheFuture"):
        KafkaCluster.parse(newer)


def test_an_unknown_kind_is_named_with_those_that_are_known() -> None:
    with pytest.raises(InvalidManifestError, match=r"(?s)allotment.dev/v1alpha1 Widget is invalid.*Tenant, NodePool"):
        parse({"apiVersion": "allotment.dev/v1alpha1", "kind": "Widget"})
    with pytest.raises(InvalidManifestError, match="apps/v1 Tenant"):
        parse({"apiVersion": "apps/v1", "kind": "Tenant"})


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_reads_the_same(kind: str) -> None:
    model = parse(manifest(kind))

    assert parse(model.manifest()) == model
    assert parse(model.manifest()).manifest() == model.manifest()


@pytest.mark.parametrize("kind", KINDS)
def test_null_means_absent_as_for_the_api_server(kind: str) -> None:
    nulls = dict.fromkeys(("paused", "priorityClassName", "policy", "placement"))
    known = {key: value for key, value in nulls.items() if key in parse(manifest(kind)).manifest()["spec"]}

    assert parse(manifest(kind, **known)) == parse(manifest(kind))


def test_no_services_at_all_is_not_the_same_as_no_word_about_services() -> None:
    silent, none = Tenant.parse(manifest("Tenant")), Tenant.parse(manifest("Tenant", services=[]))

    assert silent.spec.services is None
    assert none.spec.services == ()
    assert none.manifest()["spec"]["services"] == []
    assert "services" not in silent.manifest()["spec"]


def test_models_cannot_be_changed_by_accident() -> None:
    tenant = Tenant.parse(manifest("Tenant"))

    with pytest.raises(ValueError, match="frozen"):
        tenant.spec.suspended = True  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        ({"expectedTimeoutSeconds": 7200}, {"expectedTimeoutSeconds": 3600}),
        (
            {"minMember": 20_001, "expected": [{"name": "a", "count": 12_000}]},
            {"minMember": 18_001, "expected": [("a", 10_000)]},
        ),
        (
            {"minMember": 12_001, "expected": [{"name": each, "count": 6000} for each in "ab"]},
            {"minMember": 10_001, "expected": [("a", 6000), ("b", 4000)]},
        ),
        (
            {"minMember": 12_000, "expected": [{"name": "a", "count": 10_000}, {"name": "b", "count": 2000}]},
            {"minMember": 10_000, "expected": [("a", 10_000)]},
        ),
    ],
    ids=["room held for longer", "one part", "several parts", "a part too many"],
)
def test_a_stored_group_beyond_todays_bounds_is_read_within_them_and_a_new_one_refused(
    spec: dict[str, Any], want: dict[str, Any]
) -> None:
    manifest = {"apiVersion": API_VERSION, "kind": "PodGroup", "metadata": {"name": "g"}, "spec": spec}

    with pytest.raises(InvalidManifestError):
        PodGroup.parse(manifest)
    found = PodGroup.parse(manifest, strict=False).spec

    read = found.manifest() | {"expected": [(each.name, each.count) for each in found.expected]}
    assert {name: read[name] for name in want} == want


@pytest.mark.parametrize("expected", ["x", 5, [5], [{"name": "a"}], [{"name": "a", "count": "9"}]])
def test_a_stored_group_that_makes_no_sense_is_told_so(expected: object) -> None:
    manifest = {
        "apiVersion": API_VERSION,
        "kind": "PodGroup",
        "metadata": {"name": "g"},
        "spec": {"expected": expected},
    }

    with pytest.raises(InvalidManifestError):
        PodGroup.parse(manifest, strict=False)
