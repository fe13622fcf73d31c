"""Keeps the picture of all tenants, pools and namespaces, and says who must be looked at when it changes.

Three watches of our own besides kopf's: a reflector tells of deletions it missed, and says when its first list is
complete. No tenant is planned for before all three are: with half of the tenants known, a parent would be missing and a
namespace would seem unclaimed.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from allotment_api.errors import InvalidManifestError
from allotment_api.labels import API_VERSION
from allotment_api.node_pool import NodePool
from allotment_api.tenant import Tenant
from allotment_kube.client import Client
from allotment_kube.reflector import Deleted, Event, Reflector, Synced, all_synced, run_together
from allotment_kube.resources import NAMESPACES, Resource
from allotment_operator.plans.outcome import TenantView
from allotment_operator.tenancy import entitlement, quota
from allotment_operator.tenancy.change import affected
from allotment_operator.tenancy.estate import SERVICE_KINDS, Estate, NamespaceFacts, ServiceFacts
from allotment_operator.tenancy.network import NameServers

_logger = logging.getLogger(__name__)

TENANTS = Resource.custom(API_VERSION, "Tenant", "tenants", namespaced=False)
NODE_POOLS = Resource.custom(API_VERSION, "NodePool", "nodepools", namespaced=False)


class Register:
    """The estate, kept up to date; also the engine's port to tenants.

    Args:
        client: with the operator's own rights.
        namespace: the operator's own namespace.
        dns: the cluster's name servers.
        services: all services as last seen.
        turnover: how often one has come or gone: a picture taken before that is out of date.
        changed: told which tenants must be looked at again.
    """

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        dns: NameServers,
        services: Callable[[], Iterable[ServiceFacts]],
        turnover: Callable[[], int],
        changed: Callable[[frozenset[str]], None],
    ) -> None:
        self._operator_namespace = namespace
        self._dns = dns
        self._services = services
        self._turnover = turnover
        self._changed = changed
        self._tenants: dict[str, Tenant] = {}
        self._unreadable: dict[str, str] = {}
        self._pools: dict[str, NodePool] = {}
        self._namespaces: dict[str, NamespaceFacts] = {}
        self._marks: dict[tuple[str, str], object] = {}
        self._views: dict[str, TenantView | None] = {}
        self._picture: Estate | None = None
        self._taken_at = 0
        self._told = Estate()
        self._reflectors: tuple[Reflector[Any], ...] = (
            Reflector(client, TENANTS, self._tenant, keep_objects=False),
            Reflector(client, NODE_POOLS, self._pool, keep_objects=False),
            Reflector(client, NAMESPACES.untyped, self._namespace, keep_objects=False),
        )

    async def run(self) -> None:
        """Watch until cancelled."""
        await run_together(self._reflectors)

    async def synced(self) -> None:
        """Wait until the picture is complete."""
        await all_synced(self._reflectors)

    def estate(self) -> Estate:
        """Return the picture now."""
        turnover = self._turnover()
        if self._picture is None or self._taken_at != turnover:
            self._taken_at = turnover
            self._picture = Estate(
                tenants=dict(self._tenants),
                unreadable=dict(self._unreadable),
                pools=dict(self._pools),
                namespaces=dict(self._namespaces),
                services=tuple(sorted(self._services())),
                operator_namespace=self._operator_namespace,
                dns=self._dns,
            )
        return self._picture

    def view(self, namespace: str) -> TenantView | None:
        """Return the tenant of a namespace, None if it belongs to nobody."""
        facts = self._namespaces.get(namespace)
        if facts is None or not facts.tenant:
            return None
        if facts.tenant not in self._views:
            self._views[facts.tenant] = entitlement.view(self.estate(), facts.tenant)
        return self._views[facts.tenant]

    def excess(self, kind: str, namespace: str, name: str) -> str:
        """Say why a service is one too many for its tenant; empty if it is not."""
        return quota.excess(self.estate(), ServiceFacts(kind, namespace, name)) if kind in SERVICE_KINDS else ""

    def services_changed(self, namespace: str) -> None:
        """Take note that a service came or went: counts are for the tenant as a whole."""
        facts = self._namespaces.get(namespace)
        if facts is not None and facts.tenant:
            # By the last picture, which has these tenants: a new one for each of thousands of services is too dear.
            told = self._told
            counting = [
                each.metadata.name
                for each in told.chain(facts.tenant)
                if any(one.count for one in each.spec.services or ())
            ]
            self._changed(frozenset({facts.tenant, *(below for name in counting for below in told.forest.below(name))}))

    def _tenant(self, event: Event[dict[str, Any]]) -> None:
        if isinstance(event, Synced):
            return
        _, name = event.key
        if isinstance(event, Deleted):
            self._tenants.pop(name, None)
            self._unreadable.pop(name, None)
        elif self._same(("Tenant", name), event.new):
            return
        else:
            try:
                self._tenants[name] = Tenant.parse(event.new, strict=False)
                self._unreadable.pop(name, None)
            except InvalidManifestError as error:
                # Its last good version stays in force; its own round says what is wrong with it.
                self._unreadable[name] = str(error)
        self._tell()

    def _pool(self, event: Event[dict[str, Any]]) -> None:
        if isinstance(event, Synced):
            return
        _, name = event.key
        if isinstance(event, Deleted):
            self._pools.pop(name, None)
        elif self._same(("NodePool", name), event.new):
            return
        else:
            try:
                self._pools[name] = NodePool.parse(event.new, strict=False)
            except InvalidManifestError as error:
                _logger.warning("%s", error)
        self._tell()

    def _namespace(self, event: Event[dict[str, Any]]) -> None:
        if isinstance(event, Synced):
            return
        _, name = event.key
        before = self._namespaces.get(name)
        if isinstance(event, Deleted):
            self._namespaces.pop(name, None)
        else:
            self._namespaces[name] = NamespaceFacts.of(event.new)
        if self._namespaces.get(name) != before:
            self._tell()

    def _same(self, key: tuple[str, str], manifest: Mapping[str, Any]) -> bool:
        """Say whether an event brings nothing but a new status, which the scheduler writes all the time."""
        metadata = manifest["metadata"]
        mark = (metadata.get("uid"), metadata.get("generation"), metadata.get("deletionTimestamp"))
        if self._marks.get(key) == mark:
            return True
        self._marks[key] = mark
        return False

    def _tell(self) -> None:
        self._picture = None
        self._views.clear()
        if all(reflector.statistics.lists for reflector in self._reflectors):
            after = self.estate()
            names = affected(self._told, after)
            self._told = after
            if names:
                self._changed(names)
