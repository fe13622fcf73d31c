"""Where a service's pods run: node pool, tolerations, spreading over zones and nodes.

How it thinks: pods of one service spread evenly over the topology key's values as far as there is room (a full zone
must not stop a restart), and two of them share a node only where the owner allows it. A pool is named; its nodes are
found by its selector and its taints are tolerated, both as the tenant's view of its pools has them.
"""

from collections.abc import Mapping
from typing import Any, Final

from allotment_api.labels import DEFAULT_POOL
from allotment_api.names import LabelSelector
from allotment_api.service import Placement
from allotment_operator.plans.outcome import TenantView
from allotment_operator.plans.unworkable import UnworkableError

HOSTNAME_LABEL: Final = "kubernetes.io/hostname"


def pod_placement(
    placement: Placement,
    tenant: TenantView,
    *,
    selector: Mapping[str, str],
    node_selector: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the fields of a pod's spec that say where it runs.

    Args:
        placement: what the owner asks for.
        tenant: whose pods they are.
        selector: labels of the pods that must keep apart.
        node_selector: labels that the nodes must carry besides, such as a rack's zone.

    Raises:
        UnworkableError: the tenant has no such pool.
    """
    spread = {
        "maxSkew": 1,
        "topologyKey": placement.topology_key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": dict(selector)},
    }
    affinity: dict[str, Any] = {}
    if not placement.share_nodes:
        term = {"topologyKey": HOSTNAME_LABEL, "labelSelector": {"matchLabels": dict(selector)}}
        affinity["podAntiAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    terms, keys = _pool(placement.node_pool, tenant)
    if terms:
        node_terms = {"nodeSelectorTerms": [{"matchExpressions": terms}]}
        affinity["nodeAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": node_terms}
    tolerations = [{"key": key, "operator": "Exists"} for key in keys]
    return {
        "topologySpreadConstraints": [spread],
        **({"affinity": affinity} if affinity else {}),
        **({"tolerations": tolerations} if tolerations else {}),
        **({"nodeSelector": dict(node_selector)} if node_selector else {}),
    }


def _pool(name: str | None, tenant: TenantView) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the requirements on nodes and the keys of the taints to tolerate."""
    if name is None:
        return [], tuple(sorted(tenant.toleration_keys))
    pool = tenant.pools.get(name)
    if pool is None:
        usable = ", ".join(sorted(tenant.pools)) or "none"
        raise UnworkableError(
            f"node pool {name} does not exist, or tenant {tenant.name} may not use it: write one of its pools "
            f"({usable}) in placement.nodePool, or leave it out"
        )
    if pool.selector is None:
        raise UnworkableError(
            f"node pool {name} is made of the nodes that no other pool selects (as {DEFAULT_POOL} always is), so pods "
            "cannot ask for it by labels: leave placement.nodePool out"
        )
    return node_requirements(pool.selector), tuple(sorted(pool.toleration_keys))


def node_requirements(selector: LabelSelector) -> list[dict[str, Any]]:
    """Return a label selector as requirements of a node affinity."""
    exact = [{"key": key, "operator": "In", "values": [value]} for key, value in sorted(selector.match_labels.items())]
    return exact + [expression.manifest() for expression in selector.match_expressions]
