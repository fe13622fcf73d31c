"""How much of a service may be taken down at once by drains and the like: PodDisruptionBudgets."""

from collections.abc import Mapping
from typing import Any

from allotment_operator.plans.ownership import Owner


def disruption_budget(
    owner: Owner, name: str, *, selector: Mapping[str, str], max_unavailable: int = 1
) -> dict[str, Any]:
    """Return a budget over the pods of the selector.

    A pod that does not serve may always be evicted: it protects nothing, and a drain must not wait for it.
    """
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": owner.metadata(name),
        "spec": {
            "maxUnavailable": max_unavailable,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": dict(selector)},
        },
    }
