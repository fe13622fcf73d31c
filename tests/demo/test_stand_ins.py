"""What stands in for programs and disks makes exactly what the real ones would owe the API."""

from typing import Any

import yaml

from allotment_cli.demo.pod_programs import executors
from allotment_cli.demo.volumes import CLASS, PROVISIONER, volume
from allotment_simulations.jenkins_controller import StandInJenkins, StandInNode

DRIVER: dict[str, Any] = {
    "metadata": {
        "name": "backtest-driver-1",
        "namespace": "research",
        "uid": "d-1",
        "labels": {"allotment.dev/instance": "backtest"},
    }
}
TEMPLATE = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"labels": {"allotment.dev/pod-group": "backtest-spark"}},
    "spec": {
        "schedulerName": "allotment",
        "containers": [{"name": "executor", "resources": {"requests": {"x/gpu": 1}}}],
    },
}
PROPERTIES = """\
spark.executor.instances=2
spark.executor.memory=1024m
spark.executor.memoryOverhead=384m
spark.kubernetes.container.image=apache/spark:4.3.0
spark.kubernetes.executor.podNamePrefix=backtest
spark.kubernetes.executor.request.cores=3
"""


def test_a_driver_makes_the_executors_of_its_properties_from_the_template() -> None:
    made = executors(DRIVER, {"spark.properties": PROPERTIES, "executor.yaml": yaml.safe_dump(TEMPLATE)})

    assert [pod["metadata"]["name"] for pod in made] == ["backtest-exec-1", "backtest-exec-2"]
    for pod in made:
        [container] = pod["spec"]["containers"]
        assert container["resources"]["requests"] == {"x/gpu": 1, "cpu": "3", "memory": "1408Mi"}
        assert pod["metadata"]["labels"]["allotment.dev/pod-group"] == "backtest-spark"
        assert pod["metadata"]["ownerReferences"][0]["uid"] == "d-1"
        assert pod["spec"]["restartPolicy"] == "Never"


def test_a_volume_is_for_one_claim_and_its_end_is_left_to_us() -> None:
    claim = {
        "metadata": {"name": "data-0", "namespace": "payments", "uid": "c-1"},
        "spec": {"resources": {"requests": {"storage": "5Gi"}}, "accessModes": ["ReadWriteOnce"]},
    }

    made = volume(claim)

    assert made["spec"]["claimRef"]["uid"] == "c-1"
    assert made["spec"]["capacity"] == {"storage": "5Gi"}
    assert made["spec"]["storageClassName"] == CLASS
    assert made["metadata"]["annotations"] == {"pv.kubernetes.io/provisioned-by": PROVISIONER}


def test_builds_that_wait_are_called_off_and_those_that_run_end_well() -> None:
    seconds = 0.0
    jenkins = StandInJenkins(clock=lambda: seconds)
    jenkins.nodes["agent"] = StandInNode("agent", frozenset({"linux"}))
    jenkins.connect("agent", jenkins.secret("agent"))
    for _ in range(3):
        jenkins.enqueue("linux", seconds=5)
    jenkins.settle()

    assert jenkins.call_off() == 2
    seconds = 5.0
    jenkins.settle()

    assert (len(jenkins.queue()), len(jenkins.running()), len(jenkins.finished())) == (0, 0, 1)
    assert jenkins.enqueue("linux", seconds=5).id == 2
