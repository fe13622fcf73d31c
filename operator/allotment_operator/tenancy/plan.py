"""A tenant's plan: which namespaces to make, furnish, or let go of, and what to say.

How it thinks, for one tenant and each namespace:

    listed, and rightfully this tenant's     make it, take the operator's seat, furnish it
    listed, but still with another tenant     take it over as it stands: members out, label, furniture
    listed, but it is rightfully another's    leave it, say so
    held, and another lists it                leave it to that one
    held, but not listed any more             let go: take the furniture out, then the label; never delete it
    the tenant is being deleted               the same; one that the operator made is deleted instead, unless a
                                              service has left volumes in it: "Retain" is its owner's word

A namespace that changes hands keeps its walls throughout: the heir acts, and whoever had it does nothing. A tenant that
cannot stand (a cycle, an unknown parent) changes nothing: what it has stays as it is until it is mended. Each namespace
is a lane of its own: what fails in one holds up no other.

Invariants: no namespace is deleted but one that the operator made, for a tenant that is being deleted, and without
services, or volumes that services retained, in it. A namespace with services is let go only to another tenant.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from allotment_api.conditions import Condition, ConditionType, Reason, condition
from allotment_api.labels import API_VERSION
from allotment_api.tenant import Tenant
from allotment_operator.plans.actions import Action, Apply, Delete, Invoke, ObjectRef
from allotment_operator.plans.outcome import Observed, Outcome
from allotment_operator.plans.ownership import Owner
from allotment_operator.tenancy import entitlement, grants
from allotment_operator.tenancy.estate import Estate, ServiceFacts
from allotment_operator.tenancy.furniture import (
    Room,
    clear,
    furnish,
    namespace_manifest,
    seat_of_operator,
    take_over,
)
from allotment_operator.tenancy.recount import AGAIN_SECONDS, counted

SOON_SECONDS: Final = 0.5
"""After taking a seat: until the API server's authorizer knows of it."""
PATIENT_SECONDS: Final = 5.0
"""While waiting for somebody else's deletion; events make it shorter."""
NEW_SECONDS: Final = 30.0
"""So long after a seat was taken a refusal may come of an authorizer that is behind."""
EAGER_SECONDS: Final = 1.0
"""After such a refusal."""
REFUSED_SECONDS: Final = 10.0
"""After another failure: somebody must mend a policy, a right, or an object that is in the way."""
LONGEST: Final = 1000
"""Characters of what is said of one namespace."""

VOLUMES_RETAINED: Final = "VolumesRetained"
"""Reason of Ready where a namespace outlives its tenant for what is in it."""
CONFIRM_EMPTY: Final = "confirm-empty"
CONFIRM_BARE: Final = "confirm-bare"
"""What is asked of the kind before a namespace is let go, and before it is deleted."""

Phase = Literal["Ready", "Pending", "Taken", "Terminating"]


@dataclass(frozen=True, slots=True)
class Step:
    """What to do about one namespace, and how to report it."""

    name: str
    phase: Phase
    message: str = ""
    actions: tuple[Action, ...] = ()
    again: float | None = None
    stays: bool = False

    @property
    def report(self) -> dict[str, Any]:
        """The entry in the status."""
        return {"name": self.name, "phase": self.phase, **({"message": self.message} if self.message else {})}


def plan(tenant: Tenant, owner: Owner, observed: Observed, estate: Estate, *, now: dt.datetime) -> Outcome:
    """Plan for a tenant that should exist."""
    name = tenant.metadata.name
    if problem := estate.forest.problem(name):
        says = condition(ConditionType.VALID, False, problem.reason, problem.message, now=now)
        ready = condition(
            ConditionType.READY, False, problem.reason, f"Nothing is changed while {problem.message}", now=now
        )
        return Outcome(conditions=(says, ready), requeue_after=None)
    rooms = [Room(estate, tenant, owner, each, observed.children) for each in _namespaces(tenant, estate)]
    steps = [_listed(room) if room.name in tenant.spec.namespaces else _dropped(room) for room in rooms]
    return Outcome(
        conditions=tuple(_conditions(tenant, estate, steps, now=now)),
        status={"namespaces": [step.report for step in steps]},
        requeue_after=min((step.again for step in steps if step.again is not None), default=None),
        lanes=_lanes(steps),
        retry_after=EAGER_SECONDS if any(_is_new(room, now) for room in rooms) else REFUSED_SECONDS,
    )


