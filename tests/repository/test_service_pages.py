"""The pages about services: every reason that a condition may give is told, and so is every image that is pulled."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from allotment_api.cassandra import CassandraClusterSpec
from allotment_api.conditions import Reason
from allotment_api.kafka import KafkaClusterSpec
from allotment_api.tenant import Tenant
from allotment_operator.services.cassandra import pods as cassandra
from allotment_operator.services.jenkins.agents import DEFAULT_IMAGE
from allotment_operator.services.kafka import pods as kafka
from allotment_operator.services.spark import names as spark

ROOT = Path(__file__).parents[2]
OPERATOR = ROOT / "operator" / "allotment_operator"
SHARED = "### When a service is not well"
IMAGES = {
    "kafka": kafka.image(KafkaClusterSpec()),
    "cassandra": cassandra.image(CassandraClusterSpec()),
    "spark": spark.image("4.0.0"),
    "jenkins": DEFAULT_IMAGE,
}
"""What is pulled where nobody names an image, by page."""
PAGE_OF_KIND = {
    "KafkaCluster": "kafka",
    "CassandraCluster": "cassandra",
    "SparkApplication": "spark",
    "SparkCluster": "spark",
    "JenkinsAgentPool": "jenkins",
}
WELL = {
    "AsExpected", "Reconciling", "Creating", "Deleted", "PodsReadySimulated",
    "BrokersServe", "NodesServe", "MasterServes", "ControllerAnswers",
}  # fmt: skip
"""Reasons of what is well, or on its way."""
PLACE = {"condition": 2, "_says": 1, "failed_round": 1}
"""Which argument is the reason, by function."""


def told(text: str) -> set[str]:
    """Words in code in the tables of a text."""
    return {name for line in re.findall(r"^\|.*\|$", text, re.MULTILINE) for name in re.findall(r"`([^`]+)`", line)}


def reasons(folder: Path) -> set[str]:
    """The reasons that the code of a folder gives, as far as they are constants."""
    trees = [ast.parse(each.read_text()) for each in sorted(folder.rglob("*.py"))]
    named = {
        each.target.id: each.value.value
        for tree in trees for each in tree.body
        if isinstance(each, ast.AnnAssign)
        and isinstance(each.target, ast.Name) and isinstance(each.value, ast.Constant)
    }  # fmt: skip
    found = set[str]()
    for node in (node for tree in trees for node in ast.walk(tree)):
        for each in ast.walk(_reason(node) or ast.Constant(None)):
            if isinstance(each, ast.Constant) and isinstance(each.value, str):
                found.add(each.value)
            elif isinstance(each, ast.Name) and each.id in named:
                found.add(str(named[each.id]))
            elif isinstance(each, ast.Attribute) and each.attr in Reason.__members__:
                found.add(Reason[each.attr].value)
    return {each for each in found if re.fullmatch(r"([A-Z][a-z]+)+", each)}


def _reason(node: ast.AST) -> ast.expr | None:
    """The reason in a call, an assignment to `reason`, or a returned pair of reason and message."""
    if isinstance(node, ast.Call):
        by_name = next((each.value for each in node.keywords if each.arg == "reason"), None)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        place = PLACE.get(name, 99)
        return by_name or (node.args[place] if len(node.args) > place else None)
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "reason":
        return node.value
    if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and node.value.elts:
        return node.value.elts[0]
    return None


@pytest.mark.parametrize("page", IMAGES)
def test_every_reason_of_a_service_is_told(page: str) -> None:
    own = (
        (ROOT / "docs" / f"{page}.md").read_text().partition("\n## When something is wrong\n")[2].partition("\n## ")[0]
    )
    shared = (ROOT / "docs" / "tenants.md").read_text().partition(SHARED)[2]

    assert len(reasons(OPERATOR / "services" / page)) > 2
    assert reasons(OPERATOR / "services" / page) - WELL - told(own) - told(shared) == set()


def test_every_reason_that_all_services_share_is_told() -> None:
    given = reasons(OPERATOR / "plans") | reasons(OPERATOR / "reconcile") | {"QuotaExceeded"}

    assert {"WaitingForPods", "PartlyFailed", "NoGuarantee"} <= given
    assert given - WELL - told((ROOT / "docs" / "tenants.md").read_text().partition(SHARED)[2]) == set()


@pytest.mark.parametrize("page", IMAGES)
def test_the_image_that_is_pulled_by_itself_is_told_in_full(page: str) -> None:
    name = IMAGES[page].partition(":")[0]

    assert name.startswith("docker.io/"), "a name without a registry is admitted by no prefix that begins with one"
    for told_in in (page, "tenants"):
        assert f"`{name}`" in (ROOT / "docs" / f"{told_in}.md").read_text()


@pytest.mark.parametrize("path", ["docs/tenants.md", "examples/tenancy/full-tenant.yaml"])
def test_a_tenant_of_an_example_may_pull_the_images_of_the_services_it_may_have(path: str) -> None:
    text = (ROOT / path).read_text()
    example = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0] if path.endswith(".md") else text
    bounded = [
        tenant for tenant in map(Tenant.parse, yaml.safe_load_all(example)) if tenant.spec.policy.allowed_registries
    ]

    assert len(bounded) == 1
    prefixes = bounded[0].spec.policy.allowed_registries
    pages = [PAGE_OF_KIND[each.kind] for each in bounded[0].spec.services or () if each.kind in PAGE_OF_KIND]
    assert pages
    assert [page for page in pages if not any(IMAGES[page].startswith(prefix) for prefix in prefixes)] == []
