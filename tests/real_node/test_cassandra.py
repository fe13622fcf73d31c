"""The bank's Cassandra as one real node: ready by its own word, asked by an independent driver over TLS."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from builders import real_platform, service_clients
from builders.real_cluster import RealCluster

pytestmark = [pytest.mark.real_node, pytest.mark.soak]

_NAMESPACE = "payments"
_CLUSTER = "cassandracluster/accounts"
_PATIENCE = 600
"""Seconds for a cold start of Cassandra; on a machine with nothing else to do it takes some 60."""


def _small(manifest: dict[str, Any]) -> dict[str, Any]:
    """The same object, as one node that this machine can carry."""
    manifest["spec"] = {
        "size": 1,
        "racks": [{"name": "r1"}],
        "storage": {"size": "1Gi", "deletionPolicy": "Delete"},
        "resources": {"requests": {"cpu": "500m", "memory": "1536Mi"}},
    }
    return manifest


@pytest.fixture(scope="module")
def cassandra(platform: RealCluster) -> Iterator[RealCluster]:
    """The bank's CassandraCluster, Ready, and a pod of its tenant with the administrator's Secret."""
    [manifest] = [each for each in real_platform.bank("03-payments.yaml") if each["kind"] == "CassandraCluster"]
    platform.apply_once_admitted(_small(manifest))
    platform.wait("-n", _NAMESPACE, _CLUSTER, "--for=condition=Ready", timeout=_PATIENCE)
    recipe = service_clients.image(service_clients.CASSANDRA_CLIENT)
    platform.apply(service_clients.client_pod(_NAMESPACE, "teller", recipe=recipe, secret="accounts-cassandra-binding"))
    platform.wait("-n", _NAMESPACE, "pod/teller", "--for=condition=Ready")
    yield platform
    platform.kubectl("-n", _NAMESPACE, "delete", "pod/teller", _CLUSTER, "--wait=false")


def _ask(cluster: RealCluster, *statements: str) -> Any:
    return cluster.run_python(_NAMESPACE, "teller", service_clients.cassandra(*statements))


def test_an_independent_driver_writes_and_reads_also_after_a_restart(cassandra: RealCluster) -> None:
    key = f"k{uuid.uuid4().hex}"
    made = _ask(
        cassandra,
        "CREATE KEYSPACE IF NOT EXISTS bank WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1}",
        "CREATE TABLE IF NOT EXISTS bank.balance (account text PRIMARY KEY, cents bigint)",
        f"INSERT INTO bank.balance (account, cents) VALUES ('{key}', 4200)",
        f"SELECT account, cents FROM bank.balance WHERE account = '{key}'",
    )
    assert made == [[key, 4200]]

    cassandra.kubectl("-n", _NAMESPACE, "delete", "pod", "accounts-r1-0")
    cassandra.wait("-n", _NAMESPACE, "pod/accounts-r1-0", "--for=create")
    cassandra.wait("-n", _NAMESPACE, "pod/accounts-r1-0", "--for=condition=Ready", timeout=_PATIENCE)

    assert _ask(cassandra, f"SELECT cents FROM bank.balance WHERE account = '{key}'") == [[4200]]


def test_the_password_that_everybody_knows_lets_nobody_in(cassandra: RealCluster) -> None:
    program = service_clients.cassandra("SELECT release_version FROM system.local")
    known = program.replace('binding["username"], binding["password"]', '"cassandra", "cassandra"')

    command = ("-n", _NAMESPACE, "exec", "--stdin", "teller", "--", "python3", "-")
    done = cassandra.kubectl(*command, stdin=known, check=False)

    assert done.returncode != 0
    assert "AuthenticationFailed" in done.stderr
