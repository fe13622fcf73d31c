"""What follows for a tenant from those above it: pools, tolerations, guarantees, bounds, members.

Everything binds downwards. A tenant may use the pools that nobody on its way up excludes; a bound set above holds
below, where it can only become narrower; a guarantee counts only as far as every tenant above that has one holds one
too; a member's role holds in everything below.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from allotment_api.labels import DEFAULT_POOL
from allotment_api.node_pool import NodePool
from allotment_api.tenant import Member, Policy, Tenant
from allotment_api.tenant_policy import MOST_REGISTRIES, TenantPolicySpec
from allotment_operator.plans.outcome import NodePoolView, TenantView
from allotment_operator.tenancy import grants
from allotment_operator.tenancy.estate import Estate

ALWAYS_REQUESTED: Final = ("cpu", "memory")
"""What practically every pod requests: a guarantee that leaves one of them out guarantees nothing."""
PODS: Final = "pods"
"""What the scheduler counts beside resources; no share or guarantee goes by it."""


def pools_of(estate: Estate, chain: Sequence[Tenant]) -> dict[str, NodePool]:
    """Return the node pools that a tenant may use, by name. `chain` is the tenant and those above it."""
    names = {each.metadata.name for each in chain}
    return {
        name: pool
        for name, pool in sorted(estate.pools.items())
        if (not pool.spec.tenants or names & set(pool.spec.tenants))
        and all(not each.spec.node_pools or name in each.spec.node_pools for each in chain)
    }


def toleration_keys(pools: Iterable[NodePool]) -> tuple[str, ...]:
    """Return the keys of the taints on these pools' nodes, without duplicates."""
    return tuple(sorted({taint.key for pool in pools for taint in pool.spec.taints}))


def guaranteed(chain: Sequence[Tenant]) -> frozenset[str]:
    """Return the resources for which the tenant, and every tenant above it that has a guarantee, holds one."""
    if not chain or not chain[0].spec.guaranteed:
        return frozenset()
    return frozenset.intersection(*(frozenset(each.spec.guaranteed) for each in chain if each.spec.guaranteed))


def guarantee_gap(chain: Sequence[Tenant]) -> str:
    """Say what makes a tenant's guarantee worthless, in part or in all; empty where nothing does or there is none.

    What its pods request beyond the usual is known by what the scheduler says that they use or are entitled to.
    """
    own = chain[0].spec.guaranteed
    if not own:
        return ""
    if missing := [resource for resource in ALWAYS_REQUESTED if resource not in own]:
        return (
            f"spec.guaranteed leaves out {' and '.join(missing)}, which every pod requests: pods are not covered. "
            f"Add {' and '.join(missing)}."
        )
    for above in chain[1:]:
        if not above.spec.guaranteed:
            continue
        if missing := sorted(set(own) - set(above.spec.guaranteed)):
            name = above.metadata.name
            return (
                f"the tenant {name} above it has a guarantee, but none of {', '.join(missing)}: pods that request it "
                f"are not covered. Add {', '.join(missing)} to spec.guaranteed of {name}, or take it out here."
            )
    somewhere = {resource for pool in chain[0].spec.pools.values() for resource in pool.guaranteed}
    if missing := sorted(_requested(chain[0]) - set(own) - somewhere):
        return (
            f"spec.guaranteed leaves out {', '.join(missing)}, which some of the tenant's pods request: those are not "
            f"covered, not even with their CPU and memory. Add {', '.join(missing)}."
        )
    return ""


def _requested(tenant: Tenant) -> set[str]:
    """Return what the pods of a tenant, and of all below it, request, as far as they run or could claim room."""
    status = tenant.status
    if status is None:
        return set()
    amounts = (*status.usage.items(), *status.entitlement.items())
    return {resource for resource, amount in amounts if resource != PODS and amount.amount}


def view(estate: Estate, name: str) -> TenantView | None:
    """Return what a service's plan needs to know of its tenant; None if there is no such tenant."""
    if name not in estate.tenants and name not in estate.unreadable:
        return None
    if gap := estate.forest.gap(name):
        return TenantView(name, frozen=gap.message)
    chain = estate.chain(name)
    pools, network = pools_of(estate, chain), grants.network(chain)
    return TenantView(
        name=name,
        guaranteed=guaranteed(chain),
        suspended=any(each.spec.suspended for each in chain),
        pools={
            key: NodePoolView(None if key == DEFAULT_POOL else pool.spec.selector, toleration_keys([pool]))
            for key, pool in pools.items()
        },
        namespaces=tuple(sorted(each.name for each in estate.namespaces.values() if each.tenant == name)),
        egress=network.egress,
        ways_in=frozenset(
            (
                *(["NodePort"] if network.allow_node_port else ()),
                *(["LoadBalancer"] if network.allow_load_balancer else ()),
            )
        ),
    )


def policy_of(estate: Estate, chain: Sequence[Tenant]) -> TenantPolicySpec:
    """Return the parameters of the admission policies for a tenant's namespaces."""
    policies, network = [each.spec.policy for each in chain], grants.network(chain)
    longest = min((each.max_runtime_seconds for each in policies if each.max_runtime_seconds), default=None)
    default = next((each.default_runtime_seconds for each in policies if each.default_runtime_seconds), None)
    if default is not None and longest is not None:
        default = min(default, longest)
    return TenantPolicySpec(
        tenant=chain[0].metadata.name,
        allowed_registries=_registries(policies),
        max_priority=min(each.max_priority for each in policies),
        allowed_toleration_keys=toleration_keys(pools_of(estate, chain).values()),
        allow_node_port=network.allow_node_port,
        allow_load_balancer=network.allow_load_balancer,
        default_runtime_seconds=default,
        max_runtime_seconds=longest,
        suspended=any(each.spec.suspended for each in chain),
    )


def members_of(chain: Sequence[Tenant]) -> dict[str, tuple[Member, ...]]:
    """Return the members by role: the tenant's own and those of every tenant above it, without duplicates."""
    found: dict[str, dict[tuple[str, str, str], Member]] = {}
    for tenant in chain:
        for member in tenant.spec.members:
            found.setdefault(member.role, {})[member.kind, member.namespace or "", member.name] = member
    return {role: tuple(members[key] for key in sorted(members)) for role, members in sorted(found.items())}


def _registries(policies: Sequence[Policy]) -> tuple[str, ...]:
    """Return the prefixes that every list admits; an empty list admits all.

    Where lists have nothing in common nothing may run; an empty answer would say the opposite, hence `NO_IMAGE`.
    """
    lists = [each.allowed_registries for each in policies if each.allowed_registries]
    if not lists:
        return ()
    common = set(lists[0])
    for other in lists[1:]:
        common = {one for one in common if _admitted(one, other)} | {two for two in other if _admitted(two, common)}
    return tuple(sorted(common))[:MOST_REGISTRIES] or (NO_IMAGE,)


def _admitted(inner: str, by: Iterable[str]) -> bool:
    """Say whether one of these prefixes admits every image of another, as the policy on tenants' pods reads them.

    A prefix ends at a border of the name; of two that have an image in common, one admits all of the other's.
    """
    return any(
        inner == outer
        or inner.startswith(outer if outer.endswith("/") else f"{outer}/")
        or ("/" in outer and inner.startswith((f"{outer}:", f"{outer}@")))
        for outer in by
    )


NO_IMAGE: Final = "none.invalid/"
"""A prefix that no image has: the domain `invalid` is reserved (RFC 2606)."""
