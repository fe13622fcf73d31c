import random

import pytest
from multidict import CIMultiDict

from allotment_kube import errors
from allotment_kube.errors import ApiError, error_from_response
from allotment_kube.retries import Backoff, RetryPolicy, may_repeat


@pytest.mark.parametrize(
    ("code", "body", "want"),
    [
        (401, b'{"reason":"Unauthorized"}', errors.UnauthorizedError),
        (403, b'{"reason":"Forbidden"}', errors.ForbiddenError),
        (404, b"404 page not found", errors.NotFoundError),
        (409, b'{"reason":"Conflict"}', errors.ConflictError),
        (409, b'{"reason":"AlreadyExists"}', errors.AlreadyExistsError),
        (
            409,
            b'{"reason":"Conflict","details":{"causes":[{"reason":"FieldManagerConflict","field":".a"}]}}',
            errors.OwnershipConflictError,
        ),
        (410, b'{"reason":"Expired"}', errors.GoneError),
        (422, b'{"reason":"Invalid"}', errors.InvalidError),
        (400, b'{"reason":"BadRequest"}', errors.RejectedError),
        (413, b"too large", errors.RejectedError),
        (415, b'{"reason":"UnsupportedMediaType"}', errors.RejectedError),
        (429, b'{"reason":"TooManyRequests"}', errors.ThrottledError),
        (429, b'{"details":{"causes":[{"reason":"DisruptionBudget"}]}}', errors.DisruptionBudgetError),
        (500, b'{"reason":"InternalError"}', errors.UnavailableError),
        (503, b"<html>bad gateway</html>", errors.UnavailableError),
        (504, b'{"reason":"Timeout"}', errors.UnavailableError),
        (302, b"", errors.ProtocolError),
    ],
)
def test_an_answer_becomes_the_error_of_its_next_step(code: int, body: bytes, want: type[ApiError]) -> None:
    error = error_from_response(code, body, CIMultiDict(), "GET /x")

    assert type(error) is want
    assert error.code == code


def test_an_error_names_the_request_the_reason_and_the_causes() -> None:
    body = b'{"message":"spec.a is bad","reason":"Invalid","details":{"causes":[{"field":"spec.a","message":"bad"}]}}'

    error = error_from_response(422, body, CIMultiDict(), "POST /api/v1/pods")

    assert str(error) == "POST /api/v1/pods 422 Invalid: spec.a is bad"
    assert [cause.field for cause in error.causes] == ["spec.a"]


@pytest.mark.parametrize(
    ("headers", "body", "want"),
    [
        ({"retry-after": "7"}, b"{}", 7.0),
        ({}, b'{"details":{"retryAfterSeconds":3}}', 3.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"{}", None),
        ({}, b"{}", None),
    ],
)
def test_the_servers_hint_when_to_return_is_kept(headers: dict[str, str], body: bytes, want: float | None) -> None:
    assert error_from_response(429, body, CIMultiDict(headers), "GET /x").after == want


@pytest.mark.parametrize(
    ("error", "read", "write"),
    [
        (errors.UnreachableError("x"), True, True),
        (errors.ThrottledError("x", code=429), True, True),
        (errors.UnavailableError("x", code=503, after=1.0), True, True),
        (errors.UnavailableError("x", code=503), True, False),
        (errors.UnavailableError("x", code=500, after=1.0), True, False),
        (errors.OutcomeUnknownError("x"), True, False),
        (errors.DisruptionBudgetError("x", code=429), False, False),
        (errors.ConflictError("x"), False, False),
        (errors.ForbiddenError("x"), False, False),
    ],
)
def test_only_what_cannot_do_harm_is_repeated(error: ApiError, read: bool, write: bool) -> None:
    assert (may_repeat(error, idempotent=True), may_repeat(error, idempotent=False)) == (read, write)


def test_a_wait_longer_than_patience_is_handed_to_the_caller() -> None:
    policy = RetryPolicy(attempts=3, longest_wait=10.0)
    rng = random.Random(0)

    assert policy.delay(errors.ThrottledError("x", after=5.0), 0, idempotent=False, rng=rng) is not None
    assert policy.delay(errors.ThrottledError("x", after=60.0), 0, idempotent=False, rng=rng) is None
    assert policy.delay(errors.ThrottledError("x", after=1.0), 2, idempotent=False, rng=rng) is None


def test_delays_grow_to_the_limit_and_are_jittered() -> None:
    backoff = Backoff(first=1.0, limit=8.0)
    rng = random.Random(0)

    delays = [backoff.delay(attempt, rng) for attempt in range(10)]

    assert all(min(8.0, 2.0**n) / 2 <= delay <= min(8.0, 2.0**n) for n, delay in enumerate(delays))
    assert len(set(delays)) == len(delays)
