"""The tenants as a whole: who is part of whom, which of them cannot stand, and whose a namespace is.

How it thinks: a tenant names its parent, so every tenant has at most one way up; the graph runs along it. What no
single Tenant shows is judged here: a parent that does not exist or was never readable, a cycle, a namespace listed
twice, namespaces on a tenant that has others below it.

A problem names its own tenant and says what to change. It never spreads: tenants beside it stand as they did.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import networkx as nx

from allotment_api.conditions import Reason
from allotment_api.tenant import Tenant

NAMESPACES_ON_INNER_TENANT: Final = "NamespacesOnInnerTenant"
PARENT_UNREADABLE: Final = "ParentUnreadable"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a tenant cannot stand as its spec has it, and what to change."""

    reason: str
    message: str


class Forest:
    """Judges all tenants together.

    Args:
        tenants: by name, as they are or were when they could last be read.
        unreadable: tenants that exist but cannot be read, with the reason.
        holders: namespaces to tenants by label.
    """

    def __init__(
        self,
        tenants: Mapping[str, Tenant],
        *,
        unreadable: Mapping[str, str] | None = None,
        holders: Mapping[str, str] | None = None,
    ) -> None:
        self._tenants = tenants
        self._unreadable = unreadable or {}
        self._known = self._unreadable.keys() | tenants.keys()
        # child → parent; a parent that does not exist is a node without a Tenant
        self._graph: nx.DiGraph[str] = nx.DiGraph()
        self._graph.add_nodes_from(tenants)
        self._graph.add_edges_from((name, each.spec.parent) for name, each in tenants.items() if each.spec.parent)
        self._claims = _claims(tenants, holders or {})

    def chain(self, name: str) -> tuple[str, ...]:
        """Return the tenant and those above it, the nearest first; a cycle is gone round once."""
        found: dict[str, None] = {}
        here = name
        while here and here not in found:
            found[here] = None
            tenant = self._tenants.get(here)
            here = (tenant.spec.parent or "") if tenant else ""
        return tuple(found)

    def children(self, name: str) -> tuple[str, ...]:
        """Return the tenants directly below, by name."""
        return tuple(sorted(self._graph.predecessors(name))) if name in self._graph else ()

    def below(self, name: str) -> frozenset[str]:
        """Return all tenants below, at any depth."""
        return frozenset(nx.ancestors(self._graph, name)) if name in self._graph else frozenset()

    def owner(self, namespace: str) -> str | None:
        """Return whose a namespace is by the tenants' own lists; None if nobody lists it."""
        claims = self._claims.get(namespace, ())
        return claims[0] if claims else None

    def heir(self, namespace: str, *, of: str) -> str | None:
        """Return which other tenant a namespace goes to that this one has; None if it goes to nobody else."""
        owner = self.owner(namespace)
        return None if owner in {None, of} or _is_leaving(self._tenants[owner or ""]) else owner

    def claims(self, namespace: str) -> tuple[str, ...]:
        """Return all tenants that list a namespace, the rightful one first."""
        return self._claims.get(namespace, ())

    def problem(self, name: str) -> Problem | None:
        """Return why a tenant cannot stand; None if it can. A lost claim is told per namespace instead."""
        tenant = self._tenants[name]
        if cycle := self._cycle(name):
            whose = "the parents form a cycle" if name in cycle else f"{cycle[0]}, above it, is part of a cycle"
            return Problem(
                Reason.PARENT_CYCLE, f"{whose}: {' → '.join(cycle)}. Change spec.parent of one of these tenants."
            )
        if gap := self.gap(name):
            return gap
        if tenant.spec.namespaces and (children := self.children(name)):
            return Problem(
                NAMESPACES_ON_INNER_TENANT,
                f"it has tenants below it ({_few(children)}) and namespaces of its own "
                f"({_few(tenant.spec.namespaces)}): only leaves have namespaces. Move them to a tenant below it.",
            )
        return None

    def gap(self, name: str) -> Problem | None:
        """Return which tenant, this one or one above it, is not known; None if all are.

        What it bounds, and what is above it, is not known either: whatever is done below could be too much.
        """
        for each in self.chain(name):
            if each in self._unreadable and each not in self._tenants:
                whose = f"the tenant {each}" + ("" if each == name else f", above {name},")
                return Problem(PARENT_UNREADABLE, f"{whose} cannot be read: {self._unreadable[each]}. Mend {each}.")
            if each not in self._known:
                child = next(self._graph.predecessors(each))
                return Problem(
                    Reason.PARENT_NOT_FOUND,
                    f"the parent {each} of {child} does not exist: create the tenant {each}, or change spec.parent of "
                    f"{child}.",
                )
        return None

    def _cycle(self, name: str) -> tuple[str, ...]:
        """Return the cycle that a tenant is part of or hangs below, first and last the same; empty if there is none."""
        try:
            edges = nx.find_cycle(self._graph, source=name)
        except nx.NetworkXNoCycle:
            return ()
        members = [edge[0] for edge in edges]
        start = members.index(name) if name in members else members.index(min(members))
        turned = members[start:] + members[:start]
        return (*turned, turned[0])


def _claims(tenants: Mapping[str, Tenant], holders: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Order the tenants that list a namespace: the one that has it by its label, then by creation and by name.

    One that is being deleted comes after those that stay: they are its heirs. The scheduler orders them alike.
    """
    found: dict[str, list[str]] = {}
    for name, tenant in tenants.items():
        for namespace in tenant.spec.namespaces:
            found.setdefault(namespace, []).append(name)
    return {
        namespace: tuple(sorted(names, key=lambda name: _rank(tenants[name], holders.get(namespace))))
        for namespace, names in found.items()
    }


def _rank(tenant: Tenant, holder: str | None) -> tuple[bool, bool, str, str]:
    name, created = tenant.metadata.name, tenant.metadata.creation_timestamp
    # One that is not created yet, in a dry run, is the youngest.
    return (_is_leaving(tenant), name != holder, created.isoformat() if created else "9999", name)


def _is_leaving(tenant: Tenant) -> bool:
    return tenant.metadata.deletion_timestamp is not None


def _few(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
