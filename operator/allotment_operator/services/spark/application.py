"""SparkApplication as the engine sees it: announce the gang, make the driver, follow it to its end."""

import datetime as dt
from collections.abc import Callable
from typing import Any, Final

import yaml

from allotment_api.conditions import Condition, ConditionType, Reason, condition
from allotment_api.labels import API_VERSION, COMPONENT_LABEL
from allotment_api.pod_group import LONGEST_HELD
from allotment_api.spark import SparkApplication
from allotment_operator.kind import Scope
from allotment_operator.plans.actions import Action, Apply, Delete, Invoke, Manifest, ObjectRef
from allotment_operator.plans.network import Opening, Peer, network_policy, pods_of, tenant_pods
from allotment_operator.plans.outcome import Health, Observed, Outcome, TenantView
from allotment_operator.plans.ownership import Owner
from allotment_operator.plans.preemption import Preemption
from allotment_operator.plans.release import release
from allotment_operator.plans.unworkable import NO_TENANT, UnworkableError, unworkable
from allotment_operator.services.spark.attempts import FINAL, Standing, judge
from allotment_operator.services.spark.names import (
    ATTEMPT_LABEL,
    BLOCK_MANAGER_PORT,
    DRIVER_CLUSTER_ROLE,
    DRIVER_PORT,
    UI_PORT,
    Names,
)
from allotment_operator.services.spark.pods import driver_pod, executor_template, pod_tolerations
from allotment_operator.services.spark.properties import EXECUTOR_TEMPLATE, PROPERTIES, as_file, properties
from allotment_operator.services.spark.sizing import first_executors, is_jvm, pod_requests

HTTPS_PORTS: Final = (443, 6443)
"""Where API servers listen, as a rule: opened anywhere but at link-local addresses, where no address is published."""
_ANYWHERE: Final = (
    {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}},
    {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10", "fd00:ec2::254/128"]}},
)


class SparkApplicationKind:
    """The kind SparkApplication.

    Args:
        api_server: addresses and ports at which drivers reach the API server; none where they are not known.
    """

    model = SparkApplication
    scope = Scope(
        kinds={
            "v1": ("Pod", "Service", "ConfigMap", "ServiceAccount"),
            "rbac.authorization.k8s.io/v1": ("RoleBinding",),
            "networking.k8s.io/v1": ("NetworkPolicy",),
            API_VERSION: ("PodGroup",),
        }
    )
    status_fields = frozenset(
        {
            "applicationState",
            "driverInfo",
            "executorState",
            "executionAttempts",
            "failedAttempts",
            "lastSubmissionAttemptTime",
            "terminationTime",
        }
    )

    def __init__(self, *, api_server: Callable[[], tuple[tuple[str, int], ...]] = tuple) -> None:
        self._api_server = api_server

    def plan(self, resource: SparkApplication, observed: Observed, *, now: dt.datetime) -> Outcome:
        """Bring the application to its end, attempt by attempt."""
        if observed.tenant is None:
            return unworkable(UnworkableError(NO_TENANT), health=None, now=now)
        owner, names = Owner.of(resource), Names(resource.metadata.name)
        standing = judge(resource, observed, now=now)
        expired = _expires_in(resource, standing, now)
        if expired is not None and expired <= 0:
            own = ObjectRef(API_VERSION, resource.kind, owner.namespace, owner.name)
            return Outcome(actions=(Delete(own, owner.uid),))
        preemption = _preemption(resource, observed.tenant)
        actions: list[Action] = []
        if standing.stop:
            actions += _stop(observed, names.driver(standing.attempt), keep_driver=standing.state in FINAL)
        else:
            actions += [Apply(each) for each in _surroundings(resource, owner, observed.tenant, preemption, standing)]
            actions.append(Apply(_driver_policy(owner, names, self._api_server())))
        if standing.start and not _exists(observed, owner, names.driver(standing.attempt)):
            actions += _stop(observed, "", keep_driver=False)
            pod = driver_pod(resource, owner, attempt=standing.attempt, tenant=observed.tenant, preemption=preemption)
            actions.append(Apply(pod))
        due = [each for each in (standing.look_after, expired) if each is not None]
        return Outcome(
            tuple(actions),
            (*_conditions(standing, observed, now), preemption.condition(now=now)),
            _status(names, standing, observed),
            min(due) if due else None,
        )

    def release(self, resource: SparkApplication, observed: Observed, *, now: dt.datetime) -> Outcome | None:
        """Take everything down; an application keeps no data of its own."""
        del resource
        return release(observed, now=now)

    async def probe(self, resource: SparkApplication, observed: Observed) -> Health | None:
        """An application is asked nothing: its driver's end is its answer."""
        del resource, observed
        return None

    async def perform(self, resource: SparkApplication, observed: Observed, action: Invoke) -> None:
        """An application is told nothing."""
        del resource, observed
        raise ValueError(f"a SparkApplication cannot {action.operation}")


