"""JenkinsAgentPool as the engine sees it: probe the controller, size the pool, carry out.

Agents have nothing to do with each other: each is a lane of the plan, so that a burst of them comes up side by side
and one that fails holds up none. Order of every agent's life, so that nothing is ever lost: the intent goes into the
status, then (in a later round, which has read it back) the node and its Secret, then the pod; at the end pod, Secret
and node, and the intent last.
"""

import base64
import datetime as dt
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, Final

from allotment_api.conditions import Condition, ConditionType, Reason, condition
from allotment_api.jenkins import AgentState, JenkinsAgentPool
from allotment_operator.kind import Scope, ServiceRefusedError, ServiceUnavailableError
from allotment_operator.plans.actions import Action, Apply, Delete, Invoke, Manifest, ObjectRef
from allotment_operator.plans.outcome import Health, Observed, Outcome, TenantView
from allotment_operator.plans.ownership import Owner
from allotment_operator.plans.preemption import Preemption
from allotment_operator.plans.release import release
from allotment_operator.plans.service_status import pod_trouble
from allotment_operator.plans.unworkable import NO_TENANT, UnworkableError, unworkable
from allotment_operator.services.jenkins import agents
from allotment_operator.services.jenkins.controller import Address, Controller, NewNode
from allotment_operator.services.jenkins.destination import DestinationRefusedError
from allotment_operator.services.jenkins.sizing import Agent, Decision, Pod, Shape, decide, orphans
from allotment_operator.services.jenkins.snapshot import Snapshot

_logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 3.0
NOTED_SECONDS: Final = 0.1
"""After new agents were noted: the round that makes them need not wait for the next poll."""
UNREACHABLE_SECONDS: Final = 10.0
GIVE_UP_SECONDS: Final = 600.0
"""How long the deletion of a pool waits for a controller that does not answer."""

MOST_ORPHANS: Final = 100
"""Nodes that nobody intends and that are removed in one round: the controller says how many, and each is a call."""

SNAPSHOT: Final = "snapshot"
"""Where a health's details hold what the controller said."""

ReadSecret = Callable[[str, str], Awaitable[Mapping[str, Any] | None]]
WriteObject = Callable[[Manifest], Awaitable[None]]
Connect = Callable[[Address], AbstractAsyncContextManager[Controller]]
Locate = Callable[[str, TenantView | None], Awaitable[tuple[str, ...]]]


