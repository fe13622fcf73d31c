"""The port to a Kafka cluster's administration: what the operator asks brokers, in its own terms.

Whoever implements it must make every change idempotent, and must raise `ServiceUnavailableError` where no broker
answers and `ServiceRefusedError` where one says no. Passwords pass through and are kept nowhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Login:
    """How to reach a cluster, and as whom: by a client certificate, or by name and password.

    Attributes:
        bootstrap: ``host:port`` of the Service in front of the brokers. Never what a Secret of the tenant's says: the
            operator would knock at any door that is written there.
        authority: the authority of the brokers' certificates, PEM.
        certificate: key and certificate in one, PEM; empty for a login by password.
    """

    bootstrap: str
    authority: str
    certificate: str = field(default="", repr=False)
    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ClusterState:
    """A cluster as its brokers see it.

    Attributes:
        brokers: ids of the brokers that serve.
        controller: id of the quorum's leader; None where there is none.
        voters: voters of the quorum → milliseconds by which they lag behind; None where that is not known.
        under_replicated: partitions that lack copies, as ``topic-partition``.
        offline: partitions without a leader.
    """

    brokers: tuple[int, ...]
    controller: int | None
    voters: tuple[int, ...]
    under_replicated: tuple[str, ...] = ()
    offline: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is; ``config`` holds only what was set on the topic itself."""

    partitions: int
    replicas: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """One rule of access, in Kafka's own words in lower case: types, pattern types and operations."""

    resource: str
    name: str
    pattern: str
    operation: str
    permission: str
    host: str


@dataclass(frozen=True, slots=True)
class UserState:
    """A user as the cluster knows it.

    Attributes:
        password: whether it has a SCRAM-SHA-512 credential.
        rules: every rule of access that names it.
        quotas: its quotas by Kafka's names; None where they could not be asked for.
    """

    password: bool
    rules: frozenset[Rule]
    quotas: Mapping[str, float]


class KafkaAdmin(Protocol):
    """Administration of any cluster, given a login."""

    async def cluster(self, login: Login) -> ClusterState:
        """Describe brokers, quorum and partitions."""

    async def check(self, login: Login) -> None:
        """Log in as any client would.

        Raises:
            ServiceRefusedError: the login is not accepted.
        """

    async def topic(self, login: Login, name: str) -> TopicState | None:
        """Describe a topic; None where there is none."""

    async def make_topic(
        self, login: Login, name: str, *, partitions: int, replicas: int, config: Mapping[str, str]
    ) -> None:
        """Make a topic; one that is there already stays as it is."""

    async def grow_topic(self, login: Login, name: str, *, partitions: int) -> None:
        """Give a topic this many partitions."""

    async def configure_topic(self, login: Login, name: str, *, config: Mapping[str, str | None]) -> None:
        """Set these of a topic's settings; None takes one back to its default."""

    async def drop_topic(self, login: Login, name: str) -> None:
        """Delete a topic with its data; none there is as good."""

    async def user(self, login: Login, name: str) -> UserState:
        """Describe a user."""

    async def set_password(self, login: Login, name: str, password: str | None) -> None:
        """Give a user this password for SCRAM-SHA-512; None takes it away."""

    async def allow(self, login: Login, name: str, *, add: frozenset[Rule], remove: frozenset[Rule]) -> None:
        """Add and remove rules of access of a user."""

    async def set_quotas(self, login: Login, name: str, quotas: Mapping[str, float | None]) -> None:
        """Set these of a user's quotas; None takes one away."""
