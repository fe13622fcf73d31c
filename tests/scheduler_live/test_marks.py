"""Marks on claimants: made before anybody is evicted, taken off with the plan, whatever fails on the way."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from allotment_kube import Client
from allotment_kube.errors import ApiError, ForbiddenError, OutcomeUnknownError, UnavailableError, UnreachableError
from allotment_kube.resources import PODS, Resource
from allotment_scheduler.core.state.invariants import check
from allotment_scheduler.shell.errands import Errands
from allotment_scheduler.shell.ledger import Phase, Start
from allotment_scheduler.shell.outcomes import Outcomes
from allotment_scheduler.shell.settings import Settings
from builders.live_world import World, until
from fakes.faults import Fault, FaultPlan, Verb

pytestmark = pytest.mark.looptime


class Marks:
    """Stands before patches of a claimant's status; `answers` are what becomes of them, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: list[ApiError | None] = []
        self.done_all_the_same = False
        self.tried = 0
        patch = Client.patch

        async def patched(client: Client, resource: Resource[Any], name: str, *given: Any, **named: Any) -> Any:
            if resource is not PODS or name != "claimant":
                return await patch(client, resource, name, *given, **named)
            self.tried += 1
            error = self.answers.pop(0) if self.answers else None
            if error is not None and not self.done_all_the_same:
                raise error
            found = await patch(client, resource, name, *given, **named)
            if error is not None:
                raise error
            return found

        monkeypatch.setattr(Client, "patch", patched)


def unreachable() -> ApiError:
    return UnreachableError("no connection")


def failing() -> ApiError:
    return UnavailableError("internal error", code=500)


