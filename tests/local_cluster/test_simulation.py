"""Simulated nodes and pods on a real control plane: they live and end as real ones do."""

import itertools
import json
from typing import Any

import pytest
import yaml

from allotment_local import nodes
from allotment_local.cluster import LocalCluster
from allotment_local.pools import PoolFile
from builders.program_process import eventually

from .conftest import POOLS

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def namespace(with_nodes: LocalCluster) -> str:
    """One for all tests of this file, with the service account without which pods are refused."""
    with_nodes.kubectl("create", "namespace", "simulation")
    with_nodes.kubectl("-n", "simulation", "wait", "--for=create", "serviceaccount/default", "--timeout=180s")
    return "simulation"


def pod_spec(**changes: Any) -> dict[str, Any]:
    """A pod on cpu-0, bound by hand: most tests need no scheduler."""
    return {"nodeName": "cpu-0", "restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}], **changes}


def job(name: str, annotations: dict[str, str], **changes: Any) -> str:
    template = {"metadata": {"annotations": annotations}, "spec": pod_spec()}
    spec = {"backoffLimit": 0, "template": template, **changes}
    return yaml.safe_dump({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec})


def pod(name: str, annotations: dict[str, str] | None = None, **changes: Any) -> str:
    metadata = {"name": name, "annotations": annotations or {}}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec(**changes)})


def create(cluster: LocalCluster, namespace: str, manifest: str) -> None:
    cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=manifest)


def wait(cluster: LocalCluster, namespace: str, what: str, until: str) -> None:
    cluster.kubectl("-n", namespace, "wait", what, f"--for={until}", "--timeout=180s")


def get(cluster: LocalCluster, namespace: str, *what: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.kubectl("-n", namespace, "get", *what, "-o", "json").stdout)
    return found


def test_nodes_are_ready_with_their_capacity(with_nodes: LocalCluster) -> None:
    items = json.loads(with_nodes.kubectl("get", "nodes", "-o", "json").stdout)["items"]

    assert sorted(item["metadata"]["name"] for item in items) == ["cpu-0", "cpu-1", "cpu-2", "gpu-0"]
    assert all(nodes.is_usable(item) for item in items)
    assert {item["metadata"]["name"]: item["status"]["allocatable"].get("nvidia.com/gpu") for item in items}[
        "gpu-0"
    ] == "4"


def test_nodes_keep_a_lease_as_kubelets_do(with_nodes: LocalCluster) -> None:
    leases = get(with_nodes, "kube-node-lease", "leases")["items"]

    assert {"cpu-0", "gpu-0"} <= {lease["metadata"]["name"] for lease in leases}


def test_kube_scheduler_binds_what_names_no_node(with_nodes: LocalCluster, namespace: str) -> None:
    wants_gpu = {"limits": {"nvidia.com/gpu": "1"}}
    spec = pod(
        "scheduled",
        nodeName=None,
        containers=[{"name": "main", "image": "none", "resources": wants_gpu}],
        tolerations=[{"key": "gpu", "operator": "Exists"}],
    )
    create(with_nodes, namespace, spec)
    wait(with_nodes, namespace, "pod/scheduled", "condition=Ready")

    assert get(with_nodes, namespace, "pod", "scheduled")["spec"]["nodeName"] == "gpu-0"


def test_a_pod_runs_at_once_and_stays(with_nodes: LocalCluster, namespace: str) -> None:
    create(with_nodes, namespace, pod("stays", initContainers=[{"name": "first", "image": "none"}]))
    wait(with_nodes, namespace, "pod/stays", "condition=Ready")

    status = get(with_nodes, namespace, "pod", "stays")["status"]
    assert status["phase"] == "Running"
    assert status["podIP"]
    assert status["hostIP"].startswith("100.")
    assert "terminated" in status["initContainerStatuses"][0]["state"]


@pytest.mark.parametrize("duration", ["1", "0.5s", "1500ms"])
def test_a_job_completes_after_its_simulated_duration(with_nodes: LocalCluster, namespace: str, duration: str) -> None:
    name = f"sleeps-{duration}"
    create(with_nodes, namespace, job(name, {"allotment.dev/simulated-duration": duration}))
    wait(with_nodes, namespace, f"job/{name}", "condition=complete")

    (ended,) = get(with_nodes, namespace, "pods", "-l", f"job-name={name}")["items"]
    state = ended["status"]["containerStatuses"][0]["state"]["terminated"]
    assert state["exitCode"] == 0
    assert state["finishedAt"] > state["startedAt"]


def test_a_job_without_a_duration_completes_by_itself(with_nodes: LocalCluster, namespace: str) -> None:
    create(with_nodes, namespace, job("quick", {}))

    wait(with_nodes, namespace, "job/quick", "condition=complete")
    assert get(with_nodes, namespace, "job", "quick")["status"]["succeeded"] == 1


