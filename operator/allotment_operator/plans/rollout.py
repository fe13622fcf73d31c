"""Restarting pods after a change, one at a time, and only while the service can spare one.

StatefulSets of services never restart pods themselves (`OnDelete`): they know a pod's readiness, but not whether the
copies on it have caught up. Here the next restart waits until every pod serves and the service's own probe is content.
A pod that is outdated and does not serve is restarted first and without waiting: it protects nothing, and it is how a
broken configuration is mended.

The state is on the objects (a pod carries the fingerprint of what it was made from), so a restarted operator goes on
where it was. A change that a running pod would not notice, such as where its successor may run or another spelling of
the same image, restarts nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from allotment_operator.plans.actions import Delete, Manifest, ObjectRef
from allotment_operator.plans.outcome import Observed, pod_is_ready
from allotment_operator.plans.workload import CONTENT_ANNOTATION, SAME_CONTENT_ANNOTATION


@dataclass(frozen=True, slots=True)
class Rollout:
    """What to restart now.

    Attributes:
        restart: the deletion of the next pod; its StatefulSet makes it anew. None where nothing may or need go.
        outdated: pods that were made from an older revision.
        message: what the rollout does or waits for; empty where nothing is outdated.
    """

    restart: Delete | None = None
    outdated: int = 0
    message: str = ""


def next_restart(
    observed: Observed, *, wanted: int, unhealthy: str, order: Callable[[Manifest], Any] | None = None
) -> Rollout:
    """Say which pod to restart next.

    Args:
        observed: with the instance's StatefulSets and pods.
        wanted: pods that should exist.
        unhealthy: why the service itself cannot spare a pod now, in words; empty where it can.
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
    if ready < needed:
        text = f"{count} pods are to be restarted; waiting until all serve ({ready} of {needed} do)."
        return Rollout(outdated=count, message=text)
    if unhealthy:
        return Rollout(outdated=count, message=f"{count} pods are to be restarted; waiting: {unhealthy}")
    return _restart(ordered[0], count, "is the next")


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
