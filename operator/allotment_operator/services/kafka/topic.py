"""KafkaTopic: a topic as its resource says, in a KafkaCluster of the same namespace.

How it thinks: the probe reads the topic as it is, the plan compares, and a difference becomes one call to the brokers.
What Kafka cannot do (fewer partitions) or what this version does not (other numbers of copies) is said, not tried.

Invariants: a topic belongs to the oldest resource that names it; a younger one changes nothing, and deletes nothing.
Whichever of them is deleted, the topic stays as long as another one names it, and is then that one's.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any, Final

from allotment_api.conditions import Condition, ConditionType, Reason, condition, find
from allotment_api.kafka_topic import KafkaTopic, KafkaTopicSpec
from allotment_operator.kind import Scope, ServiceRefusedError, ServiceUnavailableError
from allotment_operator.plans.actions import Invoke
from allotment_operator.plans.outcome import Health, Observed, Outcome
from allotment_operator.services.kafka.admin import KafkaAdmin, TopicState
from allotment_operator.services.kafka.clusters import Cluster, Clusters

MAKE: Final = "make-topic"
GROW: Final = "grow-topic"
CONFIGURE: Final = "configure-topic"
DROP: Final = "drop-topic"
DELETED: Final = "Deleted"
WAITING_SECONDS: Final = 10.0
SOON: Final = 1.0

_OWN_PREFIX: Final = "__"


class KafkaTopicKind:
    """Looks after every KafkaTopic.

    Args:
        admin: the port to brokers.
        clusters: finds the cluster of a topic.
    """

    model = KafkaTopic
    scope = Scope()
    status_fields = frozenset({"topicName", "partitions", "replicas"})

    def __init__(self, *, admin: KafkaAdmin, clusters: Clusters) -> None:
        self._admin = admin
        self._clusters = clusters

    def plan(self, resource: KafkaTopic, observed: Observed, *, now: dt.datetime) -> Outcome:
        """Say what makes the topic what its resource says."""
        name = topic_name(resource)
        health = observed.health
        if name.startswith(_OWN_PREFIX):
            text = f"{name} is one of Kafka's own topics: give this one a name that does not begin with {_OWN_PREFIX}"
            return _says(False, Reason.INVALID_SPEC, text, now=now)
        if health is None or not isinstance(health.details.get("cluster"), Cluster):
            return _says(False, Reason.WAITING_FOR_CLUSTER, "The cluster has not been asked yet.", now=now)
        if not health.ready:
            return _says(False, health.reason, health.message, now=now)
        status: dict[str, Any] = {"topicName": name}
        if health.simulated:
            return _says(True, health.reason, health.message, now=now, status=status)
        state: TopicState | None = health.details.get("topic")
        found: Cluster = health.details["cluster"]
        if state is not None:
            status |= {"partitions": state.partitions, "replicas": state.replicas}
        return _compare(resource.spec, name, replicas(resource.spec, found), state, status, now=now)

    def release(self, resource: KafkaTopic, observed: Observed, *, now: dt.datetime) -> Outcome | None:  # noqa: ARG002 - as every kind
        """Delete the topic, unless it is to be retained."""
        conditions = resource.status.conditions if resource.status else ()
        ready = find(conditions, ConditionType.READY)
        if resource.spec.deletion_policy == "Retain" or (ready is not None and ready.reason == DELETED):
            return None
        name = topic_name(resource)
        text = f"Topic {name} has been deleted, or left to another KafkaTopic that names it."
        says = condition(ConditionType.READY, False, DELETED, text, now=now)
        return Outcome((Invoke(DROP, name),), (says,), requeue_after=SOON)

    async def perform(self, resource: KafkaTopic, observed: Observed, action: Invoke) -> None:  # noqa: ARG002 - as every kind
        """Carry out one call to the brokers."""
        found = await self._clusters.find(resource.metadata.namespace or "", resource.spec.cluster)
        name, arguments = action.subject, action.arguments
        if action.operation == DROP:
            await self._drop(resource, found, name)
            return
        if found.login is None:
            raise ServiceUnavailableError(found.waiting or f"KafkaCluster {resource.spec.cluster} has gone")
        if action.operation == MAKE:
            await self._admin.make_topic(found.login, name, **arguments)
        elif action.operation == GROW:
            await self._admin.grow_topic(found.login, name, partitions=arguments["partitions"])
        elif action.operation == CONFIGURE:
            await self._admin.configure_topic(found.login, name, config=arguments["config"])

    async def probe(self, resource: KafkaTopic, observed: Observed) -> Health | None:  # noqa: ARG002 - as every kind
        """Read the topic as it is."""
        namespace, name = resource.metadata.namespace or "", topic_name(resource)
        found = await self._clusters.find(namespace, resource.spec.cluster)
        details: dict[str, Any] = {"cluster": found}
        if found.waiting or found.login is None:
            return Health(ready=False, reason=Reason.WAITING_FOR_CLUSTER, message=f"{found.waiting}.", details=details)
        mine = _age(resource.metadata.model_dump(by_alias=True))
        # All topics ask this in every round, and a list for each would grow as their square.
        seen = self._clusters.seen(namespace, "KafkaTopic")
        older = [each for each in _others(resource, seen) if _age(each) < mine]
        if older:
            holder = min(older, key=_age)["name"]
            text = (
                f"Topic {name} belongs to KafkaTopic {holder}, which is older: delete {holder}, and this one takes the "
                "topic over with its data, or delete this one."
            )
            return Health(ready=False, reason="TopicTaken", message=text, details=details)
        if found.simulated:
            text = "The cluster is simulated: there is no broker to make the topic in (simulated)."
            reason = Reason.PODS_READY_SIMULATED
            return Health(ready=True, reason=reason, message=text, simulated=True, details=details)
        try:
            details["topic"] = await self._admin.topic(found.login, name)
        except (ServiceUnavailableError, ServiceRefusedError) as error:
            silent = isinstance(error, ServiceUnavailableError)
            return Health(ready=False, reason="BrokersUnreachable", message=str(error), silent=silent, details=details)
        return Health(ready=True, reason=Reason.AS_EXPECTED, message="", details=details)

    async def _drop(self, resource: KafkaTopic, found: Cluster, name: str) -> None:
        """Delete the topic, where there are brokers that hold it and it is this resource's."""
        if found.gone or found.simulated:
            return
        if name.startswith(_OWN_PREFIX):
            return
        present = await self._clusters.siblings(resource.metadata.namespace or "", "KafkaTopic")
        if any(map(_lives, _others(resource, present))):
            return
        if found.login is None:
            raise ServiceUnavailableError(f"{found.waiting}: until then nobody can delete topic {name}")
        await self._admin.drop_topic(found.login, name)


