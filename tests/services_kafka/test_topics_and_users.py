"""What topics and users wait for, refuse, and leave alone; brokers are played by a fake that remembers."""

import base64
from collections.abc import Mapping
from typing import Any

import pytest

from allotment_api.kafka_topic import KafkaTopicSpec
from allotment_api.kafka_user import KafkaUserSpec
from allotment_kube.client import Client
from allotment_kube.resources import SECRETS, STATEFUL_SETS, Resource
from allotment_kube.transport import Request, Response
from allotment_operator.kind import ServiceRefusedError, ServiceUnavailableError
from allotment_operator.plans.ownership import Owner
from allotment_operator.services.kafka.admin import ClusterState, Login, Rule, TopicState, UserState
from allotment_operator.services.kafka.clusters import Cluster, KubernetesClusters, cluster
from allotment_operator.services.kafka.names import Names
from allotment_operator.services.kafka.topic import KafkaTopicKind
from allotment_operator.services.kafka.user import KafkaUserKind
from builders.kafka_broker import cluster_kind, secret_text
from builders.service_checks import leaf_paths
from builders.services import HOME, World, custom
from fakes.api_server import FakeApiServer
from fakes.in_process import InProcessTransport

NAMES = Names("payments", "trades")
CERTIFICATE = {"data": {"tls.pem": "cGVt", "ca.crt": "Y2E="}}


def kafka_cluster(*conditions: Mapping[str, str], **spec: Any) -> dict[str, Any]:
    manifest = custom("KafkaCluster", "trades", **spec)
    ready = {"type": "Ready", "reason": "BrokersServe", "lastTransitionTime": "2026-03-01T12:00:00Z"}
    said = [{**ready, **each} for each in conditions]
    return {**manifest, "status": {"conditions": said}} if said else manifest


READY = kafka_cluster({"status": "True"})


class Brokers:
    """A cluster in memory: the port, and the directory that finds it."""

    def __init__(self, manifest: Mapping[str, Any] | None = READY) -> None:
        self.found = cluster(NAMES, manifest, CERTIFICATE if manifest else None, deployed=manifest is not None)
        self.topics: dict[str, TopicState] = {}
        self.passwords: dict[str, str] = {}
        self.rules: dict[str, frozenset[Rule]] = {}
        self.quotas: dict[str, dict[str, float]] = {}
        self.others: list[Mapping[str, Any]] = []
        self.foreign: dict[str, Mapping[str, str]] = {}
        self.calls: list[str] = []
        self.logins: list[Login] = []

    async def find(self, _namespace: str, _name: str) -> Cluster:
        return self.found

    def seen(self, _namespace: str, _kind: str) -> list[Mapping[str, Any]]:
        return self.others

    async def siblings(self, _namespace: str, _kind: str) -> list[Mapping[str, Any]]:
        return self.others

    async def secret_labels(self, _namespace: str, name: str) -> Mapping[str, str] | None:
        return self.foreign.get(name)

    async def cluster(self, _login: Login) -> ClusterState:
        return ClusterState((0,), 0, (0,))

    async def check(self, login: Login) -> None:
        self.logins.append(login)
        if login.username and not login.certificate and self.passwords.get(login.username) != login.password:
            raise ServiceRefusedError("no")

    async def topic(self, _login: Login, name: str) -> TopicState | None:
        return self.topics.get(name)

    async def make_topic(
        self, _login: Login, name: str, *, partitions: int, replicas: int, config: Mapping[str, str]
    ) -> None:
        self.topics.setdefault(name, TopicState(partitions, replicas, dict(config)))

    async def grow_topic(self, _login: Login, name: str, *, partitions: int) -> None:
        self.topics[name] = TopicState(partitions, self.topics[name].replicas, self.topics[name].config)

    async def configure_topic(self, _login: Login, name: str, *, config: Mapping[str, str | None]) -> None:
        merged = {**self.topics[name].config, **config}
        kept = {key: value for key, value in merged.items() if value is not None}
        self.topics[name] = TopicState(self.topics[name].partitions, self.topics[name].replicas, kept)

    async def drop_topic(self, _login: Login, name: str) -> None:
        self.calls.append(f"drop {name}")
        self.topics.pop(name, None)

    async def user(self, _login: Login, name: str) -> UserState:
        return UserState(name in self.passwords, self.rules.get(name, frozenset()), self.quotas.get(name, {}))

    async def set_password(self, _login: Login, name: str, password: str | None) -> None:
        self.calls.append(f"password of {name}")
        if password is None:
            self.passwords.pop(name, None)
        else:
            self.passwords[name] = password

    async def allow(self, _login: Login, name: str, *, add: frozenset[Rule], remove: frozenset[Rule]) -> None:
        self.rules[name] = (self.rules.get(name, frozenset()) | add) - remove

    async def set_quotas(self, _login: Login, name: str, quotas: Mapping[str, float | None]) -> None:
        merged = {**self.quotas.get(name, {}), **quotas}
        self.quotas[name] = {key: value for key, value in merged.items() if value is not None}


