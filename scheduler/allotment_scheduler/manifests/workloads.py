"""Workloads: the pods that controllers will make of templates, beside those that are there.

A Job, a Deployment or a StatefulSet runs nothing by itself: its controller makes pods. Offline there is none, so what
it would make is made here: as many as are asked for, less those of the workload that the files hold. They are named
NAME-0, NAME-1, …; those of a StatefulSet as it really names them. A StatefulSet's claims come with its pods.

How many: a Job as many as may run at once (`pods_at_once`), none while it is suspended or once it has ended; the others
`replicas`. A ReplicaSet that belongs to a Deployment of the files is left to it, old ones of a rollout included.

Kinds that make pods in other ways (by the clock, one for each node, or by the operator) are not imitated: their pods
count where they are in the files.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from allotment_api.errors import Fault
from allotment_kube.models import Condition, LabelSelector, Model, ObjectMeta, Resourced
from allotment_scheduler.manifests.documents import Document, Manifest
from allotment_scheduler.translation.cluster import pods_at_once
from allotment_scheduler.translation.pods import FINISHED
from allotment_scheduler.translation.selectors import label_selector

MOST_PODS: Final = 200_000
"""Pods that templates may stand for in all: more than any cluster runs."""
TEMPLATED: Final = frozenset({"Job", "Deployment", "ReplicaSet", "StatefulSet", "ReplicationController"})
"""Kinds whose templates are imitated."""


class Template(Model, frozen=True):
    """What the pods of a workload look like."""

    metadata: ObjectMeta = ObjectMeta()
    spec: dict[str, Any] | None = None


class Ordinals(Model, frozen=True):
    """The number of a StatefulSet's first pod."""

    start: int = 0


class WorkloadSpec(Model, frozen=True):
    """The size of a workload and its template; a Job's and the others' fields together."""

    template: Template = Template()
    replicas: int | None = None
    ordinals: Ordinals = Ordinals()
    volume_claim_templates: tuple[dict[str, Any], ...] = ()
    parallelism: int | None = None
    completions: int | None = None
    suspend: bool = False
    pod_failure_policy: dict[str, Any] | None = None


class WorkloadStatus(Model, frozen=True):
    """A Job's progress."""

    succeeded: int = 0
    failed_indexes: str = ""
    conditions: tuple[Condition, ...] = ()


class Workload(Resourced, frozen=True):
    """Any workload with a template."""

    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()


class SelectingSpec(Model, frozen=True):
    """Which pods a Deployment takes for its own."""

    selector: LabelSelector | None = None


class Selecting(Model, frozen=True):
    """A Deployment, as far as it selects pods."""

    spec: SelectingSpec = SelectingSpec()


class WorkloadError(Exception):
    """A workload asks for what cannot be made."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault


@dataclass(slots=True)
class Present:
    """The pods of the files by who made them, and the makers of makers."""

    pods: dict[tuple[str, str, str], list[Document]] = field(default_factory=dict)
    """By (namespace, kind, name) of the controller."""
    names: set[tuple[str, str]] = field(default_factory=set)
    parents: dict[tuple[str, str], str] = field(default_factory=dict)
    """A ReplicaSet's Deployment by (namespace, name)."""
    deployments: set[tuple[str, str]] = field(default_factory=set)

    @classmethod
    def of(cls, documents: Iterable[Document]) -> "Present":
        """Look through documents."""
        found = cls()
        for document in documents:
            key = (document.namespace, document.name)
            if document.kind == "Pod":
                found.names.add(key)
                if (owner := controller(document)) is not None:
                    found.pods.setdefault((document.namespace, *owner), []).append(document)
            elif document.kind == "Deployment":
                found.deployments.add(key)
            elif document.kind == "ReplicaSet" and (owner := controller(document)) and owner[0] == "Deployment":
                found.parents[key] = owner[1]
        return found

    def made_by(self, document: Document) -> list[Document]:
        """The pods of a workload; a Deployment's are those of its ReplicaSets."""
        own = self.pods.get((document.namespace, document.kind, document.name), [])
        if document.kind != "Deployment":
            return own
        sets = [name for (namespace, name), of in self.parents.items()
                if namespace == document.namespace and of == document.name]  # fmt: skip
        return [*own, *(pod for name in sets for pod in self.pods.get((document.namespace, "ReplicaSet", name), ()))]

    def selected_by(self, namespace: str, selector: LabelSelector | None) -> list[Document]:
        """Pods of ReplicaSets that are not in the files, by their labels."""
        chosen = label_selector(selector)
        if chosen is None or not chosen.requirements:
            return []
        return [
            pod for (where, kind, name), found in self.pods.items()
            if kind == "ReplicaSet" and where == namespace and (where, name) not in self.parents
            for pod in found if chosen.matches(_labels(pod))
        ]  # fmt: skip


def controller(document: Document) -> tuple[str, str] | None:
    """Kind and name of who manages an object."""
    owners = document.metadata.get("ownerReferences")
    for owner in owners if isinstance(owners, list | tuple) else ():
        if isinstance(owner, Mapping) and owner.get("controller") is True:
            return str(owner.get("kind")), str(owner.get("name"))
    return None


def _labels(document: Document) -> dict[str, str]:
    labels = document.metadata.get("labels")
    return {str(key): str(value) for key, value in labels.items()} if isinstance(labels, Mapping) else {}


