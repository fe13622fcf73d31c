"""What Kubernetes objects mean to the core: nodes, pools, tenants, gangs, budgets, volumes."""

from fractions import Fraction
from typing import Any

import msgspec
import pytest

from allotment_api.node_pool import NodePool
from allotment_api.pod_group import ExpectedMember
from allotment_api.tenant import Tenant
from allotment_kube import storage as kube_storage
from allotment_kube.nodes import Node
from allotment_kube.storage import CSINode
from allotment_kube.workloads import Job, PodDisruptionBudget, SchedulingPodGroup
from allotment_scheduler.translation import cluster, storage
from allotment_scheduler.translation.requests import MOST


def node(**status: Any) -> Node:
    content = {"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "1500m", "memory": "1Gi"}, **status}}
    return msgspec.convert(content, Node)


def job(*, failed: int = 0, gang: bool = False, **spec: Any) -> Job:
    labels = {"allotment.dev/gang": "true"} if gang else {}
    content = {"metadata": {"name": "j", "labels": labels}, "spec": spec, "status": {"failed": failed}}
    return msgspec.convert(content, Job)


def test_a_node_offers_its_allocatable_resources_in_units() -> None:
    assert cluster.node_spec(node()).allocatable == {"cpu": 1500, "memory": 2**30}


@pytest.mark.parametrize(
    ("conditions", "ready"),
    [
        ([], True),
        ([{"type": "Ready", "status": "True"}], True),
        ([{"type": "Ready", "status": "Unknown"}], False),
        ([{"type": "DiskPressure", "status": "True"}], True),
    ],
)
def test_a_node_is_ready_unless_it_says_otherwise(conditions: list[dict[str, str]], ready: bool) -> None:
    assert cluster.node_spec(node(conditions=conditions)).ready is ready


def test_a_nodes_volume_limits_come_from_its_csi_drivers() -> None:
    drivers = [{"name": "disk", "allocatable": {"count": 3}}, {"name": "share"}]
    csi = msgspec.convert({"metadata": {"name": "n"}, "spec": {"drivers": drivers}}, CSINode)
    assert cluster.node_spec(node(), csi).volume_limits == {"disk": 3}


def test_a_node_has_the_features_that_it_declares() -> None:
    assert cluster.node_spec(node(declaredFeatures=["B", "A"])).features == ("A", "B")
    assert cluster.node_spec(node(declaredFeatures=None)).features == ()


def test_the_default_pool_selects_nothing_by_itself() -> None:
    content = {"kind": "NodePool", "metadata": {"name": "default"}, "spec": {}}
    spec = cluster.pool_spec(NodePool.parse({"apiVersion": "allotment.dev/v1alpha1", **content}))
    assert not spec.selector.matches({"any": "label"})
    assert not spec.selector.matches({})


def test_weights_are_read_exactly() -> None:
    content = {"apiVersion": "allotment.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": "t"}}
    spec = cluster.tenant_spec(Tenant.parse({**content, "spec": {"weight": 0.1, "guaranteed": {"cpu": "250m"}}}))
    assert spec.weight == Fraction(1, 10)
    assert spec.guaranteed.total == {"cpu": 250}


@pytest.mark.parametrize(("metadata", "want"), [({}, False), ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, True)])
def test_a_tenant_that_is_being_deleted_is_leaving(metadata: dict[str, str], want: bool) -> None:
    content = {"apiVersion": "allotment.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": "t", **metadata}}
    assert cluster.tenant_spec(Tenant.parse({**content, "spec": {}})).leaving == want


@pytest.mark.parametrize(
    ("spec", "status", "want"),
    [
        ({}, {}, 1),
        ({"parallelism": 4}, {}, 4),
        ({"parallelism": 4}, {"succeeded": 1}, 1),
        ({"parallelism": 4, "completions": 10}, {}, 4),
        ({"parallelism": 4, "completions": 10}, {"succeeded": 8}, 2),
        ({"parallelism": 4, "completions": 10}, {"succeeded": 10}, 1),
        ({"parallelism": 8, "completions": 8}, {"failedIndexes": "3"}, 7),
        ({"parallelism": 8, "completions": 8}, {"succeeded": 2, "failedIndexes": "0,3-5"}, 2),
        ({"parallelism": 4, "completions": 8}, {"failedIndexes": "1,3"}, 4),
        ({"parallelism": 2, "completions": 2}, {"failedIndexes": "0-1"}, 1),
    ],
)
def test_a_gang_job_needs_as_many_as_may_still_run_at_once(
    spec: dict[str, int], status: dict[str, Any], want: int
) -> None:
    found = job(gang=True, **spec)
    found = msgspec.structs.replace(found, status=msgspec.convert(status, type(found.status)))
    gang = cluster.gang_of_job(found)
    assert gang is not None
    assert (gang.name, gang.min_member) == ("job/j", want)


def test_a_job_without_the_label_is_no_gang() -> None:
    assert cluster.gang_of_job(job(parallelism=3)) is None


