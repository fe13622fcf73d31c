"""JenkinsAgentPool: build agents that come with the queue of a Jenkins controller and go when it is empty.

How it thinks: the pool asks the controller how many builds wait for its labels, and keeps that many agents, between
`minIdle` spare ones and `maxAgents`. An agent serves one build (OneShot) or several until it has idled long enough
(Reusable). Agents are jobs, not data: they may be evicted.

It must never hold the controller's credentials itself: they are in a Secret that it names.
"""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from allotment_api.environment import EnvVar
from allotment_api.model import Bool, Count, Int, KeyedBy, Model, Rule, Seconds, Timestamp, Unique
from allotment_api.names import DnsLabel, DnsName, Message, ResourceList
from allotment_api.quantities import CPU, MEMORY, Quantity, quantity
from allotment_api.resource import (
    AGE,
    LABEL_NAME,
    STARTS_WITH_LETTER,
    Column,
    Definition,
    Resource,
    ready_column,
    reason_column,
)
from allotment_api.service import Placement, Resources, ServiceSpec, ServiceStatus


def _is_url(text: str) -> bool:
    return (
        re.fullmatch(
            r"https?://(\[[0-9a-fA-F:.]+\]|[^\s/?#:@\[\]%^<>\"\\{}|`]+)(:[0-9]+)?([/?#][^\s\x00-\x1f\x7f%]*)?", text
        )
        is not None
    )


class JenkinsController(Model):
    """The Jenkins controller that the agents serve."""

    url: Annotated[
        str,
        Field(min_length=1, max_length=512),
        Rule(
            "isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHostname() != ''",
            "must be the controller's address, such as https://jenkins.example.com/",
            _is_url,
        ),
        Rule(
            "!self.contains('@') && !self.contains('?') && !self.contains('#')",
            "must hold no user, query or fragment: the credentials are in the Secret that credentialsSecret names",
            lambda text: not set("@?#") & set(text),
        ),
    ]
    """Address of the controller: a Service in a namespace of the same tenant (`https://<service>.<namespace>.svc`), or
    a host within the networks that the Tenant lists in `policy.network.egress`. The operator calls no other."""

    credentials_secret: DnsName
    """Name of the Secret, in the same namespace, with the keys username and token (an API token)."""

    ca_secret: DnsName | None = None
    """Name of the Secret, in the same namespace, whose key ca.crt signs the controller's certificate; absent: a public
    authority."""


class AgentResources(Resources):
    """What one agent requests, and what it may use at most."""

    requests: ResourceList = Field(default_factory=lambda: {CPU: quantity("1"), MEMORY: quantity("2Gi")})
    """What the pod is placed by and what counts in the tenant's share. Must name cpu and memory."""


class JenkinsAgentPoolSpec(ServiceSpec):
    """Build agents that are alike."""

    jenkins: JenkinsController
    """The Jenkins controller that the agents serve."""

    labels: Annotated[
        tuple[
            Annotated[
                str,
                Field(min_length=1, max_length=64),
                Rule(
                    "self.matches('^[A-Za-z0-9_.-]+$')",
                    "must be letters, digits, '_', '.' and '-'",
                    lambda label: re.fullmatch("[A-Za-z0-9_.-]+", label) is not None,
                ),
            ],
            ...,
        ],
        Field(max_length=16),
        Unique(),
    ] = ()
    """Labels by which builds ask for these agents; absent: the pool's name."""

    mode: Literal["OneShot", "Reusable"] = "OneShot"
    """OneShot: each agent serves one build, in a fresh pod. Reusable: until it has idled for `idleSeconds`."""

    min_idle: Annotated[Int, Field(ge=0, le=1000)] = 0
    """Agents kept ready without a build waiting."""

    max_agents: Annotated[Int, Field(ge=1, le=1000)] = 10
    """Agents at most."""

    scale_up_step: Annotated[Int, Field(ge=1, le=1000)] = 10
    """Agents started at once at most, so that a burst does not flood the controller."""

    idle_seconds: Seconds = 300
    """Idling after which a Reusable agent goes."""

    connect_timeout_seconds: Seconds = 300
    """Time from a node's being found until the agent is connected, after which it is given up."""

    max_lifetime_seconds: Seconds = 86_400
    """Age after which an agent takes no new build."""

    web_socket: Bool = True
    """Whether agents connect through the controller's web port; otherwise through its own port for agents."""

    preemptible: Bool = True
    """Whether agents may be evicted in favour of others, and their builds with them."""

    resources: AgentResources = Field(default_factory=AgentResources)
    """What each agent requests."""

    workspace_size: Quantity = Field(default=quantity("10Gi"))
    """Most that an agent's workspace may grow to on the node's disk."""

    env: Annotated[tuple[EnvVar, ...], Field(max_length=128)] = ()
    """Environment variables of the agents."""

    placement: Placement = Field(default_factory=lambda: Placement(share_nodes=True))
    """Where the agents run."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.minIdle <= self.maxAgents",
            "minIdle must not exceed maxAgents: lower the first or raise the second",
            lambda it: it.min_idle <= it.max_agents,
            field_path=".minIdle",
        ),
    )


class AgentState(Model):
    """One agent as the operator sees it."""

    name: DnsLabel
    """Name of the agent, of its pod and of its node in Jenkins."""

    state: Literal["Creating", "Connecting", "Idle", "Busy", "Draining", "Deleting", "Failed"]
    """Where it stands. The intent is written here before it is carried out, so that a restart can resume it."""

    since: Timestamp | None = None
    """When it came to stand there."""

    message: Message | None = None
    """What is in the way."""


class JenkinsAgentPoolStatus(ServiceStatus):
    """What the operator observes."""

    queued: Count | None = None
    """Builds that wait for these labels."""

    agents: Count | None = None
    """Agents that exist."""

    busy: Count | None = None
    """Agents with a build."""

    agent_states: Annotated[tuple[AgentState, ...], Field(max_length=1024), KeyedBy("name")] = ()
    """The agents one by one."""


class JenkinsAgentPool(Resource):
    """Build agents that come with the queue of a Jenkins controller and go when it is empty."""

    definition: ClassVar[Definition] = Definition(
        kind="JenkinsAgentPool",
        plural="jenkinsagentpools",
        short_names=("jap",),
        scope="Namespaced",
        columns=(
            ready_column(),
            Column("Queued", ".status.queued", "integer", "Builds that wait."),
            Column("Agents", ".status.agents", "integer", "Agents that exist."),
            Column("Busy", ".status.busy", "integer", "Agents with a build."),
            Column("Max", ".spec.maxAgents", "integer", "Agents at most."),
            reason_column(),
            AGE,
        ),
        longest_name=40,
    )

    kind: Literal["JenkinsAgentPool"] = "JenkinsAgentPool"
    """Kind of the object: JenkinsAgentPool."""

    spec: JenkinsAgentPoolSpec
    """Which agents, for which controller."""

    status: JenkinsAgentPoolStatus | None = None
    """What the operator observes."""

    rules: ClassVar[tuple[Rule, ...]] = (LABEL_NAME, STARTS_WITH_LETTER)
