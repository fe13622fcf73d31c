"""What to do with each agent of a pool, and how many more to start: pure, one round at a time.

An agent's next state follows from three facts (the state noted last, the controller's node, the pod), so a crash
between any two steps is only a round that comes later. The noted state is also the memory of what no fact shows: that
a build was seen on the agent, since when it idles, that it is being taken down.

    Creating    intended: the node is registered and the pod made, whichever is missing; given up after the timeout
                where an attempt has failed
    Connecting  both exist; on its way for no longer than the timeout, counted from the pod's being placed on a node
    Idle        online without a build: capacity
    Busy        a build runs; a one-shot agent is held, so that no second build can land on it
    Draining    takes no further build; goes as soon as it idles
    Deleting    pod and node are being removed; leaves the list when both are gone
    Failed      never came up and is removed; stays listed while its failure delays new agents

When the controller cannot be asked, nothing starts and nothing goes: running builds are worth more than tidiness.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from allotment_operator.services.jenkins.snapshot import Node, Snapshot, demand

State = Literal["Creating", "Connecting", "Idle", "Busy", "Draining", "Deleting", "Failed"]

FIRST_BACKOFF, LONGEST_BACKOFF = 10.0, 600.0
"""Seconds before new agents after one failure, and at most; the delay doubles with each failure in a row."""
MOST_FAILURES = 8
"""Failures that are remembered: more would not make the delay longer."""


@dataclass(frozen=True, slots=True)
class Pod:
    """An agent's pod: whether it ended or is being deleted, and when it was placed on a node."""

    gone: bool
    placed_at: dt.datetime | None
    created_at: dt.datetime
    message: str = ""


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent as the pool's status remembers it."""

    name: str
    state: State
    since: dt.datetime
    message: str = ""


