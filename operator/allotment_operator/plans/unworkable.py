"""A spec that is valid by itself but cannot be carried out where it is.

A node pool that is not the tenant's, a heap that does not fit its pod: the service that runs is left as it is, and
the conditions say what to change.
"""

import datetime as dt
from typing import Final

from allotment_api.conditions import ConditionType, Reason, condition
from allotment_operator.plans.outcome import Health, Outcome

LOOK_AGAIN_SECONDS: Final = 30.0


class UnworkableError(ValueError):
    """The message says what to change, and where."""


NO_TENANT: Final = (
    "this namespace belongs to no tenant: ask a platform admin to name it in a Tenant's spec.namespaces, or make the "
    "service in a namespace of your tenant"
)


def require_version(version: str, oldest: tuple[int, ...], *, below: tuple[int, ...] = ()) -> None:
    """Refuse a version that this operator's rendering is not for.

    Raises:
        UnworkableError: it is older than ``oldest``, or ``below`` or newer.
    """
    parts = tuple(int(part) for part in version.split("."))
    if parts < oldest or (below and parts >= below):
        bound = f" and older than {'.'.join(map(str, below))}" if below else ""
        lowest = ".".join(map(str, oldest))
        raise UnworkableError(f"version {version} is not supported: write one from {lowest} on{bound}")


def unworkable(error: UnworkableError, *, health: Health | None, now: dt.datetime, served: bool = False) -> Outcome:
    """Return the outcome that changes nothing and says why; Ready stays what the running service itself says.

    Args:
        error: why nothing can be done.
        health: what the service says of itself.
        now: the present time.
        served: whether the service has been ready before. That must be known afterwards, too: see
            `plans.service_status.was_ready`.
    """
    message = str(error)
    ready = health is not None and health.ready
    reason = health.reason if health is not None and ready else Reason.INVALID_SPEC
    degraded = condition(ConditionType.DEGRADED, True, Reason.WAITING_FOR_PODS, message, now=now)
    return Outcome(
        conditions=(
            condition(ConditionType.VALID, False, Reason.INVALID_SPEC, message, now=now),
            condition(ConditionType.READY, ready, reason, health.message if health and ready else message, now=now),
            *((degraded,) if served and not ready else ()),
        ),
        requeue_after=LOOK_AGAIN_SECONDS,
    )
