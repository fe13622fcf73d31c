"""The tenant forest: who owns what share, what is guaranteed to whom, who may use how much.

`TenantSpec` is what an admin wrote. `Forest` builds the tree of `Tenant` nodes from all of them, under one implicit
root that stands for the cluster. A tenant that has children and also namespaces of its own gets a hidden leaf for its
own pods, which competes with the children under weight 1: so pods are always in leaves.

Use is kept as plain sums up the tree (`used`), per pool where that matters (`used_in`). Weights are exact: within
siblings they are turned into integers (`multiplier`), so that comparing shares never rounds.

A bad tenant never stops the others. A version that cannot stand in the tree, because its parent is unknown or its
ancestors form a circle, is put under `problems`, and the tenant's last good version stays in force. A tenant that is
gone while others still name it as their parent stays as well, without namespaces, so that its limits go on to bind
them. Only what has no good version, because it came as it is, stays out of the tree until it is mended.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import inf, lcm
from typing import Final

from allotment_scheduler.core.objects.resources import PODS, Amounts, Column, Resources

ROOT: Final = ""
OWN: Final = "/"
"""Suffix of the hidden leaf that holds an inner tenant's own pods; no tenant's name may contain it."""

Caps = dict[Column, int]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Amounts per resource name, for the whole cluster and per pool."""

    total: Mapping[str, int] = field(default_factory=dict)
    pools: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.total or any(self.pools.values()))


@dataclass(frozen=True, slots=True)
class TenantSpec:
    """A tenant from outside."""

    name: str
    parent: str = ROOT
    weight: Fraction = Fraction(1)
    guaranteed: Bounds = field(default_factory=Bounds)
    limits: Bounds = field(default_factory=Bounds)
    suspended: bool = False
    namespaces: tuple[str, ...] = ()
    node_pools: tuple[str, ...] = ()
    default_runtime: float | None = None
    created: float | None = None
    """When it was made; None: not yet, so every other tenant is older."""
    highest_priority: int = 2**31 - 1
    """No gang of its namespaces is served with more, whatever its priority class says."""

    leaving: bool = False
    """It is being deleted: every other tenant that lists one of its namespaces is entitled to it."""

    def claim(self, holder: str | None) -> tuple[bool, bool, float, str]:
        """The order in which tenants are entitled to a namespace that several list, as the operator has it.

        Args:
            holder: whose it is by its label.
        """
        return (self.leaving, self.name != holder, inf if self.created is None else self.created, self.name)


@dataclass(slots=True, eq=False)
class Tenant:
    """A node of the forest. `used` and `fixed` (the part that may not be preempted) are sums over everything below."""

    name: str
    spec: TenantSpec
    parent: "Tenant | None"
    depth: int
    rank: int = 0
    """Position by name among all tenants; index in arrays."""
    children: list["Tenant"] = field(default_factory=list)
    path: tuple["Tenant", ...] = ()
    """From this tenant up to, not including, the root."""
    suspended: bool = False
    """Itself or by an ancestor."""
    multiplier: int = 1
    """Share numerators times this compare like shares divided by weight, among siblings."""
    weightless: bool = False
    """Weight 0: no claim beyond the guarantee."""
    has_guarantee: bool = False
    guaranteed: Caps | None = None
    guaranteed_in: dict[str, Caps] = field(default_factory=dict)
    pool_guaranteed: bool = False
    """Itself or an ancestor has a guarantee for a pool."""
    limits: Caps = field(default_factory=dict)
    limits_in: dict[str, Caps] = field(default_factory=dict)
    used: list[int] = field(default_factory=list)
    fixed: list[int] = field(default_factory=list)
    used_in: dict[str, list[int]] = field(default_factory=dict)
    fixed_in: dict[str, list[int]] = field(default_factory=dict)
    """`used` and `fixed` per pool, where there are several or a pool has its price."""
    held: dict[tuple[str, Column], int] = field(default_factory=dict)
    held_fixed: dict[tuple[str, Column], int] = field(default_factory=dict)
    """What seats of successors take up of limits, and of guarantees for what may not be preempted: by pool ("": in
    all) and resource. It counts in no share."""
    limited_path: tuple["Tenant", ...] = ()
    """The tenants on the path that have a limit."""
    highest_priority: int = 2**31 - 1
    """The lowest bound on the path."""

    @property
    def running(self) -> int:
        """Pods running or reserved below this tenant."""
        return self.used[PODS]

    @property
    def is_leaf(self) -> bool:
        """Whether pods belong to it."""
        return not self.children

    @property
    def shown_name(self) -> str:
        """The name an admin knows."""
        return self.name.removesuffix(OWN)

    def taken(self, column: Column) -> int:
        """What counts against the limit of a resource."""
        return self.used[column] + self.held.get(("", column), 0)

    def taken_at(self, pool: str, column: Column) -> int:
        """What counts against the limit of a resource in one pool."""
        return self.used_at(pool)[column] + self.held.get((pool, column), 0)

    def used_at(self, pool: str) -> list[int]:
        """What is used in one pool; where use is not kept per pool there is only one."""
        if pool in self.used_in or not self.used_in:
            return self.used_in.get(pool, self.used)
        return [0] * len(self.used)

    def fixed_at(self, pool: str) -> list[int]:
        """What may not be preempted in one pool."""
        if pool in self.fixed_in or not self.used_in:
            return self.fixed_in.get(pool, self.fixed)
        return [0] * len(self.fixed)

    def leaves(self) -> Iterable["Tenant"]:
        """The leaves below it, itself if it is one, by name within each level."""
        if not self.children:
            yield self
        for child in self.children:
            yield from child.leaves()

    def add(self, amounts: Amounts, pool: str | None, *, fixed: bool, sign: int) -> None:
        """Count a pod in or out, here and in every ancestor; `pool` is None where use is not kept per pool."""
        node: Tenant | None = self
        while node is not None:
            used = node.used
            for column, amount in amounts:
                used[column] += sign * amount
            if fixed:
                for column, amount in amounts:
                    node.fixed[column] += sign * amount
            if pool is not None:
                inside = node.used_in.get(pool)
                if inside is None:
                    inside = node.used_in[pool] = [0] * len(used)
                for column, amount in amounts:
                    inside[column] += sign * amount
                if fixed:
                    part = node.fixed_in.setdefault(pool, [0] * len(used))
                    for column, amount in amounts:
                        part[column] += sign * amount
            node = node.parent

    def __repr__(self) -> str:
        return f"<Tenant {self.name or 'root'}>"