class JenkinsAgentPools:
    """The kind JenkinsAgentPool.

    Args:
        read_secret: returns the Secret of a namespace and name, or None.
        write_object: applies a manifest with the operator's rights.
        locate: says at which IP addresses a controller may be called for a tenant.
        connect: opens a controller.
    """

    model = JenkinsAgentPool
    scope = Scope(kinds={"v1": ("Pod", "Secret")})
    status_fields = frozenset({"phase", "queued", "agents", "busy", "agentStates"})

    def __init__(self, *, read_secret: ReadSecret, write_object: WriteObject, locate: Locate, connect: Connect) -> None:
        self._read_secret = read_secret
        self._write_object = write_object
        self._locate = locate
        self._connect = connect

    def plan(self, resource: JenkinsAgentPool, observed: Observed, *, now: dt.datetime) -> Outcome:
        """Size the pool by the controller's queue; without an answer from the controller, change nothing."""
        owner = Owner.of(resource)
        if observed.tenant is None:
            return unworkable(UnworkableError(NO_TENANT), health=observed.health, now=now)
        snapshot = (observed.health.details if observed.health else {}).get(SNAPSHOT)
        if not isinstance(snapshot, Snapshot):
            return _frozen(observed.health, now)
        decision = decide(shape_of(resource), _agents(resource), _pods(observed), snapshot, now=now)
        try:
            lanes = _lanes(resource, observed, decision, observed.tenant)
        except UnworkableError as error:
            return unworkable(error, health=observed.health, now=now)
        lanes |= _garbage(resource, owner, observed, snapshot)
        preemption = _preemption(resource, observed.tenant)
        conditions = (*_conditions(decision, observed, now), preemption.condition(now=now))
        return Outcome(
            conditions=conditions,
            status=_status(resource, decision, now),
            requeue_after=NOTED_SECONDS if decision.new else POLL_SECONDS,
            lanes=lanes,
        )

    def note_failures(self, resource: JenkinsAgentPool, outcome: Outcome, failures: Mapping[str, str]) -> Outcome:
        """Write down what is in an agent's way; one that was to be struck off and could not be stays."""
        noted = {each.name: each.manifest() for each in (resource.status.agent_states if resource.status else ())}
        states = {each["name"]: each for each in outcome.status.get("agentStates", ())}
        for name, text in failures.items():
            known = states.get(name) or noted.get(name)
            # An orphan is nobody's, and the next round finds it again; why an agent failed is worth more than the rest.
            if known is not None and known["state"] != "Failed":
                states[name] = {**known, "message": text[:1000]}
        return replace(outcome, status={**outcome.status, "agentStates": [*states.values()]})

    def release(self, resource: JenkinsAgentPool, observed: Observed, *, now: dt.datetime) -> Outcome | None:
        """Remove pods and Secrets, then the nodes; a controller that is gone does not hold the deletion for ever."""
        left = release(observed, now=now)
        if left is not None:
            return left
        noted = [agent.name for agent in _agents(resource)]
        since = resource.metadata.deletion_timestamp
        given_up = since is not None and (now - since).total_seconds() > GIVE_UP_SECONDS
        if noted and given_up:
            _logger.warning(
                "given up: %s and %d more may be left on %s", noted[0], len(noted) - 1, resource.spec.jenkins.url
            )
        if not noted or given_up:
            return None
        message = f"Being deleted: {len(noted)} nodes are being removed from the controller"
        return Outcome(
            conditions=(condition(ConditionType.READY, False, "Deleting", message, now=now),),
            status={"phase": "Deleting", "agentStates": []},
            requeue_after=POLL_SECONDS,
            lanes={name: (Invoke("remove-node", name),) for name in noted},
        )

    async def probe(self, resource: JenkinsAgentPool, observed: Observed) -> Health | None:
        """Ask the controller for its queue and its nodes."""
        try:
            async with await self._controller(resource, observed.tenant) as controller:
                snapshot = await controller.snapshot()
        except ServiceUnavailableError as error:
            return Health(ready=False, reason="ControllerUnreachable", message=str(error), silent=True)
        except DestinationRefusedError as error:
            return Health(ready=False, reason="ControllerNotAllowed", message=str(error))
        except ServiceRefusedError as error:
            return Health(ready=False, reason="ControllerRefused", message=str(error))
        message = f"The controller answers: {len(snapshot.builds)} builds wait, {len(snapshot.nodes)} nodes."
        mine = snapshot.of_pool({agent.name for agent in _agents(resource)}, mark(resource))
        return Health(ready=True, reason="ControllerAnswers", message=message, details={SNAPSHOT: mine})

    async def perform(self, resource: JenkinsAgentPool, observed: Observed, action: Invoke) -> None:
        """Register, hold or remove one node."""
        async with await self._controller(resource, observed.tenant) as controller:
            match action.operation:
                case "register-node":
                    arguments = dict(action.arguments)
                    metadata = arguments.pop("secret_metadata")
                    secret = await controller.register(NewNode(name=action.subject, **arguments))
                    data = {agents.SECRET_KEY: base64.b64encode(secret.encode()).decode()}
                    manifest = {
                        "apiVersion": "v1",
                        "kind": "Secret",
                        "type": "Opaque",
                        "metadata": metadata,
                        "data": data,
                    }
                    await self._write_object(manifest)
                case "hold-node":
                    await controller.hold(action.subject)
                case "remove-node":
                    await controller.remove(action.subject)
                case unknown:
                    raise ValueError(f"a pool of agents cannot {unknown}")

    async def _controller(
        self, resource: JenkinsAgentPool, tenant: TenantView | None
    ) -> AbstractAsyncContextManager[Controller]:
        jenkins, namespace = resource.spec.jenkins, resource.metadata.namespace or ""
        addresses = await self._locate(jenkins.url, tenant)  # first: nothing is read for an address that is refused
        credentials = await self._values(namespace, jenkins.credentials_secret, ("username", "token"))
        authority = await self._values(namespace, jenkins.ca_secret, ("ca.crt",)) if jenkins.ca_secret else {}
        return self._connect(
            Address(jenkins.url, addresses, credentials["username"], credentials["token"], authority.get("ca.crt", ""))
        )

    async def _values(self, namespace: str, name: str, keys: tuple[str, ...]) -> dict[str, str]:
        secret = await self._read_secret(namespace, name)
        if secret is None:
            raise ServiceRefusedError(f"Secret {name} does not exist: create it with the keys {' and '.join(keys)}")
        data = secret.get("data") or {}
        missing = [key for key in keys if not data.get(key)]
        if missing:
            raise ServiceRefusedError(f"Secret {name} has no {' and no '.join(missing)}: add it")
        try:
            return {key: base64.b64decode(data[key]).decode().strip() for key in keys}
        except UnicodeDecodeError:
            raise ServiceRefusedError(f"Secret {name} holds bytes that are no text: write its keys anew") from None


