"""Standard conditions: their shape, the types and reasons in use, and merging them.

How it thinks: a condition is a standing answer to one question ("is it ready?"). `lastTransitionTime` is the moment
its status last changed and survives every rewrite that does not change the status; `merge` is the only place that
decides this. Positive conditions (Ready) are true when all is well; the others are true while something is going on.

Source: Kubernetes API conventions, "Typical status properties" (`metav1.Condition`).

It must never reorder or drop conditions that somebody else owns: the scheduler and the operator write conditions of
different types on one Tenant.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from allotment_api.model import Count, KeyedBy, Model, Timestamp

LONGEST_MESSAGE = 32_768
"""Characters, as in Kubernetes' own conditions."""


class ConditionType(StrEnum):
    """Condition types that Allotment writes."""

    READY = "Ready"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    PAUSED = "Paused"
    VALID = "Valid"
    SCHEDULED = "Scheduled"
    GUARANTEE_INCOMPLETE = "GuaranteeIncomplete"
    QUOTA_EXCEEDED = "QuotaExceeded"
    OVERLAPPING = "Overlapping"
    NARROWED = "Narrowed"
    PRIORITY_BOUNDED = "PriorityBounded"


class Reason(StrEnum):
    """Reasons that conditions give, in one word for machines."""

    AS_EXPECTED = "AsExpected"
    RECONCILING = "Reconciling"
    PAUSED_BY_USER = "PausedByUser"
    PODS_READY = "PodsReady"
    PODS_READY_SIMULATED = "PodsReadySimulated"
    WAITING_FOR_PODS = "WaitingForPods"
    WAITING_FOR_CLUSTER = "WaitingForCluster"
    INVALID_SPEC = "InvalidSpec"
    PARENT_NOT_FOUND = "ParentNotFound"
    PARENT_CYCLE = "ParentCycle"
    NAMESPACE_TAKEN = "NamespaceTaken"
    SUSPENDED = "Suspended"
    DELETION_BLOCKED = "DeletionBlocked"
    ERROR = "Error"


class Condition(Model):
    """One standing answer about an object, in Kubernetes' standard shape."""

    type: Annotated[str, Field(min_length=1, max_length=316)]
    """What is being answered, such as Ready."""

    status: Literal["True", "False", "Unknown"]
    """The answer."""

    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """Why, in one CamelCase word."""

    message: Annotated[str, Field(max_length=LONGEST_MESSAGE)] = ""
    """Why, in a sentence with numbers, and what would change it."""

    last_transition_time: Timestamp
    """When the status last changed."""

    observed_generation: Count | None = None
    """Generation of the object that the answer is about."""


Conditions = Annotated[tuple[Condition, ...], Field(max_length=32), KeyedBy("type")]
"""Conditions of an object, one per type."""


def condition(
    type_: str,
    status: bool | None,  # noqa: FBT001 - the three answers of a condition are its value, not a switch
    reason: str,
    message: str = "",
    *,
    now: datetime,
    generation: int | None = None,
) -> Condition:
    """Build one condition as of `now`; a status of None is Unknown. A message that is too long for the API is cut."""
    answer: Literal["True", "False", "Unknown"] = "Unknown" if status is None else "True" if status else "False"
    return Condition(
        type=type_,
        status=answer,
        reason=reason,
        message=message[:LONGEST_MESSAGE],
        last_transition_time=now,
        observed_generation=generation,
    )


def merge(existing: Iterable[Condition], updates: Iterable[Condition]) -> tuple[Condition, ...]:
    """Put `updates` over `existing`: same order, new types at the end, transition times kept where nothing flipped."""
    merged = {each.type: each for each in existing}
    for update in updates:
        before = merged.get(update.type)
        if before is not None and before.status == update.status:
            merged[update.type] = update.model_copy(update={"last_transition_time": before.last_transition_time})
        else:
            merged[update.type] = update
    return tuple(merged.values())


def find(conditions: Iterable[Condition], type_: str) -> Condition | None:
    """The condition of that type, if there is one."""
    return next((each for each in conditions if each.type == type_), None)


def is_true(conditions: Iterable[Condition], type_: str) -> bool:
    """Whether the condition of that type is there and true."""
    found = find(conditions, type_)
    return found is not None and found.status == "True"
