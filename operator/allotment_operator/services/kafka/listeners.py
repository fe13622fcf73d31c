"""Ports of a Kafka node, and how each is spoken to.

Two listeners are the nodes' own: CONTROLLER for the quorum and REPLICATION for brokers among themselves and for the
operator; both need a certificate of the cluster's authority on either side. All others are the owner's, for clients.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from allotment_api.kafka import Listener
from allotment_operator.services.kafka.names import (
    ADMIN,
    CONTROLLER_PORT,
    NODE_COMMON_NAME,
    NODE_ORGANIZATION,
    OPERATOR_COMMON_NAME,
    OPERATOR_ORGANIZATION,
    REPLICATION_PORT,
    USER_ORGANIZATION,
    listener_name,
)

CONTROLLER: Final = "CONTROLLER"
REPLICATION: Final = "REPLICATION"
SCRAM: Final = "SCRAM-SHA-512"


def protocol(listener: Listener) -> str:
    """Return Kafka's name of the protocol on a client listener."""
    return "SASL_SSL" if listener.authentication.type == "scram-sha-512" else "SSL"


@dataclass(frozen=True, slots=True)
class Ports:
    """What the nodes of one pool listen on.

    Attributes:
        broker: whether they hold data, and so serve clients.
        controller: whether they hold the metadata.
        clients: the owner's listeners.
    """

    broker: bool
    controller: bool
    clients: tuple[Listener, ...]

    @property
    def by_name(self) -> dict[str, int]:
        """Return listener → port of what every node of the pool opens inside the Kubernetes cluster."""
        own = {CONTROLLER: CONTROLLER_PORT} if self.controller else {}
        if self.broker:
            own |= {REPLICATION: REPLICATION_PORT}
            own |= {listener_name(each.name): each.port for each in self.clients if each.type == "internal"}
        return own

    def settings(self, host: str) -> dict[str, str]:
        """Return the listeners' broker settings; ``host`` is the node's name, or what stands for it."""
        bound = ",".join(f"{name}://:{port}" for name, port in self.by_name.items())
        told = ",".join(f"{name}://{host}:{port}" for name, port in self.by_name.items())
        protocols = {CONTROLLER: "SSL", REPLICATION: "SSL"} | {
            listener_name(each.name): protocol(each) for each in self.clients
        }
        settings = {
            "listeners": bound,
            "advertised.listeners": told,
            "listener.security.protocol.map": ",".join(f"{name}:{spoken}" for name, spoken in protocols.items()),
            "controller.listener.names": CONTROLLER,
            **_own(CONTROLLER),
            **_own(REPLICATION),
        }
        if self.broker:
            settings["inter.broker.listener.name"] = REPLICATION
            for each in self.clients:
                settings |= _client(each)
        return settings


def has_passwords(listeners: Iterable[Listener]) -> bool:
    """Say whether clients of any listener prove who they are by a password."""
    return any(each.authentication.type == "scram-sha-512" for each in listeners)


def super_users(further: Iterable[str]) -> str:
    """Return Kafka's list of those who may do everything: the nodes, the operator, the administrator, and these."""
    principals = [
        f"CN={NODE_COMMON_NAME},O={NODE_ORGANIZATION}",
        f"CN={OPERATOR_COMMON_NAME},O={OPERATOR_ORGANIZATION}",
        ADMIN,
        *further,
    ]
    return ";".join(f"User:{principal}" for principal in principals)


def _own(name: str) -> Mapping[str, str]:
    return {f"listener.name.{name.lower()}.ssl.client.auth": "required"}


def _client(listener: Listener) -> Mapping[str, str]:
    prefix = f"listener.name.{listener_name(listener.name).lower()}."
    if listener.authentication.type == "scram-sha-512":
        module = "org.apache.kafka.common.security.scram.ScramLoginModule"
        return {
            f"{prefix}ssl.client.auth": "none",
            f"{prefix}sasl.enabled.mechanisms": SCRAM,
            f"{prefix}{SCRAM.lower()}.sasl.jaas.config": f"{module} required;",
        }
    return {
        f"{prefix}ssl.client.auth": "required",
        # The name of a user's certificate is the user's name. Any other certificate keeps its full name, which no
        # rule of access can be about but super.users.
        f"{prefix}ssl.principal.mapping.rules": f"RULE:^CN=([^,]+),O={USER_ORGANIZATION}$/$1/,DEFAULT",
    }