def agent_name(resource: JenkinsAgentPool, now: dt.datetime, index: int) -> str:
    """Return the name of a new agent: the same for the same pool and moment, so that a repeated round repeats it."""
    digest = hashlib.sha256(f"{resource.metadata.uid}/{now.isoformat()}/{index}".encode()).digest()
    return f"{resource.metadata.name}-{base64.b32encode(digest)[:6].decode().lower()}"


def mark(resource: JenkinsAgentPool) -> str:
    """Return the label by which the pool knows its nodes on the controller; it is unique to this pool for ever."""
    return f"allotment-{resource.metadata.uid}"


def shape_of(resource: JenkinsAgentPool) -> Shape:
    """Return how a pool behaves, as its owner wrote it."""
    spec = resource.spec
    return Shape(
        labels=frozenset(spec.labels or (resource.metadata.name,)),
        min_idle=spec.min_idle,
        max_agents=spec.max_agents,
        one_shot=spec.mode == "OneShot",
        idle_seconds=spec.idle_seconds,
        connect_timeout=spec.connect_timeout_seconds,
        max_lifetime=spec.max_lifetime_seconds,
        scale_up_step=spec.scale_up_step,
    )


def _agents(resource: JenkinsAgentPool) -> list[Agent]:
    noted = resource.status.agent_states if resource.status else ()
    epoch = dt.datetime.fromtimestamp(0, dt.UTC)
    return [Agent(each.name, each.state, each.since or epoch, each.message or "") for each in noted]


def _pods(observed: Observed) -> dict[str, Pod]:
    pods = {}
    for pod in observed.of_kind("Pod"):
        status = pod.get("status") or {}
        placed = next((each for each in status.get("conditions") or () if each["type"] == "PodScheduled"), None)
        placed_at = placed.get("lastTransitionTime") if placed and placed["status"] == "True" else None
        alone = Observed(children={ObjectRef.of(pod): pod})
        pods[pod["metadata"]["name"]] = Pod(
            gone=bool(pod["metadata"].get("deletionTimestamp")) or status.get("phase") in ("Succeeded", "Failed"),
            placed_at=dt.datetime.fromisoformat(placed_at) if placed_at else None,
            created_at=dt.datetime.fromisoformat(pod["metadata"]["creationTimestamp"]),
            message=pod_trouble(alone) or status.get("message", ""),
        )
    return pods


def _preemption(resource: JenkinsAgentPool, tenant: TenantView) -> Preemption:
    requested = map(str, resource.spec.resources.requests)
    return Preemption.of(tenant, requested=requested, preemptible=resource.spec.preemptible)


def _lanes(
    resource: JenkinsAgentPool, observed: Observed, decision: Decision, tenant: TenantView
) -> dict[str, tuple[Action, ...]]:
    """Carry out what was decided for each agent that is noted already; new ones are only noted in this round."""
    owner, preemption = Owner.of(resource), _preemption(resource, tenant)
    lanes: dict[str, tuple[Action, ...]] = {}
    for verdict in decision.verdicts:
        name, actions = verdict.agent.name, list[Action]()
        if verdict.register or verdict.start:
            actions.append(_register(resource, owner, name))
        if verdict.start:
            actions.append(Apply(agents.agent_pod(resource, owner, name, tenant=tenant, preemption=preemption)))
        if verdict.hold:
            actions.append(Invoke("hold-node", name))
        if verdict.remove:
            actions += _end(owner, name, observed)
        if actions:
            lanes[name] = tuple(actions)
    return lanes


