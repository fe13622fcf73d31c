"""Events on pods: a courtesy to those who run `kubectl describe`.

Only what is rare and matters is announced: evictions, on the victim. Per tenant namespace there is a budget, so that a
large reclaim cannot flood the API server; what goes over it is counted, told in the next Event of that namespace, and
is in the log and the metrics. A failure to write one is logged and forgotten. A claimant of another namespace is not
named: whoever reads a tenant's Events need not know what others run.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from allotment_kube.errors import ApiError, LeadershipLostError
from allotment_kube.models import Object
from allotment_kube.resources import EVENTS, Resource
from allotment_scheduler.shell.ledger import Departure

_logger = logging.getLogger(__name__)
CONTROLLER: Final = "allotment.dev/scheduler"
BUDGET: Final = 20
"""Events in one namespace at once."""
REFILL_SECONDS: Final = 10.0
"""After so long there is budget for one more."""
_MOST_NAMESPACES: Final = 1000
"""Namespaces from which on those whose budget is whole again are forgotten."""
REASONS: Final = {
    "P": "of higher priority in the same tenant",
    "R1": "of a tenant that is below its guarantee",
    "R2": "of a tenant that is below its entitlement",
    "Gang": "whose gang lost members and was not whole again in time",
}


class CreatingClient(Protocol):
    """What is needed of a client."""

    async def create(self, resource: Resource[Any], body: Object, *, namespace: str = "", dry_run: bool = False) -> Any:  # noqa: ANN401 - the created object, which nobody reads
        """Create an object."""


class Announcer:
    """Writes Events from a queue of its own: nobody waits for them."""

    def __init__(self, *, instance: str, now: Callable[[], float]) -> None:
        self._instance = instance[:128] or "scheduler"
        self._now = now
        self._budgets: dict[str, tuple[float, float]] = {}
        self._untold: dict[str, int] = {}
        self._queue: asyncio.Queue[Object] = asyncio.Queue(maxsize=500)
        self.dropped = 0

    def evicted(self, departure: Departure) -> None:
        """A pod was evicted."""
        namespace, name = departure.key
        if not self._may(namespace) or self._queue.full():
            self.dropped += 1
            self._untold[namespace] = self._untold.get(namespace, 0) + 1
            return
        note = f"evicted from {departure.node} for {_claimant(departure)} {REASONS.get(departure.rule, '')}"
        untold = self._untold.pop(namespace, 0)
        if untold:
            note += f"; {untold} more evictions in this namespace were not announced one by one"
        at = datetime.fromtimestamp(self._now(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        digest = hashlib.sha256(f"{departure.uid}{at}".encode()).hexdigest()[:16]
        self._queue.put_nowait(
            {
                "apiVersion": EVENTS.api_version,
                "kind": EVENTS.kind,
                "metadata": {"name": f"{name[:200]}.{digest}", "namespace": namespace},
                "eventTime": at,
                "reportingController": CONTROLLER,
                "reportingInstance": self._instance,
                "action": "Evict",
                "reason": "Evicted",
                "type": "Normal",
                "note": note[:1024],
                "regarding": {
                    "apiVersion": "v1", "kind": "Pod", "name": name, "namespace": namespace, "uid": departure.uid,
                },
            }
        )  # fmt: skip

    async def run(self, client: CreatingClient) -> None:
        """Write what was announced until cancelled."""
        while True:
            body = await self._queue.get()
            try:
                await client.create(EVENTS, body, namespace=body["metadata"]["namespace"])
            except LeadershipLostError:
                raise
            except ApiError as error:
                _logger.info("an event was not written: %s", error)

    def _may(self, namespace: str) -> bool:
        now = self._now()
        if len(self._budgets) > _MOST_NAMESPACES:
            whole = now - BUDGET * REFILL_SECONDS
            self._budgets = {name: found for name, found in self._budgets.items() if found[1] > whole}
            self._untold = {name: count for name, count in self._untold.items() if name in self._budgets}
        left, at = self._budgets.get(namespace, (float(BUDGET), now))
        left = min(float(BUDGET), left + max(0.0, now - at) / REFILL_SECONDS)
        allowed = left >= 1
        self._budgets[namespace] = (left - allowed, now)
        return allowed


def _claimant(departure: Departure) -> str:
    """Whom a pod was evicted for, as far as its own tenant may know."""
    own = departure.claimant[0] == departure.key[0]
    return f"{'/'.join(departure.claimant)}," if own else "a pod"
