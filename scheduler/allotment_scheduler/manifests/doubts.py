"""Doubts: what is valid, and probably a mistake. Each is a document and what is doubtful about it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Final

from msgspec import Struct, inspect

from allotment_api.labels import INSTANCE_LABEL, MAX_RUNTIME_ANNOTATION, PREEMPTIBLE_LABEL
from allotment_kube import pods
from allotment_scheduler.manifests.documents import Document
from allotment_scheduler.manifests.kinds import how_it_makes_pods
from allotment_scheduler.translation.scalars import positive

Doubt = tuple[Document, str]
_ALIKE: Final = 0.85
"""From which likeness on, of 1, a field that is not read is taken for another one, misspelt."""


def lost_references(documents: Sequence[Document]) -> Iterator[Doubt]:
    """Pools and nodes that are named and are not there."""
    nodes_there = {document.name for document in documents if document.kind == "Node"}
    pools = {document.name for document in documents if document.kind == "NodePool"} | {"default"}
    for document in documents:
        if document.kind == "Tenant":
            listed = document.spec.get("pools")
            for pool in listed if isinstance(listed, Mapping) else ():
                if pool not in pools:
                    yield document, f"spec.pools.{pool}: there is no NodePool of that name"
            for pool in document.spec.get("nodePools") or ():
                if pool not in pools:
                    yield document, f"spec.nodePools: there is no NodePool {pool}"
        elif document.kind == "Pod" and (node := document.spec.get("nodeName")) and node not in nodes_there:
            yield document, f"spec.nodeName: there is no Node {node}: the pod takes no room"


def missing_pods(documents: Iterable[Document], read: Sequence[Document]) -> Iterator[Doubt]:
    """Workloads that are not imitated, and none of whose pods are there."""
    instances = {
        (document.namespace, labels.get(INSTANCE_LABEL))
        for document in read
        if document.kind == "Pod" and isinstance(labels := document.metadata.get("labels"), Mapping)
    }
    for document in documents:
        how = how_it_makes_pods(document)
        if how is not None and (document.namespace, document.name) not in instances:
            yield document, f"{how}: only those that are in the files count"


def misread_words(document: Document, pod: pods.Pod) -> Iterator[Doubt]:
    """Labels and annotations of a pod that are written otherwise than they are read."""
    label = pod.metadata.labels.get(PREEMPTIBLE_LABEL)
    if label not in (None, "true", "false"):
        field = document.at(f'metadata.labels["{PREEMPTIBLE_LABEL}"]')
        yield document, f'{field}: {label!r} is taken for "true": write "true" or "false"'
    declared = pod.metadata.annotations.get(MAX_RUNTIME_ANNOTATION)
    if declared is not None and positive(declared) is None:
        field = document.at(f'metadata.annotations["{MAX_RUNTIME_ANNOTATION}"]')
        yield document, f"{field}: {declared!r} is no number of seconds: it counts as none"


def misspelt_fields(document: Document, read_as: type[Struct]) -> Iterator[Doubt]:
    """Fields of the author's that are not read, and are written almost like one that is.

    Args:
        document: any.
        read_as: what it is read as. Kubernetes' kinds have many more fields; none of them is that much alike.
    """
    authored = {name: value for name, value in document.content.items() if name != "status"}
    for path, meant in _strangers("", authored, _fields_of(read_as)):
        yield document, f"{document.at(path)}: is not read: is {meant} meant?"


def _strangers(path: str, value: object, read_as: inspect.Type) -> Iterator[tuple[str, str]]:
    match read_as:
        case inspect.StructType() if isinstance(value, Mapping):
            fields = {field.encode_name: field.type for field in read_as.fields}
            for name, inner in value.items():
                here = f"{path}.{name}" if path else str(name)
                if name in fields:
                    yield from _strangers(here, inner, fields[name])
                elif (meant := _meant(str(name), tuple(fields))) is not None:
                    yield here, meant
        case inspect.VarTupleType() if isinstance(value, list | tuple):
            for number, inner in enumerate(value):
                yield from _strangers(f"{path}[{number}]", inner, read_as.item_type)
        case inspect.UnionType():
            for each in read_as.types:
                yield from _strangers(path, value, each)


@lru_cache
def _fields_of(read_as: type[Struct]) -> inspect.Type:
    return inspect.type_info(read_as)


@lru_cache(maxsize=4096)
def _meant(name: str, fields: tuple[str, ...]) -> str | None:
    return next(iter(get_close_matches(name, fields, n=1, cutoff=_ALIKE)), None)
