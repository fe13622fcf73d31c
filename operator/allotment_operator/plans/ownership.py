"""Whose an object is: the labels and owner references that every child carries.

Labels are how children are found again (one list call per kind) and how their events find their owner. Owner
references let Kubernetes' own garbage collector finish what a deleted operator could not. Both are set here only.

Anybody can write labels, so they only find: what is changed or deleted must also descend from the owner.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from allotment_api.labels import API_VERSION, GROUP, INSTANCE_LABEL, KIND_LABEL
from allotment_api.resource import Resource
from allotment_operator.plans.actions import Delete, Manifest, ObjectRef

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGER = "allotment"
INSTANCE_NAMESPACE_LABEL = f"{GROUP}/instance-namespace"
"""Set on objects outside the instance's namespace: its authority's Secret in the operator's own namespace."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The custom resource on whose behalf objects are made."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str

    @classmethod
    def of(cls, resource: Resource) -> "Owner":
        """Return the identity of a resource as read from the API server."""
        metadata, kind = resource.metadata, type(resource).definition.kind
        return cls(API_VERSION, kind, metadata.namespace or "", metadata.name, metadata.uid or "")

    @classmethod
    def read(cls, kind: str, manifest: Manifest) -> "Owner":
        """Return the identity of a resource that may not be readable as its kind's model."""
        metadata = manifest["metadata"]
        return cls(API_VERSION, kind, metadata.get("namespace", ""), metadata["name"], metadata["uid"])

    @property
    def selector(self) -> dict[str, str]:
        """Return the labels that find this owner's children."""
        return {MANAGED_BY_LABEL: MANAGER, KIND_LABEL: self.kind, INSTANCE_LABEL: self.name}

    @property
    def reference(self) -> dict[str, Any]:
        """Return the owner reference for a child in the owner's namespace."""
        return {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }

    def metadata(
        self, name: str, *, labels: Mapping[str, str] | None = None, annotations: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Return the metadata of a child in the owner's namespace."""
        return {
            "name": name,
            "namespace": self.namespace,
            "labels": {**self.selector, **(labels or {})},
            "ownerReferences": [self.reference],
            **({"annotations": dict(annotations)} if annotations else {}),
        }

    def foreign_metadata(self, namespace: str, name: str) -> dict[str, Any]:
        """Return the metadata of a child elsewhere: owner references do not cross namespaces, labels do."""
        return {
            "name": name,
            "namespace": namespace,
            "labels": {**self.selector, INSTANCE_NAMESPACE_LABEL: self.namespace},
        }


_CLAIM_OF_A_STATEFUL_SET: Final = re.compile(r"[a-z0-9-]+-\d+")
_CONTROLLERS: Final = frozenset({"StatefulSet", "Pod"})
"""Kinds of our own children that make pods in turn."""


def descends(manifest: Manifest, reference: Mapping[str, Any]) -> bool:
    """Say whether an object has an owner of this kind and name.

    The uid is left out: what a predecessor under the same name left behind is taken over, as its labels say, before the
    garbage collector takes it away.
    """
    return any(
        (each.get("apiVersion"), each.get("kind"), each.get("name"))
        == (reference["apiVersion"], reference["kind"], reference["name"])
        for each in manifest["metadata"].get("ownerReferences") or ()
    )


def strangers(owner: Owner, found: Mapping[ObjectRef, Manifest]) -> frozenset[ObjectRef]:
    """Return those of the objects found by an owner's labels that are not its children: somebody put the labels on.

    Children are what has the owner as its owner, the pods that its StatefulSets and pods make, and the claims that its
    StatefulSets make, which belong to nobody and are told by their names. In the operator's own namespace nobody
    else writes, and owner references do not reach there: labels are enough.
    """
    return frozenset(ref for ref, manifest in found.items() if not _is_child(owner, ref, manifest, found))


def _is_child(owner: Owner, ref: ObjectRef, manifest: Manifest, found: Mapping[ObjectRef, Manifest]) -> bool:
    if ref.namespace != owner.namespace or descends(manifest, owner.reference):
        return True
    if ref.kind == "PersistentVolumeClaim":
        return f"-{owner.name}-" in ref.name and _CLAIM_OF_A_STATEFUL_SET.fullmatch(ref.name) is not None
    if ref.kind != "Pod":
        return False
    for each in manifest["metadata"].get("ownerReferences") or ():
        maker = ObjectRef(each.get("apiVersion", ""), each.get("kind", ""), ref.namespace, each.get("name", ""))
        if maker.kind not in _CONTROLLERS or maker == ref:
            continue
        # A maker that is gone has left its pods to the garbage collector; they still wear its name.
        if descends(found[maker], owner.reference) if maker in found else maker.name.startswith(f"{owner.name}-"):
            return True
    return False


def prune(
    observed: Mapping[ObjectRef, Manifest], wanted: Iterable[ObjectRef], *, kinds: frozenset[str]
) -> list[Delete]:
    """Return deletions of the children of these kinds that the plan no longer wants.

    ``kinds`` is an allow-list, so that what others made under our labels (pods of a StatefulSet, claims with data)
    is never swept away.
    """
    keep = set(wanted)
    return [
        Delete(ref, manifest["metadata"].get("uid"))
        for ref, manifest in sorted(observed.items())
        if ref.kind in kinds and ref not in keep and not manifest["metadata"].get("deletionTimestamp")
    ]
