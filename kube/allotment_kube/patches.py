"""Ways to change part of an object, each with its content type and its guard against lost updates.

Server-side apply is the rule: it states what we want and who we are, the server merges and reports conflicts. The other
patches serve where apply cannot: removing one list entry, changing an object that others own. Pass `resource_version`
(and `uid`) to make a patch optimistic: it then fails with `ConflictError` instead of writing over a change unseen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from .models import Object
from .transport import JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH


@dataclass(frozen=True, slots=True)
class MergePatch:
    """RFC 7386: maps merge, null deletes, lists are replaced whole."""

    body: Object
    resource_version: str = ""
    uid: str = ""
    content_type = MERGE_PATCH

    def encode(self) -> bytes:
        """The patch with its preconditions."""
        return _with_preconditions(self.body, self.resource_version, self.uid)


@dataclass(frozen=True, slots=True)
class StrategicMergePatch:
    """Kubernetes' own merge, which knows list keys; built-in kinds only."""

    body: Object
    resource_version: str = ""
    uid: str = ""
    content_type = STRATEGIC_MERGE_PATCH

    def encode(self) -> bytes:
        """The patch with its preconditions."""
        return _with_preconditions(self.body, self.resource_version, self.uid)


@dataclass(frozen=True, slots=True)
class JsonPatch:
    """RFC 6902: a list of operations; all of them or none are applied."""

    operations: Sequence[Object]
    resource_version: str = ""
    uid: str = ""
    content_type = JSON_PATCH

    def encode(self) -> bytes:
        """The operations, preceded by tests of the preconditions: whatever is stale fails first."""
        tests: list[dict[str, Any]] = []
        if self.uid:
            tests.append({"op": "test", "path": "/metadata/uid", "value": self.uid})
        if self.resource_version:
            tests.append({"op": "test", "path": "/metadata/resourceVersion", "value": self.resource_version})
        return msgspec.json.encode([*tests, *self.operations])


Patch = MergePatch | StrategicMergePatch | JsonPatch


def _with_preconditions(body: Object, resource_version: str, uid: str) -> bytes:
    if not resource_version and not uid:
        return msgspec.json.encode(body)
    metadata = dict(body.get("metadata") or {})
    if resource_version:
        metadata["resourceVersion"] = resource_version
    if uid:
        metadata["uid"] = uid
    return msgspec.json.encode({**body, "metadata": metadata})
