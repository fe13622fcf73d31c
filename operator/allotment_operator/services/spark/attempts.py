"""Where an application stands, and what follows: pure, from its driver's pod and what was noted before.

An application is a series of attempts, each with a driver's pod of its own. What ends an attempt decides what comes
next: success ends the application (or begins it again, for streams), failure is repeated as the owner asked, with
growing pauses, and an eviction is nobody's failure: the next attempt begins at once and is not counted against it. One
by the kubelet is a failure: a program that fills its node's disk would otherwise go on to the next node, for ever.
Of a program that is always begun again, failures make the pauses only, and count no longer once an attempt has ended
well or run for `HEALTHY_SECONDS`. With a number of retries they are that number's, and count for good.

States are in the words of the kubeflow spark-operator, whose dashboards and scripts then keep working.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from allotment_api.spark import SparkApplication
from allotment_operator.plans.outcome import Observed
from allotment_operator.services.spark.names import Names

State = Literal["SUBMITTED", "RUNNING", "COMPLETED", "FAILED", "PENDING_RERUN", "SUSPENDED"]
FINAL: frozenset[str] = frozenset({"COMPLETED", "FAILED"})
HEALTHY_SECONDS = 600.0
LONGEST_PAUSE = 3600.0
"""Seconds between two attempts at most."""
_NODE_PRESSURE = "Evicted"
"""A pod's reason where the kubelet ended it because its node ran short: first who uses more than was asked for."""
VANISHED_SECONDS = 30.0
"""After so many seconds a driver that was made and cannot be seen is gone, not late."""


@dataclass(frozen=True, slots=True)
class Standing:
    """An application's state from now on, and what to do.

    Attributes:
        attempt: number of the present attempt, from 1; 0 before the first.
        start: make the driver of this attempt.
        stop: take the executors away, and the driver unless its log may still be of use.
        failures: attempts that failed so far, evictions not counted.
        since: when the present attempt was begun.
        ended: when the last attempt ended.
        look_after: seconds until something is due even if nothing happens.
    """

    state: State
    attempt: int
    message: str = ""
    start: bool = False
    stop: bool = False
    failures: int = 0
    since: dt.datetime | None = None
    ended: dt.datetime | None = None
    look_after: float | None = None


def judge(application: SparkApplication, observed: Observed, *, now: dt.datetime) -> Standing:
    """Say where an application stands."""
    known, before = _noted(application)
    if before in FINAL:
        return known
    if application.spec.suspend:
        return replace(known, state="SUSPENDED", message="spec.suspend is true", stop=True)
    if known.attempt == 0 or before == "SUSPENDED":
        return _begin(known, now)
    if before == "PENDING_RERUN":
        return _rerun(application, known, now)
    driver = _driver(application, observed, known.attempt)
    if driver is not None:
        return _from_driver(application, known, driver, now)
    # Made in the last round and not seen yet, or gone without an end: evicted, or deleted by somebody.
    gone = before == "RUNNING" or _older(known.since, now, VANISHED_SECONDS)
    return _begin(known, now) if gone else replace(known, state="SUBMITTED", start=True)


def _from_driver(
    application: SparkApplication, known: Standing, driver: Mapping[str, Any], now: dt.datetime
) -> Standing:
    status = driver.get("status") or {}
    phase = status.get("phase")
    if application.spec.restart_policy.type == "Always" and (phase == "Succeeded" or _ran_well(status, now)):
        known = replace(known, failures=0)
    if driver["metadata"].get("deletionTimestamp"):
        return replace(known, state="SUBMITTED", message="the driver is ending")
    if phase == "Succeeded":
        if application.spec.restart_policy.type == "Always":
            return replace(known, state="PENDING_RERUN", message="it ended and runs again", stop=True, ended=now)
        return replace(known, state="COMPLETED", stop=True, ended=now)
    if phase == "Failed":
        return _failed(application, known, _why(status), now, evicted=_was_evicted(status))
    placed = _placed_at(driver)
    if placed is None:
        return replace(known, state="SUBMITTED", message=_waiting(status), start=True)
    return _placed(application, known, status, placed, now)


def _placed(
    application: SparkApplication, known: Standing, status: Mapping[str, Any], placed: dt.datetime, now: dt.datetime
) -> Standing:
    """A driver that has a node: it is on its way, or runs, each for no longer than the owner allows."""
    spec = application.spec
    if status.get("phase") != "Running":
        left = spec.start_timeout_seconds - (now - placed).total_seconds()
        if left > 0:
            return replace(known, state="SUBMITTED", message=_waiting(status), start=True, look_after=left)
        why = f"the driver did not start within {spec.start_timeout_seconds} s of finding a node: {_waiting(status)}"
        return _failed(application, known, why, now, evicted=False)
    if spec.max_runtime_seconds is None:
        return replace(known, state="RUNNING")
    left = spec.max_runtime_seconds - (now - (_started(status) or placed)).total_seconds()
    if left > 0:
        return replace(known, state="RUNNING", look_after=left)
    message = f"it ran longer than spec.maxRuntimeSeconds ({spec.max_runtime_seconds} s) and was stopped"
    return replace(known, state="FAILED", message=message, stop=True, ended=now)


