"""Bindings that come back: what a pod has become that was translated before and is bound now.

Of all events, a busy scheduler's own bindings are the most, and little of a pod changes by them: its node, its
conditions, and labels that the API server copies from the node (KEP-4742). The API server counts changes of a pod's
spec in `metadata.generation`, in which a binding is none (KEP-5067); so where the generation is the same, only what
stands outside the spec has to be looked at. That takes a fraction of a whole translation.

It must never guess: wherever more may have changed, there is no short way.
"""

from sys import intern

from msgspec.structs import replace

from allotment_api.labels import (
    CHECKPOINTED_AT_ANNOTATION,
    MAX_RUNTIME_ANNOTATION,
    POD_GROUP_LABEL,
    PREEMPTIBLE_LABEL,
)
from allotment_kube import pods as kube
from allotment_scheduler.core.objects.pods import PodSpec
from allotment_scheduler.translation.pods import shared_labels
from allotment_scheduler.translation.scalars import seconds


def bound_spec(known: PodSpec, pod: kube.Pod) -> PodSpec | None:
    """A pod as the core takes it, once it is bound; None where it must be translated as a whole.

    Args:
        known: what `pod_spec` made of an earlier version, of the same uid and generation.
        pod: as the API server has it now.
    """
    metadata, status = pod.metadata, pod.status
    if known.invalid:
        return None  # while it waited it counted for nothing
    if metadata.deletion_timestamp is not None or not pod.spec.node_name or pod.spec.resource_claims:
        return None
    if status.container_statuses or status.init_container_statuses or status.resources is not None:
        return None  # a kubelet has a say in what it counts
    annotations, controller = metadata.annotations, metadata.controller
    if CHECKPOINTED_AT_ANNOTATION in annotations or MAX_RUNTIME_ANNOTATION in annotations:
        return None
    if (controller.uid if controller else "") != known.owner:
        return None
    before = dict(known.labels)
    if any(metadata.labels.get(name) != before.get(name) for name in (POD_GROUP_LABEL, PREEMPTIBLE_LABEL)):
        return None
    return replace(
        known,
        labels=shared_labels(metadata.labels),
        node=intern(pod.spec.node_name),
        started=seconds(status.start_time) if status.start_time else None,
        nominated=status.nominated_node_name or None,
        deleting=False,
        gated=False,
    )
