"""A Spark program on real nodes: driver and executors admitted together, a shuffle between them, and its end."""

import re

import pytest

from builders.real_cluster import RealCluster

pytestmark = [pytest.mark.real_node, pytest.mark.soak]

_NAMESPACE = "risk"
_PROGRAM = "/opt/spark/examples/src/main/python/wordcount.py"
_PATIENCE = 900
"""Seconds for a driver and two executors; on a machine with nothing else to do they take some 60."""


def test_a_word_count_runs_to_its_end_and_gives_everything_back(platform: RealCluster) -> None:
    """The program counts its own words; counting takes a shuffle, encrypted, through the tenant's policies."""
    executor = {"instances": 2, "coreRequest": "200m", "memory": "512m"}
    spec = {
        "type": "Python",
        "mainApplicationFile": f"local://{_PROGRAM}",
        "arguments": [f"file://{_PROGRAM}"],
        "driver": {"coreRequest": "200m", "memory": "600m"},
        "executor": executor,
    }
    metadata = {"name": "words", "namespace": _NAMESPACE}
    application = {"apiVersion": "allotment.dev/v1alpha1", "kind": "SparkApplication", "metadata": metadata}

    platform.apply_once_admitted({**application, "spec": spec})
    name = "sparkapplication/words"

    def state() -> str:
        status = platform.get("-n", _NAMESPACE, name).get("status", {})
        return str(status.get("applicationState", {}).get("state"))

    ended = platform.until({"COMPLETED", "FAILED"}.__contains__, state, timeout=_PATIENCE)
    log = platform.kubectl("-n", _NAMESPACE, "logs", "words-driver-1", check=False).stdout
    assert ended == "COMPLETED", log[-4000:]
    assert re.search(r"^spark: \d+$", log, re.MULTILINE), log[-4000:]
    executors = ("get", "-n", _NAMESPACE, "pods", "-l", "spark-role=executor", "-o", "name")
    platform.comes_to("", lambda: platform.kubectl(*executors).stdout, timeout=_PATIENCE)
    platform.kubectl("-n", _NAMESPACE, "delete", name, "--wait=false")
