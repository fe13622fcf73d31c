"""Certificates of a Kafka cluster: one authority, one certificate per pool, one for the operator.

The authority's key and the operator's certificate are kept in the operator's namespace, where no tenant can read them.
Nodes find their key in a Secret of their own namespace, as one PEM file, so no key store and no password is needed.
"""

import datetime as dt
from collections.abc import Sequence

from allotment_operator.plans.actions import EnsureAuthority, EnsureCertificate
from allotment_operator.plans.ownership import Owner
from allotment_operator.services.kafka.external import HOSTS_ANNOTATION
from allotment_operator.services.kafka.names import (
    NODE_COMMON_NAME,
    NODE_ORGANIZATION,
    OPERATOR_COMMON_NAME,
    OPERATOR_ORGANIZATION,
    Names,
)

YEAR = dt.timedelta(days=365)


def authority(owner: Owner, names: Names, operator_namespace: str) -> EnsureAuthority:
    """Return the cluster's own authority."""
    ref = names.authority(operator_namespace)
    metadata = owner.foreign_metadata(operator_namespace, ref.name)
    return EnsureAuthority(ref, metadata, common_name=f"Kafka {names.namespace}/{names.cluster}"[:64])


def operator_certificate(owner: Owner, names: Names, operator_namespace: str) -> EnsureCertificate:
    """Return the certificate by which the nodes know the operator."""
    ref = names.operator_certificate(operator_namespace)
    return EnsureCertificate(
        ref,
        owner.foreign_metadata(operator_namespace, ref.name),
        names.authority(operator_namespace),
        common_name=OPERATOR_COMMON_NAME,
        organization=OPERATOR_ORGANIZATION,
        usages=("client",),
        days=YEAR.days,
    )


def node_certificate(
    owner: Owner, names: Names, pool: str, operator_namespace: str, *, external_hosts: Sequence[str]
) -> EnsureCertificate:
    """Return the certificate of a pool's nodes: for clients, and for each other."""
    name = names.certificate(pool)
    annotations = {HOSTS_ANNOTATION: ",".join(external_hosts)} if external_hosts else None
    return EnsureCertificate(
        names.secret(name),
        owner.metadata(name, annotations=annotations),
        names.authority(operator_namespace),
        common_name=NODE_COMMON_NAME,
        organization=NODE_ORGANIZATION,
        dns_names=(*names.server_hosts(), *external_hosts),
        days=YEAR.days,
    )
