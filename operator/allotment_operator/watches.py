"""Watches of what our resources brought about: an event about a child queues its owner.

One watch per kind of child for the whole cluster, narrowed to what carries our mark; only metadata is decoded and kept.
"""

from collections.abc import Callable
from typing import Any, Final

from allotment_api.labels import API_VERSION, INSTANCE_LABEL, KIND_LABEL
from allotment_api.tenant import Tenant
from allotment_kube.client import Client
from allotment_kube.models import ObjectMeta, Resourced
from allotment_kube.reflector import Deleted, Event, Reflector, Synced, all_synced, run_together
from allotment_kube.resources import NODES, PODS, STATEFUL_SETS, Resource
from allotment_operator.kind import Key
from allotment_operator.plans.ownership import MANAGED_BY_LABEL, MANAGER
from allotment_operator.reconcile.queue import WorkQueue

CHILDREN: Final[tuple[Resource[Any], ...]] = (
    PODS,
    STATEFUL_SETS,
    Resource.custom(API_VERSION, "PodGroup", "podgroups"),
    Resource.custom(API_VERSION, "TenantPolicy", "tenantpolicies"),
)
"""Children whose state says how their owner is. What must only stay as it is, is watched by `drift`; the rest is looked
at in every round."""
SIMULATED_ANNOTATION: Final = "kwok.x-k8s.io/node"
"""Carried by nodes that exist in the API only: pods there say they run, and nothing listens."""
SETTLE_SECONDS: Final = 0.2
"""A pod's start is five events; one round after the last tells as much as five."""


def owner_key(metadata: ObjectMeta) -> Key | None:
    """Return whose child an object is, by its labels."""
    kind, name = metadata.labels.get(KIND_LABEL), metadata.labels.get(INSTANCE_LABEL)
    if not kind or not name:
        return None
    # A tenant's children lie in its namespaces, the tenant itself in none.
    return Key(kind, "" if kind == Tenant.definition.kind else metadata.namespace, name)


class ChildWatches:
    """Reflects children and queues their owners.

    Args:
        client: with the operator's own rights.
        queue: where owners go.
        known: whether there is such a resource; labels may be copied by anybody.
    """

    def __init__(self, client: Client, queue: WorkQueue[Key], *, known: Callable[[Key], bool]) -> None:
        self._queue = queue
        self._known = known
        self._reflectors = [
            Reflector(
                client,
                kind.decoded_as(Resourced),
                self._heard,
                label_selector=f"{MANAGED_BY_LABEL}={MANAGER}",
            )
            for kind in CHILDREN
        ]

    async def run(self) -> None:
        """Watch until cancelled."""
        await run_together(self._reflectors)

    async def synced(self) -> None:
        """Wait until all of them have been listed."""
        await all_synced(self._reflectors)

    def _heard(self, event: Event[Resourced]) -> None:
        if isinstance(event, Synced):
            return
        item = event.last if isinstance(event, Deleted) else event.new
        key = owner_key(item.metadata) if item is not None else None
        if key is not None and self._known(key):
            self._queue.add(key, after=SETTLE_SECONDS)


class Nodes:
    """Which nodes are simulated.

    Args:
        client: with the operator's own rights.
    """

    def __init__(self, client: Client) -> None:
        self._simulated: set[str] = set()
        self._reflector = Reflector(client, NODES.decoded_as(Resourced), self._heard, keep_objects=False)

    async def run(self) -> None:
        """Watch until cancelled."""
        await self._reflector.run()

    async def synced(self) -> None:
        """Wait for the first complete list."""
        await self._reflector.synced()

    def simulated(self, name: str) -> bool:
        """Say whether a node is simulated; an unknown one is not."""
        return name in self._simulated

    def _heard(self, event: Event[Resourced]) -> None:
        if isinstance(event, Synced):
            return
        if not isinstance(event, Deleted) and SIMULATED_ANNOTATION in event.new.metadata.annotations:
            self._simulated.add(event.key[1])
        else:
            self._simulated.discard(event.key[1])
