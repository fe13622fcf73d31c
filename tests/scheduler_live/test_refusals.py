"""What the API server refuses is not asked for again at once, and keeps nobody else from what there is."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from allotment_kube import Client
from allotment_kube.errors import ApiError, ForbiddenError, NotFoundError, UnavailableError
from allotment_kube.resources import PODS, Resource
from allotment_scheduler.core.state.invariants import check
from allotment_scheduler.shell.reporter import Reporter
from allotment_scheduler.shell.settings import Settings
from builders.live_world import World, until
from fakes.faults import FaultPlan

pytestmark = pytest.mark.looptime


class Refusing:
    """An API server that refuses to evict some pods; counts evictions and marks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *bad: str, error: ApiError | None = None) -> None:
        self.bad = set(bad)
        self.evictions: Counter[str] = Counter()
        self.marks = 0
        evict, patch = Client.evict, Client.patch

        async def refuse(client: Client, namespace: str, pod: str, **given: Any) -> None:
            self.evictions[pod] += 1
            if pod in self.bad:
                await asyncio.sleep(0.01)
                raise error or ForbiddenError("admission says no", code=403)
            await evict(client, namespace, pod, **given)

        async def mark(client: Client, resource: Resource[Any], name: str, *given: Any, **named: Any) -> Any:
            self.marks += resource is PODS
            return await patch(client, resource, name, *given, **named)

        monkeypatch.setattr(Client, "evict", refuse)
        monkeypatch.setattr(Client, "patch", mark)


