"""An agent's pod, and what surrounds the pool's agents.

The pod runs one agent and ends with it: nothing restarts it, and the agent does not reconnect, so a pod is one life of
one agent. Builds run as an ordinary user without any right in the cluster. Their network is the tenant's: its own
namespaces, and what the Tenant's egress lists. A pool opens nothing, or any pod with its labels could leave by it.
"""

from collections.abc import Mapping
from typing import Any, Final

from allotment_api.jenkins import JenkinsAgentPool
from allotment_api.labels import COMPONENT_LABEL, SCHEDULER_NAME
from allotment_operator.plans.outcome import TenantView
from allotment_operator.plans.ownership import Owner
from allotment_operator.plans.placement import pod_placement
from allotment_operator.plans.preemption import Preemption
from allotment_operator.plans.workload import CONTAINER_SECURITY, container_resources, pod_security
from allotment_operator.services.jenkins.controller import REMOTE_FOLDER

COMPONENT: Final = "agent"
DEFAULT_IMAGE: Final = "docker.io/jenkins/inbound-agent:jdk21"
USER: Final = 1000
"""The user of the official image."""

HOME: Final = "/home/jenkins"
AUTHORITY_FOLDER: Final = "/etc/jenkins-authority"
SECRET_KEY: Final = "secret"  # noqa: S105 - the name of a key


def selector(owner: Owner) -> dict[str, str]:
    """Return the labels of the pool's pods."""
    return {**owner.selector, COMPONENT_LABEL: COMPONENT}


def agent_pod(
    pool: JenkinsAgentPool, owner: Owner, name: str, *, tenant: TenantView, preemption: Preemption
) -> dict[str, Any]:
    """Return the pod of one agent.

    Raises:
        UnworkableError: the tenant has no such node pool.
    """
    spec = pool.spec
    volumes = [
        {"name": "home", "emptyDir": {"sizeLimit": str(spec.workspace_size)}},
        {"name": "tmp", "emptyDir": {}},
    ]
    mounts = [{"name": "home", "mountPath": HOME}, {"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - in the pod
    if spec.jenkins.ca_secret:
        source = {"secretName": spec.jenkins.ca_secret, "items": [{"key": "ca.crt", "path": "ca.crt"}]}
        volumes.append({"name": "authority", "secret": source})
        mounts.append({"name": "authority", "mountPath": AUTHORITY_FOLDER, "readOnly": True})  # type: ignore[dict-item] # JSON
    container = {
        "name": "agent",
        "image": spec.image or DEFAULT_IMAGE,
        "env": _environment(pool, name),
        "resources": container_resources(spec.resources),
        "securityContext": dict(CONTAINER_SECURITY),
        "volumeMounts": mounts,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": owner.metadata(name, labels={COMPONENT_LABEL: COMPONENT, **preemption.labels}),
        "spec": {
            "schedulerName": SCHEDULER_NAME,
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 30,
            "securityContext": pod_security(USER),
            "containers": [container],
            "volumes": volumes,
            **({"priorityClassName": spec.priority_class_name} if spec.priority_class_name else {}),
            **(
                {"imagePullSecrets": [{"name": each} for each in spec.image_pull_secrets]}
                if spec.image_pull_secrets
                else {}
            ),
            **pod_placement(spec.placement, tenant, selector=selector(owner), requests=spec.resources.requests),
        },
    }


def agent_secret(owner: Owner, name: str) -> dict[str, Any]:
    """Return the metadata of the Secret with which one agent connects."""
    return owner.metadata(name, labels={COMPONENT_LABEL: COMPONENT})


def _environment(pool: JenkinsAgentPool, name: str) -> list[Mapping[str, Any]]:
    options = ["-noReconnect"]
    if pool.spec.jenkins.ca_secret:
        options.append(f"-cert @{AUTHORITY_FOLDER}/ca.crt")
    own: list[Mapping[str, Any]] = [
        {"name": "JENKINS_URL", "value": pool.spec.jenkins.url},
        {"name": "JENKINS_AGENT_NAME", "value": name},
        {"name": "JENKINS_AGENT_WORKDIR", "value": REMOTE_FOLDER},
        {"name": "JENKINS_SECRET", "valueFrom": {"secretKeyRef": {"name": name, "key": SECRET_KEY}}},
        {"name": "REMOTING_OPTS", "value": " ".join(options)},
        *([{"name": "JENKINS_WEB_SOCKET", "value": "true"}] if pool.spec.web_socket else []),
    ]
    taken = {each["name"] for each in own}
    return [*own, *(each.manifest() for each in pool.spec.env if each.name not in taken)]