@dataclass(slots=True)
class Forest:
    """All tenants as one tree under an implicit root."""

    root: Tenant
    by_name: dict[str, Tenant]
    leaf_of_namespace: dict[str, Tenant]
    problems: dict[str, str]
    """Tenants whose present version is not in force, with the reason in words; and, as tenant:namespace, namespaces it
    lists in vain."""
    in_force: dict[str, TenantSpec] = field(default_factory=dict)
    """The version of every tenant that the tree is built of: the last good one, whatever was seen since."""

    @property
    def tenants(self) -> list[Tenant]:
        """Every tenant but the root, by rank."""
        return sorted(self.by_name.values(), key=lambda tenant: tenant.rank)

    @property
    def leaves(self) -> list[Tenant]:
        """Every leaf, by name within each level."""
        return [leaf for child in self.root.children for leaf in child.leaves()]


def build_forest(
    specs: Mapping[str, TenantSpec],
    resources: Resources,
    labelled: Mapping[str, str] | None = None,
    before: Mapping[str, TenantSpec] | None = None,
) -> Forest:
    """Build the tree.

    Args:
        specs: every tenant as it was seen last.
        resources: the columns of amounts.
        labelled: namespaces to tenants by label; tenants' own lists win, and where several list one the label tells.
        before: what was in force until now.
    """
    sound, problems = in_force(specs, before or {})
    root = Tenant(ROOT, TenantSpec(ROOT), None, 0)
    forest = Forest(root, {}, {}, problems, sound)
    children: dict[str, list[str]] = {}
    for name in sorted(sound):
        children.setdefault(sound[name].parent, []).append(name)
    present = {name: spec for name, spec in sound.items() if name in specs}
    owners = _namespace_owners(present, labelled or {}, problems)
    _grow(forest, root, sound, children, set(owners.values()))
    for namespace, owner in owners.items():
        tenant = forest.by_name[owner]
        forest.leaf_of_namespace[namespace] = tenant if tenant.is_leaf else forest.by_name[owner + OWN]
    for tenant in [root, *forest.by_name.values()]:
        refresh(tenant, resources)
    for rank, name in enumerate(sorted(forest.by_name)):
        forest.by_name[name].rank = rank
    return forest


def in_force(
    specs: Mapping[str, TenantSpec], before: Mapping[str, TenantSpec]
) -> tuple[dict[str, TenantSpec], dict[str, str]]:
    """The versions that can stand in one tree, and why the others cannot.

    Whatever was seen is tried first. Where it does not fit, every tenant that moved and is at fault goes back to its
    version of before; a parent that is gone comes back. So what was in force once stays, and heals when it is mended.
    """
    chosen, problems = dict(specs), dict[str, str]()
    while True:
        faults = _faults(chosen)
        moved = {
            name: text for name, (text, guilty) in faults.items()
            if name in guilty and name in before and before[name].parent != chosen[name].parent
        }  # fmt: skip
        for name, text in moved.items():
            chosen[name] = before[name]
            problems[name] = f"{text}; its last good version stays in force"
        if moved:
            continue
        lost = {spec.parent for spec in chosen.values()} & (before.keys() - chosen.keys())
        for name in lost:
            chosen[name] = replace(before[name], namespaces=())
        if not lost:
            break
    for name, (text, _) in faults.items():
        problems.setdefault(name, text)
        del chosen[name]
    for name, spec in specs.items():
        if name in chosen and spec.parent != ROOT and spec.parent not in specs:
            problems.setdefault(name, f"{_missing(name, spec.parent)}; its last version stays in force above this one")
    return chosen, problems


