"""KafkaCluster: from the custom resource to running brokers. What a round does is in `plan`."""

import datetime as dt

from allotment_api.kafka import KafkaCluster
from allotment_api.labels import POOL_LABEL
from allotment_operator.kind import DATA_SERVICE
from allotment_operator.plans.actions import Invoke
from allotment_operator.plans.outcome import Health, Observed, Outcome
from allotment_operator.plans.release import all_claims, release
from allotment_operator.plans.service_status import HEAD_FIELDS, was_ready
from allotment_operator.plans.unworkable import NO_TENANT, UnworkableError, unworkable
from allotment_operator.services.kafka.health import ClusterProbe
from allotment_operator.services.kafka.names import Names
from allotment_operator.services.kafka.plan import SET_ADMIN_PASSWORD, ClusterPlan
from allotment_operator.services.kafka.topology import Topology


class KafkaClusterKind:
    """Looks after every KafkaCluster.

    Args:
        operator_namespace: where authorities and the operator's own certificates are kept.
        probe: asks the brokers themselves.
    """

    model = KafkaCluster
    scope = DATA_SERVICE
    status_fields = HEAD_FIELDS | {"clusterId", "pools"}

    def __init__(self, *, operator_namespace: str, probe: ClusterProbe) -> None:
        self._home = operator_namespace
        self._probe = probe

    def plan(self, resource: KafkaCluster, observed: Observed, *, now: dt.datetime) -> Outcome:
        """Say what to do next for a cluster that should exist."""
        if observed.tenant is None:
            return unworkable(
                UnworkableError(NO_TENANT), health=observed.health, now=now, served=was_ready(resource.status)
            )
        try:
            topology = Topology.of(resource, observed)
            return ClusterPlan(resource, observed, topology, observed.tenant, self._home).outcome(now=now)
        except UnworkableError as error:
            return unworkable(error, health=observed.health, now=now, served=was_ready(resource.status))

    def release(self, resource: KafkaCluster, observed: Observed, *, now: dt.datetime) -> Outcome | None:
        """Take the cluster down; volumes stay where their pool says so, and where the pool is not known."""
        doomed = {pool.name for pool in resource.spec.pools if pool.storage.deletion_policy == "Delete"}
        retained = frozenset(
            ref
            for ref in all_claims(observed)
            if (observed.children[ref]["metadata"].get("labels") or {}).get(POOL_LABEL) not in doomed
        )
        return release(observed, retain=retained, now=now)

    async def perform(self, resource: KafkaCluster, observed: Observed, action: Invoke) -> None:
        """Give the administrator the password of the binding."""
        if action.operation == SET_ADMIN_PASSWORD:
            await self._probe.set_admin_password(Names.of(resource), observed)

    async def probe(self, resource: KafkaCluster, observed: Observed) -> Health | None:
        """Ask the brokers whether clients can use the cluster."""
        wanted = sum(pool.replicas for pool in resource.spec.pools)
        deployed = was_ready(resource.status)
        return await self._probe.cluster(resource.spec, Names.of(resource), observed, wanted=wanted, deployed=deployed)
