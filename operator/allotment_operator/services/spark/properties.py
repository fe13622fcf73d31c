"""Spark's properties for one application, as the file that the driver is started with.

What decides where, as whom and from which image pods run comes last and so wins; the schema refuses those keys in
``sparkConf`` anyway. Devices are requested by the pods' templates, so Spark need not know of them. Every connection
between the pods is authenticated and encrypted with a secret that Spark makes anew for each run and hands to its
executors only.
"""

from collections.abc import Mapping

from allotment_api.labels import SCHEDULER_NAME
from allotment_api.quantities import spark_memory_bytes
from allotment_api.spark import DynamicAllocation, SparkApplication, SparkPodSpec
from allotment_operator.services.spark.names import (
    BLOCK_MANAGER_PORT,
    CONFIGURATION_FOLDER,
    DRIVER_PORT,
    UI_PORT,
    Names,
    image,
)
from allotment_operator.services.spark.sizing import is_jvm, memory_mebibytes

EXECUTOR_TEMPLATE = "executor.yaml"
PROPERTIES = "spark.properties"


def properties(application: SparkApplication, *, namespace: str) -> dict[str, str]:
    """Return all properties of a run."""
    spec, names = application.spec, Names(application.metadata.name)
    return {
        "spark.ui.port": str(UI_PORT),
        "spark.kubernetes.executor.deleteOnTermination": "true",
        "spark.kubernetes.executor.missingPodDetectDelta": "60s",
        **{f"spark.hadoop.{key}": value for key, value in spec.hadoop_conf.items()},
        **spec.spark_conf,
        **_dependencies(application),
        **_pod("driver", spec.driver, jvm=is_jvm(spec)),
        **_pod("executor", spec.executor, jvm=is_jvm(spec)),
        **_allocation(spec.dynamic_allocation, instances=spec.executor.instances),
        "spark.master": "k8s://https://kubernetes.default.svc",
        "spark.submit.deployMode": "client",
        "spark.app.name": application.metadata.name,
        "spark.authenticate": "true",
        "spark.network.crypto.enabled": "true",
        "spark.io.encryption.enabled": "true",
        "spark.driver.host": f"{names.service}.{namespace}.svc",
        "spark.driver.bindAddress": "0.0.0.0",  # noqa: S104 - the pod's own addresses, behind its NetworkPolicy
        # Otherwise executors are told the address that the driver binds to, which is none that leads to it.
        "spark.kubernetes.executor.useDriverPodIP": "false",
        "spark.driver.port": str(DRIVER_PORT),
        "spark.driver.blockManager.port": str(BLOCK_MANAGER_PORT),
        "spark.blockManager.port": str(BLOCK_MANAGER_PORT),
        "spark.kubernetes.namespace": namespace,
        "spark.kubernetes.container.image": spec.image or image(spec.spark_version),
        "spark.kubernetes.container.image.pullPolicy": spec.image_pull_policy,
        **(
            {"spark.kubernetes.container.image.pullSecrets": ",".join(spec.image_pull_secrets)}
            if spec.image_pull_secrets
            else {}
        ),
        "spark.kubernetes.executor.podNamePrefix": application.metadata.name,
        "spark.kubernetes.executor.scheduler.name": SCHEDULER_NAME,
        "spark.kubernetes.executor.podTemplateFile": f"{CONFIGURATION_FOLDER}/{EXECUTOR_TEMPLATE}",
        "spark.kubernetes.executor.podTemplateContainerName": "executor",
    }


def as_file(values: Mapping[str, str]) -> str:
    """Return properties as a file in Java's format: one per line, in order of the keys."""
    return "".join(f"{_escape(key, key=True)}={_escape(value)}\n" for key, value in sorted(values.items()))


def _escape(text: str, *, key: bool = False) -> str:
    out = []
    for position, char in enumerate(text):
        if char in "\\\n\r\t\f":
            out.append({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f"}[char])
        elif (key and char in "=: #!") or (position == 0 and char in " #!"):
            out.append(f"\\{char}")
        elif not " " <= char <= "~":
            # Java reads the file as ISO 8859-1 and wants the rest as UTF-16 escapes.
            units = char.encode("utf-16-be")
            out += [f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2)]
        else:
            out.append(char)
    return "".join(out)


def _pod(role: str, pod: SparkPodSpec, *, jvm: bool) -> dict[str, str]:
    heap = spark_memory_bytes(pod.memory) // 2**20
    overhead = memory_mebibytes(pod.memory, pod.memory_overhead, jvm=jvm) - heap
    values = {
        f"spark.{role}.cores": str(pod.cores),
        f"spark.{role}.memory": f"{heap}m",
        # Given outright, so that Spark's own reckoning and ours cannot differ.
        f"spark.{role}.memoryOverhead": f"{overhead}m",
        f"spark.kubernetes.{role}.request.cores": str(pod.core_request or pod.cores),
    }
    if pod.core_limit is not None:
        values[f"spark.kubernetes.{role}.limit.cores"] = str(pod.core_limit)
    if pod.java_options:
        values[f"spark.{role}.extraJavaOptions"] = pod.java_options
    return values


def _allocation(allocation: DynamicAllocation, *, instances: int) -> dict[str, str]:
    if not allocation.enabled:
        return {"spark.dynamicAllocation.enabled": "false", "spark.executor.instances": str(instances)}
    first = allocation.min_executors if allocation.initial_executors is None else allocation.initial_executors
    return {
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        "spark.dynamicAllocation.minExecutors": str(allocation.min_executors),
        "spark.dynamicAllocation.maxExecutors": str(allocation.max_executors),
        "spark.dynamicAllocation.initialExecutors": str(first),
    }


def _dependencies(application: SparkApplication) -> dict[str, str]:
    deps = application.spec.deps
    listed = {
        "spark.jars": deps.jars,
        "spark.files": deps.files,
        "spark.submit.pyFiles": deps.py_files,
        "spark.archives": deps.archives,
        "spark.jars.packages": deps.packages,
        "spark.jars.excludes": deps.exclude_packages,
        "spark.jars.repositories": deps.repositories,
    }
    return {key: ",".join(values) for key, values in listed.items() if values}
