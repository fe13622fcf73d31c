"""What clients connect with: the cluster's own binding and those of its users.

The cluster's binding is its administrator's, who may do everything; programs get a KafkaUser each. Where a listener
takes passwords the binding has one, else a client certificate.
"""

from collections.abc import Mapping
from typing import Any

from allotment_api.kafka import KafkaClusterSpec, Listener
from allotment_operator.plans.actions import EnsureCertificate, EnsureCredential, Manifest, ObjectRef
from allotment_operator.plans.binding import binding_fields, password_binding, secret_type
from allotment_operator.plans.ownership import Owner
from allotment_operator.services.kafka.listeners import SCRAM, has_passwords, protocol
from allotment_operator.services.kafka.names import ADMIN, USER_ORGANIZATION, Names
from allotment_operator.services.kafka.tls import YEAR

TYPE = "kafka"


def preferred(listeners: tuple[Listener, ...], authentication: str) -> Listener | None:
    """Return the listener that a client in the Kubernetes cluster uses: an internal one if there is one."""
    fitting = [each for each in listeners if each.authentication.type == authentication]
    return next((each for each in fitting if each.type == "internal"), fitting[0] if fitting else None)


def address(names: Names, listener: Listener) -> str:
    """Return where a client in the Kubernetes cluster connects first, as ``host:port``."""
    return f"{names.entrance_host}:{listener.port}"


def connection(names: Names, listener: Listener, *, certificates: str) -> dict[str, str]:
    """Return what a client must know of a listener, besides who it is itself."""
    scram = {"sasl-mechanism": SCRAM} if protocol(listener) == "SASL_SSL" else {}
    further = {
        "bootstrap-servers": address(names, listener),
        "security-protocol": protocol(listener),
        **scram,
    }
    host = names.entrance_host
    return binding_fields(TYPE, host=host, port=listener.port, certificates=certificates, further=further)


def administrator(
    owner: Owner, names: Names, spec: KafkaClusterSpec, *, certificates: str, operator_namespace: str
) -> EnsureCredential | EnsureCertificate:
    """Return the binding of the cluster's administrator."""
    ref, metadata = names.secret(names.binding), owner.metadata(names.binding)
    if has_passwords(spec.listeners):
        listener = preferred(spec.listeners, "scram-sha-512")
        assert listener is not None, "some listener takes passwords"  # noqa: S101 - narrows the type
        fields = connection(names, listener, certificates=certificates)
        return password_binding(ref, metadata, fields, username=ADMIN)
    fields = connection(names, spec.listeners[0], certificates=certificates)
    return certificate_binding(ref, metadata, names.authority(operator_namespace), fields, username=ADMIN)


def certificate_binding(
    ref: ObjectRef, metadata: Manifest, authority: ObjectRef, fields: Mapping[str, str], *, username: str
) -> EnsureCertificate:
    """Return the binding of a user with a client certificate."""
    return EnsureCertificate(
        ref,
        metadata,
        authority,
        common_name=username,
        organization=USER_ORGANIZATION,
        usages=("client",),
        days=YEAR.days,
        fixed={**fields, "username": username},
        secret_type=secret_type(TYPE),
    )


def endpoints(names: Names, spec: KafkaClusterSpec, outside: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return ``status.endpoints``.

    Args:
        names: of the cluster's objects.
        spec: of the cluster.
        outside: by listener, the known addresses of those reached from outside.
    """
    return [
        {
            "name": each.name,
            "address": address(names, each) if each.type == "internal" else outside[each.name],
            "protocol": protocol(each),
        }
        for each in spec.listeners
        if each.type == "internal" or outside.get(each.name)
    ]
