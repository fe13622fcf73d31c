"""The driver's pod, and the template from which it makes its executors.

Both run as an ordinary user with a read-only root file system. Only the driver has a token, and it may touch nothing
but pods, services, configuration and claims of its own namespace.
"""

from collections.abc import Mapping
from typing import Any

from allotment_api.labels import COMPONENT_LABEL, MAX_RUNTIME_ANNOTATION, POD_GROUP_LABEL, SCHEDULER_NAME
from allotment_api.quantities import CPU, MEMORY
from allotment_api.spark import SparkApplication, SparkApplicationSpec, SparkPodSpec
from allotment_operator.plans.outcome import TenantView
from allotment_operator.plans.ownership import Owner
from allotment_operator.plans.placement import toleration_keys
from allotment_operator.plans.preemption import Preemption
from allotment_operator.plans.workload import CONTAINER_SECURITY, pod_security, service_wide
from allotment_operator.services.spark.names import (
    ATTEMPT_LABEL,
    BLOCK_MANAGER_PORT,
    CONFIGURATION_FOLDER,
    DRIVER_PORT,
    ROLE_LABEL,
    SPARK_HOME,
    UI_PORT,
    USER,
    WORK_FOLDER,
    Names,
    image,
)
from allotment_operator.services.spark.properties import PROPERTIES
from allotment_operator.services.spark.sizing import container_resources, is_jvm, pod_requests

_SHUFFLE = "spark-local-dir-1"
"""A name that Spark knows: to executors without a volume of such a name it mounts one of its own at the same place."""

_SCRATCH = {"tmp": "/tmp", "work": WORK_FOLDER, _SHUFFLE: "/var/data/spark"}  # noqa: S108 - in the pod
"""Writable folders: temporary files, the working directory, shuffle data."""


def labels(owner: Owner, role: str, *, preemption: Preemption) -> dict[str, str]:
    """Return the labels of a driver or of executors."""
    return {
        **owner.selector,
        COMPONENT_LABEL: role,
        ROLE_LABEL: role,
        POD_GROUP_LABEL: Names(owner.name).group,
        **preemption.labels,
    }


def driver_pod(
    application: SparkApplication, owner: Owner, *, attempt: int, tenant: TenantView, preemption: Preemption
) -> dict[str, Any]:
    """Return the pod that runs the program in its attempt of that number."""
    spec, names = application.spec, Names(owner.name)
    pod = _pod(spec, spec.driver, tenant=tenant)
    container = _container(spec, spec.driver, "driver", PROPERTIES)
    container |= {
        "command": [f"{SPARK_HOME}/bin/spark-submit"],
        "args": _submit(spec),
        "ports": [
            {"name": "driver", "containerPort": DRIVER_PORT},
            {"name": "blocks", "containerPort": BLOCK_MANAGER_PORT},
            {"name": "ui", "containerPort": UI_PORT},
        ],
    }
    container["env"] = [
        {"name": "SPARK_DRIVER_POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "SPARK_LOCAL_DIRS", "value": _SCRATCH[_SHUFFLE]},  # executors are told by Spark
        *container["env"],
    ]
    pod["containers"] = [container]
    pod["volumes"].append({"name": "configuration", "configMap": {"name": names.configuration}})
    pod |= {
        "serviceAccountName": spec.driver.service_account or names.account,
        "automountServiceAccountToken": True,
        "restartPolicy": "Never",
        "hostname": names.service,
        "subdomain": names.service,
    }
    metadata = owner.metadata(
        names.driver(attempt),
        labels={
            **spec.driver.labels,
            **labels(owner, "driver", preemption=preemption),
            ATTEMPT_LABEL: str(attempt),
        },
        annotations={**spec.driver.annotations, **_runtime(spec)},
    )
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}


def executor_template(
    application: SparkApplication, owner: Owner, *, tenant: TenantView, preemption: Preemption
) -> dict[str, Any]:
    """Return the template of executors; Spark adds command, image, memory, CPU and its own labels."""
    spec = application.spec
    pod = _pod(spec, spec.executor, tenant=tenant)
    container = _container(spec, spec.executor, "executor", "")
    del container["image"], container["imagePullPolicy"]
    # Spark sets memory and CPU from its properties; devices only a template can ask for.
    devices = {
        name: amount
        for name, amount in pod_requests(spec.executor, jvm=is_jvm(spec)).items()
        if name not in (CPU, MEMORY)
    }
    container["resources"] = {"requests": devices, "limits": devices} if devices else {}
    pod["containers"] = [container]
    metadata = {
        "labels": {**spec.executor.labels, **labels(owner, "executor", preemption=preemption)},
        "annotations": {**spec.executor.annotations, **_runtime(spec)},
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}


def pod_tolerations(pod: SparkPodSpec, tenant: TenantView, *, jvm: bool) -> list[dict[str, Any]]:
    """Return the tolerations of a pod: its own, and what its devices or its node selector ask for."""
    own = [each.manifest() for each in pod.tolerations]
    named = {each.get("key") for each in own}
    keys = toleration_keys(tenant, requests=pod_requests(pod, jvm=jvm), node_selector=pod.node_selector)
    return [*own, *({"key": key, "operator": "Exists"} for key in keys if key not in named)]


def _pod(spec: SparkApplicationSpec, pod: SparkPodSpec, *, tenant: TenantView) -> dict[str, Any]:
    files = [("secret", each) for each in pod.secrets] + [("configMap", each) for each in pod.config_maps]
    sources = {"secret": "secretName", "configMap": "name"}
    return {
        "schedulerName": SCHEDULER_NAME,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(USER),
        "nodeSelector": dict(pod.node_selector),
        "tolerations": pod_tolerations(pod, tenant, jvm=is_jvm(spec)),
        "volumes": [
            *({"name": name, "emptyDir": {}} for name in _SCRATCH),
            *({"name": f"files-{at}", kind: {sources[kind]: each.name}} for at, (kind, each) in enumerate(files)),
        ],
        **service_wide(spec),
    }


def _container(spec: SparkApplicationSpec, pod: SparkPodSpec, name: str, properties: str) -> dict[str, Any]:
    files = [*pod.secrets, *pod.config_maps]
    return {
        "name": name,
        "image": spec.image or image(spec.spark_version),
        "imagePullPolicy": spec.image_pull_policy,
        "env": [each.manifest() for each in pod.env],
        "resources": container_resources(pod_requests(pod, jvm=is_jvm(spec)), cpu_limit=pod.core_limit),
        "securityContext": dict(CONTAINER_SECURITY),
        "volumeMounts": [
            *({"name": volume, "mountPath": path} for volume, path in _SCRATCH.items()),
            *({"name": f"files-{at}", "mountPath": each.path, "readOnly": True} for at, each in enumerate(files)),
            *([{"name": "configuration", "mountPath": CONFIGURATION_FOLDER, "readOnly": True}] if properties else []),
        ],
    }


def _submit(spec: SparkApplicationSpec) -> list[str]:
    return [
        "--properties-file",
        f"{CONFIGURATION_FOLDER}/{PROPERTIES}",
        "--conf",
        "spark.kubernetes.driver.pod.name=$(SPARK_DRIVER_POD)",
        *(["--class", spec.main_class] if spec.main_class else []),
        spec.main_application_file,
        *spec.arguments,
    ]


def _runtime(spec: SparkApplicationSpec) -> Mapping[str, str]:
    return {MAX_RUNTIME_ANNOTATION: str(spec.max_runtime_seconds)} if spec.max_runtime_seconds else {}
