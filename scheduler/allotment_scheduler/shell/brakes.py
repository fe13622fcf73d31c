"""Brakes against thrash: what keeps evictions rare where time passes.

- A pod is no victim of fairness (R2) before it has run for a minimum time. A guarantee (R1) and priority within a
  tenant (P) need not wait.
- A tenant loses no more than so many pods an hour to others.

The budget is kept in `Tenant.status.evictions`, so that a new leader does not start from nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from allotment_scheduler.core.pods import Pod

HOUR: Final = 3600.0


@dataclass(slots=True)
class _Spent:
    since: float
    pods: int


class Brakes:
    """Says whether a pod may be a victim now.

    Args:
        minimum_runtime: seconds, asked each time because settings change.
        per_hour: evictions per tenant and hour.
        now: seconds since the epoch.
    """

    def __init__(
        self, *, minimum_runtime: Callable[[], float], per_hour: Callable[[], int], now: Callable[[], float]
    ) -> None:
        self._minimum_runtime = minimum_runtime
        self._per_hour = per_hour
        self._now = now
        self._spent: dict[str, _Spent] = {}

    def may_go(self, pod: Pod, rule: str) -> bool:
        """Whether a pod may be evicted by a rule (P, R1 or R2)."""
        if rule == "P":
            return True
        now = self._now()
        if rule == "R2" and now - pod.started < self._minimum_runtime():
            return False
        return pod.leaf is None or self.spent(pod.leaf.shown_name, now) < self._per_hour()

    def spend(self, tenant: str, pods: int = 1) -> None:
        """A tenant loses pods to others."""
        now = self._now()
        self.spent(tenant, now)
        self._spent.setdefault(tenant, _Spent(now, 0)).pods += pods

    def spent(self, tenant: str, now: float) -> int:
        """Pods that a tenant has lost within the present hour."""
        found = self._spent.get(tenant)
        if found is None:
            return 0
        if now - found.since >= HOUR:
            del self._spent[tenant]
            return 0
        return found.pods

    def remember(self, tenant: str, status: Any) -> None:  # noqa: ANN401 - Tenant.status.evictions as it was written
        """Take over what an earlier leader wrote."""
        try:
            since = datetime.fromisoformat(status["windowStart"]).timestamp()
            self._spent[tenant] = _Spent(since, int(status["used"]))
        except (KeyError, TypeError, ValueError):
            return

    def status(self, tenant: str) -> dict[str, Any] | None:
        """What to write into the tenant's status; None where nothing was lost."""
        if not self.spent(tenant, self._now()):
            return None
        found = self._spent[tenant]
        since = datetime.fromtimestamp(int(found.since), UTC)
        return {"windowStart": since.strftime("%Y-%m-%dT%H:%M:%SZ"), "used": found.pods}