def _failed(application: SparkApplication, known: Standing, why: str, now: dt.datetime, *, evicted: bool) -> Standing:
    policy = application.spec.restart_policy
    again = replace(known, state="PENDING_RERUN", stop=True, ended=now)
    if evicted:
        return replace(_begin(known, now), start=False, stop=True, message=f"the driver was evicted: {why}")
    failures = known.failures + 1
    if policy.type == "Always" or (policy.type == "OnFailure" and failures <= policy.on_failure_retries):
        pause = _pause(application, failures)
        message = f"attempt {known.attempt} failed: {why}; the next begins after {pause:.0f} s"
        return replace(again, message=message, failures=failures, look_after=pause)
    return replace(known, state="FAILED", message=why, failures=failures, stop=True, ended=now)


def _rerun(application: SparkApplication, known: Standing, now: dt.datetime) -> Standing:
    pause = _pause(application, known.failures) if known.failures else 0.0
    left = pause - (now - (known.ended or now)).total_seconds()
    if left > 0:
        return replace(known, state="PENDING_RERUN", stop=True, look_after=left)
    return _begin(known, now)


def _begin(known: Standing, now: dt.datetime) -> Standing:
    return Standing("SUBMITTED", known.attempt + 1, start=True, failures=known.failures, since=now)


def _noted(application: SparkApplication) -> tuple[Standing, State | None]:
    """What the status remembers, as a standing that changes nothing, and the state noted last."""
    status = application.status
    if status is None or status.application_state is None:
        return Standing("SUBMITTED", 0), None
    state: State = status.application_state.state  # type: ignore[assignment] # the others are never written by us
    return Standing(
        state,
        status.execution_attempts or 0,
        status.application_state.error_message or "",
        failures=status.failed_attempts or 0,
        since=status.last_submission_attempt_time,
        ended=status.termination_time,
    ), state


def _pause(application: SparkApplication, failures: int) -> float:
    interval = application.spec.restart_policy.on_failure_retry_interval
    return min(LONGEST_PAUSE, interval * 2.0 ** min(30, max(0, failures - 1)))


def _driver(application: SparkApplication, observed: Observed, attempt: int) -> Mapping[str, Any] | None:
    name = Names(application.metadata.name).driver(attempt)
    return next((pod for pod in observed.of_kind("Pod") if pod["metadata"]["name"] == name), None)


def _older(since: dt.datetime | None, now: dt.datetime, seconds: float) -> bool:
    return since is not None and (now - since).total_seconds() > seconds


def _since(status: Mapping[str, Any], type_: str) -> dt.datetime | None:
    for each in status.get("conditions") or ():
        if each["type"] == type_ and each["status"] == "True" and each.get("lastTransitionTime"):
            return dt.datetime.fromisoformat(each["lastTransitionTime"])
    return None


def _placed_at(driver: Mapping[str, Any]) -> dt.datetime | None:
    """When a pod was given a node; None while it has none. The node itself is the proof, conditions may lag behind."""
    status = driver.get("status") or {}
    if not (driver.get("spec") or {}).get("nodeName"):
        return _since(status, "PodScheduled")
    began = _since(status, "PodScheduled") or status.get("startTime") or driver["metadata"]["creationTimestamp"]
    return began if isinstance(began, dt.datetime) else dt.datetime.fromisoformat(began)


def _started(status: Mapping[str, Any]) -> dt.datetime | None:
    for container in status.get("containerStatuses") or ():
        started = ((container.get("state") or {}).get("running") or {}).get("startedAt")
        if started:
            return dt.datetime.fromisoformat(started)
    return None


def _ran_well(status: Mapping[str, Any], now: dt.datetime) -> bool:
    """Say whether the driver runs, or ran until its end, for so long that it was not broken from the start."""
    for container in status.get("containerStatuses") or ():
        state = container.get("state") or {}
        times = state.get("running") or state.get("terminated") or {}
        if times.get("startedAt"):
            ended = dt.datetime.fromisoformat(times["finishedAt"]) if times.get("finishedAt") else now
            return (ended - dt.datetime.fromisoformat(times["startedAt"])).total_seconds() >= HEALTHY_SECONDS
    return False


def _waiting(status: Mapping[str, Any]) -> str:
    for each in status.get("conditions") or ():
        if each["type"] == "PodScheduled" and each["status"] == "False":
            reason, message = each.get("reason", ""), each.get("message", "")
            return message if message.startswith(reason) else f"{reason}: {message}"
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason"):
            return f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
    return "the driver is starting"


def _why(status: Mapping[str, Any]) -> str:
    if status.get("reason") == _NODE_PRESSURE and status.get("message"):
        return str(status["message"])
    for container in status.get("containerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated") or {}
        if ended:
            text = f"the driver ended with exit code {ended.get('exitCode')}"
            return f"{text} ({ended['reason']})" if ended.get("reason") not in (None, "Error", "Completed") else text
    return status.get("message") or status.get("reason") or "the driver failed"


def _was_evicted(status: Mapping[str, Any]) -> bool:
    """Say whether the driver was ended for others' sake; not if the kubelet did it, for what the pod used up itself."""
    if status.get("reason") == _NODE_PRESSURE:
        return False
    return any(
        each["type"] == "DisruptionTarget" and each["status"] == "True" for each in status.get("conditions") or ()
    )
