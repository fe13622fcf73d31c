"""SparkCluster as the engine sees it: a master and its workers, authenticated and closed to everybody else.

The standalone master's REST submission port takes jobs from anybody, so it is off. Every connection needs the cluster's
secret, which the binding Secret holds for the tenant's own programs. Nothing is kept on a disk: workers that restart
lose shuffle files only, which Spark computes again.
"""

import base64
import datetime as dt
from collections.abc import Callable
from typing import Any, Final

from allotment_api.labels import COMPONENT_LABEL
from allotment_api.quantities import CPU, MEMORY
from allotment_api.spark import SparkCluster
from allotment_operator.kind import Scope, ServiceUnavailableError
from allotment_operator.plans.actions import Action, Apply, EnsureCredential, Invoke, Manifest, ObjectRef
from allotment_operator.plans.binding import binding_fields, binding_status, secret_type
from allotment_operator.plans.disruption import disruption_budget
from allotment_operator.plans.network import Opening, network_policy, operator_pods, pods_of, tenant_pods
from allotment_operator.plans.outcome import Health, Observed, Outcome, TenantView, pod_is_ready
from allotment_operator.plans.ownership import Owner, prune
from allotment_operator.plans.placement import pod_placement
from allotment_operator.plans.preemption import Preemption
from allotment_operator.plans.release import release
from allotment_operator.plans.rollout import next_restart
from allotment_operator.plans.service_status import (
    HEAD_FIELDS,
    Standing,
    on_simulated_nodes,
    simulated_health,
    was_ready,
)
from allotment_operator.plans.unworkable import NO_TENANT, UnworkableError, unworkable
from allotment_operator.plans.workload import (
    CONTAINER_SECURITY,
    PodGroup,
    container_resources,
    fingerprint,
    pod_security,
    service_wide,
)
from allotment_operator.services.spark import sizing
from allotment_operator.services.spark.master import Master, judge
from allotment_operator.services.spark.names import (
    BLOCK_MANAGER_PORT,
    CONFIGURATION_FOLDER,
    DRIVER_PORT,
    MASTER_PORT,
    MASTER_UI_PORT,
    SPARK_HOME,
    USER,
    WORK_FOLDER,
    WORKER_PORT,
    WORKER_UI_PORT,
    image,
)
from allotment_operator.services.spark.properties import as_file
from allotment_operator.services.spark.sizing import memory_mebibytes

PROPERTIES: Final = "spark.properties"
SECRET_KEY: Final = "password"  # noqa: S105 - the name of a key in a binding Secret
LOOK_AGAIN_SECONDS: Final = 15.0
_SCRATCH: Final = {"tmp": "/tmp", "work": WORK_FOLDER}  # noqa: S108 - in the pod


class SparkClusterKind:
    """Looks after every SparkCluster.

    Args:
        simulated: whether a Kubernetes node, by name, is simulated.
        master: asks masters how they are.
        operator_namespace: where the operator asks from.
    """

    model = SparkCluster
    scope = Scope(
        kinds={
            "v1": ("ConfigMap", "Pod", "Secret", "Service"),
            "apps/v1": ("StatefulSet",),
            "networking.k8s.io/v1": ("NetworkPolicy",),
            "policy/v1": ("PodDisruptionBudget",),
        }
    )
    status_fields = HEAD_FIELDS

    def __init__(self, *, simulated: Callable[[str], bool], master: Master, operator_namespace: str) -> None:
        self._simulated = simulated
        self._master = master
        self._home = operator_namespace

    def plan(self, resource: SparkCluster, observed: Observed, *, now: dt.datetime) -> Outcome:
        """Say what to do next for a cluster that should exist."""
        if observed.tenant is None:
            return unworkable(
                UnworkableError(NO_TENANT), health=observed.health, now=now, served=was_ready(resource.status)
            )
        try:
            return _Plan(resource, observed, observed.tenant, self._home).outcome(now=now)
        except UnworkableError as error:
            return unworkable(error, health=observed.health, now=now, served=was_ready(resource.status))

    def release(self, resource: SparkCluster, observed: Observed, *, now: dt.datetime) -> Outcome | None:
        """Take the cluster down; it keeps no data."""
        del resource
        return release(observed, now=now)

    async def probe(self, resource: SparkCluster, observed: Observed) -> Health | None:
        """Ask the master; None before its pod serves."""
        pods = observed.of_kind("Pod")
        wanted = 1 + resource.spec.workers.replicas
        if on_simulated_nodes(pods, self._simulated):
            return simulated_health(observed.ready_pods(), wanted)
        name, namespace = resource.metadata.name, resource.metadata.namespace
        if not any(pod["metadata"]["name"] == f"{name}-master-0" and pod_is_ready(pod) for pod in pods):
            return None
        try:
            state = await self._master.state(f"{name}-master.{namespace}.svc", MASTER_UI_PORT)
        except ServiceUnavailableError as error:
            return Health(ready=False, reason="MasterUnreachable", message=str(error), silent=True)
        return judge(state, workers=resource.spec.workers.replicas)

    async def perform(self, resource: SparkCluster, observed: Observed, action: Invoke) -> None:
        """A cluster is told nothing."""
        del resource, observed
        raise ValueError(f"a SparkCluster cannot {action.operation}")


