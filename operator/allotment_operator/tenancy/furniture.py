"""Everything that a tenant's namespace holds by the operator's hand, and in which order it comes and goes.

The seat of the operator, then the walls (network, admission parameters, quotas), then the members' seats: nobody acts
in a namespace before its walls stand. Taking down runs the other way round.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from allotment_api.labels import API_VERSION, INSTANCE_LABEL, TENANT_LABEL, TENANT_POLICY_NAME
from allotment_api.tenant import Tenant
from allotment_operator.plans.actions import Apply, Delete, Manifest, ObjectRef
from allotment_operator.plans.ownership import MANAGED_BY_LABEL, MANAGER, Owner
from allotment_operator.plans.storage import retained
from allotment_operator.tenancy import access, entitlement, grants, network, quota
from allotment_operator.tenancy.estate import Estate, NamespaceFacts
from allotment_operator.tenancy.recount import recounted

_PROFILE_VERSION: Final = "v1.36"
"""Named, so that a cluster's upgrade changes no rule under running services."""
POD_SECURITY: Final[Mapping[str, str]] = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": _PROFILE_VERSION,
    "pod-security.kubernetes.io/warn": "restricted",
    "pod-security.kubernetes.io/warn-version": _PROFILE_VERSION,
}
"""Labels that say how strict a namespace's pods are."""

KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    access.API: ("RoleBinding",),
    API_VERSION: ("TenantPolicy",),
    "networking.k8s.io/v1": ("NetworkPolicy",),
    "v1": ("ResourceQuota", "LimitRange", "ServiceAccount"),
}
"""Kinds of the furniture, by API version."""
CLAIM: Final = "PersistentVolumeClaim"
LEFT: Final[Mapping[str, tuple[str, ...]]] = {"v1": (CLAIM,)}
"""Kinds of what services leave behind and nobody but their owners may throw away, by API version."""


@dataclass(frozen=True, slots=True)
class Room:
    """One namespace, its tenant, and what is in it."""

    estate: Estate
    tenant: Tenant
    owner: Owner
    name: str
    children: Mapping[ObjectRef, Manifest]

    @property
    def facts(self) -> NamespaceFacts | None:
        """What is known of the namespace; None while there is none."""
        return self.estate.namespaces.get(self.name)

    @property
    def furniture(self) -> dict[ObjectRef, Manifest]:
        """What the operator put into it, on whichever tenant's behalf."""
        return {ref: manifest for ref, manifest in self._objects() if ref.kind != CLAIM}

    @property
    def volumes(self) -> list[str]:
        """Claims whose volumes services have left in it, by name; looked for only while the tenant is being deleted."""
        return [ref.name for ref, manifest in self._objects() if ref.kind == CLAIM and retained(manifest)]

    def _objects(self) -> Iterator[tuple[ObjectRef, Manifest]]:
        return ((ref, manifest) for ref, manifest in sorted(self.children.items()) if ref.namespace == self.name)

    @property
    def quota(self) -> Manifest | None:
        """The live ResourceQuota; None while there is none."""
        return self.furniture.get(ObjectRef("v1", "ResourceQuota", self.name, quota.NAME))

    @property
    def seat(self) -> ObjectRef:
        """The operator's own RoleBinding."""
        return access.own_seat(self.name)


def namespace_manifest(room: Room) -> dict[str, Any]:
    """Render the Namespace: whose it is, and how strict its pods are.

    The mark of one that the operator made is set when it is made and never later: it says that it may be deleted.
    """
    labels = {TENANT_LABEL: room.tenant.metadata.name, **POD_SECURITY}
    if room.facts is None or room.facts.made_by_us:
        labels[MANAGED_BY_LABEL] = MANAGER
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": room.name, "labels": labels}}


def seat_of_operator(room: Room) -> dict[str, Any]:
    """Render the operator's own RoleBinding."""
    return access.operator_binding(room.name, room.owner.selector, operator_namespace=room.estate.operator_namespace)


