"""What is rendered is accepted by a real API server, in a namespace that admits restricted pods only."""

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any, Protocol

import pytest
import yaml

from allotment_api.spark import SparkApplication, SparkCluster
from allotment_operator.plans.actions import Apply, ObjectRef
from allotment_operator.plans.outcome import Observed, TenantView
from allotment_operator.services.spark.application import SparkApplicationKind
from allotment_operator.services.spark.cluster import SparkClusterKind
from allotment_operator.services.spark.master import HttpMaster

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
TENANT = TenantView("research", guaranteed=frozenset({"cpu", "memory"}))
NAMESPACE = "spark-acceptance"

pytestmark = pytest.mark.cluster


class Cluster(Protocol):
    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> Any: ...
    def apply(self, manifests: str) -> None: ...


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    cluster.apply(yaml.safe_dump(body))
    yield NAMESPACE
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def accepted(cluster: Cluster, manifests: list[Any]) -> None:
    known = [each for each in manifests if not each["apiVersion"].startswith("allotment.dev")]
    for account in (each for each in known if each["kind"] == "ServiceAccount"):
        # Pods are refused whose account does not exist, also in a dry run; its owner does not exist here.
        bare = {"name": account["metadata"]["name"], "namespace": account["metadata"]["namespace"]}
        cluster.apply(yaml.safe_dump({**account, "metadata": bare}))
    stream = "---\n".join(yaml.safe_dump(json.loads(json.dumps(each))) for each in known)
    done = cluster.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", stdin=stream, check=False
    )

    assert "Warning" not in done.stderr
    assert done.returncode == 0, done.stderr


def test_an_application_with_everything_set(cluster: Cluster, namespace: str) -> None:
    spec = {
        "type": "Scala",
        "mainClass": "org.example.Job",
        "mainApplicationFile": "local:///opt/spark/job.jar",
        "priorityClassName": "system-cluster-critical",
        "imagePullSecrets": ["registry"],
        "driver": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
        "executor": {"gpu": {"quantity": 1}, "secrets": [{"name": "s", "path": "/s"}], "nodeSelector": {"a": "b"}},
        "maxRuntimeSeconds": 60,
    }
    body = {"kind": "SparkApplication", "metadata": {"name": "all", "namespace": namespace, "uid": "7"}, "spec": spec}
    resource = SparkApplication.parse({"apiVersion": "allotment.dev/v1alpha1", **body})
    outcome = SparkApplicationKind().plan(resource, Observed(tenant=TENANT), now=NOW)
    manifests = [action.manifest for action in outcome.actions if isinstance(action, Apply)]
    configuration = next(each for each in manifests if each["kind"] == "ConfigMap")
    executor = yaml.safe_load(configuration["data"]["executor.yaml"])
    executor["metadata"] |= {"name": "executor", "namespace": namespace}
    executor["spec"]["containers"][0]["image"] = "apache/spark"  # as Spark adds it

    accepted(cluster, [*manifests, executor])


def test_a_standing_cluster(cluster: Cluster, namespace: str) -> None:
    body = {"kind": "SparkCluster", "metadata": {"name": "lab", "namespace": namespace, "uid": "7"}, "spec": {}}
    resource = SparkCluster.parse({"apiVersion": "allotment.dev/v1alpha1", **body})
    ref = ObjectRef("v1", "Secret", namespace, "lab-spark-cluster")
    secret = {"metadata": {"name": "lab-spark-cluster"}, "data": {"password": "cw=="}}
    kind = SparkClusterKind(simulated=lambda _: False, master=HttpMaster(), operator_namespace="allotment")
    outcome = kind.plan(resource, Observed(children={ref: secret}, tenant=TENANT), now=NOW)

    accepted(cluster, [action.manifest for action in outcome.actions if isinstance(action, Apply)])
