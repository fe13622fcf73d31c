"""Kinds: which are read, which make pods in ways that are not imitated, and which start nothing.

A kind is told by its API group, too: others have a Job or a PodGroup of their own. A group that is not named is the
usual one.
"""

from collections.abc import Mapping
from typing import Final

from allotment_api.labels import API_VERSION
from allotment_scheduler.manifests.documents import Document
from allotment_scheduler.manifests.faults import ManifestError

_OURS: Final = API_VERSION.partition("/")[0]
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "Node": ("",), "Namespace": ("",), "Pod": ("",), "PersistentVolumeClaim": ("",), "PersistentVolume": ("",),
    "NodePool": (_OURS,), "Tenant": (_OURS,), "PodGroup": (_OURS, "scheduling.k8s.io"), "Job": ("batch",),
    "PodDisruptionBudget": ("policy",), "PriorityClass": ("scheduling.k8s.io",),
    "StorageClass": ("storage.k8s.io",), "CSINode": ("storage.k8s.io",), "ResourceSlice": ("resource.k8s.io",),
    "DeviceClass": ("resource.k8s.io",), "ResourceClaim": ("resource.k8s.io",),
    "ResourceClaimTemplate": ("resource.k8s.io",), "Deployment": ("apps",), "ReplicaSet": ("apps",),
    "StatefulSet": ("apps",), "ReplicationController": ("",),
}  # fmt: skip
"""The kinds that are read, with their API groups."""
_MAKERS: Final[Mapping[tuple[str, str], str]] = {
    ("apps", "DaemonSet"): "a DaemonSet makes one pod for each node",
    ("batch", "CronJob"): "a CronJob makes its pods by the clock",
    **{
        (_OURS, kind): "the operator makes its pods"
        for kind in ("KafkaCluster", "CassandraCluster", "SparkApplication", "SparkCluster", "JenkinsAgentPool")
    },
}
"""Kinds that make pods in ways that are not imitated, and how."""
_INERT: Final = frozenset(
    {
        "ConfigMap", "Secret", "Service", "ServiceAccount", "Endpoints", "EndpointSlice", "Event", "Ingress",
        "NetworkPolicy", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "ResourceQuota", "LimitRange",
        "HorizontalPodAutoscaler", "CustomResourceDefinition", "Lease", "TenantPolicy", "KafkaTopic", "KafkaUser",
        "CSIDriver", "RuntimeClass", "ControllerRevision", "VolumeAttachment",
    }
)  # fmt: skip
"""Kinds that are not read because they start nothing and give no room."""
_INERT_ELSEWHERE: Final = frozenset({("serving.knative.dev", "Service")})
"""Kinds of other groups that share a name with those, and make pods."""

Identity = tuple[str, str, str, str]
"""API group, kind, namespace and name of an object."""


def identity(document: Document) -> Identity:
    """Which object of the cluster a document is about."""
    group = document.group
    if group is None:
        group = GROUPS.get(document.kind, ("",))[0]
    return (group, document.kind, str(document.metadata.get("namespace") or "default"), document.name)


def is_read(document: Document) -> bool:
    """Whether the kind is one of ours to read."""
    groups = GROUPS.get(document.kind, ())
    return bool(groups) and (document.group is None or document.group in groups)


def how_it_makes_pods(document: Document) -> str | None:
    """In which way, that is not imitated, an object makes pods; None if it makes none, or is read."""
    return None if is_read(document) else _MAKERS.get((identity(document)[0] or _OURS, document.kind))


def refuse_unforeseen(document: Document) -> None:
    """Refuse what would be left out, so that nobody is told that it starts.

    Raises:
        ManifestError: it makes pods in a way that is not imitated, or nobody knows what it is.
    """
    inert = document.kind in _INERT and (document.group, document.kind) not in _INERT_ELSEWHERE
    if is_read(document) or inert:
        return
    how = how_it_makes_pods(document)
    if how is not None:
        raise ManifestError(f"{document.prefix}: {how}, which cannot be foreseen here: add the pods themselves")
    version = document.content.get("apiVersion")
    of = f"{document.kind} of {version}" if version else document.kind
    raise ManifestError(f"{document.prefix}: the kind {of} is not known: check its spelling, or leave it out")
