"""Every kind of the API, by name.

The one list that generation, documentation, tests and readers of manifests go by.
"""

from collections.abc import Mapping
from typing import Any, Final

from allotment_api.cassandra import CassandraCluster
from allotment_api.errors import Fault, InvalidManifestError
from allotment_api.jenkins import JenkinsAgentPool
from allotment_api.kafka import KafkaCluster
from allotment_api.kafka_topic import KafkaTopic
from allotment_api.kafka_user import KafkaUser
from allotment_api.labels import API_VERSION
from allotment_api.node_pool import NodePool
from allotment_api.pod_group import PodGroup
from allotment_api.resource import Resource
from allotment_api.spark import SparkApplication, SparkCluster
from allotment_api.tenant import Tenant
from allotment_api.tenant_policy import TenantPolicy

KINDS: Final[Mapping[str, type[Resource]]] = {
    kind.definition.kind: kind
    for kind in (
        Tenant,
        NodePool,
        TenantPolicy,
        PodGroup,
        KafkaCluster,
        KafkaTopic,
        KafkaUser,
        CassandraCluster,
        SparkApplication,
        SparkCluster,
        JenkinsAgentPool,
    )
}


def is_ours(manifest: Mapping[str, Any]) -> bool:
    """Whether the manifest is of this group and version."""
    return manifest.get("apiVersion") == API_VERSION


def parse(manifest: Mapping[str, Any], *, strict: bool = True) -> Resource:
    """Read one object of any kind.

    Raises:
        InvalidManifestError: the kind is unknown, or a field is wrong.
    """
    kind = KINDS.get(str(manifest.get("kind")))
    if kind is None or not is_ours(manifest):
        said = f"{manifest.get('apiVersion')} {manifest.get('kind')}"
        known = ", ".join(KINDS)
        raise InvalidManifestError(
            said, (Fault("kind", f"is not known: write apiVersion {API_VERSION} and one of {known}"),)
        )
    return kind.parse(manifest, strict=strict)