def _preemption(resource: SparkApplication, tenant: TenantView) -> Preemption:
    spec = resource.spec
    jvm = is_jvm(spec)
    requested = {*pod_requests(spec.driver, jvm=jvm), *pod_requests(spec.executor, jvm=jvm)}
    return Preemption.of(tenant, requested=requested, preemptible=spec.preemptible)


def _surroundings(
    resource: SparkApplication, owner: Owner, tenant: TenantView, preemption: Preemption, standing: Standing
) -> list[Manifest]:
    """Return what must be there before the driver, in order."""
    names, spec = Names(owner.name), resource.spec
    made: list[Manifest] = []
    if spec.driver.service_account is None:
        made += _account(owner, names)
    template = executor_template(resource, owner, tenant=tenant, preemption=preemption)
    configuration = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": owner.metadata(names.configuration),
        "data": {
            PROPERTIES: as_file(properties(resource, namespace=owner.namespace)),
            EXECUTOR_TEMPLATE: yaml.safe_dump(template, sort_keys=True),
        },
    }
    made += [configuration, _service(owner, names, standing)]
    return [*made, _policy(owner, names, tenant), _group(resource, owner, tenant)]


def _account(owner: Owner, names: Names) -> list[Manifest]:
    subject = {"kind": "ServiceAccount", "name": names.account, "namespace": owner.namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": DRIVER_CLUSTER_ROLE}
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": owner.metadata(names.account),
            "automountServiceAccountToken": False,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": owner.metadata(names.account),
            "roleRef": role,
            "subjects": [subject],
        },
    ]


def _service(owner: Owner, names: Names, standing: Standing) -> Manifest:
    ports = {"driver": DRIVER_PORT, "blocks": BLOCK_MANAGER_PORT, "ui": UI_PORT}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(names.service),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,  # executors come before anything says that the driver is ready
            "selector": {**owner.selector, COMPONENT_LABEL: "driver", ATTEMPT_LABEL: str(standing.attempt)},
            "ports": [{"name": name, "port": port, "targetPort": port} for name, port in ports.items()],
        },
    }


def _policy(owner: Owner, names: Names, tenant: TenantView) -> Manifest:
    """Driver and executors reach one another; the tenant sees the web interface."""
    own = pods_of(owner.selector)
    between = Opening((DRIVER_PORT, BLOCK_MANAGER_PORT), (own,))
    return network_policy(
        owner,
        names.policy,
        selector=owner.selector,
        ingress=(between, Opening((UI_PORT,), (tenant_pods(tenant.name),))),
        egress=(between,),
    )


def _driver_policy(owner: Owner, names: Names, api_server: tuple[tuple[str, int], ...]) -> Manifest:
    """The driver makes its executors at the API server, whose addresses no selector names."""
    by_port: dict[int, list[Peer]] = {}
    for address, port in api_server:
        by_port.setdefault(port, []).append({"ipBlock": {"cidr": f"{address}/{128 if ':' in address else 32}"}})
    known = tuple(Opening((port,), tuple(peers)) for port, peers in sorted(by_port.items()))
    return network_policy(
        owner,
        names.service,
        selector={**owner.selector, COMPONENT_LABEL: "driver"},
        ingress=(),
        egress=known or (Opening(HTTPS_PORTS, tuple(_ANYWHERE)),),
    )


