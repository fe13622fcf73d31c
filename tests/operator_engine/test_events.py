"""Kubernetes Events: told when an answer changes, counted when repeated, limited when something flaps."""

import asyncio
import datetime as dt
from typing import Any

import pytest

from allotment_api.conditions import condition
from allotment_kube.client import Client
from allotment_kube.resources import EVENTS
from allotment_operator.events import BUDGET, Recorder, transitions
from fakes.api_server import FakeApiServer
from fakes.faults import Fault, FaultPlan, Verb
from fakes.in_process import InProcessTransport

pytestmark = pytest.mark.looptime

START = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)
TENANT = {"apiVersion": "allotment.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": "retail", "uid": "u1"}}


class Scene:
    """A recorder whose clock is set by hand, and whose stopwatch runs on when that is set back."""

    def __init__(self, plan: FaultPlan | None = None) -> None:
        self.now = START
        self.set_back = dt.timedelta()
        self.server = FakeApiServer()
        client = Client(InProcessTransport(self.server, plan))
        self.recorder = Recorder(
            client,
            instance="op-1",
            clock=lambda: self.now,
            stopwatch=self.seconds,
        )

    def seconds(self) -> float:
        return (self.now + self.set_back - START).total_seconds()

    def set_clock_back(self, by: dt.timedelta) -> None:
        self.now -= by
        self.set_back += by

    async def written(self) -> list[dict[str, Any]]:
        task = asyncio.create_task(self.recorder.run())
        await asyncio.sleep(60)
        task.cancel()
        return self.server.objects(EVENTS)


async def test_an_event_names_its_object_and_lies_where_kubectl_looks() -> None:
    scene = Scene()
    scene.recorder.note(TENANT, reason="ParentCycle", message="a → b → a", severity="Warning")

    [event] = await scene.written()

    assert event["metadata"]["namespace"] == "default"
    assert event["regarding"] == {
        "apiVersion": "allotment.dev/v1alpha1",
        "kind": "Tenant",
        "name": "retail",
        "uid": "u1",
    }
    assert (event["reason"], event["type"], event["note"]) == ("ParentCycle", "Warning", "a → b → a")


async def test_the_same_event_again_is_counted_and_written_once_a_minute() -> None:
    scene = Scene()
    for _ in range(30):
        scene.recorder.note(TENANT, reason="Flaps", message="m")
        scene.now += dt.timedelta(seconds=10)

    [event] = await scene.written()

    assert event["series"]["count"] == 25  # of 30; the last five were within the minute
    assert len(scene.server.journal) == 5


async def test_an_event_with_other_words_is_another_event() -> None:
    """The API server refuses to change the words of one that exists."""
    scene = Scene()
    for number in range(3):
        scene.recorder.note(TENANT, reason="Waits", message=f"{number} of 3 pods serve")
        scene.now += dt.timedelta(seconds=61)

    events = await scene.written()

    assert sorted(event["note"] for event in events) == [f"{number} of 3 pods serve" for number in range(3)]
    assert all("series" not in event for event in events)


async def test_an_object_that_flaps_between_reasons_has_a_budget() -> None:
    scene = Scene()
    told = [scene.recorder.note(TENANT, reason=f"R{number}", message="m") for number in range(BUDGET + 20)]

    assert sum(told) == BUDGET


async def test_a_clock_that_is_set_back_silences_nobody() -> None:
    scene = Scene()
    scene.recorder.note(TENANT, reason="Flaps", message="m")
    scene.set_clock_back(dt.timedelta(hours=10))
    scene.now += dt.timedelta(seconds=61)

    assert scene.recorder.note(TENANT, reason="Flaps", message="m")
    assert scene.recorder.note(TENANT, reason="Waits", message="m")


async def test_a_failure_to_write_stops_nothing() -> None:
    plan = FaultPlan(rates={Verb.PATCH: 1.0}, only=frozenset({Fault.ERROR}))
    scene = Scene(plan)
    for reason in ("One", "Two"):
        scene.recorder.note(TENANT, reason=reason, message="m")
    assert await scene.written() == []

    plan.stop()
    scene.recorder.note(TENANT, reason="Three", message="m")

    assert "Three" in {event["reason"] for event in await scene.written()}


def test_only_new_answers_are_told_and_the_usual_first_ones_are_not() -> None:
    before = [{"type": "Ready", "status": "True", "reason": "AsExpected"}]
    after = [
        condition("Ready", True, "AsExpected", now=START),
        condition("Valid", True, "AsExpected", now=START),
        condition("Degraded", True, "Forbidden", now=START),
        condition("Paused", True, "PausedByUser", now=START),
    ]

    assert [(each.type, severity) for each, severity in transitions(before, after)] == [
        ("Degraded", "Warning"),
        ("Paused", "Normal"),
    ]