def topic_name(resource: KafkaTopic) -> str:
    """Return the topic's name in Kafka."""
    return resource.spec.topic_name or resource.metadata.name


def _others(resource: KafkaTopic, topics: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the metadata of the other resources among these that name the same topic."""
    name = topic_name(resource)
    return [
        each["metadata"]
        for each in topics
        if each["metadata"]["name"] != resource.metadata.name
        and each["spec"].get("cluster") == resource.spec.cluster
        and (each["spec"].get("topicName") or each["metadata"]["name"]) == name
    ]


def replicas(spec: KafkaTopicSpec, found: Cluster) -> int:
    """Return how many copies the topic should have: its own number, else the cluster's."""
    if spec.replicas is not None:
        return spec.replicas
    return found.resource.spec.replication.factor if found.resource else 3


def _compare(
    spec: KafkaTopicSpec, name: str, copies: int, state: TopicState | None, status: dict[str, Any], *, now: dt.datetime
) -> Outcome:
    """Return the first thing to do about a difference between what is wanted and what is."""
    config = {key: str(value) for key, value in spec.config.items()}
    if state is None:
        call = Invoke(MAKE, name, {"partitions": spec.partitions, "replicas": copies, "config": config})
        return _says(False, "Creating", f"Topic {name} is being made.", now=now, status=status, call=call)
    if state.partitions < spec.partitions:
        call = Invoke(GROW, name, {"partitions": spec.partitions})
        text = f"Topic {name} grows from {state.partitions} to {spec.partitions} partitions."
        return _says(True, Reason.RECONCILING, text, now=now, status=status, call=call)
    changed: dict[str, str | None] = {key: value for key, value in config.items() if state.config.get(key) != value}
    changed |= {key: None for key in state.config if key not in config}
    if changed:
        call = Invoke(CONFIGURE, name, {"config": changed})
        text = f"Settings of topic {name} change: {', '.join(sorted(changed))}."
        return _says(True, Reason.RECONCILING, text, now=now, status=status, call=call)
    return _says(True, *_standing(spec, name, copies, state), now=now, status=status)


def _standing(spec: KafkaTopicSpec, name: str, copies: int, state: TopicState) -> tuple[str, str]:
    """Return reason and message of a topic with which nothing is to be done."""
    if state.partitions > spec.partitions:
        return "PartitionsCannotShrink", (
            f"Topic {name} has {state.partitions} partitions, and Kafka cannot take any away: write partitions: "
            f"{state.partitions}."
        )
    if state.replicas != copies:
        return "CopiesNotChanged", (
            f"Topic {name} has {state.replicas} copies and {copies} are asked for: this version changes copies only of "
            "new topics."
        )
    return Reason.AS_EXPECTED, f"Topic {name} has {state.partitions} partitions in {state.replicas} copies."


def _says(
    ready: bool,  # noqa: FBT001 - the answer of a condition
    reason: str,
    message: str,
    *,
    now: dt.datetime,
    status: Mapping[str, Any] | None = None,
    call: Invoke | None = None,
) -> Outcome:
    says: tuple[Condition, ...] = (condition(ConditionType.READY, ready, reason, message, now=now),)
    again = SOON if call else None if ready else WAITING_SECONDS
    return Outcome((call,) if call else (), says, status or {}, again)


def _lives(metadata: Mapping[str, Any]) -> bool:
    return not metadata.get("deletionTimestamp")


def _age(metadata: Mapping[str, Any]) -> tuple[str, str]:
    created = metadata.get("creationTimestamp")
    text = created.isoformat() if isinstance(created, dt.datetime) else str(created or "")
    return (text.replace("+00:00", "Z"), metadata["name"])