def test_a_job_fails_with_its_simulated_exit_code(with_nodes: LocalCluster, namespace: str) -> None:
    create(with_nodes, namespace, job("fails", {"allotment.dev/simulated-exit-code": "7"}))
    wait(with_nodes, namespace, "job/fails", "condition=failed")

    (ended,) = get(with_nodes, namespace, "pods", "-l", "job-name=fails")["items"]
    assert ended["status"]["phase"] == "Failed"
    assert ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 7
    assert {c["type"]: c["status"] for c in ended["status"]["conditions"]}["Ready"] == "False"


def test_an_update_does_not_prolong_a_pod(with_nodes: LocalCluster, namespace: str) -> None:
    create(with_nodes, namespace, pod("labelled", {"allotment.dev/simulated-duration": "3"}))
    numbers = itertools.count()

    def ended() -> bool:
        """Updated far more often than it lasts, it would never end if that prolonged it."""
        touch = f"touched={next(numbers)}"
        with_nodes.kubectl("-n", namespace, "label", "--overwrite", "pod/labelled", touch)
        return bool(get(with_nodes, namespace, "pod", "labelled")["status"]["phase"] == "Succeeded")

    eventually(ended)


@pytest.mark.parametrize(("annotation", "value"), [("duration", "soon"), ("exit-code", "256"), ("shutdown", "-1s")])
def test_a_value_that_cannot_be_read_fails_the_pod_with_a_message(
    with_nodes: LocalCluster, namespace: str, annotation: str, value: str
) -> None:
    name = f"wrong-{annotation}"
    create(with_nodes, namespace, pod(name, {f"allotment.dev/simulated-{annotation}": value}))
    wait(with_nodes, namespace, f"pod/{name}", "jsonpath={.status.phase}=Failed")

    status = get(with_nodes, namespace, "pod", name)["status"]
    assert status["reason"] == "InvalidSimulation"
    assert "1h30m" in status["message"]


def test_a_duration_does_not_end_a_pod_that_restarts_always(with_nodes: LocalCluster, namespace: str) -> None:
    create(with_nodes, namespace, pod("ends", {"allotment.dev/simulated-duration": "1"}))
    forever = pod("forever", {"allotment.dev/simulated-duration": "1"}, restartPolicy="Always")
    create(with_nodes, namespace, forever)

    wait(with_nodes, namespace, "pod/ends", "jsonpath={.status.phase}=Succeeded")
    wait(with_nodes, namespace, "pod/forever", "condition=Ready")
    assert get(with_nodes, namespace, "pod", "forever")["status"]["phase"] == "Running"


def test_a_deleted_pod_takes_its_simulated_shutdown_but_no_longer_than_its_grace_period(
    with_nodes: LocalCluster, namespace: str
) -> None:
    create(with_nodes, namespace, pod("slow", {"allotment.dev/simulated-shutdown": "10m"}))
    wait(with_nodes, namespace, "pod/slow", "condition=Ready")

    with_nodes.kubectl("-n", namespace, "delete", "pod/slow", "--wait=false", "--grace-period=500")
    assert get(with_nodes, namespace, "pod", "slow")["status"]["phase"] == "Running"
    with_nodes.kubectl("-n", namespace, "delete", "pod/slow", "--wait=false", "--grace-period=2")
    wait(with_nodes, namespace, "pod/slow", "delete")


def test_an_evicted_pod_of_a_job_reaches_a_terminal_phase_so_that_the_job_replaces_it(
    with_nodes: LocalCluster, namespace: str
) -> None:
    long = {"allotment.dev/simulated-duration": "1h"}
    create(with_nodes, namespace, job("evicted", long, backoffLimit=3, podReplacementPolicy="Failed"))
    wait(with_nodes, namespace, "job/evicted", "jsonpath={.status.ready}=1")

    with_nodes.kubectl("-n", namespace, "delete", "pod", "-l", "job-name=evicted", "--wait=false")

    wait(with_nodes, namespace, "job/evicted", "jsonpath={.status.failed}=1")
    wait(with_nodes, namespace, "job/evicted", "jsonpath={.status.terminating}=0")


def test_applying_another_pool_file_creates_deletes_and_replaces(with_nodes: LocalCluster) -> None:
    changed = PoolFile.model_validate(
        {"pools": [{"name": "cpu", "count": 1, "cpu": 16, "memory": "64Gi", "zones": ["a", "b"]},
                   {"name": "gpu", "count": 2, "cpu": 64, "memory": "256Gi", "gpu": 8}]}
    )  # fmt: skip
    uids = {item["metadata"]["name"]: item["metadata"]["uid"] for item in get(with_nodes, "default", "nodes")["items"]}

    try:
        with_nodes.up(pools=changed)
        now = {
            item["metadata"]["name"]: item["metadata"]["uid"] for item in get(with_nodes, "default", "nodes")["items"]
        }
    finally:
        with_nodes.up(pools=POOLS)

    assert sorted(now) == ["cpu-0", "gpu-0", "gpu-1"]
    assert now["cpu-0"] == uids["cpu-0"]
    assert now["gpu-0"] != uids["gpu-0"]
