"""What makes pods is judged where its author reads the answer; Jobs are taught to survive evictions."""

from collections.abc import Callable
from typing import Any

import pytest

from builders.api_server import Actor
from builders.program_process import eventually
from builders.tenant_objects import cron_job, deployment, job

Member = Callable[[str, str], Actor]
Make = Callable[..., dict[str, Any]]

FOREIGN_IMAGE = {"containers": [{"name": "main", "image": "evil/app"}]}
EVERY_TAINT = {"tolerations": [{"operator": "Exists"}]}
DISRUPTIONS_IGNORED = {
    "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
}


@pytest.mark.parametrize("make", [deployment, job, cron_job])
@pytest.mark.parametrize(
    ("want", "spec"),
    [
        pytest.param("", {}, id="what the policies admit is admitted"),
        pytest.param("may not pull evil/app", FOREIGN_IMAGE, id="foreign image"),
        pytest.param("may not tolerate (every taint)", EVERY_TAINT, id="foreign toleration"),
        pytest.param("remove schedulerName, which is volcano", {"schedulerName": "volcano"}, id="foreign scheduler"),
        pytest.param("nodeName (node-1) goes around the scheduler", {"nodeName": "node-1"}, id="chosen node"),
        pytest.param("at most 3600 seconds to end", {"terminationGracePeriodSeconds": 3601}, id="endless end"),
    ],
)
def test_the_template_is_judged_like_its_pods(
    want: str, spec: dict[str, Any], make: Make, strict: str, member: Member
) -> None:
    answer = member(strict, "developer").create(make(strict, pod=spec), dry_run=True)

    assert want in answer.message
    assert answer.accepted == (not want)


@pytest.mark.parametrize(
    ("want", "change"),
    [
        pytest.param("", {"labels": {"allotment.dev/gang": "true"}}, id="a gang is a gang"),
        pytest.param(
            'the label allotment.dev/gang must be "true" or "false", not "yes"',
            {"labels": {"allotment.dev/gang": "yes"}},
            id="yes is not an answer",
        ),
        pytest.param(
            'must be a whole number of seconds, at least 1, such as "3600"; it is "1h"',
            {"template": {"annotations": {"allotment.dev/max-runtime": "1h"}}},
            id="its pods' runtime must be readable",
        ),
        pytest.param(
            "at most 3600 seconds: lower the Job's activeDeadlineSeconds, which is 7200",
            {"spec": {"activeDeadlineSeconds": 7200}},
            id="its own deadline counts too",
        ),
    ],
)
def test_claims_of_a_job(want: str, change: dict[str, Any], strict: str, member: Member) -> None:
    answer = member(strict, "ci").create(job(strict, **change), dry_run=True)

    assert want in answer.message
    assert answer.accepted == (not want)


def test_a_job_that_never_restarts_ignores_evictions(unbounded: str, member: Member) -> None:
    answer = member(unbounded, "ci").create(job(unbounded), dry_run=True)

    assert answer.body["spec"]["podFailurePolicy"] == DISRUPTIONS_IGNORED
    assert answer.body["spec"]["podReplacementPolicy"] == "Failed"
    assert answer.warnings == ()


def test_a_job_that_is_stored_keeps_both_fields(unbounded: str, member: Member) -> None:
    manifest = job(unbounded, "stored")
    ci = member(unbounded, "ci")

    created = ci.create(manifest)
    stored = ci.get(manifest).body["spec"]

    assert created.accepted, created.message
    assert (stored["podFailurePolicy"], stored["podReplacementPolicy"]) == (DISRUPTIONS_IGNORED, "Failed")


@pytest.mark.parametrize("make", [job, deployment])
def test_the_pods_of_a_workload_wait_for_our_scheduler(make: Make, unbounded: str, member: Member) -> None:
    developer = member(unbounded, "developer")
    pods = f"/api/v1/namespaces/{unbounded}/pods?labelSelector=test={make.__name__}"
    manifest = make(unbounded, f"real-{make.__name__}")
    manifest["spec"]["template"].setdefault("metadata", {}).setdefault("labels", {})["test"] = make.__name__
    assert developer.create(manifest).accepted

    found = eventually(lambda: developer.request("GET", pods).body["items"])

    assert [it["spec"]["schedulerName"] for it in found] == ["allotment"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"annotations": {"allotment.dev/ignore-disruption": "false"}}, id="opted out"),
        pytest.param({"pod": {"restartPolicy": "OnFailure"}}, id="restarting its containers"),
    ],
)
def test_other_jobs_are_left_alone_with_a_warning(change: dict[str, Any], unbounded: str, member: Member) -> None:
    answer = member(unbounded, "ci").create(job(unbounded, **change), dry_run=True)

    assert answer.accepted, answer.message
    assert "podFailurePolicy" not in answer.body["spec"]
    assert answer.body["spec"]["podReplacementPolicy"] == "TerminatingOrFailed"
    assert any("evictions count as failures of this Job" in warning for warning in answer.warnings)


def test_a_jobs_own_failure_policy_stands(unbounded: str, member: Member) -> None:
    own = {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]}

    answer = member(unbounded, "ci").create(job(unbounded, spec={"podFailurePolicy": own}), dry_run=True)

    assert answer.body["spec"]["podFailurePolicy"] == own
    assert answer.warnings == ()


def test_jobs_outside_tenants_namespaces_are_left_alone(elsewhere: str, admin: Actor) -> None:
    answer = admin.create(job(elsewhere), dry_run=True)

    assert "podFailurePolicy" not in answer.body["spec"]


def test_a_suspended_tenant_is_told_so(new_namespace: Callable[..., str], member: Member) -> None:
    namespace = new_namespace("workloads-suspended", suspended=True)

    answer = member(namespace, "developer").create(deployment(namespace), dry_run=True)

    assert answer.accepted, answer.message
    assert any(
        "the tenant retail is suspended: this is accepted, but none of its pods start" in it for it in answer.warnings
    )


def test_a_stricter_policy_does_not_hold_up_scaling(
    new_namespace: Callable[..., str], admin: Actor, member: Member
) -> None:
    namespace = new_namespace("workloads-tightened")
    manifest = deployment(namespace, pod={"containers": [{"name": "main", "image": "old/app"}]})
    developer = member(namespace, "developer")
    assert developer.create(manifest).accepted
    policy = {
        "apiVersion": "allotment.dev/v1alpha1",
        "kind": "TenantPolicy",
        "metadata": {"name": "allotment", "namespace": namespace},
    }
    assert admin.patch(policy, {"spec": {"allowedRegistries": ["registry.bank/"]}}).accepted
    other = {"spec": {"template": {"metadata": {"labels": {"version": "2"}}}}}
    # The API server learns of the policy's new parameters by a watch of its own.
    eventually(lambda: "may not pull old/app" in developer.patch(manifest, other, dry_run=True).message)

    scaled_directly = developer.patch(manifest, {"spec": {"replicas": 0}}, dry_run=True)
    scaled = developer.patch(manifest, {"spec": {"replicas": 0}}, subresource="scale", dry_run=True)

    assert scaled_directly.accepted, scaled_directly.message
    assert scaled.accepted, scaled.message