def furnish(room: Room) -> list[Apply | Delete]:
    """Put everything in place behind the operator's seat, and take away what is not wanted (any more).

    Seats that are there come before those that are not: a name that somebody else has taken keeps a new member out, and
    must not keep a former one in.
    """
    labels = room.owner.selector
    chain = room.estate.chain(room.tenant.metadata.name)
    walls = [
        *network.network_policies(
            room.name,
            labels,
            tenant=room.tenant.metadata.name,
            egress=grants.network(chain).egress,
            operator_namespace=room.estate.operator_namespace,
            dns=room.estate.dns,
        ),
        _tenant_policy(room),
        recounted(quota.resource_quota(room.estate, room.tenant, room.name, labels), room.quota),
        quota.limit_range(room.name, labels),
        _default_account(room.name, labels),
    ]
    seats = access.member_bindings(room.name, labels, entitlement.members_of(chain))
    seats.sort(key=lambda seat: ObjectRef.of(seat) not in room.furniture)
    wanted = {ObjectRef.of(each) for each in (*walls, *seats)} | {room.seat}
    # Accounts are never surplus: the operator makes none. Of all the others admission lets nobody else wear its label.
    surplus = [
        Delete(ref, _uid(found))
        for ref, found in room.furniture.items()
        if ref not in wanted and ref.kind != "ServiceAccount"
    ]
    return [*surplus, *map(Apply, walls), *map(Apply, seats)]


def take_over(room: Room) -> list[Apply | Delete]:
    """Put out what a former tenant's people could go on by: their seats, and the rules of that tenant.

    Its walls stay up until this tenant's are put in their place, by the same names. The rules go, because their tenant
    cannot change; without them the namespace takes no pod, which it may do without for a moment.
    """
    rules = ObjectRef(API_VERSION, "TenantPolicy", room.name, TENANT_POLICY_NAME)
    name = room.tenant.metadata.name
    return [
        Delete(ref, _uid(found))
        for ref, found in room.furniture.items()
        if (ref.kind == "RoleBinding" and ref != room.seat and _on_behalf_of(found) != name)
        or (ref == rules and (found.get("spec") or {}).get("tenant") != name)
    ]


def clear(room: Room) -> list[Apply | Delete]:
    """Take the furniture out of a namespace that stays: members first, the operator's own seat last, then the label.

    The label goes in the same round as the seat, after it: without the label the operator may not touch the seat.
    Those of Pod Security stay: what a member has left behind must not start with more rights than a tenant's pods have.
    """
    rest = [ref for ref in room.furniture if ref != room.seat]
    if rest:
        rest.sort(key=lambda ref: ref.kind != "RoleBinding")
        return [_removal(ref, room.furniture[ref]) for ref in rest]
    seat = room.furniture.get(room.seat)
    last: list[Apply | Delete] = [Delete(room.seat, _uid(seat))] if seat is not None else []
    return [*last, Apply(_without_tenant(room))]


def _removal(ref: ObjectRef, found: Manifest) -> Apply | Delete:
    if ref.kind == "ServiceAccount":
        # Kubernetes made it, not we: only our own fields go.
        return Apply({"apiVersion": "v1", "kind": ref.kind, "metadata": {"name": ref.name, "namespace": ref.namespace}})
    return Delete(ref, _uid(found))


def _without_tenant(room: Room) -> dict[str, Any]:
    """Render the Namespace as nobody's; with its uid, so that one that is gone meanwhile is not made again."""
    facts = room.facts
    metadata: dict[str, Any] = {"name": room.name, "labels": dict(POD_SECURITY)}
    if facts is not None and facts.uid:
        metadata["uid"] = facts.uid
    if facts is not None and facts.made_by_us:
        metadata["labels"][MANAGED_BY_LABEL] = MANAGER
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def _tenant_policy(room: Room) -> dict[str, Any]:
    chain = room.estate.chain(room.tenant.metadata.name)
    return {
        "apiVersion": API_VERSION,
        "kind": "TenantPolicy",
        "metadata": {"name": TENANT_POLICY_NAME, "namespace": room.name, "labels": dict(room.owner.selector)},
        "spec": entitlement.policy_of(room.estate, chain).manifest(),
    }


def _default_account(namespace: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": namespace, "labels": dict(labels)},
        "automountServiceAccountToken": False,
    }


def _on_behalf_of(found: Manifest) -> str:
    return str((found["metadata"].get("labels") or {}).get(INSTANCE_LABEL, ""))


def _uid(manifest: Manifest) -> str | None:
    uid: str | None = manifest["metadata"].get("uid")
    return uid
