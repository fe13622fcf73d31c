"""The operator's rendering run by a real Cassandra, and the operator's CQL client met by a real node."""

import asyncio
import contextlib
import ssl
from dataclasses import replace

import pytest

from allotment_operator.kind import ServiceRefusedError, ServiceUnavailableError
from allotment_operator.services.cassandra.admin import CqlAdmin, RingState
from allotment_operator.services.cassandra.cql import CqlLogin, connected
from allotment_operator.services.cassandra.health import superuser_login
from allotment_operator.services.cassandra.names import Names
from builders.cassandra_node import CLIENT_HOST, CLUSTER, NAMESPACE, Node, cluster_kind
from builders.java_services import free_ports
from builders.services import HOME, World

pytestmark = pytest.mark.timeout(1800)  # a cold start of the JVM on a busy machine


class NearAdmin(CqlAdmin):
    """The port, with a port of this machine standing for the cluster's own address."""

    def __init__(self, port: int) -> None:
        super().__init__(timeout=120)
        self._port = port

    async def ring(self, login: CqlLogin) -> RingState:
        return await super().ring(self.near(login))

    async def make_superuser(self, default: CqlLogin, superuser: CqlLogin, *, datacenter: str, copies: int) -> None:
        await super().make_superuser(self.near(default), self.near(superuser), datacenter=datacenter, copies=copies)

    async def drop_default_superuser(self, superuser: CqlLogin) -> None:
        await super().drop_default_superuser(self.near(superuser))

    def near(self, login: CqlLogin) -> CqlLogin:
        return replace(login, host="localhost", port=self._port) if login.host == CLIENT_HOST else login


@pytest.fixture
async def secured(node: Node) -> World:
    """The cluster after the rounds that replace the default superuser."""
    world = node.world
    world.kind = cluster_kind(NearAdmin(node.cql))
    async with asyncio.timeout(600):
        while True:
            try:
                outcome = await world.settle(rounds=1)
            except (AssertionError, ServiceUnavailableError, ServiceRefusedError):
                # Cassandra makes its own superuser only some time after it serves; the operator would come back, too.
                await asyncio.sleep(0.5)
                continue
            if outcome.requeue_after is None:
                break
    return world


def login_of(world: World, node: Node) -> CqlLogin:
    login = superuser_login(Names(NAMESPACE, CLUSTER), world.observed, HOME)
    assert login is not None
    return NearAdmin(node.cql).near(login)


async def test_the_default_superuser_is_replaced_before_the_cluster_is_ready(secured: World, node: Node) -> None:
    ready = secured.condition("Ready")
    assert (ready["status"], ready["message"]) == (
        "True",
        "1 of 1 nodes have joined the ring and agree on one schema.",
    )
    default = replace(login_of(secured, node), username="cassandra", password="cassandra")
    with pytest.raises(ServiceRefusedError):
        await still_let_in(default)


async def still_let_in(login: CqlLogin) -> None:
    """Log in again and again: a node may remember a login for two seconds."""
    async with asyncio.timeout(120):
        while True:
            await CqlAdmin(timeout=120).ring(login)


async def test_data_can_be_written_and_read_over_tls(secured: World, node: Node) -> None:
    async with connected(login_of(secured, node), timeout=120) as session:
        await session.query(
            "CREATE KEYSPACE IF NOT EXISTS bank WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1}"
        )
        await session.query("CREATE TABLE IF NOT EXISTS bank.account (id text PRIMARY KEY, owner text)")
        await session.query("INSERT INTO bank.account (id, owner) VALUES ('1', 'Ada')")

        assert await session.query("SELECT id, owner FROM bank.account") == [("1", "Ada")]


async def test_the_ring_is_as_the_spec_names_it(secured: World, node: Node) -> None:
    ring = await CqlAdmin(timeout=120).ring(login_of(secured, node))

    assert [(each.datacenter, each.rack, each.release) for each in ring.nodes] == [("dc1", "r1", "5.0.5")]
    async with connected(login_of(secured, node), timeout=120) as session:
        assert await session.query("SELECT cluster_name FROM system.local") == [("ledger",)]


async def test_a_wrong_statement_is_refused_in_cassandras_words(secured: World, node: Node) -> None:
    async with connected(login_of(secured, node), timeout=120) as session:
        with pytest.raises(ServiceRefusedError, match="no viable alternative"):
            await session.query("SELEKT 1")


@pytest.mark.parametrize(("username", "password"), [("admin", "wrong"), ("nobody", "nobody")])
async def test_a_wrong_login_is_refused(secured: World, node: Node, username: str, password: str) -> None:
    with pytest.raises(ServiceRefusedError, match="Cassandra refused"):
        await CqlAdmin(timeout=120).ring(replace(login_of(secured, node), username=username, password=password))


async def test_a_server_of_another_authority_is_not_trusted(secured: World, node: Node) -> None:
    other = World(cluster_kind(), secured.manifest, now=secured.now)
    for _ in range(2):
        other.round()
    stranger = superuser_login(Names(NAMESPACE, CLUSTER), other.observed, HOME)
    assert stranger is not None
    with pytest.raises(ServiceRefusedError, match="not who it should be"):
        await CqlAdmin(timeout=120).ring(replace(login_of(secured, node), authority=stranger.authority))


async def test_nobody_there_is_told_apart_from_no(secured: World, node: Node) -> None:
    (port,) = free_ports(1)
    with pytest.raises(ServiceUnavailableError):
        await CqlAdmin(timeout=2).ring(replace(login_of(secured, node), port=port))


async def test_a_client_without_tls_gets_nothing(node: Node) -> None:
    reader, writer = await asyncio.open_connection("localhost", node.cql)
    writer.write(b"\x04\x00\x00\x00\x05\x00\x00\x00\x00")  # OPTIONS, in the clear
    try:
        assert not (await reader.read(100)).startswith(b"\x84")
    except (ConnectionError, ssl.SSLError):
        return
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_nodetool_answers_by_the_command_that_drains(node: Node) -> None:
    main = node.pod["containers"][0]
    drain = main["lifecycle"]["preStop"]["exec"]["command"]
    process = node.container.start({**main, "command": [*drain[:-1], "status"]}, "x", log=node.log)

    assert await asyncio.to_thread(process.wait, 300) == 0
    assert "UN  127.0.0.1" in node.log.read_text()
