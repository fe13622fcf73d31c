"""The scheduler's main job on a real API server, with the chart's rights and policies."""

from collections import Counter
from functools import partial
from typing import Any

import pytest

from builders.ground import Ground
from builders.program_process import SchedulerProcess, eventually

pytestmark = pytest.mark.cluster


def all_bound(ground: Ground, namespace: str, count: int) -> bool:
    return len(ground.nodes_of(namespace)) == count


def says(ground: Ground, namespace: str, name: str, code: str) -> dict[str, Any]:
    """The pod's condition once it gives this code."""
    condition = ground.condition(namespace, name)
    assert str(condition.get("message", "")).startswith(f"{code}:"), condition
    return condition


def job(name: str, *, pods: int, cpu: str, ground: Ground, gang: bool) -> dict[str, Any]:
    spec = {**ground.pod_spec({"cpu": cpu, "memory": "64Mi"}), "restartPolicy": "Never"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {"allotment.dev/gang": "true"} if gang else {}},
        "spec": {"parallelism": pods, "completions": pods, "template": {"spec": spec}},
    }


def test_simple_pods_are_bound_and_never_above_a_nodes_room(scheduler: SchedulerProcess, ground: Ground) -> None:
    ground.nodes(3, cpu="4")
    tenant = ground.tenant("a")
    for number in range(14):
        ground.pod(tenant, f"p{number}")
    eventually(lambda: all_bound(ground, tenant, 12), because=scheduler.tail)
    per_node = Counter(ground.nodes_of(tenant).values())
    assert sorted(per_node.values()) == [4, 4, 4]
    waiting = set(ground.pods(tenant)) - set(ground.nodes_of(tenant))
    # The only tenant, beyond its entitlement because there is no more: an autoscaler need not act for it.
    condition = eventually(lambda: says(ground, tenant, min(waiting), "BehindFairShare"), because=scheduler.tail)
    assert condition["reason"] == "BehindFairShare"
    assert condition["status"] == "False"


def test_tenants_converge_to_weighted_dominant_shares(scheduler: SchedulerProcess, ground: Ground) -> None:
    """Section 4.1 of the paper (9 CPU, 18 GB; (1, 4) and (3, 1)), and weights."""
    ground.node(0, cpu="9", memory="18Gi")
    pool = ground.pool()
    # Suspended by their parent, so that both are let go at once.
    parent = ground.tenant("both", namespace=False, suspended=True)
    one, two = (ground.tenant(word, nodePools=[pool], parent=parent) for word in ("one", "two"))
    for number in range(6):
        ground.pod(one, f"p{number}", requests={"cpu": "1", "memory": "4Gi"})
        ground.pod(two, f"p{number}", requests={"cpu": "3", "memory": "1Gi"})
    eventually(lambda: says(ground, two, "p5", "TenantSuspended"), because=scheduler.tail)
    ground.change(f"/apis/allotment.dev/v1alpha1/tenants/{parent}", {"spec": {"suspended": False}})
    eventually(lambda: len(ground.nodes_of(one)) == 3 and len(ground.nodes_of(two)) == 2, because=scheduler.tail)
    status = eventually(
        lambda: (it := ground.status("tenants", one)).get("running") == 3 and it, because=scheduler.tail
    )
    assert status["pending"] == 3
    assert status["usage"]["memory"] == "12Gi"


def test_a_gang_job_starts_whole_or_not_at_all(scheduler: SchedulerProcess, ground: Ground) -> None:
    ground.nodes(2, cpu="4")
    tenant = ground.tenant("a")
    path = f"/apis/batch/v1/namespaces/{tenant}/jobs"
    ground.pod(tenant, "in-the-way", cpu="1")
    eventually(lambda: all_bound(ground, tenant, 1), because=scheduler.tail)
    ground.create(path, job("gang", pods=4, cpu="2", ground=ground, gang=True), remember=False)
    eventually(lambda: len(ground.pods(tenant)) == 5, because=scheduler.tail)
    ground.pod(tenant, "small", cpu="1")
    eventually(lambda: all_bound(ground, tenant, 2), because=scheduler.tail)
    member = next(name for name in ground.pods(tenant) if name.startswith("gang"))
    eventually(lambda: ground.condition(tenant, member).get("message"), because=scheduler.tail)
    assert set(ground.nodes_of(tenant)) == {"in-the-way", "small"}
    for name in ("in-the-way", "small"):
        ground.delete_pod(tenant, name)
    eventually(lambda: all_bound(ground, tenant, 4), because=scheduler.tail)


