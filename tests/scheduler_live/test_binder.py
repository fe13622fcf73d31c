"""What the binder says became of a Binding, whatever the server and the network answered."""

import asyncio
import random

import pytest

from allotment_kube.errors import (
    ApiError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    OutcomeUnknownError,
    ThrottledError,
    UnavailableError,
    UnreachableError,
)
from allotment_scheduler.shell.binder import Binder, Outcome, jitter_with
from allotment_scheduler.shell.ledger import Start

pytestmark = pytest.mark.looptime

LOST = OutcomeUnknownError("the connection broke")
CLOSED = UnreachableError("no connection")


class Answers:
    """A client that fails in the given ways, one after the other, and then for ever in the last."""

    def __init__(self, *errors: ApiError | None) -> None:
        self.errors = list(errors)

    async def bind(self, *_: str, **__: str) -> None:
        error = self.errors.pop(0) if len(self.errors) > 1 else self.errors[0]
        if error is not None:
            raise error


async def outcome_of(*errors: ApiError | None) -> Outcome:
    said: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    binder = Binder(
        Answers(*errors), connections=1, report=lambda _, outcome, *__: said.set_result(outcome), jitter=lambda _: 0.1
    )
    binder.send([Start(("a", "p"), "uid", "n", ("a", "p"), 0.0)])
    running = asyncio.ensure_future(binder.run())
    outcome = await said
    running.cancel()
    return outcome


@pytest.mark.parametrize(
    ("errors", "outcome"),
    [
        ((None,), Outcome.BOUND),
        ((LOST, None), Outcome.BOUND),
        ((LOST, ConflictError("assigned already")), Outcome.BOUND),
        ((NotFoundError("no such pod"),), Outcome.GONE),
        ((CLOSED, NotFoundError("no such pod")), Outcome.GONE),
        ((ForbiddenError("a policy said no"),), Outcome.REFUSED),
        ((CLOSED, ThrottledError("wait"), ForbiddenError("a policy said no")), Outcome.REFUSED),
        ((CLOSED,), Outcome.FAILED),
        ((ThrottledError("wait"),), Outcome.FAILED),
    ],
)
async def test_what_is_certain_is_said(errors: tuple[ApiError | None, ...], outcome: Outcome) -> None:
    assert await outcome_of(*errors) is outcome


@pytest.mark.parametrize(
    "errors",
    [
        (ConflictError("assigned already"),),
        (LOST, CLOSED),
        (UnavailableError("etcd timed out"), CLOSED),
        (LOST, ForbiddenError("a policy said no")),
    ],
)
async def test_what_may_stand_on_its_node_all_the_same_is_never_given_up_unread(errors: tuple[ApiError, ...]) -> None:
    assert await outcome_of(*errors) is Outcome.DOUBTFUL


async def test_a_proxy_that_names_an_hour_does_not_hold_the_room_for_an_hour() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()

    assert await outcome_of(ThrottledError("wait", after=3600.0), None) is Outcome.BOUND
    assert loop.time() - began < 60


async def test_after_the_last_attempt_nobody_is_kept_waiting() -> None:
    """Its connection is free for others, and its pod for another try, as soon as it is clear that it has failed."""
    loop = asyncio.get_running_loop()
    began, busy = loop.time(), ThrottledError("wait", after=20.0)

    assert await outcome_of(busy) is Outcome.FAILED

    assert loop.time() - began == pytest.approx(5 * 20.0), "between six attempts"


@pytest.mark.parametrize("drawn", [0.0, 0.999])
def test_no_pause_between_attempts_is_longer_than_the_longest(drawn: float) -> None:
    class Drawn(random.Random):
        def random(self) -> float:
            return drawn

    pauses = [jitter_with(Drawn())(attempt) for attempt in range(8)]

    assert pauses == sorted(pauses)
    assert max(pauses) <= 5.0
