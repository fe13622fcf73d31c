"""What the API server refuses is not asked for again at once, and keeps nobody else from what there is."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from allotment_kube import Client
from allotment_kube.errors import ApiError, ForbiddenError, UnavailableError
from allotment_kube.resources import PODS, Resource
from allotment_scheduler.core.state.invariants import check
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
