from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from allotment_api.generate import ROOT
from allotment_api.labels import API_VERSION
from allotment_api.quantities import total
from allotment_api.registry import KINDS, parse
from allotment_api.tenant import Tenant

FOLDERS = ("tenancy", "gang", "kafka", "cassandra", "spark", "jenkins", "bank")


@cache
def documents() -> list[Any]:
    """Every example as a parameter with its place for an id; not to be changed."""
    return [
        pytest.param(each, id=f"{path.relative_to(ROOT / 'examples')}:{each['kind']}/{each['metadata']['name']}")
        for folder in FOLDERS
        for path in sorted((ROOT / "examples" / folder).glob("*.yaml"))
        for each in yaml.load_all(path.read_text(), yaml.CSafeLoader)
    ]


def fields(value: Any, path: str = "") -> Iterator[str]:
    """Paths of everything that is set."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}.{key}"
            yield from fields(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from fields(inner, f"{path}[{index}]")


@pytest.mark.parametrize("document", documents())
def test_every_example_is_accepted_and_reads_back_defaulted(api: Any, document: dict[str, Any]) -> None:
    if document["apiVersion"] != API_VERSION:
        path = f"/apis/{document['apiVersion']}/namespaces/{api.namespace}/{document['kind'].lower()}s"
        here = {**document, "metadata": {**document["metadata"], "namespace": api.namespace}}
        answer = api.request("POST", path, here, fieldValidation="Strict", dryRun="All")
        assert answer.accepted, answer.message
        return

    answer = api.create(document)

    assert answer.accepted, answer.message
    ours, theirs = parse(document), parse(answer.body)
    assert theirs.manifest()["spec"] == ours.manifest()["spec"]
    assert set(fields(ours.manifest()["spec"])) == set(fields(answer.body["spec"]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sort", ["bare", "full"])
def test_every_kind_has_a_bare_and_a_full_example(kind: str, sort: str) -> None:
    found = [
        document.values[0]
        for document in documents()
        if "/" + sort in "/" + Path(str(document.id).split(":")[0]).name and document.values[0]["kind"] == kind
    ]

    assert found


def test_the_bank_hangs_together() -> None:
    bank = [d.values[0] for d in documents() if str(d.id).startswith("bank/")]
    tenants = {d["metadata"]["name"]: d["spec"] for d in bank if d["kind"] == "Tenant"}
    pools = {d["metadata"]["name"] for d in bank if d["kind"] == "NodePool"}
    namespaces = {namespace for spec in tenants.values() for namespace in spec.get("namespaces", [])}

    assert {spec["parent"] for spec in tenants.values() if "parent" in spec} <= tenants.keys()
    assert {pool for spec in tenants.values() for pool in (*spec.get("nodePools", ()), *spec.get("pools", ()))} <= pools
    assert {d["metadata"]["namespace"] for d in bank if "namespace" in d["metadata"]} == namespaces


def test_what_the_banks_parents_are_promised_covers_their_children() -> None:
    """A guarantee holds only at the level where claimant and victim meet, so it must be there on the whole way up."""
    tenants = [
        Tenant.parse(d.values[0]) for d in documents() if d.values[0]["kind"] == "Tenant" and "bank/" in str(d.id)
    ]

    def promised(tenant: Tenant) -> Counter[tuple[str, str]]:
        out = Counter({("", name): amount for name, amount in total(tenant.spec.guaranteed).items()})
        for pool, share in tenant.spec.pools.items():
            out.update({(pool, name): amount for name, amount in total(share.guaranteed).items()})
        return out

    for parent in tenants:
        children = [promised(child) for child in tenants if child.spec.parent == parent.metadata.name]
        assert sum(children, Counter()) <= promised(parent), parent.metadata.name
