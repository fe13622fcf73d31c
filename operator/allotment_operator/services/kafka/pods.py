"""The pods of a Kafka pool."""

from collections.abc import Mapping
from typing import Any, Final

from allotment_api.kafka import KafkaClusterSpec
from allotment_api.labels import COMPONENT_LABEL, POOL_LABEL
from allotment_operator.plans.outcome import TenantView
from allotment_operator.plans.ownership import Owner
from allotment_operator.plans.placement import pod_placement
from allotment_operator.plans.preemption import Preemption
from allotment_operator.plans.storage import DATA, claim_template
from allotment_operator.plans.unworkable import require_version
from allotment_operator.plans.workload import (
    CONTAINER_SECURITY,
    PodGroup,
    container_resources,
    pod_security,
    service_wide,
)
from allotment_operator.services.kafka import configuration as files
from allotment_operator.services.kafka.listeners import Ports, has_passwords
from allotment_operator.services.kafka.names import ADMIN, CONTROLLER_PORT, REPLICATION_PORT, Names
from allotment_operator.services.kafka.topology import Pool, Topology

USER: Final = 1000
"""As in the official image (appuser)."""

GRACE_SECONDS: Final = 180
"""For a controlled shutdown: the broker hands its leaderships over before it ends."""

START_SECONDS: Final = 3600
"""For the recovery of logs after a hard stop, which reads every unclosed segment."""

_COPIED_TO_PODS: Final = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")
"""Labels of the node that Kubernetes itself (1.35 and newer) copies to a pod when it is bound: the pod knows them."""


OLDEST: Final = (4, 2, 0)
"""First version in which a controller added later joins the quorum by itself."""


def image(spec: KafkaClusterSpec) -> str:
    """Return the image: the owner's, else the official one of the version.

    Raises:
        UnworkableError: the version is not supported.
    """
    require_version(spec.version, OLDEST)
    return spec.image or f"docker.io/apache/kafka:{spec.version}"


def pod_group(
    owner: Owner,
    names: Names,
    spec: KafkaClusterSpec,
    pool: Pool,
    topology: Topology,
    *,
    tenant: TenantView,
    preemption: Preemption,
    content: str,
    certificate_ends: str,
) -> PodGroup:
    """Return the pods of one pool.

    Raises:
        UnworkableError: the pool's placement or the version cannot be had.
    """
    labels = {POOL_LABEL: pool.spec.name}
    apart = {**owner.selector, COMPONENT_LABEL: pool.component}
    claim = claim_template(
        owner,
        pool.spec.storage,
        labels={COMPONENT_LABEL: pool.component, **labels},
        annotations=topology.identity.annotations(pool.first_node_id),
        existing=pool.existing,
    )
    pod = {
        "securityContext": pod_security(USER),
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "containers": [_container(names, spec, pool, topology)],
        "volumes": _volumes(names, spec, pool),
        **service_wide(spec),
        **pod_placement(pool.spec.placement, tenant, selector=apart, requests=pool.spec.resources.requests),
    }
    return PodGroup(
        owner=owner,
        name=names.group(pool.spec.name),
        component=pool.component,
        replicas=pool.replicas,
        service=names.headless,
        pod=pod,
        content=content,
        labels=labels,
        pod_labels=preemption.labels,
        claims=[claim],
        certificate_ends=certificate_ends,
    )


def environment(names: Names, spec: KafkaClusterSpec, pool: Pool, topology: Topology) -> dict[str, str]:
    """Return what the start script is told, besides what Kubernetes knows of the pod."""
    directory = topology.identity.directory_id
    founders = [f"{node}@{host}:{CONTROLLER_PORT}:{directory(node)}" for node, host in topology.founders(names)]
    return {
        "KAFKA_HOME": files.KAFKA_HOME,
        "CONFIG_DIR": files.CONFIG_DIR,
        "RUN_DIR": files.RUN_DIR,
        "DATA_DIR": files.DATA_DIR,
        "NODE_HOST": f"$(POD_NAME).{names.headless}.{names.namespace}.svc",  # Kubernetes fills in the pod's name
        "FIRST_NODE_ID": str(pool.first_node_id),
        "CONTROLLER": "true" if pool.is_controller else "false",
        "CLUSTER_ID": topology.identity.cluster_id,
        "FOUNDER_IDS": " ".join(map(str, topology.identity.founders)),
        "FOUNDERS": ",".join(founders),
        "ADMIN_NAME": ADMIN,
        **({"ADMIN_PASSWORD_FILE": f"{files.ADMIN_DIR}/password"} if has_passwords(spec.listeners) else {}),
    }


def _container(names: Names, spec: KafkaClusterSpec, pool: Pool, topology: Topology) -> dict[str, Any]:
    ports = Ports(pool.is_broker, pool.is_controller, spec.listeners).by_name
    told = [{"name": key, "value": value} for key, value in environment(names, spec, pool, topology).items()]
    outside = {each.name: each.port for each in spec.listeners if pool.is_broker and each.type != "internal"}
    passwords = has_passwords(spec.listeners)
    alive = {"tcpSocket": {"port": REPLICATION_PORT if pool.is_broker else CONTROLLER_PORT}}
    return {
        "name": "kafka",
        "image": image(spec),
        "command": ["bash", f"{files.CONFIG_DIR}/start.sh"],
        "env": [*_from_pod(pool), *told],
        "ports": [
            {"name": _port_name(name), "containerPort": port, "protocol": "TCP"}
            for name, port in {**ports, **outside}.items()
        ],
        "resources": container_resources(pool.spec.resources),
        "securityContext": dict(CONTAINER_SECURITY),
        # A listener opens only once the node has joined the cluster and recovered its logs.
        "startupProbe": {**alive, "periodSeconds": 5, "failureThreshold": START_SECONDS // 5},
        "readinessProbe": {**alive, "periodSeconds": 5, "failureThreshold": 2, "timeoutSeconds": 3},
        "livenessProbe": {**alive, "periodSeconds": 20, "failureThreshold": 6, "timeoutSeconds": 5},
        "volumeMounts": [
            {"name": DATA, "mountPath": files.VOLUME_DIR},
            {"name": "configuration", "mountPath": files.CONFIG_DIR, "readOnly": True},
            {"name": "certificate", "mountPath": files.TLS_DIR, "readOnly": True},
            {"name": "run", "mountPath": files.RUN_DIR},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own empty folder
            *([{"name": "administrator", "mountPath": files.ADMIN_DIR, "readOnly": True}] if passwords else ()),
        ],
    }


def _from_pod(pool: Pool) -> list[Mapping[str, Any]]:
    known = {"POD_NAME": "metadata.name", "HOST_IP": "status.hostIP"}
    if pool.spec.placement.topology_key in _COPIED_TO_PODS:
        known["RACK"] = f"metadata.labels['{pool.spec.placement.topology_key}']"
    return [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in known.items()]


def _volumes(names: Names, spec: KafkaClusterSpec, pool: Pool) -> list[dict[str, Any]]:
    items = [{"key": "password", "path": "password"}]
    administrator = {
        "name": "administrator",
        "secret": {"secretName": names.binding, "items": items, "defaultMode": 0o440},
    }
    return [
        {"name": "configuration", "configMap": {"name": names.configuration(pool.spec.name)}},
        {"name": "certificate", "secret": {"secretName": names.certificate(pool.spec.name), "defaultMode": 0o440}},
        {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
        *([administrator] if has_passwords(spec.listeners) else ()),
    ]


def _port_name(listener: str) -> str:
    """Return a container port's name: at most 15 characters."""
    return listener.removeprefix("CLIENT_").lower()
