"""Watches of what must never be otherwise: the walls of tenants' namespaces, and the network policies of services.

Where somebody changes or deletes one, its owner is looked at at once, and that round puts it back. Nothing is decided
here: the event says where to look, as for every other child.

Quotas change their status with every object that they count, so what counts is a fingerprint of what the operator
writes. Its own writes come back as events, too, and cost a round that finds nothing to do. Whoever undoes the
operator's work again and again is outlasted and not outrun: an owner is looked at `BURST` times at once, and from
then on once in `REFILL_SECONDS`.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from allotment_kube.client import Client
from allotment_kube.models import ObjectMeta
from allotment_kube.reflector import Deleted, Event, Reflector, Synced, all_synced, run_together
from allotment_kube.resources import Resource
from allotment_operator.kind import Key
from allotment_operator.plans.ownership import MANAGED_BY_LABEL, MANAGER
from allotment_operator.reconcile.queue import WorkQueue
from allotment_operator.watches import SETTLE_SECONDS, owner_key

WALLS: Final[tuple[Resource[dict[str, Any]], ...]] = (
    Resource.custom("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    Resource.custom("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
    Resource.custom("v1", "ResourceQuota", "resourcequotas"),
    Resource.custom("v1", "LimitRange", "limitranges"),
)
BURST: Final = 10
REFILL_SECONDS: Final = 10.0
_REMEMBERED: Final = 65_536
_LEFT_OUT: Final = frozenset({"apiVersion", "kind", "metadata", "status"})


@dataclass(slots=True)
class _Budget:
    left: float
    at: float
    due: float


class Pace:
    """Says when an owner is to be looked at, so that none is looked at more often than the budget allows.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._budgets: OrderedDict[Key, _Budget] = OrderedDict()

    def after(self, key: Key) -> float | None:
        """Return after how many seconds to look; None if a look that is still to come will see it as well."""
        now = self._clock()
        budget = self._budgets.setdefault(key, _Budget(BURST, now, float("-inf")))
        self._budgets.move_to_end(key)
        if len(self._budgets) > _REMEMBERED:
            self._budgets.popitem(last=False)
        if now < budget.due:
            return None
        budget.left = min(BURST, budget.left + (now - budget.at) / REFILL_SECONDS) - 1
        budget.at = now
        wait = max(SETTLE_SECONDS, -budget.left * REFILL_SECONDS)
        budget.due = now + wait
        return wait


class DriftWatches:
    """Reflects the walls and queues the owners of those that somebody changed.

    Args:
        client: with the operator's own rights.
        queue: where owners go.
        known: whether there is such a resource; labels may be copied by anybody.
        clock: seconds, monotonic; the event loop's own by default.
    """

    def __init__(
        self,
        client: Client,
        queue: WorkQueue[Key],
        *,
        known: Callable[[Key], bool],
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._queue = queue
        self._known = known
        self._pace = Pace(clock or (lambda: asyncio.get_running_loop().time()))
        self._seen: dict[tuple[str, tuple[str, str]], tuple[bytes, Key | None]] = {}
        self._reflectors = [
            Reflector(
                client,
                kind,
                self._hears(kind.kind),
                label_selector=f"{MANAGED_BY_LABEL}={MANAGER}",
                keep_objects=False,
            )
            for kind in WALLS
        ]

    async def run(self) -> None:
        """Watch until cancelled."""
        await run_together(self._reflectors)

    async def synced(self) -> None:
        """Wait until all of them have been listed."""
        await all_synced(self._reflectors)

    def _hears(self, kind: str) -> Callable[[Event[dict[str, Any]]], None]:
        def heard(event: Event[dict[str, Any]]) -> None:
            if isinstance(event, Synced):
                return
            place = (kind, event.key)
            print_before, owner = self._seen.get(place, (b"", None))
            if isinstance(event, Deleted):
                self._seen.pop(place, None)
            else:
                owner = owner_key(msgspec.convert(event.new["metadata"], ObjectMeta, strict=False))
                self._seen[place] = (fingerprint(event.new), owner)
                if self._seen[place][0] == print_before:
                    return
            if owner is not None and self._known(owner):
                after = self._pace.after(owner)
                if after is not None:
                    self._queue.add(owner, after=after)

        return heard


def fingerprint(manifest: Mapping[str, Any]) -> bytes:
    """Return a digest of all that the operator may have written of an object: no status, no book-keeping.

    Its type is left out: the items of a list do not carry it.
    """
    metadata = manifest["metadata"]
    said = {name: value for name, value in manifest.items() if name not in _LEFT_OUT}
    said |= {name: metadata.get(name) for name in ("labels", "annotations", "ownerReferences", "deletionTimestamp")}
    return hashlib.sha256(msgspec.json.encode(said, order="deterministic")).digest()
