"""What the metrics say: true numbers, no series of what is no more, and as many series as there are tenants."""

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import pytest

from allotment_scheduler.core.report import tenants_report
from allotment_scheduler.shell import metrics as metrics_module
from allotment_scheduler.shell.issuing import Issuing
from allotment_scheduler.shell.metrics import FAULTS, Metrics, regret
from builders.live_world import World, until
from fakes.faults import FaultPlan


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"allotment_scheduler_{name}", labels)


def tenant(name: str, **given: Any) -> dict[str, Any]:
    return {
        "name": name, "dominantShare": 0.5, "weightedShare": 0.25, "used": {"cpu": 2000},
        "entitlement": {"cpu": 4000, "memory": 100}, "pending": 1, **given,
    }  # fmt: skip


def test_a_tenants_series_go_with_it() -> None:
    metrics = Metrics()

    metrics.tenants([tenant("red"), tenant("blue", weightedShare=None)])
    assert value(metrics, "tenant_dominant_share", tenant="red") == 0.5
    assert value(metrics, "tenant_weighted_share", tenant="blue") is None
    assert value(metrics, "tenant_entitlement", tenant="red", resource="cpu", unit="core") == 4
    assert value(metrics, "tenant_usage", tenant="red", resource="cpu", unit="core") == 2
    assert value(metrics, "tenant_entitlement", tenant="red", resource="memory", unit="byte") == 100
    metrics.tenants([tenant("blue")])

    left = {sample.labels.get("tenant") for family in metrics.registry.collect() for sample in family.samples}
    assert left - {None} == {"blue"}


def test_a_reason_that_nobody_waits_for_any_more_has_no_series() -> None:
    metrics = Metrics()

    metrics.waiting({"AboveLimit": 3, "Reserved": 1})
    metrics.waiting({"AboveLimit": 2})

    assert value(metrics, "pending_pods", reason="AboveLimit") == 2
    assert value(metrics, "pending_pods", reason="Reserved") is None


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ({}, 1.0),  # no memory at all
        ({"used": {"cpu": 2000, "memory": 100}}, 0.5),
        ({"used": {"cpu": 9000, "memory": 900}}, 0.0),
        ({"pending": 0}, 0.0),
        ({"entitlement": {"cpu": 0}}, 0.0),
    ],
    ids=["nothing of one resource", "half of one", "more than it may", "nobody waits", "entitled to nothing"],
)
def test_regret_is_what_is_missing_of_the_entitlement_while_pods_wait(given: dict[str, Any], want: float) -> None:
    assert regret(tenant("red", **given)) == want


def test_the_first_fault_of_every_kind_is_an_increase() -> None:
    """A series that appears with its first fault is never seen to grow, and nobody is alerted."""
    metrics = Metrics()
    assert {where: value(metrics, "faults_total", where=where) for where in FAULTS} == dict.fromkeys(FAULTS, 0)

    source = Path(metrics_module.__file__).parent.glob("*.py")
    counted = {where for file in source for where in re.findall(r"metrics\.fault\(\"(\w+)\"\)", file.read_text())}
    assert counted == set(FAULTS)


def test_what_only_grows_is_a_counter() -> None:
    metrics = Metrics()
    grown = {"events_dropped_total": 3.0, "starts_confirmed_total": 4.0}
    metrics.gauges(**{name: count.__float__ for name, count in grown.items()})
    metrics.watch("pods", events=7, relists=2, silence=0.5, undecodable=1)

    text = metrics.text().decode()

    assert {name: value(metrics, name) for name in grown} == grown
    assert value(metrics, "watch_events_total", kind="pods") == 7
    assert value(metrics, "watch_relists_total", kind="pods") == 2
    assert "# TYPE allotment_scheduler_watch_events_total counter" in text


def test_of_a_kind_that_is_served_no_more_nothing_stands_for_ever() -> None:
    metrics = Metrics()
    metrics.watch("Claim", events=1, relists=0, silence=2.0, undecodable=3)
    metrics.forget_watches()
    metrics.watch("Pod", events=1, relists=0, silence=2.0, undecodable=0)

    assert value(metrics, "watch_undecodable", kind="Claim") is None
    assert value(metrics, "watch_undecodable", kind="Pod") == 0


def test_no_label_carries_the_name_of_a_pod() -> None:
    """Labels are closed sets, kinds of the API, and tenants."""
    metrics = Metrics()
    metrics.tenants([tenant("red")])
    made = (getattr(family, "_labelnames", ()) for family in metrics.registry._names_to_collectors.values())
    collected = (sample.labels for family in metrics.registry.collect() for sample in family.samples)
    named = {label for labels in (*made, *collected) for label in labels}

    assert named <= {
        "kind", "outcome", "reason", "rule", "where", "method", "resource", "code", "path", "tenant", "unit", "le",
    }  # fmt: skip


@pytest.mark.looptime
async def test_what_is_decided_and_done_is_counted() -> None:
    world = World(FaultPlan())
    world.node("n", cpu="2")
    async with world.running() as scheduler:
        metrics = scheduler._metrics
        await world.claimed()
        await until(lambda: world.bound() == {"claimant": "n"})
        await asyncio.sleep(1)
        metrics.tenants(tenants_report(scheduler.engine))

    assert value(metrics, "evictions_total", rule="P", outcome="accepted") == 1
    assert value(metrics, "decisions_total", kind="evict") == 1
    assert (value(metrics, "decisions_total", kind="start") or 0) >= 1
    assert (value(metrics, "binding_seconds_count", outcome="bound") or 0) >= 1
    assert (value(metrics, "cycle_seconds_count") or 0) >= 2
    assert value(metrics, "tenant_usage", tenant="b", resource="cpu", unit="core") in {None, 0}


@pytest.mark.looptime
async def test_a_changed_setting_reaches_what_decides_without_a_restart() -> None:
    world = World(FaultPlan())
    async with world.running() as scheduler:
        world.settings = world.settings.model_copy(update={"evictions_per_hour": 7, "minimum_runtime_seconds": 99})
        scheduler.configure()

        engine = scheduler.engine
        for part in (engine, engine.brakes, engine.holds, engine.reservations, engine.quarantine):
            assert (part.settings.evictions_per_hour, part.settings.least_runtime) == (7, 99)


@pytest.mark.looptime
async def test_a_cycle_counts_with_what_follows_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """To see who may be sent can take longer than to decide, and nobody else has a turn meanwhile."""
    issue = Issuing.issue

    def slowly(issuing: Issuing, *given: Any) -> None:
        time.sleep(0.2)
        issue(issuing, *given)

    monkeypatch.setattr(Issuing, "issue", slowly)
    world = World(FaultPlan())
    async with world.running() as scheduler:
        await until(lambda: scheduler.progress.complete)

    assert scheduler.progress.last_cycle_seconds >= 0.2
    assert (value(scheduler._metrics, "cycle_seconds_sum") or 0) >= 0.2
