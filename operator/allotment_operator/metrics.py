"""Every metric of the operator, in one place, under one prefix.

Labels are bounded: kinds, reasons from a closed set, names of API resources. Never a tenant's or an object's name: a
cluster has too many of them, and their state is in the API already.
"""

from collections import Counter as Count
from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

PREFIX: Final = "allotment_operator_"


class Metrics:
    """The operator's metrics; also takes note of the client's requests (`allotment_kube.Observer`).

    Args:
        queue_depth: how many keys wait, asked at each scrape.
    """

    def __init__(self, *, queue_depth: Callable[[], int] = lambda: 0) -> None:
        self.registry = CollectorRegistry()
        self._rounds = Counter(
            PREFIX + "rounds_total", "Rounds, by kind and result.", ["kind", "result"], registry=self.registry
        )
        self._seconds = Histogram(
            PREFIX + "round_seconds",
            "Duration of a round, from taking the key to writing the status.",
            ["kind"],
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self._failures = Counter(
            PREFIX + "failures_total",
            "Rounds that failed, by kind and reason.",
            ["kind", "reason"],
            registry=self.registry,
        )
        self._waiting = Counter(
            PREFIX + "queue_seconds_total", "Time that keys waited beyond their due time.", registry=self.registry
        )
        self._requests = Counter(
            PREFIX + "api_requests_total",
            "Requests to the API server; code 0 is no answer.",
            ["method", "resource", "code"],
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            PREFIX + "api_request_seconds",
            "Duration of requests to the API server.",
            ["method"],
            buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3, 10),
            registry=self.registry,
        )
        self._resources = Gauge(
            PREFIX + "resources", "Custom resources, by kind and Ready.", ["kind", "ready"], registry=self.registry
        )
        self._changes = Counter(
            PREFIX + "changes_total",
            "Objects created, changed or deleted, by kind.",
            ["action", "kind"],
            registry=self.registry,
        )
        self.leader = Gauge(PREFIX + "leader", "1 while this process holds the Lease.", registry=self.registry)
        depth = Gauge(PREFIX + "queue_depth", "Keys that wait, due or not.", registry=self.registry)
        depth.set_function(queue_depth)

    def observe(self, *, method: str, label: str, code: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(method, label, str(code)).inc()
        if label:
            self._request_seconds.labels(method).observe(seconds)

    def round(self, kind: str, *, result: str, seconds: float) -> None:
        """Count one round."""
        self._rounds.labels(kind, result).inc()
        self._seconds.labels(kind).observe(seconds)

    def failed(self, kind: str, reason: str) -> None:
        """Count one failure."""
        self._failures.labels(kind, reason).inc()

    def waited(self, seconds: float) -> None:
        """Count how late a key was taken."""
        self._waiting.inc(seconds)

    def changed(self, action: str, kind: str) -> None:
        """Count one change in the cluster."""
        self._changes.labels(action, kind).inc()

    def census(self, found: Iterable[tuple[str, str]]) -> None:
        """Publish how many resources there are, by kind and the status of Ready."""
        self._resources.clear()
        for (kind, ready), count in Count(found).items():
            self._resources.labels(kind, ready).set(count)

    def names(self) -> set[str]:
        """Every metric by its name in queries, but for the endings of histograms."""
        found = set()
        for family in self.registry.collect():
            found.add(f"{family.name}_total" if family.type == "counter" else family.name)
        return found

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
