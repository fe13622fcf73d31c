"""Headroom: whether a unit that was decided still has its room at the moment in which its Bindings are to be sent.

A cycle counts whom it evicts as gone, and gives away within the same cycle what they leave: their nodes' room, and
their tenants' limits. Later cycles let claimants have what is left of that, or comes by others' doing. In truth these
pods stand until they have ended, or for good if the eviction is refused. Room and limits are waited for while it is
they who take it up.

What is looked at does not grow with the number of starts that wait, unless a limit is exceeded.

Devices by claims are no room: how many a pod counts for says nothing of a node that it may stand on (`claims`).

A unit's pods are looked at together. Starts of other units that wait count as not there: whoever is issued first counts
for those after it.
"""

from collections.abc import Container, Iterable, Iterator

from allotment_scheduler.core.objects.pods import Pod, PodKey
from allotment_scheduler.core.objects.resources import Column
from allotment_scheduler.core.objects.tenants import Tenant
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.shell.ledger import Ledger, Phase, Start

_Excess = tuple[Tenant, str | None, dict[Column, int]]
"""What a tenant holds beyond a limit, in one pool or in all."""


class Headroom:
    """What there is for one unit whose starts wait."""

    def __init__(self, state: ClusterState, ledger: Ledger, unit: list[Start]) -> None:
        self._state = state
        self._ledger = ledger
        self._unit = unit

    def on_nodes(self) -> bool | None:
        """Whether nodes have room for it now: yes, not yet, or (None) not at all."""
        tight = self._tight()
        verdicts = {None} if tight is None else {self._on(name) for name in tight}
        return None if None in verdicts else all(verdicts)

    def _tight(self) -> set[str] | None:
        """Nodes that have no room for all who count there; None where one of its nodes is gone."""
        state, tight = self._state, set[str]()
        for start in self._unit:
            node, pod = state.nodes.by_name.get(start.node), state.pods.get(start.key)
            if node is None or pod is None:
                return None
            free, index = state.nodes.free, node.index
            if state.stale or index < 0 or any(free[column, index] < 0 for column, _ in pod.klass.room):
                tight.add(start.node)
        return tight

    def _on(self, name: str) -> bool | None:
        state, node = self._state, self._state.nodes.by_name[name]
        if state.stale or node.index < 0:
            return False  # the next cycle lays it out; then we look again
        if not self._lacking(name):
            return True
        return False if any(each.spec.deleting for each in node.pods.values()) else None

    def _lacking(self, name: str) -> set[Column]:
        """What a node lacks for it, of what it asks for there."""
        state, node = self._state, self._state.nodes.by_name[name]
        asked = {column for start in self._unit if start.node == name for column, _ in state.pods[start.key].klass.room}
        rest = {column: int(state.nodes.free[column, node.index]) for column in asked}
        for other in self._others(node.pods.values()):
            for column, amount in other.klass.amounts:
                if column in rest:
                    rest[column] += amount
        return {column for column, left in rest.items() if left < 0}

    def within_limits(self) -> bool | None:
        """Whether its tenants' limits let it start now: yes, not before others have gone, or (None) not at all."""
        excesses = self._excesses()
        if not excesses:
            return True
        return False if all(self._comes(*it) for it in excesses) else None

    def awaited(self) -> set[PodKey]:
        """Pods on their way out that hold what it lacks: room or devices on its nodes, or a part of a limit.

        The state must be settled.
        """
        tight = self._tight()
        if tight is None:
            return set()
        state, excesses = self._state, self._excesses()
        lacking = {name: self._lacking(name) for name in tight}
        searching = {start.node for start in self._unit if state.pods[start.key].klass.spec.devices}
        return {
            pod.key
            for name in lacking.keys() | searching
            for pod in state.nodes.by_name[name].pods.values()
            if pod.spec.deleting
            and (_holds(pod, lacking.get(name, ())) or (pod.klass.spec.devices and name in searching))
        } | {
            pod.key
            for pod in (state.running.leaving() if excesses else ())
            if any(self._counts(pod, tenant, pool) and _holds(pod, over) for tenant, pool, over in excesses)
        }

    def _excesses(self) -> list[_Excess]:
        """Limits of its tenants that are exceeded in what it asks for."""
        limited = self._limited()
        if not limited:
            return []
        found = (self._state.nodes.by_name.get(start.node) for start in self._unit)
        pools = (None, *{node.pool for node in found if node is not None})
        return [excess for tenant in limited for pool in pools if (excess := self._excess(tenant, pool))]

    def _limited(self) -> tuple[Tenant, ...]:
        first = self._state.pods.get(self._unit[0].key)
        return () if first is None or first.leaf is None else first.leaf.limited_path

    def _excess(self, tenant: Tenant, pool: str | None) -> _Excess | None:
        """What a tenant holds beyond what it may of what the unit asks for, in one pool or in all; None if nothing."""
        caps = tenant.limits if pool is None else tenant.limits_in.get(pool, {})
        used = tenant.used if pool is None else tenant.used_at(pool)
        over = {column: used[column] - cap for column, cap in caps.items() if used[column] > cap}
        over = {column: over[column] for column in over.keys() & self._asked()}
        if not over:
            return None
        started = (self._state.pods.get(key) for key in self._ledger.starts)
        excess = tenant, pool, over
        self._deduct(excess, self._others(pod for pod in started if pod is not None))
        return excess if any(amount > 0 for amount in over.values()) else None

    def _comes(self, tenant: Tenant, pool: str | None, over: dict[Column, int]) -> bool:
        """Whether there is no excess once those have gone who are on their way out."""
        self._deduct((tenant, pool, over), self._state.running.leaving())
        return all(amount <= 0 for amount in over.values())

    def _deduct(self, excess: _Excess, pods: Iterable[Pod]) -> None:
        """Take what some pods hold off an excess."""
        tenant, pool, over = excess
        for pod in pods:
            if self._counts(pod, tenant, pool):
                for column, amount in pod.klass.amounts:
                    if column in over:
                        over[column] -= amount

    def _counts(self, pod: Pod, tenant: Tenant, pool: str | None) -> bool:
        """Whether a pod counts for a tenant, in one pool or in all."""
        if pod.leaf is None or tenant not in pod.leaf.path:
            return False
        node = self._state.nodes.by_name.get(pod.node or "")
        return pool is None or (node is not None and node.pool == pool)

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


def _holds(pod: Pod, columns: Container[Column]) -> bool:
    """Whether a pod takes up any of this."""
    return any(amount > 0 and column in columns for column, amount in pod.klass.amounts)
