"""The state and its decisions as plain data: what `allot simulate` and `allot tenants` print.

Names and units are those of Kubernetes; amounts are integers in the units of `allotment_api.quantities`, shares are
floats for display only.
"""

from fractions import Fraction
from typing import Any

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.explanation.explain import Explainer
from allotment_scheduler.core.objects.resources import Column
from allotment_scheduler.core.objects.tenants import OWN, Tenant
from allotment_scheduler.core.simulate import Outcome
from allotment_scheduler.core.state.cluster import ClusterState

Data = dict[str, Any]


def outcome_report(engine: Engine, outcome: Outcome) -> Data:
    """Everything a simulation decided, and how it ended."""
    bindings: list[Data] = []
    evictions: list[Data] = []
    for number, done in enumerate(outcome.rounds, start=1):
        bindings += [
            {"round": number, "namespace": start.pod[0], "pod": start.pod[1], "node": start.node}
            for start in done.starts if not start.phantom
        ]  # fmt: skip
        evictions += [
            {"round": number, "namespace": evict.pod[0], "pod": evict.pod[1], "for": "/".join(evict.claimant),
             "reason": evict.rule}
            for evict in done.evictions
        ]  # fmt: skip
    return {
        "bindings": bindings,
        "evictions": evictions,
        "pending": pending_report(engine),
        "tenants": tenants_report(engine),
        "rounds": len(outcome.rounds),
    }


def pending_report(engine: Engine) -> list[Data]:
    """Every pod of ours that waits, with its reason."""
    explainer = Explainer(engine)
    out = []
    for pod in engine.state.waiting():
        why = explainer.why(pod)
        out.append({"namespace": pod.spec.namespace, "pod": pod.spec.name, "reason": why.code, "message": why.message})
    return out


def tenants_report(engine: Engine) -> list[Data]:
    """Every tenant: leaves in the order in which they would be served next, then inner tenants by name."""
    state = engine.state
    leaves = engine.serving_order()
    inner = [tenant for tenant in state.forest.tenants if not tenant.is_leaf]
    pending: dict[str, int] = {}
    for pod in state.waiting():
        for tenant in pod.leaf.path if pod.leaf else ():
            pending[tenant.name] = pending.get(tenant.name, 0) + 1
    return [tenant_report(engine, tenant, pending.get(tenant.name, 0)) for tenant in [*leaves, *inner]]


def tenant_report(engine: Engine, tenant: Tenant, pending: int) -> Data:
    """One tenant's use and rights."""
    state = engine.state
    share, dominant = state.measure.dominant_share(tenant)
    weight = tenant.spec.weight
    entitled = engine.demand.entitlement().totals(tenant)
    parent = tenant.parent.name if tenant.parent else ""
    return {
        "name": tenant.name.replace(OWN, "/own") if tenant.name.endswith(OWN) else tenant.name,
        "parent": parent or None,
        "weight": _number(weight),
        "dominantShare": float(share),
        "dominantResource": state.resources.names[dominant] if dominant is not None else None,
        "weightedShare": float(share / weight) if weight else None,
        "used": state.resources.by_name(tenant.used),
        "guaranteed": dict(tenant.spec.guaranteed.total),
        "limits": dict(tenant.spec.limits.total),
        "entitlement": {name: _number(entitled[Column(c)]) for c, name in _columns(state) if entitled.get(Column(c))},
        "pending": pending,
    }


def _columns(state: ClusterState) -> list[tuple[int, str]]:
    return list(enumerate(state.resources.names))


def _number(value: Fraction) -> int | float:
    return value.numerator if value.denominator == 1 else float(value)