def phase(document: Document) -> str:
    """A pod's phase."""
    status = document.content.get("status")
    return str(status.get("phase", "")) if isinstance(status, Mapping) else ""


def pods_to_come(
    document: Document, workload: Workload, present: Present, made: Sequence[Document]
) -> Iterator[Document]:
    """The pods, and the claims, that the controller of a workload has still to make.

    Args:
        document: the workload as it stands in the file.
        workload: the same, typed.
        present: the pods of the files.
        made: those of this workload.

    Raises:
        WorkloadError: it has no template, or asks for more pods than any cluster has.
    """
    missing = outstanding(document, workload, made)
    if missing <= 0:
        return
    if workload.spec.template.spec is None:
        raise WorkloadError(Fault("spec.template.spec", "is required: add it, or the pods themselves"))
    if document.kind == "StatefulSet":
        start = workload.spec.ordinals.start
        wanted = 1 if workload.spec.replicas is None else workload.spec.replicas
        names = (f"{document.name}-{number}" for number in range(start, start + wanted))
        for name in names:
            if (document.namespace, name) not in present.names:
                yield from _claims(document, workload, name)
                yield _pod(document, workload, name, later=bool(made))
        return
    names = (f"{document.name}-{number}" for number in count())
    for _ in range(missing):
        name = next(name for name in names if (document.namespace, name) not in present.names)
        yield _pod(document, workload, name, later=bool(made))


def outstanding(document: Document, workload: Workload, made: Sequence[Document]) -> int:
    """How many pods a workload has still to get; below zero, how many are there that it does not ask for.

    Raises:
        WorkloadError: it asks for more pods than any cluster has, for less than none, or its status cannot be read.
    """
    phases = [phase(pod) for pod in made]
    for name in ("replicas", "parallelism", "completions"):
        number = getattr(workload.spec, name) or 0
        if number < 0:
            raise WorkloadError(Fault(f"spec.{name}", f"{number} is no number of pods: write 0 or more"))
    try:
        wanted = _wanted(document, workload, phases.count("Succeeded"))
    except ValueError as error:
        text = f"{workload.status.failed_indexes!r} is no list of indexes: write one such as 1,3-5"
        raise WorkloadError(Fault("status.failedIndexes", text)) from error
    if wanted > MOST_PODS:
        size = "spec.parallelism" if document.kind == "Job" else "spec.replicas"
        raise WorkloadError(Fault(size, f"{wanted} pods are too many: write {MOST_PODS} or less"))
    return wanted - sum(each not in FINISHED for each in phases)


def _wanted(document: Document, workload: Workload, done: int) -> int:
    """How many pods should run at once."""
    spec, status = workload.spec, workload.status
    if document.kind != "Job":
        return 1 if spec.replicas is None else spec.replicas
    if spec.suspend or any(each.type in ("Complete", "Failed") and each.status == "True" for each in status.conditions):
        return 0
    return pods_at_once(spec.parallelism, spec.completions, max(status.succeeded, done), status.failed_indexes)


def _pod(document: Document, workload: Workload, name: str, *, later: bool) -> Document:
    """A pod of a template; `later`: its controller has made others, and makes this one now."""
    template, metadata = workload.spec.template, workload.spec.template.metadata
    spec = dict(template.spec or {})
    owner = {
        "apiVersion": document.content.get("apiVersion") or "", "kind": document.kind, "name": document.name,
        "uid": workload.metadata.uid or f"{document.kind}/{document.namespace}/{document.name}", "controller": True,
    }  # fmt: skip
    content: Manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": document.namespace,
            "labels": metadata.labels,
            "annotations": metadata.annotations,
            "creationTimestamp": None if later else workload.metadata.creation_timestamp,
            "ownerReferences": [owner],
        },
        "spec": spec if document.kind != "StatefulSet" else {**spec, "volumes": _volumes(workload, name)},
    }
    return Document(document.origin, content, document.title, document.arrives or later)


def _volumes(workload: Workload, pod: str) -> Any:  # noqa: ANN401 - as it stands in the template
    """A StatefulSet's pod mounts its own claims in the place of volumes of the same name."""
    own = {_name_of(claim): f"{_name_of(claim)}-{pod}" for claim in workload.spec.volume_claim_templates}
    given = (workload.spec.template.spec or {}).get("volumes") or []
    if not isinstance(given, list | tuple):
        return given  # reading the pod tells what is wrong with it
    kept = [each for each in given if not (isinstance(each, Mapping) and each.get("name") in own)]
    return [*kept, *({"name": name, "persistentVolumeClaim": {"claimName": claim}} for name, claim in own.items())]


def _claims(document: Document, workload: Workload, pod: str) -> Iterator[Document]:
    for claim in workload.spec.volume_claim_templates:
        metadata = claim.get("metadata")
        named = {**(metadata if isinstance(metadata, Mapping) else {}), "name": f"{_name_of(claim)}-{pod}",
                 "namespace": document.namespace}  # fmt: skip
        content = {**claim, "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": named}
        yield Document(document.origin, content, document.title, document.arrives)


def _name_of(claim: Mapping[str, Any]) -> str:
    metadata = claim.get("metadata")
    return str(metadata.get("name", "")) if isinstance(metadata, Mapping) else ""
