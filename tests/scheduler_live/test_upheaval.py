"""Evictions, crashes and changes of leader on a real API server."""

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from builders.api_server import Actor
from builders.ground import ALLOTMENT, Ground
from builders.pod_history import PodHistory
from builders.program_process import SchedulerProcess, eventually, give_back_lease
from fakes.fault_proxy import FaultProxy

pytestmark = pytest.mark.cluster
PROMPT = {"minimumRuntimeSeconds": 0, "leaseSeconds": 8}
"""Settings with which a successor need not be waited for long."""


class ClusterLike(Protocol):
    """What is needed of the shared fixture `cluster`."""

    @property
    def kubeconfig(self) -> Path: ...


@pytest.fixture
def history(cluster: ClusterLike, ground: Ground) -> Iterator[PodHistory]:
    """What becomes of this test's pods, in the API server's own order."""
    found = PodHistory(cluster.kubeconfig, ground.name, rooms={}, limits=(), gang_size=0)
    found.start()
    yield found
    found.stop()


@pytest.fixture
def free_lease(admin: Actor) -> Iterator[None]:
    """Nobody has to wait for the Lease of a process that a test killed."""
    yield
    give_back_lease(admin)


@pytest.fixture
def alone(credentials: Path, tmp_path: Path, free_lease: None) -> Iterator[SchedulerProcess]:
    """A scheduler of this test's own, not started yet."""
    del free_lease
    process = SchedulerProcess(
        credentials, tmp_path / "one.log", {**PROMPT, "explainSeconds": 0.3, "quarantineSeconds": 1}, supervised=True
    )
    yield process
    if process.process is not None:
        process.signal(signal.SIGCONT)
        process.kill()


@pytest.fixture
def other(credentials: Path, tmp_path: Path, free_lease: None) -> Iterator[SchedulerProcess]:
    """A second copy, not started yet."""
    del free_lease
    process = SchedulerProcess(credentials, tmp_path / "two.log", {**PROMPT, "explainSeconds": 0.3}, supervised=True)
    yield process
    process.kill()


def replica_set(ground: Ground, name: str, *, replicas: int, cpu: str) -> dict[str, Any]:
    labels = {"app": name}
    spec = ground.pod_spec({"cpu": cpu, "memory": "64Mi"})
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def guarantee(ground: Ground, tenant: str, cpu: str) -> None:
    ground.change(f"{ALLOTMENT}/tenants/{tenant}", {"spec": {"guaranteed": {"cpu": cpu, "memory": "8Gi"}}})


def evictions(process: SchedulerProcess) -> Counter[str]:
    """Accepted evictions by rule, as the log says."""
    return Counter(line["rule"] for line in process.lines() if line["message"] == "eviction accepted")


def test_a_guarantee_is_reclaimed_from_who_borrowed_it(alone: SchedulerProcess, ground: Ground) -> None:
    alone.start()
    ground.nodes(2, cpu="4")
    pool = ground.pool()
    borrower, owner = (ground.tenant(word, nodePools=[pool]) for word in ("borrower", "owner"))
    guarantee(ground, owner, "4")
    path = f"/apis/apps/v1/namespaces/{borrower}/replicasets"
    ground.create(path, replica_set(ground, "work", replicas=8, cpu="1"), remember=False)
    eventually(lambda: len(ground.nodes_of(borrower)) == 8, because=alone.tail)
    for number in range(2):
        ground.pod(owner, f"p{number}", cpu="2")
    eventually(lambda: len(ground.nodes_of(owner)) == 2, because=alone.tail)
    eventually(lambda: len(ground.nodes_of(borrower)) == 4, because=alone.tail)
    # An answer may come after what it answers has been seen.
    eventually(lambda: evictions(alone) == {"R1": 4}, because=alone.tail)
    assert alone.stop() == 0


def test_killed_between_eviction_and_binding_the_successor_finishes(
    alone: SchedulerProcess, other: SchedulerProcess, ground: Ground
) -> None:
    alone.start()
    node = ground.node(0, cpu="4")
    tenant = ground.tenant("a")
    ground.pod_that_stops_when_told(tenant, "victim", cpu="3")
    eventually(lambda: ground.nodes_of(tenant) == {"victim": node}, because=alone.tail)
    ground.pod(tenant, "claimant", cpu="3", priorityClassName="allotment-high")
    eventually(lambda: ground.pods(tenant)["victim"]["metadata"].get("deletionTimestamp"), because=alone.tail)
    # The victim holds its room still, so the claimant cannot have been bound, which would clear the mark.
    assert ground.pods(tenant)["claimant"]["status"].get("nominatedNodeName") == node
    alone.kill()
    ground.pod(tenant, "thief", cpu="3", priorityClassName="allotment-high")
    other.start()
    eventually(lambda: ground.condition(tenant, "thief").get("message"), because=other.tail)
    ground.delete_pod(tenant, "victim")
    eventually(lambda: ground.nodes_of(tenant) == {"claimant": node}, because=other.tail)
    assert not evictions(other)


