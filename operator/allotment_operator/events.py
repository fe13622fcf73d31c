"""Kubernetes Events on the objects concerned: what `kubectl describe` shows.

An Event is written when an answer about an object changes: it became ready, it broke, its spec is invalid. The same
event again is not a new object but a higher count (`series`), written at most once a minute; with other words it is a
new object, for the API server lets nobody change an Event's words. Each object has a budget, so that something that
flaps cannot flood the API server. What is dropped here is still in the log. Events bear dates; how much time has passed
between two of them a stopwatch tells, which nobody sets back.

Events are a courtesy: a failure to write one is logged and forgotten.
"""

import asyncio
import datetime as dt
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from allotment_api.conditions import Condition, ConditionType
from allotment_api.labels import OPERATOR_FIELD_MANAGER
from allotment_kube.client import Client
from allotment_kube.errors import KubernetesError
from allotment_kube.resources import EVENTS

_logger = logging.getLogger(__name__)

CONTROLLER: Final = "allotment.dev/operator"
BUDGET: Final = 12
"""Events about one object at once."""
REFILL_SECONDS: Final = 60.0
"""After so long there is budget for one more."""
REPEAT_SECONDS: Final = 60.0
"""How often the count of a repeated event is written."""
_REMEMBERED: Final = 4096
_LONGEST_NOTE: Final = 1024  # the API server's own bound

_GOOD: Final = frozenset({ConditionType.READY, ConditionType.VALID})
_TOLD: Final = frozenset(
    {
        ConditionType.READY,
        ConditionType.VALID,
        ConditionType.DEGRADED,
        ConditionType.PAUSED,
        ConditionType.GUARANTEE_INCOMPLETE,
        ConditionType.QUOTA_EXCEEDED,
        ConditionType.NARROWED,
    }
)


@dataclass(slots=True)
class _Series:
    name: str
    message: str
    first: dt.datetime
    count: int
    written: dt.datetime
    at: float


@dataclass(slots=True)
class _Budget:
    left: float
    at: float


class Recorder:
    """Writes Events with the operator's rights, from a queue of its own: nobody waits for them.

    Args:
        client: with the operator's own rights.
        instance: who we are.
        clock: the present time, with zone, for the Events' dates.
        stopwatch: seconds, monotonic.
    """

    def __init__(
        self,
        client: Client,
        *,
        instance: str,
        clock: Callable[[], dt.datetime],
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._instance = instance[:128] or "operator"
        self._clock = clock
        self._stopwatch = stopwatch
        self._series: OrderedDict[tuple[str, str, str], _Series] = OrderedDict()
        self._budgets: OrderedDict[str, _Budget] = OrderedDict()
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(maxsize=1000)

    def note(
        self, about: Mapping[str, Any], *, reason: str, message: str, severity: Literal["Normal", "Warning"] = "Normal"
    ) -> bool:
        """Say something about an object; returns whether it will be written."""
        now, at = self._clock(), self._stopwatch()
        key = (str(about["metadata"].get("uid", "")), reason, severity)
        known = self._series.get(key)
        if known is not None:
            known.count += 1
            if at - known.at < REPEAT_SECONDS:
                return False
        if known is None or known.message != message:
            if not self._may(key[0], at):
                return False
            digest = hashlib.sha256(f"{key}{now.isoformat()}".encode()).hexdigest()[:16]
            known = _Series(f"{about['metadata']['name'][:200]}.{digest}", message, now, 1, now, at)
            _remember(self._series, key, known)
        known.written, known.at = now, at
        try:
            self._queue.put_nowait(self._manifest(about, known, reason, severity))
        except asyncio.QueueFull:
            return False
        return True

    async def run(self) -> None:
        """Write what was noted until cancelled."""
        while True:
            manifest = await self._queue.get()
            try:
                await self._client.apply(EVENTS, manifest, manager=OPERATOR_FIELD_MANAGER, force=True)
            except KubernetesError as error:
                _logger.warning("an event was not written: %s", error)

    def _may(self, uid: str, at: float) -> bool:
        budget = self._budgets.get(uid)
        if budget is None:
            budget = _Budget(BUDGET, at)
            _remember(self._budgets, uid, budget)
        budget.left = min(BUDGET, budget.left + (at - budget.at) / REFILL_SECONDS)
        budget.at = at
        if budget.left < 1:
            return False
        budget.left -= 1
        return True

    def _manifest(self, about: Mapping[str, Any], series: _Series, reason: str, severity: str) -> dict[str, Any]:
        metadata = about["metadata"]
        namespace = metadata.get("namespace") or "default"
        manifest = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": series.name, "namespace": namespace},
            "eventTime": _micro(series.first),
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "action": "Reconcile",
            "reason": reason[:128],
            "type": severity,
            "note": series.message[:_LONGEST_NOTE],
            "regarding": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "name": metadata["name"],
                **({"namespace": metadata["namespace"]} if metadata.get("namespace") else {}),
                **({"uid": metadata["uid"]} if metadata.get("uid") else {}),
            },
        }
        if series.count > 1:
            manifest["series"] = {"count": series.count, "lastObservedTime": _micro(series.written)}
        return manifest


def transitions(
    before: Iterable[Mapping[str, Any]], after: Iterable[Condition]
) -> Iterable[tuple[Condition, Literal["Normal", "Warning"]]]:
    """Yield the conditions whose answer or reason is new and worth telling, with their severity.

    An object's first answers are told only where they are not the usual ones.
    """
    known = {entry["type"]: (entry["status"], entry["reason"]) for entry in before}
    for each in after:
        if each.type not in _TOLD or known.get(each.type) == (each.status, each.reason):
            continue
        well = (each.status == "True") == (each.type in _GOOD)
        if each.type not in known and well and each.type != ConditionType.READY:
            continue
        yield each, "Normal" if well or each.type == ConditionType.PAUSED else "Warning"


def _micro(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _remember(memory: OrderedDict[Any, Any], key: object, value: object) -> None:
    memory[key] = value
    while len(memory) > _REMEMBERED:
        memory.popitem(last=False)
