"""What a restart costs: from JSON lists of 5,000 nodes and 150,000 pods of 4.5 kB to a state that can decide.

    python tests/benchmarks/bench_rebuild.py [PODS]

Pages of 500 objects, as the API server sends them, are decoded, translated and applied; making the pages is not timed.
Prints JSON: CPU seconds, and megabytes that the state keeps resident. A process of its own, because it measures memory.
"""

import gc
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import msgspec

from allotment_kube.decoding import ObjectList
from allotment_kube.nodes import Node
from allotment_kube.pods import Pod
from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.tenants import TenantSpec
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.translation.cluster import node_spec
from allotment_scheduler.translation.pods import pod_spec

PAGE: Final = 500
NODES: Final = 5000
TENANTS: Final = 100
SIZE: Final = 4500
NODE_LIST: Final = msgspec.json.Decoder(ObjectList[Node])
POD_LIST: Final = msgspec.json.Decoder(ObjectList[Pod])


def node(number: int) -> dict[str, Any]:
    name = f"node-{number:05}"
    room = {"cpu": "32", "memory": "128Gi", "pods": "110", "ephemeral-storage": "500Gi"}
    return {
        "metadata": {
            "name": name,
            "uid": f"{number:08}-1111-4222-8333-444444444444",
            "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": f"zone-{number % 3}"},
            "annotations": {"note": "x" * 500},
        },
        "spec": {"podCIDR": "10.0.0.0/24"},
        "status": {"allocatable": room, "capacity": room, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def pod(number: int) -> dict[str, Any]:
    """One pod in twenty waits; the others run."""
    created = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)).strftime("%Y-%m-%dT%H:%M:%SZ")
    requests = {"cpu": f"{100 + 100 * (number % 8)}m", "memory": f"{250 * (1 + number % 5)}Mi"}
    waits = number % 20 == 0
    body: dict[str, Any] = {
        "metadata": {
            "name": f"job-{number // 10}-{number:06}",
            "namespace": f"team-{number % TENANTS}",
            "uid": f"{number:08}-5555-4666-8777-888888888888",
            "resourceVersion": str(number),
            "creationTimestamp": created,
            "labels": {"app": f"app-{number % 50}", "batch.kubernetes.io/job-name": f"job-{number // 10}"},
            "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "Job", "name": f"job-{number // 10}", "uid": f"{number // 10:012}",
                 "controller": True}
            ],
        },
        "spec": {
            "schedulerName": "allotment",
            "containers": [{"name": "main", "image": "registry/app:1", "resources": {"requests": requests}}],
            **({} if waits else {"nodeName": f"node-{number % NODES:05}"}),
        },
        "status": {"phase": "Pending"} if waits else {"phase": "Running", "startTime": created},
    }  # fmt: skip
    body["metadata"]["managedFields"] = [{"manager": "controller", "fieldsV1": {"f:metadata": "x" * 100}}]
    body["metadata"]["annotations"] = {"filler": "x" * max(SIZE - len(json.dumps(body)) - 40, 0)}
    return body


def pages(make: Any, count: int) -> Iterator[bytes]:
    for first in range(0, count, PAGE):
        items = [make(number) for number in range(first, min(first + PAGE, count))]
        yield json.dumps({"metadata": {"resourceVersion": "1"}, "items": items}).encode()


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def empty() -> ClusterState:
    """A state that knows the tenants."""
    state = ClusterState()
    for number in range(TENANTS):
        state.apply(ev.TenantSeen(TenantSpec(f"team-{number}", "", Fraction(1), namespaces=(f"team-{number}",))))
    return state


def take_nodes(state: ClusterState, page: bytes) -> None:
    for one in NODE_LIST.decode(page).items or ():
        state.apply(ev.NodeSeen(node_spec(one)))


def take_pods(state: ClusterState, page: bytes) -> None:
    for one in POD_LIST.decode(page).items or ():
        state.apply(ev.PodSeen(pod_spec(one)))


def decide(state: ClusterState) -> None:
    state.settle()
    if len(Engine(state).cycle(1e9, most_decisions=1, claims=False).starts) != 1:
        raise AssertionError("the state that was built cannot decide")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 150_000
    gc.disable()  # as the live scheduler does until its first lists are in
    before = resident()
    begin = time.process_time()
    state = empty()
    took = time.process_time() - begin
    for take, made in ((take_nodes, pages(node, NODES)), (take_pods, pages(pod, count))):
        for page in made:
            begin = time.process_time()
            take(state, page)
            took += time.process_time() - begin
    begin = time.process_time()
    decide(state)
    took += time.process_time() - begin
    print(json.dumps({"seconds": took, "megabytes": resident() - before}))  # noqa: T201 - a program


if __name__ == "__main__":
    main()
