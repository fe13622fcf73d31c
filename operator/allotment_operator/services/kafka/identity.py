"""Who a Kafka cluster and its nodes are: ids that disks carry, chosen once and never again.

How it thinks: ids follow from the custom resource's uid, so a crash between choosing and writing them down chooses the
same. They are written on the volume claims' templates, which Kubernetes never lets change, and so on every claim: a
cluster made again under the same name takes over retained volumes with their ids, whatever its own uid is.

The first controllers are recorded with them: they format their disks as the founding voters of the quorum; any later
controller joins it (KIP-853).

Invariants: an id never begins with ``-``, which Kafka's tools would take for an option (KAFKA-15754).
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from allotment_operator.plans.actions import Manifest
from allotment_operator.plans.outcome import Observed

QUORUM_ANNOTATION: Final = "allotment.dev/kafka-quorum"
FIRST_NODE_ID_ANNOTATION: Final = "allotment.dev/kafka-first-node-id"


def kafka_uuid(*parts: object) -> str:
    """Return a UUID derived from the parts, in Kafka's spelling: 22 characters of URL-safe base64."""
    seed = "/".join(map(str, parts))
    for attempt in range(256):
        digest = bytearray(hashlib.sha256(f"{seed}/{attempt}".encode()).digest()[:16])
        digest[6] = digest[6] & 0x0F | 0x40  # version 4, variant 1: as Kafka's own random ones
        digest[8] = digest[8] & 0x3F | 0x80
        text = base64.urlsafe_b64encode(bytes(digest)).decode().rstrip("=")
        if not text.startswith("-"):
            return text
    raise AssertionError("256 hashes in a row began with the same character")


@dataclass(frozen=True, slots=True)
class Identity:
    """The cluster's id, and the nodes that founded its quorum."""

    cluster_id: str
    founders: tuple[int, ...]

    @classmethod
    def of(cls, observed: Observed, *, uid: str, controllers: Iterable[int]) -> "Identity":
        """Return the recorded identity; where there is none, that of a new cluster with these controllers."""
        return cls.recorded(observed) or cls(kafka_uuid(uid, "cluster"), tuple(sorted(controllers)))

    @classmethod
    def recorded(cls, observed: Observed) -> "Identity | None":
        """Return the identity that volume claims or their templates carry."""
        for annotations in _claim_annotations(observed):
            recorded = annotations.get(QUORUM_ANNOTATION)
            if recorded:
                content = json.loads(recorded)
                return cls(content["clusterId"], tuple(content["founders"]))
        return None

    def annotations(self, first_node_id: int) -> dict[str, str]:
        """Return what a pool's volume claims carry."""
        content = {"clusterId": self.cluster_id, "founders": list(self.founders)}
        return {QUORUM_ANNOTATION: json.dumps(content), FIRST_NODE_ID_ANNOTATION: str(first_node_id)}

    def directory_id(self, node_id: int) -> str:
        """Return the id of a founding controller's metadata directory."""
        return kafka_uuid(self.cluster_id, "directory", node_id)


def recorded_first_node_ids(observed: Observed, *, pool_label: str) -> dict[str, int]:
    """Return the first node id of every pool that has a StatefulSet or volumes, by the pool's name."""
    found: dict[str, int] = {}
    for kind in ("PersistentVolumeClaim", "StatefulSet"):
        for manifest in observed.of_kind(kind):
            pool = (manifest["metadata"].get("labels") or {}).get(pool_label)
            recorded = _annotations(manifest).get(FIRST_NODE_ID_ANNOTATION)
            if pool and recorded:
                found[pool] = int(recorded)
    return found


def _claim_annotations(observed: Observed) -> list[Mapping[str, str]]:
    return [_annotations(each) for kind in ("StatefulSet", "PersistentVolumeClaim") for each in observed.of_kind(kind)]


def _annotations(manifest: Manifest) -> Mapping[str, str]:
    """Return the annotations of a claim, or of a StatefulSet's first claim template."""
    if manifest["kind"] == "StatefulSet":
        templates = manifest["spec"].get("volumeClaimTemplates") or [{"metadata": {}}]
        manifest = templates[0]
    annotations: Mapping[str, str] = manifest["metadata"].get("annotations") or {}
    return annotations
