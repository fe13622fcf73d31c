"""The operator's rendering run by a real broker, and the operator's port to brokers met by a real one.

One node, started from the rendered start script, configuration and Secrets. The client is librdkafka, which shares no
code with the port.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from allotment_api.kafka import KafkaCluster
from allotment_operator.kind import ServiceRefusedError, ServiceUnavailableError
from allotment_operator.plans.actions import Invoke
from allotment_operator.services.kafka.admin import Login
from allotment_operator.services.kafka.clusters import Cluster
from allotment_operator.services.kafka.kafka_python import KafkaPythonAdmin
from allotment_operator.services.kafka.names import Names
from allotment_operator.services.kafka.topic import KafkaTopicKind
from allotment_operator.services.kafka.user import KafkaUserKind
from builders.java_services import free_ports
from builders.kafka_broker import BOOTSTRAP, CLUSTER, Broker, cluster_kind, secret_text
from builders.services import HOME, World, custom

pytestmark = pytest.mark.timeout(1800)  # a cold start of the JVM on a busy machine
T = TypeVar("T")


class NearAdmin(KafkaPythonAdmin):
    """The port, with ports of this machine standing for the cluster's own addresses."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(timeout=120)
        self._ports = {9091: broker.replication, 9092: broker.scram, 9093: broker.tls}

    async def check(self, login: Login) -> None:
        await super().check(self._near(login))

    async def _run(self, login: Login, call: Callable[[Any], T]) -> T:
        return await super()._run(self._near(login), call)

    def _near(self, login: Login) -> Login:
        host, port = login.bootstrap.split(":")
        assert host == BOOTSTRAP
        return replace(login, bootstrap=f"localhost:{self._ports[int(port)]}")


class OneCluster:
    """The directory of clusters, with the one that runs."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def find(self, namespace: str, name: str) -> Cluster:
        names = Names(namespace, name)
        secret = self._broker.secret(f"kafka.payments.{CLUSTER}.operator", HOME)
        login = Login(f"{BOOTSTRAP}:9091", secret["ca.crt"], certificate=secret["tls.pem"])
        return Cluster(names, KafkaCluster.parse(self._broker.world.manifest), login)

    def seen(self, _namespace: str, _kind: str) -> list[Mapping[str, Any]]:
        return []

    async def siblings(self, _namespace: str, _kind: str) -> list[Mapping[str, Any]]:
        return []

    async def secret_labels(self, _namespace: str, _name: str) -> Mapping[str, str] | None:
        return None


@pytest.fixture
def near(broker: Broker) -> Iterator[NearAdmin]:
    with contextlib.closing(NearAdmin(broker)) as admin:
        yield admin


@pytest.fixture
def topics(broker: Broker, near: NearAdmin) -> Callable[..., World]:
    kind = KafkaTopicKind(admin=near, clusters=OneCluster(broker))
    return lambda name, **spec: World(kind, custom("KafkaTopic", name, cluster=CLUSTER, **spec))


@pytest.fixture
def users(broker: Broker, near: NearAdmin) -> Callable[..., World]:
    kind = KafkaUserKind(admin=near, clusters=OneCluster(broker), operator_namespace=HOME)

    def make(name: str, **spec: Any) -> World:
        world = World(kind, custom("KafkaUser", name, cluster=CLUSTER, **spec), now=broker.world.now)
        world.objects.update({ref: each for ref, each in broker.world.objects.items() if ref.namespace == HOME})
        return world

    return make


def librdkafka(broker: Broker, binding: Mapping[str, str]) -> dict[str, Any]:
    """A client's configuration out of a binding Secret, as an application would make it."""
    by_password = binding["security-protocol"] == "SASL_SSL"
    config = {
        "bootstrap.servers": f"localhost:{broker.scram if by_password else broker.tls}",
        "security.protocol": binding["security-protocol"],
        "ssl.ca.pem": binding["certificates"],
        "log_level": 0,
    }
    if by_password:
        config |= {f"sasl.{key}": binding[key] for key in ("username", "password")}
        return config | {"sasl.mechanism": binding["sasl-mechanism"]}
    return config | {"ssl.certificate.pem": binding["tls.crt"], "ssl.key.pem": binding["tls.key"]}


def produce(config: Mapping[str, Any], topic: str, *values: str) -> KafkaError | None:
    """Send records with acks=all; the first that could not be delivered says why."""
    errors: list[KafkaError] = []
    producer = Producer({**config, "acks": "all", "message.timeout.ms": 290000})
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, _: errors.append(error) if error else None)
    producer.flush(300)
    return errors[0] if errors else None


