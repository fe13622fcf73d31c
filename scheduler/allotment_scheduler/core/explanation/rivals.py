"""Rivals: who is served before a unit that waits, by the order that serving really uses.

At every level of the unit's tenant the children of one parent are ordered by their serving keys (shares.py), under the
share policy in force. The highest level at which anybody who waits comes first decides, because it is asked first.
Only what waits for room counts: whoever is kept back by a limit or a guarantee is before nobody.

Nothing here changes anything. Levels with more than `MOST_LEAVES` leaves below them are not looked at, so that one
explanation stays quick.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from allotment_scheduler.core.fairness.serving import serving_key
from allotment_scheduler.core.fairness.shares import ServingKey, Where
from allotment_scheduler.core.objects.tenants import Tenant
from allotment_scheduler.core.objects.units import Unit
from allotment_scheduler.core.placement.eligibility import ROOM
from allotment_scheduler.core.state.cluster import ClusterState

MOST_LEAVES: Final = 256


@dataclass(frozen=True, slots=True)
class Rival:
    """A tenant that is served before another at the same level, with the keys that say so."""

    tenant: Tenant
    key: ServingKey
    against: Tenant
    own_key: ServingKey


def ahead_of(state: ClusterState, unit: Unit, where: Callable[[Unit], Where]) -> Rival | None:
    """The first of those who are served before a unit's tenant, at the highest level where anybody is.

    `where` says where a unit may run.
    """
    found = None
    for mine in unit.leaf.path:
        parent = mine.parent
        if parent is None or sum(1 for _ in parent.leaves()) > MOST_LEAVES:
            break
        own = _standing(state, mine, where, unit)
        others = [child for child in parent.children if child is not mine]
        keys = [(key[0], child) for child in others if (key := _standing(state, child, where))]
        before = min(((key, child) for key, child in keys if own is None or key < own[0]), default=None)
        if own is not None and before is not None:
            found = Rival(before[1], before[0], mine, own[0])
    return found


def _standing(
    state: ClusterState, tenant: Tenant, where: Callable[[Unit], Where], only: Unit | None = None
) -> tuple[ServingKey, Unit] | None:
    """A tenant's serving key with its candidate; None while nothing of it waits for room."""
    measure = state.measure
    if tenant.is_leaf:
        unit = only if only is not None and only.leaf is tenant else _first(state, tenant)
        return None if unit is None else (serving_key(state, tenant, measure.columns, unit, where), unit)
    below = (_standing(state, child, where, only) for child in tenant.children)
    best = min((it for it in below if it is not None), key=lambda it: it[0], default=None)
    if best is None:
        return None
    columns = measure.used_or_asked(best[1].leaf, best[1].shape.asked)
    return serving_key(state, tenant, columns, best[1], where), best[1]


def _first(state: ClusterState, leaf: Tenant) -> Unit | None:
    queue = state.queues.get(leaf.name)
    lanes = queue.lanes.values() if queue is not None else ()
    heads = (lane.head() for lane in lanes if lane.parked in (ROOM, None))
    return min((head for head in heads if head is not None), key=lambda unit: unit.order, default=None)


def weighted_share(state: ClusterState, tenant: Tenant, key: ServingKey) -> Fraction:
    """The share in a serving key, divided by the tenant's weight; at weight 0 it stands as it is."""
    return Fraction(key[2]) / tenant.multiplier / state.measure.denominator / (tenant.spec.weight or 1)
