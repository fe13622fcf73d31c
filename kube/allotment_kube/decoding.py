"""JSON to typed objects: decoders are built once per type and shared.

A list or a watch must survive one object that its type cannot hold (a custom resource of an older schema, say): the
fast path decodes everything at once, and only when that fails are the items decoded one by one, the bad ones reported
and left out.
"""

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import msgspec

from .errors import ProtocolError
from .models import ListMeta, ObjectMeta

T = TypeVar("T")


class ObjectList(msgspec.Struct, Generic[T], gc=False):
    """One page of a list."""

    metadata: ListMeta = ListMeta()
    items: list[T] | None = None


class WatchEvent(msgspec.Struct, Generic[T], gc=False):
    """One line of a watch: ADDED, MODIFIED, DELETED or BOOKMARK."""

    type: str
    object: T


class UndecodableObject(msgspec.Struct, frozen=True):
    """An object that its type cannot hold, named as far as possible."""

    namespace: str
    name: str
    reason: str
    gone: bool = False
    """Whether this is its last version: it is deleted."""


class _Named(msgspec.Struct):
    metadata: ObjectMeta = ObjectMeta()


# Types are few and live as long as the program, so what is built for them is kept without bound.
_DECODERS: Final[dict[tuple[str, object], Any]] = {}


def object_decoder(model: type[T]) -> "msgspec.json.Decoder[T]":
    """Decoder of one object of any type that msgspec knows."""
    decoder: msgspec.json.Decoder[T] = _decoder("object", model, model)
    return decoder


def _list_decoder(model: type[T]) -> "msgspec.json.Decoder[ObjectList[T]]":
    decoder: msgspec.json.Decoder[ObjectList[T]] = _decoder("list", model, ObjectList)
    return decoder


def event_decoder(model: type[T]) -> "msgspec.json.Decoder[WatchEvent[T]]":
    """Decoder of one line of a watch."""
    decoder: msgspec.json.Decoder[WatchEvent[T]] = _decoder("event", model, WatchEvent)
    return decoder


def _decoder(purpose: str, model: Any, shape: Any) -> Any:  # noqa: ANN401 - the three above give it its types
    known = _DECODERS.get((purpose, model))
    if known is None:
        known = msgspec.json.Decoder(model if shape is model else shape[model])
        _DECODERS[purpose, model] = known
    return known


_RAW_LIST = msgspec.json.Decoder(ObjectList[msgspec.Raw])
_NAMED = msgspec.json.Decoder(_Named)


def decode_object(model: type[T], body: bytes, request: str) -> T:
    """Decode one object.

    Raises:
        ProtocolError: the answer is not such an object.
    """
    try:
        return object_decoder(model).decode(body)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"the answer is no {_name(model)}: {error}", request=request) from error


def decode_list(
    model: type[T], body: bytes, request: str, on_undecodable: Callable[[UndecodableObject], None] | None = None
) -> ObjectList[T]:
    """Decode a page of a list; bad items are reported if there is somebody to report to, else the page fails."""
    try:
        return _list_decoder(model).decode(body)
    except msgspec.MsgspecError as error:
        if on_undecodable is None:
            raise ProtocolError(f"the answer is no list of {_name(model)}: {error}", request=request) from error
        return _salvage(model, body, request, on_undecodable)


def identify(raw: bytes | msgspec.Raw, reason: str) -> UndecodableObject:
    """Name an object whose type does not fit."""
    try:
        metadata = _NAMED.decode(raw).metadata
    except msgspec.MsgspecError:
        return UndecodableObject("", "", reason)
    return UndecodableObject(metadata.namespace, metadata.name, reason)


def _salvage(
    model: type[T], body: bytes, request: str, on_undecodable: Callable[[UndecodableObject], None]
) -> ObjectList[T]:
    try:
        page = _RAW_LIST.decode(body)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"the answer is no list: {error}", request=request) from error
    decoder = object_decoder(model)
    items: list[T] = []
    for raw in page.items or ():
        try:
            items.append(decoder.decode(raw))
        except msgspec.MsgspecError as error:
            on_undecodable(identify(raw, str(error)))
    return ObjectList(page.metadata, items)


def _name(model: object) -> str:
    return getattr(model, "__name__", str(model))
