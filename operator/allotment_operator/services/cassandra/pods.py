"""The pods of a Cassandra rack."""

from typing import Any, Final

from allotment_api.cassandra import CassandraClusterSpec
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
from allotment_operator.services.cassandra import configuration as files
from allotment_operator.services.cassandra.names import CQL_PORT, JMX_PORT, STORAGE_PORT, Names
from allotment_operator.services.cassandra.ring import RACK_LABEL, Rack, Ring

USER: Final = 999
"""As in the official image (cassandra)."""

COMPONENT: Final = "node"

GRACE_SECONDS: Final = 300
"""For the drain before the end: memory tables are written out, so that the next start has no log to replay."""

START_SECONDS: Final = 3600


OLDEST, NEXT = (5, 0, 0), (6, 0, 0)
"""Versions whose settings and Java options are those rendered here."""


def image(spec: CassandraClusterSpec) -> str:
    """Return the image: the owner's, else the official one of the version.

    Raises:
        UnworkableError: the version is not supported.
    """
    require_version(spec.version, OLDEST, below=NEXT)
    return spec.image or f"docker.io/library/cassandra:{spec.version}"


def pod_group(
    owner: Owner,
    names: Names,
    spec: CassandraClusterSpec,
    rack: Rack,
    ring: Ring,
    *,
    tenant: TenantView,
    preemption: Preemption,
    content: str,
    certificate_ends: str,
) -> PodGroup:
    """Return the pods of one rack.

    Raises:
        UnworkableError: the placement or the version cannot be had.
    """
    labels = {RACK_LABEL: rack.spec.name}
    claim = claim_template(owner, spec.storage, labels=labels, annotations=ring.annotations(), existing=rack.existing)
    pod = {
        "securityContext": pod_security(USER),
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "containers": [_container(spec, rack)],
        "volumes": _volumes(names),
        **service_wide(spec),
        **pod_placement(
            spec.placement,
            tenant,
            selector=owner.selector,
            requests=spec.resources.requests,
            node_selector=rack.spec.node_selector,
        ),
    }
    return PodGroup(
        owner=owner,
        name=names.group(rack.spec.name),
        component=COMPONENT,
        replicas=rack.replicas,
        service=names.headless,
        pod=pod,
        content=content,
        labels=labels,
        pod_labels=preemption.labels,
        claims=[claim],
        certificate_ends=certificate_ends,
    )


def environment(spec: CassandraClusterSpec, rack: Rack) -> dict[str, str]:
    """Return what the scripts are told, besides what Kubernetes knows of the pod."""
    return {
        "CASSANDRA_HOME": files.HOME,
        "CONFIG_DIR": files.CONFIG_DIR,
        "RUN_DIR": files.RUN_DIR,
        "JMX_PORT": str(JMX_PORT),
        "DATACENTER": spec.datacenter_name,
        "RACK": rack.spec.name,
    }


def _container(spec: CassandraClusterSpec, rack: Rack) -> dict[str, Any]:
    told = [{"name": key, "value": value} for key, value in environment(spec, rack).items()]
    # A node that fetches its data serves nobody for hours and is well all the same: alive is who listens to nodes.
    alive = {"tcpSocket": {"port": STORAGE_PORT}}
    drain = ["bash", f"{files.CONFIG_DIR}/nodetool.sh", "drain"]
    return {
        "name": "cassandra",
        "image": image(spec),
        "command": ["bash", f"{files.CONFIG_DIR}/start.sh"],
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}, *told],
        "ports": [
            {"name": "storage", "containerPort": STORAGE_PORT, "protocol": "TCP"},
            {"name": "cql", "containerPort": CQL_PORT, "protocol": "TCP"},
        ],
        "resources": container_resources(spec.resources),
        "securityContext": dict(CONTAINER_SECURITY),
        "startupProbe": {**alive, "periodSeconds": 5, "failureThreshold": START_SECONDS // 5},
        "livenessProbe": {**alive, "periodSeconds": 20, "failureThreshold": 6, "timeoutSeconds": 5},
        "readinessProbe": {
            "tcpSocket": {"port": CQL_PORT},
            "periodSeconds": 5,
            "failureThreshold": 2,
            "timeoutSeconds": 3,
        },
        "lifecycle": {"preStop": {"exec": {"command": drain}}},
        "volumeMounts": [
            {"name": DATA, "mountPath": files.VOLUME_DIR},
            {"name": "configuration", "mountPath": files.CONFIG_DIR, "readOnly": True},
            {"name": "certificate", "mountPath": files.TLS_DIR, "readOnly": True},
            {"name": "run", "mountPath": files.RUN_DIR},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own empty folder
        ],
    }


def _volumes(names: Names) -> list[dict[str, Any]]:
    return [
        {"name": "configuration", "configMap": {"name": names.configuration}},
        {"name": "certificate", "secret": {"secretName": names.certificate, "defaultMode": 0o440}},
        {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
    ]
