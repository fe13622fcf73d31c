"""One round's plan for a KafkaCluster.

Each object depends only on those before it:

    1. authority and certificates, credentials
    2. Services, network policy, disruption budget
    3. configuration and StatefulSets, once the certificates are there to be fingerprinted
    4. what is left over from former rounds goes
    5. the next restart, if one is due and the cluster can spare a node
    6. the administrator's password, where the brokers refuse the one that is told

A policy may refuse Services of external listeners, and a StorageClass the growth of volumes, for ever. Each is a lane,
so that none holds up a restart, and with it the renewal of a certificate.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any, Final

from allotment_api.kafka import KafkaCluster
from allotment_api.labels import COMPONENT_LABEL, POOL_LABEL
from allotment_operator.plans.actions import Action, Apply, Delete, EnsureCertificate, Invoke, Manifest, ObjectRef
from allotment_operator.plans.disruption import disruption_budget
from allotment_operator.plans.outcome import Observed, Outcome, TenantView, apart, pod_is_ready
from allotment_operator.plans.ownership import Owner, prune
from allotment_operator.plans.preemption import Preemption
from allotment_operator.plans.rollout import Rollout, next_restart
from allotment_operator.plans.service_status import Standing, was_ready
from allotment_operator.plans.storage import growing, growth
from allotment_operator.plans.workload import CERTIFICATE_ENDS_ANNOTATION, fingerprint
from allotment_operator.services.kafka import binding, configuration, external, network, tls
from allotment_operator.services.kafka.names import Names
from allotment_operator.services.kafka.pods import pod_group
from allotment_operator.services.kafka.topology import Pool, Topology

SET_ADMIN_PASSWORD: Final = "set-admin-password"  # noqa: S105 - an operation's name

_SWEPT: Final = frozenset({"Service", "ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "StatefulSet"})
_SOON: Final = 1.0
_LOOK_AGAIN: Final = 15.0


class ClusterPlan:
    """One round's plan: the parts that several steps need, and the steps."""

    def __init__(
        self, resource: KafkaCluster, observed: Observed, topology: Topology, tenant: TenantView, home: str
    ) -> None:
        self.spec, self.status = resource.spec, resource.status
        self.observed, self.topology, self.tenant, self.home = observed, topology, tenant, home
        self.names = Names.of(resource)
        self.owner = Owner.of(resource)
        self.outside = external.external_listeners(self.spec.listeners)
        self.brokers = [pool for pool in topology.pools if pool.is_broker]
        requested = {name for pool in topology.pools for name in pool.spec.resources.requests}
        self.preemption = Preemption.of(tenant, requested=requested, preemptible=self.spec.preemptible)

    def outcome(self, *, now: dt.datetime) -> Outcome:
        """Return the round's actions and what to say."""
        workloads, waiting = self._workloads()
        rollout = self._rollout(now)
        shared = [*self._credentials(), *map(Apply, self._network())]
        restart = [rollout.restart] if rollout.restart else []
        actions: list[Action] = [*shared, *map(Apply, workloads), *self._leftovers(workloads), *restart]
        if self._admin_is_locked_out():
            actions.append(Invoke(SET_ADMIN_PASSWORD, self.names.binding))
        standing = Standing(
            observed=self.observed,
            wanted=self.topology.replicas,
            rollout=rollout,
            waiting=waiting or self.topology.kept or self._waiting_outside() or growing(self.observed),
            deployed=was_ready(self.status),
        )
        return Outcome(
            actions=tuple(actions),
            conditions=(*standing.conditions(now=now), self.preemption.condition(now=now)),
            status=self._status(standing),
            requeue_after=_SOON if waiting else None if standing.settled else _LOOK_AGAIN,
            lanes=apart([*map(Apply, self._outside_services()), *self._growth()]),
        )

    def _credentials(self) -> Iterable[Action]:
        yield tls.authority(self.owner, self.names, self.home)
        yield tls.operator_certificate(self.owner, self.names, self.home)
        for pool in self.topology.pools:
            yield self._certificate(pool)
        authority = self.observed.secret(self.names.authority(self.home), "ca.crt")
        if authority:
            yield binding.administrator(
                self.owner, self.names, self.spec, certificates=authority, operator_namespace=self.home
            )

    def _certificate(self, pool: Pool) -> EnsureCertificate:
        hosts = external.hosts(self.observed, self.names, pool, self.outside) if pool.is_broker else ()
        return tls.node_certificate(self.owner, self.names, pool.spec.name, self.home, external_hosts=hosts)

    def _network(self) -> Iterable[dict[str, Any]]:
        yield network.headless_service(self.owner, self.names, self.spec)
        yield network.bootstrap_service(self.owner, self.names, self.spec)
        yield network.policy(self.owner, self.names, self.spec, tenant=self.tenant, operator_namespace=self.home)
        yield disruption_budget(self.owner, self.names.headless, selector=self.owner.selector)

    def _workloads(self) -> tuple[list[dict[str, Any]], str]:
        """Return ConfigMaps and StatefulSets, and what they wait for."""
        manifests: list[dict[str, Any]] = []
        lacking = []
        for pool in self.topology.pools:
            certificate = self.observed.secret(self._certificate_of(pool), "tls.crt")
            files = self._files(pool)
            group = pod_group(
                self.owner,
                self.names,
                self.spec,
                pool,
                self.topology,
                tenant=self.tenant,
                preemption=self.preemption,
                content=fingerprint(files, certificate, pool.spec.placement.manifest()),
                certificate_ends=self.observed.annotation(self._certificate_of(pool), CERTIFICATE_ENDS_ANNOTATION),
            )
            # Rendered in any case: what is wrong with the spec is said in the first round.
            if certificate and self.observed.secret(self.names.secret(self.names.binding), "username"):
                manifests += [self._config_map(pool, files), group.manifest()]
            else:
                lacking.append(pool.spec.name)
        waiting = f"Certificates and credentials are being made for pool {', '.join(lacking)}." if lacking else ""
        return manifests, waiting

    def _files(self, pool: Pool) -> dict[str, str]:
        known = external.addresses(self.observed, self.names, pool, self.outside) if pool.is_broker else {}
        return configuration.files(self.spec, pool, self.topology, self.names, known)

    def _config_map(self, pool: Pool, files: Mapping[str, str]) -> dict[str, Any]:
        labels = {COMPONENT_LABEL: pool.component, POOL_LABEL: pool.spec.name}
        metadata = self.owner.metadata(self.names.configuration(pool.spec.name), labels=labels)
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(files)}

    def _outside_services(self) -> Iterable[dict[str, Any]]:
        for pool in self.brokers:
            yield from external.services(self.owner, self.names, pool, self.outside)

    def _waiting_outside(self) -> str:
        names = [
            name for pool in self.brokers for name in external.missing(self.observed, self.names, pool, self.outside)
        ]
        return f"Waiting for the addresses of the Services {', '.join(names[:3])}." if names else ""

    def _growth(self) -> Iterable[Apply]:
        for pool in self.topology.pools:
            yield from growth(self.observed, labels={POOL_LABEL: pool.spec.name}, size=pool.spec.storage.size)

    def _leftovers(self, workloads: list[dict[str, Any]]) -> list[Delete]:
        """Return deletions of what no listener or pool needs any more; never of a pool that holds data."""
        wanted = [*workloads, *self._network(), *self._outside_services()]
        kept = {ObjectRef.of(manifest) for manifest in wanted}
        kept |= {
            ref
            for ref, child in self.observed.children.items()
            if _pool_label(child) in self._pools_that_stay() and ref.kind in ("ConfigMap", "StatefulSet")
        }
        return prune(self.observed.children, kept, kinds=_SWEPT)

    def _pools_that_stay(self) -> set[str]:
        return {pool.spec.name for pool in self.topology.pools} | set(self.topology.left_out)

    def _rollout(self, now: dt.datetime) -> Rollout:
        health = self.observed.health
        if health is None or not health.ready:
            unhealthy = health.message if health else "the brokers have not been asked yet."
        else:
            lacking = int(health.details.get("underReplicated", 0))
            unhealthy = f"{lacking} partitions lack copies." if lacking else ""
        wanted = self.topology.replicas
        return next_restart(self.observed, wanted=wanted, unhealthy=unhealthy, now=now, order=self._order)

    def _order(self, pod: Manifest) -> tuple[bool, bool, str]:
        """Return the place of a pod in a rollout: the quorum's leader last, so that it moves once; controllers late."""
        labels = pod["metadata"].get("labels") or {}
        leader = (self.observed.health.details if self.observed.health else {}).get("controllerPod")
        name = pod["metadata"]["name"]
        return (name == leader, labels.get(COMPONENT_LABEL) == "controller", name)

    def _admin_is_locked_out(self) -> bool:
        return bool(self.observed.health and self.observed.health.details.get("adminRefused"))

    def _status(self, standing: Standing) -> dict[str, Any]:
        bound = bool(self.observed.secret(self.names.secret(self.names.binding), "username"))
        head = standing.head(
            self.owner,
            version=self.spec.version,
            endpoints=binding.endpoints(self.names, self.spec, self._told_outside()),
            binding={"name": self.names.binding} if bound else None,
        )
        return {**head, "clusterId": self.topology.identity.cluster_id, "pools": self._pool_states()}

    def _told_outside(self) -> dict[str, str]:
        told: dict[str, list[str]] = {}
        hosts = {
            pod["metadata"]["name"]: (pod.get("status") or {}).get("hostIP", "") for pod in self.observed.of_kind("Pod")
        }
        for pool in self.brokers:
            known = external.addresses(self.observed, self.names, pool, self.outside)
            for ordinal, addresses in known.items():
                host = hosts.get(self.names.pod(pool.spec.name, ordinal), "")
                for each in addresses:
                    if external.HOST_IP not in each.told or host:
                        told.setdefault(each.listener, []).append(each.told.replace(external.HOST_IP, host))
        return {listener.name: ",".join(told.get(f"CLIENT_{listener.name.upper()}", ())) for listener in self.outside}

    def _pool_states(self) -> list[dict[str, Any]]:
        """Return the pools' states; ranges of pools that are gone stay."""
        counts = {pool.spec.name: pool.replicas for pool in self.topology.pools} | dict(self.topology.left_out)
        ready = [_pool_label(pod) for pod in self.observed.of_kind("Pod") if pod_is_ready(pod)]
        return [
            {
                "name": name,
                "firstNodeId": first,
                "nodeIds": list(range(first, first + counts.get(name, 0))),
                "ready": ready.count(name),
            }
            for name, first in sorted(self.topology.ranges.items(), key=lambda item: item[1])
        ]

    def _certificate_of(self, pool: Pool) -> ObjectRef:
        return self.names.secret(self.names.certificate(pool.spec.name))


def _pool_label(manifest: Manifest) -> str:
    return str((manifest["metadata"].get("labels") or {}).get(POOL_LABEL, ""))
