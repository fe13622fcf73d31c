"""Where a service's pods run: node pool, tolerations, spreading over zones and nodes.

How it thinks: pods of one service spread evenly over the topology key's values as far as there is room (a full zone
must not stop a restart), and two of them share a node only where the owner allows it. A pool is named; its nodes are
found by its selector, as the tenant's view of its pools has it.

A taint keeps out whoever has no business there. That a tenant may use a pool is a right, not a wish: a broker on the
machines with GPUs takes their CPU, and the GPUs stand idle. So a pod tolerates the taints of the pool that it asks for;
one that requests a device those of all its tenant's pools, for it can run only where that device is; any other none,
unless its tenant has nothing but tainted pools.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from allotment_api.labels import DEFAULT_POOL
from allotment_api.names import LabelSelector
from allotment_api.service import Placement
from allotment_operator.plans.outcome import NodePoolView, TenantView
from allotment_operator.plans.unworkable import UnworkableError

HOSTNAME_LABEL: Final = "kubernetes.io/hostname"


def pod_placement(
    placement: Placement,
    tenant: TenantView,
    *,
    selector: Mapping[str, str],
    requests: Iterable[str],
    node_selector: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the fields of a pod's spec that say where it runs.

    Args:
        placement: what the owner asks for.
        tenant: whose pods they are.
        selector: labels of the pods that must keep apart.
        requests: names of the resources that a pod requests.
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
    if placement.node_pool is None:
        keys = toleration_keys(tenant, requests=requests, node_selector=node_selector or {})
    else:
        terms, keys = _pool(placement.node_pool, tenant)
        node_terms = {"nodeSelectorTerms": [{"matchExpressions": terms}]}
        affinity["nodeAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": node_terms}
    tolerations = [{"key": key, "operator": "Exists"} for key in keys]
    return {
        "topologySpreadConstraints": [spread],
        **({"affinity": affinity} if affinity else {}),
        **({"tolerations": tolerations} if tolerations else {}),
        **({"nodeSelector": dict(node_selector)} if node_selector else {}),
    }


def toleration_keys(
    tenant: TenantView, *, requests: Iterable[str], node_selector: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the keys of the taints that a pod tolerates which names no pool.

    Args:
        tenant: whose pod it is.
        requests: names of the resources that it requests.
        node_selector: labels that its nodes must carry; labels that a pool selects by are a way to ask for that pool.
    """
    asked_for = [pool for pool in tenant.pools.values() if pool.selector and _selects(pool.selector, node_selector)]
    if asked_for:
        return _keys(asked_for)
    if any("/" in name for name in requests) or all(pool.toleration_keys for pool in tenant.pools.values()):
        return _keys(tenant.pools.values())
    return ()


def _keys(pools: Iterable[NodePoolView]) -> tuple[str, ...]:
    return tuple(sorted({key for pool in pools for key in pool.toleration_keys}))


def _selects(selector: LabelSelector, wanted: Mapping[str, str]) -> bool:
    """Say whether nodes with these labels, whatever else they carry, are the pool's."""
    labels_agree = all(wanted.get(key) == value for key, value in selector.match_labels.items())
    return labels_agree and all(
        each.key in wanted
        and (each.operator == "Exists" or (each.operator == "In" and wanted[each.key] in each.values))
        for each in selector.match_expressions
    )


def _pool(name: str, tenant: TenantView) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the requirements on nodes and the keys of the taints to tolerate."""
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
