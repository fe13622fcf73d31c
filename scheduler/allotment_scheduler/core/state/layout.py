"""The layout: nodes as matrices, and every sum over pods, rebuilt from scratch after a change of structure."""

from fractions import Fraction
from typing import TYPE_CHECKING

from allotment_scheduler.core.fairness.shares import Measure
from allotment_scheduler.core.objects.resources import PODS, Column

if TYPE_CHECKING:
    from allotment_scheduler.core.state.cluster import ClusterState


def lay_out(state: "ClusterState") -> None:
    """Count everything anew from nodes and pods: room, use, capacity, neighbours, queues."""
    offered = state.attachments.devices_by_node()
    for name, node in state.nodes.by_name.items():
        node.devices = offered.get(name, {})
        for resource in node.devices:
            state.resources.column(resource)
    state.interning.learn()
    state.nodes.lay_out((pod.node, pod.klass.amounts) for pod in state.running.pods if pod is not None and pod.node)
    for node in state.nodes.ordered:
        node.pods.clear()
    for pod in state.running.pods:
        if pod is not None and pod.node in state.nodes.by_name:
            state.nodes.by_name[pod.node].pods[pod.slot] = pod
    indexes = {node.spec.name: node.index for node in state.nodes.ordered}
    state.running.relabel(indexes)
    state.pending.relabel(indexes)
    state.multi_pool = _tells_pools_apart(state)
    _measure(state)
    _recount(state)
    state.counters.rebuild()
    state.refitted.clear()
    state.lineup.requeue_all()


def _tells_pools_apart(state: "ClusterState") -> bool:
    """Whether it matters in which pool something is used: there are several, be they empty, or one has its price."""
    nodes = state.nodes
    return len({node.pool for node in nodes.ordered} | set(nodes.pools)) > 1 or any(
        cost != 1 for pool in nodes.pools.values() for cost in pool.cost.values()
    )


def _measure(state: "ClusterState") -> None:
    nodes = state.nodes
    usable = nodes.usable_mask()
    capacity: dict[str, dict[Column, int]] = {}
    for index, pool in enumerate(nodes.pool_names):
        members = usable & (nodes.pool_index == index)
        sums = nodes.allocatable[:, members].sum(axis=1)
        capacity[pool] = {Column(c): int(sums[c]) for c in range(len(state.resources.names)) if c != PODS}
    costs: dict[str, dict[Column, Fraction]] = {
        name: {state.resources.column(resource): Fraction(cost) for resource, cost in spec.cost.items()}
        for name, spec in nodes.pools.items()
    }
    state.measure = Measure.of(capacity, costs, state.resources.width)


def _recount(state: "ClusterState") -> None:
    width = state.resources.width
    for tenant in (state.forest.root, *state.forest.by_name.values()):
        tenant.used, tenant.fixed, tenant.used_in, tenant.fixed_in = [0] * width, [0] * width, {}, {}
    for pod in state.running.pods:
        if pod is not None and pod.leaf is not None:
            node = state.nodes.by_name.get(pod.node or "")
            pool = node.pool if node is not None and state.multi_pool else None
            pod.leaf.add(pod.klass.amounts, pool, fixed=not pod.spec.preemptible, sign=1)