def note_failures(tenant: Tenant, outcome: Outcome, failures: Mapping[str, str]) -> Outcome:
    """Say of each namespace that failed what is in the way; one that was ready before stays so."""
    before = {each.name: each.phase for each in (tenant.status.namespaces if tenant.status else ())}
    reports = [
        {**report, "phase": _phase_after_failure(report, before), "message": failures[report["name"]][:LONGEST]}
        if report["name"] in failures
        else report
        for report in outcome.status["namespaces"]
    ]
    open_ = [report for report in reports if report["phase"] != "Ready"]
    conditions = outcome.conditions
    if open_:
        message = f"{len(reports) - len(open_)} of {len(reports)} namespaces are ready; {open_[0]['name']}: "
        ready = {
            "status": "False",
            "reason": Reason.RECONCILING.value,
            "message": message + open_[0].get("message", ""),
        }
        conditions = tuple(
            each.model_copy(update=ready) if each.type == ConditionType.READY and each.status == "True" else each
            for each in conditions
        )
    return replace(outcome, conditions=conditions, status={**outcome.status, "namespaces": reports})


def _phase_after_failure(report: Mapping[str, Any], before: Mapping[str, Phase]) -> Phase:
    phase: Phase = report["phase"]
    return "Pending" if phase == "Ready" and before.get(report["name"]) != "Ready" else phase


def _lanes(steps: Iterable["Step"]) -> dict[str, tuple[Action, ...]]:
    return {step.name: step.actions for step in steps if step.actions}


def _is_new(room: Room, now: dt.datetime) -> bool:
    """Say whether the operator has just taken its seat: the API server may not know of its rights yet."""
    seated = ((room.furniture.get(room.seat) or {}).get("metadata") or {}).get("creationTimestamp")
    return seated is not None and (now - dt.datetime.fromisoformat(seated)).total_seconds() < NEW_SECONDS


def release(tenant: Tenant, owner: Owner, observed: Observed, estate: Estate, *, now: dt.datetime) -> Outcome | None:
    """Plan for a tenant that is being deleted; None when it holds nothing any more."""
    name = tenant.metadata.name
    above = set(estate.forest.chain(name))  # in a cycle the tenants below are above as well, and none would ever go
    if children := [each for each in estate.forest.children(name) if each not in above]:
        message = (
            f"The tenant has others below it: {', '.join(children)}. Delete them or give them another parent first."
        )
        return _blocked(message, now=now)
    held = estate.held_by(name)
    if not held:
        return None
    left = [namespace for namespace in held if estate.forest.heir(namespace, of=name) is None]
    services = [service for namespace in left for service in estate.services_in(namespace)]
    if services and tenant.spec.deletion_policy == "Block":
        return _blocked(
            f"The tenant still has {_counted(services)}. Delete them first, or set spec.deletionPolicy to Cascade to "
            "have them deleted with it.",
            now=now,
        )
    if services:
        actions: Iterable[Action] = [
            Delete(ObjectRef(API_VERSION, each.kind, each.namespace, each.name)) for each in services
        ]
        message = f"Waiting for {_counted(services)} to be deleted."
        steps = [Step(namespace, "Terminating") for namespace in held]
        reason = "Deleting"
    else:
        actions, steps = (), [_left(Room(estate, tenant, owner, each, observed.children)) for each in held]
        told = " ".join(f"{step.name}: {step.message}" for step in steps if step.message)
        message = f"Waiting for the namespaces {', '.join(held)} to be let go. {told}".rstrip()
        reason = VOLUMES_RETAINED if any(step.stays for step in steps) else "Deleting"
    return Outcome(
        actions=tuple(actions),
        conditions=(condition(ConditionType.READY, False, reason, message[:32000], now=now),),
        status={"namespaces": [step.report for step in steps]},
        lanes=_lanes(steps),
    )


