"""CassandraCluster: from the custom resource to a running ring. What a round does is in `plan`."""

import datetime as dt

from allotment_api.cassandra import CassandraCluster
from allotment_operator.kind import DATA_SERVICE
from allotment_operator.plans.actions import Invoke
from allotment_operator.plans.outcome import Health, Observed, Outcome
from allotment_operator.plans.release import all_claims, release
from allotment_operator.plans.service_status import HEAD_FIELDS, was_ready
from allotment_operator.plans.unworkable import NO_TENANT, UnworkableError, unworkable
from allotment_operator.services.cassandra.health import ClusterProbe
from allotment_operator.services.cassandra.names import Names
from allotment_operator.services.cassandra.plan import SECURE, ClusterPlan


class CassandraClusterKind:
    """Looks after every CassandraCluster.

    Args:
        operator_namespace: where authorities are kept.
        probe: asks the nodes themselves.
    """

    model = CassandraCluster
    scope = DATA_SERVICE
    status_fields = HEAD_FIELDS

    def __init__(self, *, operator_namespace: str, probe: ClusterProbe) -> None:
        self._home = operator_namespace
        self._probe = probe

    def plan(self, resource: CassandraCluster, observed: Observed, *, now: dt.datetime) -> Outcome:
        """Say what to do next for a cluster that should exist."""
        if observed.tenant is None:
            return unworkable(
                UnworkableError(NO_TENANT), health=observed.health, now=now, served=was_ready(resource.status)
            )
        try:
            return ClusterPlan(resource, observed, observed.tenant, self._home).outcome(now=now)
        except UnworkableError as error:
            return unworkable(error, health=observed.health, now=now, served=was_ready(resource.status))

    def release(self, resource: CassandraCluster, observed: Observed, *, now: dt.datetime) -> Outcome | None:
        """Take the cluster down; volumes stay where the owner says so."""
        retained = all_claims(observed) if resource.spec.storage.deletion_policy == "Retain" else frozenset()
        return release(observed, retain=retained, now=now)

    async def perform(self, resource: CassandraCluster, observed: Observed, action: Invoke) -> None:
        """Replace Cassandra's own superuser."""
        if action.operation == SECURE:
            await self._probe.secure(
                Names.of(resource),
                observed,
                datacenter=resource.spec.datacenter_name,
                copies=min(3, resource.spec.size),
            )

    async def probe(self, resource: CassandraCluster, observed: Observed) -> Health | None:
        """Ask the nodes whether clients can use the cluster."""
        return await self._probe.cluster(Names.of(resource), observed)