async def test_a_refused_eviction_is_asked_for_again_after_doubling_times(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = Refusing(monkeypatch, "victim")
    world = World(FaultPlan())
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        await world.claimed()
        await asyncio.sleep(100)
        assert 3 <= refusing.evictions["victim"] <= 5, "after 10, 20, 40 … seconds"
        assert refusing.marks <= 3 * refusing.evictions["victim"]
        assert scheduler.progress.cycles < 200, "one a second, and a few"
        refusing.bad.clear()
        await until(lambda: world.bound() == {"claimant": "n"}, seconds=700)
    check(scheduler.state)


async def test_whose_plan_was_refused_starts_in_free_room_before_those_of_lower_priority(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Refusing(monkeypatch, "victim")
    world = World(FaultPlan())
    world.node("n", cpu="2")
    loop = asyncio.get_running_loop()
    async with world.running() as scheduler:
        await world.claimed()
        await until(lambda: (scheduler.ledger.barred.why(("a", "claimant")) or ("", 0, 0.0))[1] >= 4)
        why = Reporter(
            scheduler, lambda: world.settings, now=loop.time, publish=lambda _: None, failed=lambda: None
        ).explain(("a", "claimant"))
        assert why is not None
        assert why.code != "Quarantined"
        assert "the eviction of a/victim is refused: admission says no" in why.message
        world.pod("a", "low", cpu="2")
        world.node("free", cpu="2")
        await until(lambda: "free" in world.bound().values(), seconds=5)
        assert world.bound() == {"victim": "n", "claimant": "free"}
        assert not scheduler.ledger.in_quarantine
    check(scheduler.state)


async def test_a_claimant_is_told_of_a_refusal_and_not_of_the_pod_of_another_tenant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Refusing(monkeypatch, "secret-deal", error=ForbiddenError("budget secret-deal says no", code=403))
    world = World(FaultPlan())
    world.node("n", cpu="2")
    world.tenant("b", guaranteed={"cpu": "2"})
    loop = asyncio.get_running_loop()
    async with world.running() as scheduler:
        world.pod("a", "secret-deal", cpu="2")
        await until(lambda: world.bound() == {"secret-deal": "n"})
        world.pod("b", "claimant", cpu="2")
        await until(lambda: scheduler.ledger.barred.why(("b", "claimant")))
        reporter = Reporter(
            scheduler, lambda: world.settings, now=loop.time, publish=lambda _: None, failed=lambda: None
        )
        why = reporter.explain(("b", "claimant"))
        assert why is not None
        assert "the eviction of a pod in another namespace is refused" in why.message
        assert "secret-deal" not in why.message


async def test_a_pod_that_evicts_nobody_by_its_own_policy_still_does_not_after_a_bar(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusing = Refusing(monkeypatch)
    world = World(FaultPlan())
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        world.pod("a", "victim", cpu="2")
        await until(lambda: world.bound() == {"victim": "n"})
        world.pod("a", "meek", cpu="2", priority=9)
        found = world.server.get(PODS, "meek", "a") or {}
        world.server.put(PODS, {**found, "spec": {**found["spec"], "preemptionPolicy": "Never"}})
        await until(lambda: [each.spec.never_preempts for each in scheduler.state.waiting()] == [True])
        refusing.evictions.clear()
        scheduler.ledger.barred.refused(("a", "meek"), found["metadata"]["uid"], "", now=scheduler._clock(), first=2)
        await until(lambda: scheduler.ledger.barred.why(("a", "meek")) is None)
        await asyncio.sleep(5)
        assert scheduler.state.pods["a", "meek"].spec.never_preempts
        assert not refusing.evictions


async def test_a_late_refusal_gives_up_no_later_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    evict, calls, answered = Client.evict, 0, asyncio.Event()

    async def slow(client: Client, namespace: str, pod: str, **given: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            await asyncio.sleep(15)  # its plan is given up after 10
            answered.set()
            raise ForbiddenError("admission says no", code=403)
        await asyncio.sleep(10)
        await evict(client, namespace, pod, **given)

    monkeypatch.setattr(Client, "evict", slow)
    world = World(FaultPlan())
    world.settings = Settings(minimum_runtime_seconds=0, eviction_seconds=5)
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        await world.claimed()
        await until(lambda: calls == 2)
        plan = scheduler.ledger.starts["a", "claimant"]
        assert not answered.is_set()
        await answered.wait()
        await asyncio.sleep(0.1)
        assert scheduler.ledger.starts.get(("a", "claimant")) is plan
        assert scheduler.ledger.barred.why(("a", "claimant")) is None
        await until(lambda: world.bound() == {"claimant": "n"})
    check(scheduler.state)


@pytest.mark.parametrize("asides", ["spared", "barred"])
async def test_a_pod_is_left_alone_no_longer_than_to_the_moment(asides: str) -> None:
    world = World(FaultPlan())
    world.node("n", cpu="2")
    loop = asyncio.get_running_loop()
    async with world.running() as scheduler:
        await world.claimed()
        await until(lambda: world.bound() == {"claimant": "n"})
        world.pod("a", "waits", cpu="2")
        await until(lambda: ("a", "waits") in scheduler.state.pods)
        name = "claimant" if asides == "spared" else "waits"
        found = scheduler.state.pods["a", name].spec
        await asyncio.sleep(5)
        kept = getattr(scheduler.ledger, asides)
        kept.refused(found.key, found.uid, "", now=scheduler._clock(), first=0.3)
        began = loop.time()
        scheduler._known.wake()
        while kept.holds(found.key, found.uid):
            assert loop.time() < began + 60
            await asyncio.sleep(0.01)
        assert loop.time() - began < 0.5


async def test_a_pod_that_cannot_be_evicted_keeps_nobody_from_another_victim(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = Refusing(monkeypatch, "bad")
    world = World(FaultPlan())
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        for name in ("good", "bad"):  # the youngest goes first
            world.pod("a", name)
            await until(lambda name=name: name in world.bound())  # type: ignore[misc] # mypy knows no such defaults
            await asyncio.sleep(2)
        world.pod("a", "claimant", priority=9)
        await until(lambda: world.bound() == {"bad": "n", "claimant": "n"}, seconds=5)
        assert refusing.evictions == {"bad": 1, "good": 1}
        assert scheduler.state.pods["a", "bad"].spec.spared
        await until(lambda: not scheduler.state.pods["a", "bad"].spec.spared, seconds=15)
    check(scheduler.state)


async def test_an_eviction_that_fails_until_the_plan_ends_is_not_begun_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = UnavailableError("This pod has more than one PodDisruptionBudget", code=500)
    refusing = Refusing(monkeypatch, "bad", error=error)
    world = World(FaultPlan())
    world.settings = Settings(minimum_runtime_seconds=0, eviction_seconds=5)
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        for name in ("good", "bad"):
            world.pod("a", name)
            await until(lambda name=name: name in world.bound())  # type: ignore[misc] # mypy knows no such defaults
            await asyncio.sleep(2)
        world.pod("a", "claimant", priority=9)
        await until(lambda: world.bound() == {"bad": "n", "claimant": "n"}, seconds=200)
        assert refusing.evictions["good"] == 1
    check(scheduler.state)


async def test_a_mark_that_is_refused_is_not_made_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    patch, refused = Client.patch, 0

    async def refuse(client: Client, resource: Resource[Any], name: str, *given: Any, **named: Any) -> Any:
        nonlocal refused
        if name != "claimant":
            return await patch(client, resource, name, *given, **named)
        refused += 1
        await asyncio.sleep(0.01)
        raise ForbiddenError("admission says no", code=403)

    world = World(FaultPlan())
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        monkeypatch.setattr(Client, "patch", refuse)
        await world.claimed()
        await asyncio.sleep(60)
        assert 4 <= refused <= 8
        assert not scheduler.state.pods["a", "victim"].spec.spared, "it was never asked"
        assert world.bound() == {"victim": "n"}
    check(scheduler.state)


@pytest.mark.parametrize("rebuilt", [False, True], ids=["as it was", "built anew"])
async def test_a_victim_that_stays_is_a_victim_like_any_other_again(
    *, rebuilt: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = Refusing(monkeypatch, "victim", error=UnavailableError("not now", code=503))
    world = World(FaultPlan())
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        await world.claimed()
        await until(lambda: refusing.evictions["victim"])
        if rebuilt:
            scheduler._known.rebuild()
            assert scheduler.state.pods["a", "victim"].leaving
        world.server.remove(PODS, "claimant", "a")
        await until(lambda: not scheduler.ledger.departures)
        refusing.bad.clear()
        assert not scheduler.state.pods["a", "victim"].spec.deleting
        assert not scheduler.ledger.undertakings
        world.pod("a", "next", cpu="2", priority=9)
        await until(lambda: world.bound() == {"next": "n"})
    check(scheduler.state)


async def test_a_victim_that_is_gone_already_is_asked_once_however_late_the_watch_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusing = Refusing(monkeypatch, "victim", error=NotFoundError('pods "victim" not found', code=404))
    world = World(FaultPlan())
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        await world.claimed()
        await asyncio.sleep(20)
        assert refusing.evictions == {"victim": 1}
        assert refusing.marks == 1
        assert not scheduler._outcomes.evictions, "it went by itself"
        world.server.remove(PODS, "victim", "a")  # now the watch tells
        await until(lambda: world.bound() == {"claimant": "n"})
    check(scheduler.state)
