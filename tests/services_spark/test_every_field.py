"""Every field of a Spark resource's spec is read: changing it changes what is done."""

import datetime as dt
import json
from typing import Any

import pytest

from allotment_api.conditions import condition
from allotment_api.spark import SparkApplication, SparkApplicationSpec, SparkCluster, SparkClusterSpec
from allotment_operator.plans.actions import Apply, ObjectRef
from allotment_operator.plans.outcome import NodePoolView, Observed, TenantView
from allotment_operator.services.spark.application import SparkApplicationKind
from allotment_operator.services.spark.cluster import SparkClusterKind
from allotment_operator.services.spark.master import HttpMaster
from builders.service_checks import leaf_paths

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
TENANT = TenantView(
    "research", guaranteed=frozenset({"cpu", "memory"}), pools={"fast": NodePoolView(None, ("dedicated",))}
)
READ_BY_THE_ENGINE = {"paused"}

POD: dict[str, Any] = {
    "cores": 3,
    "coreRequest": "500m",
    "coreLimit": 2,
    "memory": "7g",
    "memoryOverhead": "900m",
    "gpu.name": {"gpu": {"name": "amd.com/gpu", "quantity": 1}},
    "gpu.quantity": {"gpu": {"quantity": 2}},
    "env[].name": {"env": [{"name": "A"}]},
    "env[].value": {"env": [{"name": "A", "value": "b"}]},
    "env[].valueFrom.secretKeyRef.name": {
        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    },
    "env[].valueFrom.secretKeyRef.key": {
        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "l"}}}]
    },
    "env[].valueFrom.configMapKeyRef.name": {
        "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "k"}}}]
    },
    "env[].valueFrom.configMapKeyRef.key": {
        "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "l"}}}]
    },
    "secrets[].name": {"secrets": [{"name": "s", "path": "/s"}]},
    "secrets[].path": {"secrets": [{"name": "s", "path": "/t"}]},
    "configMaps[].name": {"configMaps": [{"name": "s", "path": "/s"}]},
    "configMaps[].path": {"configMaps": [{"name": "s", "path": "/t"}]},
    "javaOptions": "-Dx=y",
    "labels": {"labels": {"team": "x"}},
    "annotations": {"annotations": {"team": "x"}},
    "nodeSelector": {"nodeSelector": {"disk": "ssd"}},
    "tolerations[].key": {"tolerations": [{"key": "k", "operator": "Exists"}]},
    "tolerations[].operator": {"tolerations": [{"key": "k", "operator": "Equal", "value": "v"}]},
    "tolerations[].value": {"tolerations": [{"key": "k", "operator": "Equal", "value": "w"}]},
    "tolerations[].effect": {"tolerations": [{"key": "k", "operator": "Exists", "effect": "NoSchedule"}]},
    "tolerations[].tolerationSeconds": {
        "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]
    },
}


def under(name: str, field: str, value: Any) -> dict[str, Any]:
    """The change of a driver's or executor's field, as part of the spec."""
    return {name: value if isinstance(value, dict) else {field: value}}


APPLICATION: dict[str, dict[str, Any]] = {
    "image": {"image": "registry.bank/spark:1"},
    "imagePullSecrets": {"imagePullSecrets": ["pull"]},
    "imagePullPolicy": {"imagePullPolicy": "Always"},
    "priorityClassName": {"priorityClassName": "high"},
    "type": {"type": "Scala", "mainClass": "Job"},
    "sparkVersion": {"sparkVersion": "4.2.0"},
    "mainClass": {"mainClass": "org.example.Job"},
    "mainApplicationFile": {"mainApplicationFile": "local:///other.py"},
    "arguments": {"arguments": ["1"]},
    "sparkConf": {"sparkConf": {"spark.sql.shuffle.partitions": "8"}},
    "hadoopConf": {"hadoopConf": {"fs.s3a.endpoint": "x"}},
    **{f"deps.{name}": {"deps": {name: ["a"]}} for name in ("jars", "files", "pyFiles", "archives", "packages")},
    "deps.excludePackages": {"deps": {"excludePackages": ["a:b"]}},
    "deps.repositories": {"deps": {"repositories": ["https://repo.bank/maven"]}},
    **{f"driver.{field}": under("driver", field, value) for field, value in POD.items()},
    **{f"executor.{field}": under("executor", field, value) for field, value in POD.items()},
    "driver.serviceAccount": {"driver": {"serviceAccount": "mine"}},
    "executor.instances": {"executor": {"instances": 5}},
    "dynamicAllocation.enabled": {"dynamicAllocation": {"enabled": True}},
    "dynamicAllocation.initialExecutors": {"dynamicAllocation": {"enabled": True, "initialExecutors": 4}},
    "dynamicAllocation.minExecutors": {"dynamicAllocation": {"enabled": True, "minExecutors": 3}},
    "dynamicAllocation.maxExecutors": {"dynamicAllocation": {"enabled": True, "maxExecutors": 30}},
    "restartPolicy.type": {"restartPolicy": {"type": "OnFailure"}},
    "restartPolicy.onFailureRetries": {"restartPolicy": {"type": "OnFailure", "onFailureRetries": 0}},
    "restartPolicy.onFailureRetryInterval": {"restartPolicy": {"type": "OnFailure", "onFailureRetryInterval": 77}},
    "suspend": {"suspend": True},
    "preemptible": {"preemptible": False},
    "startTimeoutSeconds": {"startTimeoutSeconds": 5},
    "maxRuntimeSeconds": {"maxRuntimeSeconds": 50},
    "timeToLiveSeconds": {"timeToLiveSeconds": 5},
}
MEANS_NOTHING_ALONE: dict[str, dict[str, Any]] = {
    "type": {"mainClass": "Job"},
    "restartPolicy.onFailureRetries": {"restartPolicy": {"type": "OnFailure"}},
    "restartPolicy.onFailureRetryInterval": {"restartPolicy": {"type": "OnFailure"}},
}
"""What a field's change is compared with, where another field decides whether it is read."""
ONE_VALUE_ONLY = {"mode"}
"""Fields with a single permitted value, kept for manifests from elsewhere."""

