"""An ordinary Job in room that another tenant is guaranteed: it gives back within its budget, and completes later."""

from typing import Any

import pytest

from allotment_local.stages import DURATION, SHUTDOWN
from builders.ground import ALLOTMENT, Ground
from builders.program_process import SchedulerProcess, eventually

pytestmark = pytest.mark.cluster
LONG = 86_400  # seconds; nothing of this test ends by itself
GRACE = 3_600  # seconds; the most that a tenant's pod may have
PODS = 8


def job(ground: Ground) -> dict[str, Any]:
    """Eight pods of one CPU that run until they are told otherwise, and outlive their deletion until then, too."""
    spec = ground.pod_spec({"cpu": "1", "memory": "64Mi"}, restartPolicy="Never", terminationGracePeriodSeconds=GRACE)
    metadata = {"labels": {"app": "work"}, "annotations": {DURATION: f"{LONG}s", SHUTDOWN: f"{LONG}s"}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "work"},
        "spec": {"parallelism": PODS, "completions": PODS, "template": {"metadata": metadata, "spec": spec}},
    }


def budget(keep: int) -> dict[str, Any]:
    spec = {"minAvailable": keep, "selector": {"matchLabels": {"app": "work"}}}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "work"}, "spec": spec}


def evicted(ground: Ground, namespace: str) -> set[str]:
    """Pods on their way out whose condition says who sent them."""
    return {
        name
        for name, pod in ground.pods(namespace).items()
        if pod["metadata"].get("deletionTimestamp")
        for each in pod["status"].get("conditions") or ()
        if each["type"] == "DisruptionTarget" and each["status"] == "True" and each["reason"] == "EvictionByEvictionAPI"
    }


def let_go(ground: Ground, namespace: str) -> None:
    for name, pod in ground.pods(namespace).items():
        if pod["metadata"].get("deletionTimestamp"):
            ground.delete_pod(namespace, name)


def test_a_job_gives_back_what_it_borrowed_within_its_budget_and_completes_later(
    scheduler: SchedulerProcess, ground: Ground
) -> None:
    ground.nodes(2, cpu="4")
    pool = ground.pool()
    borrower, owner = (ground.tenant(word, nodePools=[pool]) for word in ("borrower", "owner"))
    ground.change(f"{ALLOTMENT}/tenants/{owner}", {"spec": {"guaranteed": {"cpu": "4", "memory": "8Gi"}}})
    ground.create(f"/apis/batch/v1/namespaces/{borrower}/jobs", job(ground), remember=False)
    eventually(lambda: len(ground.nodes_of(borrower)) == PODS, because=scheduler.tail)
    budgets = f"/apis/policy/v1/namespaces/{borrower}/poddisruptionbudgets"
    ground.create(budgets, budget(PODS - 2), remember=False)

    def allowed() -> int:
        status = ground.admin.request("GET", f"{budgets}/work").body.get("status") or {}
        return int(status.get("disruptionsAllowed", 0))

    eventually(lambda: allowed() == 2, because=scheduler.tail)
    for number in range(2):
        ground.pod(owner, f"p{number}", cpu="2")

    eventually(lambda: len(evicted(ground, borrower)) == 2, because=scheduler.tail)
    let_go(ground, borrower)
    eventually(lambda: len(ground.nodes_of(owner)) == 1, because=scheduler.tail)
    # The Job's new pods wait for room, so the budget is used up: the owner's other pod waits for it.
    eventually(lambda: allowed() == 0 and not evicted(ground, borrower), because=scheduler.tail)
    (waiting,) = set(ground.pods(owner)) - set(ground.nodes_of(owner))
    said = eventually(lambda: ground.condition(owner, waiting).get("message"), because=scheduler.tail)
    assert len(ground.nodes_of(borrower)) == PODS - 2, said

    ground.admin.request("DELETE", f"{budgets}/work")
    eventually(lambda: len(evicted(ground, borrower)) == 2, because=scheduler.tail)
    let_go(ground, borrower)
    eventually(lambda: len(ground.nodes_of(owner)) == 2, because=scheduler.tail)
    assert len(ground.nodes_of(borrower)) == PODS // 2

    for name in ground.nodes_of(owner):
        ground.delete_pod(owner, name)
    eventually(lambda: len(ground.nodes_of(borrower)) == PODS, because=scheduler.tail)
    for name in ground.nodes_of(borrower):
        path = f"/api/v1/namespaces/{borrower}/pods/{name}"
        ground.change(path, {"metadata": {"annotations": {DURATION: "0s"}}})
    path = f"/apis/batch/v1/namespaces/{borrower}/jobs/work"

    def completed() -> bool:
        status = ground.admin.request("GET", path).body.get("status") or {}
        met = {each["type"] for each in status.get("conditions") or () if each["status"] == "True"}
        return status.get("succeeded") == PODS and "Complete" in met

    eventually(completed, because=scheduler.tail)