def test_killed_at_work_it_goes_on_and_binds_nothing_twice(
    alone: SchedulerProcess, other: SchedulerProcess, ground: Ground, history: PodHistory
) -> None:
    ground.nodes(5, cpu="8")
    tenant = ground.tenant("a")
    alone.start()
    for number in range(20):
        ground.pod(tenant, f"p{number}")
    eventually(lambda: history.binds, because=alone.tail)
    alone.kill()
    for number in range(20, 40):
        ground.pod(tenant, f"p{number}")
    other.start()
    eventually(lambda: history.bound(tenant) == 40, because=other.tail)
    assert not history.violations
    assert history.binds == 40


@pytest.fixture
def between(alone: SchedulerProcess, credentials: Path, tmp_path: Path) -> Iterator[FaultProxy]:
    """What `alone` sends to the API server goes through this, which counts it and does it no harm."""
    proxy = FaultProxy(credentials, seed=0)
    proxy.start()
    alone.kubeconfig = proxy.kubeconfig_for(credentials, tmp_path / "proxied.kubeconfig")
    yield proxy
    if alone.process is not None:
        alone.signal(signal.SIGCONT)
        alone.kill()
    proxy.stop()


def test_the_standby_takes_over_and_the_woken_leader_sends_nothing(
    alone: SchedulerProcess, other: SchedulerProcess, ground: Ground, between: FaultProxy
) -> None:
    ground.nodes(2, cpu="8")
    tenant = ground.tenant("a")
    alone.supervised = False  # it is to end
    alone.start()
    ground.pod(tenant, "first")
    eventually(lambda: between.requests["bind"], because=alone.tail)
    other.start(wait=False)
    eventually(lambda: other.get("/readyz") == "ok\n", because=other.tail)
    eventually(lambda: other.get("/healthz") == "ok\n", because=other.tail)
    assert eventually(other.status, because=other.tail)["leading"] is False
    alone.signal(signal.SIGSTOP)
    for number in range(8):
        ground.pod(tenant, f"p{number}")
    eventually(other.at_work, because=other.tail)
    eventually(lambda: len(ground.nodes_of(tenant)) == 9, because=other.tail)
    other.signal(signal.SIGSTOP)  # so that there is something to do for who wakes up
    for number in range(8, 12):
        ground.pod(tenant, f"p{number}")
    written = ("bind", "evict", "status")
    sent = {kind: between.requests[kind] for kind in written}
    alone.signal(signal.SIGCONT)
    assert alone.process is not None
    assert alone.process.wait(timeout=300) == 1
    assert {kind: between.requests[kind] for kind in written} == sent
    other.signal(signal.SIGCONT)
    eventually(lambda: len(ground.nodes_of(tenant)) == 13, because=other.tail)


def test_a_bad_tenant_keeps_its_last_good_version_and_says_so(alone: SchedulerProcess, ground: Ground) -> None:
    """The API server refuses most nonsense; a parent that does not exist is left to us."""
    alone.start()
    ground.nodes(1)
    orphan = ground.tenant("orphan")
    ground.pod(orphan, "before")
    eventually(lambda: set(ground.nodes_of(orphan)) == {"before"}, because=alone.tail)
    ground.change(f"{ALLOTMENT}/tenants/{orphan}", {"spec": {"parent": f"{ground.name}-nobody"}})

    def says() -> bool:
        found = ground.status("tenants", orphan).get("conditions") or []
        return any(
            each["type"] == "Scheduled" and each["status"] == "False" and "nobody" in each["message"] for each in found
        )

    eventually(says, because=alone.tail)
    fine = ground.tenant("fine")
    for tenant in (orphan, fine):
        ground.pod(tenant, "after")
    eventually(lambda: set(ground.nodes_of(fine)) == {"after"}, because=alone.tail)
    eventually(lambda: set(ground.nodes_of(orphan)) == {"before", "after"}, because=alone.tail)


def test_new_settings_are_taken_up_and_wrong_ones_refused(alone: SchedulerProcess) -> None:
    alone.start()
    good = alone.config.read_text()
    alone.configure('{"startsPerCycle": 0}')
    eventually(lambda: alone.metric("settings_good") == 0, because=alone.tail)
    alone.configure(good.replace('"quarantineSeconds": 1', '"quarantineSeconds": 2'))
    eventually(lambda: alone.metric("settings_good") == 1, because=alone.tail)
    assert any("startsPerCycle" in line["message"] for line in alone.lines())
    eventually(alone.at_work, because=alone.tail)