@dataclass(frozen=True, slots=True)
class Shape:
    """How a pool behaves; durations in seconds."""

    labels: frozenset[str]
    min_idle: int
    max_agents: int
    one_shot: bool
    idle_seconds: int
    connect_timeout: int
    max_lifetime: int
    scale_up_step: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """An agent's state from now on, and what to do for it."""

    agent: Agent
    register: bool = False
    start: bool = False
    hold: bool = False
    remove: bool = False
    forget: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with a pool in this round; ``retry_after`` is in seconds, 0 where nothing delays new agents."""

    verdicts: tuple[Verdict, ...]
    new: int
    queued: int
    failures: int
    retry_after: float


def decide(
    shape: Shape, agents: Iterable[Agent], pods: Mapping[str, Pod], snapshot: Snapshot, *, now: dt.datetime
) -> Decision:
    """Judge every agent, then size the pool.

    Args:
        shape: the pool's settings.
        agents: as noted after the last round.
        pods: the agents' pods by name; one that is missing does not exist.
        snapshot: the controller's view.
        now: the present time.
    """
    verdicts = [_judge(shape, agent, pods.get(agent.name), snapshot.nodes.get(agent.name), now) for agent in agents]
    queued = demand(snapshot.builds, shape.labels)
    verdicts = _release_surplus(shape, verdicts, queued, now)
    verdicts = _forget_failures(verdicts)
    failures = [each.agent for each in verdicts if each.agent.state == "Failed"]
    retry_after = _backoff(failures, now)
    capacity = sum(1 for each in verdicts if each.agent.state in ("Creating", "Connecting", "Idle"))
    occupied = sum(1 for each in verdicts if not each.forget and not (each.agent.state == "Failed" and not each.remove))
    wanted = min(queued + shape.min_idle - capacity, shape.max_agents - occupied, shape.scale_up_step)
    return Decision(tuple(verdicts), 0 if retry_after else max(0, wanted), queued, len(failures), retry_after)


def orphans(
    agents: Iterable[Agent], pods: Iterable[str], nodes: Iterable[Node], mark: str
) -> tuple[list[str], list[str]]:
    """Return the pods, and the controller's nodes with the pool's mark, that no noted agent accounts for."""
    known = {agent.name for agent in agents}
    return (
        sorted(name for name in pods if name not in known),
        sorted(node.name for node in nodes if mark in node.labels and node.name not in known),
    )


def _judge(shape: Shape, agent: Agent, pod: Pod | None, node: Node | None, now: dt.datetime) -> Verdict:
    served = agent.state in ("Busy", "Draining")
    if agent.state in ("Deleting", "Failed"):
        left = pod is not None or node is not None
        return Verdict(agent, remove=left, forget=agent.state == "Deleting" and not left)
    if agent.state == "Creating" and (pod is None or node is None):
        if agent.message and (now - agent.since).total_seconds() > shape.connect_timeout:
            return _remove(agent, now, failed=True, message=f"it could not be made: {agent.message}")
        return Verdict(agent, register=node is None, start=pod is None)
    if pod is None or pod.gone:
        message = pod.message if pod else "its pod is gone"
        # An agent that had come up is lost, not failed: its build is the controller's to repeat.
        return _remove(agent, now, failed=agent.state in ("Creating", "Connecting"), message=message)
    if node is None:
        return _remove(agent, now, failed=False, message="its node was removed from the controller")
    if not node.online:
        return _offline(shape, agent, pod, now)
    too_old = (now - pod.created_at).total_seconds() > shape.max_lifetime
    if not node.idle:
        draining = agent.state == "Draining" or shape.one_shot or too_old
        return Verdict(_now(agent, "Draining" if draining else "Busy", now), hold=draining and not node.held)
    if agent.state == "Draining" or (served and shape.one_shot):
        return _remove(agent, now, failed=False, message="its work is done")
    if too_old:
        return Verdict(_now(agent, "Draining", now), hold=not node.held)
    return Verdict(_now(agent, "Idle", now))


def _offline(shape: Shape, agent: Agent, pod: Pod, now: dt.datetime) -> Verdict:
    if agent.state in ("Busy", "Draining", "Idle"):
        return _remove(agent, now, failed=False, message="it lost its connection to the controller")
    if pod.placed_at is None or (now - pod.placed_at).total_seconds() <= shape.connect_timeout:
        return Verdict(_now(agent, "Connecting", now, message=pod.message))
    message = f"it did not connect within {shape.connect_timeout} s" + (f": {pod.message}" if pod.message else "")
    return _remove(agent, now, failed=True, message=message)


def _release_surplus(shape: Shape, verdicts: list[Verdict], queued: int, now: dt.datetime) -> list[Verdict]:
    """Drain agents that have idled too long, the longest first, as far as nothing needs them."""
    idle = sorted((each for each in verdicts if each.agent.state == "Idle"), key=lambda each: each.agent.since)
    spare = len(idle) - queued - shape.min_idle
    surplus = {
        each.agent.name
        for each in idle[: max(0, spare)]
        if (now - each.agent.since).total_seconds() > shape.idle_seconds
    }
    return [
        Verdict(_now(each.agent, "Draining", now), hold=True) if each.agent.name in surplus else each
        for each in verdicts
    ]


def _forget_failures(verdicts: list[Verdict]) -> list[Verdict]:
    """Forget failures that are cleaned up: all of them as soon as any agent comes up, else all but the latest few."""
    failed = [each.agent for each in verdicts if each.agent.state == "Failed" and not each.remove]
    if not any(each.agent.state in ("Idle", "Busy", "Draining") for each in verdicts):
        failed = sorted(failed, key=lambda each: each.since)[:-MOST_FAILURES]
    names = {each.name for each in failed}
    return [Verdict(each.agent, forget=True) if each.agent.name in names else each for each in verdicts]


def _remove(agent: Agent, now: dt.datetime, *, failed: bool, message: str) -> Verdict:
    return Verdict(_now(agent, "Failed" if failed else "Deleting", now, message=message), remove=True)


def _now(agent: Agent, state: State, now: dt.datetime, *, message: str = "") -> Agent:
    return Agent(agent.name, state, agent.since if state == agent.state else now, message)


def _backoff(failures: list[Agent], now: dt.datetime) -> float:
    if not failures:
        return 0.0
    delay = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** (len(failures) - 1))
    return max(0.0, delay - (now - max(each.since for each in failures)).total_seconds())
