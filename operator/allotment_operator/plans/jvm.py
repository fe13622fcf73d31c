"""How large a Java process's heap is within its pod."""

from fractions import Fraction
from typing import Final

from allotment_api.quantities import MEMORY
from allotment_api.service import Jvm, Resources
from allotment_operator.plans.unworkable import UnworkableError

MEBIBYTE: Final = 1024 * 1024

_REST: Final = Fraction(3, 4)
"""Largest part of the memory that the heap may take: threads, buffers and compiled code need the rest."""


def heap_mebibytes(jvm: Jvm, resources: Resources) -> int:
    """Return the size of the heap in MiB: what was asked for, else half of the memory request.

    Raises:
        UnworkableError: it would take more than three quarters of the pod's memory limit.
    """
    limit = resources.limits.get(MEMORY, resources.requests[MEMORY])
    if jvm.heap_size is None:
        return max(1, resources.requests[MEMORY].value // 2 // MEBIBYTE)
    heap = jvm.heap_size.value // MEBIBYTE
    most = int(limit.value * _REST) // MEBIBYTE
    if heap > most:
        raise UnworkableError(
            f"jvm.heapSize {jvm.heap_size} leaves too little of {limit} of memory for threads and buffers: write "
            f"{most}Mi or less, or raise resources.requests.memory"
        )
    if heap < 1:
        raise UnworkableError(f"jvm.heapSize {jvm.heap_size} is less than 1Mi: write a size such as 512Mi")
    return heap