def _group(resource: SparkApplication, owner: Owner, tenant: TenantView) -> Manifest:
    spec, executors = resource.spec, first_executors(resource.spec)
    expected: dict[str, Any] = {
        "name": "executor",
        "count": executors,
        "requests": pod_requests(spec.executor, jvm=is_jvm(spec)),
        "nodeSelector": dict(spec.executor.node_selector),
        "tolerations": pod_tolerations(spec.executor, tenant, jvm=is_jvm(spec)),
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "PodGroup",
        "metadata": owner.metadata(Names(owner.name).group),
        "spec": {
            "minMember": 1 + executors,
            "expected": [expected] if executors else [],
            "expectedTimeoutSeconds": min(spec.start_timeout_seconds, LONGEST_HELD),
            **({"maxRuntimeSeconds": spec.max_runtime_seconds} if spec.max_runtime_seconds else {}),
            **({"priorityClassName": spec.priority_class_name} if spec.priority_class_name else {}),
        },
    }


def _stop(observed: Observed, driver: str, *, keep_driver: bool) -> list[Action]:
    """Take the pods away; the driver of a finished application stays, for its log."""
    return [
        Delete(ref, pod["metadata"].get("uid"))
        for ref, pod in sorted(observed.children.items())
        if ref.kind == "Pod"
        and not (keep_driver and ref.name == driver)
        and not pod["metadata"].get("deletionTimestamp")
    ]


def _exists(observed: Observed, owner: Owner, pod: str) -> bool:
    return observed.get(ObjectRef("v1", "Pod", owner.namespace, pod)) is not None


def _expires_in(resource: SparkApplication, standing: Standing, now: dt.datetime) -> float | None:
    """Seconds until a finished application is to be deleted; None where it is not."""
    seconds = resource.spec.time_to_live_seconds
    if seconds is None or standing.state not in FINAL or standing.ended is None:
        return None
    return seconds - (now - standing.ended).total_seconds()


def _executors(observed: Observed) -> dict[str, str]:
    return {
        pod["metadata"]["name"]: str((pod.get("status") or {}).get("phase", "Pending")).upper()
        for pod in observed.of_kind("Pod")
        if (pod["metadata"].get("labels") or {}).get(COMPONENT_LABEL) == "executor"
    }


def _status(names: Names, standing: Standing, observed: Observed) -> dict[str, Any]:
    state: dict[str, Any] = {"state": standing.state}
    if standing.message:
        state["errorMessage"] = standing.message[:1000]
    return {
        "applicationState": state,
        "driverInfo": {"podName": names.driver(max(1, standing.attempt)), "webUIServiceName": names.service},
        "executorState": _executors(observed),
        "executionAttempts": standing.attempt,
        "failedAttempts": standing.failures,
        **({"lastSubmissionAttemptTime": _time(standing.since)} if standing.since else {}),
        **({"terminationTime": _time(standing.ended)} if standing.ended else {}),
    }


def _conditions(standing: Standing, observed: Observed, now: dt.datetime) -> tuple[Condition, Condition]:
    executors = sum(1 for phase in _executors(observed).values() if phase == "RUNNING")
    words = {
        "SUBMITTED": f"Attempt {standing.attempt} is starting. {standing.message}".strip(),
        "RUNNING": f"Attempt {standing.attempt} runs with {executors} executors.",
        "COMPLETED": f"The program ended well in attempt {standing.attempt}.",
        "FAILED": f"The program failed: {standing.message}.",
        "PENDING_RERUN": f"Waiting for the next attempt: {standing.message}.",
        "SUSPENDED": "spec.suspend is true: set it to false to start the program.",
    }
    well = standing.state in ("RUNNING", "COMPLETED")
    reason_of_state = standing.state.title().replace("_", "")
    ready = condition(ConditionType.READY, well, reason_of_state, words[standing.state], now=now)
    moving = standing.state in ("SUBMITTED", "PENDING_RERUN")
    reason = Reason.RECONCILING if moving else Reason.AS_EXPECTED
    return ready, condition(ConditionType.PROGRESSING, moving, reason, words[standing.state], now=now)


def _time(value: dt.datetime) -> str:
    return value.astimezone(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
