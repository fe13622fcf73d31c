"""KafkaUser: a user of a KafkaCluster as a resource, with its credentials, rights and quotas.

How it thinks: a user may do nothing but what its rules of access say. Its credentials are made by the operator and live
in a Secret with the user's name. Names of fields are Strimzi's where it has one.

It must never carry a password or key itself.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from allotment_api.conditions import Conditions
from allotment_api.kafka import ClusterName
from allotment_api.model import Bool, Count, Int, Model, Rule, Unique, Weight
from allotment_api.resource import AGE, LABEL_NAME, Column, Definition, Resource, ready_column, reason_column
from allotment_api.service import Binding


class AclResource(Model):
    """What a rule of access is about."""

    type: Literal["topic", "group", "transactionalId", "cluster"]
    """Kind of thing in Kafka."""

    name: Annotated[str, Field(min_length=1, max_length=249)] | None = None
    """Its name, or the beginning of it; none for the cluster."""

    pattern_type: Literal["literal", "prefix"] = "literal"
    """literal: exactly this name, or '*' for all. prefix: every name that begins so."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.type == 'cluster') != has(self.name)",
            "topics, groups and transactional ids need a name; the cluster has none",
            lambda it: (it.type == "cluster") != (it.name is not None),
        ),
    )


class Acl(Model):
    """One rule of access: these operations on that resource are allowed, or denied."""

    type: Literal["allow", "deny"] = "allow"
    """Whether it allows or denies. A denial wins."""

    resource: AclResource
    """What it is about."""

    operations: Annotated[
        tuple[
            Literal[
                "All",
                "Read",
                "Write",
                "Create",
                "Delete",
                "Alter",
                "Describe",
                "ClusterAction",
                "AlterConfigs",
                "DescribeConfigs",
                "IdempotentWrite",
            ],
            ...,
        ],
        Field(min_length=1, max_length=11),
        Unique(),
    ]
    """Operations, by Kafka's own names."""

    host: Annotated[str, Field(min_length=1, max_length=253)] = "*"
    """Address that the client must come from; '*' for any."""


class UserAuthentication(Model):
    """How the user proves who it is."""

    type: Literal["scram-sha-512", "tls"] = "scram-sha-512"
    """scram-sha-512: a password. tls: a client certificate. Either is made by the operator and kept in a Secret with
    the name of the user."""


class UserAuthorization(Model):
    """What the user may do."""

    acls: Annotated[tuple[Acl, ...], Field(max_length=256)] = ()
    """Rules of access. Without any the user may do nothing."""


class UserQuotas(Model):
    """How much of the brokers the user may use."""

    producer_byte_rate: Annotated[Int, Field(ge=1)] | None = None
    """Bytes per second and broker that it may produce."""

    consumer_byte_rate: Annotated[Int, Field(ge=1)] | None = None
    """Bytes per second and broker that it may consume."""

    request_percentage: Annotated[Int, Field(ge=1)] | None = None
    """Percent of one thread's time that its requests may take on each broker; 200 is two threads."""

    controller_mutation_rate: Weight | None = None
    """Partitions per second that it may create, delete or add."""


class KafkaUserSpec(Model):
    """A user of a KafkaCluster in the same namespace."""

    cluster: ClusterName
    """Name of the KafkaCluster. Cannot change."""

    paused: Bool = False
    """Stops the operator from changing the user."""

    authentication: UserAuthentication = Field(default_factory=UserAuthentication)
    """How the user proves who it is."""

    authorization: UserAuthorization = Field(default_factory=UserAuthorization)
    """What the user may do."""

    quotas: UserQuotas = Field(default_factory=UserQuotas)
    """How much of the brokers the user may use; what is absent is not bounded."""


class KafkaUserStatus(Model):
    """What the operator observes."""

    observed_generation: Count | None = None
    """Generation that the operator has acted on."""

    conditions: Conditions = ()
    """Standing answers: Ready, Paused."""

    username: Annotated[str, Field(max_length=253)] | None = None
    """Name of the principal in Kafka."""

    binding: Binding | None = None
    """Secret with everything that the user needs to connect."""


class KafkaUser(Resource):
    """A user of a KafkaCluster: how it proves who it is, and what it may do."""

    definition: ClassVar[Definition] = Definition(
        kind="KafkaUser",
        plural="kafkausers",
        short_names=("ku",),
        scope="Namespaced",
        columns=(
            ready_column(),
            Column("Cluster", ".spec.cluster", "string", "KafkaCluster that the user is of."),
            Column("Authentication", ".spec.authentication.type", "string", "How the user proves who it is."),
            Column("Secret", ".status.binding.name", "string", "Secret with everything needed to connect."),
            reason_column(),
            AGE,
        ),
    )

    kind: Literal["KafkaUser"] = "KafkaUser"
    """Kind of the object: KafkaUser."""

    spec: KafkaUserSpec
    """Who the user is and what it may do."""

    status: KafkaUserStatus | None = None
    """What the operator observes."""

    rules: ClassVar[tuple[Rule, ...]] = (LABEL_NAME,)
