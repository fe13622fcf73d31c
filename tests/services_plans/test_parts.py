"""The parts that services share: resources, heaps, volumes, placement, guarantees."""

import pytest

from allotment_api.quantities import quantity
from allotment_api.service import Jvm, Placement, Resources, Storage
from allotment_operator.plans.actions import ObjectRef
from allotment_operator.plans.jvm import heap_mebibytes
from allotment_operator.plans.network import Opening, network_policy, tenant_pods
from allotment_operator.plans.outcome import Observed, TenantView
from allotment_operator.plans.ownership import Owner
from allotment_operator.plans.placement import pod_placement
from allotment_operator.plans.preemption import Preemption
from allotment_operator.plans.service_status import pod_trouble
from allotment_operator.plans.storage import claim_template, growth
from allotment_operator.plans.unworkable import UnworkableError, require_version
from allotment_operator.plans.workload import container_resources, spellings
from builders.services import NOW, RETAIL

OWNER = Owner("allotment.dev/v1alpha1", "KafkaCluster", "payments", "trades", "uid-1")


def resources(limits: dict[str, str] | None = None, **requests: str) -> Resources:
    return Resources.model_validate({"requests": {"cpu": "1", "memory": "4Gi", **requests}, "limits": limits or {}})


def test_memory_without_a_limit_is_limited_to_its_request_and_cpu_is_not() -> None:
    assert container_resources(resources())["limits"] == {"memory": "4Gi"}
    assert container_resources(resources({"memory": "6Gi", "cpu": "2"}))["limits"] == {"cpu": "2", "memory": "6Gi"}


@pytest.mark.parametrize(
    "same",
    [
        {"apache/kafka:4", "docker.io/apache/kafka:4"},
        {"spark", "library/spark", "docker.io/spark", "docker.io/library/spark"},
        {
            "spark@sha256:0a",
            "library/spark@sha256:0a",
            "docker.io/spark@sha256:0a",
            "docker.io/library/spark@sha256:0a",
        },
        {"registry.bank/apache/kafka:4"},
        {"registry:5000/spark"},
        {"localhost/spark"},
    ],
    ids=min,
)
def test_an_image_is_the_same_in_every_spelling_of_dockers_registry(same: set[str]) -> None:
    for image in same:
        assert set(spellings(image)) == same


@pytest.mark.parametrize(
    ("heap", "limit", "want"),
    [(None, None, 2048), (None, "8Gi", 2048), ("1Gi", None, 1024), ("3Gi", None, 3072), ("6Gi", "8Gi", 6144)],
)
def test_the_heap_is_half_of_the_request_or_what_was_asked_for(heap: str | None, limit: str | None, want: int) -> None:
    jvm = Jvm.model_validate({"heapSize": heap})

    assert heap_mebibytes(jvm, resources({"memory": limit} if limit else None)) == want


@pytest.mark.parametrize(("heap", "words"), [("3500Mi", "write 3072Mi or less"), ("1000", "write a size such as")])
def test_a_heap_that_does_not_fit_is_refused_with_what_to_write(heap: str, words: str) -> None:
    with pytest.raises(UnworkableError, match=words):
        heap_mebibytes(Jvm.model_validate({"heapSize": heap}), resources())


@pytest.mark.parametrize(
    ("size", "phase", "grows"), [("1Gi", "Bound", True), ("9Gi", "Bound", False), ("1Gi", "Pending", False)]
)
def test_only_bound_claims_that_are_too_small_grow(size: str, phase: str, grows: bool) -> None:
    template = claim_template(OWNER, Storage.model_validate({"size": size}), labels={"rack": "a"})
    claim = {**template, "metadata": {**template["metadata"], "name": "data-a-0", "namespace": "payments"}}
    claim["status"] = {"phase": phase}
    seen = Observed(children={ObjectRef("v1", "PersistentVolumeClaim", "payments", "data-a-0"): claim})

    grown = growth(seen, labels={"rack": "a"}, size=quantity("5Gi"))

    assert bool(grown) == grows
    assert not growth(seen, labels={"rack": "b"}, size=quantity("5Gi"))


def test_claims_have_no_owner_so_that_nothing_but_a_plan_deletes_them() -> None:
    assert "ownerReferences" not in claim_template(OWNER, Storage(), labels={})["metadata"]


def test_pods_keep_to_nodes_of_their_own_unless_they_may_share() -> None:
    apart = pod_placement(Placement(), RETAIL, selector={"app": "x"}, requests=())
    together = pod_placement(Placement.model_validate({"shareNodes": True}), RETAIL, selector={"app": "x"}, requests=())

    assert "podAntiAffinity" in apart["affinity"]
    assert "affinity" not in together


def test_a_service_is_preemptible_where_one_resource_lacks_a_guarantee() -> None:
    tenant = TenantView("retail", guaranteed=frozenset({"cpu"}))
    judged = Preemption.of(tenant, requested=["cpu", "memory"], preemptible=False)

    assert judged.labels == {"allotment.dev/preemptible": "true"}
    assert "no guarantee for memory" in judged.condition(now=NOW).message
    assert Preemption.of(RETAIL, requested=["cpu"], preemptible=False).labels == {"allotment.dev/preemptible": "false"}


def test_an_opening_is_never_without_ports() -> None:
    clients = Opening((1,), (tenant_pods("retail"),))
    policy = network_policy(OWNER, "x", selector={"a": "b"}, ingress=[clients], egress=[])

    (rule,) = policy["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 1}]
    assert policy["spec"]["egress"] == []  # names are asked for by the tenant's own policy


def test_what_keeps_pods_from_serving_is_said_with_its_cause() -> None:
    verdict = {"type": "PodScheduled", "status": "False", "reason": "BeyondGuarantee", "message": "8 cpu"}
    unplaced = {"conditions": [verdict]}
    crashing = {
        "containerStatuses": [
            {
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                "lastState": {"terminated": {"exitCode": 137}},
            }
        ]
    }
    pods = {"p-0": unplaced, "p-1": crashing}
    seen = Observed(
        children={
            ObjectRef("v1", "Pod", "n", name): {"metadata": {"name": name}, "status": status}
            for name, status in pods.items()
        }
    )

    assert pod_trouble(seen) == (
        "p-0: BeyondGuarantee: 8 cpu; p-1: CrashLoopBackOff (its last exit code was 137) back-off"
    )


@pytest.mark.parametrize(("version", "fine"), [("4.1.9", False), ("4.2.0", True), ("10.0.0", True)])
def test_versions_are_compared_by_number(version: str, fine: bool) -> None:
    if fine:
        require_version(version, (4, 2, 0))
    else:
        with pytest.raises(UnworkableError, match=r"write one from 4\.2\.0 on"):
            require_version(version, (4, 2, 0))
