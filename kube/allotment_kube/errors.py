"""Failures of talking to Kubernetes, classed by what the caller should do next.

A status code says what the server thought; a caller needs to know what to do. So the tree below has one branch per
next step, and the code, the `Status` object's reason and its causes ride along for logs and conditions:

    RetryError       wait (`after` seconds if the server said so) and send the same again
    ConflictError    the world has moved: read again, decide again
    GoneError        the resource version or continue token is too old: list again
    NotFoundError    the object is not there (any more)
    DeniedError      credentials or rights are missing: an administrator must act
    RejectedError    the request is wrong and will stay wrong: tell its author
    ProtocolError    the peer broke the protocol, or we did: a bug, crash and restart

Invariants: an error carries the request line (method and path, no query) and never a header, a body or a token;
exceptions of the HTTP library, whose `repr` holds headers, are never chained.
"""

from collections.abc import Mapping
from typing import Final

import msgspec


class StatusCause(msgspec.Struct, frozen=True, gc=False):
    """One detail of a refusal: the field (or field manager) and what is wrong with it."""

    reason: str = ""
    message: str = ""
    field: str = ""


class StatusDetails(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The object a refusal is about."""

    name: str = ""
    group: str = ""
    kind: str = ""
    uid: str = ""
    causes: tuple[StatusCause, ...] = ()
    retry_after_seconds: int = 0


class StatusMeta(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """List metadata of a Status; an expired continue token is answered with a fresh one here."""

    continue_: str = msgspec.field(default="", name="continue")
    resource_version: str = ""


class Status(msgspec.Struct, frozen=True, gc=False):
    """`meta/v1 Status`: how the API server explains a failure."""

    status: str = ""
    message: str = ""
    reason: str = ""
    code: int = 0
    details: StatusDetails | None = None
    metadata: StatusMeta | None = None


class KubernetesError(Exception):
    """Anything that went wrong between us and the API server."""


class ConfigurationError(KubernetesError):
    """The kubeconfig or the in-cluster environment cannot be used; the message says what to change."""


class LeadershipLostError(KubernetesError):
    """This process does not hold its Lease (any more) and must send nothing."""


class ApiError(KubernetesError):
    """A request failed.

    Attributes:
        request: method and path, such as `POST /api/v1/namespaces/a/pods`; never the query or a header.
        code: HTTP status, 0 where there was no answer.
        status: the server's `Status`, empty where there was none.
        after: seconds to wait before the next attempt, None where the server gave no hint.
    """

    def __init__(
        self,
        message: str,
        *,
        request: str = "",
        code: int = 0,
        status: Status | None = None,
        after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.request = request
        self.code = code
        self.status: Status = status or _NO_STATUS
        self.after = after

    @property
    def reason(self) -> str:
        """The machine-readable reason, such as `AlreadyExists`."""
        return self.status.reason

    @property
    def causes(self) -> tuple[StatusCause, ...]:
        """What exactly is wrong, field by field."""
        return self.status.details.causes if self.status.details else ()

    def __str__(self) -> str:
        head = " ".join(part for part in (self.request, str(self.code or ""), self.reason) if part)
        return f"{head}: {self.message}" if head else self.message


class RetryError(ApiError):
    """Nothing is wrong with the request: send it again later."""


class ThrottledError(RetryError):
    """429: the server had no room and did nothing."""


class DisruptionBudgetError(RetryError):
    """429 to an eviction: a PodDisruptionBudget allows no disruption now. Never repeated by the client itself."""


class UnavailableError(RetryError):
    """5xx: the server failed; unless it named a time to retry, the request may have taken effect."""


class UnreachableError(RetryError):
    """No connection: the request was certainly not sent."""


class OutcomeUnknownError(RetryError):
    """The connection died or time ran out after sending: the request may or may not have taken effect."""


class ConflictError(ApiError):
    """409: the object has changed, or a precondition on uid or resourceVersion failed."""


class AlreadyExistsError(ConflictError):
    """409 AlreadyExists: an object of that name is there."""


class OwnershipConflictError(ConflictError):
    """409 to a server-side apply: other managers own some fields with other values (`fields`)."""

    @property
    def fields(self) -> dict[str, str]:
        """Field path to the server's words about who owns it."""
        return {cause.field: cause.message for cause in self.causes if cause.reason == "FieldManagerConflict"}


class GoneError(ApiError):
    """410: a resource version or continue token is older than what the server keeps."""


class NotFoundError(ApiError):
    """404: no such object, or no such kind."""


class DeniedError(ApiError):
    """Credentials or rights are missing; retrying does not help until somebody grants them."""


class UnauthorizedError(DeniedError):
    """401: the credentials are not accepted, also after a refresh."""


class ForbiddenError(DeniedError):
    """403: the credentials are good, the right is missing, or an admission policy said no."""


class RejectedError(ApiError):
    """The server understood and refused: the request itself must change."""


class InvalidError(RejectedError):
    """422: the object does not validate; `causes` name the fields."""


class ProtocolError(ApiError):
    """An answer that makes no sense, or an object that its type cannot hold: a bug on one side."""


_NO_STATUS: Final = Status()
_STATUS_DECODER: Final = msgspec.json.Decoder(Status)
_BY_CODE: Final[dict[int, type[ApiError]]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidError,
    429: ThrottledError,
}
# Reasons are finer than codes; a reason that is listed here wins.
_BY_REASON: Final[dict[str, type[ApiError]]] = {
    "AlreadyExists": AlreadyExistsError,
    "Expired": GoneError,
    "Gone": GoneError,
    "ServerTimeout": UnavailableError,
    "Timeout": UnavailableError,
}
_RETRYABLE_4XX: Final = frozenset({408, 425})


def error_from_response(code: int, body: bytes, headers: Mapping[str, str], request: str) -> ApiError:
    """Class a failed response. `headers` must look names up without regard to case."""
    try:
        status = _STATUS_DECODER.decode(body)
    except msgspec.MsgspecError:
        # Proxies and the server's own filters answer in plain text; a page of HTML helps nobody.
        status = Status(message=body[:300].decode("utf-8", "replace").strip())
    return error_from_status(status, request, code=code, after=_retry_after(headers, status))


def error_from_status(status: Status, request: str, *, code: int = 0, after: float | None = None) -> ApiError:
    """Class a `Status` object: the body of a failed response or of a watch's ERROR event."""
    code = code or status.code
    if after is None and status.details and status.details.retry_after_seconds > 0:
        after = float(status.details.retry_after_seconds)
    kind = _class_of(status, code)
    return kind(status.message or f"HTTP {code}", request=request, code=code, status=status, after=after)


def _class_of(status: Status, code: int) -> type[ApiError]:
    causes = status.details.causes if status.details else ()
    if code == 429 and any(cause.reason == "DisruptionBudget" for cause in causes):
        return DisruptionBudgetError
    if code == 409 and any(cause.reason == "FieldManagerConflict" for cause in causes):
        return OwnershipConflictError
    if status.reason in _BY_REASON:
        return _BY_REASON[status.reason]
    if code in _BY_CODE:
        return _BY_CODE[code]
    if code >= 500 or code in _RETRYABLE_4XX:
        return UnavailableError
    return RejectedError if 400 <= code < 500 else ProtocolError


def _retry_after(headers: Mapping[str, str], status: Status) -> float | None:
    header = headers.get("Retry-After")
    if header is not None and header.isdecimal():
        return float(header)
    if status.details and status.details.retry_after_seconds > 0:
        return float(status.details.retry_after_seconds)
    return None
