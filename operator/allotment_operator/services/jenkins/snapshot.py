"""What the controller says, read out of its JSON: its queue and its nodes.

Sources: Jenkins' remote access API, ``/queue/api/json`` and ``/computer/api/json``. The label that a queued item waits
for is exported for freestyle jobs only (``task.labelExpression``); of a pipeline's step only the reason for waiting
says it, in a sentence, with typographic quotes. Those sentences are from the core's ``Messages.properties`` and are
translated, which is why the client asks for English.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from allotment_operator.services.jenkins.label_expression import LabelExpressionError, matches

QUEUE_TREE = "items[id,why,blocked,buildable,stuck,inQueueSince,task[name,labelExpression]]"
NODES_TREE = (
    "computer[displayName,idle,offline,temporarilyOffline,offlineCauseReason,assignedLabels[name],"
    "executors[currentExecutable[url,number]]]"
)

_OPEN, _CLOSE = "['\"\u2018\u201c]", "['\"\u2019\u201d]"
_QUOTED = f"{_OPEN}(.+?){_CLOSE}"
# A marked agent gives our own words as the cause; one whose channel broke gives the controller's.
_LOST = re.compile("connection|channel|ping", re.IGNORECASE)
_WAITING_FOR_LABEL = tuple(
    re.compile(sentence)
    for sentence in (
        rf"There are no nodes with the label {_QUOTED}$",
        rf"All nodes of label {_QUOTED} are offline$",
        rf"Waiting for next available executor on {_QUOTED}$",
        rf"{_QUOTED} doesn['\u2019]t have label {_QUOTED}$",
    )
)


@dataclass(frozen=True, slots=True)
class QueuedBuild:
    """A build that waits for an executor; ``label`` is an expression, None where the controller does not tell it."""

    id: int
    label: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Node:
    """A node as the controller sees it."""

    name: str
    online: bool
    idle: bool
    held: bool
    labels: frozenset[str]
    """``held`` is true once it is marked to take no further build."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The controller at one moment."""

    builds: tuple[QueuedBuild, ...]
    nodes: Mapping[str, Node]


def read_queue(answer: Mapping[str, Any]) -> tuple[QueuedBuild, ...]:
    """Read the builds that could start if there were an agent; blocked ones wait for something else."""
    return tuple(
        QueuedBuild(item["id"], _label_of(item), item.get("why") or "")
        for item in answer.get("items", ())
        if item.get("buildable") and not item.get("blocked")
    )


def read_nodes(answer: Mapping[str, Any]) -> dict[str, Node]:
    """Read the nodes, by name."""
    return {
        computer["displayName"]: Node(
            name=computer["displayName"],
            online=_is_online(computer),
            idle=bool(computer.get("idle", True)),
            held=bool(computer.get("temporarilyOffline", False)),
            labels=frozenset(label["name"] for label in computer.get("assignedLabels", ())),
        )
        for computer in answer.get("computer", ())
    }


def demand(builds: tuple[QueuedBuild, ...], labels: frozenset[str]) -> int:
    """Count the builds that an agent with these labels could take; one with an unreadable label counts for nobody."""
    count = 0
    for build in builds:
        try:
            count += build.label is not None and matches(build.label, labels)
        except LabelExpressionError:
            continue
    return count


def _label_of(item: Mapping[str, Any]) -> str | None:
    exported = (item.get("task") or {}).get("labelExpression")
    if exported:
        return str(exported)
    for sentence in _WAITING_FOR_LABEL:
        match = sentence.search(item.get("why") or "")
        if match:
            return match.group(match.lastindex or 1)
    return None


def _is_online(computer: Mapping[str, Any]) -> bool:
    """Say whether the agent is connected: one that we marked counts as offline, but its channel is there."""
    if not computer.get("offline", False):
        return True
    return bool(computer.get("temporarilyOffline")) and not _LOST.search(computer.get("offlineCauseReason") or "")