IGNORING = {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}
FAILING = {"rules": [{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget"}]}]}
FAILING_ITS_INDEX = {"rules": [{"action": "FailIndex", "onPodConditions": [{"type": "DisruptionTarget"}]}]}
COUNTING = {"rules": [{"action": "Count", "onPodConditions": [{"type": "DisruptionTarget"}]}]}


@pytest.mark.parametrize(
    ("found", "dies"),
    [
        (job(), False),
        (job(failed=6), True),
        (job(parallelism=8), True),
        (job(parallelism=8, backoffLimit=8), False),
        (job(backoffLimit=0), True),
        (job(backoffLimit=0, podFailurePolicy=IGNORING), False),
        (job(backoffLimit=9, podFailurePolicy=FAILING), True),
        (job(backoffLimit=9, podFailurePolicy=FAILING_ITS_INDEX), True),
        (job(backoffLimit=0, podFailurePolicy=COUNTING), True),
        (job(backoffLimit=9, podFailurePolicy=COUNTING), False),
        (job(parallelism=8, backoffLimit=2**31 - 1, backoffLimitPerIndex=0), True),
        (job(parallelism=8, backoffLimit=2**31 - 1, backoffLimitPerIndex=2), False),
        (job(failed=2, parallelism=8, backoffLimit=2**31 - 1, backoffLimitPerIndex=2), True),
        (job(backoffLimit=2**31 - 1, backoffLimitPerIndex=0, podFailurePolicy=IGNORING), False),
    ],
)
def test_a_job_dies_of_evictions_that_count_as_too_many_failures(found: Job, dies: bool) -> None:
    assert cluster.dies_of_eviction(found) is dies


@pytest.mark.parametrize(("observed", "allowed"), [(3, 2), (2, None), (0, None)])
def test_a_budgets_figure_counts_only_if_it_is_about_the_present_spec(observed: int, allowed: int | None) -> None:
    content = {
        "metadata": {"name": "b", "namespace": "a", "generation": 3},
        "spec": {"selector": {"matchLabels": {"app": "x"}}, "minAvailable": 1},
        "status": {"disruptionsAllowed": 2, "observedGeneration": observed},
    }
    assert cluster.budget_spec(msgspec.convert(content, PodDisruptionBudget)).allowed == allowed


def test_a_budget_without_a_selector_covers_nobody() -> None:
    content = {"metadata": {"name": "b", "namespace": "a"}, "spec": {"minAvailable": 1}}
    spec = cluster.budget_spec(msgspec.convert(content, PodDisruptionBudget))
    assert not spec.selector.matches({"app": "x"})


def test_a_claim_knows_its_volume_class_and_chosen_node() -> None:
    content = {
        "metadata": {"name": "c", "namespace": "a", "annotations": {"volume.kubernetes.io/selected-node": "n"}},
        "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}},
    }
    claim = storage.claim(msgspec.convert(content, kube_storage.PersistentVolumeClaim))
    assert (claim.storage_class, claim.volume, claim.request, claim.selected_node) == ("fast", None, 2**30, "n")


@pytest.mark.parametrize(("named", "want"), [({"volumeAttributesClassName": "gold"}, "gold"), ({}, "")])
def test_claims_and_volumes_know_their_attributes_class(named: dict[str, str], want: str) -> None:
    content = {"metadata": {"name": "c"}, "spec": named}

    assert storage.claim(msgspec.convert(content, kube_storage.PersistentVolumeClaim)).attributes == want
    assert storage.volume(msgspec.convert(content, kube_storage.PersistentVolume)).attributes == want


def test_a_class_without_provisioner_provisions_nothing() -> None:
    content = {
        "metadata": {"name": "local"},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    found = storage.storage_class(msgspec.convert(content, kube_storage.StorageClass))
    assert (found.waits, found.provisions) == (True, False)


@pytest.mark.parametrize(
    ("spec", "minimum", "key"),
    [
        ({"schedulingPolicy": {"gang": {"minCount": 3}}}, 3, None),
        ({"schedulingPolicy": {"basic": {}}}, 1, None),
        (
            {"schedulingPolicy": {"gang": {"minCount": 2}}, "schedulingConstraints": {"topology": [{"key": "r"}]}},
            2,
            "r",
        ),
    ],
)
def test_a_pod_group_of_kubernetes_is_a_gang(spec: dict[str, Any], minimum: int, key: str | None) -> None:
    content = {"metadata": {"name": "g", "namespace": "ns"}, "spec": {**spec, "priority": 7}}
    found = cluster.scheduling_group_spec(msgspec.convert(content, SchedulingPodGroup))
    assert (found.namespace, found.name, found.min_member) == ("ns", "scheduling.k8s.io/g", minimum)
    assert (found.topology_key, found.topology_required, found.priority) == (key, key is not None, 7)


def test_what_is_announced_is_bounded_as_the_requests_of_pods_are() -> None:
    member = ExpectedMember.model_validate({"name": "x", "count": 2, "requests": {"cpu": "9E", "memory": "1Ki"}})

    found = cluster.expected_member("ns", "g", member).template.scheduling.requests

    assert dict(found) == {"cpu": MOST, "memory": 1024}