def topic(brokers: Brokers, name: str = "orders", **spec: Any) -> World:
    kind = KafkaTopicKind(admin=brokers, clusters=brokers)
    return World(kind, custom("KafkaTopic", name, cluster="trades", **spec))


def user(brokers: Brokers, name: str = "clerk", **spec: Any) -> World:
    kind = KafkaUserKind(admin=brokers, clusters=brokers, operator_namespace=HOME)
    return World(kind, custom("KafkaUser", name, cluster="trades", **spec))


WAITS = [
    (None, "KafkaCluster trades does not exist in this namespace"),
    (kafka_cluster(), "KafkaCluster trades is being deployed"),
    (
        kafka_cluster({"status": "False", "reason": "NoController", "message": "The quorum has no leader."}),
        "KafkaCluster trades is not ready: The quorum has no leader.",
    ),
    (kafka_cluster({"status": "True"}, version="four"), "KafkaCluster trades is not valid"),
]


@pytest.mark.parametrize("make", [topic, user])
@pytest.mark.parametrize(("manifest", "message"), WAITS)
async def test_a_wait_names_its_cause(make: Any, manifest: dict[str, Any] | None, message: str) -> None:
    world = make(Brokers(manifest))

    outcome = await world.meet()

    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "WaitingForCluster")
    assert message in ready["message"]
    assert not ready["message"].endswith("..")
    assert outcome.requeue_after is not None


@pytest.mark.parametrize("make", [topic, user])
async def test_with_simulated_brokers_it_is_ready_and_says_why(make: Any) -> None:
    brokers = Brokers(kafka_cluster({"status": "True", "reason": "PodsReadySimulated"}))
    world = make(brokers)

    await world.meet()

    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("True", "PodsReadySimulated")
    assert "(simulated)" in ready["message"]
    assert not brokers.topics
    assert not brokers.passwords


async def test_a_topic_has_the_copies_of_its_cluster_unless_it_says_otherwise() -> None:
    brokers = Brokers(kafka_cluster({"status": "True"}, replication={"factor": 2}))
    await topic(brokers, "by-default").settle()
    await topic(brokers, "by-itself", replicas=1).settle()

    assert {name: state.replicas for name, state in brokers.topics.items()} == {"by-default": 2, "by-itself": 1}


async def test_other_numbers_of_copies_are_said_not_tried() -> None:
    brokers = Brokers()
    await topic(brokers, replicas=3).settle()
    world = topic(brokers, replicas=2)

    await world.settle()

    assert world.condition("Ready")["reason"] == "CopiesNotChanged"
    assert brokers.topics["orders"].replicas == 3


