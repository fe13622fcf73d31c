"""KafkaTopic: a topic of a KafkaCluster as a resource.

How it thinks: the resource is the truth, Kafka follows. What Kafka cannot do (rename, take partitions away) the schema
refuses, so that no resource ever waits for the impossible.

Invariant: never more copies demanded in sync than there are copies.
"""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from allotment_api.conditions import Conditions
from allotment_api.kafka import ClusterName
from allotment_api.model import Bool, Count, Int, Model, Rule
from allotment_api.resource import AGE, Column, Definition, Resource, ready_column, reason_column
from allotment_api.service import Config

TopicName = Annotated[
    str,
    Field(min_length=1, max_length=249),
    Rule(
        "self.matches('^[a-zA-Z0-9._-]+$') && !(self in ['.', '..'])",
        "must be a topic's name: letters, digits, '.', '_' and '-'",
        lambda name: re.fullmatch("[a-zA-Z0-9._-]+", name) is not None and name not in (".", ".."),
    ),
    Rule(
        "self == oldSelf",
        "topicName cannot change, for Kafka cannot rename: make a new resource, then delete this one",
    ),
]


def _in_sync_within(spec: "KafkaTopicSpec") -> bool:
    wanted = str(spec.config.get("min.insync.replicas", "0"))
    if spec.replicas is None:
        return True
    return re.fullmatch("[+-]?[0-9]+", wanted) is not None and int(wanted) <= spec.replicas


class KafkaTopicSpec(Model):
    """A topic of a KafkaCluster in the same namespace."""

    cluster: ClusterName
    """Name of the KafkaCluster. Cannot change."""

    paused: Bool = False
    """Stops the operator from changing the topic."""

    topic_name: TopicName | None = None
    """Name in Kafka; absent: metadata.name. Cannot change."""

    partitions: Annotated[
        Int,
        Field(ge=1, le=100_000),
        Rule("self >= oldSelf", "partitions cannot shrink, for Kafka cannot: keep the number or write a larger one"),
    ] = 3
    """Number of partitions. It can grow, never shrink; growing moves keys to other partitions."""

    replicas: Annotated[Int, Field(ge=1, le=16)] | None = None
    """Number of copies; absent: the cluster's replication.factor."""

    config: Config = Field(default_factory=dict)
    """Settings of the topic, by Kafka's own names, such as retention.ms."""

    deletion_policy: Literal["Delete", "Retain"] = "Delete"
    """What becomes of the topic and its data when this resource is deleted."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.topicName) == has(oldSelf.topicName)",
            "topicName cannot change, for Kafka cannot rename: make a new resource, then delete this one",
            field_path=".topicName",
        ),
        Rule(
            "!has(self.replicas) || !has(self.config) || !('min.insync.replicas' in self.config) || "
            "int(self.config['min.insync.replicas']) <= self.replicas",
            "config min.insync.replicas must be a number not above replicas, or nothing could ever be written",
            _in_sync_within,
            field_path=".config",
        ),
    )


class KafkaTopicStatus(Model):
    """What the operator observes."""

    observed_generation: Count | None = None
    """Generation that the operator has acted on."""

    conditions: Conditions = ()
    """Standing answers: Ready, Paused."""

    topic_name: Annotated[str, Field(max_length=249)] | None = None
    """Name in Kafka."""

    partitions: Count | None = None
    """Partitions that exist."""

    replicas: Count | None = None
    """Copies that exist."""


class KafkaTopic(Resource):
    """A topic of a KafkaCluster."""

    definition: ClassVar[Definition] = Definition(
        kind="KafkaTopic",
        plural="kafkatopics",
        short_names=("kt",),
        scope="Namespaced",
        columns=(
            ready_column(),
            Column("Cluster", ".spec.cluster", "string", "KafkaCluster that the topic is in."),
            Column("Partitions", ".spec.partitions", "integer", "Partitions asked for."),
            Column("Copies", ".status.replicas", "integer", "Copies that exist."),
            Column("Topic", ".status.topicName", "string", "Name in Kafka.", wide=True),
            reason_column(),
            AGE,
        ),
        longest_name=249,
    )

    kind: Literal["KafkaTopic"] = "KafkaTopic"
    """Kind of the object: KafkaTopic."""

    spec: KafkaTopicSpec
    """What the topic should be."""

    status: KafkaTopicStatus | None = None
    """What the operator observes."""
