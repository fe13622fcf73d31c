"""What a tenant may have of outside networks and of services: no more than every tenant above it may have.

Whoever manages a tenant writes the specs of those below it, so a spec alone grants nothing: what counts is what it and
everything above it have in common. Networks are those that every list on the way up holds; a door (node ports, load
balancers) is open where everybody opens it; of a kind of service a tenant may have what its own list and the lists
above leave, and a count above is for everything below together. No list of services stands for all kinds; an empty
list of networks for none.

Invariant: adding a tenant above, or narrowing one, never widens what is below.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from allotment_api.tenant import NetworkPolicy, Tenant


@dataclass(frozen=True, slots=True)
class Bound:
    """How many services of a kind a tenant allows below it, itself included; None for any number."""

    tenant: str
    count: int | None


def network(chain: Sequence[Tenant]) -> NetworkPolicy:
    """Return what a tenant's network may do. `chain` is the tenant and those above it, the nearest first."""
    own = [each.spec.policy.network for each in chain]
    common = own[0].egress
    for above in own[1:]:
        common = _within(common, above.egress)
    # Not validated: lists of several levels may cross in more pairs than one tenant may list.
    return NetworkPolicy.model_construct(
        allow_node_port=all(each.allow_node_port for each in own),
        allow_load_balancer=all(each.allow_load_balancer for each in own),
        egress=common,
    )


def bounds(chain: Sequence[Tenant], kind: str) -> tuple[Bound, ...]:
    """Return who bounds how many services of a kind a tenant has, the nearest first; a list without it allows none."""
    return tuple(
        Bound(each.metadata.name, next((allowed.count for allowed in each.spec.services if allowed.kind == kind), 0))
        for each in chain
        if each.spec.services is not None
    )


def overreach(chain: Sequence[Tenant]) -> str:
    """Say what a tenant's spec asks for beyond what the tenants above it have; empty where it asks for nothing more."""
    return " ".join(dict.fromkeys(_complaints(chain[0], chain[1:])))


def _complaints(tenant: Tenant, above: Sequence[Tenant]) -> Iterator[str]:
    own = tenant.spec.policy.network
    for each in above:
        name, theirs = each.metadata.name, each.spec.policy.network
        outside = [net for net in own.egress if not _covered(net, theirs.egress)]
        if outside:
            yield (
                f"policy.network.egress: {', '.join(outside)} is closed as far as the tenant {name} above it does not "
                f"have it: add it to policy.network.egress of {name}, or take it out here."
            )
        for field, mine, has in (
            ("allowNodePort", own.allow_node_port, theirs.allow_node_port),
            ("allowLoadBalancer", own.allow_load_balancer, theirs.allow_load_balancer),
        ):
            if mine and not has:
                yield (
                    f"policy.network.{field} has no effect: the tenant {name} above it does not have it. Set it there, "
                    "or take it out here."
                )
        yield from _services(tenant, each)


def _services(tenant: Tenant, above: Tenant) -> Iterator[str]:
    name = above.metadata.name
    for mine in tenant.spec.services or ():
        for bound in bounds([above], mine.kind):
            if bound.count == 0 and mine.count != 0:
                yield (
                    f"services: {mine.kind} is not allowed by the tenant {name} above it: add it to spec.services of "
                    f"{name}, or take it out here."
                )
            elif bound.count is not None and mine.count is not None and mine.count > bound.count:
                yield (
                    f"services: {mine.count} of {mine.kind} is more than the {bound.count} that the tenant {name} "
                    f"above it may have: raise the count of {name}, or lower it here."
                )


def _within(inner: Iterable[str], outer: Iterable[str]) -> tuple[str, ...]:
    """Return what two lists of networks have in common: of two that overlap one is always part of the other."""
    wide = [ipaddress.ip_network(each, strict=False) for each in outer]
    found: dict[str, None] = {}
    for text in inner:
        net = ipaddress.ip_network(text, strict=False)
        for other in wide:
            if net.version == other.version and net.overlaps(other):
                found[text if net.prefixlen >= other.prefixlen else str(other)] = None
    return tuple(found)


def _covered(net: str, by: Iterable[str]) -> bool:
    whole = ipaddress.ip_network(net, strict=False)
    return any(
        whole.version == other.version and other.overlaps(whole) and other.prefixlen <= whole.prefixlen
        for other in (ipaddress.ip_network(each, strict=False) for each in by)
    )
