"""Volume claims as admission and the volume controllers would leave them.

Live, a claim without a class gets the default one, a generic ephemeral volume gets a claim, and a claim whose class
does not wait for a pod is bound at once. Offline nobody does that: so ephemeral claims are made here, every class binds
with the pod that asks, and a claim that names a volume has it where the two suit.

It must never help what exists already, by its uid: such a claim is bound or waits for the controllers, and so do its
pods here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from allotment_kube import storage
from allotment_scheduler.core.filters.volumes import asks_in_vain
from allotment_scheduler.core.objects.attachments import Claim, StorageClass, Volume
from allotment_scheduler.manifests.documents import Document
from allotment_scheduler.translation import storage as translation

_DEFAULT_ANNOTATIONS: Final = (
    "storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class",
)  # fmt: skip
CLASSLESS: Final = StorageClass("", waits=True, provisions=False)
"""What binds claims without a class to volumes without one."""


@dataclass(slots=True)
class VolumeControllers:
    """The controllers of volumes: what they would do, by the classes and volumes that there are."""

    volumes: dict[str, Volume] = field(default_factory=dict)
    default: storage.StorageClass | None = None
    at_once: set[str] = field(default_factory=set)
    """Classes that do not wait for a pod."""

    def note_class(self, found: storage.StorageClass) -> None:
        """Know a class: of several default ones the youngest counts, then the first by name, as for admission."""
        if found.volume_binding_mode != "WaitForFirstConsumer":
            self.at_once.add(found.metadata.name)
        if not any(found.metadata.annotations.get(each) == "true" for each in _DEFAULT_ANNOTATIONS):
            return
        known = self.default
        if known is None or _created(known) < _created(found) or (
            _created(known) == _created(found) and found.metadata.name < known.metadata.name
        ):  # fmt: skip
            self.default = found

    def claim(self, found: storage.PersistentVolumeClaim) -> Claim:
        """A claim with its class, bound to the volume that it names where nothing is in the way."""
        claim = translation.claim(found)
        if claim.volume is not None:
            return claim
        if claim.uid:
            on_its_way = claim.awaits is None and claim.storage_class in self.at_once
            return replace(claim, awaits="") if on_its_way else claim  # of whichever name
        return self._bound(self._classed(claim))

    def _classed(self, claim: Claim) -> Claim:
        if claim.storage_class is None and self.default is not None:
            return replace(claim, storage_class=self.default.metadata.name)
        return replace(claim, storage_class=None) if claim.storage_class == "" else claim  # as volumes have it

    def _bound(self, claim: Claim) -> Claim:
        """The first claim that names a volume has it, and the others ask in vain."""
        volume = self.volumes.get(claim.awaits or "")
        if volume is None or asks_in_vain(claim, self.volumes) is not None:
            return claim
        self.volumes[volume.name] = replace(volume, claimed_by=(claim.namespace, claim.name))
        return replace(claim, volume=volume.name, awaits=None)


def binding_with_pods(found: storage.StorageClass) -> StorageClass:
    """A class whose claims are bound once a pod asks for them."""
    return replace(translation.storage_class(found), waits=True)


def ephemeral_claims(pod: Document) -> Iterator[Document]:
    """The claims that a controller makes for a pod's generic ephemeral volumes."""
    listed = pod.spec.get("volumes") if not pod.metadata.get("uid") else None
    owner = {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.metadata.get("uid") or "",
             "controller": True}  # fmt: skip
    for volume in listed if isinstance(listed, list | tuple) else ():
        name, template = (volume.get("name"), _template(volume)) if isinstance(volume, Mapping) else ("", None)
        if template is not None:
            content = {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": template.get("spec"),
                "metadata": {"name": f"{pod.name}-{name}", "namespace": pod.namespace, "ownerReferences": [owner]},
            }  # fmt: skip
            yield replace(pod, content=content, maker="")


def _template(volume: Mapping[str, Any]) -> Mapping[str, Any] | None:
    ephemeral = volume.get("ephemeral")
    found = ephemeral.get("volumeClaimTemplate") if isinstance(ephemeral, Mapping) else None
    return found if isinstance(found, Mapping) else None


def _created(found: storage.StorageClass) -> str:
    return found.metadata.creation_timestamp or ""
