"""The bank's Kafka on real brokers: made by the operator, placed by our scheduler, used by an independent client.

Its manifests are those of examples/bank, only smaller. The client is librdkafka in a pod of the tenant, with TLS and
the password of its KafkaUser's Secret, through the tenant's network policies.
"""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from builders import real_platform, service_clients
from builders.real_cluster import RealCluster

pytestmark = pytest.mark.real_node

_NAMESPACE = "payments"
_CLUSTER = "kafkacluster/payments"
_RECORDS = 2000
_PATIENCE = 400
"""Seconds for three brokers to serve; on a machine with nothing else to do it takes some 40."""


def _small(manifest: dict[str, Any]) -> dict[str, Any]:
    """The same object, as large as one machine can carry three times."""
    if manifest["kind"] == "KafkaCluster":
        [pool] = manifest["spec"]["pools"]
        pool["resources"] = {"requests": {"cpu": "250m", "memory": "640Mi"}}
        pool["storage"] = {"size": "1Gi", "deletionPolicy": "Delete"}
        pool["jvm"] = {"options": ["-XX:TieredStopAtLevel=1"]}
    if manifest["kind"] == "KafkaTopic":
        manifest["spec"]["partitions"] = 6
    return manifest


@dataclass(frozen=True)
class Client:
    """A pod of a tenant with its own user's Secret."""

    cluster: RealCluster

    def produce(self, topic: str, values: list[str]) -> dict[str, Any]:
        """Send records and wait until each is acknowledged by all in-sync copies."""
        return self._call(f"produce({topic!r}, {values!r})")

    def consume(self, topic: str, group: str, prefix: str, count: int) -> dict[str, Any]:
        """Read from the beginning until so many records with that prefix were seen; one that came twice counts once."""
        return self._call(f"consume({topic!r}, {group!r}, {prefix!r}, {count})")

    def knock(self, password: str) -> dict[str, Any]:
        """Try another password."""
        return self._call(f"knock({password!r})")

    def _call(self, call: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.cluster.run_python(_NAMESPACE, "engine", service_clients.kafka(call))
        return answer


@pytest.fixture(scope="module")
def kafka(platform: RealCluster) -> Iterator[RealCluster]:
    """The bank's KafkaCluster, KafkaTopic and KafkaUser, all Ready."""
    manifests = [each for each in real_platform.bank("03-payments.yaml") if each["kind"].startswith("Kafka")]
    platform.apply_once_admitted(*map(_small, manifests))
    platform.wait("-n", _NAMESPACE, _CLUSTER, "--for=condition=Ready", timeout=_PATIENCE)
    platform.wait("-n", _NAMESPACE, _CLUSTER, "--for=jsonpath={.status.phase}=Running", timeout=_PATIENCE)
    for name in ("kafkatopic/bookings", "kafkauser/booking-engine"):
        platform.wait("-n", _NAMESPACE, name, "--for=condition=Ready", timeout=_PATIENCE)
    yield platform
    platform.kubectl("-n", _NAMESPACE, "delete", "kafkausers,kafkatopics,kafkaclusters", "--all", "--wait=false")


@pytest.fixture(scope="module")
def client(kafka: RealCluster) -> Iterator[Client]:
    """The booking engine, a pod like any of the tenant's."""
    recipe = service_clients.image(service_clients.KAFKA_CLIENT)
    kafka.apply(service_clients.client_pod(_NAMESPACE, "engine", recipe=recipe, secret="booking-engine"))
    kafka.wait("-n", _NAMESPACE, "pod/engine", "--for=condition=Ready")
    yield Client(kafka)
    kafka.kubectl("-n", _NAMESPACE, "delete", "pod", "engine", "--wait=false")


def _numbered(prefix: str, first: int, count: int) -> list[str]:
    return [f"{prefix}{number:06}" for number in range(first, first + count)]


def test_our_scheduler_places_each_broker_on_a_node_of_its_own(kafka: RealCluster) -> None:
    def places() -> list[tuple[str, str]]:
        brokers = kafka.get("-n", _NAMESPACE, "pods", "-l", "allotment.dev/kind=KafkaCluster")["items"]
        return sorted((pod["spec"]["schedulerName"], pod["spec"].get("nodeName", "")) for pod in brokers)

    kafka.comes_to([("allotment", f"real-{number}") for number in (1, 2, 3)], places, timeout=_PATIENCE)


def test_the_cluster_is_ready_because_its_brokers_said_so(kafka: RealCluster) -> None:
    def answer() -> str:
        conditions = kafka.get("-n", _NAMESPACE, _CLUSTER)["status"]["conditions"]
        [ready] = [each for each in conditions if each["type"] == "Ready"]
        return f"{ready['status']} {ready['reason']}: {ready['message']}"

    # Asked again once a minute: the last broker may have come just after the question.
    all_of_them = "True BrokersServe: 3 brokers serve, 3 controllers vote"
    kafka.until(lambda said: said.startswith(all_of_them), answer, timeout=_PATIENCE)


def test_an_independent_client_produces_and_consumes(client: Client) -> None:
    prefix = f"{uuid.uuid4()}-"
    records = _numbered(prefix, 0, _RECORDS)

    # What a user was granted each broker hears from the controllers, a moment after they wrote it down.
    client.cluster.comes_to({"left": 0, "failed": []}, lambda: client.produce("bookings", records))

    everything = {"seen": records, "errors": []}
    client.cluster.comes_to(everything, lambda: client.consume("bookings", "booking-engine", prefix, _RECORDS))


def test_a_wrong_password_is_refused(client: Client) -> None:
    assert "_AUTHENTICATION" in (knocked := client.knock("wrong"))["refused"], knocked


def test_a_user_may_do_what_it_was_granted_and_nothing_else(client: Client) -> None:
    elsewhere = client.produce("salaries", ["mine"])
    stranger = client.consume("bookings", "somebody-else", "", 1)

    assert elsewhere["failed"] == ["TOPIC_AUTHORIZATION_FAILED"]
    assert stranger["errors"] == ["GROUP_AUTHORIZATION_FAILED"]


@pytest.mark.usefixtures("client")
def test_another_tenant_gets_no_connection(kafka: RealCluster) -> None:
    """The same question is answered within the tenant: it is the policy that closes the door, not an empty room."""
    recipe = service_clients.image(service_clients.KAFKA_CLIENT)
    kafka.apply_once_admitted(service_clients.client_pod("fraud", "stranger", recipe=recipe))
    kafka.wait("-n", "fraud", "pod/stranger", "--for=condition=Ready")

    door = ("payments-bootstrap.payments.svc", 9092)
    assert kafka.run_python("fraud", "stranger", service_clients.door(*door, wanted="closed")) == "closed"
    assert kafka.run_python(_NAMESPACE, "engine", service_clients.door(*door, wanted="open")) == "open"
    kafka.kubectl("-n", "fraud", "delete", "pod", "stranger", "--wait=false")


def test_no_record_is_lost_when_a_broker_is_killed(kafka: RealCluster, client: Client) -> None:
    prefix = f"{uuid.uuid4()}-"
    assert client.produce("bookings", _numbered(prefix, 0, _RECORDS)) == {"left": 0, "failed": []}
    killed = kafka.get("-n", _NAMESPACE, "pod", "payments-main-0")["metadata"]["uid"]

    kafka.kubectl("-n", _NAMESPACE, "delete", "pod", "payments-main-0", "--grace-period=0", "--force")
    assert client.produce("bookings", _numbered(prefix, _RECORDS, _RECORDS)) == {"left": 0, "failed": []}
    kafka.wait("-n", _NAMESPACE, "pod/payments-main-0", "--for=create")
    kafka.wait("-n", _NAMESPACE, "pod/payments-main-0", "--for=condition=Ready", timeout=_PATIENCE)

    assert kafka.get("-n", _NAMESPACE, "pod", "payments-main-0")["metadata"]["uid"] != killed
    everything = {"seen": _numbered(prefix, 0, 2 * _RECORDS), "errors": []}
    assert client.consume("bookings", "booking-engine", prefix, 2 * _RECORDS) == everything


def test_a_deleted_cluster_gives_everything_back(kafka: RealCluster) -> None:
    """Last, for it takes the cluster away."""
    kafka.kubectl(
        "-n", _NAMESPACE, "delete", "--wait=false", "kafkauser/booking-engine", "kafkatopic/bookings", _CLUSTER
    )

    for kind in ("kafkausers", "kafkatopics", "kafkaclusters"):
        kafka.wait("-n", _NAMESPACE, kind, "--all", "--for=delete", timeout=_PATIENCE)
    kinds = "statefulsets,pods,persistentvolumeclaims,services,secrets,configmaps"
    kafka.comes_to([], lambda: _left(kafka, kinds), timeout=_PATIENCE)


def _left(cluster: RealCluster, kinds: str) -> list[str]:
    found = cluster.kubectl("-n", _NAMESPACE, "get", kinds, "-l", "allotment.dev/kind", "-o", "json").stdout
    kept = {"Tenant"}
    return [
        f"{each['kind']}/{each['metadata']['name']}"
        for each in json.loads(found)["items"]
        if each["metadata"]["labels"]["allotment.dev/kind"] not in kept
    ]
