"""Every metric of the scheduler, in one place, under one prefix.

Labels are bounded: rules, outcomes and reasons from closed sets, names of API resources, and the names of tenants, of
which a cluster has as many as its administrators made. Never a pod's name.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

PREFIX: Final = "allotment_scheduler_"
_CYCLE: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5)
_REQUEST: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3, 10)
_START: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 3600)

ASKED: Final = {
    "starts_under_way": "Pods decided and not seen bound yet.",
    "quarantined_pods": "Pods set aside.",
    "pods": "Pods known, finished ones aside.",
    "nodes": "Nodes known.",
}
"""Figures that are read where they are kept, at each scrape."""
COUNTED: Final = {
    "events_dropped_total": "Events on evictions that went over their namespace's budget.",
    "starts_confirmed_total": "Starts of ours that the watch has confirmed.",
}
"""The like of figures that only grow."""
WATCHED: Final = {"watch_events_total": "Events received, by kind.", "watch_relists_total": "Lists after the first."}
SHARES: Final = {
    "tenant_dominant_share": "Largest share.",
    "tenant_weighted_share": "Largest share by weight.",
    "tenant_regret": "The part of its entitlement that a tenant has not while pods of its wait; "
    "the worst resource counts.",
}
"""What there is of each tenant, as a part of a whole."""
AMOUNTS: Final = {"tenant_usage": "Use.", "tenant_entitlement": "Entitlement."}
"""The like by resource."""
FAULTS: Final = ("cycle", "picture", "report", "status", "takeover", "task", "unit")
"""Where the scheduler may fail and go on. Each stands at 0 from the start: only so is the first one an increase."""


class Elsewhere(Collector):
    """Counters that are kept elsewhere: what they have come to is read at each scrape."""

    def __init__(self) -> None:
        self.sources: dict[str, Callable[[], float]] = {}
        self.watches: dict[str, dict[str, float]] = {name: {} for name in WATCHED}
        """By name and kind."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Every counter as it stands now; those that nobody keeps yet at 0."""
        for name, what in COUNTED.items():
            yield CounterMetricFamily(PREFIX + name, what, value=self.sources.get(name, float)())
        for name, what in WATCHED.items():
            family = CounterMetricFamily(PREFIX + name, what, labels=["kind"])
            for kind, count in self.watches[name].items():
                family.add_metric([kind], count)
            yield family


class Rights(Collector):
    """What tenants use and may have, as it was reported last. Made into samples when somebody asks: there are many."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Every tenant's shares and amounts."""
        share, weighted, regretted = (
            GaugeMetricFamily(PREFIX + name, what, labels=["tenant"]) for name, what in SHARES.items()
        )
        used, entitled = (
            GaugeMetricFamily(PREFIX + name, what, labels=["tenant", "resource", "unit"])
            for name, what in AMOUNTS.items()
        )
        for report in self.reports:
            name = report["name"]
            share.add_metric([name], report["dominantShare"])
            if report["weightedShare"] is not None:
                weighted.add_metric([name], report["weightedShare"])
            regretted.add_metric([name], regret(report))
            for family, amounts in ((used, report["used"]), (entitled, report["entitlement"])):
                for resource, amount in amounts.items():
                    unit, whole = unit_of(resource)
                    family.add_metric([name, resource, unit], amount / whole)
        yield from (share, weighted, regretted, used, entitled)


