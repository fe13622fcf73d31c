"""The seam between what we say to the API server and how the bytes travel.

Everything above this module speaks in `Request` and `Response`; everything below moves bytes. Tests put an in-process
API server behind the same `Transport`, which also lets them run on virtual time, and a faster wire can replace
aiohttp without touching a caller.

A transport does not interpret status codes, except that it refreshes credentials once on 401, and repeats nothing but
an idempotent method whose kept-alive connection the server had closed meanwhile (RFC 9110, section 9.2.2). It raises
`UnreachableError` when a request was certainly not sent, and `OutcomeUnknownError` when it may have been.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import msgspec

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
STRATEGIC_MERGE_PATCH: Final = "application/strategic-merge-patch+json"
# JSON is YAML, and JSON is what we send; this content type is how the server knows an apply.
APPLY_PATCH: Final = "application/apply-patch+yaml"


class Request(msgspec.Struct, frozen=True, gc=False):
    """One HTTP request.

    Attributes:
        path: absolute and percent-encoded.
        query: encoded, without the question mark.
        timeout: seconds for the whole exchange; of a stream, for its headers only.
        label: short, bounded name for metrics, such as `pods/binding`.
        urgent: it goes by connections that only urgent requests use, so no crowd of others can hold it up.
    """

    method: str
    path: str
    query: str = ""
    body: bytes | None = None
    content_type: str = JSON
    timeout: float = 30.0
    label: str = ""
    urgent: bool = False

    @property
    def line(self) -> str:
        """Method and path: what an error may say about a request. A query may hold an exec command's secrets."""
        return f"{self.method} {self.path}"


class Response(msgspec.Struct, frozen=True, gc=False):
    """A complete answer; `headers` look names up without regard to case."""

    code: int
    headers: Mapping[str, str]
    body: bytes


class Stream(Protocol):
    """An answer whose body is read as it comes."""

    @property
    def code(self) -> int:
        """HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Case-insensitive headers."""

    async def read(self) -> bytes:
        """The next piece as it arrived, empty at the end; a broken connection raises `OutcomeUnknownError`."""


class WebSocket(Protocol):
    """A WebSocket connection of binary messages."""

    @property
    def subprotocol(self) -> str:
        """What the server chose."""

    async def send(self, message: bytes) -> None:
        """Send one message."""

    async def receive(self) -> bytes | None:
        """The next message, None after a close."""


class Transport(Protocol):
    """Carries requests to one API server."""

    async def send(self, request: Request) -> Response:
        """Exchange one request for one whole answer."""

    def stream(self, request: Request) -> AbstractAsyncContextManager[Stream]:
        """Open an answer to be read bit by bit; leaving the context closes the connection."""

    def websocket(self, request: Request, subprotocols: Sequence[str]) -> AbstractAsyncContextManager[WebSocket]:
        """Upgrade to a WebSocket; an error answer raises its `ApiError`."""

    async def close(self) -> None:
        """Close all connections."""


class Observer(Protocol):
    """Takes note of requests, for metrics."""

    def observe(self, *, method: str, label: str, code: int, seconds: float) -> None:
        """One attempt is over; code 0 means there was no answer."""
