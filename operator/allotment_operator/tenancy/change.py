"""Whom a change concerns: the tenants whose plan may come out differently."""

from allotment_api.tenant import Tenant
from allotment_operator.tenancy.estate import Estate, NamespaceFacts


def affected(before: Estate, after: Estate) -> frozenset[str]:
    """Return the tenants that must be looked at again.

    A changed tenant concerns itself, those above and below it, before and after, and those that list or hold one of
    its namespaces. A changed node pool concerns all; a changed namespace those that list or hold it.
    """
    if _pools(before) != _pools(after):
        return frozenset(after.tenants)
    found: set[str] = set()
    for name in before.tenants.keys() | after.tenants.keys() | before.unreadable.keys() | after.unreadable.keys():
        old, new = before.tenants.get(name), after.tenants.get(name)
        if old is not new or (name in before.unreadable) != (name in after.unreadable):
            found |= _around(before, name, old) | _around(after, name, new)
    for name in before.namespaces.keys() | after.namespaces.keys():
        was, now = before.namespaces.get(name), after.namespaces.get(name)
        if was != now:
            found |= {*after.forest.claims(name), *_holder(was), *_holder(now)}
    return frozenset(found & after.tenants.keys())


def _around(estate: Estate, name: str, tenant: Tenant | None) -> set[str]:
    listed = tenant.spec.namespaces if tenant else ()
    rivals = {rival for namespace in listed for rival in estate.forest.claims(namespace)}
    holders = {holder for namespace in listed for holder in _holder(estate.namespaces.get(namespace))}
    return {name, *estate.forest.chain(name), *estate.forest.below(name), *rivals, *holders}


def _holder(facts: NamespaceFacts | None) -> tuple[str, ...]:
    return (facts.tenant,) if facts and facts.tenant else ()


def _pools(estate: Estate) -> dict[str, int]:
    return {name: id(pool) for name, pool in estate.pools.items()}