class Metrics:
    """The scheduler's metrics; also takes note of the client's requests (`allotment_kube.Observer`)."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._cycle = Histogram(
            PREFIX + "cycle_seconds",
            "Time of a cycle: to decide, and to see what of it can be sent.",
            buckets=_CYCLE,
            registry=registry,
        )
        self._decisions = Counter(
            PREFIX + "decisions_total", "Decisions, by kind: start or evict.", ["kind"], registry=registry
        )
        self._binding = Histogram(
            PREFIX + "binding_seconds",
            "Time from sending a Binding to its outcome, repetitions included.",
            ["outcome"],
            buckets=_REQUEST,
            registry=registry,
        )
        self._latency = Histogram(
            PREFIX + "start_seconds",
            "Time from a pod's creation to seeing it bound.",
            buckets=_START,
            registry=registry,
        )
        self._forgotten = Counter(
            PREFIX + "starts_forgotten_total",
            "Starts that were decided and not issued, by reason.",
            ["reason"],
            registry=registry,
        )
        self._evictions = Counter(
            PREFIX + "evictions_total",
            "Evictions, by rule (P, R1, R2, Gang) and what became of them.",
            ["rule", "outcome"],
            registry=registry,
        )
        self._faults = Counter(
            PREFIX + "faults_total",
            f"Faults of its own that the scheduler went on after: {', '.join(FAULTS)}.",
            ["where"],
            registry=registry,
        )
        for where in FAULTS:
            self._faults.labels(where)
        self._requests = Counter(
            PREFIX + "api_requests_total",
            "Requests to the API server; code 0 is no answer.",
            ["method", "resource", "code"],
            registry=registry,
        )
        self._request_seconds = Histogram(
            PREFIX + "api_request_seconds",
            "Duration of requests to the API server.",
            ["method", "resource"],
            buckets=_REQUEST,
            registry=registry,
        )
        self._served = Histogram(
            PREFIX + "api_answer_seconds",
            "Time to answer callers of the scheduler's own API.",
            ["path", "code"],
            buckets=_REQUEST,
            registry=registry,
        )
        self._pending = Gauge(PREFIX + "pending_pods", "Pods that wait, by reason.", ["reason"], registry=registry)
        self._silence = Gauge(
            PREFIX + "watch_silence_seconds",
            "Seconds since the watch was last heard, or since the start where it never was.",
            ["kind"],
            registry=registry,
        )
        self._undecodable = Gauge(
            PREFIX + "watch_undecodable",
            "Objects left out now because they cannot be read.",
            ["kind"],
            registry=registry,
        )
        self._elsewhere, self._rights = Elsewhere(), Rights()
        registry.register(self._elsewhere)
        registry.register(self._rights)
        self._asked = {name: Gauge(PREFIX + name, what, registry=registry) for name, what in ASKED.items()}
        # Looking a child up by its labels costs more than counting: those of every request are kept.
        self._counted: dict[tuple[str, str, int], Counter] = {}
        self._timed: dict[tuple[str, str], Histogram] = {}
        self._outcomes: dict[str, Histogram] = {}
        self.leader = Gauge(PREFIX + "leader", "1 while this process holds the Lease.", registry=registry)
        self.settings_good = Gauge(
            PREFIX + "settings_good", "0 while the settings file is wrong and the last good one in force.",
            registry=registry,
        )  # fmt: skip
        self.settings_good.set(1)

    def gauges(self, **read: Callable[[], float]) -> None:
        """Give the sources of figures that are asked at each scrape, by the names in `ASKED` and `COUNTED`."""
        for name, source in read.items():
            if name in COUNTED:
                self._elsewhere.sources[name] = source
            else:
                self._asked[name].set_function(source)

    def names(self) -> set[str]:
        """Every metric by its name in queries, but for the endings of histograms."""
        found = set()
        for family in self.registry.collect():
            found.add(f"{family.name}_total" if family.type == "counter" else family.name)
        return found

    def observe(self, *, method: str, label: str, code: int, seconds: float) -> None:
        """Count one request."""
        counted = self._counted.get((method, label, code))
        if counted is None:
            counted = self._counted[method, label, code] = self._requests.labels(method, label, str(code))
        counted.inc()
        if label:
            timed = self._timed.get((method, label))
            if timed is None:
                timed = self._timed[method, label] = self._request_seconds.labels(method, label)
            timed.observe(seconds)

    def served(self, path: str, code: int, seconds: float) -> None:
        """Count one answer of our own API."""
        self._served.labels(path, str(code)).observe(seconds)

    def cycle(self, seconds: float, *, starts: int, evictions: int) -> None:
        """Count one cycle."""
        self._cycle.observe(seconds)
        if starts:
            self._decisions.labels("start").inc(starts)
        if evictions:
            self._decisions.labels("evict").inc(evictions)

    def bound(self, outcome: str, seconds: float) -> None:
        """Count one Binding."""
        found = self._outcomes.get(outcome)
        if found is None:
            found = self._outcomes[outcome] = self._binding.labels(outcome)
        found.observe(seconds)

    def started(self, seconds: float) -> None:
        """Count one pod seen bound."""
        self._latency.observe(max(0.0, seconds))

    def forgotten(self, reason: str, count: int) -> None:
        """Count starts that were not issued."""
        self._forgotten.labels(reason).inc(count)

    def fault(self, where: str) -> None:
        """Count one fault of ours."""
        self._faults.labels(where).inc()

    def evicted(self, rule: str, outcome: str) -> None:
        """Count one eviction."""
        self._evictions.labels(rule, outcome).inc()

    def waiting(self, by_reason: Mapping[str, int]) -> None:
        """Publish how many pods wait, and why."""
        self._pending.clear()
        for reason, count in by_reason.items():
            self._pending.labels(reason).set(count)

    def tenants(self, reports: list[dict[str, Any]]) -> None:
        """Publish every tenant's use and rights (`allotment_scheduler.core.report`)."""
        self._rights.reports = reports

    def forget_watches(self) -> None:
        """What is published of watches is about to be said anew: kinds that are not served any more are left out."""
        for gauge in (self._undecodable, self._silence):
            gauge.clear()
        for counts in self._elsewhere.watches.values():
            counts.clear()

    def watch(self, kind: str, *, events: int, relists: int, silence: float, undecodable: int) -> None:
        """Publish one watch's statistics."""
        self._undecodable.labels(kind).set(undecodable)
        self._elsewhere.watches["watch_events_total"][kind] = events
        self._elsewhere.watches["watch_relists_total"][kind] = relists
        self._silence.labels(kind).set(silence)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def unit_of(resource: str) -> tuple[str, int]:
    """The unit that a resource is published in, as kube-state-metrics names it, and how many of ours it is."""
    if resource == "cpu":
        return "core", 1000
    binary = resource in ("memory", "ephemeral-storage") or resource.startswith("hugepages-")
    return ("byte" if binary else "integer"), 1


def regret(report: Mapping[str, Any]) -> float:
    """The part of its entitlement that a tenant has not while pods of its wait: 0 to 1, of the worst resource."""
    if not report["pending"]:
        return 0.0
    used, entitlement = report["used"], report["entitlement"]
    missing: list[float] = [
        1 - used.get(resource, 0) / amount for resource, amount in entitlement.items() if amount > 0
    ]
    return max([0.0, *missing])
