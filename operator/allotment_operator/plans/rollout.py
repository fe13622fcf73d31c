"""Restarting pods after a change, one at a time, and only while the service can spare one.

StatefulSets of services never restart pods themselves (`OnDelete`): they know a pod's readiness, but not whether the
copies on it have caught up. Here the next restart waits until every pod serves and the service's own probe is content.
A pod that is outdated and does not serve is restarted first and without waiting: it protects nothing, and it is how a
broken configuration is mended.

A pod reads its certificate when it starts. One that waits for its restart until the certificate has run out can neither
be asked nor speak to the others, so that the service would never be well again and the restart never come. So a
certificate's last day ends the waiting, and who looks is warned long before.

The state is on the objects (a pod carries the fingerprint of what it was made from), so a restarted operator goes on
where it was. A change that a running pod would not notice, such as where its successor may run or another spelling of
the same image, restarts nothing.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from allotment_operator.plans.actions import Delete, Manifest, ObjectRef
from allotment_operator.plans.outcome import Observed, pod_is_ready
from allotment_operator.plans.workload import CERTIFICATE_ENDS_ANNOTATION, CONTENT_ANNOTATION, SAME_CONTENT_ANNOTATION

LAST_DAY: Final = dt.timedelta(days=1)
"""So long before its certificate runs out a pod is restarted whatever else does not serve."""
WARNED: Final = dt.timedelta(days=30)
"""So long before it people are warned of a restart that still waits."""
STARTING: Final = dt.timedelta(minutes=10)
"""So long a pod that was made anew may take until it no longer holds up such a restart."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """What to restart now.

    Attributes:
        restart: the deletion of the next pod; its StatefulSet makes it anew. None where nothing may or need go.
        outdated: pods that were made from an older revision.
        message: what the rollout does or waits for; empty where nothing is outdated.
        warning: what comes of it if the waiting does not end soon; empty where nothing does.
    """

    restart: Delete | None = None
    outdated: int = 0
    message: str = ""
    warning: str = ""


def next_restart(
    observed: Observed,
    *,
    wanted: int,
    unhealthy: str,
    now: dt.datetime,
    order: Callable[[Manifest], Any] | None = None,
) -> Rollout:
    """Say which pod to restart next.

    Args:
        observed: with the instance's StatefulSets and pods.
        wanted: pods that should exist.
        unhealthy: why the service itself cannot spare a pod now, in words; empty where it can.
        now: the present time.
        order: sort key of pods, first to be restarted first; by default the highest name first.
    """
    pods = observed.of_kind("Pod")
    outdated = _outdated(observed, pods)
    if not outdated:
        return Rollout()
    count = len(outdated)
    ordered = sorted(outdated, key=order) if order else list(reversed(outdated))
    idle = [pod for pod in ordered if not pod_is_ready(pod)]
    ending = [pod for pod in pods if pod["metadata"].get("deletionTimestamp")]
    if ending:
        name = ending[0]["metadata"]["name"]
        return Rollout(outdated=count, message=f"{count} pods are to be restarted; waiting for {name} to end.")
    if idle:
        return _restart(idle[0], count, "does not serve")
    ready, needed = sum(1 for pod in pods if pod_is_ready(pod)), max(wanted, len(pods))
    waits = f" until all serve ({ready} of {needed} do)." if ready < needed else unhealthy and f": {unhealthy}"
    if not waits:
        return _restart(ordered[0], count, "is the next")
    first = min(ordered, key=lambda pod: _certificate_ends(pod) or _NEVER)  # of equal ones the first in order
    if _cannot_wait(first, pods, needed=needed, now=now):
        return _restart(first, count, f"cannot wait: its certificate ends at {_certificate_ends(first)}")
    text = f"{count} pods are to be restarted; waiting{waits}"
    return Rollout(outdated=count, message=text, warning=_warning(first, now))


def _cannot_wait(pod: Manifest, pods: Sequence[Manifest], *, needed: int, now: dt.datetime) -> bool:
    """Say whether a pod is to be restarted for its certificate's sake, although the service can spare none.

    On the last day those restarted before it are given time to serve again; once it has run out nobody is served.
    """
    ends = _certificate_ends(pod)
    if ends is None or ends - now > LAST_DAY:
        return False
    starting = [each for each in pods if not pod_is_ready(each) and now - _created(each) < STARTING]
    return ends <= now or (len(pods) >= needed and not starting)


def _warning(pod: Manifest, now: dt.datetime) -> str:
    ends = _certificate_ends(pod)
    if ends is None or ends - now > WARNED:
        return ""
    return (
        f"The certificate of {pod['metadata']['name']} runs out at {ends}, and the restart that renews it waits; "
        "on the day before it comes in any case."
    )


_NEVER: Final = dt.datetime.max.replace(tzinfo=dt.UTC)
_LONG_AGO: Final = dt.datetime.min.replace(tzinfo=dt.UTC)


def _certificate_ends(pod: Manifest) -> dt.datetime | None:
    """Return when the certificate runs out that a pod has read; None where nobody knows."""
    return _time((pod["metadata"].get("annotations") or {}).get(CERTIFICATE_ENDS_ANNOTATION))


def _created(pod: Manifest) -> dt.datetime:
    return _time(pod["metadata"].get("creationTimestamp")) or _LONG_AGO


def _time(text: object) -> dt.datetime | None:
    try:
        found = dt.datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else None


def _restart(pod: Manifest, count: int, why: str) -> Rollout:
    metadata = pod["metadata"]
    ref = ObjectRef("v1", "Pod", metadata["namespace"], metadata["name"])
    return Rollout(Delete(ref, metadata.get("uid")), count, f"{count} pods are to be restarted; {ref.name} {why}.")


def _outdated(observed: Observed, pods: Iterable[Manifest]) -> list[Manifest]:
    """Return the pods that were made from something else than what their StatefulSet now says, by name."""
    latest = {
        each["metadata"]["name"]: {_content(each["spec"]["template"]), *_same_content(each)} - {""}
        for each in observed.of_kind("StatefulSet")
        # Before its controller has seen a change, a pod would be made anew as it was.
        if each.get("status", {}).get("observedGeneration") == each["metadata"].get("generation")
    }
    return [pod for pod in pods if (wanted := latest.get(stateful_set_of(pod))) and _content(pod) not in wanted]


def _content(manifest: Manifest) -> str:
    return str((manifest["metadata"].get("annotations") or {}).get(CONTENT_ANNOTATION, ""))


def _same_content(stateful_set: Manifest) -> list[str]:
    return str((stateful_set["metadata"].get("annotations") or {}).get(SAME_CONTENT_ANNOTATION, "")).split()


def stateful_set_of(pod: Manifest) -> str:
    """Return the name of the StatefulSet that made a pod; empty for other pods."""
    owners = pod["metadata"].get("ownerReferences") or []
    return next((str(each["name"]) for each in owners if each.get("kind") == "StatefulSet"), "")
