"""All tenants, node pools and namespaces at one moment: what a tenant's plan must know besides its own resource."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from allotment_api.labels import OPERATOR_FIELD_MANAGER, TENANT_LABEL
from allotment_api.node_pool import NodePool
from allotment_api.tenant import Tenant
from allotment_operator.plans.actions import Manifest
from allotment_operator.plans.ownership import MANAGED_BY_LABEL, MANAGER
from allotment_operator.tenancy.forest import Forest
from allotment_operator.tenancy.network import NameServers

SERVICE_KINDS: Final[Mapping[str, str]] = {
    "KafkaCluster": "kafkaclusters",
    "KafkaTopic": "kafkatopics",
    "KafkaUser": "kafkausers",
    "CassandraCluster": "cassandraclusters",
    "SparkApplication": "sparkapplications",
    "SparkCluster": "sparkclusters",
    "JenkinsAgentPool": "jenkinsagentpools",
}
"""Kinds of services that a tenant may have, with their plurals; a test compares them with the API."""


@dataclass(frozen=True, slots=True)
class NamespaceFacts:
    """What is known of a namespace.

    Attributes:
        tenant: value of the tenant label, empty if there is none.
        labelled_by_us: whether the operator put that label there; one set by hand is not taken away.
        made_by_us: whether the operator made the namespace; only such a one is ever deleted.
    """

    name: str
    uid: str = ""
    tenant: str = ""
    labelled_by_us: bool = False
    made_by_us: bool = False
    terminating: bool = False

    @classmethod
    def of(cls, manifest: Manifest) -> "NamespaceFacts":
        """Read a Namespace."""
        metadata = manifest["metadata"]
        labels = metadata.get("labels") or {}
        return cls(
            name=metadata["name"],
            uid=metadata.get("uid", ""),
            tenant=labels.get(TENANT_LABEL, ""),
            labelled_by_us=_set_by_us(metadata, TENANT_LABEL),
            # The label alone can be written by anybody who may write Namespaces.
            made_by_us=labels.get(MANAGED_BY_LABEL) == MANAGER and _set_by_us(metadata, MANAGED_BY_LABEL),
            terminating=bool(metadata.get("deletionTimestamp"))
            or (manifest.get("status") or {}).get("phase") == "Terminating",
        )


def _set_by_us(metadata: Mapping[str, Any], label: str) -> bool:
    """Say whether the operator applied a label, by the API server's own book-keeping."""
    return any(
        entry.get("manager") == OPERATOR_FIELD_MANAGER
        and f"f:{label}" in (((entry.get("fieldsV1") or {}).get("f:metadata") or {}).get("f:labels") or {})
        for entry in metadata.get("managedFields") or ()
    )


@dataclass(frozen=True, slots=True, order=True)
class ServiceFacts:
    """A service of a tenant, as far as its tenant's plan must know it."""

    kind: str
    namespace: str
    name: str
    created: str = ""
    """RFC 3339; empty while it is not known."""

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Estate:
    """The picture; never changed, only replaced.

    Attributes:
        tenants: by name, as their specs could be read.
        unreadable: names of tenants whose spec could not be read, with the reason.
        services: all services, in every namespace.
        operator_namespace: where the operator itself runs.
        dns: the cluster's name servers.
    """

    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    pools: Mapping[str, NodePool] = field(default_factory=dict)
    namespaces: Mapping[str, NamespaceFacts] = field(default_factory=dict)
    services: tuple[ServiceFacts, ...] = ()
    operator_namespace: str = "allotment-system"
    dns: NameServers = field(default_factory=NameServers)

    @cached_property
    def forest(self) -> Forest:
        """The tenants as a whole."""
        holders = {name: each.tenant for name, each in self.namespaces.items() if each.tenant}
        return Forest(self.tenants, unreadable=self.unreadable, holders=holders)

    def chain(self, name: str) -> tuple[Tenant, ...]:
        """Return a tenant and those above it, the nearest first, as far as they are known.

        Where `Forest.gap` finds one, bounds are missing: nothing may be planned by it.
        """
        return tuple(self.tenants[each] for each in self.forest.chain(name) if each in self.tenants)

    def held_by(self, tenant: str) -> tuple[str, ...]:
        """Return the namespaces that carry this tenant's label by our hand, by name."""
        return tuple(
            sorted(each.name for each in self.namespaces.values() if each.tenant == tenant and each.labelled_by_us)
        )

    def services_below(self, tenant: str, kind: str) -> list[ServiceFacts]:
        """Return the services of a kind in the namespaces that a tenant and those below it list."""
        names = [name for name in (tenant, *self.forest.below(tenant)) if name in self.tenants]
        spaces = {space for name in names for space in self.tenants[name].spec.namespaces}
        return [each for each in self.services if each.kind == kind and each.namespace in spaces]

    def services_in(self, namespace: str) -> tuple[ServiceFacts, ...]:
        """Return the services in a namespace."""
        return tuple(each for each in self.services if each.namespace == namespace)
