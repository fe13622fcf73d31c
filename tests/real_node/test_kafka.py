"""Three real Kafka brokers, used by an independent client over TLS with a password; a broker is lost and comes back."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from builders import kafka_manifests
from builders.kafka_manifests import BROKERS, FIRST_NODE_PORT, PASSWORD, USER
from builders.real_cluster import RealCluster

pytestmark = pytest.mark.real_node

_RECORDS = 5000
_SECONDS = 30.0


@dataclass(frozen=True)
class Kafka:
    """A running Kafka cluster."""

    cluster: RealCluster
    namespace: str
    client: dict[str, str | int | float | bool]

    def topic(self) -> str:
        """A new topic, replicated to every broker."""
        name = f"t-{uuid.uuid4()}"
        admin = AdminClient(self.client)  # kept by name: its answers go with it
        admin.create_topics([NewTopic(name, num_partitions=3, replication_factor=3)])[name].result(_SECONDS)
        return name

    def produce(self, topic: str, first: int, count: int) -> None:
        """Send numbered records and wait until every one is acknowledged by all in-sync replicas."""
        failures: list[KafkaError] = []
        producer = Producer({**self.client, "acks": "all", "linger.ms": "5"})
        for number in range(first, first + count):
            producer.produce(
                topic,
                str(number).encode(),
                on_delivery=lambda error, _: failures.append(error) if error is not None else None,
            )
            producer.poll(0)
        assert producer.flush(_SECONDS * 2) == 0
        assert failures == []

    def consume(self, topic: str, count: int) -> list[int]:
        """Read that many records from the beginning, sorted."""
        consumer = Consumer({**self.client, "group.id": str(uuid.uuid4()), "auto.offset.reset": "earliest"})
        try:
            consumer.subscribe([topic])
            seen: list[int] = []
            while len(seen) < count:
                messages = consumer.consume(count - len(seen), timeout=_SECONDS)
                assert messages, f"only {len(seen)} of {count} records"
                for message in messages:
                    assert message.error() is None
                    seen.append(int(message.value() or b""))
        finally:
            consumer.close()
        return sorted(seen)


@pytest.fixture(scope="module")
def kafka(real_cluster: RealCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Three brokers on three nodes in a namespace that admits restricted pods only."""
    namespace = "kafka"
    addresses = [node.description.address for node in real_cluster.fleet.nodes]
    signer, broker = kafka_manifests.certificates(namespace, addresses)
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    real_cluster.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": restricted}},
        *kafka_manifests.manifests(namespace, address=addresses[0], signer=signer, broker=broker),
    )
    for number in range(BROKERS):
        real_cluster.wait("-n", namespace, f"pod/kafka-{number}", "--for=create")
    real_cluster.wait("-n", namespace, "pod", "--all", "--for=condition=Ready", timeout=180)
    authority: Path = tmp_path_factory.mktemp("kafka") / "ca.crt"
    authority.write_bytes(signer.certificate_pem)
    client: dict[str, str | int | float | bool] = {
        "bootstrap.servers": ",".join(f"{addresses[0]}:{FIRST_NODE_PORT + number}" for number in range(BROKERS)),
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": USER,
        "sasl.password": PASSWORD,
        "ssl.ca.location": str(authority),
    }
    yield Kafka(real_cluster, namespace, client)
    real_cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def test_an_independent_client_produces_and_consumes(kafka: Kafka) -> None:
    topic = kafka.topic()

    kafka.produce(topic, 0, _RECORDS)

    assert kafka.consume(topic, _RECORDS) == list(range(_RECORDS))


def test_a_wrong_password_is_refused(kafka: Kafka) -> None:
    stranger = AdminClient({**kafka.client, "sasl.password": "wrong", "socket.timeout.ms": "5000"})

    with pytest.raises(KafkaException, match=r"timed out|Timed out|transport|authentication|Authentication"):
        stranger.list_topics(timeout=5)


def test_no_record_is_lost_when_a_broker_is_killed(kafka: Kafka) -> None:
    topic = kafka.topic()
    kafka.produce(topic, 0, _RECORDS)

    kafka.cluster.kubectl("-n", kafka.namespace, "delete", "pod", "kafka-0", "--grace-period=0", "--force")
    kafka.produce(topic, _RECORDS, _RECORDS)
    kafka.cluster.wait("-n", kafka.namespace, "pod/kafka-0", "--for=create")
    kafka.cluster.wait("-n", kafka.namespace, "pod/kafka-0", "--for=condition=Ready", timeout=120)

    assert kafka.consume(topic, 2 * _RECORDS) == list(range(2 * _RECORDS))
