"""What Spark's pods request, as Spark itself reckons it.

Executors are made by the driver, so their size must be foretold exactly: the room that the scheduler holds for them is
this. Memory is the heap plus an overhead: as given, else a part of the heap, at least 384 MiB.

Source: Spark's ``BasicExecutorFeatureStep`` and ``spark.kubernetes.memoryOverheadFactor``; CPU is requested as
``spark.executor.cores`` unless another request is given, extended resources as they stand.
"""

from typing import Any, Final

from allotment_api.quantities import CPU, MEMORY, Quantity, format_units, spark_memory_bytes
from allotment_api.spark import SparkApplicationSpec, SparkPodSpec

MEBIBYTE: Final = 2**20
LEAST_OVERHEAD: Final = 384
"""MiB."""

JVM_FACTOR, OTHER_FACTOR = (1, 10), (2, 5)
"""Overhead as a fraction of the heap: Python and R need room for processes beside the JVM."""


def memory_mebibytes(memory: str, overhead: str | None, *, jvm: bool) -> int:
    """Return the memory of a pod in MiB: heap and overhead, each rounded down to MiB as Spark does."""
    heap = spark_memory_bytes(memory) // MEBIBYTE
    if overhead is not None:
        return heap + spark_memory_bytes(overhead) // MEBIBYTE
    numerator, denominator = JVM_FACTOR if jvm else OTHER_FACTOR
    return heap + max(heap * numerator // denominator, LEAST_OVERHEAD)


def pod_requests(pod: SparkPodSpec, *, jvm: bool) -> dict[str, str]:
    """Return what one driver or executor requests, as a resource list."""
    memory = memory_mebibytes(pod.memory, pod.memory_overhead, jvm=jvm)
    requests = {CPU: str(pod.core_request or pod.cores), MEMORY: f"{memory}Mi"}
    if pod.gpu is not None:
        requests[pod.gpu.name] = format_units(pod.gpu.name, pod.gpu.quantity)
    return requests


def container_resources(requests: dict[str, str], *, cpu_limit: Quantity | None = None) -> dict[str, Any]:
    """Return requests with limits: memory and devices are limited to what is requested, CPU only where asked for."""
    limits = {name: amount for name, amount in requests.items() if name != CPU}
    return {"requests": requests, "limits": {**({CPU: str(cpu_limit)} if cpu_limit else {}), **limits}}


def is_jvm(spec: SparkApplicationSpec) -> bool:
    """Say whether the program runs in the JVM alone."""
    return spec.type in ("Java", "Scala")


def first_executors(spec: SparkApplicationSpec) -> int:
    """Return how many executors are admitted together with the driver."""
    allocation = spec.dynamic_allocation
    return allocation.min_executors if allocation.enabled else spec.executor.instances
