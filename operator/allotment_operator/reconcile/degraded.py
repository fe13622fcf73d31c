"""What a round says of Degraded: the plan's own word, and what a plan cannot know.

A plan knows its service's pods. It does not know which of its lanes will fail, nor which objects were left alone
because they only wear the service's labels. Both belong into the one condition that people look at when something is
wrong, and none of the three may hide another.

The reason WaitingForPods is also a memory: from it plans know that the service has served before
(`plans.service_status.was_ready`). A round that fails must not wipe it out, or an outage would pass for a first start.
"""

import datetime as dt
import logging
from collections.abc import Mapping
from typing import Final

from allotment_api.conditions import Condition, ConditionType, Reason, condition
from allotment_kube.errors import ApiError
from allotment_operator.kind import ServiceRefusedError, ServiceUnavailableError
from allotment_operator.plans.actions import Manifest
from allotment_operator.plans.outcome import Observed
from allotment_operator.reconcile.credentials import AuthorityMissingError

_logger = logging.getLogger(__name__)

SUCCEEDED: Final = "Every step of the last round succeeded."
"""Of a round whose plan says nothing of its own."""
LONGEST: Final = 32_000
"""Characters of a condition's message; the API takes 32,768."""
_NAMED: Final = 5
"""Failed lanes, or objects left alone, that are named."""


def whole(own: Condition, observed: Observed, failures: Mapping[str, str], *, of: int, now: dt.datetime) -> Condition:
    """Return the whole condition.

    Args:
        own: what the plan says.
        observed: what the round saw.
        failures: what went wrong, by lane.
        of: how many lanes there were.
        now: the present time.
    """
    failed = partly_failed(failures, of=of, now=now)
    further = [_left_alone(observed)]
    if failed is not None and own.status == "True":
        further.insert(0, failed.message)  # pods that are not well come first, and keep their reason
    elif failed is not None:
        own = failed
    text = " ".join(filter(None, [own.message, *further]))
    return own.model_copy(update={"message": text[:LONGEST]})


def partly_failed(failures: Mapping[str, str], *, of: int, now: dt.datetime) -> Condition | None:
    """Return what to say of lanes that failed; None where none did."""
    if not failures:
        return None
    told = "; ".join(f"{name}: {text}" for name, text in [*failures.items()][:_NAMED])
    more = f"; and {len(failures) - _NAMED} more" if len(failures) > _NAMED else ""
    text = f"{len(failures)} of {of} parts failed and are tried again: {told}{more}"
    return condition(ConditionType.DEGRADED, True, "PartlyFailed", text[:LONGEST], now=now)


def failed_round(before: Manifest, reason: str, text: str, *, now: dt.datetime) -> Condition:
    """Return what to say of a round that came to nothing; ``before`` is the resource as it was read."""
    remembered = Reason.WAITING_FOR_PODS if has_served(before) else reason
    return condition(ConditionType.DEGRADED, True, remembered, text[:LONGEST], now=now)


def has_served(before: Manifest) -> bool:
    """Say whether a resource that is not ready now says of itself that it has been."""
    said = (before.get("status") or {}).get("conditions") or ()
    return any(
        each["type"] == ConditionType.DEGRADED
        and each["status"] == "True"
        and each["reason"] == Reason.WAITING_FOR_PODS
        for each in said
    )


def in_words(error: Exception) -> str:
    """Say what went wrong in a lane; what nobody expects is a fault of ours, and goes into the log in full."""
    if isinstance(error, ApiError | AuthorityMissingError | ServiceRefusedError | ServiceUnavailableError):
        return str(error)
    _logger.error("a lane failed by a fault of the operator", exc_info=error)
    return f"{type(error).__name__}: {error}; this is a fault of the operator, see its log"


def _left_alone(observed: Observed) -> str:
    if not observed.strangers:
        return ""
    names = ", ".join(map(str, sorted(observed.strangers)[:_NAMED]))
    more = f" and {len(observed.strangers) - _NAMED} more" if len(observed.strangers) > _NAMED else ""
    return (
        f"Left alone: {names}{more}, which the operator did not make but which wear this resource's labels: take the "
        "labels off."
    )
