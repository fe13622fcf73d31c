"""The port to a Cassandra cluster's administration, and its adapter over CQL.

Whoever implements it must make every change idempotent, and raise `ServiceUnavailableError` where nobody answers and
`ServiceRefusedError` where somebody says no. Passwords pass through and are kept nowhere.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from allotment_operator.kind import ServiceUnavailableError
from allotment_operator.services.cassandra.cql import CqlConnection, CqlLogin, connected

DEFAULT_SUPERUSER: Final = "cassandra"
"""The role that Cassandra makes for itself, with its name for a password."""

TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True)
class NodeState:
    """One node as another sees it."""

    datacenter: str
    rack: str
    schema: str
    release: str


@dataclass(frozen=True, slots=True)
class RingState:
    """The ring as one of its nodes sees it.

    Attributes:
        nodes: every node that has joined, up or not.
        default_superuser: whether the role that everybody knows the password of is still there.
    """

    nodes: tuple[NodeState, ...]
    default_superuser: bool

    @property
    def schemas(self) -> int:
        """Versions of the schema that nodes hold; more than one means that they do not agree yet."""
        return len({node.schema for node in self.nodes})


class CassandraAdmin(Protocol):
    """Administration of any cluster, given a login."""

    async def ring(self, login: CqlLogin) -> RingState:
        """Describe the ring, logged in as a superuser."""

    async def make_superuser(self, default: CqlLogin, superuser: CqlLogin, *, datacenter: str, copies: int) -> None:
        """Make a superuser with this password, by means of the default one, and keep so many copies of the roles."""

    async def drop_default_superuser(self, superuser: CqlLogin) -> None:
        """Drop the role that everybody knows the password of."""


class CqlAdmin:
    """The port over Cassandra's native protocol."""

    def __init__(self, *, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout

    async def ring(self, login: CqlLogin) -> RingState:
        """Describe the ring, logged in as a superuser."""
        async with connected(login, timeout=self._timeout) as connection:
            nodes = [await _nodes(connection, table) for table in ("local", "peers_v2")]
            default = await connection.query(
                f"SELECT role FROM system_auth.roles WHERE role = '{DEFAULT_SUPERUSER}'"  # noqa: S608 - a constant
            )
        return RingState((*nodes[0], *nodes[1]), default_superuser=bool(default))

    async def make_superuser(self, default: CqlLogin, superuser: CqlLogin, *, datacenter: str, copies: int) -> None:
        """Make a superuser with this password, by means of the default one, and keep so many copies of the roles.

        The copies come first: the role is then written to all of them.
        """
        role, password = superuser.username, superuser.password
        options = f"PASSWORD = '{password}' AND SUPERUSER = true AND LOGIN = true"
        async with connected(default, timeout=self._timeout) as connection:
            await connection.query(
                "ALTER KEYSPACE system_auth WITH replication = "
                f"{{'class': 'NetworkTopologyStrategy', '{datacenter}': {copies}}}"
            )
            await connection.query(f"CREATE ROLE IF NOT EXISTS {role} WITH {options}")
            await connection.query(f"ALTER ROLE {role} WITH {options}")

    async def drop_default_superuser(self, superuser: CqlLogin) -> None:
        """Drop the role that everybody knows the password of."""
        async with connected(superuser, timeout=self._timeout) as connection:
            await connection.query(f"DROP ROLE IF EXISTS {DEFAULT_SUPERUSER}")


async def _nodes(connection: CqlConnection, table: str) -> list[NodeState]:
    columns = ("data_center", "rack", "schema_version", "release_version")
    rows = await connection.query(f"SELECT {', '.join(columns)} FROM system.{table}")  # noqa: S608 - constants
    if any(len(row) != len(columns) for row in rows):
        raise ServiceUnavailableError(f"system.{table} was answered with other columns than were asked for")
    return [NodeState(*(value or "" for value in row)) for row in rows]
