"""A pod really runs, and kubectl reaches into it."""

import re
import select
import signal
import subprocess
import urllib.request

import pytest

from builders.real_cluster import RealCluster
from builders.real_pods import IDLE, SERVE, pod

pytestmark = pytest.mark.real_node


def test_a_restricted_pod_runs_to_its_end(real_cluster: RealCluster, namespace: str) -> None:
    real_cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    real_cluster.apply(pod(namespace, "hello", "sh", "-c", "id -u; cat /proc/1/comm", restartPolicy="Never"))

    real_cluster.wait("-n", namespace, "pod/hello", "--for=jsonpath={.status.phase}=Succeeded")

    assert real_cluster.kubectl("-n", namespace, "logs", "hello").stdout.split() == ["1000", "sh"]


def test_exec_runs_a_program_in_a_pod_with_java_and_python(real_cluster: RealCluster, namespace: str) -> None:
    real_cluster.apply(pod(namespace, "idle", *IDLE))
    real_cluster.wait("-n", namespace, "pod/idle", "--for=condition=Ready")

    versions = real_cluster.execute(namespace, "idle", "sh", "-c", "java -version 2>&1; python3 --version")

    assert re.search(r'openjdk version "17\.', versions)
    assert "Python 3.11" in versions


def test_port_forward_reaches_a_pods_port(real_cluster: RealCluster, namespace: str) -> None:
    real_cluster.apply(pod(namespace, "web", *SERVE))
    real_cluster.wait("-n", namespace, "pod/web", "--for=condition=Ready")
    command = [*real_cluster.fleet.cluster.kubectl_command(), "-n", namespace, "port-forward", "pod/web", ":8080"]

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forwarding:
        try:
            assert forwarding.stdout is not None
            assert select.select([forwarding.stdout], [], [], 240)[0], "kubectl port-forward says nothing"
            port = int(forwarding.stdout.readline().split("127.0.0.1:")[1].split()[0])
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=240) as response:
                assert response.status == 200
        finally:
            forwarding.terminate()


def test_memory_limits_are_enforced(real_cluster: RealCluster, namespace: str) -> None:
    greedy = pod(namespace, "greedy", "python3", "-c", "b'x' * (1 << 30)", restartPolicy="Never")
    greedy["spec"]["containers"][0]["resources"] = {"limits": {"memory": "64Mi"}}
    real_cluster.apply(greedy)

    real_cluster.wait("-n", namespace, "pod/greedy", "--for=jsonpath={.status.phase}=Failed")

    state = real_cluster.get("-n", namespace, "pod", "greedy")["status"]["containerStatuses"][0]["state"]
    # The runtime says OOMKilled only if it hears of the reason before it hears of the end. By whom it ended it always
    # says, and nothing but the kernel kills this program.
    assert state["terminated"]["exitCode"] == 128 + signal.SIGKILL, state


def test_pods_keep_off_simulated_nodes(real_cluster: RealCluster, namespace: str) -> None:
    nodes = {node["metadata"]["name"]: node["spec"].get("taints", []) for node in real_cluster.get("nodes")["items"]}
    simulated = {name for name, taints in nodes.items() if any(t["key"] == "allotment.dev/simulated" for t in taints)}
    assert simulated == {"simulated-0", "simulated-1"}

    real_cluster.apply(*(pod(namespace, f"pod-{number}", *IDLE) for number in range(6)))
    real_cluster.wait("-n", namespace, "pod", "--all", "--for=condition=Ready")

    used = {item["spec"]["nodeName"] for item in real_cluster.get("-n", namespace, "pods")["items"]}
    assert used <= {"real-1", "real-2", "real-3"}
