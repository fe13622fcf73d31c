"""An object after an edit: what others than its author wrote on it stays, as `kubectl apply` leaves it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from allotment_scheduler.manifests.documents import Document

_BY_OTHERS: Final[Mapping[str, tuple[str, ...]]] = {
    "Pod": ("nodeName",), "PersistentVolumeClaim": ("volumeName",), "PersistentVolume": ("claimRef",),
}  # fmt: skip
"""Fields of the spec that others than the author write."""


def edited(old: Document, new: Document) -> Document:
    """The new document with the old one's status, age, labels and annotations; null takes one of these away."""
    kept = {name: old.metadata[name] for name in ("uid", "creationTimestamp") if old.metadata.get(name)}
    said = {name: value for name, value in new.metadata.items() if value is not None}
    for name in ("labels", "annotations"):
        before, now = old.metadata.get(name), new.metadata.get(name) or {}
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            said[name] = {key: value for key, value in {**before, **now}.items() if value is not None}
    content: dict[str, Any] = {**new.content, "metadata": {**kept, **said}}
    if (status := old.content.get("status")) and not content.get("status"):
        content["status"] = status
    by_others = {name: old.spec[name] for name in _BY_OTHERS.get(old.kind, ()) if old.spec.get(name)}
    if by_others and isinstance(new.content.get("spec"), Mapping):
        content["spec"] = {**by_others, **new.spec}
    return replace(new, content=content, edited=True)
