"""What every service of several pods reports: the head of its status, and its standing conditions.

``Ready`` answers one question, whether a client could use the service now, and only the service's own probe answers
it. A pod that is missing makes a service degraded, not unready; what keeps a pod from serving is said with its cause.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from allotment_api.conditions import Condition, ConditionType, Reason, condition
from allotment_operator.plans.outcome import Health, Observed, pod_is_ready
from allotment_operator.plans.ownership import Owner
from allotment_operator.plans.rollout import Rollout

HEAD_FIELDS: Final = frozenset({"phase", "version", "endpoints", "binding", "replicas", "readyReplicas", "selector"})
"""Status fields that `head` writes, in the API's spelling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a service is from what is asked for.

    Attributes:
        wanted: pods asked for.
        waiting: what the operator itself waits for before it can go on; empty where nothing.
        deployed: whether the service has been ready before.
    """

    observed: Observed
    wanted: int
    rollout: Rollout
    waiting: str = ""
    deployed: bool = False

    @property
    def existing(self) -> int:
        """Pods that exist."""
        return len(self.observed.of_kind("Pod"))

    @property
    def ready(self) -> int:
        """Pods that serve."""
        return self.observed.ready_pods()

    @property
    def usable(self) -> bool:
        """Whether a client could use the service."""
        return self.observed.health is not None and self.observed.health.ready

    @property
    def settled(self) -> bool:
        """Whether there is nothing to look after before the next probe."""
        return self.usable and self.ready == self.wanted and not self.rollout.outdated

    @property
    def phase(self) -> str:
        """Where the service stands, in one word."""
        if self.rollout.outdated:
            return "Updating"
        if not self.usable:
            return "Degraded" if self.deployed else "Deploying" if self.existing else "Pending"
        if self.existing != self.wanted:
            return "Scaling"
        return "Running" if self.ready == self.wanted else "Degraded"

    def conditions(self, *, now: dt.datetime) -> tuple[Condition, ...]:
        """Return Ready, Progressing and Degraded."""
        return (self._ready(now), self._progressing(now), self._degraded(now))

    def head(
        self, owner: Owner, *, version: str, endpoints: Sequence[Mapping[str, Any]], binding: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """Return the common fields of the status."""
        return {
            "phase": self.phase,
            "version": version,
            "endpoints": [dict(endpoint) for endpoint in endpoints],
            "replicas": self.existing,
            "readyReplicas": self.ready,
            "selector": ",".join(f"{name}={value}" for name, value in sorted(owner.selector.items())),
            **({"binding": dict(binding)} if binding else {}),
        }

    def _ready(self, now: dt.datetime) -> Condition:
        health = self.observed.health
        if health is None:
            return condition(ConditionType.READY, False, Reason.WAITING_FOR_PODS, self._waiting_for(), now=now)
        message = health.message
        if not health.ready and (trouble := pod_trouble(self.observed)):
            message = f"{message} {trouble}"
        return condition(ConditionType.READY, health.ready, health.reason, message, now=now)

    def _progressing(self, now: dt.datetime) -> Condition:
        message = self.rollout.message or self.waiting
        if not message and (self.existing != self.wanted or (self.ready < self.wanted and not self.deployed)):
            message = self._waiting_for()
        if message:
            return condition(ConditionType.PROGRESSING, True, Reason.RECONCILING, message, now=now)
        return condition(ConditionType.PROGRESSING, False, Reason.AS_EXPECTED, "Everything is as asked for.", now=now)

    def _degraded(self, now: dt.datetime) -> Condition:
        warning = self.rollout.warning
        if self.deployed and (self.ready < self.wanted or not self.usable or warning):
            text = f"{self._waiting_for()} {warning}".rstrip()
            return condition(ConditionType.DEGRADED, True, Reason.WAITING_FOR_PODS, text, now=now)
        return condition(ConditionType.DEGRADED, False, Reason.AS_EXPECTED, "No pod has failed.", now=now)

    def _waiting_for(self) -> str:
        text = self.waiting or f"{self.ready} of {self.wanted} pods serve."
        trouble = pod_trouble(self.observed)
        return f"{text} {trouble}" if trouble else text


class Reported(Protocol):
    """The status of a service, as far as it is asked here."""

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What was said in the last round."""


def was_ready(status: Reported | None) -> bool:
    """Say from the conditions of the last round whether the service has ever been ready.

    A service that never was has no Degraded, only Progressing; the first Ready ends that for good, since its absence
    is from then on reported as Degraded.
    """
    by_type = {each.type: each for each in (status.conditions if status else ())}
    ready, degraded = by_type.get(ConditionType.READY), by_type.get(ConditionType.DEGRADED)
    return (ready is not None and ready.status == "True") or (
        degraded is not None and degraded.status == "True" and degraded.reason == Reason.WAITING_FOR_PODS
    )


def pod_trouble(observed: Observed, *, most: int = 2) -> str:
    """Say what keeps pods from serving: why they wait for a node, an image, a volume, or why their process ends."""
    found = [(pod["metadata"]["name"], _trouble(pod)) for pod in observed.of_kind("Pod") if not pod_is_ready(pod)]
    told = [f"{name}: {text}" for name, text in found if text]
    more = f" (and {len(told) - most} more)" if len(told) > most else ""
    return "; ".join(told[:most]) + more


def _trouble(pod: Mapping[str, Any]) -> str:
    status = pod.get("status") or {}
    for each in status.get("conditions") or []:
        if each["type"] == "PodScheduled" and each["status"] == "False":
            return f"{each.get('reason', 'Unschedulable')}: {each.get('message', '')}"[:400]
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
            ended = (container.get("lastState") or {}).get("terminated") or {}
            code = f" (its last exit code was {ended['exitCode']})" if "exitCode" in ended else ""
            return f"{waiting['reason']}{code} {waiting.get('message', '')}"[:400].strip()
    return ""


def on_simulated_nodes(pods: Iterable[Mapping[str, Any]], simulated: Callable[[str], bool]) -> bool:
    """Say whether pods run, and all of them on nodes that are simulated, by the node's name."""
    nodes = {name for pod in pods if (name := pod["spec"].get("nodeName"))}
    return bool(nodes) and all(map(simulated, nodes))


def simulated_health(ready: int, wanted: int) -> Health:
    """Return what is known of a service on simulated nodes: its pods' readiness, and that it is no more than that."""
    up = ready == wanted
    reason = Reason.PODS_READY_SIMULATED if up else Reason.WAITING_FOR_PODS
    text = f"{ready} of {wanted} pods are ready on simulated nodes, where nothing listens (simulated)."
    return Health(ready=up, reason=reason, message=text, simulated=True)
