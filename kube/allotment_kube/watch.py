"""One watch: a stream of events from a resource version on, until it ends or goes silent.

A watch is a single long answer of JSON lines. Lines come in chunks of any size, several per chunk or one over many, so
they are cut here and decoded as they complete; events are handed on in batches, one per chunk, because a Python
coroutine per event would cost more than its decoding.

Ends are classed by what to do: the iterator just stops when the server closed the stream in order (go on from the last
version), `GoneError` says the version is too old (list again), other errors say wait and go on. Silence is an end too:
the server sends a bookmark every minute, so a longer silence is a dead connection that TCP has not noticed.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec.structs import replace

from .decoding import UndecodableObject, WatchEvent, event_decoder, identify
from .errors import OutcomeUnknownError, Status, error_from_response, error_from_status
from .models import Resourced
from .resources import Resource
from .transport import Request, Stream, Transport

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """How long a watch lives."""

    server_timeout: float = 300.0
    """Seconds after which the server closes the stream, jittered up to twice that, so that watches spread out."""
    silence: float = 70.0
    """Seconds without a byte that mean death; bookmarks come every 60."""
    connect_timeout: float = 30.0
    """Seconds for the stream to open."""


class _Envelope(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _StatusEvent(msgspec.Struct):
    object: Status


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_BOOKMARK: Final = event_decoder(Resourced)
_STATUS_EVENT: Final = msgspec.json.Decoder(_StatusEvent)


async def watch(
    transport: Transport,
    resource: Resource[T],
    resource_version: str,
    *,
    namespace: str = "",
    label_selector: str = "",
    field_selector: str = "",
    settings: WatchSettings = WatchSettings(),
    rng: random.Random,
    on_undecodable: Callable[[UndecodableObject], None],
) -> AsyncGenerator[list[WatchEvent[T]], None]:
    """Yield events in batches, bookmarks included.

    Raises:
        GoneError: the resource version is too old: list again.
        RetryError: the stream broke, fell silent or was refused: watch again from the last version seen.
    """
    parameters = {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": resource_version,
        "timeoutSeconds": str(int(settings.server_timeout * (1 + rng.random()))),
        "labelSelector": label_selector,
        "fieldSelector": field_selector,
    }
    request = Request(
        "GET",
        resource.collection(namespace),
        urlencode({key: value for key, value in parameters.items() if value}, quote_via=quote),
        timeout=settings.connect_timeout,
        label=resource.plural,
    )
    # Everybody's watches went silent together when a switch died; they should not come back together.
    silence = settings.silence * (1 + 0.1 * rng.random())
    decode = event_decoder(resource.model).decode
    async with transport.stream(request) as stream:
        if stream.code != 200:
            raise error_from_response(stream.code, await _whole(stream, silence, request), stream.headers, request.line)
        lines = LineCutter()
        while chunk := await _next_chunk(stream, silence, request):
            events: list[WatchEvent[T]] = []
            for line in lines.cut(chunk):
                reason = ""
                try:
                    event = decode(line)
                    if event.type != "ERROR":
                        events.append(event)
                        continue
                except msgspec.MsgspecError as error:
                    # A bookmark is an object of the kind with nothing in it: a pod without containers, say.
                    if (bookmark := _bookmark(line)) is not None:
                        events.append(bookmark)
                        continue
                    reason = str(error)
                failure = _failure(line, request, reason, on_undecodable)
                if failure is not None:
                    if events:
                        yield events
                    raise failure
            if events:
                yield events


class LineCutter:
    """Cuts a byte stream into lines without copying a long line once per chunk."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def cut(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk completes."""
        pieces = chunk.split(b"\n")
        if len(pieces) == 1:
            self._parts.append(chunk)
            return []
        self._parts.append(pieces[0])
        pieces[0] = b"".join(self._parts)
        rest = pieces.pop()
        self._parts = [rest] if rest else []
        return [line for line in pieces if line]


def _bookmark(line: bytes) -> WatchEvent[Any] | None:
    """A line as a bookmark, of which only the version counts; None if it is something else."""
    try:
        event = _BOOKMARK.decode(line)
    except msgspec.MsgspecError:
        return None
    return event if event.type == "BOOKMARK" else None


def _failure(
    line: bytes, request: Request, reason: str, on_undecodable: Callable[[UndecodableObject], None]
) -> Exception | None:
    """What a line means that is an ERROR or no event of our type; None if it is an object to pass over."""
    try:
        envelope = _ENVELOPE.decode(line)
        if envelope.type == "ERROR":
            return error_from_status(_STATUS_EVENT.decode(line).object, request.line)
    except msgspec.MsgspecError:
        return OutcomeUnknownError("the watch sent a line that is no event", request=request.line)
    what = identify(envelope.object, reason)
    on_undecodable(replace(what, gone=True) if envelope.type == "DELETED" else what)
    return None


async def _next_chunk(stream: Stream, silence: float, request: Request) -> bytes:
    try:
        async with asyncio.timeout(silence):
            return await stream.read()
    except TimeoutError:
        raise OutcomeUnknownError(f"the watch was silent for {silence:.0f} s", request=request.line) from None


async def _whole(stream: Stream, silence: float, request: Request) -> bytes:
    parts: list[bytes] = []
    try:
        while chunk := await _next_chunk(stream, silence, request):
            parts.append(chunk)
    except OutcomeUnknownError:
        pass  # the code alone has to do
    return b"".join(parts)