def _register(resource: JenkinsAgentPool, owner: Owner, name: str) -> Invoke:
    return Invoke(
        "register-node",
        name,
        {
            "labels": [*sorted(shape_of(resource).labels), mark(resource)],
            "description": f"Agent of {owner.namespace}/{owner.name}, kept by Allotment",
            "web_socket": resource.spec.web_socket,
            "secret_metadata": agents.agent_secret(owner, name),
        },
    )


def _end(owner: Owner, name: str, observed: Observed) -> list[Action]:
    refs = [ObjectRef("v1", kind, owner.namespace, name) for kind in ("Pod", "Secret")]
    return [*(Delete(ref) for ref in refs if observed.get(ref) is not None), Invoke("remove-node", name)]


def _garbage(
    resource: JenkinsAgentPool, owner: Owner, observed: Observed, snapshot: Snapshot
) -> dict[str, tuple[Action, ...]]:
    """Remove what carries our mark but is intended by nobody, on either side."""
    pods, nodes = orphans(
        _agents(resource),
        [pod["metadata"]["name"] for pod in observed.of_kind("Pod") if not pod["metadata"].get("deletionTimestamp")],
        snapshot.nodes.values(),
        mark(resource),
    )
    known = {agent.name for agent in _agents(resource)}
    secrets = [each["metadata"]["name"] for each in observed.of_kind("Secret") if each["metadata"]["name"] not in known]
    lanes: dict[str, tuple[Action, ...]] = {}
    for kind, names in (("Pod", pods), ("Secret", secrets)):
        for name in names:
            lanes[name] = (*lanes.get(name, ()), Delete(ObjectRef("v1", kind, owner.namespace, name)))
    for name in nodes[:MOST_ORPHANS]:
        lanes[name] = (*lanes.get(name, ()), Invoke("remove-node", name))
    return lanes


def _frozen(health: Health | None, now: dt.datetime) -> Outcome:
    reason = health.reason if health else Reason.WAITING_FOR_CLUSTER
    message = health.message if health else "the controller has not been asked yet"
    text = f"{message}. No agent starts or goes until the controller answers."
    return Outcome(
        conditions=(condition(ConditionType.READY, False, reason, text, now=now),),
        status={"phase": "Degraded"},
        requeue_after=UNREACHABLE_SECONDS,
    )


def _status(resource: JenkinsAgentPool, decision: Decision, now: dt.datetime) -> dict[str, Any]:
    listed = [each.agent for each in decision.verdicts if not each.forget]
    listed += [Agent(agent_name(resource, now, index), "Creating", now) for index in range(decision.new)]
    states = [
        AgentState(name=each.name, state=each.state, since=each.since, message=each.message[:1000] or None)
        for each in listed
    ]
    return {
        "phase": "Degraded" if decision.failures else "Running",
        "queued": decision.queued,
        "agents": sum(1 for each in listed if each.state != "Failed"),
        "busy": sum(1 for each in listed if each.state in ("Busy", "Draining")),
        "agentStates": [each.manifest() for each in states],
    }


def _conditions(decision: Decision, observed: Observed, now: dt.datetime) -> tuple[Condition, Condition]:
    states = [each.agent.state for each in decision.verdicts]
    coming = decision.new + sum(1 for state in states if state in ("Creating", "Connecting"))
    health = observed.health.message if observed.health else ""
    ready = condition(ConditionType.READY, True, Reason.AS_EXPECTED, health, now=now)
    if decision.failures:
        failed = next((each.agent.message for each in reversed(decision.verdicts) if each.agent.state == "Failed"), "")
        text = f"{decision.failures} agents in a row did not come up, the last because {failed}. "
        text += f"The next try is in {decision.retry_after:.0f} s." if decision.retry_after else "Trying again."
        return ready, condition(ConditionType.PROGRESSING, False, "AgentsFailing", text, now=now)
    if coming:
        text = f"{coming} agents are on their way. {pod_trouble(observed)}".strip()
        return ready, condition(ConditionType.PROGRESSING, True, Reason.RECONCILING, text, now=now)
    return ready, condition(ConditionType.PROGRESSING, False, Reason.AS_EXPECTED, "No agent is on its way.", now=now)
