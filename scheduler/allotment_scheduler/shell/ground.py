"""The ground of the picture: nodes and their pools, tenants and their namespaces, disruption budgets, and storage.

Nodes are told again when their CSI limits change. What is told twice unchanged is told to the core once.

A claim for a volume that we have written is known as the API server answered, at once: what the watch tells of it from
before then is late, and is passed over.
"""

from dataclasses import replace
from typing import Any

from allotment_api.node_pool import NodePool
from allotment_api.quantities import QuantityError
from allotment_api.tenant import Evictions, Tenant
from allotment_kube.models import Object, ObjectMeta
from allotment_kube.nodes import Namespace, Node
from allotment_kube.storage import CSINode, PersistentVolume, PersistentVolumeClaim, StorageClass
from allotment_kube.workloads import PodDisruptionBudget
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.nodes import NodeSpec
from allotment_scheduler.shell.teller import Key, Problem, Teller
from allotment_scheduler.translation import cluster, storage


class Ground:
    """What there is for pods to stand on."""

    def __init__(self, teller: Teller) -> None:
        self.evictions: dict[str, Evictions | None] = {}
        """What each tenant's status says of evictions: for whoever takes over, a predecessor's memory."""
        self._teller = teller
        self._nodes: dict[str, NodeSpec] = {}
        self._raw_nodes: dict[str, Node] = {}
        self._csi: dict[str, CSINode] = {}
        self._unbound: dict[Key, ObjectMeta] = {}
        """Claims that no volume is bound to, as they are known."""
        self._written: set[Key] = set()
        """Those among them that are known as we wrote them: the watch has yet to show as much."""

    # --- nodes --------------------------------------------------------------------------------------------------

    def node(self, key: Key, node: Node | None) -> None:
        """A node exists and looks like this, or exists no longer."""
        name, problems = key[1], self._teller.problems
        if node is None:
            self._raw_nodes.pop(name, None)
            self._nodes.pop(name, None)
            self._teller.forget("Node", key)
            self._teller.apply(ev.NodeGone(name))
            return
        try:
            spec = cluster.node_spec(node, self._csi.get(name))
        except QuantityError as error:
            problems["Node", key] = Problem("Node", key, str(error), node.metadata.generation)
            return
        problems.pop(("Node", key), None)
        self._raw_nodes[name] = node
        if self._nodes.get(name) != spec:
            self._nodes[name] = spec
            self._teller.apply(ev.NodeSeen(spec))

    def csi_node(self, key: Key, found: CSINode | None) -> None:
        """The volume limits of a node are known, or no longer."""
        if found is None:
            self._csi.pop(key[1], None)
        else:
            self._csi[key[1]] = found
        node = self._raw_nodes.get(key[1])
        if node is not None:
            self.node(key, node)

    def pool(self, key: Key, manifest: Object) -> None:
        """A node pool exists and looks like this."""
        pool = self._teller.parsed("NodePool", key, manifest, NodePool.parse)
        if pool is None:
            return
        self._teller.apply(ev.PoolSeen(cluster.pool_spec(pool)))

    def pool_gone(self, key: Key) -> None:
        """A node pool is gone."""
        self._teller.forget("NodePool", key)
        self._teller.apply(ev.PoolGone(key[1]))

    # --- tenants ------------------------------------------------------------------------------------------------

    def tenant(self, key: Key, manifest: Object) -> None:
        """A tenant exists and looks like this."""
        tenant = self._teller.parsed("Tenant", key, manifest, Tenant.parse)
        if tenant is not None:
            self._teller.apply(ev.TenantSeen(cluster.tenant_spec(tenant)))
            self.evictions[key[1]] = tenant.status.evictions if tenant.status else None

    def tenant_gone(self, key: Key) -> None:
        """A tenant is gone."""
        self._teller.forget("Tenant", key)
        self.evictions.pop(key[1], None)
        self._teller.apply(ev.TenantGone(key[1]))

    def namespace(self, key: Key, found: Namespace | None) -> None:
        """A namespace exists, or exists no longer."""
        self._teller.apply(ev.NamespaceGone(key[1]) if found is None else cluster.namespace_seen(found))

    def budget(self, key: Key, found: PodDisruptionBudget | None) -> None:
        """A disruption budget exists, or exists no longer."""
        self._teller.apply(ev.BudgetGone(key) if found is None else ev.BudgetSeen(cluster.budget_spec(found)))

    # --- storage ------------------------------------------------------------------------------------------------

    def claim(self, key: Key, found: PersistentVolumeClaim | None) -> None:
        """A volume claim exists, or exists no longer."""
        if found is not None and key in self._written and self._unbound[key].supersedes(found.metadata):
            return  # from before we wrote it
        self._written.discard(key)
        if found is None:
            self._unbound.pop(key, None)
            self._stored(self._teller.state.attachments.claims.get(key), None)
        else:
            self._take_claim(key, found)

    def claim_written(self, key: Key, found: PersistentVolumeClaim) -> None:
        """A volume claim looks like this since we wrote it; the watch has yet to show it, or something newer."""
        before = self._unbound.get(key)
        if before is not None and found.metadata.supersedes(before):
            self._take_claim(key, found)
            if key in self._unbound:
                self._written.add(key)

    def _take_claim(self, key: Key, found: PersistentVolumeClaim) -> None:
        known, seen = self._teller.state.attachments.claims.get(key), storage.claim(found)
        if seen.volume is None:
            self._unbound[key] = found.metadata
        else:
            self._unbound.pop(key, None)
        if known is not None and known.uid == seen.uid:
            seen = replace(seen, not_made_on=known.not_made_on)
        self._stored(known, seen)

    def bar(self, key: Key, node: str, *, barred: bool) -> None:
        """For a claim, no volume can be made on a node for now; or one may be tried there again."""
        known = self._teller.state.attachments.claims.get(key)
        if known is not None:
            nodes = known.not_made_on | {node} if barred else known.not_made_on - {node}
            self._stored(known, replace(known, not_made_on=nodes))

    def volume(self, key: Key, found: PersistentVolume | None) -> None:
        """A volume exists, or exists no longer."""
        known = self._teller.state.attachments.volumes.get(key[1])
        self._stored(known, None if found is None else storage.volume(found))

    def storage_class(self, key: Key, found: StorageClass | None) -> None:
        """A storage class exists, or exists no longer."""
        known = self._teller.state.attachments.classes.get(key[1])
        self._stored(known, None if found is None else storage.storage_class(found))

    def _stored(self, known: Any, seen: Any) -> None:  # noqa: ANN401 - the kinds of StorageSeen.item
        if seen is None:
            if known is not None:
                self._teller.apply(ev.StorageGone(known))
        elif seen != known:
            self._teller.apply(ev.StorageSeen(seen))
