"""The Secret that a client needs to connect, as the Service Binding specification has it (servicebinding.io, 1.1).

Well-known keys are ``type``, ``provider``, ``host``, ``port``, ``username``, ``password`` and ``certificates``; a
service adds its own. A workload mounts the Secret as it is.
"""

from collections.abc import Mapping
from typing import Final

from allotment_api.service import Binding
from allotment_operator.plans.actions import EnsureCredential, Manifest, ObjectRef

PROVIDER: Final = "allotment"


def binding_fields(
    type_: str, *, host: str, port: int, certificates: str, further: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the keys that are known beforehand.

    Args:
        type_: what the service is, such as kafka.
        host: name that clients connect to first.
        port: its port.
        certificates: the authority that the service's certificates are signed by, PEM.
        further: the service's own keys.
    """
    return {
        "type": type_,
        "provider": PROVIDER,
        "host": host,
        "port": str(port),
        "certificates": certificates,
        **(further or {}),
    }


def secret_type(type_: str) -> str:
    """Return the type of a binding Secret."""
    return f"servicebinding.io/{type_}"


def password_binding(
    ref: ObjectRef, metadata: Manifest, fields: Mapping[str, str], *, username: str
) -> EnsureCredential:
    """Return what makes a binding Secret whose password is generated once and kept."""
    return EnsureCredential(
        ref,
        metadata,
        generated=("password",),
        fixed={**fields, "username": username},
        secret_type=secret_type(fields["type"]),
    )


def binding_status(name: str) -> dict[str, object]:
    """Return ``status.binding``."""
    return Binding(name=name).manifest()