def refresh(tenant: Tenant, resources: Resources) -> None:
    """Recompute what follows from the spec: bounds by column, weights among siblings, paths."""
    spec = tenant.spec
    tenant.guaranteed = resources.by_column(spec.guaranteed.total) if spec.guaranteed.total else None
    tenant.guaranteed_in = {pool: resources.by_column(caps) for pool, caps in spec.guaranteed.pools.items() if caps}
    tenant.has_guarantee = tenant.guaranteed is not None or bool(tenant.guaranteed_in)
    tenant.pool_guaranteed = bool(tenant.guaranteed_in or (tenant.parent and tenant.parent.pool_guaranteed))
    tenant.weightless = spec.weight == 0
    tenant.limits = resources.by_column(spec.limits.total)
    tenant.limits_in = {pool: resources.by_column(caps) for pool, caps in spec.limits.pools.items() if caps}
    tenant.used = [0] * resources.width
    tenant.fixed = [0] * resources.width
    tenant.used_in, tenant.fixed_in = {}, {}
    tenant.path = () if tenant.parent is None else (tenant, *tenant.parent.path)
    tenant.suspended = spec.suspended or bool(tenant.parent and tenant.parent.suspended)
    tenant.limited_path = tuple(up for up in tenant.path if up.spec.limits)
    tenant.highest_priority = min((up.spec.highest_priority for up in tenant.path), default=2**31 - 1)
    numerators = lcm(*(child.spec.weight.numerator for child in tenant.children if child.spec.weight))
    for child in tenant.children:
        weight = child.spec.weight
        child.multiplier = weight.denominator * (numerators // weight.numerator) if weight else 1


def _grow(
    forest: Forest, parent: Tenant, specs: Mapping[str, TenantSpec], children: Mapping[str, list[str]], owning: set[str]
) -> None:
    for name in children.get(parent.name, ()):
        tenant = Tenant(name, specs[name], parent, parent.depth + 1)
        tenant.suspended = specs[name].suspended or parent.suspended
        parent.children.append(tenant)
        forest.by_name[name] = tenant
        _grow(forest, tenant, specs, children, owning)
    if parent.children and parent.name in owning:
        own = Tenant(parent.name + OWN, TenantSpec(parent.name + OWN, parent.name), parent, parent.depth + 1)
        parent.children.append(own)
        parent.children.sort(key=lambda child: child.name)
        forest.by_name[own.name] = own


def _faults(specs: Mapping[str, TenantSpec]) -> dict[str, tuple[str, frozenset[str]]]:
    """Tenants that cannot stand in the tree: why, and whose parent is to blame."""
    faults: dict[str, tuple[str, frozenset[str]]] = {}
    for name in specs:
        trail = [name]
        while (parent := specs[trail[-1]].parent) != ROOT:
            if parent not in specs:
                faults[name] = (_missing(trail[-1], parent), frozenset({trail[-1]}))
                break
            if parent in trail:
                circle = trail[trail.index(parent) :]
                text = f"the ancestors form a circle ({' -> '.join([*circle, parent])})"
                faults[name] = (f"{text}: change spec.parent of one of them", frozenset(circle))
                break
            trail.append(parent)
    return faults


def _missing(name: str, parent: str) -> str:
    return f"parent {parent!r} of {name!r} does not exist: create it or change spec.parent"


def _namespace_owners(
    specs: Mapping[str, TenantSpec], labelled: Mapping[str, str], problems: dict[str, str]
) -> dict[str, str]:
    claims: dict[str, list[TenantSpec]] = {}
    for spec in specs.values():
        for namespace in spec.namespaces:
            claims.setdefault(namespace, []).append(spec)
    owners = {namespace: tenant for namespace, tenant in labelled.items() if tenant in specs}
    for namespace, rivals in claims.items():
        first, *others = sorted(rivals, key=lambda spec: spec.claim(labelled.get(namespace)))
        owners[namespace] = first.name
        for other in others:
            problems.setdefault(
                f"{other.name}:{namespace}",
                f"namespace {namespace!r} belongs to {first.name!r} already: list it under one tenant only",
            )
    return owners