CLUSTER: dict[str, dict[str, Any]] = {
    "image": {"image": "registry.bank/spark:1"},
    "imagePullSecrets": {"imagePullSecrets": ["pull"]},
    "priorityClassName": {"priorityClassName": "high"},
    "sparkVersion": {"sparkVersion": "4.2.0"},
    "preemptible": {"preemptible": True},
    "master.resources.requests": {"master": {"resources": {"requests": {"cpu": "3", "memory": "2Gi"}}}},
    "master.resources.limits": {"master": {"resources": {"limits": {"cpu": "3"}}}},
    "workers.replicas": {"workers": {"replicas": 7}},
    "workers.cores": {"workers": {"cores": 7}},
    "workers.memory": {"workers": {"memory": "7g"}},
    "workers.gpu.name": {"workers": {"gpu": {"name": "amd.com/gpu", "quantity": 1}}},
    "workers.gpu.quantity": {"workers": {"gpu": {"quantity": 2}}},
    **{f"workers.{field}": {"workers": value} for field, value in POD.items() if field.startswith("env")},
    "placement.nodePool": {"placement": {"nodePool": "fast"}},
    "placement.topologyKey": {"placement": {"topologyKey": "rack"}},
    "placement.shareNodes": {"placement": {"shareNodes": False}},
    "sparkConf": {"sparkConf": {"spark.worker.timeout": "9"}},
}


def test_every_field_is_known_here() -> None:
    assert set(leaf_paths(SparkApplicationSpec)) == set(APPLICATION) | READ_BY_THE_ENGINE | ONE_VALUE_ONLY
    assert set(leaf_paths(SparkClusterSpec)) == set(CLUSTER) | READ_BY_THE_ENGINE


@pytest.mark.parametrize("field", APPLICATION)
def test_every_field_of_an_application_changes_something(field: str) -> None:
    assert application(APPLICATION[field]) != application(MEANS_NOTHING_ALONE.get(field, {}))


@pytest.mark.parametrize("field", CLUSTER)
def test_every_field_of_a_cluster_changes_something(field: str) -> None:
    assert cluster(CLUSTER[field]) != cluster({})


def application(change: dict[str, Any]) -> str:
    """All that is done for an application that begins, waits for its image, fails, and has failed."""
    spec = {"type": "Python", "mainApplicationFile": "local:///job.py", **change}
    said: list[object] = []
    for status, pods in stages():
        body: dict[str, Any] = {"apiVersion": "allotment.dev/v1alpha1", "kind": "SparkApplication", "spec": spec}
        body |= {"metadata": {"name": "job", "namespace": "lab", "uid": "7"}, **({"status": status} if status else {})}
        observed = Observed(children={ObjectRef.of(pod): pod for pod in pods}, tenant=TENANT)
        outcome = SparkApplicationKind().plan(SparkApplication.parse(body), observed, now=NOW)
        said += [action.manifest if isinstance(action, Apply) else str(action) for action in outcome.actions]
        said += [dict(outcome.status), outcome.requeue_after]
    return json.dumps(said, sort_keys=True, default=str)


def stages() -> list[tuple[dict[str, Any] | None, list[dict[str, Any]]]]:
    begun = {"applicationState": {"state": "SUBMITTED"}, "executionAttempts": 1}
    placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": NOW.isoformat()}
    failed = {"applicationState": {"state": "FAILED"}, "executionAttempts": 1, "terminationTime": NOW.isoformat()}

    def driver(phase: str) -> dict[str, Any]:
        metadata = {"name": "job-driver-1", "namespace": "lab"}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "status": {"phase": phase, "conditions": [placed]},
        }

    return [
        (None, []),
        (begun, [driver("Pending")]),
        (begun, [driver("Running")]),
        (begun, [driver("Failed")]),
        (failed, [driver("Failed")]),
    ]


def cluster(change: dict[str, Any]) -> str:
    body = {"apiVersion": "allotment.dev/v1alpha1", "kind": "SparkCluster", "spec": change}
    body |= {"metadata": {"name": "lab", "namespace": "lab", "uid": "7"}}
    ref = ObjectRef("v1", "Secret", "lab", "lab-spark-cluster")
    secret = {"metadata": {"name": "lab-spark-cluster"}, "data": {"password": "cw=="}}
    kind = SparkClusterKind(simulated=lambda _: False, master=HttpMaster(), operator_namespace="allotment")
    outcome = kind.plan(SparkCluster.parse(body), Observed(children={ref: secret}, tenant=TENANT), now=NOW)
    said: list[object] = [action.manifest if isinstance(action, Apply) else str(action) for action in outcome.actions]
    same_time = condition("Same", True, "Same", now=NOW)
    said += [(each.type, each.message) for each in outcome.conditions if each != same_time]
    return json.dumps(said, sort_keys=True, default=str)