def consume(config: Mapping[str, Any], topic: str, group: str, count: int) -> list[str]:
    """Read so many records from the beginning."""
    consumer = Consumer({**config, "group.id": group, "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe([topic])
        read: list[str] = []
        deadline = time.monotonic() + 300
        while len(read) < count and time.monotonic() < deadline:
            for message in consumer.consume(count - len(read), timeout=1):
                if message.error():
                    raise KafkaException(message.error())
                read.append((message.value() or b"").decode())
        return read
    finally:
        consumer.close()


def acl(type_: str, name: str, *operations: str, pattern: str = "literal") -> dict[str, Any]:
    return {"resource": {"type": type_, "name": name, "patternType": pattern}, "operations": list(operations)}


async def test_the_probe_finds_the_cluster_ready_as_operator_and_as_client(broker: Broker, near: NearAdmin) -> None:
    world = broker.world
    kind = cluster_kind(near)

    health = await kind.probe(world.resource, world.observed)

    assert health is not None
    assert (health.ready, health.reason, health.simulated) == (True, "BrokersServe", False)
    assert health.message == "1 brokers serve, 1 controllers vote, every partition has all its copies."
    assert health.details["controllerPod"] == "trades-main-0"


async def test_a_lost_administrator_password_is_noticed_and_set_anew(broker: Broker, near: NearAdmin) -> None:
    world = broker.world
    login = (await OneCluster(broker).find("payments", CLUSTER)).login
    assert login is not None
    await near.set_password(login, "admin", "somebody-changed-it")
    kind = cluster_kind(near)
    world.health = await kind.probe(world.resource, world.observed)
    assert world.health is not None
    assert (world.health.ready, world.health.reason) == (False, "LoginRefused")

    for action in world.plan().actions:
        if isinstance(action, Invoke):
            await kind.perform(world.resource, world.observed, action)

    world.health = await kind.probe(world.resource, world.observed)
    assert world.health is not None
    assert world.health.ready, world.health.message


async def test_a_topic_is_made_grown_configured_and_deleted(topics: Callable[..., World]) -> None:
    world = topics("orders", partitions=2, config={"retention.ms": 86400000})
    outcome = await world.settle()
    assert outcome.status == {"topicName": "orders", "partitions": 2, "replicas": 1}
    assert world.condition("Ready")["message"] == "Topic orders has 2 partitions in 1 copies."

    world.edit(lambda spec: spec.update(partitions=4, config={"cleanup.policy": "compact"}))
    outcome = await world.settle()

    assert outcome.status["partitions"] == 4
    assert world.health is not None
    assert world.health.details["topic"].config == {"cleanup.policy": "compact"}

    assert await world.let_go() is not None
    assert await world.let_go() is None
    await world.kind.probe(world.resource, world.observed)
    health = await world.kind.probe(world.resource, world.observed)
    assert health.details["topic"] is None


async def test_fewer_partitions_are_refused_with_what_to_write(topics: Callable[..., World]) -> None:
    await topics("wide", partitions=3).settle()
    narrower = topics("wide", partitions=1)

    await narrower.settle()

    ready = narrower.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("True", "PartitionsCannotShrink")
    assert "write partitions: 3" in ready["message"]


async def test_a_setting_that_kafka_does_not_know_is_refused_in_kafkas_words(topics: Callable[..., World]) -> None:
    world = topics("misspelt", partitions=1, config={"retention.millis": 1})

    with pytest.raises(ServiceRefusedError, match=r"retention\.millis"):
        await world.meet()


async def test_a_user_with_a_password_does_what_its_rules_allow_and_nothing_else(
    broker: Broker, topics: Callable[..., World], users: Callable[..., World]
) -> None:
    await topics("payments.in", partitions=1).settle()
    await topics("secrets", partitions=1).settle()
    acls = [
        acl("topic", "payments.", "Read", "Write", "Describe", pattern="prefix"),
        acl("group", "payments-app", "Read"),
    ]
    world = users("payments-app", authorization={"acls": acls}, quotas={"producerByteRate": 1_000_000})

    await world.settle()

    assert world.condition("Ready")["message"] == "User payments-app can log in; 4 rules of access."
    binding = secret_text(world, "payments-app")
    assert (binding["type"], binding["provider"], binding["port"]) == ("kafka", "allotment", "9092")
    config = librdkafka(broker, binding)
    assert produce(config, "payments.in", "a", "b", "c") is None
    assert consume(config, "payments.in", "payments-app", 3) == ["a", "b", "c"]
    refused = produce(config, "secrets", "x")
    assert refused is not None
    assert refused.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert world.health is not None
    assert world.health.details["user"].quotas == {"producer_byte_rate": 1_000_000.0}


async def test_a_user_whose_spec_changes_keeps_its_password_and_loses_what_it_may_no_more(
    broker: Broker, topics: Callable[..., World], users: Callable[..., World]
) -> None:
    await topics("ledger", partitions=1).settle()
    world = users("clerk", authorization={"acls": [acl("topic", "ledger", "Write")]}, quotas={"requestPercentage": 50})
    await world.settle()
    password = secret_text(world, "clerk")["password"]

    world.edit(lambda spec: spec.update(authorization={"acls": [acl("topic", "ledger", "Describe")]}, quotas={}))
    await world.settle()

    refused = produce(librdkafka(broker, secret_text(world, "clerk")), "ledger", "x")
    assert refused is not None
    assert refused.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert secret_text(world, "clerk")["password"] == password
    assert world.health is not None
    assert world.health.details["user"].quotas == {}


async def test_a_deleted_user_cannot_log_in_and_leaves_nothing_behind(
    near: NearAdmin, broker: Broker, users: Callable[..., World]
) -> None:
    world = users("leaver", authorization={"acls": [acl("topic", "x", "Read")]}, quotas={"consumerByteRate": 1})
    await world.settle()
    binding = secret_text(world, "leaver")

    await world.let_go()

    assert await world.let_go() is None
    assert not [ref for ref in world.objects if ref.name == "leaver"]
    with pytest.raises(ServiceRefusedError):
        await near.check(
            Login(f"{BOOTSTRAP}:9092", binding["certificates"], username="leaver", password=binding["password"])
        )
    login = (await OneCluster(broker).find("payments", CLUSTER)).login
    assert login is not None
    left = await near.user(login, "leaver")
    assert (left.password, left.rules, left.quotas) == (False, frozenset(), {})


async def test_a_user_with_a_certificate_is_known_by_its_name(
    broker: Broker, topics: Callable[..., World], users: Callable[..., World]
) -> None:
    await topics("trades.out", partitions=1).settle()
    rules = [acl("topic", "trades.out", "Write")]
    world = users("desk", authentication={"type": "tls"}, authorization={"acls": rules})

    await world.settle()

    assert world.condition("Ready")["status"] == "True"
    assert produce(librdkafka(broker, secret_text(world, "desk")), "trades.out", "x") is None


async def test_a_users_certificate_is_nobody_on_the_nodes_own_listener(
    near: NearAdmin, users: Callable[..., World]
) -> None:
    world = users("intruder", authentication={"type": "tls"})
    await world.settle()
    binding = secret_text(world, "intruder")
    login = Login(f"{BOOTSTRAP}:9091", binding["certificates"], certificate=binding["tls.pem"])

    with pytest.raises(ServiceRefusedError, match="Authorization"):
        await near.make_topic(login, "mine", partitions=1, replicas=1, config={})


@pytest.mark.parametrize("change", [{"password": "wrong"}, {"username": "nobody"}])
async def test_a_wrong_login_is_refused(broker: Broker, near: NearAdmin, change: dict[str, str]) -> None:
    binding = broker.secret("trades-kafka-binding")
    given = {"username": "admin", "password": binding["password"], **change}

    with pytest.raises(ServiceRefusedError):
        await near.check(Login(f"{BOOTSTRAP}:9092", binding["certificates"], **given))


async def test_a_client_without_tls_gets_nothing(broker: Broker) -> None:
    errors: list[KafkaError] = []
    config = {"bootstrap.servers": f"localhost:{broker.scram}", "log_level": 0, "error_cb": errors.append}
    producer = Producer(config)

    with pytest.raises(KafkaException):
        producer.list_topics(timeout=3)


async def test_nobody_there_is_told_apart_from_no(broker: Broker) -> None:
    (port,) = free_ports(1)
    secret = broker.secret(f"kafka.payments.{CLUSTER}.operator", HOME)
    login = Login(f"localhost:{port}", secret["ca.crt"], certificate=secret["tls.pem"])
    with contextlib.closing(KafkaPythonAdmin(timeout=1)) as admin, pytest.raises(ServiceUnavailableError):
        await admin.cluster(login)


async def test_the_log_of_the_broker_holds_no_password(broker: Broker) -> None:
    assert broker.secret("trades-kafka-binding")["password"] not in broker.log.read_text()
