"""What may change on a living object and what may not: real updates of real objects."""

from typing import Any

import pytest

from builders.api_objects import GONE, changed, manifest

POOLS = [
    {"name": "control", "roles": ["controller"], "firstNodeId": 0},
    {"name": "data", "roles": ["broker"], "replicas": 3, "storage": {"size": "100Gi", "storageClass": "fast"}},
]

REFUSED: dict[str, tuple[dict[str, Any], str, Any, str]] = {
    "another tenant for a namespace's policy": (
        manifest("TenantPolicy"),
        "spec.tenant",
        "other",
        "tenant cannot change",
    ),
    "a smaller disk": (
        manifest("KafkaCluster", pools=POOLS),
        "spec.pools.1.storage.size",
        "99Gi",
        "storage cannot shrink",
    ),
    "a smaller disk in other words": (
        manifest("CassandraCluster"),
        "spec.storage.size",
        "100G",
        "storage cannot shrink",
    ),
    "another storage class": (
        manifest("KafkaCluster", pools=POOLS),
        "spec.pools.1.storage.storageClass",
        "slow",
        "storageClass cannot change",
    ),
    "no storage class any more": (
        manifest("KafkaCluster", pools=POOLS),
        "spec.pools.1.storage.storageClass",
        GONE,
        "storageClass cannot change",
    ),
    "a storage class after the fact": (
        manifest("CassandraCluster"),
        "spec.storage.storageClass",
        "fast",
        "storageClass cannot change",
    ),
    "other roles of a pool": (
        manifest("KafkaCluster", pools=POOLS),
        "spec.pools.1.roles",
        ["broker", "controller"],
        "roles of a pool cannot change",
    ),
    "another id range": (
        manifest("KafkaCluster", pools=POOLS),
        "spec.pools.0.firstNodeId",
        2000,
        "firstNodeId cannot change",
    ),
    "an id range after the fact": (
        manifest("KafkaCluster", pools=POOLS),
        "spec.pools.1.firstNodeId",
        2000,
        "firstNodeId cannot change",
    ),
    "one controller less": (manifest("KafkaCluster", pools=POOLS), "spec.pools.0.replicas", 2, "must be odd"),
    "fewer brokers than copies": (
        manifest("KafkaCluster", pools=POOLS),
        "spec.pools.1.replicas",
        2,
        "lower replication.factor",
    ),
    "another cluster for a topic": (manifest("KafkaTopic"), "spec.cluster", "other", "cluster cannot change"),
    "another cluster for a user": (manifest("KafkaUser"), "spec.cluster", "other", "cluster cannot change"),
    "another name for a topic": (
        manifest("KafkaTopic", topicName="a"),
        "spec.topicName",
        "b",
        "topicName cannot change",
    ),
    "a name for a topic after the fact": (manifest("KafkaTopic"), "spec.topicName", "b", "topicName cannot change"),
    "fewer partitions": (manifest("KafkaTopic", partitions=6), "spec.partitions", 5, "partitions cannot shrink"),
    "another data centre": (manifest("CassandraCluster"), "spec.datacenterName", "dc2", "datacenterName cannot change"),
    "another name of the ring": (
        manifest("CassandraCluster", clusterName="a"),
        "spec.clusterName",
        "b",
        "clusterName cannot change",
    ),
    "a name of the ring after the fact": (
        manifest("CassandraCluster"),
        "spec.clusterName",
        "b",
        "clusterName cannot change",
    ),
    "a rack less": (
        manifest("CassandraCluster"),
        "spec.racks",
        [{"name": "r1"}, {"name": "r2"}],
        "racks cannot be removed or renamed",
    ),
    "a rack renamed": (manifest("CassandraCluster"), "spec.racks.0.name", "a", "racks cannot be removed or renamed"),
}

ACCEPTED: dict[str, tuple[dict[str, Any], str, Any]] = {
    "a larger disk": (manifest("KafkaCluster", pools=POOLS), "spec.pools.1.storage.size", "1Ti"),
    "the same disk in other words": (manifest("CassandraCluster"), "spec.storage.size", "102400Mi"),
    "more brokers": (manifest("KafkaCluster", pools=POOLS), "spec.pools.1.replicas", 5),
    "more controllers": (manifest("KafkaCluster", pools=POOLS), "spec.pools.0.replicas", 5),
    "one more pool": (
        manifest("KafkaCluster", pools=POOLS),
        "spec.pools",
        [*POOLS, {"name": "more", "roles": ["broker"], "firstNodeId": 9000}],
    ),
    "pools in another order": (manifest("KafkaCluster", pools=POOLS), "spec.pools", POOLS[::-1]),
    "another listener": (
        manifest("KafkaCluster"),
        "spec.listeners",
        [{"name": "only", "port": 9095, "authentication": {"type": "tls"}}],
    ),
    "a newer version": (manifest("KafkaCluster"), "spec.version", "4.4.0"),
    "more partitions": (manifest("KafkaTopic"), "spec.partitions", 12),
    "more copies": (manifest("KafkaTopic"), "spec.replicas", 5),
    "one more rack": (
        manifest("CassandraCluster", size=4),
        "spec.racks",
        [{"name": n} for n in ("r1", "r2", "r3", "r4")],
    ),
    "another parent": (manifest("Tenant", parent="a"), "spec.parent", "b"),
    "another weight": (manifest("Tenant"), "spec.weight", 0.25),
    "a pause": (manifest("SparkCluster"), "spec.paused", True),
    "a larger gang": (manifest("PodGroup"), "spec.minMember", 64),
}


def update(api: Any, original: dict[str, Any], path: str, value: Any) -> Any:
    name = "allotment" if original["kind"] == "TenantPolicy" else f"u-{api.namespace}"[:32]
    made = api.create(changed(original, "metadata.name", name), keep=True)
    assert made.accepted, made.message
    try:
        return api.replace(changed(made.body, path, value))
    finally:
        api.delete(made.body)


@pytest.mark.parametrize(("original", "path", "value", "wanted"), REFUSED.values(), ids=REFUSED)
def test_what_may_not_change(api: Any, original: dict[str, Any], path: str, value: Any, wanted: str) -> None:
    answer = update(api, original, path, value)

    assert answer.status == 422
    assert wanted in answer.message


@pytest.mark.parametrize(("original", "path", "value"), ACCEPTED.values(), ids=ACCEPTED)
def test_what_may_change(api: Any, original: dict[str, Any], path: str, value: Any) -> None:
    answer = update(api, original, path, value)

    assert answer.accepted, answer.message
