"""Taking a service down: pods first, then what they needed, and data only where the owner said so.

The same for every service of several pods. Pods end before their volumes and credentials go, so that they can end
well. What is retained keeps its labels: a service made again under the same name finds its volumes.
"""

import datetime as dt
from typing import Any, Final

from allotment_api.conditions import ConditionType, condition
from allotment_operator.plans.actions import Delete, Manifest, ObjectRef
from allotment_operator.plans.outcome import Observed, Outcome

_CLAIM: Final = "PersistentVolumeClaim"
_LAST: Final = frozenset({_CLAIM, "Secret"})


def release(
    observed: Observed, *, retain: frozenset[ObjectRef] = frozenset(), now: dt.datetime, requeue_after: float = 2.0
) -> Outcome | None:
    """Return the next step of taking everything down; None when nothing is left but what is retained.

    Args:
        observed: with every child of the instance.
        retain: claims that stay.
        now: for the conditions.
        requeue_after: seconds until the next look.
    """
    left = {ref: child for ref, child in observed.children.items() if ref not in retain}
    if not left:
        return None
    pods = [ref for ref in left if ref.kind == "Pod"]
    doomed = [
        Delete(ref, child["metadata"].get("uid"))
        for ref, child in sorted(left.items())
        if not child["metadata"].get("deletionTimestamp")
        and not _made_by_another(ref, child)
        and (ref.kind not in _LAST or not pods)
    ]
    return Outcome(
        actions=tuple(doomed),
        conditions=(condition(ConditionType.READY, False, "Deleting", _message(left), now=now),),
        status={"phase": "Deleting"},
        requeue_after=requeue_after,
    )


def all_claims(observed: Observed) -> frozenset[ObjectRef]:
    """Return every volume claim of the instance."""
    return frozenset(ref for ref in observed.children if ref.kind == _CLAIM)


def _made_by_another(ref: ObjectRef, child: Manifest) -> bool:
    """Pods of a StatefulSet go with it; deleting them first would only have them made again."""
    owners = child["metadata"].get("ownerReferences") or []
    return ref.kind == "Pod" and any(each.get("kind") in ("StatefulSet", "ReplicaSet", "Job") for each in owners)


def _message(left: dict[ObjectRef, Manifest] | dict[ObjectRef, Any]) -> str:
    counts: dict[str, int] = {}
    for ref in left:
        counts[ref.kind] = counts.get(ref.kind, 0) + 1
    pods = sorted(ref.name for ref in left if ref.kind == "Pod")
    waiting = f"waiting for {', '.join(pods[:3])}{' and others' if len(pods) > 3 else ''} to end; " if pods else ""
    return f"Being deleted: {waiting}left are " + ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