def test_a_pod_group_waits_for_its_members_and_holds_room_for_expected_ones(
    scheduler: SchedulerProcess, ground: Ground
) -> None:
    ground.nodes(1, cpu="4")
    tenant = ground.tenant("a")
    group = {
        "apiVersion": "allotment.dev/v1alpha1",
        "kind": "PodGroup",
        "metadata": {"name": "app", "namespace": tenant},
        "spec": {
            "minMember": 3,
            "expected": [
                {
                    "name": "executor",
                    "count": 2,
                    "requests": {"cpu": "1", "memory": "64Mi"},
                    "nodeSelector": {"allotment.dev/ground": ground.name},
                }
            ],
        },
    }
    ground.create(f"/apis/allotment.dev/v1alpha1/namespaces/{tenant}/podgroups", group, remember=False)
    labels = {"allotment.dev/pod-group": "app"}
    ground.pod(tenant, "driver", cpu="500m", labels=labels)
    eventually(lambda: all_bound(ground, tenant, 1), because=scheduler.tail)
    ground.pod(tenant, "greedy", cpu="2")
    eventually(lambda: ground.condition(tenant, "greedy").get("message"), because=scheduler.tail)
    eventually(lambda: ground.status("podgroups", "app", tenant).get("phase") == "Reserved", because=scheduler.tail)
    for number in range(2):
        ground.pod(tenant, f"executor-{number}", labels=labels)
    eventually(lambda: set(ground.nodes_of(tenant)) == {"driver", "executor-0", "executor-1"}, because=scheduler.tail)
    eventually(lambda: ground.status("podgroups", "app", tenant).get("phase") == "Running", because=scheduler.tail)


def test_pools_taints_and_selectors_keep_pods_where_they_belong(scheduler: SchedulerProcess, ground: Ground) -> None:
    plain = ground.node(0, labels={"disk": "hdd"})
    ground.node(1, taints=[{"key": "dedicated", "value": "x", "effect": "NoSchedule"}])
    special = ground.node(2, labels={"disk": "ssd"})
    foreign = ground.pool(
        "foreign",
        selector={"matchLabels": {"disk": "ssd", "allotment.dev/ground": ground.name}},
        tenants=[f"{ground.name}-owner"],
    )
    owner, guest = ground.tenant("owner"), ground.tenant("guest")
    eventually(lambda: ground.status("nodepools", foreign).get("nodes") == 1, because=scheduler.tail)
    for tenant in (owner, guest):
        ground.pod(tenant, "fast", nodeSelector={"allotment.dev/ground": ground.name, "disk": "ssd"})
        ground.pod(tenant, "slow", nodeSelector={"allotment.dev/ground": ground.name, "disk": "hdd"})
    eventually(lambda: ground.nodes_of(owner) == {"fast": special, "slow": plain}, because=scheduler.tail)
    eventually(lambda: ground.nodes_of(guest) == {"slow": plain}, because=scheduler.tail)
    eventually(lambda: ground.condition(guest, "fast").get("reason"), because=scheduler.tail)


def test_pods_say_why_they_wait(scheduler: SchedulerProcess, ground: Ground) -> None:
    ground.nodes(1, cpu="4")
    suspended = ground.tenant("suspended", suspended=True)
    limited = ground.tenant("limited", limits={"cpu": "1"})
    unguaranteed = ground.tenant("unguaranteed")
    stranger = ground.namespace(f"{ground.name}-stranger", labels={"allotment.dev/tenant": f"{ground.name}-nobody"})
    ground.create(
        f"/apis/allotment.dev/v1alpha1/namespaces/{stranger}/tenantpolicies",
        {
            "apiVersion": "allotment.dev/v1alpha1",
            "kind": "TenantPolicy",
            "metadata": {"name": "allotment", "namespace": stranger},
            "spec": {"tenant": "nobody"},
        },
        remember=False,
    )
    ground.pod(suspended, "pod")
    ground.pod(limited, "pod", cpu="2")
    ground.pod(unguaranteed, "pod", labels={"allotment.dev/preemptible": "false"})
    ground.pod(unguaranteed, "giant", cpu="64")
    ground.pod(stranger, "pod")
    for namespace, name, code in (
        (suspended, "pod", "TenantSuspended"),
        (limited, "pod", "AboveLimit"),
        (unguaranteed, "pod", "BeyondGuarantee"),
        (unguaranteed, "giant", "NoNodeFits"),
        (stranger, "pod", "UnknownTenant"),
    ):
        condition = eventually(partial(says, ground, namespace, name, code), because=scheduler.tail)
        assert (condition["reason"] == "Unschedulable") == (code == "NoNodeFits")


def test_a_gated_pod_is_left_alone_until_its_gate_is_lifted(scheduler: SchedulerProcess, ground: Ground) -> None:
    ground.nodes(1)
    tenant = ground.tenant("a")
    ground.pod(tenant, "gated", schedulingGates=[{"name": "example.org/wait"}])
    ground.pod(tenant, "free")
    eventually(lambda: set(ground.nodes_of(tenant)) == {"free"}, because=scheduler.tail)
    assert ground.condition(tenant, "gated").get("reason") == "SchedulingGated"
    ground.change(f"/api/v1/namespaces/{tenant}/pods/gated", {"spec": {"schedulingGates": []}})
    eventually(lambda: all_bound(ground, tenant, 2), because=scheduler.tail)
