"""Headroom: whether a unit that was decided still has its room at the moment in which its Bindings are to be sent.

A cycle counts whom it evicts as gone, and gives away within the same cycle what they leave: their nodes' room, and
their tenants' limits. In truth they stand until they have ended, or for good if the eviction is refused. Room on nodes
is waited for while pods are on their way out. A limit is not: the core counts the pods that are leaving from its next
cycle on, so a start beyond a limit is forgotten, and decided again when they are gone.

What is looked at does not grow with the number of starts that wait, unless a limit is exceeded.

Devices by claims are no room: how many a pod counts for says nothing of a node that it may stand on (`claims`).

A unit's pods are looked at together. Starts of other units that wait count as not there: whoever is issued first counts
for those after it.
"""

from collections.abc import Iterable, Iterator

from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.objects.resources import Column
from allotment_scheduler.core.objects.tenants import Tenant
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.shell.ledger import Ledger, Phase, Start


class Headroom:
    """What there is for one unit whose starts wait."""

    def __init__(self, state: ClusterState, ledger: Ledger, unit: list[Start]) -> None:
        self._state = state
        self._ledger = ledger
        self._unit = unit

    def on_nodes(self) -> bool | None:
        """Whether nodes have room for it now: yes, not yet, or (None) not at all."""
        state, tight = self._state, set[str]()
        for start in self._unit:
            node, pod = state.nodes.by_name.get(start.node), state.pods.get(start.key)
            if node is None or pod is None or not node.usable:
                return None
            free, index = state.nodes.free, node.index
            if state.stale or index < 0 or any(free[column, index] < 0 for column, _ in pod.klass.room):
                tight.add(start.node)
        verdicts = {self._on(name) for name in tight}
        return None if None in verdicts else all(verdicts)

    def _on(self, name: str) -> bool | None:
        state, node = self._state, self._state.nodes.by_name[name]
        if state.stale or node.index < 0:
            return False  # the next cycle lays it out; then we look again
        asked = {column for start in self._unit if start.node == name for column, _ in state.pods[start.key].klass.room}
        lacking = {column: int(state.nodes.free[column, node.index]) for column in asked}
        for other in self._others(node.pods.values()):
            for column, amount in other.klass.amounts:
                if column in lacking:
                    lacking[column] += amount
        if all(rest >= 0 for rest in lacking.values()):
            return True
        return False if any(each.spec.deleting for each in node.pods.values()) else None

    def within_limits(self) -> bool:
        """Whether its tenants' limits hold if it starts now, with all that is leaving still there."""
        first = self._state.pods.get(self._unit[0].key)
        if first is None or first.leaf is None or not first.leaf.limited_path:
            return True
        found = (self._state.nodes.by_name.get(start.node) for start in self._unit)
        pools = (None, *{node.pool for node in found if node is not None})
        return not any(self._exceeds(tenant, pool) for tenant in first.leaf.limited_path for pool in pools)

    def _exceeds(self, tenant: Tenant, pool: str | None) -> bool:
        """Whether a tenant holds more than it may of what the unit asks for, in one pool or in all."""
        caps = tenant.limits if pool is None else tenant.limits_in.get(pool, {})
        used = tenant.used if pool is None else tenant.used_at(pool)
        over = {column: used[column] - cap for column, cap in caps.items() if used[column] > cap}
        if not over or over.keys().isdisjoint(self._asked()):
            return False
        started = (self._state.pods.get(key) for key in self._ledger.starts)
        for other in self._others(pod for pod in started if pod is not None):
            if other.leaf is None or tenant not in other.leaf.path:
                continue
            node = self._state.nodes.by_name.get(other.node or "")
            if pool is None or (node is not None and node.pool == pool):
                for column, amount in other.klass.amounts:
                    if column in over:
                        over[column] -= amount
        return any(over[column] > 0 for column in over.keys() & self._asked())

    def _asked(self) -> set[Column]:
        """What its pods count for."""
        return {column for start in self._unit for column, _ in self._state.pods[start.key].klass.amounts}

    def _others(self, pods: Iterable[Pod]) -> Iterator[Pod]:
        """Those pods, of other units, whose starts wait."""
        for pod in pods:
            start = self._ledger.starts.get(pod.key)
            if start is None or start.phase is not Phase.WAITING or start.unit == self._unit[0].unit:
                continue
            if pod.node == start.node:
                yield pod
