"""Events about evictions: few, and none lost from the count."""

import asyncio
from typing import Any

from allotment_kube.models import Object
from allotment_kube.resources import Resource
from allotment_scheduler.shell.announcer import BUDGET, REFILL_SECONDS, Announcer
from allotment_scheduler.shell.ledger import Departure


class Written:
    """An API server that only takes Events."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.more = asyncio.Event()

    async def create(
        self, resource: Resource[Any], body: Object, *, namespace: str = "", dry_run: bool = False
    ) -> None:
        assert (resource.kind, namespace, dry_run) == ("Event", body["regarding"]["namespace"], False)
        self.notes.append(body["note"])
        self.more.set()


def eviction(number: int, namespace: str = "a") -> Departure:
    return Departure((namespace, f"pod-{number}"), f"uid-{number}", "n1", ("b", "claimant"), "R2", 0.0)


def test_a_flood_of_evictions_is_few_events_of_each_namespace_and_little_memory() -> None:
    now = [0.0]
    announcer = Announcer(instance="one", now=lambda: now[0])
    for number in range(5000):
        announcer.evicted(eviction(number))
        now[0] += 0.02
    assert announcer.dropped == 5000 - BUDGET - 9  # nine more in 100 s, and the tenth with the next eviction

    now[0] += BUDGET * REFILL_SECONDS + 1
    for number in range(3000):
        announcer.evicted(eviction(number, f"tenant-{number}"))
        now[0] += 1
    assert len(announcer._budgets) < 1300
    assert len(announcer._untold) < 1300


async def test_a_claimant_is_named_in_its_own_namespace_only() -> None:
    announcer, written = Announcer(instance="one", now=lambda: 0.0), Written()
    announcer.evicted(Departure(("a", "p"), "u", "n1", ("a", "boss"), "P", 0.0))
    announcer.evicted(Departure(("a", "q"), "v", "n1", ("b", "secret"), "R1", 0.0))
    writing = asyncio.create_task(announcer.run(written))
    async with asyncio.timeout(60):
        while len(written.notes) < 2:
            written.more.clear()
            await written.more.wait()
    writing.cancel()

    assert written.notes == [
        "evicted from n1 for a/boss, of higher priority in the same tenant",
        "evicted from n1 for a pod of a tenant that is below its guarantee",
    ]


async def test_what_goes_over_the_budget_is_told_in_sum() -> None:
    now = [0.0]
    announcer, written = Announcer(instance="one", now=lambda: now[0]), Written()
    for number in range(BUDGET + 7):
        announcer.evicted(eviction(number))
    announcer.evicted(eviction(0, "other"))
    now[0] = REFILL_SECONDS
    announcer.evicted(eviction(99))

    writing = asyncio.create_task(announcer.run(written))
    async with asyncio.timeout(60):
        while len(written.notes) < BUDGET + 2:
            written.more.clear()
            await written.more.wait()
    writing.cancel()

    assert announcer.dropped == 7
    assert [note for note in written.notes if "more evictions" in note] == [written.notes[-1]]
    assert "; 7 more evictions in this namespace" in written.notes[-1]
    assert all(
        note.startswith("evicted from n1 for a pod of a tenant that is below its entitlement") for note in written.notes
    )