def _namespaces(tenant: Tenant, estate: Estate) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*tenant.spec.namespaces, *estate.held_by(tenant.metadata.name))))


def _listed(room: Room) -> Step:
    """Plan for a namespace that the tenant lists."""
    name, facts = room.tenant.metadata.name, room.facts
    rightful, *others = room.estate.forest.claims(room.name)
    if rightful != name:
        why = "has" if room.facts is not None and room.facts.tenant == rightful else "is older and lists"
        message = f"The tenant {rightful} {why} this namespace too: take it out of one of the two."
        return Step(room.name, "Taken", message)
    entry = (Apply(namespace_manifest(room)), Apply(seat_of_operator(room)))
    if facts is None:
        return Step(room.name, "Pending", "It is being made.", entry, SOON_SECONDS)
    if facts.terminating:
        return Step(room.name, "Terminating", "It is being deleted; it is made anew afterwards.", again=PATIENT_SECONDS)
    if obstacle := _obstacle_with_holder(room):
        return Step(room.name, "Pending", obstacle, again=PATIENT_SECONDS)
    if room.seat not in room.furniture:
        return Step(room.name, "Pending", "The operator is taking its seat.", entry, SOON_SECONDS)
    if former := take_over(room):
        return Step(room.name, "Pending", "It is being taken over.", (*former, *entry), SOON_SECONDS)
    message = f"Also listed, without effect, by {', '.join(others)}." if others else ""
    again = None if counted(room.quota) else AGAIN_SECONDS
    return Step(room.name, "Ready", message, (*entry, *furnish(room)), again)


def _obstacle_with_holder(room: Room) -> str:
    """Say why a namespace cannot be taken over from the tenant that has it; empty where it can, or nobody has it."""
    facts, estate = room.facts, room.estate
    if facts is None or facts.tenant in {"", room.tenant.metadata.name} or not facts.labelled_by_us:
        return ""
    holder = estate.tenants.get(facts.tenant)
    if holder is not None and holder.metadata.deletion_timestamp is not None:
        return ""
    obstacle = _obstacle(estate, facts.tenant)
    return f"It is still with the tenant {facts.tenant}, {obstacle}" if obstacle else ""


def _obstacle(estate: Estate, name: str) -> str:
    """Say what keeps the operator from doing anything for a tenant; empty where nothing does."""
    if name in estate.unreadable:
        return f"which cannot be read: {estate.unreadable[name]}"
    if name not in estate.tenants:
        return ""
    if estate.tenants[name].spec.paused:
        return "which is paused: set its spec.paused to false."
    problem = estate.forest.problem(name)
    return f"which is stuck: {problem.message}" if problem else ""


def _handed_on(room: Room) -> Step | None:
    """Plan for a namespace that goes to another tenant, which does all there is to do; None if to nobody."""
    heir = room.estate.forest.heir(room.name, of=room.tenant.metadata.name)
    if heir is None:
        return None
    obstacle = _obstacle(room.estate, heir)
    return Step(room.name, "Terminating", f"It goes to the tenant {heir}{', ' if obstacle else '.'}{obstacle}")


def _dropped(room: Room) -> Step:
    """Plan for a namespace that the tenant holds but lists no more."""
    if handed_on := _handed_on(room):
        return handed_on
    if services := room.estate.services_in(room.name):
        message = (
            f"It is not listed any more, but has {_counted(services)}: delete them, list the namespace again, or list "
            "it under another tenant."
        )
        return Step(room.name, "Ready", message)
    if room.facts is not None and room.facts.terminating:
        return Step(room.name, "Terminating")
    return Step(room.name, "Terminating", "It is being let go.", (_empty(room), *clear(room)), SOON_SECONDS)


