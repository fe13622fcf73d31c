"""What people get wrong, and what the API server answers: one line each, on the real server."""

from typing import Any

import pytest

from allotment_api.errors import InvalidManifestError
from allotment_api.registry import parse
from builders.api_objects import GONE, changed, manifest

LISTENER = {"name": "extra", "port": 9092, "authentication": {"type": "tls"}}
POOL = {"name": "more", "roles": ["broker"]}
ACL = {"resource": {"type": "topic", "name": "t"}, "operations": ["Read"]}
EXPECTED = {"name": "executor", "count": 1}
QUANTITY = "must be a quantity of 0 or more"

BAD: dict[str, tuple[str, str, Any, str]] = {
    # kind, path, value, part of the server's message
    "a GPU without its domain": ("Tenant", "spec.limits", {"gpu": 1}, "such as nvidia.com/gpu"),
    "a misspelt resource": ("Tenant", "spec.guaranteed", {"mem": "1Gi"}, "unknown resource: write cpu, memory"),
    "gigabytes in words": ("Tenant", "spec.limits", {"memory": "1GB"}, "Gi or G where you mean GB"),
    "a space in a quantity": ("Tenant", "spec.limits", {"memory": "4 Gi"}, "no space"),
    "a negative quantity": ("Tenant", "spec.guaranteed", {"cpu": "-1"}, QUANTITY),
    "a negative whole quantity": ("Tenant", "spec.guaranteed", {"cpu": -1}, QUANTITY),
    "an unquoted fraction as quantity": ("Tenant", "spec.limits", {"cpu": 0.5}, "must be of type integer"),
    "a boolean as quantity": ("Tenant", "spec.limits", {"cpu": True}, "must be of type integer"),
    "a quantity beyond all counting": ("Tenant", "spec.limits", {"memory": "9Ei"}, QUANTITY),
    "a sign for a quantity": ("Tenant", "spec.limits", {"memory": "+"}, QUANTITY),
    "a negative weight": ("Tenant", "spec.weight", -0.5, "should be greater than or equal to 0"),
    "an absurd weight": ("Tenant", "spec.weight", 1e9, "should be less than or equal to 1e+06"),
    "a word for a weight": ("Tenant", "spec.weight", "heavy", "must be of type number"),
    "a tenant above itself": ("Tenant", "spec.parent", "x", "a tenant cannot be its own parent"),
    "a parent in capitals": ("Tenant", "spec.parent", "Retail", "must be a DNS label"),
    "a dotted tenant": ("Tenant", "metadata.name", "a.b", "write it without dots"),
    "a tenant with a long name": ("Tenant", "metadata.name", "x" * 64, "may not be more than 63"),
    "a guarantee above the limit": (
        "Tenant",
        "spec",
        {"guaranteed": {"cpu": "1500m"}, "limits": {"cpu": 1}},
        "guaranteed must not exceed limits: raise the limit",
    ),
    "a guarantee above the limit of a pool": (
        "Tenant",
        "spec.pools",
        {"a100": {"guaranteed": {"nvidia.com/gpu": 5}, "limits": {"nvidia.com/gpu": "4"}}},
        "guaranteed must not exceed limits: raise the limit",
    ),
    "a pool in capitals": ("Tenant", "spec.pools", {"A100": {}}, "the keys of pools must be names of node pools"),
    "the default namespace": ("Tenant", "spec.namespaces", ["default"], "belong to the cluster: name another one"),
    "a namespace of Kubernetes": ("Tenant", "spec.namespaces", ["kube-node-lease"], "belong to the cluster"),
    "a namespace twice": ("Tenant", "spec.namespaces", ["a", "a"], "Duplicate value"),
    "too many namespaces": ("Tenant", "spec.namespaces", [f"n{i}" for i in range(65)], "must have at most 64 items"),
    "an unknown role": ("Tenant", "spec.members", [{"name": "x", "role": "admin"}], 'supported values: "owner"'),
    "a member without a role": ("Tenant", "spec.members", [{"name": "x"}], "role: Required value"),
    "a service account without namespace": (
        "Tenant",
        "spec.members",
        [{"kind": "ServiceAccount", "name": "x", "role": "ci"}],
        "a ServiceAccount needs its namespace",
    ),
    "a group in a namespace": (
        "Tenant",
        "spec.members",
        [{"name": "x", "role": "ci", "namespace": "a"}],
        "users and groups must have none",
    ),
    "an unknown kind of service": ("Tenant", "spec.services", [{"kind": "Kafka"}], 'supported values: "KafkaCluster"'),
    "a kind of service twice": (
        "Tenant",
        "spec.services",
        [{"kind": "KafkaCluster"}, {"kind": "KafkaCluster", "count": 2}],
        "Duplicate value",
    ),
    "a negative count of services": (
        "Tenant",
        "spec.services",
        [{"kind": "KafkaCluster", "count": -1}],
        "should be greater than or equal to 0",
    ),
    "a default runtime above the maximum": (
        "Tenant",
        "spec.policy",
        {"defaultRuntimeSeconds": 20, "maxRuntimeSeconds": 10},
        "lower the default or raise the maximum",
    ),
    "a duration of nothing": ("Tenant", "spec.policy.maxRuntimeSeconds", 0, "should be greater than or equal to 1"),
    "a duration in words": ("Tenant", "spec.policy.maxRuntimeSeconds", "1h", "must be of type integer"),
    "a system priority": (
        "Tenant",
        "spec.policy.maxPriority",
        2_000_000_000,
        "should be less than or equal to 1000000000",
    ),
    "a host for a network": ("Tenant", "spec.policy.network.egress", ["10.0.0.1"], "must be a network such as"),
    "an image prefix with a space": ("Tenant", "spec.policy.allowedRegistries", ["a b"], "without spaces"),
    "an unknown deletion policy": ("Tenant", "spec.deletionPolicy", "Force", 'supported values: "Block", "Cascade"'),
    "a field that is none": ("Tenant", "spec.quota", {}, 'unknown field "spec.quota"'),
    "a misspelt field": ("Tenant", "spec.suspend", True, 'unknown field "spec.suspend"'),
    "no at all for a boolean": ("Tenant", "spec.suspended", "no", "must be of type boolean"),
    "a pool without a selector": ("NodePool", "spec", {}, "spec.selector is required"),
    "the default pool with a selector": ("NodePool", "metadata.name", "default", "so remove its selector"),
    "an empty selector": ("NodePool", "spec.selector", {}, "an empty selector would take every node"),
    "In without values": (
        "NodePool",
        "spec.selector",
        {"matchExpressions": [{"key": "a", "operator": "In"}]},
        "In and NotIn need values",
    ),
    "Exists with values": (
        "NodePool",
        "spec.selector",
        {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]},
        "Exists and DoesNotExist must have none",
    ),
    "an unknown placement": ("NodePool", "spec.placement", "Binpack", 'supported values: "Pack", "Spread"'),
    "a negative cost": ("NodePool", "spec.cost", {"cpu": -1}, "should be greater than or equal to 0"),
    "a cost of a misspelt resource": ("NodePool", "spec.cost", {"gpu": 1}, "unknown resource in cost"),
    "a taint without effect": ("NodePool", "spec.taints", [{"key": "a"}], "effect: Required value"),
    "a taint twice": (
        "NodePool",
        "spec.taints",
        [{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule", "value": "b"}],
        "Duplicate value",
    ),
    "a taint key with a space": ("NodePool", "spec.taints", [{"key": "a b", "effect": "NoSchedule"}], "a label key"),
    "a policy under another name": (
        "TenantPolicy",
        "metadata.name",
        "mine",
        "read only the TenantPolicy named allotment",
    ),
    "a policy of nobody": ("TenantPolicy", "spec.tenant", GONE, "tenant: Required value"),
    "a policy with a default above its maximum": (
        "TenantPolicy",
        "spec",
        {"tenant": "t", "defaultRuntimeSeconds": 2, "maxRuntimeSeconds": 1},
        "lower the default or raise the maximum",
    ),
    "a gang of none": ("PodGroup", "spec.minMember", 0, "should be greater than or equal to 1"),
    "a gang of half a pod": ("PodGroup", "spec.minMember", 1.5, "must be of type integer"),
    "more expected than members": (
        "PodGroup",
        "spec.expected",
        [{**EXPECTED, "count": 2}],
        "raise minMember to count them",
    ),
    "none expected": ("PodGroup", "spec.expected", [{**EXPECTED, "count": 0}], "should be greater than or equal to 1"),
    "expected under one name twice": (
        "PodGroup",
        "spec",
        {"minMember": 2, "expected": [EXPECTED, EXPECTED]},
        "Duplicate value",
    ),
    "a toleration of nothing": (
        "PodGroup",
        "spec.expected",
        [{**EXPECTED, "tolerations": [{"effect": "NoSchedule"}]}],
        "a toleration without a key needs operator: Exists",
    ),
    "a toleration of any value and of one": (
        "PodGroup",
        "spec.expected",
        [{**EXPECTED, "tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}],
        "operator Exists takes no value",
    ),
    "a toleration for a while of what never evicts": (
        "PodGroup",
        "spec.expected",
        [{**EXPECTED, "tolerations": [{"key": "a", "tolerationSeconds": 5, "effect": "NoSchedule"}]}],
        "tolerationSeconds needs effect: NoExecute",
    ),
    "an unknown topology mode": (
        "PodGroup",
        "spec.topology",
        {"key": "zone", "mode": "Strict"},
        'supported values: "Required"',
    ),
    "an even number of controllers": ("KafkaCluster", "spec.pools", [{"name": "a", "replicas": 4}], "must be odd"),
    "no controller": ("KafkaCluster", "spec.pools", [{"name": "a", "roles": ["broker"]}], "write 1, 3 or 5"),
    "a crowd of controllers": (
        "KafkaCluster",
        "spec.pools",
        [{"name": "a", "replicas": 11}],
        "make further pools brokers only",
    ),
    "more copies than brokers": (
        "KafkaCluster",
        "spec.pools",
        [{"name": "a", "replicas": 1}],
        "lower replication.factor",
    ),
    "more copies than two brokers": (
        "KafkaCluster",
        "spec.pools",
        [{"name": "a", "roles": ["controller"]}, {"name": "b", "roles": ["broker"], "replicas": 2}],
        "replication.factor exceeds the number of brokers",
    ),
    "more in sync than copies": ("KafkaCluster", "spec.replication", {"factor": 1}, "lower minInSync or raise factor"),
    "no pool": ("KafkaCluster", "spec.pools", [], "should have at least 1 items"),
    "two pools of one name": (
        "KafkaCluster",
        "spec.pools",
        [{"name": "a"}, {"name": "a", "replicas": 2}],
        "Duplicate value",
    ),
    "a pool with an upper-case name": ("KafkaCluster", "spec.pools", [{"name": "Main"}], "must be a DNS label"),
    "a pool with a long name": ("KafkaCluster", "spec.pools", [{"name": "a" * 17}], "may not be more than 16"),
    "a role twice": ("KafkaCluster", "spec.pools", [{"name": "a", "roles": ["broker", "broker"]}], "Duplicate value"),
    "an unknown role of a node": (
        "KafkaCluster",
        "spec.pools",
        [{"name": "a", "roles": ["zookeeper"]}],
        'supported values: "controller"',
    ),
    "an id range that is none": (
        "KafkaCluster",
        "spec.pools",
        [{"name": "a", "firstNodeId": 5}],
        "must be a multiple of 1000",
    ),
    "one id range for two pools": (
        "KafkaCluster",
        "spec.pools",
        [{"name": "a", "firstNodeId": 0}, {**POOL, "firstNodeId": 0}],
        "give each a range of its own",
    ),
    "a plain listener": (
        "KafkaCluster",
        "spec.listeners",
        [{"name": "plain", "port": 9092}],
        "authentication: Required value",
    ),
    "two listeners on a port": (
        "KafkaCluster",
        "spec.listeners",
        [{**LISTENER, "name": "a"}, LISTENER],
        "the same port",
    ),
    "a listener on the nodes' own port": (
        "KafkaCluster",
        "spec.listeners",
        [{**LISTENER, "port": 9091}],
        "greater than or equal to 9092",
    ),
    "a listener on the metrics port": (
        "KafkaCluster",
        "spec.listeners",
        [{**LISTENER, "port": 9404}],
        "are for metrics",
    ),
    "a listener with a dash": (
        "KafkaCluster",
        "spec.listeners",
        [{**LISTENER, "name": "a-b"}],
        "lower-case letters and digits",
    ),
    "an unknown way to authenticate": (
        "KafkaCluster",
        "spec.listeners",
        [{**LISTENER, "authentication": {"type": "plain"}}],
        'supported values: "scram-sha-512", "tls"',
    ),
    "listeners in config": (
        "KafkaCluster",
        "spec.config",
        {"advertised.listeners": "PLAINTEXT://:1"},
        "use spec.listeners",
    ),
    "node ids in config": ("KafkaCluster", "spec.config", {"node.id": 1}, "use spec.pools"),
    "disks in config": ("KafkaCluster", "spec.config", {"log.dirs": "/data"}, "use spec.pools"),
    "TLS in config": (
        "KafkaCluster",
        "spec.config",
        {"ssl.keystore.location": "/x"},
        "use spec.listeners and spec.authorization",
    ),
    "the authorizer in config": ("KafkaCluster", "spec.config", {"authorizer.class.name": "x"}, "spec.authorization"),
    "replication in config": ("KafkaCluster", "spec.config", {"min.insync.replicas": 1}, "use spec.replication"),
    "an unquoted false in config": (
        "KafkaCluster",
        "spec.config",
        {"auto.create.topics.enable": False},
        "must be of type integer",
    ),
    "requests without memory": (
        "KafkaCluster",
        "spec.pools",
        [{"name": "a", "resources": {"requests": {"cpu": 1}}}],
        "requests must name cpu and memory",
    ),
    "requests above limits": (
        "KafkaCluster",
        "spec.pools",
        [{"name": "a", "resources": {"limits": {"memory": "1Gi"}}}],
        "requests must not exceed limits",
    ),
    "a tiny disk": ("KafkaCluster", "spec.pools", [{"name": "a", "storage": {"size": "100Mi"}}], "must be 1Gi or more"),
    "a version that is none": ("KafkaCluster", "spec.version", "latest", "must be a full version such as 4.3.1"),
    "a cluster named by a digit": ("KafkaCluster", "metadata.name", "1st", "begin it with a letter"),
    "a cluster with a long name": ("KafkaCluster", "metadata.name", "k" * 33, "may not be more than 32"),
    "a topic of no cluster": ("KafkaTopic", "spec.cluster", GONE, "cluster: Required value"),
    "a topic without partitions": ("KafkaTopic", "spec.partitions", 0, "should be greater than or equal to 1"),
    "a topic with a slash": ("KafkaTopic", "spec.topicName", "a/b", "must be a topic's name"),
    "a topic named dot": ("KafkaTopic", "spec.topicName", ".", "must be a topic's name"),
    "a topic that could never be written": (
        "KafkaTopic",
        "spec",
        {"cluster": "k", "replicas": 1, "config": {"min.insync.replicas": 2}},
        "or nothing could ever be written",
    ),
    "words for a number of copies": (
        "KafkaTopic",
        "spec",
        {"cluster": "k", "replicas": 3, "config": {"min.insync.replicas": "two"}},
        "min.insync.replicas must be a number",
    ),
    "a user without a mechanism": (
        "KafkaUser",
        "spec.authentication",
        {"type": "plain"},
        'supported values: "scram-sha-512"',
    ),
    "a right to a nameless topic": (
        "KafkaUser",
        "spec.authorization.acls",
        [{**ACL, "resource": {"type": "topic"}}],
        "need a name",
    ),
    "a right to a named cluster": (
        "KafkaUser",
        "spec.authorization.acls",
        [{**ACL, "resource": {"type": "cluster", "name": "k"}}],
        "the cluster has none",
    ),
    "a right to do nothing": (
        "KafkaUser",
        "spec.authorization.acls",
        [{**ACL, "operations": []}],
        "should have at least 1 items",
    ),
    "an operation in lower case": (
        "KafkaUser",
        "spec.authorization.acls",
        [{**ACL, "operations": ["read"]}],
        'supported values: "All"',
    ),
    "a quota of nothing": ("KafkaUser", "spec.quotas.producerByteRate", 0, "should be greater than or equal to 1"),
    "fewer nodes than racks": ("CassandraCluster", "spec.size", 2, "raise size, or list fewer racks"),
    "no node": ("CassandraCluster", "spec.size", 0, "should be greater than or equal to 1"),
    "two racks of one name": ("CassandraCluster", "spec.racks", [{"name": "a"}, {"name": "a"}], "Duplicate value"),
    "authentication in cassandra.yaml": (
        "CassandraCluster",
        "spec.config",
        {"authenticator": "AllowAll"},
        "they are always on",
    ),
    "TLS in cassandra.yaml": (
        "CassandraCluster",
        "spec.config",
        {"client_encryption_options": "none"},
        "they are always on",
    ),
    "addresses in cassandra.yaml": ("CassandraCluster", "spec.config", {"listen_address": "0.0.0.0"}, "remove the key"),
    "folders in cassandra.yaml": ("CassandraCluster", "spec.config", {"commitlog_directory": "/x"}, "spec.storage"),
    "the cluster's name in cassandra.yaml": (
        "CassandraCluster",
        "spec.config",
        {"cluster_name": "x"},
        "use spec.clusterName",
    ),
    "a data centre with a space": ("CassandraCluster", "spec.datacenterName", "dc 1", "must be a DNS label"),
    "a heap in Java's notation": ("CassandraCluster", "spec.jvm.heapSize", "8g", QUANTITY),
    "a program without a file": (
        "SparkApplication",
        "spec.mainApplicationFile",
        GONE,
        "mainApplicationFile: Required value",
    ),
    "a Scala program without a class": ("SparkApplication", "spec.type", "Scala", "need mainClass"),
    "client mode": ("SparkApplication", "spec.mode", "client", 'supported values: "cluster"'),
    "Spark memory in Kubernetes' notation": (
        "SparkApplication",
        "spec.executor.memory",
        "4Gi",
        "such as 512m or 4g (not 4Gi)",
    ),
    "a request for more cores than the limit": (
        "SparkApplication",
        "spec.driver",
        {"coreRequest": 2, "coreLimit": "1500m"},
        "coreRequest must not exceed coreLimit",
    ),
    "no Spark memory": ("SparkApplication", "spec.driver.memory", "0g", "in Spark's notation"),
    "no executor": ("SparkApplication", "spec.executor.instances", 0, "should be greater than or equal to 1"),
    "fewer executors at most than at least": (
        "SparkApplication",
        "spec.dynamicAllocation",
        {"enabled": True, "minExecutors": 20},
        "minExecutors must not exceed maxExecutors",
    ),
    "executors at the start beyond the range": (
        "SparkApplication",
        "spec.dynamicAllocation",
        {"enabled": True, "initialExecutors": 11},
        "must lie between minExecutors and maxExecutors",
    ),
    "the master in sparkConf": (
        "SparkApplication",
        "spec.sparkConf",
        {"spark.master": "local"},
        "the operator derives it",
    ),
    "executors in sparkConf": (
        "SparkApplication",
        "spec.sparkConf",
        {"spark.executor.instances": "9"},
        "use the fields of driver",
    ),
    **{
        f"{key} in sparkConf": ("SparkApplication", "spec.sparkConf", {key: "1g"}, "larger than the room")
        for key in (
            "spark.memory.offHeap.enabled",
            "spark.memory.offHeap.size",
            "spark.executor.pyspark.memory",
            "spark.executor.resource.gpu.amount",
            "spark.executor.resource.gpu.vendor",
        )
    },
    "a GPU by its short name": (
        "SparkApplication",
        "spec.executor.gpu",
        {"name": "gpu", "quantity": 1},
        "such as nvidia.com/gpu",
    ),
    "no GPU": ("SparkApplication", "spec.executor.gpu", {"quantity": 0}, "should be greater than or equal to 1"),
    "a variable with a value from two places": (
        "SparkApplication",
        "spec.driver.env",
        [{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        "give value or valueFrom, not both",
    ),
    "a variable from nowhere": (
        "SparkApplication",
        "spec.driver.env",
        [{"name": "A", "valueFrom": {}}],
        "give exactly one of",
    ),
    "a variable with a digit first": (
        "SparkApplication",
        "spec.driver.env",
        [{"name": "1A"}],
        "not beginning with a digit",
    ),
    "a relative mount": (
        "SparkApplication",
        "spec.driver.secrets",
        [{"name": "s", "path": "tls"}],
        "must be an absolute path",
    ),
    "a lifetime of nothing": ("SparkApplication", "spec.timeToLiveSeconds", 0, "should be greater than or equal to 1"),
    "a negative number of workers": (
        "SparkCluster",
        "spec.workers.replicas",
        -1,
        "should be greater than or equal to 0",
    ),
    "an agent pool without a controller": ("JenkinsAgentPool", "spec.jenkins", GONE, "jenkins: Required value"),
    "a controller without a scheme": (
        "JenkinsAgentPool",
        "spec.jenkins.url",
        "jenkins.example.com",
        "controller's address",
    ),
    "a controller by ssh": ("JenkinsAgentPool", "spec.jenkins.url", "ssh://jenkins/", "controller's address"),
    "more spare agents than agents": ("JenkinsAgentPool", "spec.minIdle", 11, "minIdle must not exceed maxAgents"),
    "no agents at all": ("JenkinsAgentPool", "spec.maxAgents", 0, "should be greater than or equal to 1"),
    "a label of two words": ("JenkinsAgentPool", "spec.labels", ["linux x86"], "must be letters, digits"),
    "an unknown mode": ("JenkinsAgentPool", "spec.mode", "Once", 'supported values: "OneShot", "Reusable"'),
}


def test_the_table_is_long_enough_to_mean_something() -> None:
    assert len(BAD) >= 90


@pytest.mark.parametrize(("kind", "path", "value", "wanted"), BAD.values(), ids=BAD)
def test_is_refused_with_a_message_that_helps(api: Any, kind: str, path: str, value: Any, wanted: str) -> None:
    bad = changed(manifest(kind), path, value)

    answer = api.create(bad)

    assert answer.status in (400, 422), "the API server accepted it"
    assert wanted in answer.message
    with pytest.raises(InvalidManifestError):
        parse(bad)
