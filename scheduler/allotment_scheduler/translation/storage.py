"""Volumes: claims, the volumes behind them, and the classes that make new ones."""

from allotment_kube import storage as kube
from allotment_scheduler.core.objects.attachments import Claim, StorageClass, Volume
from allotment_scheduler.core.objects.selectors import NodeSelectorTerm, Requirement
from allotment_scheduler.translation.scalars import amount
from allotment_scheduler.translation.selectors import label_selector, node_terms

SELECTED_NODE_ANNOTATION = "volume.kubernetes.io/selected-node"
"""Tells a provisioner where the first consumer of a claim will run."""

BOUND_ANNOTATION = "pv.kubernetes.io/bind-completed"
"""Says that a claim is bound to the volume it names; without it the claim only asks for that volume."""

CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
"""The class of a claim or volume from before the field; it still comes first."""


def claim(found: kube.PersistentVolumeClaim) -> Claim:
    """A claim for a volume.

    Raises:
        QuantityError: its request is no quantity.
    """
    metadata, spec = found.metadata, found.spec
    bound = bool(spec.volume_name) and BOUND_ANNOTATION in metadata.annotations
    owner = metadata.controller
    return Claim(
        namespace=metadata.namespace or "default",
        name=metadata.name,
        storage_class=metadata.annotations.get(CLASS_ANNOTATION, spec.storage_class_name),
        volume=spec.volume_name if bound else None,
        awaits=None if bound else spec.volume_name or None,
        request=amount("storage", spec.resources.requests.get("storage", "0")),
        access_modes=spec.access_modes,
        selected_node=metadata.annotations.get(SELECTED_NODE_ANNOTATION),
        uid=metadata.uid,
        owner=owner.uid if owner else "",
        mode=spec.volume_mode or "Filesystem",
        selector=label_selector(spec.selector),
        lost=found.status.phase == "Lost",
        deleting=metadata.deletion_timestamp is not None,
        attributes=spec.volume_attributes_class_name or "",
    )


def volume(found: kube.PersistentVolume) -> Volume:
    """A volume.

    Raises:
        QuantityError: its capacity is no quantity.
    """
    spec = found.spec
    return Volume(
        name=found.metadata.name,
        storage_class=found.metadata.annotations.get(CLASS_ANNOTATION, spec.storage_class_name) or None,
        capacity=amount("storage", spec.capacity.get("storage", "0")),
        access_modes=spec.access_modes,
        claimed_by=(spec.claim_ref.namespace, spec.claim_ref.name) if spec.claim_ref else None,
        claimed_by_uid=spec.claim_ref.uid if spec.claim_ref else "",
        nodes=node_terms(spec.node_affinity.required) if spec.node_affinity else None,
        labels=tuple(sorted(found.metadata.labels.items())),
        driver=spec.csi.driver if spec.csi else None,
        handle=spec.csi.volume_handle if spec.csi else "",
        mode=spec.volume_mode or "Filesystem",
        available=found.status.phase in ("", "Available"),  # manifests by hand have no status
        deleting=found.metadata.deletion_timestamp is not None,
        attributes=spec.volume_attributes_class_name or "",
    )


def storage_class(found: kube.StorageClass) -> StorageClass:
    """A storage class."""
    return StorageClass(
        name=found.metadata.name,
        waits=found.volume_binding_mode == "WaitForFirstConsumer",
        provisions=found.provisioner != "kubernetes.io/no-provisioner",
        topologies=tuple(
            NodeSelectorTerm(tuple(Requirement(each.key, "In", each.values) for each in term.match_label_expressions))
            for term in found.allowed_topologies
        ),
        driver=found.provisioner,
    )
