"""Has Kubernetes count a quota again that it could not count in full.

The quota controller learns of new kinds every 30 s. It counts a quota when its spec changes, and else every five
minutes; until a kind is counted, the API server refuses what the quota bounds ("status unknown for quota"). So tenants
made right after the chart was installed could have no service for minutes.

How it thinks: a quota whose last count lacks something is changed by a single object, in a bound far above sensible
use, and is counted again for it. One that is counted in full stays as it is.
"""

from typing import Any, Final

from allotment_api.quantities import units
from allotment_operator.plans.actions import Manifest

AGAIN_SECONDS: Final = 3.0
"""Until a count is looked at again; the controller takes less than one."""
_SPARE: Final = "count/replicasets.apps"


def counted(found: Manifest | None) -> bool:
    """Say whether Kubernetes has counted everything that a live quota bounds."""
    bounds, used = _bounds(found), ((found or {}).get("status") or {}).get("used") or {}
    return found is not None and bool(used) and bounds.keys() <= used.keys()


def recounted(wanted: dict[str, Any], found: Manifest | None) -> dict[str, Any]:
    """Return a quota so that it is counted again if its last count lacks something, and else stays as it is."""
    hard = dict(wanted["spec"]["hard"])
    first = units(_SPARE, hard[_SPARE])
    present = _bounds(found).get(_SPARE)
    last = units(_SPARE, present) if present is not None else first
    if not counted(found) and _has_been_tried(found):
        last = first if last == first + 1 else first + 1
    hard[_SPARE] = str(last if last in (first, first + 1) else first)
    return {**wanted, "spec": {**wanted["spec"], "hard": hard}}


def _has_been_tried(found: Manifest | None) -> bool:
    """Say whether the last count is of the present spec: one that is under way is waited for."""
    return found is not None and _bounds(found) == ((found.get("status") or {}).get("hard") or {})


def _bounds(found: Manifest | None) -> dict[str, Any]:
    return ((found or {}).get("spec") or {}).get("hard") or {}