@pytest.mark.parametrize("error", [unreachable, failing])
async def test_a_mark_that_fails_for_a_moment_is_made_again_and_nobody_is_evicted_before(
    error: Callable[[], ApiError], monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = Marks(monkeypatch)
    world = World(FaultPlan())
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        marks.answers = [error(), error()]
        await world.claimed()
        await until(lambda: marks.tried == 2)
        assert world.bound() == {"victim": "n"}
        await until(lambda: world.bound() == {"claimant": "n"}, seconds=5)
    check(scheduler.state)


async def test_a_mark_that_was_made_although_its_answer_was_lost_is_taken_off_with_the_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marks = Marks(monkeypatch)
    world = World(FaultPlan())
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        marks.done_all_the_same = True
        marks.answers = [OutcomeUnknownError("the connection broke") for _ in range(5)]
        await world.claimed()
        await until(lambda: world.status("a", "claimant").get("nominatedNodeName") == "n")
        world.tenant("a", suspended=True)  # or the next plan would be the same
        await until(lambda: not scheduler.ledger.starts)
        await until(lambda: "nominatedNodeName" not in world.status("a", "claimant"), seconds=30)
        assert world.bound() == {"victim": "n"}
    check(scheduler.state)


async def test_a_mark_that_cannot_be_taken_off_at_once_is_taken_off_later(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = Marks(monkeypatch)
    world = World(FaultPlan())
    world.settings = Settings(minimum_runtime_seconds=0, eviction_seconds=2)
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        await world.claimed(*[Fault.ERROR] * 4000)
        await until(lambda: world.status("a", "claimant").get("nominatedNodeName") == "n")
        tried = marks.tried
        marks.answers = [failing() for _ in range(3)]
        world.tenant("a", suspended=True)
        await until(lambda: "nominatedNodeName" not in world.status("a", "claimant"), seconds=60)
        assert marks.tried - tried >= 4
        await asyncio.sleep(60)
        assert marks.tried - tried <= 8, "and then no more"
    check(scheduler.state)


async def test_a_promise_that_was_not_kept_is_taken_off_though_its_pod_was_to_start_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A later leader would believe it, and give the pod that node before everybody."""
    bind = Client.bind

    async def refuse(client: Client, namespace: str, pod: str, **given: Any) -> None:
        if pod == "claimant":
            raise ForbiddenError("a webhook says no", code=403)
        await bind(client, namespace, pod, **given)

    monkeypatch.setattr(Client, "bind", refuse)
    world = World(FaultPlan())
    world.node("full", cpu="1", unschedulable=True)
    world.node("free", cpu="1")
    world.pod("a", "claimant")
    found = world.server.get(PODS, "claimant", "a") or {}
    world.server.put(PODS, {**found, "status": {"nominatedNodeName": "full"}})
    async with world.running() as scheduler:
        await until(lambda: scheduler.ledger.in_quarantine)
        await until(lambda: "nominatedNodeName" not in world.status("a", "claimant"), seconds=10)
    check(scheduler.state)


async def test_a_mark_is_not_taken_off_for_a_plan_of_before_when_there_is_another_by_then() -> None:
    """What takes marks off waits for its turn; meanwhile its pod has a place again, and a mark that says so."""
    world = World(FaultPlan())
    known = world.scheduler._known
    outcomes, errands = Outcomes(known), Waiting()
    outcomes.marked(("a", "p"), "u")
    outcomes.unmark(NoClient(), errands)
    start = Start(("a", "p"), "u", "n", ("a", "p"), 0.0)
    known.ledger.open(start)

    await errands.work.pop()

    assert start.nominated, "it goes with this one"


class NoClient:
    """A client that nobody is to use."""

    async def patch(self, *given: Any, **named: Any) -> Any:
        raise AssertionError(f"{given} {named}")


class Waiting(Errands):
    """Errands whose turn has not come."""

    def __init__(self) -> None:
        self.work: list[Coroutine[Any, Any, None]] = []

    def send(self, work: Coroutine[Any, Any, None], kind: str, about: object) -> None:
        assert (kind, about) == ("mark", ("a", "p"))
        self.work.append(work)


async def test_a_binding_in_doubt_is_read_only_when_no_request_can_be_on_its_way_any_more() -> None:
    world = World(FaultPlan())
    world.node("n")
    loop = asyncio.get_running_loop()
    async with world.running() as scheduler:
        shown = scheduler.ledger.seen_bound
        scheduler.ledger.seen_bound = lambda *_: None  # type: ignore[method-assign]  # a watch that lags
        world.plan.script(Verb.BIND, Fault.CONFLICT)
        world.pod("a", "p")
        await until(lambda: any(start.doubt for start in scheduler.ledger.starts.values()))
        since = loop.time()
        scheduler.ledger.seen_bound = shown  # type: ignore[method-assign]  # as above
        await until(lambda: scheduler.ledger.in_quarantine or not scheduler.ledger.starts)
        assert 3 <= loop.time() - since <= 6, "a request may take three seconds"
        await until(lambda: world.bound() == {"p": "n"})
        assert all(start.phase is Phase.BOUND for start in scheduler.ledger.starts.values())
    check(scheduler.state)


async def test_a_binding_in_doubt_is_not_read_before_its_time_where_others_are_read_sooner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its answer is lost, and it is carried out 2.5 seconds later: the room is not given away meanwhile."""
    bind = Client.bind
    under_way: list[asyncio.Task[None]] = []

    async def lost(client: Client, namespace: str, pod: str, **given: Any) -> None:
        if pod != "p":
            await bind(client, namespace, pod, **given)
        elif under_way:
            raise ForbiddenError("admission says no", code=403)
        else:

            async def carry_out() -> None:
                await asyncio.sleep(2.5)
                await bind(client, namespace, pod, **given)

            under_way.append(asyncio.create_task(carry_out()))
            raise OutcomeUnknownError("cut")

    monkeypatch.setattr(Client, "bind", lost)
    world = World(FaultPlan())
    world.settings = Settings(minimum_runtime_seconds=0, confirm_seconds=1)
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        world.pod("a", "p", cpu="2")
        await until(lambda: under_way)
        world.pod("b", "q", cpu="2")
        await asyncio.sleep(20)
        assert world.bound() == {"p": "n"}
        assert not scheduler.ledger.starts
    check(scheduler.state)
