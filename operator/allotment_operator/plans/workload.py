"""Pods that hold data, as StatefulSets: the skeleton that every service of several pods shares.

How it thinks: what differs between services is the container and its files; what must not differ is written here once:
the restricted security context, no service account token, placement by our scheduler, resources as the tenant asked
for them, and pods that are restarted only by the operator, one at a time (`rollout`), never by the StatefulSet itself.

Invariants: a pod passes the Pod Security profile `restricted` with a read-only root file system. The selector of a
StatefulSet never changes: it is made of names that cannot change.

A container needs writable folders as volumes; there is no other place to write to.
"""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from allotment_api.labels import COMPONENT_LABEL, SCHEDULER_NAME
from allotment_api.quantities import MEMORY
from allotment_api.service import Resources, ServiceSpec
from allotment_operator.plans.ownership import Owner

CONTENT_ANNOTATION: Final = "allotment.dev/content"
"""Fingerprint of everything that a pod must be restarted for: its containers, and the files that they have read.

Where a pod runs is not in it: a taint on a new node pool must not restart every service that may run there."""

SAME_CONTENT_ANNOTATION: Final = "allotment.dev/same-content"
"""On a StatefulSet: fingerprints, separated by spaces, of pods that differ by the spelling of their images only."""

CERTIFICATE_ENDS_ANNOTATION: Final = "allotment.dev/certificate-ends"
"""When a certificate runs out, in ISO 8601: on its Secret, and on the pods that have read it when they started."""

_DOCKER: Final = "docker.io"
_PLACEMENT_FIELDS: Final = frozenset({"affinity", "nodeSelector", "tolerations", "topologySpreadConstraints"})

CONTAINER_SECURITY: Final[Mapping[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pod_security(user: int) -> dict[str, Any]:
    """Return the security context of a pod whose processes run as this user and group, and own its volumes."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_resources(resources: Resources) -> dict[str, Any]:
    """Return a container's requests and limits: where memory has no limit, its request is the limit."""
    requests = {name: str(amount) for name, amount in sorted(resources.requests.items())}
    limits = {name: str(amount) for name, amount in sorted(resources.limits.items())}
    # Kubernetes refuses extended resources, huge pages among them, whose limit is not their request.
    for name, amount in requests.items():
        if name == MEMORY or "/" in name or name.startswith("hugepages-"):
            limits.setdefault(name, amount)
    return {"requests": requests, "limits": dict(sorted(limits.items()))}


def service_wide(spec: ServiceSpec) -> dict[str, Any]:
    """Return the fields of a pod's spec that every service's spec has: priority, and Secrets to pull images with."""
    secrets = [{"name": each} for each in spec.image_pull_secrets]
    return {
        **({"priorityClassName": spec.priority_class_name} if spec.priority_class_name else {}),
        **({"imagePullSecrets": secrets} if secrets else {}),
    }


def fingerprint(*content: object) -> str:
    """Return a short hash of plain data; equal content has an equal hash, in any order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def spellings(image: str) -> tuple[str, ...]:
    """Return every way to write the image: Docker's registry and its folder ``library`` are what is not written.

    Source: distribution/reference, ``ParseNormalizedNamed``.
    """
    first, slash, rest = image.partition("/")
    if slash and (first == "localhost" or any(sign in first for sign in ".:")):
        if first != _DOCKER:
            return (image,)
    else:
        rest = image
    short = rest.removeprefix("library/")
    paths = (short,) if "/" in short else (short, f"library/{short}")
    return (*paths, *(f"{_DOCKER}/{path}" for path in paths))


@dataclass(frozen=True, slots=True, kw_only=True)
class PodGroup:
    """Pods that are alike: one StatefulSet.

    Attributes:
        labels: what tells these pods from others of the instance; part of the selector, so never to change.
        pod_labels: further labels of the pods; they may change, at the price of a restart.
        content: fingerprint of the configuration and certificates that the pods read when they start, and of whatever
            else they must be restarted for.
        claims: templates of the pods' volume claims.
        certificate_ends: when the certificate in ``content`` runs out, as its Secret says; empty where there is none.
    """

    owner: Owner
    name: str
    component: str
    replicas: int
    service: str
    pod: Mapping[str, Any]
    content: str
    labels: Mapping[str, str] = field(default_factory=dict)
    pod_labels: Mapping[str, str] = field(default_factory=dict)
    claims: Sequence[Mapping[str, Any]] = ()
    min_ready_seconds: int = 0
    certificate_ends: str = ""

    @property
    def selector(self) -> dict[str, str]:
        """Return the labels by which the StatefulSet knows its pods."""
        return {**self.owner.selector, COMPONENT_LABEL: self.component, **self.labels}

    @property
    def revision(self) -> str:
        """Return the fingerprint of what the pods must be restarted for."""
        return self._fingerprint(self.pod)

    def manifest(self) -> dict[str, Any]:
        """Return the StatefulSet."""
        labels = {COMPONENT_LABEL: self.component, **self.labels}
        same = " ".join(sorted({*map(self._fingerprint, self._spelled())} - {self.revision}))
        annotations = {SAME_CONTENT_ANNOTATION: same} if same else {}
        ends = {CERTIFICATE_ENDS_ANNOTATION: self.certificate_ends} if self.certificate_ends else {}
        return {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": self.owner.metadata(self.name, labels=labels, annotations=annotations),
            "spec": {
                "replicas": self.replicas,
                "serviceName": self.service,
                "podManagementPolicy": "Parallel",
                "updateStrategy": {"type": "OnDelete"},
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
                "minReadySeconds": self.min_ready_seconds,
                "selector": {"matchLabels": self.selector},
                "template": {
                    "metadata": {
                        "labels": {**self.selector, **self.pod_labels},
                        "annotations": {CONTENT_ANNOTATION: self.revision, **ends},
                    },
                    "spec": {
                        "schedulerName": SCHEDULER_NAME,
                        "automountServiceAccountToken": False,
                        "enableServiceLinks": False,
                        **self.pod,
                    },
                },
                **({"volumeClaimTemplates": [dict(claim) for claim in self.claims]} if self.claims else {}),
            },
        }

    def _fingerprint(self, pod: Mapping[str, Any]) -> str:
        lasting = {key: value for key, value in pod.items() if key not in _PLACEMENT_FIELDS}
        return fingerprint(lasting, dict(self.pod_labels), self.content)

    def _spelled(self) -> Iterator[Mapping[str, Any]]:
        """Yield the pod with its images in every spelling."""
        containers = self.pod["containers"]
        for images in itertools.product(*(spellings(each["image"]) for each in containers)):
            spelled = [{**each, "image": image} for each, image in zip(containers, images, strict=True)]
            yield {**self.pod, "containers": spelled}
