"""Every field of a pool's spec is read: changing it changes what is done."""

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

import pytest

from allotment_api.jenkins import JenkinsAgentPool, JenkinsAgentPoolSpec
from allotment_operator.plans.actions import Apply
from allotment_operator.plans.outcome import Health, NodePoolView, Observed, TenantView
from allotment_operator.services.jenkins.controller import HttpController
from allotment_operator.services.jenkins.pool import SNAPSHOT, JenkinsAgentPools, shape_of
from allotment_operator.services.jenkins.snapshot import QueuedBuild, Snapshot
from builders.service_checks import leaf_paths

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
TENANT = TenantView("ci", guaranteed=frozenset({"cpu", "memory"}), pools={"fast": NodePoolView(None, ("dedicated",))})
JENKINS = {"url": "https://jenkins.bank/", "credentialsSecret": "jenkins"}
READ_BY_THE_ENGINE = {"paused"}

CHANGES: dict[str, dict[str, Any]] = {
    "image": {"image": "registry.bank/agent:1"},
    "imagePullSecrets": {"imagePullSecrets": ["pull"]},
    "priorityClassName": {"priorityClassName": "high"},
    "jenkins.url": {"jenkins": {**JENKINS, "url": "https://other.bank/"}},
    "jenkins.credentialsSecret": {"jenkins": {**JENKINS, "credentialsSecret": "other"}},
    "jenkins.caSecret": {"jenkins": {**JENKINS, "caSecret": "authority"}},
    "labels": {"labels": ["windows"]},
    "mode": {"mode": "Reusable"},
    "minIdle": {"minIdle": 2},
    "maxAgents": {"maxAgents": 3},
    "scaleUpStep": {"scaleUpStep": 3},
    "idleSeconds": {"idleSeconds": 9},
    "connectTimeoutSeconds": {"connectTimeoutSeconds": 9},
    "maxLifetimeSeconds": {"maxLifetimeSeconds": 9},
    "webSocket": {"webSocket": False},
    "preemptible": {"preemptible": False},
    "resources.requests": {"resources": {"requests": {"cpu": "3", "memory": "8Gi"}}},
    "resources.limits": {"resources": {"limits": {"cpu": "3"}}},
    "workspaceSize": {"workspaceSize": "7Gi"},
    "env[].name": {"env": [{"name": "A"}]},
    "env[].value": {"env": [{"name": "A", "value": "b"}]},
    "env[].valueFrom.secretKeyRef.name": {
        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    },
    "env[].valueFrom.secretKeyRef.key": {
        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "l"}}}]
    },
    "env[].valueFrom.configMapKeyRef.name": {
        "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "k"}}}]
    },
    "env[].valueFrom.configMapKeyRef.key": {
        "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "l"}}}]
    },
    "placement.nodePool": {"placement": {"nodePool": "fast"}},
    "placement.topologyKey": {"placement": {"topologyKey": "rack", "shareNodes": True}},
    "placement.shareNodes": {"placement": {"shareNodes": False}},
}


def test_every_field_is_known_here() -> None:
    assert set(leaf_paths(JenkinsAgentPoolSpec)) == set(CHANGES) | READ_BY_THE_ENGINE


@pytest.mark.parametrize("field", CHANGES)
async def test_every_field_changes_something(field: str) -> None:
    assert await everything(CHANGES[field]) != await everything({})


async def everything(change: dict[str, Any]) -> str:
    """What a round does for one agent that is noted and for twenty builds, how it sizes, and which Secrets it reads."""
    asked: list[str] = []

    async def read(namespace: str, name: str) -> Mapping[str, Any] | None:
        asked.append(f"{namespace}/{name}")
        return {"data": dict.fromkeys(("username", "token", "ca.crt"), "YQ==")}

    async def write(_: Mapping[str, Any]) -> None:
        raise AssertionError("a plan writes nothing")

    def connect(address: Any) -> HttpController:
        asked.append(str(address))
        raise ConnectionError

    async def locate(url: str, _: TenantView | None) -> tuple[str, ...]:
        asked.append(url)
        return ("10.20.0.5",)

    kind = JenkinsAgentPools(read_secret=read, write_object=write, locate=locate, connect=connect)
    noted = {"agentStates": [{"name": "linux-1", "state": "Creating", "since": NOW.isoformat()}]}
    body = {"apiVersion": "allotment.dev/v1alpha1", "kind": "JenkinsAgentPool", "status": noted}
    body |= {"metadata": {"name": "linux", "namespace": "ci", "uid": "7"}, "spec": {"jenkins": JENKINS, **change}}
    pool = JenkinsAgentPool.parse(body)
    with pytest.raises(ConnectionError):
        await kind.probe(pool, Observed())
    snapshot = Snapshot(tuple(QueuedBuild(number, "linux", "") for number in range(20)), {})
    health = Health(ready=True, reason="ControllerAnswers", message="It does.", details={SNAPSHOT: snapshot})
    outcome = kind.plan(pool, Observed(tenant=TENANT, health=health), now=NOW)
    actions = [action for lane in outcome.lanes.values() for action in lane]
    said: list[object] = [action.manifest if isinstance(action, Apply) else str(action) for action in actions]
    said += [dict(outcome.status), str(shape_of(pool)), asked, [each.message for each in outcome.conditions]]
    return json.dumps(said, sort_keys=True, default=str)
