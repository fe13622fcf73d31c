"""Certificates of a Cassandra cluster: one authority of its own, and one certificate for all nodes.

The authority's key is kept in the operator's namespace, where no tenant can read it. What it signs is a node: no client
has a certificate, so that whoever shows one to another node is one.
"""

from allotment_operator.plans.actions import EnsureAuthority, EnsureCertificate
from allotment_operator.plans.ownership import Owner
from allotment_operator.services.cassandra.names import NODE_ORGANIZATION, Names


def authority(owner: Owner, names: Names, operator_namespace: str) -> EnsureAuthority:
    """Return the cluster's own authority."""
    ref = names.authority(operator_namespace)
    metadata = owner.foreign_metadata(operator_namespace, ref.name)
    return EnsureAuthority(ref, metadata, common_name=f"Cassandra {names.namespace}/{names.cluster}"[:64])


def node_certificate(owner: Owner, names: Names, operator_namespace: str) -> EnsureCertificate:
    """Return the certificate of the nodes: for clients, and for each other."""
    return EnsureCertificate(
        names.secret(names.certificate),
        owner.metadata(names.certificate),
        names.authority(operator_namespace),
        common_name="node",
        organization=NODE_ORGANIZATION,
        dns_names=names.server_hosts(),
    )