class _Plan:
    """One round's plan: the parts that several steps need, and the steps."""

    def __init__(self, resource: SparkCluster, observed: Observed, tenant: TenantView, home: str) -> None:
        self.spec, self.owner = resource.spec, Owner.of(resource)
        self.observed, self.tenant, self.home = observed, tenant, home
        self.deployed = was_ready(resource.status)
        requested = {*map(str, self.spec.master.resources.requests), *self._worker_requests()}
        self.preemption = Preemption.of(tenant, requested=requested, preemptible=self.spec.preemptible)

    def outcome(self, *, now: dt.datetime) -> Outcome:
        """Return the round's actions and what to say."""
        name = self.owner.name
        selector = {**self.owner.selector, COMPONENT_LABEL: "worker"}
        manifests: list[Manifest] = [
            self._service("master", {"spark": MASTER_PORT, "ui": MASTER_UI_PORT}),
            self._service("worker", {"spark": WORKER_PORT, "ui": WORKER_UI_PORT}),
            self._policy(),
            disruption_budget(self.owner, f"{name}-worker", selector=selector),
        ]
        secret = self._secret()
        if secret:
            manifests += [self._configuration(), self._master(), self._workers()]
        rollout = next_restart(
            self.observed,
            wanted=1 + self.spec.workers.replicas,
            unhealthy="" if self.observed.health and self.observed.health.ready else "the master does not serve.",
            now=now,
        )
        kinds = frozenset({"Service", "ConfigMap", "NetworkPolicy", "PodDisruptionBudget"})
        leftovers = prune(self.observed.children, [ObjectRef.of(each) for each in manifests], kinds=kinds)
        actions: list[Action] = [self._credential(), *map(Apply, manifests), *(leftovers if secret else [])]
        standing = Standing(
            observed=self.observed,
            wanted=1 + self.spec.workers.replicas,
            rollout=rollout,
            waiting="" if secret else "The cluster's secret is being made.",
            deployed=self.deployed,
        )
        head = standing.head(
            self.owner,
            version=self.spec.spark_version,
            endpoints=[
                {"name": "spark", "address": f"spark://{self._host('master')}:{MASTER_PORT}", "protocol": "spark"},
                {"name": "ui", "address": f"http://{self._host('master')}:{MASTER_UI_PORT}", "protocol": "http"},
            ],
            binding=binding_status(self._binding) if secret else None,
        )
        return Outcome(
            actions=(*actions, *([rollout.restart] if rollout.restart else [])),
            conditions=(*standing.conditions(now=now), self.preemption.condition(now=now)),
            status=head,
            requeue_after=1.0 if not secret else None if standing.settled else LOOK_AGAIN_SECONDS,
        )

    @property
    def _binding(self) -> str:
        return f"{self.owner.name}-spark-cluster"

    def _host(self, component: str) -> str:
        return f"{self.owner.name}-{component}.{self.owner.namespace}.svc"

    def _secret(self) -> str:
        found = self.observed.get(ObjectRef("v1", "Secret", self.owner.namespace, self._binding)) or {}
        return base64.b64decode((found.get("data") or {}).get(SECRET_KEY, "")).decode()

    def _credential(self) -> EnsureCredential:
        fields = binding_fields(
            "spark",
            host=self._host("master"),
            port=MASTER_PORT,
            certificates="",
            further={"uri": f"spark://{self._host('master')}:{MASTER_PORT}"},
        )
        return EnsureCredential(
            ObjectRef("v1", "Secret", self.owner.namespace, self._binding),
            self.owner.metadata(self._binding),
            generated=(SECRET_KEY,),
            fixed={key: value for key, value in fields.items() if value},
            length=48,
            secret_type=secret_type("spark"),
        )

    def _service(self, component: str, ports: dict[str, int]) -> Manifest:
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.owner.metadata(f"{self.owner.name}-{component}", labels={COMPONENT_LABEL: component}),
            "spec": {
                "clusterIP": "None",
                "publishNotReadyAddresses": True,
                "selector": {**self.owner.selector, COMPONENT_LABEL: component},
                "ports": [{"name": name, "port": port, "targetPort": port} for name, port in ports.items()],
            },
        }

    def _policy(self) -> Manifest:
        own, tenant = pods_of(self.owner.selector), tenant_pods(self.tenant.name)
        inside = tuple(sorted({MASTER_PORT, WORKER_PORT, BLOCK_MANAGER_PORT, DRIVER_PORT}))
        return network_policy(
            self.owner,
            f"{self.owner.name}-spark-cluster",
            selector=self.owner.selector,
            ingress=(
                Opening((*inside, MASTER_UI_PORT, WORKER_UI_PORT), (own, tenant)),
                Opening((MASTER_UI_PORT,), (operator_pods(self.home),)),
            ),
            # Executors talk back to the drivers of the tenant's programs.
            egress=(Opening(inside, (own, tenant)),),
        )

    def _configuration(self) -> Manifest:
        values = {
            **self.spec.spark_conf,
            "spark.authenticate": "true",
            "spark.network.crypto.enabled": "true",
            "spark.io.encryption.enabled": "true",
            "spark.master.rest.enabled": "false",
            "spark.worker.cleanup.enabled": "true",
            "spark.blockManager.port": str(BLOCK_MANAGER_PORT),
        }
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": self.owner.metadata(f"{self.owner.name}-spark-cluster"),
            "data": {PROPERTIES: as_file(values)},
        }

    def _master(self) -> Manifest:
        resources = container_resources(self.spec.master.resources)
        arguments = ["--port", str(MASTER_PORT), "--webui-port", str(MASTER_UI_PORT)]
        return self._pods("master", 1, arguments=arguments, resources=resources, probed=MASTER_UI_PORT)

    def _workers(self) -> Manifest:
        workers = self.spec.workers
        arguments = [
            "--port",
            str(WORKER_PORT),
            "--webui-port",
            str(WORKER_UI_PORT),
            "--cores",
            str(workers.cores),
            "--memory",
            workers.memory,
            f"spark://{self._host('master')}:{MASTER_PORT}",
        ]
        resources = sizing.container_resources(self._worker_requests())
        return self._pods("worker", workers.replicas, arguments=arguments, resources=resources, probed=WORKER_UI_PORT)

    def _worker_requests(self) -> dict[str, str]:
        workers = self.spec.workers
        memory = memory_mebibytes(workers.memory, None, jvm=True)
        requests = {CPU: str(workers.cores), MEMORY: f"{memory}Mi"}
        return {**requests, **({workers.gpu.name: str(workers.gpu.quantity)} if workers.gpu else {})}

    def _pods(
        self, component: str, replicas: int, *, arguments: list[str], resources: dict[str, Any], probed: int
    ) -> Manifest:
        selector = {**self.owner.selector, COMPONENT_LABEL: component}
        reference = {"name": self._binding, "key": SECRET_KEY}
        environment: list[dict[str, Any]] = [
            {"name": "SPARK_NO_DAEMONIZE", "value": "true"},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "SPARK_AUTH_SECRET", "valueFrom": {"secretKeyRef": reference}},
            {"name": "SPARK_MASTER_OPTS", "value": "-Dspark.authenticate.secret=$(SPARK_AUTH_SECRET)"},
            {"name": "SPARK_WORKER_OPTS", "value": "-Dspark.authenticate.secret=$(SPARK_AUTH_SECRET)"},
            *([each.manifest() for each in self.spec.workers.env] if component == "worker" else []),
        ]
        container = {
            "name": component,
            "image": self.spec.image or image(self.spec.spark_version),
            "command": [f"{SPARK_HOME}/bin/spark-class", f"org.apache.spark.deploy.{component}.{component.title()}"],
            "args": ["--host", "$(POD_IP)", "--properties-file", f"{CONFIGURATION_FOLDER}/{PROPERTIES}", *arguments],
            "env": environment,
            "resources": resources,
            "securityContext": dict(CONTAINER_SECURITY),
            "readinessProbe": {"tcpSocket": {"port": probed}, "periodSeconds": 5},
            "volumeMounts": [
                *({"name": name, "mountPath": path} for name, path in _SCRATCH.items()),
                {"name": "configuration", "mountPath": CONFIGURATION_FOLDER, "readOnly": True},
            ],
        }
        pod = {
            **service_wide(self.spec),
            **pod_placement(self.spec.placement, self.tenant, selector=selector, requests=resources["requests"]),
            "securityContext": pod_security(USER),
            "containers": [container],
            "volumes": [
                *({"name": name, "emptyDir": {}} for name in _SCRATCH),
                {"name": "configuration", "configMap": {"name": f"{self.owner.name}-spark-cluster"}},
            ],
        }
        return PodGroup(
            owner=self.owner,
            name=f"{self.owner.name}-{component}",
            component=component,
            replicas=replicas,
            service=f"{self.owner.name}-{component}",
            pod=pod,
            content=fingerprint(self._configuration()["data"], hash_of(self._secret())),
            pod_labels=self.preemption.labels,
        ).manifest()


def hash_of(secret: str) -> str:
    """Return what may be shown of a secret: enough to see that it changed."""
    return fingerprint(secret)[:8]
