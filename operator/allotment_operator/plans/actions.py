"""What a plan may ask for: a closed set of actions on Kubernetes objects.

Each action is idempotent and says what should be true afterwards, not what to do: executing a plan twice, or half of
it before a crash and all of it after, ends in the same place.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Manifest: TypeAlias = Mapping[str, Any]
"""A Kubernetes object as plain data, with apiVersion, kind and metadata.name."""


@dataclass(frozen=True, slots=True, order=True)
class ObjectRef:
    """Which object: its type and name. ``namespace`` is empty for cluster-scoped kinds."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, manifest: Manifest) -> "ObjectRef":
        """Return the reference of a manifest.

        Raises:
            KeyError: apiVersion, kind or metadata.name is missing.
        """
        metadata = manifest["metadata"]
        return cls(manifest["apiVersion"], manifest["kind"], metadata.get("namespace", ""), metadata["name"])

    def __str__(self) -> str:
        """Return ``Kind namespace/name``, as messages and logs show it."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Apply:
    """The fields of this manifest hold; others are left to whoever set them (server-side apply, forced)."""

    manifest: Manifest

    @property
    def ref(self) -> ObjectRef:
        """Return which object is applied."""
        return ObjectRef.of(self.manifest)


@dataclass(frozen=True, slots=True)
class Delete:
    """The object is gone. With ``uid`` only that very object: one that was recreated under its name stays."""

    ref: ObjectRef
    uid: str | None = None


@dataclass(frozen=True, slots=True)
class EnsureCredential:
    """A Secret holds these keys; those it lacks are filled with new random passwords, those it has are kept.

    ``fixed`` are values known beforehand (user name, host): they are always brought up to date.
    """

    ref: ObjectRef
    metadata: Manifest
    generated: tuple[str, ...]
    fixed: Mapping[str, str] = field(default_factory=dict)
    length: int = 32
    secret_type: str = "Opaque"  # noqa: S105 - a Secret's type, not a secret


@dataclass(frozen=True, slots=True)
class EnsureAuthority:
    """A Secret holds a certificate authority (``ca.crt``, ``ca.key``), valid for ``days``; made once and kept."""

    ref: ObjectRef
    metadata: Manifest
    common_name: str
    days: int = 3650


@dataclass(frozen=True, slots=True)
class EnsureCertificate:
    """A Secret holds a certificate for these names, signed by the authority, with more than a third of its life left.

    Keys: ``tls.crt`` (leaf and chain), ``tls.key`` (PKCS#8), ``tls.pem`` (key and chain in one, as Kafka and Cassandra
    read it) and ``ca.crt``. It is issued anew when its names change, when its authority does, or when two thirds of
    its life are over.
    """

    ref: ObjectRef
    metadata: Manifest
    authority: ObjectRef
    common_name: str
    organization: str = ""
    dns_names: tuple[str, ...] = ()
    usages: tuple[Literal["server", "client"], ...] = ("server", "client")
    days: int = 365
    fixed: Mapping[str, str] = field(default_factory=dict)
    """Further keys of the Secret, known beforehand (user name, host): they are always brought up to date."""
    secret_type: str = "kubernetes.io/tls"  # noqa: S105 - a Secret's type, not a secret


@dataclass(frozen=True, slots=True)
class Invoke:
    """The service itself is told something, in its own protocol, by the kind's `perform`.

    Whoever performs it must make it idempotent: it is repeated after a crash that came between the call and the note
    of its success.

    Attributes:
        operation: what is to be true, such as ``create-topic``.
        subject: what it is about, such as the topic's name.
        arguments: whatever the operation needs besides; plain data.
    """

    operation: str
    subject: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


Action: TypeAlias = Apply | Delete | EnsureCredential | EnsureAuthority | EnsureCertificate | Invoke