async def test_a_topic_belongs_to_the_oldest_resource_that_names_it() -> None:
    brokers = Brokers()
    older = {"metadata": {"name": "first", "creationTimestamp": "2026-01-01T00:00:00Z"}}
    brokers.others = [{**older, "spec": {"cluster": "trades", "topicName": "orders"}}]
    brokers.topics["orders"] = TopicState(3, 3, {})
    world = topic(brokers)
    world.manifest["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z"

    await world.meet()

    assert world.condition("Ready")["reason"] == "TopicTaken"
    assert "KafkaTopic first, which is older: delete first, and this one" in world.condition("Ready")["message"]
    await world.let_go()
    assert "orders" in brokers.topics, "the younger resource deletes nothing"


@pytest.mark.parametrize(("leaving", "kept"), [(False, True), (True, False)], ids=["stays", "leaves, too"])
async def test_a_topic_outlives_its_resource_as_long_as_another_one_names_it(*, leaving: bool, kept: bool) -> None:
    """As the younger one's message says, and as a renamed resource comes about: first made, then the old deleted."""
    brokers = Brokers()
    world = topic(brokers)
    await world.settle()
    gone = {"deletionTimestamp": "2026-03-01T12:00:00Z"} if leaving else {}
    younger = {"name": "renamed", "creationTimestamp": "2026-02-01T00:00:00Z", **gone}
    brokers.others = [{"metadata": younger, "spec": {"cluster": "trades", "topicName": "orders"}}]

    while await world.let_go() is not None:
        pass

    assert ("orders" in brokers.topics) == kept


class Asked(InProcessTransport):
    """Notes what is asked of the API server."""

    def __init__(self, server: FakeApiServer) -> None:
        super().__init__(server)
        self.paths: list[str] = []

    async def send(self, request: Request) -> Response:
        self.paths.append(request.path)
        return await super().send(request)


async def test_topics_list_one_another_only_where_data_would_go() -> None:
    """What was seen last is enough for a look; a deletion goes by what is there, however late the watch is."""
    server, brokers = FakeApiServer(), Brokers()
    kinds = (("KafkaCluster", "kafkaclusters"), ("KafkaTopic", "kafkatopics"))
    clusters, topics = (Resource.custom(READY["apiVersion"], *each) for each in kinds)
    server.register(clusters)
    server.register(topics)
    server.put(clusters, READY)
    ref = NAMES.operator_certificate(HOME)
    server.put(SECRETS, {**CERTIFICATE, "metadata": {"name": ref.name, "namespace": HOME}})
    other = custom("KafkaTopic", "renamed", uid="uid-2", cluster="trades", topicName="orders")
    seen = [{**other, "metadata": {**other["metadata"], "creationTimestamp": "2026-01-01T00:00:00Z"}}]
    transport = Asked(server)
    found = KubernetesClusters(Client(transport), operator_namespace=HOME, seen=lambda _kind, _namespace: seen)
    world = World(KafkaTopicKind(admin=brokers, clusters=found), custom("KafkaTopic", "orders", cluster="trades"))
    world.manifest["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z"
    brokers.topics["orders"] = TopicState(3, 3, {})

    await world.meet()

    assert world.condition("Ready")["reason"] == "TopicTaken"
    assert not [path for path in transport.paths if path.endswith("/kafkatopics")]

    seen.clear()
    server.put(topics, other)
    while await world.let_go() is not None:
        pass

    assert "orders" in brokers.topics


async def test_kafkas_own_topics_are_left_alone() -> None:
    brokers = Brokers()
    brokers.topics["__consumer_offsets"] = TopicState(50, 3, {})
    world = topic(brokers, "mine", topicName="__consumer_offsets", partitions=60)

    await world.meet()
    await world.let_go()

    assert world.condition("Ready")["reason"] in ("InvalidSpec", "Deleted")
    assert brokers.topics["__consumer_offsets"].partitions == 50


@pytest.mark.parametrize(("policy", "left"), [("Retain", True), ("Delete", False)])
async def test_a_topic_goes_with_its_resource_unless_it_is_retained(policy: str, left: bool) -> None:
    brokers = Brokers()
    world = topic(brokers, deletionPolicy=policy)
    await world.settle()

    while await world.let_go() is not None:
        pass

    assert ("orders" in brokers.topics) == left


LEAVING = {**READY, "metadata": {**READY["metadata"], "deletionTimestamp": "2026-03-01T12:00:00Z"}}


@pytest.mark.parametrize("make", [topic, user])
@pytest.mark.parametrize("manifest", [None, LEAVING], ids=["gone", "leaving"])
async def test_without_a_cluster_nothing_holds_up_the_deletion(make: Any, manifest: dict[str, Any] | None) -> None:
    brokers = Brokers(manifest)
    world = make(brokers)

    assert await world.let_go() is not None
    assert await world.let_go() is None
    assert not brokers.calls


INVALID = kafka_cluster({"status": "True"}, version="four")


@pytest.mark.parametrize("make", [topic, user])
async def test_brokers_whose_cluster_cannot_be_read_forget_what_is_deleted(make: Any) -> None:
    brokers = Brokers()
    world = make(brokers)
    await world.settle()
    brokers.found = cluster(NAMES, INVALID, CERTIFICATE, deployed=True)

    assert await world.let_go() is not None

    assert not brokers.topics
    assert not brokers.passwords


@pytest.mark.parametrize("make", [topic, user])
@pytest.mark.parametrize("manifest", [READY, INVALID], ids=["valid", "invalid"])
async def test_brokers_that_nobody_can_log_in_to_hold_up_the_deletion(make: Any, manifest: dict[str, Any]) -> None:
    brokers = Brokers()
    world = make(brokers)
    await world.settle()
    brokers.found = cluster(NAMES, manifest, None, deployed=True)

    with pytest.raises(ServiceUnavailableError, match="until then nobody can"):
        await world.let_go()


@pytest.mark.parametrize("manifest", [kafka_cluster(), INVALID], ids=["valid", "invalid"])
@pytest.mark.parametrize(
    ("certificate", "nodes", "gone"),
    [(False, False, True), (True, False, False), (False, True, False)],
    ids=["nothing", "a certificate", "nodes"],
)
async def test_a_cluster_that_was_ever_deployed_has_something_to_be_taken_out_of(
    *, manifest: dict[str, Any], certificate: bool, nodes: bool, gone: bool
) -> None:
    server, kind = FakeApiServer(), Resource.custom(manifest["apiVersion"], "KafkaCluster", "kafkaclusters")
    server.register(kind)
    server.put(kind, manifest)
    if certificate:
        ref = NAMES.operator_certificate(HOME)
        server.put(SECRETS, {**CERTIFICATE, "metadata": {"name": ref.name, "namespace": HOME}})
    if nodes:
        labels = Owner.read("KafkaCluster", manifest).selector
        server.put(STATEFUL_SETS, {"metadata": {"name": "trades-main", "namespace": "payments", "labels": labels}})
    clusters = KubernetesClusters(
        Client(InProcessTransport(server)), operator_namespace=HOME, seen=lambda _kind, _namespace: ()
    )

    assert (await clusters.find("payments", "trades")).gone == gone


async def test_nobody_becomes_the_administrator_by_name() -> None:
    brokers = Brokers()
    world = user(brokers, "admin")

    await world.meet()
    await world.let_go()

    assert not brokers.calls
    assert world.condition("Ready")["reason"] in ("InvalidSpec", "Deleted")


async def test_a_secret_that_is_not_the_users_stays_as_it_is() -> None:
    brokers = Brokers()
    brokers.foreign["clerk"] = {}
    world = user(brokers)

    await world.meet()

    assert world.condition("Ready")["reason"] == "SecretTaken"
    assert not world.of_kind("Secret")


async def test_a_listener_that_takes_no_passwords_is_said() -> None:
    listeners = [{"name": "tls", "port": 9093, "authentication": {"type": "tls"}}]
    world = user(Brokers(kafka_cluster({"status": "True"}, listeners=listeners)))

    await world.meet()

    assert "has no listener with authentication scram-sha-512" in world.condition("Ready")["message"]


async def test_a_password_that_the_brokers_lost_is_set_again_from_the_secret() -> None:
    brokers = Brokers()
    world = user(brokers)
    await world.settle()
    password = secret_text(world, "clerk")["password"]
    brokers.passwords["clerk"] = "somebody-changed-it"

    await world.settle()

    assert brokers.passwords["clerk"] == password


async def test_where_a_user_is_tried_is_not_its_secrets_to_say() -> None:
    brokers = Brokers()
    world = user(brokers)
    await world.settle()
    told = {"bootstrap-servers": "10.0.0.1:1,10.0.0.2:1", "certificates": "another authority", "tls.pem": "a key"}
    secret = world.of_kind("Secret")["clerk"]
    secret["data"] |= {key: base64.b64encode(value.encode()).decode() for key, value in told.items()}
    brokers.logins.clear()

    await world.meet()

    assert [(each.bootstrap, each.authority, each.certificate) for each in brokers.logins] == [
        ("trades-bootstrap.payments.svc:9092", "ca", "")
    ]
    assert secret_text(world, "clerk")["bootstrap-servers"] == "trades-bootstrap.payments.svc:9092"


@pytest.mark.parametrize("make", [topic, user])
async def test_however_much_a_broker_says_the_condition_can_be_written(make: Any) -> None:
    brokers = Brokers()
    world = make(brokers)
    await world.settle()

    async def refuse(*_: object) -> None:
        raise ServiceRefusedError("no" * 40_000)

    brokers.topic = brokers.user = refuse  # type: ignore[assignment, method-assign] # both fail alike
    await world.meet()

    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"], len(ready["message"])) == ("False", "BrokersUnreachable", 32_768)


async def test_rules_that_somebody_else_gave_the_user_are_taken_away() -> None:
    brokers = Brokers()
    brokers.rules["clerk"] = frozenset({Rule("TOPIC", "secrets", "LITERAL", "READ", "ALLOW", "*")})

    await user(brokers).settle()

    assert brokers.rules["clerk"] == frozenset()


ACL = {"resource": {"type": "topic", "name": "a"}, "operations": ["Read"]}
USER_CHANGES: dict[str, dict[str, Any]] = {
    "authentication.type": {"authentication": {"type": "tls"}},
    "authorization.acls[].type": {"authorization": {"acls": [ACL | {"type": "deny"}]}},
    "authorization.acls[].resource.type": {
        "authorization": {"acls": [ACL | {"resource": {"type": "transactionalId", "name": "a"}}]}
    },
    "authorization.acls[].resource.name": {
        "authorization": {"acls": [ACL | {"resource": {"type": "topic", "name": "b"}}]}
    },
    "authorization.acls[].resource.patternType": {
        "authorization": {"acls": [ACL | {"resource": {"type": "topic", "name": "a", "patternType": "prefix"}}]}
    },
    "authorization.acls[].operations": {"authorization": {"acls": [ACL | {"operations": ["AlterConfigs"]}]}},
    "authorization.acls[].host": {"authorization": {"acls": [ACL | {"host": "192.0.2.1"}]}},
    "quotas.producerByteRate": {"quotas": {"producerByteRate": 1}},
    "quotas.consumerByteRate": {"quotas": {"consumerByteRate": 1}},
    "quotas.requestPercentage": {"quotas": {"requestPercentage": 1}},
    "quotas.controllerMutationRate": {"quotas": {"controllerMutationRate": 0.5}},
}
TOPIC_CHANGES: dict[str, dict[str, Any]] = {
    "topicName": {"topicName": "other"},
    "partitions": {"partitions": 7},
    "replicas": {"replicas": 1},
    "config": {"config": {"retention.ms": 1}},
    "deletionPolicy": {"deletionPolicy": "Retain"},
}
AUTHORITY = World(cluster_kind(), custom("KafkaCluster", "trades"))
AUTHORITY.round()

READ_BY_THE_ENGINE = {"paused"}
FINDS_THE_CLUSTER = {"cluster"}


def test_every_field_of_the_specs_is_known_here() -> None:
    assert set(leaf_paths(KafkaTopicSpec)) == set(TOPIC_CHANGES) | READ_BY_THE_ENGINE | FINDS_THE_CLUSTER
    assert set(leaf_paths(KafkaUserSpec)) == set(USER_CHANGES) | READ_BY_THE_ENGINE | FINDS_THE_CLUSTER


@pytest.mark.parametrize("field", USER_CHANGES)
async def test_every_field_of_a_user_changes_something(field: str) -> None:
    spec = {"authorization": {"acls": [ACL]}}
    assert await brokers_after(user, {**spec, **USER_CHANGES[field]}) != await brokers_after(user, spec)


@pytest.mark.parametrize("field", TOPIC_CHANGES)
async def test_every_field_of_a_topic_changes_something(field: str) -> None:
    assert await brokers_after(topic, TOPIC_CHANGES[field]) != await brokers_after(topic, {})


async def brokers_after(make: Any, spec: Mapping[str, Any]) -> object:
    """What the brokers know of a resource, and what they still know when it has gone."""
    brokers = Brokers()
    world = make(brokers, **spec)
    world.objects.update(AUTHORITY.objects)
    await world.settle()
    known = (dict(brokers.topics), set(brokers.passwords), dict(brokers.rules), dict(brokers.quotas))
    while await world.let_go() is not None:
        pass
    return known, dict(brokers.topics)
