"""What the controller says, read out of its JSON: its queue and its nodes.

Sources: Jenkins' remote access API, ``/queue/api/json`` and ``/computer/api/json``. The label that a queued item waits
for is exported for freestyle jobs only (``task.labelExpression``); of a pipeline's step only the reason for waiting
says it, in a sentence, with typographic quotes. Those sentences are from the core's ``Messages.properties`` and are
translated, which is why the client asks for English.

The address is a tenant's, and so is what answers there. What is read of it is bounded in number and in length: it is
read on the one thread that all tenants' rounds run on.
"""

import re
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec

from allotment_operator.kind import ServiceRefusedError
from allotment_operator.services.jenkins.label_expression import LONGEST, LabelExpressionError, matches

HELD_TREE = "temporarilyOffline"

MOST_LISTED = 20_000
"""Builds in a queue, or nodes of a controller, that are read at all."""
QUEUE_PAGE = 2_500
"""Builds that are asked for at once: a long queue is nothing wrong, and one answer must not be too large."""
NODES_PAGE = 1_000
"""Nodes that are asked for at once: some carry dozens of labels."""
NODES_OVERLAP = 50
"""Nodes of a page that the next one begins with."""
LONGEST_LABELS = 64_000
"""Characters of label expressions that are parsed in one round, each different one once: some 50 ms."""
LONGEST_REASON = 512
"""Characters of a reason for waiting that are looked at: the text is a tenant's, and patterns cost time."""
# Typographic quotes around what is not one: no pattern here can backtrack over more than it has matched.
_QUOTED = "[\u2018\u201c]([^\u2018\u2019\u201c\u201d]{1,256})[\u2019\u201d]"
# A marked agent gives our own words as the cause; one whose channel broke gives the controller's.
_LOST = re.compile("connection|channel|ping", re.IGNORECASE)
_WAITING_FOR_LABEL = tuple(
    re.compile(sentence)
    for sentence in (
        rf"There are no nodes with the label {_QUOTED}$",
        rf"All nodes of label {_QUOTED} are offline$",
        rf"Waiting for next available executor on {_QUOTED}$",
        rf"doesn['\u2019]t have label {_QUOTED}$",
    )
)

_T = TypeVar("_T")


class _Task(msgspec.Struct, rename="camel"):
    label_expression: str | None = None


class _Item(msgspec.Struct):
    id: int
    why: str | None = None
    blocked: bool = False
    buildable: bool = False
    task: _Task | None = None


class _Queue(msgspec.Struct):
    items: Annotated[tuple[_Item, ...], msgspec.Meta(max_length=MOST_LISTED)] = ()


class _Label(msgspec.Struct):
    name: str


class _Computer(msgspec.Struct, rename="camel"):
    display_name: str
    idle: bool = True
    offline: bool = False
    temporarily_offline: bool = False
    offline_cause_reason: str | None = None
    assigned_labels: tuple[_Label, ...] = ()


class _Hold(msgspec.Struct, rename="camel"):
    temporarily_offline: bool = False


class _Computers(msgspec.Struct):
    computer: Annotated[tuple[_Computer, ...], msgspec.Meta(max_length=MOST_LISTED)] = ()


@dataclass(frozen=True, slots=True)
class QueuedBuild:
    """A build that waits for an executor; ``label`` is an expression, None where the controller does not tell it."""

    id: int
    label: str | None
    why: str


@dataclass(frozen=True, slots=True)
class QueuePage:
    """One part of the queue: the builds that could start; ``full`` where more may follow."""

    builds: tuple[QueuedBuild, ...]
    full: bool


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
class NodePage:
    """One part of the nodes, by name, in the controller's order; ``full`` where more may follow."""

    nodes: Mapping[str, Node]
    full: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The controller at one moment."""

    builds: tuple[QueuedBuild, ...]
    nodes: Mapping[str, Node]

    def of_pool(self, names: Container[str], mark: str) -> "Snapshot":
        """Return it with the nodes of one pool only: those of these names, and those that carry its mark."""
        mine = {name: node for name, node in self.nodes.items() if name in names or mark in node.labels}
        return Snapshot(self.builds, mine)


def queue_tree(start: int) -> str:
    """Return what to ask of the queue for the page that begins with this item, counted from 0."""
    fields = "id,why,blocked,buildable,stuck,inQueueSince,task[name,labelExpression]"
    return f"items[{fields}]{{{start},{start + QUEUE_PAGE}}}"


def read_queue(body: bytes) -> QueuePage:
    """Read the builds of a page that could start if there were an agent; blocked ones wait for something else.

    Raises:
        ServiceRefusedError: it is not what Jenkins answers.
    """
    items = _decode(body, _Queue).items
    builds = tuple(
        QueuedBuild(item.id, _label_of(item), (item.why or "")[:LONGEST_REASON])
        for item in items
        if item.buildable and not item.blocked
    )
    return QueuePage(builds, full=len(items) == QUEUE_PAGE)


def nodes_tree(start: int) -> str:
    """Return what to ask of the nodes for the page that begins with this one, counted from 0."""
    fields = "displayName,idle,offline,temporarilyOffline,offlineCauseReason,assignedLabels[name]"
    return f"computer[{fields}]{{{start},{start + NODES_PAGE}}}"


def read_nodes(body: bytes) -> NodePage:
    """Read a page of the nodes.

    Raises:
        ServiceRefusedError: it is not what Jenkins answers.
    """
    computers = _decode(body, _Computers).computer
    nodes = {
        computer.display_name: Node(
            name=computer.display_name,
            online=_is_online(computer),
            idle=computer.idle,
            held=computer.temporarily_offline,
            labels=frozenset(label.name for label in computer.assigned_labels),
        )
        for computer in computers
    }
    return NodePage(nodes, full=len(computers) == NODES_PAGE)


def read_held(body: bytes) -> bool:
    """Say whether one node is marked to take no further build.

    Raises:
        ServiceRefusedError: it is not what Jenkins answers.
    """
    return _decode(body, _Hold).temporarily_offline


def demand(builds: tuple[QueuedBuild, ...], labels: frozenset[str]) -> int:
    """Count the builds that an agent with these labels could take; one with an unreadable label counts for nobody."""
    count, left = 0, LONGEST_LABELS
    for label, wanting in Counter(build.label for build in builds if build.label is not None).items():
        left -= min(len(label), LONGEST)
        if left < 0:
            break
        try:
            count += wanting * matches(label, labels)
        except LabelExpressionError:
            continue
    return count


def _decode(body: bytes, model: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=model)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ServiceRefusedError(f"the answer is not Jenkins' ({error}): is this the address of Jenkins?") from None


def _label_of(item: _Item) -> str | None:
    if item.task is not None and item.task.label_expression:
        return item.task.label_expression
    for sentence in _WAITING_FOR_LABEL:
        match = sentence.search((item.why or "")[:LONGEST_REASON])
        if match:
            return match[1]
    return None


def _is_online(computer: _Computer) -> bool:
    """Say whether the agent is connected: one that we marked counts as offline, but its channel is there."""
    if not computer.offline:
        return True
    cause = (computer.offline_cause_reason or "")[:LONGEST_REASON]
    return computer.temporarily_offline and not _LOST.search(cause)
