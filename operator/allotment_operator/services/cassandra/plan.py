"""One round's plan for a CassandraCluster.

Each object depends only on those before it:

    1. authority and certificate, credential
    2. Services, network policy, disruption budget
    3. configuration and StatefulSets, once the certificate is there to be fingerprinted; nodes join one by one
    4. what is left over from former rounds goes
    5. the next restart, if one is due and the ring can spare a node
    6. Cassandra's own superuser is replaced

A StorageClass may refuse the growth of volumes for ever, and a ring on retained volumes the superuser. Each is a lane,
so that none holds up a restart, and with it the renewal of the certificate, nor what Ready says.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from allotment_api.cassandra import CassandraCluster
from allotment_api.conditions import Reason
from allotment_operator.plans.actions import Action, Apply, Invoke, ObjectRef
from allotment_operator.plans.binding import binding_fields, password_binding
from allotment_operator.plans.disruption import disruption_budget
from allotment_operator.plans.outcome import Health, Observed, Outcome, TenantView, apart
from allotment_operator.plans.ownership import Owner, prune
from allotment_operator.plans.preemption import Preemption
from allotment_operator.plans.rollout import Rollout, next_restart
from allotment_operator.plans.service_status import Standing, was_ready
from allotment_operator.plans.storage import growing, growth
from allotment_operator.plans.workload import CERTIFICATE_ENDS_ANNOTATION, fingerprint
from allotment_operator.services.cassandra import configuration, network, tls
from allotment_operator.services.cassandra.health import DEFAULT_PASSWORD, LOGIN_REFUSED, SECURED
from allotment_operator.services.cassandra.names import ADMIN, CQL_PORT, Names
from allotment_operator.services.cassandra.pods import pod_group
from allotment_operator.services.cassandra.ring import Rack, Ring

SECURE: Final = "replace-default-superuser"

_SWEPT: Final = frozenset({"Service", "ConfigMap", "NetworkPolicy", "PodDisruptionBudget"})
_SOON: Final = 1.0
_LOOK_AGAIN: Final = 10.0


class ClusterPlan:
    """One round's plan: the parts that several steps need, and the steps."""

    def __init__(self, resource: CassandraCluster, observed: Observed, tenant: TenantView, home: str) -> None:
        self.spec, self.status = resource.spec, resource.status
        self.observed, self.tenant, self.home = observed, tenant, home
        self.names = Names.of(resource)
        self.owner = Owner.of(resource)
        self.deployed = was_ready(self.status)
        self.ring = Ring.of(resource, observed, settled=self.secured)
        requested = self.spec.resources.requests
        self.preemption = Preemption.of(tenant, requested=requested, preemptible=self.spec.preemptible)

    @property
    def secured(self) -> bool:
        """Whether nobody can log in with a password that everybody knows; it stays so once it is."""
        health = self.observed.health
        return self.deployed or (health is not None and (health.simulated or bool(health.details.get(SECURED))))

    def outcome(self, *, now: dt.datetime) -> Outcome:
        """Return the round's actions and what to say."""
        workloads, waiting = self._workloads()
        rollout = self._rollout(now)
        actions: list[Action] = [
            *self._credentials(),
            *map(Apply, self._network()),
            *map(Apply, workloads),
            *prune(self.observed.children, self._refs(workloads), kinds=_SWEPT),
            *([rollout.restart] if rollout.restart else ()),
        ]
        lanes = apart(growth(self.observed, labels={}, size=self.spec.storage.size))
        if self._to_be_secured():
            lanes[ADMIN] = (Invoke(SECURE, self.names.cluster),)
        standing = Standing(
            observed=replace(self.observed, health=self._complete(self.observed.health)),
            wanted=self.ring.wanted,
            rollout=rollout,
            waiting=waiting or self.ring.waiting or self.ring.kept or growing(self.observed),
            deployed=self.deployed,
        )
        return Outcome(
            actions=tuple(actions),
            conditions=(*standing.conditions(now=now), self.preemption.condition(now=now)),
            status=self._status(standing),
            requeue_after=_SOON if waiting else None if standing.settled else _LOOK_AGAIN,
            lanes=lanes,
        )

    def _complete(self, health: Health | None) -> Health | None:
        """Return the ring's health as Ready goes by it: nodes join one by one, and a first rack is no cluster yet.

        A ring that has been whole once stays Ready while it grows, or while a node is away, as long as it serves.
        """
        serving = self.observed.ready_pods()
        if health is None or not health.ready or self.deployed or serving >= self.ring.wanted:
            return health
        text = f"{serving} of {self.ring.wanted} nodes serve; the cluster is Ready once all do. {self.ring.waiting}"
        return replace(health, ready=False, reason=Reason.WAITING_FOR_PODS, message=text.rstrip())

    def _credentials(self) -> Iterable[Action]:
        yield tls.authority(self.owner, self.names, self.home)
        yield tls.node_certificate(self.owner, self.names, self.home)
        authority = self.observed.secret(self.names.authority(self.home), "ca.crt")
        if authority:
            fields = binding_fields(
                "cassandra",
                host=self.names.entrance_host,
                port=CQL_PORT,
                certificates=authority,
                further={"datacenter": self.spec.datacenter_name},
            )
            ref = self.names.secret(self.names.binding)
            yield password_binding(ref, self.owner.metadata(ref.name), fields, username=ADMIN)

    def _network(self) -> list[dict[str, Any]]:
        return [
            network.headless_service(self.owner, self.names),
            network.client_service(self.owner, self.names),
            network.policy(
                self.owner,
                self.names,
                tenant=self.tenant.name,
                operator_namespace=self.home,
                secured=self.secured,
            ),
            disruption_budget(self.owner, self.names.headless, selector=self.owner.selector),
        ]

    def _workloads(self) -> tuple[list[dict[str, Any]], str]:
        """Return the ConfigMap and the StatefulSets, and what they wait for."""
        certificate = self.observed.secret(self.names.secret(self.names.certificate), "tls.crt")
        files = configuration.files(self.spec, self.ring, self.names)
        config = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": self.owner.metadata(self.names.configuration),
            "data": files,
        }
        content = fingerprint(files, certificate, self.spec.placement.manifest())
        racks = [self._rack(rack, content) for rack in self.ring.racks if rack.replicas or rack.existing]
        # Rendered in any case: what is wrong with the spec is said in the first round.
        return ([config, *racks], "") if certificate else ([], "Certificates and credentials are being made.")

    def _rack(self, rack: Rack, content: str) -> dict[str, Any]:
        group = pod_group(
            self.owner,
            self.names,
            self.spec,
            rack,
            self.ring,
            tenant=self.tenant,
            preemption=self.preemption,
            content=fingerprint(content, dict(rack.spec.node_selector)),
            certificate_ends=self.observed.annotation(
                self.names.secret(self.names.certificate), CERTIFICATE_ENDS_ANNOTATION
            ),
        )
        return group.manifest()

    def _refs(self, workloads: list[dict[str, Any]]) -> set[ObjectRef]:
        kept = {ObjectRef.of(manifest) for manifest in [*workloads, *self._network()]}
        return kept | {ObjectRef("v1", "ConfigMap", self.names.namespace, self.names.configuration)}

    def _rollout(self, now: dt.datetime) -> Rollout:
        health = self.observed.health
        unhealthy = "the nodes have not been asked yet."
        if health is not None:
            schemas = int(health.details.get("schemas", 1))
            unhealthy = "" if health.ready else health.message
            unhealthy = unhealthy or (f"the nodes hold {schemas} versions of the schema." if schemas > 1 else "")
        wanted = sum(rack.replicas for rack in self.ring.racks)
        return next_restart(self.observed, wanted=wanted, unhealthy=unhealthy, now=now)

    def _to_be_secured(self) -> bool:
        health = self.observed.health
        if health is None or self.deployed:
            return False
        return health.reason in (DEFAULT_PASSWORD, LOGIN_REFUSED)

    def _status(self, standing: Standing) -> dict[str, Any]:
        bound = self.observed.get(self.names.secret(self.names.binding)) is not None
        endpoint = {"name": "cql", "address": f"{self.names.entrance_host}:{CQL_PORT}", "protocol": "CQL over TLS"}
        return standing.head(
            self.owner,
            version=self.spec.version,
            endpoints=[endpoint],
            binding={"name": self.names.binding} if bound else None,
        )
