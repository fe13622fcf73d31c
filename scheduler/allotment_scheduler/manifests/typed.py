"""Documents into typed objects; what is wrong on the way is told by file, document and field."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from allotment_api.errors import Fault, InvalidManifestError
from allotment_api.resource import Resource
from allotment_scheduler.manifests.documents import Document
from allotment_scheduler.manifests.faults import ManifestError, of_model, typed_fault, value_fault
from allotment_scheduler.manifests.stored import Rewriting

T = TypeVar("T")
R = TypeVar("R", bound=Resource)


def typed(document: Document, into: type[T]) -> T:
    """One of Kubernetes' kinds.

    Raises:
        ManifestError: a field has the wrong type, or is missing.
    """
    try:
        return msgspec.convert(document.content, into)
    except (msgspec.ValidationError, RecursionError):
        content = _rewritten(document)
    try:
        return msgspec.convert(content, into)
    except msgspec.ValidationError as error:
        raise fault_error(document, typed_fault(content, error)) from error


def modelled(document: Document, model: type[R]) -> R:
    """One of our kinds: unknown fields of its spec are faults, as for `kubectl apply`; newer ones of status not.

    Raises:
        InvalidManifestError: a field is wrong; `naming_faults` tells where.
    """
    content = _rewritten(document)
    return model.parse({key: value for key, value in content.items() if key != "status"})


def naming_faults(document: Document, work: Callable[[Document], T]) -> T:
    """Read a document; whatever is found wrong with it names it.

    Raises:
        ManifestError: something is wrong.
    """
    try:
        return work(document)
    except ManifestError:
        raise
    except InvalidManifestError as error:
        raise ManifestError(of_model(document.prefix, error)) from error
    except (ValueError, OverflowError) as error:
        raise fault_error(document, value_fault(_rewritten(document), ValueError(str(error)))) from error


def fault_error(document: Document, fault: Fault) -> ManifestError:
    """A fault as an error."""
    return ManifestError(f"{document.prefix}: {Fault(document.at(fault.path), fault.message)}")


def refuse(document: Document, faults: Iterable[Fault]) -> None:
    """Refuse a document that has faults.

    Raises:
        ManifestError: the first of them.
    """
    for fault in faults:
        raise fault_error(document, fault)


def _rewritten(document: Document) -> Any:  # noqa: ANN401 - any manifest
    return Rewriting(document.prefix).value(document.content)
