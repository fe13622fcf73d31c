"""Volumes of a service's pods: how they are claimed, and how they grow.

A StatefulSet's claim templates cannot change once it exists. So a larger size is written to the claims themselves,
pod by pod, whether the pod runs or not (a full disk is why one grows it), and the template keeps its first size. A
pod added later gets the template's size, and its claim grows in the next round. How far a volume is, or what keeps it
from growing, only its claim's status tells: storage drivers take minutes, and some wait for the pod's restart.
"""

from collections.abc import Mapping
from typing import Any

from allotment_api.quantities import Quantity, quantity
from allotment_api.service import Storage
from allotment_operator.plans.actions import Apply, Manifest, ObjectRef
from allotment_operator.plans.outcome import Observed
from allotment_operator.plans.ownership import Owner

DATA = "data"
"""Name of the claim template and of the volume: claims are then called ``data-<pod>``."""


def claim_template(
    owner: Owner,
    storage: Storage,
    *,
    labels: Mapping[str, str],
    annotations: Mapping[str, str] | None = None,
    existing: Manifest | None = None,
) -> dict[str, Any]:
    """Return the template of the data volume's claims.

    Claims have no owner: they must outlive their StatefulSet, and are deleted only by a plan that says so.

    Args:
        owner: by whose labels the claims are found.
        storage: size and class.
        labels: further labels.
        annotations: what the data on the volume is, for whoever takes it over.
        existing: the live StatefulSet, whose template is kept as it is.
    """
    kept = _template_of(existing)
    if kept is not None:
        return kept
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": DATA,
            "labels": {**owner.selector, **labels},
            **({"annotations": dict(annotations)} if annotations else {}),
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": str(storage.size)}},
            **({"storageClassName": storage.storage_class} if storage.storage_class else {}),
        },
    }


def growth(observed: Observed, *, labels: Mapping[str, str], size: Quantity) -> list[Apply]:
    """Return what makes every claim with these labels at least this large.

    Kubernetes lets only bound claims grow; one that is not yet bound grows in the round after it is.
    """
    return [
        Apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": claim["metadata"]["name"], "namespace": claim["metadata"]["namespace"]},
                "spec": {"resources": {"requests": {"storage": str(size)}}},
            }
        )
        for claim in claims(observed, labels=labels)
        if requested(claim) < size and _bound(claim)
    ]


def growing(observed: Observed) -> str:
    """Say which volumes are not yet as large as asked for, and what Kubernetes says of it; empty where all are."""
    late = [claim for claim in claims(observed, labels={}) if (size := _capacity(claim)) and size < requested(claim)]
    if not late:
        return ""
    first = late[0]
    said = [each["message"] for each in first["status"].get("conditions") or () if each.get("message")]
    count = f"{len(late)} volumes grow" if len(late) > 1 else "A volume grows"
    text = f"{count}: {first['metadata']['name']} has {_capacity(first)} of {requested(first)}"
    return f"{text} ({'; '.join(said)})."[:1000] if said else f"{text}."


def claims(observed: Observed, *, labels: Mapping[str, str]) -> list[Manifest]:
    """Return the live claims with these labels."""
    return [
        claim
        for claim in observed.of_kind("PersistentVolumeClaim")
        if labels.items() <= (claim["metadata"].get("labels") or {}).items()
    ]


def holders(observed: Observed, group: str, existing: Manifest | None) -> int:
    """Return how many pods of a StatefulSet hold data: all up to the last that was ever given a node or a volume.

    One that has waited for room from the first holds nothing, and may be taken away again. Where there is no
    StatefulSet, what a former one of its name left behind counts.

    Args:
        observed: with pods and claims.
        group: the StatefulSet's name.
        existing: the live StatefulSet.
    """
    placed = [pod["metadata"]["name"] for pod in observed.of_kind("Pod") if pod["spec"].get("nodeName")]
    placed += [
        claim["metadata"]["name"].removeprefix(f"{DATA}-")
        for claim in claims(observed, labels={})
        if (claim.get("status") or {}).get("phase") != "Pending"
    ]
    numbers = (name.removeprefix(f"{group}-") for name in placed if name.startswith(f"{group}-"))
    counts = [int(number) + 1 for number in numbers if number.isdecimal()]
    if existing is not None and not existing["metadata"].get("deletionTimestamp"):
        replicas = int(existing["spec"].get("replicas", 1))
        counts = [count for count in counts if count <= replicas]
    return max(counts, default=0)


def retained(claim: Manifest) -> bool:
    """Say whether a claim that a service has left holds a volume; one that never got any holds no data."""
    phase = (claim.get("status") or {}).get("phase")
    return phase != "Pending" and not claim["metadata"].get("deletionTimestamp")


def requested(claim: Manifest) -> Quantity:
    """Return the size that a claim asks for."""
    return quantity(claim["spec"]["resources"]["requests"]["storage"])


def _capacity(claim: Manifest) -> Quantity | None:
    size = ((claim.get("status") or {}).get("capacity") or {}).get("storage")
    return quantity(size) if size else None


def _bound(claim: Manifest) -> bool:
    return bool((claim.get("status") or {}).get("phase") == "Bound")


def claim_ref(namespace: str, pod: str) -> ObjectRef:
    """Return the claim of a pod's data volume."""
    return ObjectRef("v1", "PersistentVolumeClaim", namespace, f"{DATA}-{pod}")


def _template_of(stateful_set: Manifest | None) -> dict[str, Any] | None:
    """Return the live claim template without what the server added: an apply must not claim that."""
    for template in (stateful_set or {}).get("spec", {}).get("volumeClaimTemplates") or []:
        metadata = template["metadata"]
        if metadata["name"] != DATA:
            continue
        kept = {key: metadata[key] for key in ("name", "labels", "annotations") if metadata.get(key)}
        spec = {key: value for key, value in template["spec"].items() if key != "dataSourceRef" or value}
        return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": kept, "spec": spec}
    return None
