"""Estates of tenants for pure tests: terse, with defaults that are valid."""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from allotment_api.labels import API_VERSION
from allotment_api.node_pool import NodePool
from allotment_api.tenant import Tenant
from allotment_operator.plans.actions import Apply, Delete, Manifest, ObjectRef
from allotment_operator.plans.outcome import Observed, Outcome
from allotment_operator.plans.ownership import Owner
from allotment_operator.tenancy.estate import Estate, NamespaceFacts, ServiceFacts

NOW = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)


def a_tenant(name: str, *, born: int = 0, **spec: Any) -> Tenant:
    """A Tenant; `born` is its age rank, in minutes after midnight."""
    created = (NOW.replace(hour=0) + dt.timedelta(minutes=born)).isoformat().replace("+00:00", "Z")
    metadata = {"name": name, "uid": f"uid-{name}", "creationTimestamp": created}
    return Tenant.parse({"apiVersion": API_VERSION, "kind": "Tenant", "metadata": metadata, "spec": spec})


def a_pool(name: str, *taints: str, tenants: Iterable[str] = ()) -> NodePool:
    """A NodePool whose nodes carry NoSchedule taints with these keys."""
    spec = {
        "selector": {"matchLabels": {"pool": name}},
        "taints": [{"key": key, "effect": "NoSchedule"} for key in taints],
        "tenants": list(tenants),
    }
    return NodePool.parse({"apiVersion": API_VERSION, "kind": "NodePool", "metadata": {"name": name}, "spec": spec})


def an_estate(
    *tenants: Tenant,
    pools: Iterable[NodePool] = (),
    namespaces: Iterable[NamespaceFacts] = (),
    services: Iterable[tuple[str, ...]] = (),
) -> Estate:
    """An estate; services are (kind, namespace, name, creation time)."""
    return Estate(
        tenants={each.metadata.name: each for each in tenants},
        pools={each.metadata.name: each for each in pools},
        namespaces={each.name: each for each in namespaces},
        services=tuple(ServiceFacts(*each) for each in services),
    )


def held(name: str, tenant: str, *, ours: bool = True, terminating: bool = False) -> NamespaceFacts:
    """A namespace that a tenant has; `ours` if the operator made it."""
    return NamespaceFacts(
        name, uid=f"uid-{name}", tenant=tenant, labelled_by_us=True, made_by_us=ours, terminating=terminating
    )


def owner_of(name: str) -> Owner:
    return Owner(API_VERSION, "Tenant", "", name, f"uid-{name}")


def observed(*manifests: Manifest) -> Observed:
    """What is there, each object with a uid."""
    return Observed(children={ObjectRef.of(each): each for each in manifests})


def leaving(tenant: Tenant) -> Tenant:
    """The tenant after somebody has deleted it, while its finalizer holds it."""
    return tenant.model_copy(update={"metadata": tenant.metadata.model_copy(update={"deletion_timestamp": NOW})})


def all_actions(outcome: Outcome) -> tuple[Apply | Delete, ...]:
    """What an outcome does, its lanes one after another; tenants plan applies and deletes only."""
    actions = (*outcome.actions, *(action for lane in outcome.lanes.values() for action in lane))
    return tuple(action for action in actions if isinstance(action, Apply | Delete))


def applied(outcome: Outcome) -> dict[ObjectRef, Manifest]:
    """What an outcome applies, by reference."""
    return {action.ref: action.manifest for action in all_actions(outcome) if isinstance(action, Apply)}


def carried_out(before: Mapping[ObjectRef, Manifest], outcome: Outcome) -> dict[ObjectRef, Manifest]:
    """The children after an outcome was carried out by an API server that never fails."""
    after = dict(before)
    for action in all_actions(outcome):
        if isinstance(action, Apply):
            after[action.ref] = action.manifest
        else:
            after.pop(action.ref, None)
    return after
