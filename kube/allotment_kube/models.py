"""The ground that typed objects stand on: one base Struct, and object and list metadata.

Typed objects hold only the fields that some program reads; everything else in the JSON is skipped while decoding,
which is what makes a watch event cost microseconds and a retained pod kilobytes. They are read-only views: to write,
apply a dict (see `client`), never an object decoded here, or the unread fields would be lost.

Invariants: frozen, sequences are tuples, maps are plain dicts nobody mutates. `gc=False` holds because decoded
objects form trees without cycles, and it keeps the collector from walking a hundred thousand pods.
"""

from typing import Any

import msgspec

Object = dict[str, Any]
"""An untyped Kubernetes object as decoded JSON."""


class Model(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """Base of all typed objects: snake_case here, camelCase in JSON."""


class OwnerReference(Model, frozen=True):
    """Who an object belongs to."""

    kind: str
    name: str
    uid: str
    api_version: str = ""
    controller: bool = False


class ObjectMeta(Model, frozen=True):
    """Identity and lifecycle of an object. Timestamps are RFC 3339 strings as sent, to be parsed where needed."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()

    @property
    def controller(self) -> OwnerReference | None:
        """The owner that manages this object, such as a Job for its pods."""
        for owner in self.owner_references:
            if owner.controller:
                return owner
        return None

    def supersedes(self, other: "ObjectMeta") -> bool:
        """Whether this is a later version of the other's object.

        Versions are numbers that grow (KEP-5504); of others only equality is known, and the answer is no.
        """
        if self.uid != other.uid:
            return False
        first, second = self.resource_version, other.resource_version
        return first.isdecimal() and second.isdecimal() and int(first) > int(second)


class Resourced(Model, frozen=True):
    """What every typed object has; the least that a reflector needs."""

    metadata: ObjectMeta = ObjectMeta()


class Condition(Model, frozen=True):
    """A condition in an object's status. `reason` and `message` explain the last transition."""

    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class LabelRequirement(Model, frozen=True):
    """One expression of a label or node selector: operator is In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class LabelSelector(Model, frozen=True):
    """Matches objects by labels: all of both parts must hold; empty matches everything."""

    match_labels: dict[str, str] = msgspec.field(default_factory=dict)
    match_expressions: tuple[LabelRequirement, ...] = ()


class ListMeta(Model, frozen=True):
    """Where a list was read and how to go on with it."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")
    remaining_item_count: int | None = None
