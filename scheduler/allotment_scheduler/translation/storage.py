"""Volumes: claims, the volumes behind them, and the classes that make new ones."""

from allotment_kube import storage as kube
from allotment_scheduler.core.attachments import Claim, StorageClass, Volume
from allotment_scheduler.core.selectors import NodeSelectorTerm, Requirement
from allotment_scheduler.translation.scalars import amount
from allotment_scheduler.translation.selectors import node_terms

SELECTED_NODE_ANNOTATION = "volume.kubernetes.io/selected-node"
"""Tells a provisioner where the first consumer of a claim will run."""


def claim(found: kube.PersistentVolumeClaim) -> Claim:
    """A claim for a volume.

    Raises:
        QuantityError: its request is no quantity.
    """
    metadata, spec = found.metadata, found.spec
    return Claim(
        namespace=metadata.namespace or "default",
        name=metadata.name,
        storage_class=spec.storage_class_name,
        volume=spec.volume_name or None,
        request=amount("storage", spec.resources.requests.get("storage", "0")),
        access_modes=spec.access_modes,
        selected_node=metadata.annotations.get(SELECTED_NODE_ANNOTATION),
    )


def volume(found: kube.PersistentVolume) -> Volume:
    """A volume.

    Raises:
        QuantityError: its capacity is no quantity.
    """
    spec = found.spec
    return Volume(
        name=found.metadata.name,
        storage_class=spec.storage_class_name or None,
        capacity=amount("storage", spec.capacity.get("storage", "0")),
        access_modes=spec.access_modes,
        claimed_by=(spec.claim_ref.namespace, spec.claim_ref.name) if spec.claim_ref else None,
        nodes=node_terms(spec.node_affinity.required) if spec.node_affinity else None,
        zones=tuple(sorted(found.metadata.labels.items())),
        driver=spec.csi.driver if spec.csi else None,
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