def _left(room: Room) -> Step:
    """Plan for a namespace of a tenant that is being deleted, without services in it."""
    facts = room.facts
    if facts is None or facts.terminating:
        return Step(room.name, "Terminating")
    if handed_on := _handed_on(room):
        return handed_on
    others = [each for each in room.estate.forest.claims(room.name) if each != room.tenant.metadata.name]
    going = facts.made_by_us and not others
    if going and room.seat not in room.furniture:
        # Without our rights there nobody knows what is in it.
        return Step(room.name, "Terminating", "The operator is taking its seat.", (Apply(seat_of_operator(room)),))
    if going and not room.volumes:
        deletion = Delete(ObjectRef("v1", "Namespace", "", room.name), facts.uid or None)
        return Step(room.name, "Terminating", actions=(Invoke(CONFIRM_BARE, room.name), deletion))
    message = f"It stays, with what is in it: {_volumes(room.volumes)}" if going else ""
    return Step(room.name, "Terminating", message, (_empty(room), *clear(room)), stays=going)


def _empty(room: Room) -> Invoke:
    """Have it made sure that no service is in a namespace: this picture comes from watches, which may be behind."""
    return Invoke(CONFIRM_EMPTY, room.name)


def _volumes(claims: list[str]) -> str:
    more = f" and {len(claims) - 5} more" if len(claims) > 5 else ""
    return (
        f"services retained {len(claims)} volume{'s' if len(claims) > 1 else ''} (PersistentVolumeClaim "
        f"{', '.join(claims[:5])}{more}). Delete it when they are not needed any more."
    )


def _blocked(message: str, *, now: dt.datetime) -> Outcome:
    return Outcome(conditions=(condition(ConditionType.READY, False, Reason.DELETION_BLOCKED, message, now=now),))


def _conditions(tenant: Tenant, estate: Estate, steps: list[Step], *, now: dt.datetime) -> Iterable[Condition]:
    yield _ready(tenant, estate, steps, now=now)
    chain = estate.chain(tenant.metadata.name)
    gap = entitlement.guarantee_gap(chain)
    if gap:
        yield condition(ConditionType.GUARANTEE_INCOMPLETE, True, "ResourceMissing", gap, now=now)
    elif not tenant.spec.guaranteed:
        message = "There is no guarantee: everything the tenant runs may be evicted when others claim their share."
        yield condition(ConditionType.GUARANTEE_INCOMPLETE, False, "NoGuarantee", message, now=now)
    else:
        names = ", ".join(sorted(entitlement.guaranteed(chain)))
        yield condition(ConditionType.GUARANTEE_INCOMPLETE, False, Reason.AS_EXPECTED, f"It covers {names}.", now=now)
    wider = grants.overreach(chain)
    text = wider or "It asks for no network and no service that the tenants above it do not have."
    reason = "BeyondParent" if wider else Reason.AS_EXPECTED
    yield condition(ConditionType.NARROWED, bool(wider), reason, text[:32000], now=now)


def _ready(tenant: Tenant, estate: Estate, steps: list[Step], *, now: dt.datetime) -> Condition:
    open_ = [step for step in steps if step.phase != "Ready"]
    taken = [step for step in open_ if step.phase == "Taken"]
    if open_:
        first = (taken or open_)[0]
        reason = Reason.NAMESPACE_TAKEN if taken else Reason.RECONCILING
        message = f"{len(steps) - len(open_)} of {len(steps)} namespaces are ready; {first.name}: {first.message}"
        return condition(ConditionType.READY, False, reason, message.rstrip(": "), now=now)
    suspended = [each.metadata.name for each in estate.chain(tenant.metadata.name) if each.spec.suspended]
    children = estate.forest.children(tenant.metadata.name)
    if steps:
        message = (
            f"All {len(steps)} namespaces are ready." if len(steps) > 1 else f"The namespace {steps[0].name} is ready."
        )
    elif children:
        message = f"It has {len(children)} tenant{'s' if len(children) > 1 else ''} below it."
    else:
        message = "It has no namespaces: list some in spec.namespaces."
    if suspended:
        return condition(
            ConditionType.READY,
            True,
            Reason.SUSPENDED,
            f"{message} Suspended by {suspended[-1]}: nothing new starts.",
            now=now,
        )
    return condition(ConditionType.READY, True, Reason.AS_EXPECTED, message, now=now)


def _counted(services: Iterable[ServiceFacts]) -> str:
    names = [str(each) for each in services]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)} service{'s' if len(names) > 1 else ''} ({', '.join(names[:5])}{more})"
